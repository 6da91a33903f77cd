//! `__morestack` without a compiler: a function with its prologue, written by hand, that looks at every register it is entered with.
//!
//! ```text
//!   split_call: loads all registers from a `Registers`, calls     split_callee: the check; writes them into another one
//!               and gives back what callees preserve                  └── fails ──► __morestack ──► newstack: changes them all
//! ```

use std::arch::x86_64::__cpuid_count;
use std::arch::{asm, global_asm};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use morestack_asm::{
    GHead, Gobuf, MHead, Mcall, STACK_GUARD, STACK_PREEMPT, Stack, detect_vectors, getg, gogo, mcall, set_stackguard,
    setg,
};

/// What the assembly below knows by its offsets.
#[repr(C, align(64))]
#[derive(Clone, Debug, PartialEq)]
struct Registers {
    /// Eight of 64 bytes, of which only as many count as this processor has.
    vectors: [[u64; 8]; 8],
    /// rdi rsi rdx rcx r8 r9 rax.
    arguments: [usize; 7],
    /// rbx rbp r12 r13 r14 r15.
    preserved: [usize; 6],
}

/// Which of the widths this processor has: 0, 1 or 2, for 16, 32 and 64 bytes.
#[unsafe(no_mangle)]
static SPLIT_WIDTH: AtomicUsize = AtomicUsize::new(0);

/// Which of them the function is passed; what is wider is 0.
#[unsafe(no_mangle)]
static SPLIT_PASSED: AtomicUsize = AtomicUsize::new(0);

/// Whether to stop at each instruction.
#[unsafe(no_mangle)]
static SPLIT_STEPS: AtomicUsize = AtomicUsize::new(0);

global_asm!(
    ".globl split_call, split_called",
    // extern "C" fn(given: *const Registers, seen: *mut Registers, after: *mut [usize; 6])
    "split_call:",
    ".cfi_startproc",
    ".irp r, rbp, rbx, r12, r13, r14, r15, rdx, rsi",
    "push \\r",
    ".cfi_adjust_cfa_offset 8",
    ".endr",
    ".cfi_offset rbp, -16",
    ".cfi_offset rbx, -24",
    ".cfi_offset r12, -32",
    ".cfi_offset r13, -40",
    ".cfi_offset r14, -48",
    ".cfi_offset r15, -56",
    "mov qword ptr [rip + SPLIT_SEEN], rsi",
    "cmp qword ptr [rip + SPLIT_WIDTH], 0",
    "je 5f",
    "vzeroupper",
    "5:",
    "cmp qword ptr [rip + SPLIT_PASSED], 1",
    "je 8f",
    "ja 9f",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "movups xmm\\n, [rdi + 64 * \\n]",
    ".endr",
    "jmp 7f",
    "8:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "vmovups ymm\\n, [rdi + 64 * \\n]",
    ".endr",
    "jmp 7f",
    "9:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "vmovups zmm\\n, [rdi + 64 * \\n]",
    ".endr",
    "7:",
    "cmp qword ptr [rip + SPLIT_STEPS], 0",
    "je 6f",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "6:",
    "mov rsi, [rdi + 512 + 8]",
    "mov rdx, [rdi + 512 + 16]",
    "mov rcx, [rdi + 512 + 24]",
    "mov r8, [rdi + 512 + 32]",
    "mov r9, [rdi + 512 + 40]",
    "mov rax, [rdi + 512 + 48]",
    "mov rbx, [rdi + 568]",
    "mov rbp, [rdi + 568 + 8]",
    "mov r12, [rdi + 568 + 16]",
    "mov r13, [rdi + 568 + 24]",
    "mov r14, [rdi + 568 + 32]",
    "mov r15, [rdi + 568 + 40]",
    "mov rdi, [rdi + 512]",
    "sub rsp, 8",
    ".cfi_adjust_cfa_offset 8",
    "call split_callee",
    "split_called:",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "pushfq",
    "and qword ptr [rsp], ~0x100",
    "popfq",
    "mov rdx, [rsp + 8]",
    "mov [rdx], rbx",
    "mov [rdx + 8], rbp",
    "mov [rdx + 16], r12",
    "mov [rdx + 24], r13",
    "mov [rdx + 32], r14",
    "mov [rdx + 40], r15",
    ".irp r, rsi, rdx, r15, r14, r13, r12, rbx, rbp",
    "pop \\r",
    ".cfi_adjust_cfa_offset -8",
    ".endr",
    "ret",
    ".cfi_endproc",
    //
    "split_callee:",
    ".cfi_startproc",
    "cmp rsp, fs:[0x70]",
    "jbe 2f",
    "1:",
    "push r11",
    ".cfi_adjust_cfa_offset 8",
    "mov r11, qword ptr [rip + SPLIT_SEEN]",
    "mov [r11 + 512], rdi",
    "mov [r11 + 512 + 8], rsi",
    "mov [r11 + 512 + 16], rdx",
    "mov [r11 + 512 + 24], rcx",
    "mov [r11 + 512 + 32], r8",
    "mov [r11 + 512 + 40], r9",
    "mov [r11 + 512 + 48], rax",
    "mov [r11 + 568], rbx",
    "mov [r11 + 568 + 8], rbp",
    "mov [r11 + 568 + 16], r12",
    "mov [r11 + 568 + 24], r13",
    "mov [r11 + 568 + 32], r14",
    "mov [r11 + 568 + 40], r15",
    "cmp qword ptr [rip + SPLIT_WIDTH], 1",
    "je 8f",
    "ja 9f",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "movups [r11 + 64 * \\n], xmm\\n",
    ".endr",
    "jmp 7f",
    "8:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "vmovups [r11 + 64 * \\n], ymm\\n",
    ".endr",
    "jmp 7f",
    "9:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "vmovups [r11 + 64 * \\n], zmm\\n",
    ".endr",
    "7:",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    "2:",
    "mov r10d, 8",
    "mov r11d, 0",
    "call __morestack",
    "ret",
    "jmp 1b",
    ".cfi_endproc",
    ".local SPLIT_SEEN",
    ".comm SPLIT_SEEN, 8, 8",
    //
    // What `newstack` has the slow path jump to: as if the callee had returned at once.
    ".globl split_raise",
    "split_raise:",
    ".cfi_startproc",
    "ret",
    ".cfi_endproc",
);

