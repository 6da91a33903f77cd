//! `task_local!`: what each green thread has of its own, as `thread_local!` for OS threads.
//!
//! A key has a number, given out when it is first used. A green thread has a list of slots by these numbers, made when it
//! first uses a key; the values lie in boxes of their own, so a reference to one stays right when the list grows. On an OS
//! thread, also in [`blocking`](crate::blocking()), the list is in a `thread_local!`.
//!
//! ```text
//!   LocalKey: number 2      G: locals ──► slots  [ Unused | Unused | Value ───► box ]
//!                                         order  [ 2 ]
//! ```
//!
//! # Who may touch what
//!
//! The list is reached by the thread whose it is, alone. No reference to it, or to a slot, is kept while an initialiser, a
//! destructor or the user's closure runs: these may use keys themselves, and switch.
//!
//! # The end
//!
//! After the closure of a green thread has returned and its result is stored, and before it is done, it drops the values
//! on its own stack, the last made first: destructors may wait, spawn, and use keys. What they initialise is dropped in its
//! turn. A slot whose value is being dropped, or was, is Gone: [`LocalKey::try_with`] says so. A destructor that panics
//! aborts the process, as in std. Green threads that never ran have none; those that are abandoned keep theirs.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::g::G;
use crate::m;

/// Declares storage that each green thread has of its own, in the shape of `std::thread_local!`.
///
/// A value is made when its green thread first uses it, and dropped at the end of that green thread, on its stack, before
/// a `join` returns. Outside of green threads, and in [`blocking`](crate::blocking()), it is the OS thread's.
///
/// | | |
/// |---|---|
/// | `std::thread_local!` | shared by all green threads of an OS thread: not a place for what belongs to one of them |
/// | `tokio::task_local!` | has no initialiser, but is set around a future, and dropped with it. Here: as in std; a future in [`block_on`](crate::block_on) sees the values of the green thread that drives it |
/// | values of a parent | are not inherited, as in both |
///
/// A green thread made by [`go`](crate::go) takes its values along from one OS thread to another.
///
/// ```
/// use std::cell::{Cell, RefCell};
///
/// morestack::task_local! {
///     /// Requests that this green thread has served.
///     static SERVED: Cell<u32> = const { Cell::new(0) };
///     pub static LOG: RefCell<Vec<String>> = RefCell::new(Vec::with_capacity(16));
/// }
///
/// let serve = || {
///     SERVED.set(SERVED.get() + 1);
///     morestack::yield_now();
///     LOG.with_borrow_mut(|log| log.push("served".to_owned()));
///     (SERVED.get(), LOG.with_borrow(|log| log.len()))
/// };
/// let (one, other) = (morestack::spawn(serve), morestack::spawn(serve));
/// assert_eq!((one.join().unwrap(), other.join().unwrap()), ((1, 1), (1, 1)));
/// ```
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = const $init:block $(; $($rest:tt)*)?) => {
        $(#[$attr])* $vis static $name: $crate::LocalKey<$t> = {
            const INIT: $t = $init;
            $crate::LocalKey::__new(|| INIT)
        };
        $($crate::task_local!($($rest)*);)?
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attr])* $vis static $name: $crate::LocalKey<$t> = {
            fn init() -> $t {
                $init
            }
            $crate::LocalKey::__new(init)
        };
        $($crate::task_local!($($rest)*);)?
    };
    ($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty $(; $($rest:tt)*)?) => {
        ::std::compile_error!(::std::concat!("`", ::std::stringify!($name), "` has no initial value"));
        $($crate::task_local!($($rest)*);)?
    };
}

/// A key of [`task_local!`](crate::task_local!), as `std::thread::LocalKey`.
pub struct LocalKey<T: 'static> {
    /// 0: not given out yet.
    number: AtomicUsize,
    init: fn() -> T,
}

/// The value is being dropped, or was: what [`LocalKey::try_with`] says in a destructor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task-local was destroyed already")
    }
}

impl std::error::Error for AccessError {}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// Of one key and one thread.
#[derive(Clone, Copy)]
enum Slot {
    Unused,
    Value { value: NonNull<()>, drop: unsafe fn(NonNull<()>) },
    Gone,
}

/// Those of one thread.
#[derive(Default)]
pub(crate) struct Locals {
    slots: UnsafeCell<Vec<Slot>>,
    /// The numbers of those with a value, in the order in which they were made.
    order: UnsafeCell<Vec<usize>>,
}

impl Locals {
    /// For a moment: `f` must not call anything of others.
    fn slot<R>(&self, number: usize, f: impl FnOnce(&mut Slot) -> R) -> R {
        // SAFETY: its own thread's alone, and no other reference is in use: see "Who may touch what".
        let slots = unsafe { &mut *self.slots.get() };
        if slots.len() <= number {
            slots.resize(number + 1, Slot::Unused);
        }
        f(&mut slots[number])
    }

    fn order<R>(&self, f: impl FnOnce(&mut Vec<usize>) -> R) -> R {
        // SAFETY: as above.
        f(unsafe { &mut *self.order.get() })
    }

    /// Drops all values.
    fn end(&self) {
        while let Some(number) = self.order(Vec::pop) {
            let slot = self.slot(number, |slot| std::mem::replace(slot, Slot::Gone));
            if let Slot::Value { value, drop } = slot {
                // SAFETY: made for this slot, which does not name it any more.
                unsafe { drop(value) };
            }
        }
    }
}

impl Drop for Locals {
    fn drop(&mut self) {
        self.end();
    }
}

