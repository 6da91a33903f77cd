//! Linked into every program and shared library that `cargo morestack` builds. Compiled with `--cfg shared` for shared libraries, and
//! with `--cfg side_stacks` where functions have them.
//!
//! # Marks
//!
//! A constructor tells the scheduler, if there is one in the process, which functions of this image are marked, and a destructor
//! takes it back.
//!
//! # `__morestack`
//!
//! For an image without the scheduler. Where the process has one, in the program, its own is called. Else all threads have a guard of 0,
//! below every stack pointer, and no check fails; one that does goes on. It is entered by a call from a function's prologue; the byte
//! behind the call is a `ret`, and the function goes on behind that.
//!
//! # Side stacks
//!
//! Every thread that runs instrumented code needs one. The program, and only that, has the thread-local that points to it. The main thread
//! gets it before any constructor runs. For all others `pthread_create` is called, by whomever; that of the program comes first in the
//! order in which symbols are found, so it is this one, which calls the real one with a function that comes before the thread's own.
//!
//! A library that asks the C library where the stack of its thread is, to leave room or to go on elsewhere (`stacker` does), would hear of
//! that of the OS thread, and keep the answer for all green threads there. Theirs grow by themselves. So `pthread_getattr_np` has an
//! answer of its own where the caller runs on another stack: as if there were room down to the lowest addresses.
//!
//! A thread may run code until the very end, destructors of other thread-locals among it. So it only puts its side stack on a list, and
//! whoever creates a thread next unmaps those of threads that are gone.

#![no_std]

core::arch::global_asm!(
    ".pushsection .text.__morestack,\"ax\",@progbits",
    ".weak morestack_split_entry",
    ".weak __morestack",
    ".type __morestack,@function",
    "__morestack:",
    ".cfi_startproc",
    // The caller is the function's caller: the function has no frame yet.
    ".cfi_def_cfa rsp, 16",
    "cmp qword ptr [rip + morestack_split_entry@GOTPCREL], 0",
    "je 2f",
    "jmp qword ptr [rip + morestack_split_entry@GOTPCREL]",
    "2:",
    "pop r11",
    ".cfi_def_cfa rsp, 8",
    "inc r11",
    "jmp r11",
    ".cfi_endproc",
    ".size __morestack, . - __morestack",
    ".popsection",
    //
    // The linker makes these two where the section exists; else they are 0, as the scheduler's functions are where it is not.
    ".weak __start___patchable_function_entries",
    ".hidden __start___patchable_function_entries",
    ".weak __stop___patchable_function_entries",
    ".hidden __stop___patchable_function_entries",
    ".weak morestack_register_image",
    ".weak morestack_unregister_image",
    ".pushsection .text.morestack_image,\"ax\",@progbits",
    ".type morestack_image_begins,@function",
    "morestack_image_begins:",
    ".cfi_startproc",
    "mov rax, qword ptr [rip + morestack_register_image@GOTPCREL]",
    "mov rdi, qword ptr [rip + __start___patchable_function_entries@GOTPCREL]",
    "mov rsi, qword ptr [rip + __stop___patchable_function_entries@GOTPCREL]",
    "mov edx, {has_side_stacks}",
    "test rax, rax",
    "jz 2f",
    "jmp rax",
    "2:",
    "ret",
    ".cfi_endproc",
    ".size morestack_image_begins, . - morestack_image_begins",
    ".type morestack_image_ends,@function",
    "morestack_image_ends:",
    ".cfi_startproc",
    "mov rax, qword ptr [rip + morestack_unregister_image@GOTPCREL]",
    "mov rdi, qword ptr [rip + __start___patchable_function_entries@GOTPCREL]",
    "test rax, rax",
    "jz 2f",
    "jmp rax",
    "2:",
    "ret",
    ".cfi_endproc",
    ".size morestack_image_ends, . - morestack_image_ends",
    ".popsection",
    ".pushsection .init_array,\"aw\"",
    ".balign 8",
    ".quad morestack_image_begins",
    ".popsection",
    ".pushsection .fini_array,\"aw\"",
    ".balign 8",
    ".quad morestack_image_ends",
    ".popsection",
    has_side_stacks = const cfg!(side_stacks) as u32,
);

