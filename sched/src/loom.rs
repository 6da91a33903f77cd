//! Models of the protocols between threads, checked by [loom](https://docs.rs/loom).
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release -p morestack --lib loom
//! ```
//!
//! loom runs a model again and again, in every order that the threads' steps may take and with every value that the
//! memory model lets a load return, and fails when an assertion does, when threads wait for each other, or when two of
//! them touch plain data at a time. The models call the very functions that the scheduler calls; [`crate::atomics`] makes
//! them use loom's atomics. What they replace are the queues and the green threads.
//!
//! | models | protocol | wrong when |
//! |---|---|---|
//! | [`untied`], [`burst`], [`one_sleeper`] | [`crate::idle`]: submitting and going idle | work is queued and all workers sleep; a token or a count stays behind |
//! | [`tied`] | the same, with an inbox and an alarm | the same |
//! | [`two_workers_one_p`], [`robbed_at_stop`] | [`crate::idle`]: workers without a P | the same; two hold a P; nobody does |
//! | [`hold`] | [`crate::hold`]: taking the P of one that is out | two hold a P |
//! | [`parker`], [`parker_with_alarm`] | [`crate::parker`] | a token is lost, or what was written before it is not seen |
//! | [`token`], [`token_with_a_scanner`] | [`crate::token`] | a green thread resumes twice, never, before it is at rest, or without what its wakers wrote |
//! | [`cancelled`] | [`crate::cancel`]: a wait that is interrupted | a late wake-up ends another wait; a value is lost; a request is forgotten |
//! | [`contested`] | [`crate::token`], [`crate::channel`]: a wait with several wakers | the same; a value is lost or there twice; a timer ends a later wait |
//! | [`join`], [`join_from_outside`], [`polls`], [`poll_and_join`] | [`crate::join`] | a joiner waits for ever, or finds no result; the runtime is freed under one |
//! | [`young`] | [`crate::young`] | an entry is lost, taken twice, or taken before it was written |
//! | [`alarm`] | [`crate::sysmon`]: going to sleep | sysmon sleeps while a worker is busy |
//! | [`late_timer`], [`timer_and_thief`] | [`crate::timers`] | a sleeper is never woken, or twice |
//! | [`visitors`] | [`crate::sched`]: freeing | the runtime is freed under a visitor |
//! | [`spin`] | [`crate::spin`] | two have the lock; who has it does not see what was done before |
//! | [`mutex`], [`rwlock`], [`semaphore`] | [`crate::sync`] | two have it; who has it does not see what was done before; somebody waits for ever |
//! | [`mutex_left`], [`rwlock_left`], [`semaphore_left`], [`condvar_left`] | [`crate::sync`]: leaving early | the same; something stays behind |
//!
//! # What is assumed
//!
//! * *Preemptions* are few: see [`check`]. A thread that waits gives way any number of times.
//! * *`SeqCst`*: loom takes loads, stores and swaps of this order for AcqRel. That is weaker than the language: nothing is
//!   missed, and the proofs rest on the fences alone. `fence(SeqCst)` is modelled in full. A fence also orders plain data
//!   between threads, which the language does not promise; no plain data is passed that way here.
//! * *Queues*: a slot per submitter, like [`runnext`](crate::p): put by a store with Release, taken by a swap with AcqRel,
//!   looked at Relaxed. The deque and the injector promise at least that.
//! * *Deadlines* pass at any time, once, while the waiting thread is not held by the lock.
//! * Loads that return what is stored later (*load buffering*) are not modelled.
//!
//! # Seeded mistakes
//!
//! A model that cannot fail shows nothing. So each protocol is also run with mistakes in it, and has to fail: without one
//! of its fences ([`check_fences`]), or with a step done wrong.

#![expect(clippy::arc_with_non_send_sync, reason = "loom runs the threads of a model on one OS thread")]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::time::Instant;

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::atomics::{AtomicBool, AtomicU16, AtomicUsize};
use crate::g::G;
use crate::hold::Hold;
use crate::idle::{Idle, Sleep, SleepState, Workers};
use crate::join::{DONE, NOBODY, OTHER, Word};
use crate::m::Inbox;
use crate::parker::{ASLEEP, EMPTY, Parker, TOKEN};
use crate::sched::{Visit, Visitors};
use crate::spin::RawSpin;
use crate::sync::condvar::RawCondvar;
use crate::sync::mutex::{LOCKED, QUEUED, RawMutex, WOKEN};
use crate::sync::queue::{How, Outcome, Until, Wait};
use crate::sync::rwlock::{READER, RawRwLock, WRITERS};
use crate::sync::semaphore::{self, PERMIT, RawSemaphore};
use crate::sysmon::Alarm;
use crate::timers::{HELP_AFTER, NEVER, Timers};
use crate::token::{CANCELLED, NOTIFIED, PARKED, Seq, TIMED_OUT, Token};
use crate::young::{Spawner, Young};

/// Runs `model`, interrupting threads that could go on up to so many times per run; `LOOM_MAX_PREEMPTIONS` overrides it.
///
/// Two find most mistakes (Musuvathi and Qadeer, PLDI 2007), and what grows with them is the time: the models have as
/// many as keep all together at about a minute.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

/// Whether the model fails. The panic's message goes to the test's output.
fn fails(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| check(preemptions, model))).is_err()
}

type Site = &'static Location<'static>;

thread_local! {
    /// The fences that the models of this thread came across.
    static FENCES: RefCell<Vec<Site>> = const { RefCell::new(Vec::new()) };
    static LEFT_OUT: Cell<Option<Site>> = const { Cell::new(None) };
}

/// The fence of [`crate::atomics`]; one of them can be left out.
#[track_caller]
pub(crate) fn fence(order: Ordering) {
    let site = Location::caller();
    FENCES.with_borrow_mut(|fences| {
        if !fences.contains(&site) {
            fences.push(site);
        }
    });
    if LEFT_OUT.get() != Some(site) {
        loom::sync::atomic::fence(order);
    }
}

/// `model` is right, and wrong without any one of `needed` fences; others that it comes across are for other models.
fn check_fences(needed: usize, preemptions: usize, model: fn()) {
    FENCES.take();
    check(preemptions, model);
    let fails_without = |fence: &Site| {
        LEFT_OUT.set(Some(fence));
        fails(preemptions, model)
    };
    let fences: Vec<Site> = FENCES.take().into_iter().filter(fails_without).collect();
    LEFT_OUT.set(None);
    assert_eq!(fences.len(), needed, "{fences:?}");
}

/// A runtime whose green threads are plain jobs. It stops after the last of them.
struct Pool {
    idle: Idle,
    sleep_states: Vec<SleepState>,
    /// A slot per submitter: 1 where a job is queued.
    queue: Vec<AtomicUsize>,
    /// One per worker.
    inboxes: Vec<Inbox<()>>,
    /// One per P: its holder's.
    ps: Vec<UnsafeCell<()>>,
    /// Jobs to be done yet.
    left: AtomicUsize,
    stop: AtomicBool,
    /// What each job does, if anything.
    job: fn(&Meeting),
    meeting: Meeting,
}

impl Workers for Pool {
    fn count(&self) -> usize {
        self.sleep_states.len()
    }

    fn sleep_state(&self, index: usize) -> &SleepState {
        &self.sleep_states[index]
    }