/// # Safety
///
/// `value` came from `make::<T>`, and is not used again.
unsafe fn delete<T>(value: NonNull<()>) {
    struct Free(NonNull<()>, Layout);
    impl Drop for Free {
        fn drop(&mut self) {
            if self.1.size() != 0 {
                // SAFETY: by the contract of `delete`.
                unsafe { dealloc(self.0.as_ptr().cast(), self.1) };
            }
        }
    }
    let free = Free(value, Layout::new::<T>());
    // SAFETY: by the contract.
    unsafe { free.0.cast::<T>().drop_in_place() };
}

fn make<T>(value: T) -> NonNull<()> {
    let layout = Layout::new::<T>();
    let place = if layout.size() == 0 {
        NonNull::<T>::dangling()
    } else {
        // SAFETY: the size is not 0.
        NonNull::new(unsafe { alloc(layout) }.cast::<T>()).unwrap_or_else(|| handle_alloc_error(layout))
    };
    // SAFETY: room for a `T`.
    unsafe { place.write(value) };
    place.cast()
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { number: AtomicUsize::new(0), init }
    }

    fn number(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        match self.number.load(Acquire) {
            0 => {
                let new = NEXT.fetch_add(1, Relaxed);
                // One that comes second leaves a hole.
                self.number.compare_exchange(0, new, AcqRel, Acquire).err().unwrap_or(new)
            }
            number => number,
        }
    }

    /// Calls `f` with the calling thread's value, which is made first if need be.
    ///
    /// An initialiser may use the key that it is for: the value that is made first stays.
    ///
    /// # Panics
    ///
    /// If the value is being dropped, or was; if the initialiser does.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).expect("a task-local was used in a destructor, after its own")
    }

    /// The same.
    ///
    /// # Errors
    ///
    /// If the value is being dropped, or was.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = self.value(|| (self.init)())?;
        // SAFETY: of this key, so it is a `T`. It is dropped at the end of this thread, which does not come before `f` has
        // returned; or, if this is in a destructor then, after it: it was made by then, and is not Gone.
        Ok(f(unsafe { value.cast::<T>().as_ref() }))
    }

    /// The calling thread's value, made by `init` if there is none.
    fn value(&self, init: impl FnOnce() -> T) -> Result<NonNull<()>, AccessError> {
        let number = self.number();
        match here()?.slot(number, |slot| *slot) {
            Slot::Value { value, .. } => return Ok(value),
            Slot::Gone => return Err(AccessError),
            Slot::Unused => {}
        }
        let new = init();
        let locals = here()?;
        // `init` may have come here, too.
        match locals.slot(number, |slot| *slot) {
            Slot::Value { value, .. } => return Ok(value),
            Slot::Gone => return Err(AccessError),
            Slot::Unused => {}
        }
        let value = make(new);
        locals.slot(number, |slot| *slot = Slot::Value { value, drop: delete::<T> });
        locals.order(|order| order.push(number));
        Ok(value)
    }

    /// As `with`, with an initialiser of the caller's; and that, if it was not needed.
    fn with_new<R>(&'static self, new: T, f: impl FnOnce(Option<T>, &T) -> R) -> R {
        let mut new = Some(new);
        let value = self.value(|| new.take().expect("called once")).expect("a task-local was used in a destructor");
        // SAFETY: as in `try_with`.
        f(new, unsafe { value.cast::<T>().as_ref() })
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value, without an initialiser. Panics like [`with`](Self::with).
    pub fn set(&'static self, value: T) {
        self.with_new(Cell::new(value), |new, cell| {
            if let Some(new) = new {
                cell.set(new.into_inner());
            }
        });
    }

    /// A copy of the value. Panics like [`with`](Self::with).
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value, and leaves the default. Panics like [`with`](Self::with).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Replaces the value. Panics like [`with`](Self::with).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value. Panics like [`with`](Self::with), and if it is borrowed mutably.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value, to change it. Panics like [`with`](Self::with), and if it is borrowed.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value, without an initialiser. Panics like [`with`](Self::with), and if it is borrowed.
    pub fn set(&'static self, value: T) {
        self.with_new(RefCell::new(value), |new, cell| {
            if let Some(new) = new {
                cell.replace(new.into_inner());
            }
        });
    }

    /// Takes the value, and leaves the default. Panics like [`with`](Self::with), and if it is borrowed.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Replaces the value. Panics like [`with`](Self::with), and if it is borrowed.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

/// The calling thread's. An OS thread's is gone when that ends.
fn here<'a>() -> Result<&'a Locals, AccessError> {
    match m::current_g() {
        Some(g) => {
            let locals = g.locals.get().unwrap_or_else(|| {
                let new = NonNull::from(Box::leak(Box::<Locals>::default()));
                g.locals.set(Some(new));
                new
            });
            // SAFETY: until the end of this green thread, see `end`.
            Ok(unsafe { locals.as_ref() })
        }
        None => os_thread(),
    }
}

/// Never inlined: it reads a thread-local, whose address must not survive a switch of the caller.
#[inline(never)]
fn os_thread<'a>() -> Result<&'a Locals, AccessError> {
    thread_local!(static LOCALS: Locals = const { Locals { slots: UnsafeCell::new(Vec::new()), order: UnsafeCell::new(Vec::new()) } });
    // SAFETY: used by this thread at once, before it can end.
    LOCALS.try_with(|locals| unsafe { NonNull::from(locals).as_ref() }).map_err(|_| AccessError)
}

/// The end of the running green thread, which has used keys.
#[cold]
pub(crate) fn end(g: &G) {
    // While destructors run the list is there: they may use keys.
    if let Some(locals) = g.locals.get() {
        // SAFETY: made by `here`.
        unsafe { locals.as_ref() }.end();
        g.locals.set(None);
        // SAFETY: as above; the last that can refer to it were the destructors.
        drop(unsafe { Box::from_raw(locals.as_ptr()) });
    }
}
