//! `newstack` (S12): a prologue check failed; decide why, and what now.
//!
//! Runs on g0, called by the scheduler loop for `morestack`, with the green thread suspended in its prologue and owned by
//! this M. The live guard was read once, by the check itself; from here on the request is what `P::preempt_requested`
//! says of the current slice.
//!
//! ```text
//!   unwinding? ── yes ──► go on: the unwinder's state is this OS thread's and it keeps stack addresses in the heap
//!        │ no
//!   too little room? ── yes ──► copying: double, by copystack; no memory for that: raise its io::Error
//!        │                      over the limit, reserved, or on a segment: raise StackOverflow
//!        │                      nothing may be raised here: go on
//!   cancelled? ── yes ──► raise Cancelled; not here: go on
//!        │ no
//!   preemption requested? ── yes ──► not allowed now or here: go on, and ask again
//!        │                           nobody waits: go on, in a new slice
//!        │ no                        else gopreempt: to the tail, schedule
//!   go on: a request that was meant for another slice, or stress
//! ```
//!
//! Room comes before preemption: the function goes on behind its check when it is resumed, and is not checked again.
//!
//! # Automatic checks
//!
//! A check that `cargo morestack` put into a function says nothing of what its author allows. So it matters who that is:
//!
//! | function | grows | is preempted | raises |
//! |---|---|---|---|
//! | marked `#[prologue]`, or of this crate | yes | yes | yes |
//! | of the program's own workspace (the image has a [mark](morestack_stacks::is_marked)) | yes | yes | a stack overflow, but not a cancellation |
//! | of a third party, or of std's generic code | yes | no | no |
//!
//! Third-party code may rely on being alone on its thread for the length of a call, and `unsafe` code on that a function does not
//! panic which visibly cannot. Where such a function finds no room, it uses that below the guard, as all code does that has no
//! check; behind that is the guard page.
//!
//! A request that arrives there [stays pending](morestack_asm::Pending): the next checks of the thread fail, too, and go on fast where
//! the function is known to be a third party's, until one of the program's own is entered. It rests after some 100 us. A call that
//! takes longer is met by one of sysmon's next requests, each [a millisecond](crate::sysmon) after the last: each covers a tenth of
//! the time. So where a third party's calls take less than that, the answer comes at the end of the call; where they take
//! longer, after some ten of them. What that costs is a tenth at most, and only while somebody waits.
//!
//! A cancellation stays pending in the same way, for [longer](PATIENCE_CANCELLED): what an automatic check has seen must not be lost for
//! the next one of the author's own.
//!
//! A check may fail in a function that the runtime itself has called, inside of one of its own calls: in the program's allocator.
//! That is neither preempted nor unwound, and the M is *in* ([`crate::hold`]) and stays so. Or in one that a call of a channel is made of,
//! when the green thread stands in the queue already and its [slot](Lent) is others' to write to: then nothing moves, and there is the
//! room below the guard.
//!
//! While unwinding there is no growth either. What runs then has the STACK_GUARD bytes below the guard, and the guard
//! page below those.

use std::fmt;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::sync::atomic::Ordering::Relaxed;

use morestack_asm::{AUTOMATIC, GHead, Raise, SEGMENT, STACK_GUARD, STACK_PREEMPT, set_stackguard, systemstack};
use morestack_stacks::{Frames, StackError, frames, is_marked};

use crate::channel::Lent;
use crate::g::{G, GRef, StackKind, Status};
use crate::m::{self, M};
use crate::p::P;
use crate::ready::{Next, ready};
use crate::sched::Sched;
use crate::side::{self, Look};
use crate::token::Token;
use crate::{cancel, p, schedule, stack, stress, timers};

/// Checks in a row that fail for one that was cancelled and is to unwind at the next safepoint of its author's, which may be rare among
/// them. A twentieth of the time between two of sysmon's looks: it loses no more by it, and meets such a safepoint at one of the looks.
const PATIENCE_CANCELLED: u32 = 1000;

