//! S15, precise frames: in frames with a map the named slots move and nothing else; all other frames as ever.
//!
//! The mapped functions are assembly. Each fills its frame with pointers into the stack and with integers of the same
//! values, calls a Rust closure, which moves the stack, and hands out what it finds in its frame afterwards.

mod common;

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::fs;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::{array, env, process, ptr};

use common::{WHY, serial};
use morestack_asm::{GHead, Gobuf, MHead, STACK_GUARD, STACK_PREEMPT, Stack, gogo, mcall, set_stackguard, setg};
use morestack_stacks::framemap::{self, FrameMap, Register, Registration, register};
use morestack_stacks::{FIXED_STACK, copystack, freeze, stackalloc, stackfree, thaw};

// The mapped functions: extern "C" fn(f, arg, integer, out), which calls f(arg). Their frame:
//
//     +88  return address
//     +80  rbx of the caller
//     +72  rbp of the caller
//     +64  for the alignment: whatever was there
//     +56  0, as a pointer
//     +48  arg: a pointer
//     +40  f: not a pointer into the stack
//     +32  sp + 32, as an integer: looks like a pointer to itself
//     +24  sp + 32, as a pointer
//     +16  out: a pointer
//     +8   integer, as a pointer
//   sp     integer, as an integer
macro_rules! mapped_function {
    ($name:literal, $startproc:literal, $cfa16:literal, $cfa24:literal, $cfa96:literal, $rbx:literal, $rbp:literal,
     $endproc:literal) => {
        std::arch::global_asm!(
            concat!(".globl ", $name, ", ", $name, "_returns, ", $name, "_end"),
            concat!(".hidden ", $name, ", ", $name, "_returns, ", $name, "_end"),
            concat!($name, ":"),
            $startproc,
            "push rbx",
            $cfa16,
            $rbx,
            "push rbp",
            $cfa24,
            $rbp,
            "sub rsp, 72",
            $cfa96,
            "mov qword ptr [rsp], rdx",
            "mov qword ptr [rsp + 8], rdx",
            "mov qword ptr [rsp + 16], rcx",
            "lea rax, [rsp + 32]",
            "mov qword ptr [rsp + 24], rax",
            "mov qword ptr [rsp + 32], rax",
            "mov qword ptr [rsp + 40], rdi",
            "mov qword ptr [rsp + 48], rsi",
            "mov qword ptr [rsp + 56], 0",
            // Frames further out are found by these no more.
            "mov ebp, 0x1111",
            "mov ebx, 0x2222",
            // Its prologue check, with the frame made.
            "cmp rsp, qword ptr fs:[0x70]",
            "ja 2f",
            "xor edi, edi",
            "call {morestack}",
            "2:",
            "mov rdi, qword ptr [rsp + 48]",
            "call qword ptr [rsp + 40]",
            concat!($name, "_returns:"),
            "mov rcx, qword ptr [rsp + 16]",
            "xor edx, edx",
            "3:",
            "mov rax, qword ptr [rsp + rdx * 8]",
            "mov qword ptr [rcx + rdx * 8], rax",
            "inc edx",
            "cmp edx, 8",
            "jne 3b",
            "mov qword ptr [rcx + 64], rsp",
            "add rsp, 72",
            $cfa24,
            "pop rbp",
            $cfa16,
            "pop rbx",
            "ret",
            $endproc,
            concat!($name, "_end:"),
            morestack = sym morestack_asm::morestack,
        );
    };
}
mapped_function!(
    "fm_tables",
    ".cfi_startproc",
    ".cfi_def_cfa_offset 16",
    ".cfi_def_cfa_offset 24",
    ".cfi_def_cfa_offset 96",
    ".cfi_offset rbx, -16",
    ".cfi_offset rbp, -24",
    ".cfi_endproc"
);
// Without an unwind table, as generated code is.
mapped_function!("fm_bare", "", "", "", "", "", "", "");

const FRAME_SIZE: usize = 88;
const POINTERS: [usize; 5] = [8, 16, 24, 48, 56];
const SAVED: [(Register, usize); 2] = [(Register::Rbp, 72), (Register::Rbx, 80)];