unsafe extern "C" {
    fn split_call(given: *const Registers, seen: *mut Registers, after: *mut [usize; 6]);
    fn split_called();
    fn split_raise();
    fn __morestack();
}

const SIZE: usize = 256 << 10;

/// A stack, aligned as its size.
struct Memory {
    _words: Vec<u128>,
    stack: Stack,
}

impl Memory {
    fn new() -> Memory {
        let mut words = vec![0_u128; SIZE / 16];
        let lo = words.as_mut_ptr() as usize;
        Memory { _words: words, stack: Stack { lo, hi: lo + SIZE } }
    }
}

/// What `newstack` does with the green thread's stack.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Stays,
    Moves,
    Raises,
}

thread_local! {
    static BODY: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    static ANSWER: Cell<Answer> = const { Cell::new(Answer::Stays) };
    static NEXT: Cell<Option<Memory>> = const { Cell::new(None) };
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

unsafe fn exit(_: *mut GHead, _: usize) {}

unsafe extern "C" fn entry(_: *mut GHead) -> ! {
    BODY.with(Cell::take).expect("a body")();
    // SAFETY: on the green thread's stack; nobody resumes it.
    unsafe { mcall(exit, 0) };
    unreachable!()
}

/// Answers, and leaves nothing in the registers as it was.
unsafe fn answer(g: *mut GHead, _: usize) {
    ASKED.set(ASKED.get() + 1);
    // SAFETY: the test's own, suspended.
    unsafe {
        match ANSWER.get() {
            Answer::Stays => {}
            Answer::Moves => relocate(&mut *g, &NEXT.with(Cell::take).expect("another stack")),
            Answer::Raises => (*g).sched.ret = split_raise as *const () as usize,
        }
        (*g).stackguard0 = (*g).stack.lo + STACK_GUARD;
        asm!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "pcmpeqd xmm\\n, xmm\\n",
            ".endr",
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
            out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
            out("xmm14") _, out("xmm15") _,
        );
        // The parts that SSE does not reach.
        match SPLIT_WIDTH.load(Relaxed) {
            0 => {}
            1 => asm!(".irp n, 0, 1, 2, 3, 4, 5, 6, 7", "vcmptrueps ymm\\n, ymm\\n, ymm\\n", ".endr"),
            _ => asm!(".irp n, 0, 1, 2, 3, 4, 5, 6, 7", "vpternlogd zmm\\n, zmm\\n, zmm\\n, 0xff", ".endr"),
        }
    }
}