/// See the module header. Called by the scheduler loop with the frame size that the check named, and whether the check is automatic.
pub(crate) unsafe fn newstack(head: *mut GHead, check: usize) {
    let (frame, automatic) = (check & !AUTOMATIC, check & AUTOMATIC != 0);
    // SAFETY: suspended by `morestack` on this M just now.
    let (g, m) = unsafe { (GRef::from_head(head), m::of(head)) };
    // SAFETY: as above: owned by this M.
    let (bounds, sp) = unsafe { ((*head).stack, (*head).sched.sp) };
    if m.curg() != g.as_ptr() {
        fatal(m, &g, "wrong green thread in newstack");
    }
    if !bounds.contains(sp) {
        fatal(m, &g, "stack split outside of the stack");
    }
    if std::thread::panicking() {
        if m.p().preempt_requested() {
            m.p().stats.preemptions_deferred.add(1);
        }
        return go_on(m, g, 0);
    }
    let short = sp.saturating_sub(frame) <= bounds.lo + STACK_GUARD;
    let ret = match make_room(m, g, frame, short, automatic) {
        Ok(ret) => ret,
        Err(_) if !is_open(m, automatic) => return go_on(m, g, 0),
        Err(refusal) => {
            let raise: Raise = match refusal {
                Refusal::Memory(error) => {
                    m.refusal.set(Some(error.into()));
                    raise_refusal
                }
                Refusal::Limit => raise_overflow,
            };
            return go_on(m, g, raise as usize);
        }
    };
    let cancelled = !m.was_in.get() && Token::of_wait(&g).is_cancelled() && cancel::may_raise(&g);
    if cancelled && !automatic {
        let raise: Raise = raise_cancelled;
        return go_on(m, g, raise as usize);
    }
    if !stress::preempts() && !m.p().preempt_requested() {
        if cancelled { put_off_cancellation(m, g, ret) } else { go_on(m, g, ret) }
    } else if !is_open(m, automatic) {
        m.p().stats.preemptions_deferred.add(1);
        put_off(m, g, ret, automatic);
    } else {
        preempt(m, g, frame, ret);
    }
}

/// Why there is no more room.
enum Refusal {
    Limit,
    Memory(StackError),
}

/// Makes room for `frame` bytes if `g` is short of it, or of its side stack, and moves its stack under stress. What the check is to
/// return: 0, or [`SEGMENT`].
fn make_room(m: &M, g: GRef, frame: usize, short: bool, automatic: bool) -> Result<usize, Refusal> {
    let limit = m.sched().config.max_stack_size;
    // SAFETY: owned by this M, suspended.
    let (bounds, sp, lent) = unsafe { ((*g.head()).stack, (*g.head()).sched.sp, Lent::of(&g).is_some()) };
    let size = if short { room_for(bounds.hi - sp + frame, bounds.size(), limit) } else { bounds.size() };
    // SAFETY: on g0; as above.
    let look = unsafe { side::look(&g, frame) };
    if look.fits(size) {
        // SAFETY: as above.
        unsafe { look.suffices(&g) };
    } else if automatic && size <= limit && !lent {
        // Whether its frames may move or not.
        return put_segment(m, g, frame, short.then_some(size), &look, bounds.hi);
    }
    if !(short || stress::moves(&g)) || lent {
        return Ok(0);
    }
    if !g.moves() {
        return if short { Err(Refusal::Limit) } else { Ok(0) };
    }
    let frames = match g.kind {
        // SAFETY: on g0; as above, and it is not unwinding.
        StackKind::Copying => unsafe { frames(g.head()) },
        _ => Frames::Movable,
    };
    match frames {
        _ if size > limit => Err(Refusal::Limit),
        Frames::Movable => match stack::grow(m, &g, size) {
            // Without need it is stress: nothing is lost if it does not move.
            Err(error) if short => Err(Refusal::Memory(error)),
            _ => Ok(0),
        },
        // The frame of a function marked `#[prologue]` is there already: there is the room below the guard.
        Frames::Fixed(_) if !automatic => Ok(0),
        Frames::Fixed(end) => put_segment(m, g, frame, short.then_some(size), &look, end),
    }
}