/// What a mapped function hands out: its eight lower words, and its stack pointer.
type Out = [usize; 9];
type Callback = extern "C" fn(*mut u8);
type Mapped = unsafe extern "C" fn(Callback, *mut u8, usize, *mut Out);
type Between = unsafe extern "C" fn(Callback, *mut u8);

// What may stand between mapped functions: extern "C" fn(f, arg), which calls f(arg).
std::arch::global_asm!(
    ".globl fm_by_rbp, fm_by_rbx, fm_realigned, fm_unknown",
    ".hidden fm_by_rbp, fm_by_rbx, fm_realigned, fm_unknown",
    // Found by rbp, which the mapped functions change.
    "fm_by_rbp:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    // Found by rbx.
    "fm_by_rbx:",
    ".cfi_startproc",
    "push rbx",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbx, -16",
    "mov rbx, rsp",
    ".cfi_def_cfa_register rbx",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "pop rbx",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    // With the stack realigned, as gcc does it: found by DWARF expressions, and with a second copy of the return address.
    "fm_realigned:",
    ".cfi_startproc",
    "lea r10, [rsp + 8]",
    ".cfi_def_cfa r10, 0",
    "and rsp, -64",
    "push qword ptr [r10 - 8]",
    "push rbp",
    ".cfi_escape 0x10, 0x06, 0x02, 0x76, 0x00", // rbp at [rbp + 0]
    "mov rbp, rsp",
    "push r10",
    ".cfi_escape 0x0f, 0x03, 0x76, 0x78, 0x06", // CFA = [rbp - 8]
    "sub rsp, 40",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "mov r10, qword ptr [rbp - 8]",
    ".cfi_def_cfa r10, 0",
    "leave",
    "lea rsp, [r10 - 8]",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    // Without a table.
    "fm_unknown:",
    "sub rsp, 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "add rsp, 8",
    "ret",
);

unsafe extern "C" {
    fn fm_tables(f: Callback, arg: *mut u8, integer: usize, out: *mut Out);
    fn fm_tables_returns();
    fn fm_tables_end();
    fn fm_bare(f: Callback, arg: *mut u8, integer: usize, out: *mut Out);
    fn fm_bare_returns();
    fn fm_bare_end();
    fn fm_by_rbp(f: Callback, arg: *mut u8);
    fn fm_by_rbx(f: Callback, arg: *mut u8);
    fn fm_realigned(f: Callback, arg: *mut u8);
    fn fm_unknown(f: Callback, arg: *mut u8);
}

fn code(start: Mapped, end: unsafe extern "C" fn()) -> Range<usize> {
    start as usize..end as usize
}

fn described(pcs: Range<usize>) -> FrameMap {
    FrameMap { pcs, frame_size: FRAME_SIZE, pointers: POINTERS.to_vec(), saved: SAVED.to_vec() }
}

fn registered() -> Registration {
    // SAFETY: both functions keep to the picture above.
    unsafe { register([code(fm_tables, fm_tables_end), code(fm_bare, fm_bare_end)].map(described)).unwrap() }
}