    fn has_work(&self) -> bool {
        self.queue.iter().any(|slot| slot.load(Relaxed) != 0)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

impl Pool {
    /// Each submitter submits one job.
    fn new(workers: usize, submitters: usize, jobs: usize, job: fn(&Meeting)) -> Arc<Pool> {
        Arc::new(Pool {
            idle: Idle::default(),
            sleep_states: (0..workers).map(SleepState::new).collect(),
            queue: (0..submitters).map(|_| AtomicUsize::new(0)).collect(),
            inboxes: (0..workers).map(|_| Inbox::new()).collect(),
            ps: (0..workers).map(|_| UnsafeCell::new(())).collect(),
            left: AtomicUsize::new(jobs),
            stop: AtomicBool::new(false),
            job,
            meeting: Meeting::default(),
        })
    }

    fn put(&self, submitter: usize) {
        assert_eq!(self.queue[submitter].load(Relaxed), 0);
        self.queue[submitter].store(1, Release);
    }

    fn submit(&self, submitter: usize) {
        self.put(submitter);
        self.idle.wakep(self);
    }

    fn submit_tied(&self) {
        self.inboxes[0].push(());
        self.idle.wake_tied(self, &self.sleep_states[0]);
    }

    fn take(&self) -> bool {
        self.queue.iter().any(|slot| slot.load(Relaxed) != 0 && slot.swap(0, AcqRel) != 0)
    }

    fn has_tied(&self, worker: usize) -> bool {
        !self.inboxes[worker].is_empty()
    }

    /// W4.
    fn looks(&self, worker: usize) -> bool {
        self.has_work() || self.has_tied(worker) || self.stop.load(Relaxed)
    }

    fn run_job(&self) {
        (self.job)(&self.meeting);
        if self.left.fetch_sub(1, AcqRel) == 1 {
            self.stop.store(true, SeqCst);
            self.idle.wake_all(self);
        }
    }

    /// A worker's thread: `schedule` with these queues. `sleep` is `Idle::sleep`, or what is tried instead.
    fn work(&self, worker: usize, mut sleep: impl FnMut(&SleepState)) {
        let me = &self.sleep_states[worker];
        while !self.stop.load(Relaxed) {
            if self.has_tied(worker) {
                self.idle.stop_spinning(self, me);
                self.inboxes[worker].drain(|()| self.run_job());
                continue;
            }
            if self.count() > 1 {
                self.idle.start_spinning(self, me);
            }
            if self.take() {
                self.idle.stop_spinning(self, me);
                self.run_job();
            } else {
                sleep(me);
            }
        }
        self.idle.stop_spinning(self, me);
    }

    fn start(self: &Arc<Self>, worker: usize) -> thread::JoinHandle<()> {
        let pool = self.clone();
        thread::spawn(move || {
            pool.work(worker, |me| {
                pool.sleep(me, worker, || pool.looks(worker), || None);
            });
        })
    }

    /// That of a worker which keeps its P.
    fn sleep(
        &self,
        me: &SleepState,
        worker: usize,
        work: impl FnOnce() -> bool,
        alarm: impl FnOnce() -> Option<Instant>,
    ) {
        let slept = self.idle.sleep(self, me, worker, work, alarm);
        assert!(slept != Sleep::Robbed && me.take_p() == Some(worker));
    }

    /// A worker's thread where there are fewer Ps than workers; it begins with `p`, or none.
    fn work_in_turn(&self, worker: usize, mut p: Option<usize>) {
        let me = &self.sleep_states[worker];
        let mut robbed = false;
        loop {
            let Some(held) = p else {
                if !self.idle.wait_for_p(self, me, robbed, || self.has_tied(worker), None) {
                    break;
                }
                p = me.take_p();
                continue;
            };
            if self.stop.load(Relaxed) {
                break;
            }
            self.ps[held].with_mut(|_| ());
            if self.has_tied(worker) {
                self.idle.stop_spinning(self, me);
                self.inboxes[worker].drain(|()| self.run_job());
                continue;
            }
            if self.idle.n_wanting.load(Relaxed) != 0 {
                self.idle.stop_spinning(self, me);
                if self.idle.give(self, held, false) {
                    (p, robbed) = (None, false);
                    continue;
                }
            }
            self.idle.start_spinning(self, me);
            if self.take() {
                self.idle.stop_spinning(self, me);
                self.run_job();
                continue;
            }
            p = match self.idle.sleep(self, me, held, || self.looks(worker), || None) {
                Sleep::Robbed => {
                    robbed = true;
                    None
                }
                _ => match me.take_p() {
                    None => break,
                    p => p,
                },
            };
        }
        self.idle.stop_spinning(self, me);
        if let Some(p) = p {
            self.idle.put_back(self, p);
        }
    }

    /// Waits until all is done, and looks whether anything was left behind.
    fn finish(&self, threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(self.idle.n_spinning.load(Relaxed), 0, "a spinner that is none");
        for state in &self.sleep_states {
            assert!(!state.parker.park_until(Some(Instant::now())), "a token was left behind");
            assert!(!self.idle.leave(state), "a worker in the list that does not sleep");
        }
    }
}

/// Two jobs that wait for each other: both have to run at the same time.
#[derive(Default)]
struct Meeting {
    present: Mutex<usize>,
    complete: Condvar,
}

impl Meeting {
    fn attend(&self) {
        let mut present = self.present.lock().unwrap();
        *present += 1;
        while *present < 2 {
            present = self.complete.wait(present).unwrap();
        }
        self.complete.notify_all();
    }
}

/// Two workers, a submitter.
#[test]
fn untied() {
    check(3, || {
        let pool = Pool::new(2, 1, 1, |_| ());
        let workers = [pool.start(0), pool.start(1)];
        pool.submit(0);
        pool.finish(workers);
    });
}

/// Two workers and two jobs in a row that need both: neither may sleep because the submitter took the other for a spinner.
#[test]
fn burst() {
    check_fences(3, 2, || {
        let pool = Pool::new(2, 2, 2, Meeting::attend);
        let workers = [pool.start(0), pool.start(1)];
        pool.submit(0);
        pool.submit(1);
        pool.finish(workers);
    });
}

/// One worker, two submitters.
fn two_submitters(submit: fn(&Pool, usize), start: fn(&Arc<Pool>) -> thread::JoinHandle<()>) {
    let pool = Pool::new(1, 2, 2, |_| ());
    let worker = start(&pool);
    let other = {
        let pool = pool.clone();
        thread::spawn(move || submit(&pool, 1))
    };
    submit(&pool, 0);
    pool.finish([worker, other]);
}

#[test]
fn one_sleeper() {
    check(5, || two_submitters(Pool::submit, |pool| pool.start(0)));
}

/// Seeded: a submitter that finds nobody in the list takes its spinner back when it has let go of the lock. For a moment
/// others rely on a spinner that is none, and do not wake a worker that has just gone to sleep.
#[test]
fn one_sleeper_with_a_late_count() {
    let submit = |pool: &Pool, submitter| {
        let (idle, worker) = (&pool.idle, &pool.sleep_states[0]);
        pool.put(submitter);
        fence(SeqCst);
        if idle.n_idle.load(SeqCst) != 0 && idle.n_spinning.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() {
            if idle.leave(worker) {
                worker.parker.unpark();
            } else {
                idle.n_spinning.fetch_sub(1, SeqCst);
            }
        }
    };
    assert!(fails(5, move || two_submitters(submit, |pool| pool.start(0))));
}

/// Seeded: a worker that finds work in W4, and that it has been taken from the list, does not wait for its token.
#[test]
fn one_sleeper_with_a_stale_token() {
    let start = |pool: &Arc<Pool>| {
        let pool = pool.clone();
        thread::spawn(move || {
            pool.work(0, |me| {
                pool.idle.enter(me);
                if !pool.looks(0) {
                    me.parker.park_until(None);
                } else if pool.idle.leave(me) {
                    pool.idle.n_spinning.fetch_add(1, SeqCst);
                }
                me.spinning.set(true);
            });
        })
    };
    assert!(fails(4, move || two_submitters(Pool::submit, start)));
}

/// One worker whose first sleep has an alarm, a sender of tied work, and a submitter.
fn tied_with(looks: fn(&Pool) -> bool) {
    let pool = Pool::new(1, 1, 2, |_| ());
    let worker = {
        let (pool, mut alarm) = (pool.clone(), Some(Instant::now()));
        thread::spawn(move || {
            pool.work(0, |me| {
                pool.sleep(me, 0, || looks(&pool), || alarm.take());
            });
        })
    };
    let sender = {
        let pool = pool.clone();
        thread::spawn(move || pool.submit_tied())
    };
    pool.submit(0);
    pool.finish([worker, sender]);
}

#[test]
fn tied() {
    check_fences(3, 4, || tied_with(|pool| pool.looks(0)));
}

/// Seeded: W4 does not look into the inbox.
#[test]
fn tied_without_a_look() {
    assert!(fails(4, || tied_with(|pool| pool.has_work() || pool.stop.load(Relaxed))));
}

/// A worker idles with the only P, or is about to; another one comes back and wants it; tied work comes for the first.
fn two_workers_one_p_with(sender: fn(&Pool)) {
    let pool = Pool::new(2, 1, 2, |_| ());
    pool.inboxes[1].push(());
    let workers: Vec<_> = [Some(0), None]
        .into_iter()
        .enumerate()
        .map(|(worker, p)| {
            let pool = pool.clone();
            thread::spawn(move || pool.work_in_turn(worker, p))
        })
        .collect();
    sender(&pool);
    pool.finish(workers);
}

#[test]
fn two_workers_one_p() {
    check(2, || two_workers_one_p_with(Pool::submit_tied));
    check(2, || two_workers_one_p_with(|pool| pool.submit(0)));
}

/// Seeded: the sender looks for an idle worker only.
#[test]
fn two_workers_one_p_with_a_sender_that_misses_the_free() {
    assert!(fails(2, || {
        two_workers_one_p_with(|pool| {
            pool.inboxes[0].push(());
            fence(SeqCst);
            let worker = &pool.sleep_states[0];
            if pool.idle.n_idle.load(SeqCst) != 0 && pool.idle.leave(worker) {
                pool.idle.n_spinning.fetch_add(1, SeqCst);
                worker.parker.unpark();
            }
        });
    }));
}

/// A worker that goes idle with tied work is robbed, by one that comes back, while the runtime stops. Their P is there for
/// whoever comes back after them.
fn robbed_at_stop_with(listed: bool) {
    let pool = Pool::new(3, 1, 1, |_| ());
    pool.inboxes[0].push(());
    let leave = |pool: &Pool, me: &SleepState| {
        pool.idle.stop_spinning(pool, me);
        if let Some(p) = me.take_p() {
            pool.idle.put_back(pool, p);
        }
    };
    let robbed = {
        let pool = pool.clone();
        thread::spawn(move || {
            let me = &pool.sleep_states[0];
            if pool.idle.sleep(&*pool, me, 0, || pool.looks(0), || None) == Sleep::Robbed {
                pool.idle.wait_for_p(&*pool, me, listed, || pool.has_tied(0), None);
            }
            leave(&pool, me);
        })
    };
    let comes_back = move |pool: &Pool, worker: usize| {
        let me = &pool.sleep_states[worker];
        while !pool.idle.wait_for_p(pool, me, false, || true, None) {}
        leave(pool, me);
    };
    let back = {
        let pool = pool.clone();
        thread::spawn(move || comes_back(&pool, 1))
    };
    pool.stop.store(true, SeqCst);
    pool.idle.wake_all(&*pool);
    robbed.join().unwrap();
    back.join().unwrap();
    assert_eq!(pool.idle.n_wanting.load(Relaxed), 0, "one that has left stands in a list");
    comes_back(&pool, 2);
    pool.finish([]);
}

#[test]
fn robbed_at_stop() {
    check(5, || robbed_at_stop_with(true));
}

/// Seeded: who was robbed enters the list again.
#[test]
fn robbed_at_stop_listed_twice() {
    assert!(fails(5, || robbed_at_stop_with(false)));
}

/// An M goes out and comes in, twice; sysmon takes its P if it is out.
fn hold_with(come_in: fn(&Hold) -> bool) {
    let shared = Arc::new((Hold::new(), UnsafeCell::new(())));
    let sysmon = {
        let shared = shared.clone();
        thread::spawn(move || {
            let (hold, p) = &*shared;
            if let Some(claim) = hold.claim() {
                p.with_mut(|_| ());
                claim.take();
                // It is another's from here on.
                p.with_mut(|_| ());
            }
        })
    };
    let (hold, p) = &*shared;
    for _ in 0..2 {
        p.with_mut(|_| ());
        hold.go_out();
        if !come_in(hold) {
            break;
        }
    }
    sysmon.join().unwrap();
}

#[test]
fn hold() {
    check_fences(2, 4, || hold_with(Hold::come_in));
    check(4, || hold_with(Hold::end_call));
}

/// One sleeps until two others have written, each before it unparks.
fn parker_with(park: fn(&Parker) -> bool, unpark: fn(&Parker)) {
    let shared = Arc::new((Parker::default(), [AtomicUsize::new(0), AtomicUsize::new(0)]));
    let unparkers = [0, 1].map(|i| {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.1[i].store(1, Relaxed);
            unpark(&shared.0);
        })
    });
    let (parker, written) = &*shared;
    while written.iter().any(|w| w.load(Relaxed) == 0) {
        park(parker);
    }
    for thread in unparkers {
        thread.join().unwrap();
    }
}