/// What copystack does: each word of the used part that points into the old stack points into the new one afterwards.
///
/// # Safety
///
/// `g` is suspended, and nobody points to its stack from elsewhere.
unsafe fn relocate(g: &mut GHead, to: &Memory) {
    let (from, to) = (g.stack, to.stack);
    let moved = |word: usize| if from.contains(word) { word.wrapping_add(to.hi).wrapping_sub(from.hi) } else { word };
    for at in (g.sched.sp..from.hi).step_by(8) {
        // SAFETY: by the contract; both are of one size.
        unsafe {
            (moved(at) as *mut usize).write(moved((at as *const usize).read()));
            (at as *mut usize).write(0xfcfc_fcfc_fcfc_fcfc);
        }
    }
    g.sched.sp = moved(g.sched.sp);
    g.sched.bp = moved(g.sched.bp);
    g.sched.bx = moved(g.sched.bx);
    g.stack = to;
}

/// Runs `body` on a green thread; its failed checks are answered so. Returns how many there were.
fn on_green_thread(how: Answer, body: impl FnOnce() + 'static) -> u32 {
    let (memory, next) = (Memory::new(), Memory::new());
    // The second one stays, too, until this is over.
    let kept = Memory { _words: Vec::new(), stack: next.stack };
    let mut g0 = Box::new(GHead::new());
    let mut m = Box::new(MHead::new(answer));
    (m.g0, g0.m) = (&raw mut *g0, &raw mut *m);
    g0.stack = Stack { lo: 0, hi: usize::MAX };
    let mut g = Box::new(GHead::new());
    g.m = &raw mut *m;
    g.stack = memory.stack;
    g.stackguard0 = memory.stack.lo + STACK_GUARD;
    // SAFETY: the stack is this test's own.
    g.sched = unsafe { Gobuf::new(memory.stack, entry) };
    BODY.set(Some(Box::new(body)));
    NEXT.set(Some(kept));
    ANSWER.set(how);
    ASKED.set(0);
    // SAFETY: reset below.
    unsafe { setg(&raw mut *g0) };
    loop {
        // A function gives these back as they were: here, where the green thread goes on, they are not.
        // SAFETY: says what it changes.
        unsafe {
            asm!(
                ".irp r, r12, r13, r14, r15", "mov \\r, -1", ".endr",
                out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            );
        }
        // SAFETY: the green thread is suspended and this is g0; the request is its own.
        let Mcall { f, g: of, arg } = unsafe { gogo(&raw mut *g) };
        // SAFETY: as above.
        unsafe { f(of, arg) };
        if ptr::fn_addr_eq(f, exit as unsafe fn(*mut GHead, usize)) {
            break;
        }
    }
    // SAFETY: the thread runs no green threads any more.
    unsafe {
        setg(ptr::null_mut());
        set_stackguard(0);
    }
    drop(next);
    ASKED.get()
}

fn given() -> Registers {
    Registers {
        vectors: std::array::from_fn(|v| std::array::from_fn(|lane| (0xaaaa_0000 + v * 8 + lane) as u64)),
        arguments: std::array::from_fn(|i| 0x1111_0000 + i),
        preserved: std::array::from_fn(|i| 0x2222_0000 + i),
    }
}

/// Only as much of the vectors as is passed.
fn narrowed(mut registers: Registers) -> Registers {
    let lanes = 2 << SPLIT_PASSED.load(Relaxed);
    registers.vectors.iter_mut().for_each(|vector| vector[lanes..].fill(0));
    registers
}

