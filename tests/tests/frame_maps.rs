//! Precise frames in real green threads: assembly functions with a registered map, which call marked Rust functions, on
//! stacks that move at every prologue.

use std::env;
use std::hint::black_box;
use std::process::Command;

use morestack::{Runtime, go, prologue};
use morestack_stacks::framemap::{self, FrameMap, Register, Registration, register};
use morestack_tests::command::run;

/// Says to this binary that it is the subprocess, and whether the function has a map there.
const ROLE: &str = "MORESTACK_TESTS_FRAME_MAP";

const GREEN_THREADS: usize = 8;
const DEPTH: usize = 20;

// extern "C" fn(f, arg, integer, out): calls f(arg) and hands out the two words at sp. Its frame:
//
//     +56  return address
//     +48  rbp of the caller; rbp points here
//     +16  out: a pointer
//     +8   integer, as a pointer
//   sp     integer, as an integer
std::arch::global_asm!(
    ".globl morestack_tests_mapped, morestack_tests_mapped_end",
    ".hidden morestack_tests_mapped, morestack_tests_mapped_end",
    "morestack_tests_mapped:",
    "push rbp",
    "mov rbp, rsp",
    "sub rsp, 48",
    "mov qword ptr [rsp], rdx",
    "mov qword ptr [rsp + 8], rdx",
    "mov qword ptr [rsp + 16], rcx",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "mov rcx, qword ptr [rsp + 16]",
    "mov rax, qword ptr [rsp]",
    "mov qword ptr [rcx], rax",
    "mov rax, qword ptr [rsp + 8]",
    "mov qword ptr [rcx + 8], rax",
    // By the register that a callee saved.
    "mov rsp, rbp",
    "pop rbp",
    "ret",
    "morestack_tests_mapped_end:",
);

unsafe extern "C" {
    fn morestack_tests_mapped(f: extern "C" fn(*mut u8), arg: *mut u8, integer: usize, out: *mut [usize; 2]);
    fn morestack_tests_mapped_end();
}

fn registered() -> Registration {
    let map = FrameMap {
        pcs: morestack_tests_mapped as *const () as usize..morestack_tests_mapped_end as *const () as usize,
        frame_size: 56,
        pointers: vec![8, 16],
        saved: vec![(Register::Rbp, 48)],
    };
    // SAFETY: the function keeps to the picture above.
    unsafe { register([map]) }.unwrap()
}

/// What the frames on one green thread's stack were like after their calls.
#[derive(Default)]
struct Seen {
    frames: usize,
    moved: usize,
    /// Frames whose integer changed.
    changed: usize,
}

/// A mapped function around a marked one, which does it again.
#[prologue]
fn descend(depth: usize, seen: &mut Seen) {
    let local = black_box(depth);
    // On the stack of a function without a map the original would change, too.
    let original = black_box(Box::new(&raw const local as usize));
    let mut out = [0; 2];
    let mut inner = (depth, &mut *seen);
    extern "C" fn call(arg: *mut u8) {
        // SAFETY: the tuple below, which waits for this call.
        let (depth, seen) = unsafe { &mut *arg.cast::<(usize, &mut Seen)>() };
        match depth {
            0 => leaf(),
            _ => descend(*depth - 1, seen),
        }
        leaf();
    }
    // SAFETY: calls `call` once and writes `out`.
    unsafe { morestack_tests_mapped(call, (&raw mut inner).cast(), *original, &raw mut out) };
    assert_eq!(out[1], &raw const local as usize, "a pointer follows");
    assert_eq!(*black_box(&local), depth);
    seen.frames += 1;
    seen.moved += usize::from(out[1] != *original);
    seen.changed += usize::from(out[0] != *original);
}

#[prologue]
fn leaf() {
    black_box([0_u8; 100]);
}

/// What the subprocess does.
fn child(mapped: bool) {
    let registration = mapped.then(registered);
    let runtime = Runtime::builder().workers(4).build().unwrap();
    let seen = runtime.run(|| {
        let descend_once = || {
            let mut seen = Seen::default();
            descend(DEPTH, &mut seen);
            seen
        };
        // SAFETY: no pointer to such a stack is anywhere else.
        let handles: Vec<_> = (0..GREEN_THREADS).map(|_| unsafe { go(descend_once) }).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).fold(Seen::default(), |a, b| Seen {
            frames: a.frames + b.frames,
            moved: a.moved + b.moved,
            changed: a.changed + b.changed,
        })
    });
    drop(registration);
    let walked = framemap::stats();
    println!("\nframes {} moved {} changed {}", seen.frames, seen.moved, seen.changed);
    println!("walks {} mapped {} cut {}", walked.walks, walked.mapped, walked.cut);
}

/// Runs it with `MORESTACK_STRESS=move` and more. Returns the numbers that it prints, in their order.
fn numbers(test: &str, mapped: bool, environment: &[(&str, &str)]) -> [u64; 6] {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("MORESTACK_STRESS", "move");
    command.envs(environment.iter().copied()).env(ROLE, if mapped { "1" } else { "0" });
    let text = run(&mut command).success();
    let lines = text.lines().filter(|line| line.starts_with("frames ") || line.starts_with("walks "));
    let numbers: Vec<u64> = lines.flat_map(str::split_whitespace).filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("not what was expected: {text}"))
}

/// In the subprocess: the role. In the test: none.
fn role() -> Option<bool> {
    env::var(ROLE).ok().map(|role| role == "1")
}

const EFENCE: &[(&str, &str)] = &[("MORESTACK_EFENCE", "1")];

const FRAMES: u64 = (GREEN_THREADS * (DEPTH + 1)) as u64;

#[test]
fn frames_with_a_map_are_adjusted_exactly() {
    if let Some(mapped) = role() {
        return child(mapped);
    }
    for environment in
        [&[][..], EFENCE, &[("MORESTACK_STRESS", "move,preempt")], &[("MORESTACK_STACK_DEBUG", "poison")]]
    {
        let [frames, moved, changed, walks, mapped, cut] =
            numbers("frames_with_a_map_are_adjusted_exactly", true, environment);
        assert_eq!((frames, changed), (FRAMES, 0), "{environment:?}");
        // Without efence a stack may be back where it was: two stacks in turn.
        assert!(moved == FRAMES || environment != EFENCE, "{moved} moved: {environment:?}");
        // On the way in to a depth of n there are n mapped frames, and n moves at that.
        let least = (GREEN_THREADS * DEPTH * DEPTH / 2) as u64;
        assert!(walks >= 2 * FRAMES && mapped >= least, "{walks} walks, {mapped} mapped frames: {environment:?}");
        assert_eq!(cut, 0, "every walk reaches the first frame of its green thread: {environment:?}");
    }
}

/// What the map is for: without it the integers change.
#[test]
fn without_a_map_integers_are_taken_for_pointers() {
    if let Some(mapped) = role() {
        return child(mapped);
    }
    let [frames, moved, changed, walks, ..] = numbers("without_a_map_integers_are_taken_for_pointers", false, EFENCE);
    assert_eq!((frames, moved, changed, walks), (FRAMES, FRAMES, FRAMES, 0));
}