#[test]
fn parker() {
    check(3, || parker_with(|parker| parker.poll() || parker.poll() || parker.park_until(None), Parker::unpark));
}

/// The first sleep has a deadline.
fn parks_with_alarm(parker: &Parker) -> bool {
    parker.park_until(Some(Instant::now())) || parker.park_until(None)
}

#[test]
fn parker_with_alarm() {
    check(3, || parker_with(parks_with_alarm, Parker::unpark));
}

/// Seeded: who unparks looks and then writes. Meanwhile the other may go to sleep.
#[test]
fn parker_without_a_swap() {
    assert!(fails(3, || {
        parker_with(
            |parker| parker.park_until(None),
            |parker| {
                let asleep = parker.word.value.load(Acquire) == ASLEEP;
                parker.word.value.store(TOKEN, Release);
                if asleep {
                    parker.word.wake();
                }
            },
        );
    }));
}

/// Seeded: at the deadline the word is cleared whatever it is.
#[test]
fn parker_with_a_lost_token() {
    assert!(fails(3, || {
        let park = |parker: &Parker| {
            if parker.word.value.compare_exchange(EMPTY, ASLEEP, Relaxed, Relaxed).is_ok() {
                parker.word.wait(ASLEEP, Some(Instant::now()));
                parker.word.value.store(EMPTY, Relaxed);
            }
            parker.park_until(None)
        };
        parker_with(park, Parker::unpark);
    }));
}

/// Seeded: what was written before the token is not waited for.
#[test]
fn parker_with_a_relaxed_token() {
    assert!(fails(3, || {
        parker_with(
            |parker| parker.park_until(None),
            |parker| {
                if parker.word.value.swap(TOKEN, Relaxed) == ASLEEP {
                    parker.word.wake();
                }
            },
        );
    }));
}

/// A green thread that parks until others have written, with the steps that can be done wrong.
struct Green {
    token: AtomicU16,
    written: Vec<AtomicUsize>,
    /// Its head and stack: the owner's.
    stack: UnsafeCell<()>,
    /// 1 where it is queued to run.
    runnable: Mutex<usize>,
    run: Condvar,
    steps: Steps,
}

#[derive(Clone, Copy)]
struct Steps {
    notify: fn(Token<'_>) -> u16,
    clear: fn(Token<'_>),
    publish: fn(&Green) -> bool,
    scan: fn(Token<'_>) -> bool,
    end_scan: fn(Token<'_>) -> bool,
}

const STEPS: Steps = Steps {
    notify: |token| token.notify(),
    clear: |token| _ = token.clear(),
    publish: Green::save_and_publish,
    scan: |token| token.scan(),
    end_scan: |token| token.end_scan(),
};

impl Green {
    fn new(steps: Steps, unparkers: usize) -> Green {
        Green {
            token: AtomicU16::new(0),
            written: (0..unparkers).map(|_| AtomicUsize::new(0)).collect(),
            stack: UnsafeCell::new(()),
            runnable: Mutex::new(0),
            run: Condvar::new(),
            steps,
        }
    }

    fn save(&self) {
        self.stack.with_mut(|_| ());
    }

    fn save_and_publish(&self) -> bool {
        self.save();
        Token(&self.token).publish(PARKED)
    }

    /// `park`, `park_m`, and the scheduler until it runs again.
    fn park(&self) {
        if Token(&self.token).take() {
            return;
        }
        if (self.steps.publish)(self) {
            let mut runnable = self.runnable.lock().unwrap();
            while *runnable == 0 {
                runnable = self.run.wait(runnable).unwrap();
            }
            *runnable = 0;
            drop(runnable);
            self.save();
        }
        (self.steps.clear)(Token(&self.token));
    }

    fn unpark(&self) {
        if (self.steps.notify)(Token(&self.token)) == PARKED {
            self.wake();
        }
    }

    fn wake(&self) {
        self.save();
        let mut runnable = self.runnable.lock().unwrap();
        *runnable += 1;
        assert_eq!(*runnable, 1, "it is made ready twice");
        self.run.notify_one();
    }

    /// sysmon, once.
    fn scan(&self) {
        if (self.steps.scan)(Token(&self.token)) {
            self.save();
            if !(self.steps.end_scan)(Token(&self.token)) {
                self.wake();
            }
        }
    }

    /// It parks before, while and after the others unpark it.
    fn model(steps: Steps, unparkers: usize, scanner: bool) {
        let green = Arc::new(Green::new(steps, unparkers));
        let mut others: Vec<_> = (0..unparkers)
            .map(|i| {
                let green = green.clone();
                thread::spawn(move || {
                    green.written[i].store(1, Relaxed);
                    green.unpark();
                })
            })
            .collect();
        if scanner {
            let green = green.clone();
            others.push(thread::spawn(move || green.scan()));
        }
        while green.written.iter().any(|written| written.load(Relaxed) == 0) {
            green.park();
        }
        for other in others {
            other.join().unwrap();
        }
    }
}

#[test]
fn token() {
    check(4, || Green::model(STEPS, 2, false));
}

#[test]
fn token_with_a_scanner() {
    check(4, || Green::model(STEPS, 1, true));
    check(2, || Green::model(STEPS, 2, true));
}

/// Seeded: the scanner does a step wrong.
#[test]
fn token_with_mistakes_of_the_scanner() {
    // Not one step: it scans what a waker has taken meanwhile.
    let scan = |token: Token<'_>| {
        let parked = token.0.load(Acquire) == PARKED;
        if parked {
            token.0.store(4, Release);
        }
        parked
    };
    assert!(fails(4, move || Green::model(Steps { scan, ..STEPS }, 1, true)));

    // A wake-up meanwhile is overwritten.
    let end_scan = |token: Token<'_>| {
        token.0.store(PARKED, Release);
        true
    };
    assert!(fails(4, move || Green::model(Steps { end_scan, ..STEPS }, 1, true)));

    // It lets go before it is done.
    let end_scan = |token: Token<'_>| token.0.compare_exchange(4, PARKED, Relaxed, Relaxed).is_ok();
    assert!(fails(4, move || Green::model(Steps { end_scan, ..STEPS }, 1, true)));
}

/// Seeded: one step of three is done wrong.
#[test]
fn token_with_mistakes() {
    // Not one step: a wake-up between the two is lost.
    let notify = |token: Token<'_>| {
        let before = token.0.load(Acquire);
        token.0.store(1, Release);
        before
    };
    assert!(fails(4, move || Green::model(Steps { notify, ..STEPS }, 2, false)));

    // Takes the token without what its waker wrote.
    let clear = |token: Token<'_>| token.0.store(0, Relaxed);
    assert!(fails(4, move || Green::model(Steps { clear, ..STEPS }, 2, false)));

    // Published before it is at rest.
    let publish = |green: &Green| {
        let published = Token(&green.token).publish(PARKED);
        green.save();
        published
    };
    assert!(fails(4, move || Green::model(Steps { publish, ..STEPS }, 2, false)));
}

/// A green thread that waits for two values, with a deadline each time; their sender; and the timer of the first wait, which may
/// fire at any time.
struct Contested {
    token: AtomicU16,
    /// Its sudog in the channel's queue, with its slot, by the number of the wait; and the outcome.
    queue: Mutex<Queue>,
    /// Its head and stack: the owner's.
    stack: UnsafeCell<()>,
    runnable: Mutex<usize>,
    run: Condvar,
    steps: ContestedSteps,
}

#[derive(Default)]
struct Queue {
    waiter: Option<u16>,
    slot: usize,
    done: bool,
}

#[derive(Clone, Copy)]
struct ContestedSteps {
    /// Under the lock: sends 1 to the one that waits; how it is to be woken, or none if it could not be sent.
    send: fn(&Contested, &mut Queue) -> Option<u16>,
    time_out: fn(Token<'_>) -> Option<u16>,
    /// The waiter, when it runs again: what it received, after which the next wait may begin.
    end: fn(&Contested) -> Option<usize>,
}

const CONTESTED: ContestedSteps = ContestedSteps {
    send: |contested, queue| {
        queue.waiter.take()?;
        queue.slot = 1;
        queue.done = true;
        let claimed = Token(&contested.token).claim(NOTIFIED);
        queue.done = claimed.is_some();
        claimed
    },
    time_out: |token| token.time_out(Seq(1)),
    end: |contested| {
        let received = contested.dequeue();
        Token(&contested.token).reset();
        received
    },
};

impl Contested {
    fn dequeue(&self) -> Option<usize> {
        let mut queue = self.queue.lock().unwrap();
        queue.waiter = None;
        queue.done.then_some(queue.slot)
    }