/// Calls the function with a check that fails. The registers that it had, and those preserved.
fn call(given: &Registers) -> (Registers, [usize; 6]) {
    let mut seen = Registers { vectors: [[0; 8]; 8], arguments: [0; 7], preserved: [0; 6] };
    let mut after = [0; 6];
    // SAFETY: `answer` is there.
    unsafe {
        set_stackguard(STACK_PREEMPT);
        split_call(given, &raw mut seen, &raw mut after);
    }
    (seen, after)
}

/// Both tests set the statics.
static ALONE: Mutex<()> = Mutex::new(());

fn detect() {
    detect_vectors();
    let width = if is_x86_feature_detected!("avx512f") { 2 } else { usize::from(is_x86_feature_detected!("avx")) };
    SPLIT_WIDTH.store(width, Relaxed);
    SPLIT_PASSED.store(width, Relaxed);
}

#[test]
fn all_registers_are_as_they_were() {
    let _alone = ALONE.lock().unwrap();
    detect();
    for passed in 0..=SPLIT_WIDTH.load(Relaxed) {
        SPLIT_PASSED.store(passed, Relaxed);
        let asked = on_green_thread(Answer::Stays, || {
            let given = given();
            assert_eq!(call(&given), (narrowed(given.clone()), given.preserved));
        });
        assert_eq!(asked, 1);
    }
}

/// Where the upper parts were not in use they are not afterwards: code of SSE would be slow.
#[test]
fn what_is_not_in_use_stays_so() {
    let tells = is_x86_feature_detected!("avx") && __cpuid_count(0xd, 1).eax & 4 != 0;
    if !tells {
        return;
    }
    let _alone = ALONE.lock().unwrap();
    detect();
    for (passed, parts) in [(0, 0), (1, 4)] {
        SPLIT_PASSED.store(passed, Relaxed);
        on_green_thread(Answer::Stays, move || {
            call(&given());
            let in_use: u32;
            // SAFETY: reads a register that the system has enabled.
            unsafe { asm!("xgetbv", in("ecx") 1, out("eax") in_use, out("edx") _) };
            assert_eq!(in_use & 0x44, parts);
        });
    }
}

/// Each register has the address of a local of its own, and has it when the stack has moved.
#[test]
fn addresses_in_all_registers_follow_the_stack() {
    let _alone = ALONE.lock().unwrap();
    detect();
    let asked = on_green_thread(Answer::Moves, || {
        let locals = std::hint::black_box([0_u64; 77]);
        let address = |i: usize| &raw const locals[i] as usize;
        let addresses = || Registers {
            vectors: std::array::from_fn(|v| std::array::from_fn(|lane| address(v * 8 + lane) as u64)),
            arguments: std::array::from_fn(|i| address(64 + i)),
            preserved: std::array::from_fn(|i| address(71 + i)),
        };
        let before = std::hint::black_box(!(address(0) as u64));
        let given = addresses();
        // `given` and what comes back are on this stack, and so is `seen` while the callee writes to it: SPLIT_SEEN does not move.
        let mut seen = Box::new(Registers { vectors: [[0; 8]; 8], arguments: [0; 7], preserved: [0; 6] });
        let mut after = Box::new([0; 6]);
        // SAFETY: `answer` is there.
        unsafe {
            set_stackguard(STACK_PREEMPT);
            split_call(&raw const given, &raw mut *seen, &raw mut *after);
        }
        assert_ne!(address(0) as u64, !before, "it has not moved");
        assert_eq!(*seen, narrowed(addresses()));
        assert_eq!(*after, addresses().preserved);
    });
    assert_eq!(asked, 1);
}

type UnwindContext = c_void;

unsafe extern "C" {
    fn _Unwind_Backtrace(f: extern "C" fn(*mut UnwindContext, *mut c_void) -> i32, data: *mut c_void) -> i32;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
    fn _Unwind_GetGR(context: *mut UnwindContext, register: i32) -> usize;
    fn _Unwind_FindEnclosingFunction(pc: *mut c_void) -> *mut c_void;
}