/// Has the function whose check failed run on a segment, above frames that end at `fixed`. `short`: the size of which the stack
/// would have to be instead; if it is not short, it is its side stack that is, and there may be enough, or stress.
fn put_segment(
    m: &M,
    g: GRef,
    frame: usize,
    short: Option<usize>,
    look: &Look,
    fixed: usize,
) -> Result<usize, Refusal> {
    let segment = look.next(frame, short, m.sched().config.max_stack_size).ok_or(Refusal::Limit)?;
    // SAFETY: on g0; `g` is owned by this M and suspended in `__morestack`.
    match (unsafe { side::put_segment(m, &g, frame, segment, fixed) }, short) {
        (Ok(()), Some(size)) => stack::note_growth(&g, size),
        (Ok(()), None) => {}
        (Err(error), Some(_)) => return Err(Refusal::Memory(error)),
        (Err(_), None) => return Ok(0),
    }
    Ok(SEGMENT)
}

/// Whether the check that failed is where the green thread may be preempted, and unwound.
fn is_open(m: &M, automatic: bool) -> bool {
    // SAFETY: on the thread of `m`; its head is written by `morestack` and `__morestack` only.
    !m.was_in.get() && (!automatic || is_marked(unsafe { (*m.head.get()).morebuf.pc }))
}

/// Leaves a request pending, where it is not to be answered.
fn put_off(m: &M, g: GRef, ret: usize, automatic: bool) {
    go_on(m, g, ret);
    let tick = m.p().schedtick.load(Relaxed);
    // SAFETY: on the thread of `m`, and nothing else refers to its head now.
    let stays = unsafe {
        let head = m.head.get();
        let check = (*head).morebuf.pc;
        if m.put_off.replace(tick) != tick {
            (*head).pending.end();
        }
        // Stress acts at each check.
        (*head).pending.put_off(g.head(), check, automatic && !stress::is_on() && !is_marked(check))
    };
    if stays {
        fail_next(g);
    }
}

/// The same for a cancellation.
fn put_off_cancellation(m: &M, g: GRef, ret: usize) {
    go_on(m, g, ret);
    if m.p().is_patient(PATIENCE_CANCELLED) {
        fail_next(g);
    }
}

/// Has the next check of `g`, which is suspended and goes on here, fail.
fn fail_next(g: GRef) {
    // SAFETY: owned by this M.
    unsafe { (*g.head()).stackguard0 = STACK_PREEMPT };
}

/// Unwinds the calling green thread, in the prologue at which it was asked.
fn raise_cancelled() -> ! {
    cancel::raise()
}

/// From here on a stack doubles twice at once. It was copied four times by then, and what it holds is copied half as often
/// so; the rest of the larger stack is address space.
const TWICE: usize = 1 << 20;

/// The size to grow to: at least the double of `size`, with `used` bytes above the guard.
fn room_for(used: usize, size: usize, limit: usize) -> usize {
    let mut size = if size >= TWICE && size <= limit / 4 { size * 4 } else { size * 2 };
    while size <= used + STACK_GUARD {
        size *= 2;
    }
    size
}

/// Runs `g` again in the slice it has; `ret` is what the check returns to it.
fn go_on(m: &M, g: GRef, ret: usize) {
    // SAFETY: owned by this M, suspended.
    unsafe {
        (*g.head()).stackguard0 = stack::guard(&g);
        (*g.head()).sched.ret = ret;
    }
    m.stays_in.set(m.was_in.get());
    m.resume(g);
}