    fn wake(&self, before: Option<u16>) {
        if before == Some(PARKED) {
            self.stack.with_mut(|_| ());
            let mut runnable = self.runnable.lock().unwrap();
            *runnable += 1;
            assert_eq!(*runnable, 1, "it is made ready twice");
            self.run.notify_one();
        }
    }

    /// The wait of this number, by its waiter.
    fn wait(&self, seq: u16, timed: bool) -> Option<usize> {
        *self.queue.lock().unwrap() = Queue { waiter: Some(seq), slot: 0, done: false };
        self.stack.with_mut(|_| ());
        let token = Token(&self.token);
        if if timed { token.publish_timed(Seq(seq)) } else { token.publish(PARKED) } {
            let mut runnable = self.runnable.lock().unwrap();
            while *runnable == 0 {
                runnable = self.run.wait(runnable).unwrap();
            }
            *runnable = 0;
            drop(runnable);
            self.stack.with_mut(|_| ());
        }
        (self.steps.end)(self)
    }

    /// All waits but the first have no other end than a value.
    fn model(steps: ContestedSteps) {
        let contested = Arc::new(Contested {
            token: AtomicU16::new(0),
            queue: Mutex::default(),
            stack: UnsafeCell::new(()),
            runnable: Mutex::new(0),
            run: Condvar::new(),
            steps,
        });
        let timer = {
            let contested = contested.clone();
            thread::spawn(move || contested.wake((contested.steps.time_out)(Token(&contested.token))))
        };
        let sender = {
            let contested = contested.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    // Until somebody waits whom the timer has not been faster for.
                    loop {
                        let before = (contested.steps.send)(&contested, &mut contested.queue.lock().unwrap());
                        contested.wake(before);
                        if before.is_some() {
                            break;
                        }
                        thread::yield_now();
                    }
                }
            })
        };
        let first = contested.wait(1, true);
        assert!(first != Some(0), "a value that nobody sent");
        for seq in if first.is_none() { 2..=3 } else { 2..=2 } {
            assert_eq!(contested.wait(seq, true), Some(1), "a wait was ended by the timer of another");
        }
        timer.join().unwrap();
        sender.join().unwrap();
    }
}

#[test]
fn contested() {
    check(3, || Contested::model(CONTESTED));
}

/// Seeded: one step is done wrong.
#[test]
fn contested_with_mistakes() {
    // The timer does not look at the number: it ends a later wait.
    let time_out = |token: Token<'_>| {
        let parked = token.state() == PARKED;
        if parked { token.claim(TIMED_OUT) } else { None }
    };
    assert!(fails(3, move || Contested::model(ContestedSteps { time_out, ..CONTESTED })));

    // The sender swaps: it does not see that the timer was faster.
    let send = |contested: &Contested, queue: &mut Queue| {
        queue.waiter.take()?;
        (queue.slot, queue.done) = (1, true);
        Some(Token(&contested.token).notify())
    };
    let late = |contested: &Contested| {
        let timed_out = Token(&contested.token).state() == TIMED_OUT;
        let received = contested.dequeue().filter(|_| !timed_out);
        Token(&contested.token).reset();
        received
    };
    assert!(fails(3, move || Contested::model(ContestedSteps { send, end: late, ..CONTESTED })));

    // The waiter takes its token before it has left the queue: a sender claims a wait that is over.
    let end = |contested: &Contested| {
        Token(&contested.token).reset();
        contested.dequeue()
    };
    assert!(fails(3, move || Contested::model(ContestedSteps { end, ..CONTESTED })));
}

/// A green thread that waits for a value; its sender; and a canceller, with sysmon, which may come at any time. If its first wait
/// is interrupted, it waits for the value where it must not be. In the end it waits for nothing: that it can be cancelled only.
struct Interrupted {
    token: AtomicU16,
    cancelled: AtomicBool,
    queue: Mutex<Queue>,
    /// Its head and stack: the owner's.
    stack: UnsafeCell<()>,
    runnable: Mutex<usize>,
    run: Condvar,
    steps: InterruptedSteps,
}

#[derive(Clone, Copy)]
struct InterruptedSteps {
    interrupt: fn(Token<'_>) -> Option<u16>,
    /// The waiter was notified, and runs.
    notified: fn(&Interrupted),
    /// It was interrupted, and somebody else has dequeued it.
    too_late: fn(&Interrupted),
}

const INTERRUPTED: InterruptedSteps = InterruptedSteps {
    interrupt: |token| token.cancel(),
    notified: |this| {
        Token(&this.token).reset();
        this.rearm();
    },
    too_late: |this| assert!(this.rest(false), "it may not be interrupted"),
};

impl Interrupted {
    fn rearm(&self) {
        if self.cancelled.load(Relaxed) {
            let _ = Token(&self.token).cancel();
        }
    }

    fn wake(&self, before: Option<u16>) {
        if before == Some(PARKED) {
            self.stack.with_mut(|_| ());
            let mut runnable = self.runnable.lock().unwrap();
            *runnable += 1;
            assert_eq!(*runnable, 1, "it is made ready twice");
            self.run.notify_one();
        }
    }

    /// `cancel::rest`.
    fn rest(&self, may_leave: bool) -> bool {
        let token = Token(&self.token);
        loop {
            self.stack.with_mut(|_| ());
            if token.publish(PARKED) {
                let mut runnable = self.runnable.lock().unwrap();
                while *runnable == 0 {
                    runnable = self.run.wait(runnable).unwrap();
                }
                *runnable = 0;
                drop(runnable);
                self.stack.with_mut(|_| ());
            }
            if token.state() == NOTIFIED {
                (self.steps.notified)(self);
                return true;
            }
            if may_leave {
                return false;
            }
            token.uncancel();
        }
    }

