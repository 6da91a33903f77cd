//! What programs with side stacks must bear: threads of all origins, signals, fork, panics, deep recursion. `side TEST` prints numbers.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use morestack::{Runtime, Stack};
use morestack_tests::source::Source;

#[derive(Parser)]
struct Options {
    test: Test,
}

#[derive(Clone, Copy, ValueEnum)]
enum Test {
    /// Threads of std, of `pthread_create` and of `thrd_create`.
    Threads,
    /// What many threads leave behind.
    Exits,
    /// Handlers on OS threads and green threads.
    Signals,
    /// A child that goes on.
    Fork,
    /// The pointer after panics.
    Panics,
    /// Recursions of all shapes, again and again: the second time nothing is in the way.
    Recursions,
    /// What is left of a recursion while the thread runs on.
    Left,
    /// More of the side stack than there can be for the stack, all of a sudden.
    Gap,
    /// Large locals in a recursion.
    Locals,
    /// One function with locals too large for a side stack.
    Huge,
    /// What kind of stack `spawn` gives.
    Mode,
    /// Where a thread's stack is, by the C library's word.
    Bounds,
}

/// Locals that escape, so many bytes of them at each level.
#[inline(never)]
fn escape<const N: usize>(depth: u64) -> u64 {
    let mut local = [depth as u8; N];
    black_box(&mut local);
    let below = if depth == 0 { 0 } else { escape::<N>(depth - 1) };
    below + u64::from(local[N / 2] == depth as u8)
}

/// The calling thread's side pointer; 0 where there is none.
fn pointer() -> usize {
    // SAFETY: looks for a thread-local of the program, whose address for this thread is the answer.
    unsafe {
        let place = libc::dlsym(libc::RTLD_DEFAULT, c"__safestack_unsafe_stack_ptr".as_ptr());
        if place.is_null() { 0 } else { *place.cast::<usize>() }
    }
}

extern "C" fn by_pthread(argument: *mut c_void) -> *mut c_void {
    escape::<1000>(argument as u64) as *mut c_void
}

extern "C" fn by_c11(argument: *mut c_void) -> c_int {
    escape::<1000>(argument as u64) as c_int
}

unsafe extern "C" {
    fn thrd_create(
        thread: *mut libc::pthread_t,
        start: extern "C" fn(*mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn thrd_join(thread: libc::pthread_t, result: *mut c_int) -> c_int;
}

fn threads() {
    println!("std {}", thread::spawn(|| escape::<1000>(100)).join().expect("it returns"));
    let small = thread::Builder::new().stack_size(128 << 10);
    println!("small {}", small.spawn(|| escape::<1000>(50)).expect("a thread").join().expect("it returns"));
    // SAFETY: threads that are joined, of functions of the right types.
    unsafe {
        let (mut id, mut result) = (0, ptr::null_mut());
        assert_eq!(libc::pthread_create(&mut id, ptr::null(), by_pthread, 100 as *mut c_void), 0);
        assert_eq!(libc::pthread_join(id, &mut result), 0);
        println!("pthread {}", result as usize);
        let mut result = 0;
        assert_eq!(thrd_create(&mut id, by_c11, 100 as *mut c_void), 0);
        assert_eq!(thrd_join(id, &mut result), 0);
        println!("c11 {result}");
    }
    let scoped: u64 = thread::scope(|scope| {
        let handles: Vec<_> = (0..8).map(|_| scope.spawn(|| escape::<1000>(100))).collect();
        handles.into_iter().map(|handle| handle.join().expect("it returns")).sum()
    });
    println!("scoped {scoped}");
    println!(
        "blocking {}",
        morestack::spawn(|| morestack::blocking(|| escape::<1000>(100))).join().expect("it returns")
    );
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").expect("Linux has it").lines().count()
}

struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        ENDED.fetch_add(escape::<1000>(10), SeqCst);
    }
}

static ENDED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static AT_END: Cell<Option<AtEnd>> = const { Cell::new(None) };
}