/// S13, where it is allowed and of use.
fn preempt(m: &M, g: GRef, frame: usize, ret: usize) {
    let p = m.p();
    if ret == 0 {
        stack::slice_over(m, &g, frame);
    }
    if g.preempt_off.get() != 0 {
        p.stats.preemptions_deferred.add(1);
        return go_on(m, g, ret);
    }
    if !stress::preempts() && !anybody_waits(m) {
        p.next_slice(p::stamp());
        return go_on(m, g, ret);
    }
    // SAFETY: owned by this M, suspended.
    unsafe { (*g.head()).sched.ret = ret };
    p.stats.preemptions.add(1);
    p.stats.answered(timers::now().saturating_sub(p.requested_at.load(Relaxed)));
    m.slice_over.set(true);
    g.set_status(Status::Running, Status::Preempted);
    g.set_status(Status::Preempted, Status::Runnable);
    // What stands first in line came before.
    schedule::kick_nexts(m);
    // A slice is wall-clock time: the first may have passed while the OS ran something else.
    let next = if g.long.replace(true) { Next::Long } else { Next::Tail };
    ready(m.sched(), g, next);
}

/// Whether there is anything for this worker to do but to go on.
fn anybody_waits(m: &M) -> bool {
    let now = timers::now();
    waits_for(m.sched(), m.p(), m, now) || schedule::late_elsewhere(m).is_some()
}

/// Whether anybody waits for `m`, which holds `p`. For any thread; to others than that of `m` it is a guess.
pub(crate) fn waits_for(sched: &Sched, p: &P, m: &M, now: u64) -> bool {
    m.behind.load(Relaxed) != 0
        || !m.inbox.is_empty()
        || p.has_work()
        || !sched.injector.is_empty()
        || p.timers.next() <= now
        || sched.stop_requested()
        || sched.idle.n_wanting.load(Relaxed) != 0
        || p.is_surplus(sched)
}

/// Answers, at the next prologue, a request that was deferred in the current slice. On a green thread.
pub(crate) fn rearm() {
    if m::current().is_some_and(|m| m.p().preempt_requested()) {
        fail_next_check();
    }
}

/// Comes here at the next prologue. On a green thread.
pub(crate) fn fail_next_check() {
    // SAFETY: on a green thread, so `newstack` is there to answer.
    unsafe { set_stackguard(STACK_PREEMPT) };
}

/// A green thread ran out of stack at a prologue: the payload that [`JoinHandle::join`](crate::JoinHandle::join)
/// returns, unless the panic is caught before.
///
/// That is: it needed more than it may have. If a copying stack may grow and there is no memory for it, the payload is a
/// `std::io::Error` of kind `OutOfMemory` instead, which says what there is too little of. Either is announced by a line
/// on standard error, and destructors run.
///
/// ```
/// #[morestack::prologue]
/// fn forever(n: u64) -> u64 {
///     std::hint::black_box(forever(n + 1)) + 1
/// }
/// let error = morestack::spawn(|| forever(0)).join().unwrap_err();
/// assert!(error.is::<morestack::StackOverflow>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackOverflow {
    limit: usize,
}

impl StackOverflow {
    /// The size in bytes that the stack was not allowed to exceed.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl fmt::Display for StackOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "green thread stack overflow: the limit is {}", bytesize::ByteSize(self.limit as u64))
    }
}

impl std::error::Error for StackOverflow {}

/// Unwinds the calling green thread, in the prologue for which there was no memory.
fn raise_refusal() -> ! {
    let g = m::current_g().expect("newstack resumes green threads only");
    // It was resumed at once, on the M whose `newstack` left this.
    let refusal = m::current().and_then(|m| m.refusal.take()).expect("newstack says why");
    // On g0: the room that is left here is the unwinder's.
    systemstack(|| {
        // Nobody may be reading.
        let _ = writeln!(
            io::stderr(),
            "morestack: green thread '{}' (id {}) cannot grow its stack: {refusal}",
            g.label(),
            g.id
        );
    });
    resume_unwind(Box::new(refusal))
}