    /// A wait in a channel: what it got, if it was not interrupted.
    fn wait(&self, may_leave: bool) -> Option<usize> {
        *self.queue.lock().unwrap() = Queue { waiter: Some(1), slot: 0, done: false };
        if !self.rest(may_leave) {
            if self.queue.lock().unwrap().waiter.take().is_some() {
                return None;
            }
            (self.steps.too_late)(self);
        }
        Some(self.queue.lock().unwrap().slot)
    }

    fn model(steps: InterruptedSteps) {
        let this = Arc::new(Interrupted {
            token: AtomicU16::new(0),
            cancelled: AtomicBool::new(false),
            queue: Mutex::default(),
            stack: UnsafeCell::new(()),
            runnable: Mutex::new(0),
            run: Condvar::new(),
            steps,
        });
        let canceller = {
            let this = this.clone();
            thread::spawn(move || {
                this.cancelled.store(true, Relaxed);
                // sysmon tries again.
                let before = loop {
                    match (this.steps.interrupt)(Token(&this.token)) {
                        None => thread::yield_now(),
                        before => break before,
                    }
                };
                this.wake(before);
            })
        };
        let sender = {
            let this = this.clone();
            thread::spawn(move || {
                loop {
                    let mut queue = this.queue.lock().unwrap();
                    if queue.waiter.take().is_some() {
                        queue.slot = 1;
                        break;
                    }
                    drop(queue);
                    thread::yield_now();
                }
                this.wake(Some(Token(&this.token).notify()));
            })
        };
        if this.wait(true).is_none_or(|value| value != 1) {
            assert_eq!(this.wait(false), Some(1), "a wait was ended by the wake-up of another");
        }
        assert!(!this.rest(true), "nobody notifies it");
        canceller.join().unwrap();
        sender.join().unwrap();
    }
}

#[test]
fn cancelled() {
    check(3, || Interrupted::model(INTERRUPTED));
}

/// Seeded: one step is done wrong.
#[test]
fn cancelled_with_mistakes() {
    // The request is not put back where a wake-up may have written over it.
    let notified = |this: &Interrupted| Token(&this.token).reset();
    assert!(fails(3, move || Interrupted::model(InterruptedSteps { notified, ..INTERRUPTED })));

    // It does not wait for the wake-up that is on its way.
    let too_late = |this: &Interrupted| Token(&this.token).uncancel();
    assert!(fails(3, move || Interrupted::model(InterruptedSteps { too_late, ..INTERRUPTED })));

    // The canceller writes over a wake-up that has come.
    let interrupt = |token: Token<'_>| Some(token.0.swap(CANCELLED, AcqRel));
    assert!(fails(3, move || Interrupted::model(InterruptedSteps { interrupt, ..INTERRUPTED })));
}

/// A worker that wakes twice; sysmon has to see it busy.
#[test]
fn alarm() {
    check_fences(2, 4, || {
        let shared = Arc::new((Alarm::default(), AtomicBool::new(true)));
        let sysmon = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (alarm, idle) = &*shared;
                while idle.load(Relaxed) {
                    alarm.sleep_if(|| idle.load(Relaxed), || None);
                }
            })
        };
        let (alarm, idle) = &*shared;
        idle.store(false, Relaxed);
        alarm.worker_woke();
        idle.store(true, Relaxed);
        idle.store(false, Relaxed);
        alarm.worker_woke();
        sysmon.join().unwrap();
    });
}

/// The timers of a worker that inserts, and a runtime of the others. The clock stands still, and all are late.
struct Sleepers(Timers<()>, Arc<Pool>);

/// When they are due.
const WHEN: u64 = 1;

impl Sleepers {
    fn new(workers: usize, sleepers: usize) -> Arc<Sleepers> {
        Arc::new(Sleepers(Timers::new(), Pool::new(workers, 0, sleepers, |_| ())))
    }

    /// By the one thread that does.
    fn insert(&self) {
        // SAFETY: the calling thread is the only one that inserts, so it is the holder.
        unsafe { self.0.insert(WHEN, (), false) };
    }

    fn steal(&self) -> bool {
        let stolen = self.0.steal(WHEN).is_some();
        if stolen {
            self.1.run_job();
        }
        stolen
    }
}

/// A worker inserts a timer and then does not look again; another goes to sleep meanwhile. sysmon, which has a look at
/// them, tells so many times.
fn late_timer_with(sysmon: fn(&Sleepers)) {
    let sleepers = Sleepers::new(1, 1);
    let thief = {
        let sleepers = sleepers.clone();
        thread::spawn(move || {
            let pool = &sleepers.1;
            let me = &pool.sleep_states[0];
            while !pool.stop.load(Relaxed) {
                pool.idle.start_spinning(&**pool, me);
                if !sleepers.steal() {
                    pool.sleep(me, 0, || pool.looks(0), || None);
                }
            }
            pool.idle.stop_spinning(&**pool, me);
        })
    };
    sleepers.insert();
    sysmon(&sleepers);
    sleepers.1.finish([thief]);
}

#[test]
fn late_timer() {
    check(3, || {
        late_timer_with(|sleepers| {
            while sleepers.0.want_help(WHEN + HELP_AFTER) {
                sleepers.1.idle.wakep(&*sleepers.1);
                thread::yield_now();
            }
        });
    });
}

/// Seeded: sysmon does not repeat itself. It may have relied on a worker that had looked already.
#[test]
fn late_timer_told_once() {
    assert!(fails(3, || {
        late_timer_with(|sleepers| {
            if sleepers.0.want_help(WHEN + HELP_AFTER) {
                sleepers.1.idle.wakep(&*sleepers.1);
            }
        });
    }));
}

/// A worker inserts two timers and sleeps, with an alarm while there are any; a thief comes once.
fn timer_and_thief_with(steal: fn(&Sleepers) -> bool) {
    let sleepers = Sleepers::new(1, 2);
    let thief = {
        let sleepers = sleepers.clone();
        thread::spawn(move || {
            steal(&sleepers);
        })
    };
    let pool = &sleepers.1;
    let me = &pool.sleep_states[0];
    sleepers.insert();
    sleepers.insert();
    while !pool.stop.load(Relaxed) {
        if sleepers.steal() {
            continue;
        }
        // The deadline passes at any time, so an alarm has gone off when this returns.
        pool.sleep(me, 0, || pool.looks(0), || (sleepers.0.next() != NEVER).then(Instant::now));
    }
    pool.idle.stop_spinning(&**pool, me);
    thief.join().unwrap();
    sleepers.1.finish([]);
}

#[test]
fn timer_and_thief() {
    check(4, || timer_and_thief_with(Sleepers::steal));
}

/// Seeded: the thief publishes the next time when it has let go of the lock. It may hide what was inserted since.
#[test]
fn timer_and_thief_with_a_late_store() {
    assert!(fails(4, || {
        timer_and_thief_with(|sleepers| {
            let stolen = sleepers.0.steal_with_a_late_store(WHEN);
            if stolen.is_some() {
                sleepers.1.run_job();
            }
            stolen.is_some()
        });
    }));
}

/// A thread from outside makes a green thread ready; a worker runs it, and the runtime is freed.
fn visitors_with(enter: fn(&Visitors) -> Option<Visit<'_>>) {
    let runtime = Arc::new((Visitors::default(), AtomicUsize::new(0), UnsafeCell::new(())));
    let visitor = {
        let runtime = runtime.clone();
        thread::spawn(move || {
            let (visitors, queue, memory) = &*runtime;
            let visit = enter(visitors);
            queue.store(1, Release);
            // `wakep` and `wake_tied`.
            memory.with(|_| ());
            drop(visit);
        })
    };
    let worker = {
        let runtime = runtime.clone();
        thread::spawn(move || {
            while runtime.1.load(Acquire) == 0 {
                thread::yield_now();
            }
        })
    };
    worker.join().unwrap();
    runtime.0.wait();
    runtime.2.with_mut(|_| ());
    visitor.join().unwrap();
}

#[test]
fn visitors() {
    check(4, || visitors_with(|visitors| Some(visitors.enter())));
}

/// Seeded: it is not counted.
#[test]
fn visitors_without_a_count() {
    assert!(fails(4, || visitors_with(|_| None)));
}

/// A green thread stores its result and is done; another of its runtime joins it.
fn join_with(register: fn(&Word, *mut G) -> bool, finish: fn(&Word) -> *mut G) {
    let joiner = std::ptr::without_provenance_mut(64);
    let child = Arc::new((Word::default(), UnsafeCell::new(0), Green::new(STEPS, 0)));
    let runs = {
        let child = child.clone();
        thread::spawn(move || {
            let (word, result, green) = &*child;
            // SAFETY: loom sees to it.
            result.with_mut(|result| unsafe { *result = 1 });
            match finish(word) {
                NOBODY => {}
                found => {
                    assert_eq!(found, joiner);
                    green.unpark();
                }
            }
        })
    };
    let (word, result, green) = &*child;
    if register(word, joiner) {
        green.park();
    }
    // SAFETY: as above.
    assert_eq!(result.with(|result| unsafe { *result }), 1);
    assert!(word.is_done());
    runs.join().unwrap();
}