fn exits() {
    let run = |threads: u64| {
        for _ in 0..threads {
            thread::spawn(|| AT_END.set(Some(AtEnd))).join().expect("it returns");
        }
    };
    run(20);
    let before = mappings();
    run(300);
    println!("more {}", mappings().saturating_sub(before));
    println!("ended {}", ENDED.load(SeqCst));
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handle(_: c_int) {
    HANDLED.fetch_add(escape::<300>(3), SeqCst);
}

fn signals() {
    let raise = |flags: c_int| {
        // SAFETY: a handler that only computes and counts.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = flags;
            libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut());
        }
        let some = || {
            let mut sum = 0;
            for _ in 0..100 {
                sum += escape::<200>(20);
                // SAFETY: to this thread.
                unsafe { libc::raise(libc::SIGUSR1) };
            }
            sum
        };
        thread::spawn(some).join().expect("it returns") + morestack::spawn(some).join().expect("it returns")
    };
    println!("computed {}", raise(0) + raise(libc::SA_ONSTACK));
    println!("handled {}", HANDLED.load(SeqCst));
}

fn fork() {
    // SAFETY: the child calls what computes, and `_exit`.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit((escape::<1000>(100) == 101).into());
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        println!("child {}", libc::WEXITSTATUS(status));
    }
}

#[inline(never)]
fn panics(depth: u64) -> u64 {
    let mut local = [depth; 20];
    black_box(&mut local);
    assert!(depth != 0);
    panics(depth - 1) + local[3]
}

#[inline(never)]
fn caught() -> usize {
    for _ in 0..200 {
        assert!(catch_unwind(AssertUnwindSafe(|| panics(30))).is_err());
    }
    pointer()
}

fn panic() {
    std::panic::set_hook(Box::new(|_| {}));
    let drift = || {
        let before = pointer();
        let within = caught();
        // Frames of `caught` may be there, not hundreds of panics.
        u64::from(before == pointer() && before.abs_diff(within) < 1000)
    };
    println!("os {}", drift());
    println!("green {}", morestack::spawn(drift).join().expect("it returns"));
    println!(
        "differ {}",
        u64::from(pointer() == 0 || pointer() != morestack::spawn(pointer).join().expect("it returns"))
    );
}

fn locals() {
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    for (name, result) in [
        ("small", runtime.spawn(|| escape::<64>(20_000)).join()),
        ("page", runtime.spawn(|| escape::<4096>(2_000)).join()),
        ("large", runtime.spawn(|| escape::<30_000>(300)).join()),
    ] {
        println!("{name} {}", result.expect("there is room"));
    }
    let endless = runtime.spawn(|| escape::<1000>(u64::MAX)).join();
    println!("endless {}", u64::from(endless.is_err_and(|payload| payload.is::<morestack::StackOverflow>())));
}

/// `depth` calls with `SIDE` bytes of locals that escape, and `FIRST` words that do not, and at the end `f`.
#[inline(never)]
fn down<const SIDE: usize, const FIRST: usize>(depth: u64, f: &dyn Fn() -> u64) -> u64 {
    let mut side = [depth as u8; SIDE];
    if SIDE > 0 {
        black_box(&mut side);
    }
    let first: [u64; FIRST] = std::array::from_fn(|i| black_box(depth + i as u64));
    let below = if depth == 0 { f() } else { down::<SIDE, FIRST>(depth - 1, f) };
    let first = first.into_iter().fold(below, |sum, word| sum.rotate_left(5) ^ black_box(word));
    first.wrapping_add(side.iter().map(|byte| u64::from(*byte)).sum())
}

/// Recursions one after the other, and within each other; some end by a panic.
fn nested(source: &RefCell<Source>, level: u64, most: u64) -> u64 {
    let below = |limit| source.borrow_mut().below(limit);
    (0..1 + below(3)).fold(level, |sum, _| {
        let inner = || {
            if below(8) == 0 {
                panic!("at the end");
            }
            if level == 0 { below(1000) } else { nested(source, level - 1, most) }
        };
        let depth = below(most);
        let went = catch_unwind(AssertUnwindSafe(|| match below(6) {
            0 => down::<0, 20>(depth, &inner),
            1 => down::<16, 1>(depth, &inner),
            2 => down::<100, 6>(depth, &inner),
            3 => down::<256, 0>(depth, &inner),
            4 => down::<256, 40>(depth, &inner),
            // Through a frame of std that stays.
            _ => format!("{}", std::fmt::from_fn(|f| write!(f, "{}", down::<64, 3>(depth, &inner)))).len() as u64,
        }));
        sum.rotate_left(7) ^ went.unwrap_or(depth)
    })
}