/// Unwinds the calling green thread, in the prologue for which there was no room.
fn raise_overflow() -> ! {
    let g = m::current_g().expect("newstack resumes green threads only");
    let (limit, setting) = match g.kind {
        StackKind::Reserved(class) => (class.size(), "stack_size"),
        // SAFETY: the running green thread's own head.
        StackKind::Contract if g.on_segment.get() => (unsafe { (*g.head()).stack.size() }, "stack_size"),
        StackKind::Copying | StackKind::Contract => {
            (m::current_sched().map_or(0, |s| s.config.max_stack_size), "max_stack_size")
        }
    };
    let overflow = StackOverflow { limit };
    // On g0: the room that is left here is the unwinder's.
    systemstack(|| {
        // Nobody may be reading.
        let _ = writeln!(io::stderr(), "morestack: green thread '{}' (id {}): {overflow} ({setting})", g.label(), g.id);
    });
    resume_unwind(Box::new(overflow))
}

/// The runtime's own state is broken: says where, and ends the process.
fn fatal(m: &M, g: &G, what: &str) -> ! {
    // SAFETY: on the thread of `m`, with the green thread suspended.
    let (head, morebuf) = unsafe { (&*g.head(), (*m.head.get()).morebuf) };
    let _ = writeln!(
        io::stderr(),
        "morestack: fatal: {what}: green thread '{}' (id {}, {:?}), worker {}\n\
         \tstack=[{:#x}, {:#x}) sched={{pc:{:#x} sp:{:#x}}} morebuf={{pc:{:#x} sp:{:#x}}}",
        g.label(),
        g.id,
        g.status(),
        m.index,
        head.stack.lo,
        head.stack.hi,
        head.sched.pc,
        head.sched.sp,
        morebuf.pc,
        morebuf.sp,
    );
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use morestack_asm::{GHead, STACK_PREEMPT, mcall, set_stackguard};

    use crate::{Runtime, checkpoint, m};

    const ROLE: &str = "MORESTACK_NEWSTACK_TEST_CHILD";

    /// What the process says that runs `broken` on a green thread and then comes to a prologue.
    fn message(test: &str, broken: fn()) -> String {
        if std::env::var_os(ROLE).is_some() {
            Runtime::builder().workers(1).build().unwrap().run(move || {
                broken();
                // SAFETY: on a green thread.
                unsafe { set_stackguard(STACK_PREEMPT) };
                checkpoint();
            });
            unreachable!("it went on");
        }
        let test = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", &test, "--nocapture"]).env(ROLE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        said
    }

    #[test]
    fn s12_the_wrong_green_thread_is_fatal_and_named() {
        let said = message("s12_the_wrong_green_thread_is_fatal_and_named", || {
            m::current().unwrap().set_curg(None);
        });
        assert!(said.contains("fatal: wrong green thread in newstack: green thread '<unnamed>'"), "{said}");
        assert!(said.contains("stack=[0x") && said.contains("pc:0x") && said.contains("sp:0x"), "{said}");
    }

    #[test]
    fn s12_a_split_outside_of_the_stack_is_fatal_and_named() {
        let said = message("s12_a_split_outside_of_the_stack_is_fatal_and_named", || {
            // `morestack` itself looks where it is: only a context that was broken since gets here.
            unsafe fn outside(head: *mut GHead, _: usize) {
                // SAFETY: the green thread that called `mcall`; the process ends here.
                unsafe {
                    (*head).sched.sp = (*head).stack.lo - 8;
                    super::newstack(head, 0);
                }
            }
            // SAFETY: on a green thread, which is not resumed.
            unsafe { mcall(outside, 0) };
        });
        assert!(said.contains("fatal: stack split outside of the stack"), "{said}");
    }
}