#[test]
fn join() {
    check(4, || join_with(Word::register, Word::finish));
}

/// Seeded: who ends looks for a joiner, and then is done.
#[test]
fn join_without_a_swap() {
    let finish = |word: &Word| {
        let found = word.0.load(Acquire);
        word.0.store(DONE, Release);
        found
    };
    assert!(fails(4, move || join_with(Word::register, finish)));
}

/// Seeded: who finds DONE has not acquired what was done before.
#[test]
fn join_without_acquiring() {
    let register = |word: &Word, joiner| word.0.compare_exchange(NOBODY, joiner, AcqRel, Relaxed).is_ok();
    assert!(fails(4, move || join_with(register, Word::finish)));
}

/// A thread from outside joins a green thread, the last of its runtime, which is freed after it.
fn join_from_outside_with(take_waiter: fn(&Mutex<bool>) -> bool) {
    let child = Arc::new((Word::default(), Mutex::new(false), UnsafeCell::new(()), AtomicBool::new(false)));
    let runs = {
        let child = child.clone();
        thread::spawn(move || {
            let (word, waiter, runtime, unparked) = &*child;
            let wakes = word.finish() == OTHER && take_waiter(waiter);
            runtime.with_mut(|_| ());
            if wakes {
                unparked.store(true, Release);
            }
        })
    };
    let (word, waiter, runtime, unparked) = &*child;
    let waits = {
        let mut waiter = waiter.lock().unwrap();
        let registers = word.register(OTHER);
        let done = word.is_done();
        if !done {
            runtime.with(|_| ());
            *waiter = registers;
        }
        !done
    };
    while waits && !unparked.load(Acquire) {
        thread::yield_now();
    }
    runs.join().unwrap();
}

#[test]
fn join_from_outside() {
    check(4, || join_from_outside_with(|waiter| std::mem::take(&mut *waiter.lock().unwrap())));
}

/// Seeded: who ends does not wait for the joiner's critical section.
#[test]
fn join_from_outside_without_the_lock() {
    assert!(fails(4, || join_from_outside_with(|_| true)));
}

/// A green thread, and what futures leave for its end: the waker, under the lock, and what tells that it was woken.
#[derive(Default)]
struct Polled {
    word: Word,
    result: UnsafeCell<u32>,
    waker: Mutex<Option<usize>>,
    runtime: UnsafeCell<()>,
    woken: [AtomicBool; 2],
}

impl Polled {
    /// It ends, the last of its runtime. Returns the state that it found.
    fn end(&self) -> *mut G {
        // SAFETY: loom sees to it.
        self.result.with_mut(|result| unsafe { *result = 1 });
        let found = self.word.finish();
        let waker = if found == OTHER { self.waker.lock().unwrap().take() } else { None };
        self.runtime.with_mut(|_| ());
        if let Some(waker) = waker {
            self.woken[waker].store(true, Release);
        }
        found
    }

    /// Whether it is pending.
    fn poll(&self, waker: usize) -> bool {
        let mut left = self.waker.lock().unwrap();
        self.word.register(OTHER);
        if self.word.is_done() {
            return false;
        }
        self.runtime.with(|_| ());
        *left = Some(waker);
        true
    }

    fn withdraw(&self) {
        let mut left = self.waker.lock().unwrap();
        if self.word.is_done() {
            return;
        }
        self.runtime.with(|_| ());
        if self.word.withdraw() {
            *left = None;
        }
    }

    fn take(&self) {
        assert!(self.word.is_done());
        // SAFETY: loom sees to it.
        assert_eq!(self.result.with(|result| unsafe { *result }), 1);
    }
}

/// A future is polled with one waker, and then with another, which it waits for.
fn polls_with(again: fn(&Polled, usize) -> bool) {
    let child = Arc::new(Polled::default());
    let runs = {
        let child = child.clone();
        thread::spawn(move || {
            child.end();
        })
    };
    if child.poll(0) && again(&child, 1) {
        while !child.woken[1].load(Acquire) {
            thread::yield_now();
        }
    }
    child.take();
    runs.join().unwrap();
}

#[test]
fn polls() {
    check(4, || polls_with(Polled::poll));
}

/// Seeded: it looks whether the green thread is done, and then replaces the waker.
#[test]
fn polls_with_an_early_look() {
    assert!(fails(4, || {
        polls_with(|child, waker| {
            if child.word.is_done() {
                return false;
            }
            *child.waker.lock().unwrap() = Some(waker);
            true
        });
    }));
}

/// A future is polled, and then joined by a green thread of the same runtime.
fn poll_and_join_with(withdraw: fn(&Polled)) {
    let joiner = std::ptr::without_provenance_mut(64);
    let shared = Arc::new((Polled::default(), Green::new(STEPS, 0)));
    let runs = {
        let shared = shared.clone();
        thread::spawn(move || {
            if shared.0.end() == joiner {
                shared.1.unpark();
            }
        })
    };
    let (child, green) = &*shared;
    if child.poll(0) {
        withdraw(child);
        if child.word.register(joiner) {
            green.park();
        }
    }
    child.take();
    runs.join().unwrap();
}

#[test]
fn poll_and_join() {
    check(4, || poll_and_join_with(Polled::withdraw));
}

/// Seeded: it does not look whether the green thread is done meanwhile.
#[test]
fn poll_and_join_by_a_store() {
    assert!(fails(4, || {
        poll_and_join_with(|child| {
            let _left = child.waker.lock().unwrap();
            child.word.0.store(NOBODY, Release);
        });
    }));
}

/// Seeded: it uses the runtime when the end waits for nobody any more.
#[test]
fn poll_and_join_with_a_late_registration() {
    assert!(fails(4, || {
        poll_and_join_with(|child| {
            let _left = child.waker.lock().unwrap();
            if child.word.withdraw() {
                child.runtime.with(|_| ());
            }
        });
    }));
}

/// A worker spawns more than there is room for, joins the last, and looks for the rest; a thief comes twice.
fn young_with(steal: fn(&Young<UnsafeCell<bool>>) -> Option<NonNull<UnsafeCell<bool>>>) {
    const SPAWNS: usize = 3;
    // Per entry: whether it was taken.
    let entries: Arc<[UnsafeCell<bool>]> = (0..SPAWNS).map(|_| UnsafeCell::new(true)).collect();
    let young = Arc::new(Young::new());
    let taken = |entry: NonNull<UnsafeCell<bool>>| {
        // SAFETY: the entries live until the end; loom sees to the rest.
        unsafe { entry.as_ref() }.with_mut(|taken| assert!(!std::mem::replace(unsafe { &mut *taken }, true)));
    };
    let thief = {
        let (young, entries) = (young.clone(), entries.clone());
        thread::spawn(move || {
            (0..2).filter_map(|_| steal(&young)).for_each(taken);
            drop(entries);
        })
    };
    for entry in &*entries {
        // SAFETY: as above; it is not there yet.
        entry.with_mut(|taken| unsafe { *taken = false });
        if !young.push(NonNull::from(entry), Spawner::default()) {
            young.take_oldest().into_iter().for_each(taken);
            assert!(young.push(NonNull::from(entry), Spawner::default()));
        }
    }
    let last = NonNull::from(&entries[SPAWNS - 1]);
    if young.take(last) {
        taken(last);
    }
    young.take_next().into_iter().for_each(taken);
    std::iter::from_fn(|| young.take_oldest()).for_each(taken);
    thief.join().unwrap();
    // SAFETY: as above.
    assert!(entries.iter().all(|entry| entry.with(|taken| unsafe { *taken })));
    assert!(young.is_empty());
}

#[test]
fn young() {
    check(4, || young_with(Young::steal));
}

/// Seeded: the thief takes by a load and a store.
#[test]
fn young_by_load_and_store() {
    assert!(fails(4, || young_with(Young::steal_by_load_and_store)));
}

/// Three threads that lock something once each, and one of them twice; each changes what it protects.
fn locks<L: 'static>(new: fn() -> L, lock: fn(&L), unlock: fn(&L)) {
    let shared = Arc::new((new(), UnsafeCell::new(0)));
    let others = [0, 1].map(|_| {
        let shared = shared.clone();
        thread::spawn(move || locked(&shared, lock, unlock))
    });
    locked(&shared, lock, unlock);
    locked(&shared, lock, unlock);
    for other in others {
        other.join().unwrap();
    }
    // SAFETY: the others are gone.
    assert_eq!(shared.1.with(|n| unsafe { *n }), 4);
}

fn locked<L>(shared: &(L, UnsafeCell<i32>), lock: fn(&L), unlock: fn(&L)) {
    lock(&shared.0);
    // SAFETY: loom sees to it.
    shared.1.with_mut(|n| unsafe { *n += 1 });
    unlock(&shared.0);
}