thread_local! {
    /// How far the stack has been moved in all.
    static DELTA: Cell<usize> = const { Cell::new(0) };
    static BODY: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

unsafe fn exit(_: *mut GHead, _: usize) {}

/// On g0: moves the suspended green thread.
unsafe fn move_to(g: *mut GHead, size: usize) {
    // SAFETY: the test's own green thread.
    unsafe {
        let old = (*g).stack;
        copystack(None, g, size, WHY).unwrap();
        DELTA.set(DELTA.get().wrapping_add((*g).stack.hi).wrapping_sub(old.hi));
        // `gogo` makes it live: an answered request is not raised again.
        (*g).stackguard0 = (*g).stack.lo + STACK_GUARD;
    }
}

/// On g0: freezes the suspended green thread, and thaws it onto another stack.
unsafe fn freeze_and_thaw(g: *mut GHead, _: usize) {
    // SAFETY: as above; the old stack is taken, so that it thaws elsewhere.
    unsafe {
        let old = (*g).stack;
        let frozen = freeze(None, g, None, WHY).unwrap();
        let taken: Vec<Stack> = (0..3).map(|_| stackalloc(None, old.size()).unwrap()).collect();
        thaw(None, g, frozen, None, WHY).unwrap();
        taken.into_iter().for_each(|stack| stackfree(None, stack));
        DELTA.set(DELTA.get().wrapping_add((*g).stack.hi).wrapping_sub(old.hi));
    }
}

/// On g0: a prologue check failed.
unsafe fn newstack(g: *mut GHead, _: usize) {
    // SAFETY: as above.
    unsafe { move_to(g, (*g).stack.size()) };
}

unsafe extern "C" fn entry(_: *mut GHead) -> ! {
    let body = BODY.take().expect("a body");
    let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
    // SAFETY: on the green thread's stack; nobody resumes it.
    unsafe { mcall(exit, failed.into()) };
    unreachable!()
}

/// Runs `body` on a green thread whose stack this crate's copystack moves.
fn on_a_green_thread(body: impl FnOnce() + 'static) {
    let mut g0 = Box::new(GHead::new());
    let mut m = Box::new(MHead::new(newstack));
    (m.g0, g0.m) = (&raw mut *g0, &raw mut *m);
    // The bounds of the test thread's stack do not matter here.
    g0.stack = Stack { lo: 0, hi: usize::MAX };
    let mut g = Box::new(GHead::new());
    g.m = &raw mut *m;
    g.stack = stackalloc(None, 4 * FIXED_STACK).unwrap();
    g.stackguard0 = g.stack.lo + STACK_GUARD;
    BODY.set(Some(Box::new(body)));
    DELTA.set(0);
    // SAFETY: g0 outlives the loop, which runs the green thread on its own stack and each request of it once.
    unsafe {
        g.sched = Gobuf::new(g.stack, entry);
        setg(&raw mut *g0);
        let failed = loop {
            let call = gogo(&raw mut *g);
            if ptr::fn_addr_eq(call.f, exit as unsafe fn(*mut GHead, usize)) {
                break call.arg != 0;
            }
            (call.f)(call.g, call.arg);
        };
        setg(ptr::null_mut());
        set_stackguard(0);
        stackfree(None, g.stack);
        assert!(!failed, "the body panicked");
    }
}

/// On the green thread: moves the stack to one of so many times the smallest size.
#[inline(never)]
fn moved(times: usize) {
    // SAFETY: the loop above resumes the green thread once.
    unsafe { mcall(move_to, times * FIXED_STACK) };
}

extern "C" fn trampoline<F: FnMut()>(f: *mut u8) {
    // SAFETY: the closure of the one who handed this function out, which waits.
    unsafe { (*f.cast::<F>())() };
}

fn trampoline_of<F: FnMut()>(_: &F) -> Callback {
    trampoline::<F>
}

/// Calls `f` in a frame between.
#[inline(never)]
fn through(between: Between, mut f: impl FnMut()) {
    // SAFETY: calls `f` once.
    unsafe { between(trampoline_of(&f), (&raw mut f).cast()) };
}

/// Calls `f` in a mapped function. Returns what its frame was afterwards, and by how much the stack had moved.
#[inline(never)]
fn in_frame(function: Mapped, mut f: impl FnMut()) -> (Out, usize) {
    let mut out = [0; 9];
    let local = black_box(0_u64);
    let before = DELTA.get();
    // SAFETY: calls `f` once, and writes `out`.
    unsafe { function(trampoline_of(&f), (&raw mut f).cast(), &raw const local as usize, &raw mut out) };
    assert_eq!(out[1], black_box(&raw const local) as usize, "a pointer follows");
    (out, DELTA.get().wrapping_sub(before))
}

/// The frame was adjusted exactly, by `delta`.
#[track_caller]
fn exact((out, delta): (Out, usize)) {
    assert_ne!(delta, 0, "a move that nobody can see");
    followed(&out);
    assert_eq!(out[0], out[1].wrapping_sub(delta), "an integer stays");
    assert_eq!(out[4], out[3].wrapping_sub(delta), "and so does one that looks like a pointer to itself");
}

/// As a frame without a map.
#[track_caller]
fn conservative((out, delta): (Out, usize)) {
    assert_ne!(delta, 0, "a move that nobody can see");
    followed(&out);
    assert_eq!((out[0], out[4]), (out[1], out[3]), "what looks like a pointer is taken for one");
}

#[track_caller]
fn followed(out: &Out) {
    assert_eq!(out[3], out[8] + 32, "a pointer into the frame follows");
    assert_eq!(out[7], 0, "null stays null");
}

#[test]
fn pointers_follow_and_integers_stay() {
    let _one = serial();
    let _registration = registered();
    for function in [fm_tables as Mapped, fm_bare] {
        on_a_green_thread(move || {
            let before = framemap::stats();
            exact(in_frame(function, || moved(8)));
            exact(in_frame(function, || (2..7).for_each(|order| moved(1 << order))));
            let after = framemap::stats();
            assert_eq!((after.walks - before.walks, after.mapped - before.mapped, after.cut - before.cut), (6, 6, 0));
        });
    }
}

#[test]
fn the_check_of_the_mapped_function_moves_it() {
    let _one = serial();
    let _registration = registered();
    for function in [fm_tables as Mapped, fm_bare] {
        on_a_green_thread(move || {
            // SAFETY: `newstack` answers.
            unsafe { set_stackguard(STACK_PREEMPT) };
            exact(in_frame(function, || ()));
        });
    }
}

#[test]
fn without_a_map_all_frames_are_conservative() {
    let _one = serial();
    let body = || {
        conservative(in_frame(fm_tables, || moved(8)));
        conservative(in_frame(fm_bare, || moved(4)));
    };
    let walks = framemap::stats().walks;
    on_a_green_thread(body);
    assert_eq!(framemap::stats().walks, walks, "and no stack is walked");
    let registration = registered();
    on_a_green_thread(|| exact(in_frame(fm_bare, || moved(8))));
    drop(registration);
    on_a_green_thread(body);
}

/// The map goes while the frame is there, and comes back.
#[test]
fn the_map_at_the_time_of_the_move_counts() {
    let _one = serial();
    let mut registration = Some(registered());
    on_a_green_thread(move || {
        let (out, delta) = in_frame(fm_bare, || {
            moved(8);
            registration = None;
            // The integers look like addresses of the first stack, so without a map, too, they stay.
            moved(16);
            registration = Some(registered());
            moved(32);
        });
        exact((out, delta));
        // The other way round they are taken for pointers before there is a map.
        registration = None;
        let (out, _) = in_frame(fm_bare, || {
            moved(8);
            registration = Some(registered());
        });
        assert_eq!(out[0], out[1]);
    });
}

/// Mapped and ordinary functions in turn, moved at every depth on the way in and on the way out.
#[test]
fn nested_with_rust_between() {
    const DEPTH: usize = 12;
    const BETWEEN: [Between; 3] = [fm_by_rbp, fm_by_rbx, fm_realigned];

    #[inline(never)]
    fn nest(depth: usize) {
        let array: [usize; 5] = array::from_fn(|i| black_box(depth * 10 + i));
        let reference = black_box(&array);
        let function = if depth.is_multiple_of(2) { fm_tables as Mapped } else { fm_bare };
        exact(in_frame(function, || {
            through(BETWEEN[depth % 3], || {
                moved(1 << (depth % 3 + 2));
                if depth < DEPTH {
                    nest(depth + 1);
                }
                moved(1 << (depth % 4 + 3));
            });
            // So that no frame ends where it began.
            moved(128);
        }));
        assert!(reference.iter().enumerate().all(|(i, n)| *n == depth * 10 + i));
    }

    let _one = serial();
    let _registration = registered();
    let before = framemap::stats();
    on_a_green_thread(|| nest(0));
    let after = framemap::stats();
    assert_eq!(after.cut, before.cut, "each walk reaches the first frame");
    // On the way in there are 1, 2, 3, ... frames, and on the way out twice as many moves of each.
    let mapped: u64 = (1..=DEPTH as u64 + 1).map(|n| 3 * n).sum();
    assert_eq!(after.mapped - before.mapped, mapped);
}

/// Every pair of frames between: each is found by a register that a function further in has changed and saved, by its map
/// or by its table.
#[test]
fn saved_registers_are_what_outer_frames_are_found_by() {
    let _one = serial();
    let _registration = registered();
    let betweens = [fm_by_rbp as Between, fm_by_rbx, fm_realigned];
    for (outer, inner) in betweens.iter().flat_map(|outer| betweens.iter().map(move |inner| (*outer, *inner))) {
        on_a_green_thread(move || {
            exact(in_frame(fm_bare, || through(outer, || through(inner, || moved(8)))));
            exact(in_frame(fm_bare, || through(outer, || exact(in_frame(fm_tables, || through(inner, || moved(16)))))));
        });
    }
}

/// Words that look like mapped frames, return address and all, in an ordinary frame: they are relocated as all its words.
#[test]
fn stale_return_addresses_are_not_frames() {
    const WORDS: usize = FRAME_SIZE / 8;
    /// Leaves frames of mapped functions in dead slots of the frame that comes next.
    #[inline(never)]
    fn leave_residue() {
        let depth = black_box([0_u8; 512]);
        in_frame(fm_tables, || _ = in_frame(fm_bare, || _ = black_box(depth)));
    }
    #[inline(never)]
    fn over_residue() {
        let dead = MaybeUninit::<[u8; 4096]>::uninit();
        black_box(&dead);
        moved(16);
        black_box(&dead);
    }
    let _one = serial();
    let _registration = registered();
    on_a_green_thread(|| {
        let before = framemap::stats().mapped;
        let target = black_box(7_u64);
        let mut fake = [&raw const target as usize; 8 * (WORDS + 2)];
        for (i, frame) in fake.chunks_mut(WORDS + 2).enumerate() {
            // As `call` leaves it below the frame, and as the frame's own.
            frame[0] = if i % 2 == 0 { fm_tables_returns as *const () } else { fm_bare_returns as *const () } as usize;
            frame[WORDS + 1] = fm_bare_returns as *const () as usize;
        }
        let copy = Box::new(fake);
        let start = DELTA.get();
        black_box(&mut fake);
        moved(8);
        black_box(&mut fake);
        let delta = DELTA.get().wrapping_sub(start);
        assert_ne!(delta, 0);
        for (i, (word, was)) in fake.iter().zip(*copy).enumerate() {
            let pointer = (1..=WORDS).contains(&(i % (WORDS + 2)));
            assert_eq!(*word, if pointer { was.wrapping_add(delta) } else { was }, "word {i}");
        }
        assert!(fake.contains(&(&raw const target as usize)));
        leave_residue();
        over_residue();
        assert_eq!(framemap::stats().mapped, before, "not one was taken for a frame");
    });
}

/// Where the walk ends, exactness ends; not before.
#[test]
fn beyond_a_function_without_a_table_all_is_conservative() {
    let _one = serial();
    let _registration = registered();
    on_a_green_thread(|| {
        let before = framemap::stats();
        conservative(in_frame(fm_tables, || through(fm_unknown, || exact(in_frame(fm_bare, || moved(8))))));
        let after = framemap::stats();
        assert_eq!((after.walks - before.walks, after.mapped - before.mapped, after.cut - before.cut), (1, 1, 1));
    });
}

/// C code in a shared object that has been there from the start.
#[test]
fn through_libc() {
    unsafe extern "C" fn compare(f: *const c_void, _: *const c_void) -> i32 {
        // SAFETY: the key is the reference below.
        unsafe { (**f.cast::<*mut &mut dyn FnMut()>())() };
        0
    }
    let _one = serial();
    let _registration = registered();
    on_a_green_thread(|| {
        exact(in_frame(fm_bare, || {
            let mut inner = || exact(in_frame(fm_tables, || moved(8)));
            let mut f: &mut dyn FnMut() = &mut inner;
            let f = &raw mut f;
            let element = 0_u8;
            // SAFETY: one element, equal to everything.
            let found =
                unsafe { libc::bsearch((&raw const f).cast(), (&raw const element).cast(), 1, 1, Some(compare)) };
            assert!(!found.is_null());
        }));
    });
}

/// And in one that is loaded when the list of objects has been read, and another in its place: the same code but for the
/// size of its frame.
#[test]
fn through_objects_that_are_loaded_later() {
    let _one = serial();
    let _registration = registered();
    on_a_green_thread(|| exact(in_frame(fm_bare, || moved(8))));
    let dir = env::temp_dir().join(format!("morestack-frame-maps-{}", process::id()));
    fs::create_dir_all(&dir).unwrap();
    for (name, locals) in [("one", 1000), ("two", 2000)] {
        let (source, object) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
        let text = format!(
            "int call(void (*f)(void *), void *arg) {{ volatile char locals[{locals}]; locals[0] = 1; f(arg); return locals[0]; }}"
        );
        fs::write(&source, text).unwrap();
        // The linker driver that built this test.
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&object).arg(&source).status();
        assert!(built.unwrap().success());
        let path = CString::new(object.to_str().unwrap()).unwrap();
        // SAFETY: an object without constructors.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null());
        // SAFETY: the C function above.
        let call: Between = unsafe { std::mem::transmute(libc::dlsym(handle, c"call".as_ptr())) };
        on_a_green_thread(move || {
            exact(in_frame(fm_bare, || through(call, || exact(in_frame(fm_bare, || moved(8))))));
        });
        // SAFETY: nothing of it is in use.
        assert_eq!(unsafe { libc::dlclose(handle) }, 0);
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn maps_that_make_no_sense_are_refused() {
    const MAP: FrameMap = FrameMap { pcs: 0x1000..0x2000, frame_size: 32, pointers: vec![], saved: vec![] };
    let _one = serial();
    // SAFETY: no code is there.
    let error = |maps: Vec<FrameMap>| unsafe { register(maps) }.unwrap_err().to_string();
    let one = |map: FrameMap| error(vec![map]);

    for end in [0x2000, 0x1000] {
        let said = one(FrameMap { pcs: 0x2000..end, ..MAP });
        assert_eq!(said, format!("frame map of [0x2000, {end:#x}): no code: the end must be above the start"));
    }
    let said = |what: &str| format!("frame map of [0x1000, 0x2000): {what}");
    assert_eq!(one(FrameMap { frame_size: 12, ..MAP }), said("frame_size 12: must be a multiple of 8"));
    for slot in [32, 40, 4, usize::MAX] {
        let what = said(&format!("slot {slot}: must be a multiple of 8 below frame_size, 32"));
        assert_eq!(one(FrameMap { pointers: vec![0, slot], ..MAP }), what);
        assert_eq!(one(FrameMap { saved: vec![(Register::Rbx, slot)], ..MAP }), what);
    }
    let twice = said("slot 8: named twice, must be one pointer or one register");
    assert_eq!(one(FrameMap { pointers: vec![8, 0, 8], ..MAP }), twice);
    assert_eq!(one(FrameMap { pointers: vec![8], saved: vec![(Register::R15, 8)], ..MAP }), twice);
    let saved = vec![(Register::R12, 8), (Register::Rbp, 24), (Register::R12, 0)];
    assert_eq!(one(FrameMap { saved, ..MAP }), said("R12: saved twice, must have one slot"));

    let other = FrameMap { pcs: 0x1fff..0x3000, ..MAP };
    let overlap = "frame map of [0x1fff, 0x3000): overlaps the registered one of [0x1000, 0x2000)";
    assert_eq!(error(vec![MAP, other.clone()]), overlap, "in one call: none of both is registered");
    // SAFETY: no code is there.
    unsafe {
        let registration = register([MAP]).unwrap();
        assert_eq!(one(other.clone()), overlap);
        let next = register([FrameMap { pcs: 0x2000..0x3000, ..MAP }]).unwrap();
        assert!(one(other.clone()).contains("[0x2000, 0x3000)") || one(other.clone()).contains("[0x1000, 0x2000)"));
        drop((registration, next));
        drop(register([other]).unwrap());
    }
}

/// The words lie in a block then, and the context speaks of a stack that others have.
#[test]
fn frozen_frames_are_thawed_exactly() {
    let _one = serial();
    let _registration = registered();
    for function in [fm_tables as Mapped, fm_bare] {
        on_a_green_thread(move || {
            let before = framemap::stats();
            exact(in_frame(function, || {
                through(fm_by_rbp, || {
                    exact(in_frame(fm_bare, || {
                        // SAFETY: the loop above resumes the green thread once.
                        unsafe { mcall(freeze_and_thaw, 0) };
                    }));
                });
            }));
            let after = framemap::stats();
            assert_eq!((after.walks - before.walks, after.mapped - before.mapped, after.cut - before.cut), (1, 2, 0));
        });
    }
}
