//! Contexts without a scheduler: one green thread on a heap stack, switched to and from by hand.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;

use morestack_asm::{
    GHead, Gobuf, MHead, Mcall, STACK_BIG, STACK_GUARD, STACK_PREEMPT, STACK_SMALL, Stack, getg, gogo, mcall,
    morestack, on_system_stack, prologue, set_stackguard, setg, stackguard, stackguard_slot, switch, switch_publishing,
    systemstack,
};

/// A scheduler thread with one green thread, which runs `body`.
struct World {
    m: Box<MHead>,
    g: Box<GHead>,
    g0: Box<GHead>,
    _stack: Vec<u128>,
}

type Body = Box<dyn FnOnce()>;

thread_local! {
    static BODY: Cell<Option<Body>> = const { Cell::new(None) };
    static NEWSTACKS: Cell<Vec<usize>> = const { Cell::new(Vec::new()) };
}

unsafe fn exit(_: *mut GHead, _: usize) {}
unsafe fn pass(_: *mut GHead, _: usize) {}

unsafe fn record_newstack(g: *mut GHead, frame: usize) {
    NEWSTACKS.with(|n| {
        let mut v = n.take();
        v.push(frame);
        n.set(v);
    });
    // SAFETY: the test's own `g`, suspended.
    unsafe { (*g).stackguard0 = (*g).stack.lo + STACK_GUARD };
}

unsafe extern "C" fn entry(_: *mut GHead) -> ! {
    let body = BODY.with(Cell::take).expect("a body");
    assert!(catch_unwind(AssertUnwindSafe(body)).is_ok());
    // SAFETY: on the green thread's stack; nobody resumes it.
    unsafe { mcall(exit, 0) };
    unreachable!()
}

impl World {
    fn new(body: impl FnOnce() + 'static) -> World {
        const SIZE: usize = 512 << 10;
        let mut memory = vec![0_u128; SIZE / 16];
        let lo = memory.as_mut_ptr() as usize;
        let stack = Stack { lo, hi: lo + SIZE };
        let mut g0 = Box::new(GHead::new());
        let mut m = Box::new(MHead::new(record_newstack));
        (m.g0, g0.m) = (&raw mut *g0, &raw mut *m);
        // The bounds of the test thread's stack do not matter here.
        g0.stack = Stack { lo: 0, hi: usize::MAX };
        let mut g = Box::new(GHead::new());
        g.m = &raw mut *m;
        g.stack = stack;
        g.stackguard0 = stack.lo + STACK_GUARD;
        // SAFETY: the stack is this test's own.
        g.sched = unsafe { Gobuf::new(stack, entry) };
        BODY.with(|b| b.set(Some(Box::new(body))));
        // SAFETY: reset by `drop`.
        unsafe { setg(&raw mut *g0) };
        World { m, g, g0, _stack: memory }
    }

    /// Runs the green thread until it gives the thread back.
    fn resume(&mut self) -> Mcall {
        // SAFETY: the green thread is suspended and this is g0.
        unsafe { gogo(&raw mut *self.g) }
    }