/// Two threads that lock it twice each. With three, those who wait could give way to each other for ever.
fn spin_with(unlock: fn(&RawSpin)) {
    let shared = Arc::new((RawSpin::new(), UnsafeCell::new(0)));
    let twice = move |shared: &_| (0..2).for_each(|_| locked(shared, RawSpin::acquire, unlock));
    let other = {
        let shared = shared.clone();
        thread::spawn(move || twice(&shared))
    };
    twice(&shared);
    other.join().unwrap();
    // SAFETY: the other is gone.
    assert_eq!(shared.1.with(|n| unsafe { *n }), 4);
}

#[test]
fn spin() {
    check(4, || spin_with(RawSpin::release));
}

/// Seeded: what was done under it is not released with it.
#[test]
fn spin_with_a_relaxed_release() {
    assert!(fails(4, || spin_with(RawSpin::release_relaxed)));
}

/// Waits; whether the mutex is its own then.
fn granted(wait: &Wait) -> bool {
    matches!(wait.block(Until::DEQUEUED), How::Dequeued(Outcome::Granted))
}

fn unlock_mutex(mutex: &RawMutex) {
    // SAFETY: locked by this thread just before.
    unsafe { mutex.release() };
}

/// It is granted to who waits.
fn unlock_mutex_fair(mutex: &RawMutex) {
    // SAFETY: as above.
    unsafe { mutex.release_fair() };
}

#[test]
fn mutex() {
    check(3, || locks(RawMutex::new, RawMutex::acquire, unlock_mutex));
    check(3, || locks(RawMutex::new, RawMutex::acquire, unlock_mutex_fair));
}

/// Seeded: who queues does not look whether the mutex is locked still.
#[test]
fn mutex_without_a_look() {
    let lock = |mutex: &RawMutex| {
        while !mutex.try_acquire() {
            let mut waiters = mutex.waiters.lock();
            mutex.state.fetch_or(QUEUED, Relaxed);
            let wait = Wait::new(0);
            waiters.queue.push(&wait);
            drop(waiters);
            if granted(&wait) {
                return;
            }
            mutex.state.fetch_and(!WOKEN, Relaxed);
        }
    };
    assert!(fails(3, move || locks(RawMutex::new, lock, unlock_mutex)));
}

/// Seeded: who was woken does not say that it has come.
#[test]
fn mutex_with_a_woken_one_for_ever() {
    let lock = |mutex: &RawMutex| {
        while !mutex.try_acquire() {
            if mutex.queue(0).is_some_and(|wait| granted(&wait)) {
                return;
            }
        }
    };
    assert!(fails(3, move || locks(RawMutex::new, lock, unlock_mutex)));
}

/// Seeded: what was done under the mutex is not released with it.
#[test]
fn mutex_with_a_relaxed_release() {
    let unlock = |mutex: &RawMutex| {
        if mutex.state.compare_exchange(LOCKED, 0, Relaxed, Relaxed).is_err() {
            unlock_mutex(mutex);
        }
    };
    assert!(fails(3, move || locks(RawMutex::new, RawMutex::acquire, unlock)));
}

fn unlock_semaphore(semaphore: &RawSemaphore) {
    assert!(semaphore.release(1));
}

#[test]
fn semaphore() {
    check(2, || {
        locks(|| RawSemaphore::new(1), |semaphore| _ = semaphore.acquire(1, Until::DEQUEUED), unlock_semaphore)
    });
    // One that needs all of them, one of each.
    check(2, || {
        let shared = Arc::new((RawSemaphore::new(2), UnsafeCell::new(())));
        let others = [0, 1].map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.0.acquire(1, Until::DEQUEUED);
                shared.1.with(|_| ());
                unlock_semaphore(&shared.0);
            })
        });
        shared.0.acquire(2, Until::DEQUEUED);
        shared.1.with_mut(|_| ());
        assert!(shared.0.release(2));
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(shared.0.state.load(Relaxed), 2 * PERMIT);
    });
}

/// Seeded: who queues does not look whether there is a permit now.
#[test]
fn semaphore_without_a_look() {
    let acquire = |semaphore: &RawSemaphore| {
        if !semaphore.try_acquire(1) {
            let mut queue = semaphore.queue.lock();
            semaphore.state.fetch_or(semaphore::QUEUED, Relaxed);
            let wait = Wait::new(1);
            queue.push(&wait);
            drop(queue);
            wait.block(Until::DEQUEUED);
        }
    };
    assert!(fails(3, move || locks(|| RawSemaphore::new(1), acquire, unlock_semaphore)));
}

/// Seeded: who gives back does not look whether anybody waits.
#[test]
fn semaphore_with_a_blind_release() {
    let release = |semaphore: &RawSemaphore| {
        semaphore.state.fetch_add(PERMIT, Release);
    };
    assert!(fails(3, move || locks(
        || RawSemaphore::new(1),
        |semaphore| _ = semaphore.acquire(1, Until::DEQUEUED),
        release
    )));
}

/// A writer or two, and readers.
fn rwlock_with(writers: usize, readers: usize, read: fn(&RawRwLock), done: fn(&RawRwLock)) {
    let shared = Arc::new((RawRwLock::new(), UnsafeCell::new(())));
    let readers = (0..readers).map(|_| {
        let shared = shared.clone();
        thread::spawn(move || {
            read(&shared.0);
            shared.1.with(|_| ());
            done(&shared.0);
        })
    });
    let readers: Vec<_> = readers.collect();
    for _ in 0..writers {
        shared.0.acquire_exclusive();
        shared.1.with_mut(|_| ());
        // SAFETY: locked just now.
        unsafe { shared.0.release_exclusive() };
    }
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(shared.0.state.load(Relaxed), 0);
}

fn done_reading(lock: &RawRwLock) {
    // SAFETY: it reads.
    unsafe { lock.release_shared() };
}

#[test]
fn rwlock() {
    check(2, || rwlock_with(2, 2, RawRwLock::acquire_shared, done_reading));
    check(2, || {
        let twice = |lock: &RawRwLock| {
            lock.acquire_shared();
            lock.acquire_shared_recursive();
        };
        rwlock_with(1, 2, twice, |lock| {
            done_reading(lock);
            done_reading(lock);
        });
    });
    check(2, || {
        let locks = |lock: &RawRwLock| lock.acquire_exclusive();
        // SAFETY: locked by it just before.
        rwlock_with(1, 2, locks, |lock| unsafe { lock.release_exclusive() });
    });
}

/// Seeded: who reads twice queues the second time, behind a writer that waits for it.
#[test]
fn rwlock_without_recursion() {
    assert!(fails(3, || {
        let twice = |lock: &RawRwLock| {
            lock.acquire_shared();
            lock.acquire_shared();
        };
        rwlock_with(1, 2, twice, |lock| {
            done_reading(lock);
            done_reading(lock);
        });
    }));
}

/// Seeded: the last reader does not look whether anybody waits.
#[test]
fn rwlock_with_a_blind_reader() {
    let done = |lock: &RawRwLock| {
        lock.state.fetch_sub(READER, Release);
    };
    assert!(fails(3, move || rwlock_with(1, 2, RawRwLock::acquire_shared, done)));
}

/// A deadline that is there: who waits leaves, at once or after anything that the others do before.
fn now() -> Until {
    Until::at(Instant::now())
}

/// Threads that lock something once each, as they may: each changes what it protects if it was not too late. It is free then.
fn left<L: 'static>(new: fn() -> L, lock: &[fn(&L) -> bool], unlock: fn(&L), is_free: fn(&L) -> bool) {
    let shared = Arc::new((new(), UnsafeCell::new(0)));
    let run = move |shared: &(L, UnsafeCell<i32>), lock: fn(&L) -> bool| {
        let locked = lock(&shared.0);
        if locked {
            // SAFETY: loom sees to it.
            shared.1.with_mut(|n| unsafe { *n += 1 });
            unlock(&shared.0);
        }
        i32::from(locked)
    };
    let others: Vec<_> = lock[1..]
        .iter()
        .map(|&lock| {
            let shared = shared.clone();
            thread::spawn(move || run(&shared, lock))
        })
        .collect();
    let locked = run(&shared, lock[0]) + others.into_iter().map(|other| other.join().unwrap()).sum::<i32>();
    // SAFETY: the others are gone.
    assert_eq!(shared.1.with(|n| unsafe { *n }), locked);
    assert!(is_free(&shared.0));
}

fn waits(mutex: &RawMutex) -> bool {
    mutex.acquire_until(Until::DEQUEUED)
}

fn leaves(mutex: &RawMutex) -> bool {
    mutex.acquire_until(now())
}

fn is_free(mutex: &RawMutex) -> bool {
    mutex.state.load(Relaxed) == 0
}