#[cfg(all(side_stacks, not(shared)))]
mod threads {
    use core::ffi::{c_int, c_void};
    use core::mem::MaybeUninit;
    use core::ptr;
    use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
    use core::sync::atomic::{AtomicPtr, AtomicU32};

    core::arch::global_asm!(
        ".pushsection .tbss.safestack,\"awT\",@nobits",
        ".globl __safestack_unsafe_stack_ptr",
        ".type __safestack_unsafe_stack_ptr,@object",
        ".size __safestack_unsafe_stack_ptr, 8",
        ".balign 8",
        "__safestack_unsafe_stack_ptr:",
        ".zero 8",
        ".popsection",
        // Before the constructors of all images.
        ".pushsection .preinit_array,\"aw\"",
        ".balign 8",
        ".quad {main_begins}",
        ".popsection",
        main_begins = sym main_begins,
    );

    /// glibc's, whose size is part of its binary interface.
    #[repr(C, align(8))]
    pub struct Attributes([u8; 56]);

    type Start = extern "C" fn(*mut c_void) -> *mut c_void;
    /// C11's.
    type ShortStart = extern "C" fn(*mut c_void) -> c_int;
    type Create = unsafe extern "C" fn(*mut c_void, *const Attributes, Start, *mut c_void) -> c_int;
    type GetAttributes = unsafe extern "C" fn(usize, *mut Attributes) -> c_int;
    type ShortCreate = unsafe extern "C" fn(*mut c_void, ShortStart, *mut c_void) -> c_int;

    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, name: *const u8) -> *mut c_void;
        fn mmap(at: *mut c_void, size: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
        fn munmap(at: *mut c_void, size: usize) -> c_int;
        fn mprotect(at: *mut c_void, size: usize, prot: c_int) -> c_int;
        fn getrlimit(resource: c_int, limit: *mut [u64; 2]) -> c_int;
        fn pthread_attr_getstacksize(attributes: *const Attributes, size: *mut usize) -> c_int;
        fn pthread_getattr_default_np(attributes: *mut Attributes) -> c_int;
        fn pthread_attr_getstack(attributes: *const Attributes, lowest: *mut usize, size: *mut usize) -> c_int;
        fn pthread_attr_setstack(attributes: *mut Attributes, lowest: usize, size: usize) -> c_int;
        fn pthread_self() -> usize;
        fn pthread_attr_destroy(attributes: *mut Attributes) -> c_int;
        fn pthread_key_create(key: *mut u32, destructor: extern "C" fn(*mut c_void)) -> c_int;
        fn pthread_setspecific(key: u32, value: *const c_void) -> c_int;
        fn getpid() -> c_int;
        fn gettid() -> c_int;
        fn tgkill(process: c_int, thread: c_int, signal: c_int) -> c_int;
        fn __errno_location() -> *mut c_int;
        fn abort() -> !;
    }

    const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
    const EAGAIN: c_int = 11;
    const ESRCH: c_int = 3;
    const THRD_NOMEM: c_int = 2;
    const RLIMIT_STACK: c_int = 3;

    /// What faults below a side stack: as much as the locals of a function may be.
    const GAP: usize = 128 << 10;

    /// Where a thread's stack has no limit. Address space, not memory.
    const UNLIMITED: usize = 1 << 30;
    const DEFAULT: usize = 8 << 20;
    const PAGE: usize = 4096;

    /// What stands at the top of a thread's side stack.
    #[repr(C, align(16))]
    struct Header {
        base: *mut c_void,
        size: usize,
        /// The thread that it was of, once that has ended.
        thread: c_int,
        next: *mut Header,
        start: Option<Start>,
        short_start: Option<ShortStart>,
        argument: *mut c_void,
    }

    /// Side stacks of threads that have ended, or are about to.
    static ENDED: AtomicPtr<Header> = AtomicPtr::new(ptr::null_mut());

    /// The key whose destructor tells that a thread ends, plus one; 0: there is none yet.
    static KEY: AtomicU32 = AtomicU32::new(0);

    /// Maps a side stack; null if there is no memory.
    fn map(size: usize) -> *mut Header {
        let size = size.next_multiple_of(PAGE);
        let whole = size + GAP;
        // SAFETY: a new mapping, which is this function's.
        unsafe {
            // Readable and writable; private, anonymous, without reserve.
            let base = mmap(ptr::null_mut(), whole, 3, 0x4022, -1, 0);
            if base as isize == -1 {
                return ptr::null_mut();
            }
            if mprotect(base, GAP, 0) != 0 {
                munmap(base, whole);
                return ptr::null_mut();
            }
            let header = base.byte_add(whole).cast::<Header>().sub(1);
            header.write(Header {
                base,
                size: whole,
                thread: 0,
                next: ptr::null_mut(),
                start: None,
                short_start: None,
                argument: ptr::null_mut(),
            });
            header
        }
    }

    fn set_pointer(pointer: usize) {
        // SAFETY: this thread's own word.
        unsafe {
            core::arch::asm!(
                "mov {t}, qword ptr [rip + __safestack_unsafe_stack_ptr@GOTTPOFF]",
                "mov qword ptr fs:[{t}], {p}",
                t = out(reg) _,
                p = in(reg) pointer,
                options(nostack, preserves_flags),
            );
        }
    }

    extern "C" fn main_begins() {
        let mut limit = [0; 2];
        // SAFETY: plain system calls.
        let known = unsafe { getrlimit(RLIMIT_STACK, &mut limit) } == 0;
        let size = if known { usize::try_from(limit[0]).map_or(UNLIMITED, |size| size.min(UNLIMITED)) } else { DEFAULT };
        let header = map(size.max(DEFAULT));
        if header.is_null() {
            // SAFETY: there is nobody to tell.
            unsafe { abort() };
        }
        set_pointer(header as usize);
    }

    /// Unmaps what threads have left that are gone.
    fn sweep() {
        let mut left = ENDED.swap(ptr::null_mut(), Acquire);
        // SAFETY: taken off the list, so they are this thread's.
        while let Some(header) = unsafe { left.as_mut() } {
            left = header.next;
            // SAFETY: asks whether there is such a thread.
            let gone = unsafe { tgkill(getpid(), header.thread, 0) != 0 && *__errno_location() == ESRCH };
            if gone {
                // SAFETY: nothing runs there.
                unsafe { munmap(header.base, header.size) };
            } else {
                put(header);
            }
        }
    }

    fn put(header: *mut Header) {
        let mut first = ENDED.load(Relaxed);
        loop {
            // SAFETY: the caller's until it is on the list.
            unsafe { (*header).next = first };
            match ENDED.compare_exchange_weak(first, header, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    extern "C" fn ends(header: *mut c_void) {
        let header = header.cast::<Header>();
        // SAFETY: this thread's own.
        unsafe { (*header).thread = gettid() };
        put(header);
    }

    fn key() -> Option<u32> {
        let key = KEY.load(Acquire);
        if key != 0 {
            return Some(key - 1);
        }
        let mut made = 0;
        // SAFETY: fills `made`.
        if unsafe { pthread_key_create(&mut made, ends) } != 0 {
            return None;
        }
        // Two that are made at the same time do no harm: one is not used.
        match KEY.compare_exchange(0, made + 1, AcqRel, Acquire) {
            Ok(_) => Some(made),
            Err(other) => Some(other - 1),
        }
    }

    fn begin(header: *mut Header) {
        set_pointer(header as usize);
        if let Some(key) = key() {
            // Without, it is not unmapped.
            // SAFETY: a key that was made.
            unsafe { pthread_setspecific(key, header.cast()) };
        }
    }

    extern "C" fn starts(header: *mut c_void) -> *mut c_void {
        let header = header.cast::<Header>();
        begin(header);
        // SAFETY: filled by `pthread_create` below.
        unsafe { (*header).start.map_or(ptr::null_mut(), |start| start((*header).argument)) }
    }

    extern "C" fn starts_short(header: *mut c_void) -> c_int {
        let header = header.cast::<Header>();
        begin(header);
        // SAFETY: filled by `thrd_create` below.
        unsafe { (*header).short_start.map_or(0, |start| start((*header).argument)) }
    }

    fn stack_size(attributes: *const Attributes) -> usize {
        let mut size = DEFAULT;
        let mut default = MaybeUninit::<Attributes>::uninit();
        // SAFETY: the caller's attributes, or glibc's own.
        unsafe {
            if !attributes.is_null() {
                pthread_attr_getstacksize(attributes, &mut size);
            } else if pthread_getattr_default_np(default.as_mut_ptr()) == 0 {
                pthread_attr_getstacksize(default.as_ptr(), &mut size);
                pthread_attr_destroy(default.as_mut_ptr());
            }
        }
        size.min(UNLIMITED)
    }

    fn real(name: &'static [u8], kept: &AtomicPtr<c_void>) -> *mut c_void {
        let mut real = kept.load(Relaxed);
        if real.is_null() {
            // SAFETY: a name that ends with a 0.
            real = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
            kept.store(real, Relaxed);
        }
        real
    }

    /// glibc's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn pthread_getattr_np(thread: usize, attributes: *mut Attributes) -> c_int {
        static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        let real = real(b"pthread_getattr_np\0", &REAL);
        if real.is_null() {
            return EAGAIN;
        }
        let (mut lowest, mut size, pointer) = (0, 0, stack_pointer());
        // SAFETY: the real function has this type; what the caller gave is filled by it.
        unsafe {
            let get: GetAttributes = core::mem::transmute(real);
            let error = get(thread, attributes);
            if error != 0 || thread != pthread_self() || pthread_attr_getstack(attributes, &mut lowest, &mut size) != 0 {
                return error;
            }
            if pointer.wrapping_sub(lowest) >= size {
                return pthread_attr_setstack(attributes, PAGE, pointer.next_multiple_of(PAGE) - PAGE);
            }
        }
        0
    }

    fn stack_pointer() -> usize {
        let pointer;
        // SAFETY: reads a register.
        unsafe { core::arch::asm!("mov {p}, rsp", p = out(reg) pointer, options(nomem, nostack, preserves_flags)) };
        pointer
    }

    /// POSIX's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn pthread_create(
        thread: *mut c_void,
        attributes: *const Attributes,
        start: Start,
        argument: *mut c_void,
    ) -> c_int {
        static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        let real = real(b"pthread_create\0", &REAL);
        sweep();
        let header = map(stack_size(attributes));
        if real.is_null() || header.is_null() {
            return EAGAIN;
        }
        // SAFETY: it is this thread's until the new one starts, and again if that does not; the real function has this type.
        unsafe {
            (*header).start = Some(start);
            (*header).argument = argument;
            let create: Create = core::mem::transmute(real);
            let error = create(thread, attributes, starts, header.cast());
            if error != 0 {
                munmap((*header).base, (*header).size);
            }
            error
        }
    }

    /// C11's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn thrd_create(thread: *mut c_void, start: ShortStart, argument: *mut c_void) -> c_int {
        static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        let real = real(b"thrd_create\0", &REAL);
        sweep();
        let header = map(stack_size(ptr::null()));
        if real.is_null() || header.is_null() {
            return THRD_NOMEM;
        }
        // SAFETY: as above.
        unsafe {
            (*header).short_start = Some(start);
            (*header).argument = argument;
            let create: ShortCreate = core::mem::transmute(real);
            let error = create(thread, starts_short, header.cast());
            if error != 0 {
                munmap((*header).base, (*header).size);
            }
            error
        }
    }
}