/// What was found at each instruction of the slow path that was stopped at.
#[derive(Default)]
struct Steps {
    /// The caller's caller's frame was reached, with all registers that callees preserve.
    whole: AtomicUsize,
    /// The walk ended at the slow path itself: it is leaving the stack.
    ended: AtomicUsize,
    /// Anything else.
    wrong: AtomicUsize,
}

static STEPS: Steps = Steps { whole: AtomicUsize::new(0), ended: AtomicUsize::new(0), wrong: AtomicUsize::new(0) };

/// Whether the instruction there is one of the slow path.
fn is_slow_path(pc: usize) -> bool {
    // SAFETY: asks the unwinder's tables. It takes what it is given for a return address.
    unsafe { ptr::eq(_Unwind_FindEnclosingFunction((pc + 1) as *mut c_void), __morestack as *const c_void) }
}

/// One walk.
#[derive(Default)]
struct Walk {
    frames: usize,
    /// The frame of the slow path.
    slow: usize,
    /// That of the function that called the one with the check, if its registers were right.
    caller: usize,
}

/// DWARF's numbers of rbx rbp r12 r13 r14 r15.
const PRESERVED: [i32; 6] = [3, 6, 12, 13, 14, 15];

extern "C" fn frame(context: *mut UnwindContext, walk: *mut c_void) -> i32 {
    // SAFETY: called by the walk below, for each frame.
    unsafe {
        let walk = &mut *walk.cast::<Walk>();
        walk.frames += 1;
        let pc = _Unwind_GetIP(context);
        if walk.slow == 0 && is_slow_path(pc) {
            walk.slow = walk.frames;
        }
        let registers = PRESERVED.iter().enumerate().all(|(i, r)| _Unwind_GetGR(context, *r) == 0x2222_0000 + i);
        if pc == split_called as *const () as usize && registers {
            walk.caller = walk.frames;
        }
    }
    0
}

/// At each instruction, on the signal stack.
extern "C" fn trap(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid ucontext.
    let pc = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] } as usize;
    if !is_slow_path(pc) {
        return;
    }
    let mut walk = Walk::default();
    // SAFETY: the callback keeps to its contract.
    unsafe { _Unwind_Backtrace(frame, (&raw mut walk).cast()) };
    let count = match walk {
        // The function with the check is not there: it has no frame yet.
        Walk { slow, caller, frames } if slow > 0 && caller == slow + 1 && frames > caller => &STEPS.whole,
        // The unwinder gives the end, too.
        Walk { slow, frames, caller: 0 } if slow > 0 && frames == slow + 1 => &STEPS.ended,
        _ => &STEPS.wrong,
    };
    count.fetch_add(1, Relaxed);
}

fn install_trap() {
    // SAFETY: hands memory that is never freed to the kernel, and installs the handler above.
    unsafe {
        let memory = Box::leak(vec![0_u8; 256 << 10].into_boxed_slice());
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut()), 0);
    }
}

/// The instructions that follow the loss of the frame pointer: rbp, rbx, rsp, and the jump.
const LEAVING: usize = 4;

#[test]
fn the_stack_can_be_walked_at_every_instruction() {
    let _alone = ALONE.lock().unwrap();
    detect();
    install_trap();
    for how in [Answer::Stays, Answer::Raises] {
        for count in [&STEPS.whole, &STEPS.ended, &STEPS.wrong] {
            count.store(0, Relaxed);
        }
        SPLIT_STEPS.store(1, Relaxed);
        let asked = on_green_thread(how, || {
            // SAFETY: the running one's own.
            assert!(!getg().is_null());
            assert_eq!(call(&given()).1, given().preserved);
        });
        SPLIT_STEPS.store(0, Relaxed);
        assert_eq!(asked, 1);
        let [whole, ended, wrong] = [&STEPS.whole, &STEPS.ended, &STEPS.wrong].map(|count| count.load(Relaxed));
        assert_eq!(wrong, 0, "{whole} whole, {ended} ended");
        assert_eq!(ended, LEAVING);
        // All of it, but for the vector registers of another width, and the other way out.
        assert!(whole > 60, "{whole}");
    }
}