fn recursions() {
    std::panic::set_hook(Box::new(|_| {}));
    let stress = std::env::var_os("MORESTACK_STRESS").is_some();
    let (seeds, most) = if stress { (4, 300) } else { (60, 4000) };
    let all = move |seed| nested(&RefCell::new(Source::new(seed)), 3, most);
    let runtime = Runtime::builder().workers(2).build().expect("a runtime");
    let handles: Vec<_> = (0..seeds).map(|seed| runtime.spawn(move || all(seed))).collect();
    let os = thread::Builder::new().stack_size(1 << 30);
    let expected = os.spawn(move || (0..seeds).map(all).collect::<Vec<_>>()).expect("a thread").join();
    let computed: Vec<_> = handles.into_iter().map(|handle| handle.join().expect("what panics is caught")).collect();
    println!("equal {}", u64::from(computed == expected.expect("what panics is caught")));
    let metrics = runtime.metrics();
    println!("segments {}\nmoves {}", u64::from(metrics.segments > 0), u64::from(metrics.grows > 0));
}

fn left_over() {
    let runtime = Arc::new(Runtime::builder().workers(1).build().expect("a runtime"));
    let inner = runtime.clone();
    let body = move || {
        let segments = || {
            down::<256, 0>(4000, &|| 0);
            inner.metrics().segments
        };
        let (first, again) = (segments(), segments());
        let started = Instant::now();
        while segments() == again && started.elapsed() < Duration::from_secs(60) {
            (0..1000).for_each(|_| {
                down::<16, 1>(10, &|| 0);
            });
        }
        println!("first {}\nagain {}\nlater {}", u64::from(first > 0), again - first, u64::from(segments() > again));
    };
    runtime.spawn(body).join().expect("it returns");
}

fn gap() {
    let body = || {
        // So that nothing is in the way.
        down::<0, 20>(100, &|| 0);
        escape::<4000>(250)
    };
    println!("{}", morestack::Builder::new().name("sudden").spawn(body).expect("it starts").join().is_ok());
}

fn huge() {
    println!("huge {}", morestack::spawn(|| escape::<300_000>(5)).join().expect("there is room"));
    println!("again {}", morestack::spawn(|| escape::<300_000>(20)).join().expect("there is room"));
    println!("inlined {}", morestack::spawn(|| calls_large(20)).join().expect("there is room"));
}

fn large(depth: u64) -> u64 {
    let mut local = [depth as u8; 300_000];
    black_box(&mut local);
    u64::from(local[150_000] == depth as u8)
}

/// Has little on its side stack, and would have all that `large` has if LLVM inlined that. rustc does not, through a pointer.
#[inline(never)]
fn calls_large(depth: u64) -> u64 {
    let mut local = depth;
    black_box(&mut local);
    let large: fn(u64) -> u64 = large;
    let below = if depth == 0 { 0 } else { calls_large(depth - 1) };
    below + large(local)
}

fn mode() {
    let runtime = Runtime::builder().build().expect("a runtime");
    println!("copying {}", u64::from(runtime.stack_mode() == Stack::Copying));
    let asked = morestack::Builder::new().stack(Stack::Copying).spawn_on(&runtime, || escape::<64>(2000));
    println!("asked {}", asked.map_or(0, |handle| handle.join().expect("it returns")));
}

/// How much the C library says is left of the calling thread's stack.
fn left() -> usize {
    let mut attributes = MaybeUninit::uninit();
    let (mut lowest, mut size) = (ptr::null_mut(), 0);
    // SAFETY: each fills what is passed by pointer, and the attributes are filled when they are asked.
    unsafe {
        assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()), 0);
        assert_eq!(libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut size), 0);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    let here: usize;
    // SAFETY: reads a register.
    unsafe { std::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    assert!((lowest as usize..lowest as usize + size).contains(&here), "{here:#x}: {lowest:?} {size:#x}");
    here - lowest as usize
}

fn bounds() {
    println!("main {}", u32::from(left() < 1 << 30));
    let os = thread::Builder::new().stack_size(256 << 10).spawn(left).expect("a thread").join().expect("it returns");
    println!("os {}", u32::from(os < 256 << 10));
    let green = morestack::spawn(left).join().expect("it returns");
    println!("green {}", u32::from(green > 1 << 40));
}

fn main() {
    match Options::parse().test {
        Test::Threads => threads(),
        Test::Exits => exits(),
        Test::Signals => signals(),
        Test::Fork => fork(),
        Test::Panics => panic(),
        Test::Recursions => recursions(),
        Test::Left => left_over(),
        Test::Gap => gap(),
        Test::Locals => locals(),
        Test::Huge => huge(),
        Test::Bounds => bounds(),
        Test::Mode => mode(),
    }
}