#[test]
fn mutex_left() {
    for unlock in [unlock_mutex, unlock_mutex_fair] {
        check(3, move || left(RawMutex::new, &[waits, waits, leaves], unlock, is_free));
        check(3, move || left(RawMutex::new, &[waits, leaves, leaves], unlock, is_free));
    }
}

/// The wait of one that leaves as `leave` says. False: it has left.
fn leave_mutex(mutex: &RawMutex, leave: fn(&RawMutex, &Wait) -> bool) -> bool {
    loop {
        if mutex.try_acquire() {
            return true;
        }
        if let Some(wait) = mutex.queue(0) {
            match wait.block(now()) {
                How::Dequeued(Outcome::Granted) => return true,
                How::Dequeued(_) => {
                    mutex.state.fetch_and(!WOKEN, Relaxed);
                }
                How::Early => return leave(mutex, &wait),
            }
        }
    }
}

/// Seeded: the last one leaves QUEUED behind.
#[test]
fn mutex_left_as_if_others_waited() {
    fn leave(mutex: &RawMutex, wait: &Wait) -> bool {
        let outcome = mutex.waiters.lock().queue.leave(wait);
        if outcome != Outcome::Waiting {
            wait.block(Until::DEQUEUED);
        }
        if outcome == Outcome::Woken {
            mutex.state.fetch_and(!WOKEN, Relaxed);
        }
        outcome == Outcome::Granted
    }
    let lock = |mutex: &RawMutex| leave_mutex(mutex, leave);
    assert!(fails(3, move || left(RawMutex::new, &[waits, waits, lock], unlock_mutex, is_free)));
}

/// Seeded: one that was woken leaves, and WOKEN stays.
#[test]
fn mutex_left_by_the_woken() {
    fn leave(mutex: &RawMutex, wait: &Wait) -> bool {
        let mut waiters = mutex.waiters.lock();
        let outcome = waiters.queue.leave(wait);
        if waiters.queue.is_empty() {
            mutex.state.fetch_and(!QUEUED, Relaxed);
        }
        drop(waiters);
        if outcome != Outcome::Waiting {
            wait.block(Until::DEQUEUED);
        }
        outcome == Outcome::Granted
    }
    let lock = |mutex: &RawMutex| leave_mutex(mutex, leave);
    assert!(fails(3, move || left(RawMutex::new, &[waits, waits, lock], unlock_mutex, is_free)));
}

fn takes_one(semaphore: &RawSemaphore) -> bool {
    semaphore.acquire(1, Until::DEQUEUED)
}

/// As many as there are never at a time, and keeps none.
fn asks_for_too_many(semaphore: &RawSemaphore) -> bool {
    assert!(!semaphore.acquire(2, now()));
    false
}

fn has_one(semaphore: &RawSemaphore) -> bool {
    semaphore.state.load(Relaxed) == PERMIT
}

#[test]
fn semaphore_left() {
    let one = || RawSemaphore::new(1);
    check(3, move || left(one, &[takes_one, asks_for_too_many, takes_one], unlock_semaphore, has_one));
    let leaves = |semaphore: &RawSemaphore| semaphore.acquire(1, now());
    check(3, move || left(one, &[leaves, asks_for_too_many, takes_one], unlock_semaphore, has_one));
    check(3, move || left(one, &[takes_one, leaves, leaves], unlock_semaphore, has_one));
}

/// Seeded: who leaves, and was the first, does not look whether there is enough for the next.
#[test]
fn semaphore_left_without_a_grant() {
    let leave = |semaphore: &RawSemaphore| {
        if let Some(wait) = semaphore.queue(2)
            && let How::Early = wait.block(now())
        {
            let mut queue = semaphore.queue.lock();
            queue.leave(&wait);
            if queue.is_empty() {
                semaphore.state.fetch_and(!semaphore::QUEUED, Relaxed);
            }
        }
        false
    };
    let one = || RawSemaphore::new(1);
    assert!(fails(3, move || left(one, &[takes_one, leave, takes_one], unlock_semaphore, has_one)));
}

/// Writers and readers of which some leave: exclusion, and nothing stays behind.
fn rwlock_left_by(write: fn(&RawRwLock) -> bool, read: fn(&RawRwLock) -> bool) {
    let shared = Arc::new((RawRwLock::new(), UnsafeCell::new(())));
    let reader = |read: fn(&RawRwLock) -> bool| {
        let shared = shared.clone();
        thread::spawn(move || {
            if read(&shared.0) {
                shared.1.with(|_| ());
                done_reading(&shared.0);
            }
        })
    };
    let readers = [reader(read), reader(reads)];
    if write(&shared.0) {
        shared.1.with_mut(|_| ());
        // SAFETY: locked just now.
        unsafe { shared.0.release_exclusive() };
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(shared.0.state.load(Relaxed), 0);
}

fn reads(lock: &RawRwLock) -> bool {
    lock.acquire_shared_until(Until::DEQUEUED)
}

fn reads_or_leaves(lock: &RawRwLock) -> bool {
    lock.acquire_shared_until(now())
}

fn writes(lock: &RawRwLock) -> bool {
    lock.acquire_exclusive_until(Until::DEQUEUED)
}

fn writes_or_leaves(lock: &RawRwLock) -> bool {
    lock.acquire_exclusive_until(now())
}

/// One reads until another does, which comes behind a writer that leaves.
fn readers_meet(write: fn(&RawRwLock) -> bool) {
    let shared = Arc::new((RawRwLock::new(), Mutex::new(false), Condvar::new()));
    shared.0.acquire_shared();
    let writer = {
        let shared = shared.clone();
        thread::spawn(move || assert!(!write(&shared.0), "somebody reads"))
    };
    let reader = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.0.acquire_shared();
            *shared.1.lock().unwrap() = true;
            shared.2.notify_one();
            done_reading(&shared.0);
        })
    };
    let mut met = shared.1.lock().unwrap();
    while !*met {
        met = shared.2.wait(met).unwrap();
    }
    drop(met);
    // Before, the writer might have got it.
    writer.join().unwrap();
    done_reading(&shared.0);
    reader.join().unwrap();
    assert_eq!(shared.0.state.load(Relaxed), 0);
}

#[test]
fn rwlock_left() {
    check(3, || rwlock_left_by(writes_or_leaves, reads));
    check(3, || rwlock_left_by(writes, reads_or_leaves));
    check(3, || rwlock_left_by(writes_or_leaves, reads_or_leaves));
    check(3, || readers_meet(writes_or_leaves));
}

/// Seeded: the last writer leaves, and does not let the readers in.
#[test]
fn rwlock_left_without_repair() {
    let write = |lock: &RawRwLock| {
        if lock.try_acquire_exclusive() {
            return true;
        }
        let Some(wait) = lock.queue(WRITERS, |state| state == 0) else { return false };
        match wait.block(now()) {
            How::Dequeued(_) => true,
            How::Early => {
                let granted = lock.waiters.lock().writers.leave(&wait) == Outcome::Granted;
                if granted {
                    wait.block(Until::DEQUEUED);
                }
                granted
            }
        }
    };
    assert!(fails(3, move || readers_meet(write)));
}

/// One notification, and two that wait, of which one may leave. If that one was notified it passes that on.
fn condvar_with(wait: fn(&RawCondvar, &RawMutex) -> bool) {
    let shared = Arc::new((RawMutex::new(), RawCondvar::new(), UnsafeCell::new(false)));
    let wait_for_it = |wait: fn(&RawCondvar, &RawMutex) -> bool, leaves: bool| {
        let shared = shared.clone();
        thread::spawn(move || {
            let (mutex, condvar, there) = &*shared;
            mutex.acquire();
            let mut notified = false;
            // SAFETY: under the mutex.
            while !there.with(|there| unsafe { *there }) {
                notified = wait(condvar, mutex);
                if leaves {
                    break;
                }
            }
            unlock_mutex(mutex);
            if leaves && notified {
                condvar.notify_one();
            }
        })
    };
    let others = [
        wait_for_it(wait, true),
        // SAFETY: locked by this thread just before.
        wait_for_it(|condvar, mutex| unsafe { condvar.wait(mutex, Until::DEQUEUED) }, false),
    ];
    let (mutex, condvar, there) = &*shared;
    mutex.acquire();
    // SAFETY: under the mutex.
    there.with_mut(|there| unsafe { *there = true });
    unlock_mutex(mutex);
    condvar.notify_one();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert!(is_free(mutex) && condvar.queue.lock().is_empty());
}

#[test]
fn condvar_left() {
    // SAFETY: locked by this thread just before.
    check(2, || condvar_with(|condvar, mutex| unsafe { condvar.wait(mutex, now()) }));
}

/// Seeded: it says that its time was up, though it was notified.
#[test]
fn condvar_left_with_a_notification() {
    assert!(fails(2, || condvar_with(|condvar, mutex| {
        // SAFETY: locked by this thread just before.
        unsafe { condvar.wait(mutex, now()) };
        false
    })));
}