    /// Runs it to its end, answering `morestack` by `record_newstack`.
    fn run(body: impl FnOnce() + 'static) -> Vec<usize> {
        let mut w = World::new(body);
        loop {
            let call = w.resume();
            // SAFETY: the request of the suspended green thread.
            unsafe { (call.f)(call.g, call.arg) };
            if std::ptr::fn_addr_eq(call.f, exit as unsafe fn(*mut GHead, usize)) {
                return NEWSTACKS.with(Cell::take);
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: the thread runs no green threads any more.
        unsafe {
            setg(std::ptr::null_mut());
            set_stackguard(0);
        }
    }
}

#[test]
fn s17_gogo_and_mcall_pass_values_and_keep_registers() {
    let mut w = World::new(|| {
        assert!(!on_system_stack());
        let mut sum = 0_usize;
        // More live values than registers: each must survive the switches.
        let kept: [usize; 24] = std::array::from_fn(|i| std::hint::black_box(i * 31));
        for i in 0..1000 {
            // SAFETY: the test resumes each call once.
            sum += unsafe { mcall(pass, i) };
        }
        assert_eq!(sum, (0..1000).map(|i| i * 2).sum());
        assert_eq!(kept.iter().sum::<usize>(), (0..24).map(|i| i * 31).sum());
    });
    assert!(on_system_stack());
    for i in 0..1000 {
        let call = w.resume();
        assert_eq!((call.g, call.arg), (&raw mut *w.g, i));
        w.g.sched.ret = i * 2;
    }
    w.resume();
    // Consumed contexts are cleared when they are resumed, and saved again by the last mcall.
    assert_eq!(w.g.sched.ret, 0);
    assert_ne!(w.g.sched.sp, 0);
}

/// One green thread after the other without g0 in between, and back by either way.
#[test]
fn s17_switch_is_mcall_and_gogo_in_one() {
    thread_local! {
        static ONE: Cell<*mut GHead> = const { Cell::new(std::ptr::null_mut()) };
        static OTHER: Cell<*mut GHead> = const { Cell::new(std::ptr::null_mut()) };
    }
    fn values(factor: usize) -> [usize; 24] {
        std::array::from_fn(|i| std::hint::black_box(i * factor))
    }
    let mut one = World::new(|| {
        let kept = values(31);
        // SAFETY: each suspended context is resumed once, here and below.
        unsafe {
            assert_eq!(mcall(pass, 1), 0);
            for i in 0..100 {
                (*OTHER.get()).sched.ret = i * 3;
                assert_eq!(switch(getg(), OTHER.get()), i);
            }
            // g0's context is as `gogo` left it.
            assert_eq!(mcall(pass, 2), 6);
        }
        assert_eq!(kept, values(31));
    });
    assert_eq!(one.resume().arg, 1);
    let mut other = World::new(|| {
        let kept = values(7);
        for i in 0..100 {
            // SAFETY: as above.
            unsafe {
                assert_eq!(((*getg()).sched.sp, stackguard()), (0, (*getg()).stackguard0));
                (*ONE.get()).sched.ret = i;
                assert_eq!(switch(getg(), ONE.get()), (i + 1) * 3);
            }
        }
        assert_eq!(kept, values(7));
    });
    // Both on the thread of the first.
    other.g.m = one.g.m;
    // SAFETY: reset by `drop`.
    unsafe { setg(&raw mut *one.g0) };
    ONE.set(&raw mut *one.g);
    OTHER.set(&raw mut *other.g);
    let call = one.resume();
    assert_eq!((call.g, call.arg), (&raw mut *one.g, 2));
    one.g.sched.ret = 6;
    one.resume();
    // The other one waits in its last switch. It goes on by `gogo`.
    other.g.sched.ret = 300;
    assert_eq!(other.resume().g, &raw mut *other.g);
}

/// It is published when its context is saved, or it goes on.
#[test]
fn s17_switch_publishing_changes_the_word_or_nothing() {
    const PARKED: u16 = 2;
    static WORD: AtomicU16 = AtomicU16::new(0);
    thread_local! {
        static OTHER: Cell<*mut GHead> = const { Cell::new(std::ptr::null_mut()) };
    }
    let mut one = World::new(|| {
        let kept: [usize; 24] = std::array::from_fn(|i| std::hint::black_box(i * 31));
        // SAFETY: each suspended context is resumed once, here and below.
        unsafe {
            mcall(pass, 1);
            for i in 0..100 {
                WORD.store(u16::from(i % 2 == 0), Relaxed);
                let (g, guard) = (getg(), stackguard());
                let published = switch_publishing(g, OTHER.get(), &raw const WORD, PARKED);
                assert_eq!((published, getg(), stackguard(), (*g).sched.sp), (i % 2 == 1, g, guard, 0));
                assert_eq!(WORD.load(Relaxed), if published { PARKED } else { 1 });
            }
        }
        assert_eq!(kept.iter().sum::<usize>(), (0..24).map(|i| i * 31).sum());
    });
    assert_eq!(one.resume().arg, 1);
    let mut other = World::new(|| {
        for i in 0..50 {
            assert_eq!((WORD.load(Relaxed), stackguard()), (PARKED, stackguard()));
            // SAFETY: as above.
            unsafe { mcall(pass, i) };
        }
    });
    other.g.m = one.g.m;
    // SAFETY: reset by `drop`.
    unsafe { setg(&raw mut *one.g0) };
    OTHER.set(&raw mut *other.g);
    for i in 0..50 {
        // The other one gives the thread back to g0, with the first suspended and published.
        let call = one.resume();
        assert_eq!((call.g, call.arg), (&raw mut *other.g, i));
        assert_eq!(WORD.load(Relaxed), PARKED);
        assert_ne!(one.g.sched.sp, 0);
    }
    one.resume();
    other.resume();
}

#[test]
fn s17_gogo_clears_the_context_it_consumes() {
    let w = World::run(|| {
        let g = getg();
        // SAFETY: the running green thread's own head.
        unsafe { assert_eq!(((*g).sched.sp, (*g).sched.ret), (0, 0)) };
    });
    assert!(w.is_empty());
}

#[test]
fn s02_the_live_guard_follows_the_switches() {
    assert_eq!(stackguard(), 0);
    World::run(|| {
        // SAFETY: the running green thread's own head.
        assert_eq!(stackguard(), unsafe { (*getg()).stackguard0 });
        // SAFETY: this thread's own slot.
        assert_eq!(stackguard(), unsafe { (*stackguard_slot()).load(std::sync::atomic::Ordering::Relaxed) });
    });
    assert_eq!(stackguard(), 0);
}

#[test]
fn systemstack_runs_elsewhere_and_returns() {
    World::run(|| {
        let here = 0_u8;
        // SAFETY: the running green thread's own head.
        let stack = unsafe { (*getg()).stack };
        assert!(stack.contains(&raw const here as usize));
        let text = systemstack(|| {
            let there = 0_u8;
            assert!(on_system_stack());
            assert!(!stack.contains(&raw const there as usize));
            // A borrow of the green thread's local, and a result with a destructor.
            format!("{}", here + 7)
        });
        assert_eq!(text, "7");
        assert!(!on_system_stack());
        // SAFETY: the running green thread's own head.
        assert_eq!(stackguard(), unsafe { (*getg()).stackguard0 });
    });
}

/// Enters a check of class `FRAME` with the guard `distance` bytes below the stack pointer, and says whether it fired.
macro_rules! fires {
    ($distance:expr, frame = $frame:expr) => {{
        let fired = World::run(|| {
            let sp: usize;
            // SAFETY: reads a register.
            unsafe { std::arch::asm!("mov {}, rsp", out(reg) sp) };
            // SAFETY: a guard of this very stack.
            unsafe { set_stackguard(sp.wrapping_sub($distance)) };
            prologue!(frame = $frame);
        });
        assert!(fired.is_empty() || fired.len() == 1);
        !fired.is_empty()
    }};
}

#[test]
fn s10_the_four_frame_classes_at_their_bounds() {
    // Leaf: never.
    assert!(!fires!(0, frame = 0));
    // rsp <= guard.
    assert!(!fires!(1, frame = STACK_SMALL));
    assert!(fires!(0, frame = STACK_SMALL));
    // rsp - N <= guard - STACK_SMALL.
    assert!(!fires!(STACK_BIG - STACK_SMALL + 1, frame = STACK_BIG));
    assert!(fires!(STACK_BIG - STACK_SMALL, frame = STACK_BIG));
    // The same by distances.
    assert!(!fires!(100_000 - STACK_SMALL + 1, frame = 100_000));
    assert!(fires!(100_000 - STACK_SMALL, frame = 100_000));
}

#[test]
fn s10_no_class_loses_a_preemption_request() {
    let fired = World::run(|| {
        let poison = || {
            // SAFETY: `record_newstack` answers.
            unsafe { set_stackguard(STACK_PREEMPT) };
        };
        poison();
        prologue!();
        poison();
        prologue!(frame = 100);
        poison();
        prologue!(frame = 4000);
        poison();
        prologue!(frame = 1 << 20);
    });
    assert_eq!(fired, [0, 0, 4000, 1 << 20]);
}

#[test]
fn a_check_on_a_foreign_thread_never_fails() {
    assert_eq!(stackguard(), 0);
    prologue!();
    prologue!(frame = 1 << 30);
    // Nor does the slow path do anything there.
    morestack(0);
}

#[test]
fn s03_a_stale_request_on_g0_is_dropped() {
    let mut w = World::new(|| ());
    // SAFETY: g0's guard.
    unsafe { set_stackguard(STACK_PREEMPT) };
    prologue!();
    assert_eq!(stackguard(), 0, "g0 of this test has the guard 0");
    w.resume();
    assert_eq!(w.m.morebuf.pc, 0, "morestack refused before it recorded a caller");
}

#[test]
fn s03_too_little_room_on_g0_is_fatal_and_named() {
    const CHILD: &str = "MORESTACK_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "s03_too_little_room_on_g0_is_fatal_and_named", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "{stderr}");
        assert!(stderr.contains("morestack on g0: the scheduler stack cannot grow"), "{stderr}");
        return;
    }
    let mut w = World::new(|| ());
    // As if the stack ended right here.
    w.m.stackguard1 = usize::MAX;
    // SAFETY: a guard that the next check fails against.
    unsafe { set_stackguard(STACK_PREEMPT) };
    prologue!();
}

#[test]
fn s11_morestack_records_its_caller() {
    let mut w = World::new(|| {
        // SAFETY: `record_newstack` answers.
        unsafe { set_stackguard(STACK_PREEMPT) };
        prologue!();
    });
    let call = w.resume();
    assert!(w.g.stack.contains(w.m.morebuf.sp));
    assert!(w.m.morebuf.sp > w.g.sched.sp);
    assert_ne!(w.m.morebuf.pc, 0);
    assert_ne!(w.m.morebuf.pc, w.g.sched.pc);
    // SAFETY: the request of the suspended green thread.
    unsafe { (call.f)(call.g, call.arg) };
    w.resume();
    NEWSTACKS.with(Cell::take);
}

#[test]
fn sched_ret_unwinds_out_of_the_function_that_checked() {
    fn raise() -> ! {
        std::panic::resume_unwind(Box::new("raised"))
    }
    struct Dropped<'a>(&'a Cell<u32>);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    #[inline(never)]
    fn nested(depth: u32, drops: &Cell<u32>) {
        let _d = Dropped(drops);
        if depth == 0 {
            // SAFETY: the test answers.
            unsafe { set_stackguard(STACK_PREEMPT) };
            prologue!();
        } else {
            nested(depth - 1, drops);
        }
    }
    let mut w = World::new(|| {
        let drops = Cell::new(0);
        let payload = catch_unwind(AssertUnwindSafe(|| nested(100, &drops))).unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "raised");
        assert_eq!(drops.get(), 101);
    });
    w.resume();
    w.g.sched.ret = raise as fn() -> ! as usize;
    w.resume();
}

#[test]
fn a_backtrace_shows_the_frames_and_ends() {
    #[inline(never)]
    fn a_frame_to_find(out: &Cell<String>) {
        out.set(Backtrace::force_capture().to_string());
    }
    World::run(|| {
        let text = Cell::new(String::new());
        a_frame_to_find(&text);
        let text = text.take();
        assert!(text.contains("a_frame_to_find"), "{text}");
        assert!(text.lines().count() < 200, "{text}");
        assert!(!text.contains("World::run"), "goes on below the first frame: {text}");
        // On the system stack the walk passes to the green thread's own frames.
        let text = systemstack(|| Backtrace::force_capture().to_string());
        assert!(text.contains("on_g0"), "{text}");
        assert!(text.contains("entry"), "{text}");
    });
}
