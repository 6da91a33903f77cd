//! A list whose entries are elsewhere, and linked: the queues of channels and of locks. An entry can leave from the middle.
//!
//! Whoever has the list, by the lock that it lies behind, may touch the links of what is in it; and what is in it is valid,
//! by the contract of pushing.

use std::cell::Cell;
use std::ptr::NonNull;

/// What can be in such a list, one at a time.
pub(crate) trait Linked: Sized {
    fn links(&self) -> &Links<Self>;
}

/// The place of an entry.
pub(crate) struct Links<T> {
    prev: Cell<Option<NonNull<T>>>,
    next: Cell<Option<NonNull<T>>>,
}

impl<T> Default for Links<T> {
    fn default() -> Links<T> {
        Links { prev: Cell::new(None), next: Cell::new(None) }
    }
}

pub(crate) struct List<T> {
    first: Option<NonNull<T>>,
    last: Option<NonNull<T>>,
}

// SAFETY: entries are touched by the rules of the module's header, whichever thread has the list.
unsafe impl<T> Send for List<T> {}

impl<T: Linked> List<T> {
    pub(crate) const fn new() -> List<T> {
        List { first: None, last: None }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// At the end.
    ///
    /// # Safety
    ///
    /// The entry is in no list. It is valid until it is taken out, and then for as long as the taker needs it.
    #[inline]
    pub(crate) unsafe fn push_back(&mut self, entry: NonNull<T>) {
        self.link(entry, self.last, None);
    }

    /// At the front.
    ///
    /// # Safety
    ///
    /// As for [`push_back`](Self::push_back).
    pub(crate) unsafe fn push_front(&mut self, entry: NonNull<T>) {
        self.link(entry, None, self.first);
    }

    /// Takes out the first.
    #[inline]
    pub(crate) fn pop_front<'a>(&mut self) -> Option<&'a T> {
        // SAFETY: in the list, so it is valid.
        let first = unsafe { self.first?.as_ref() };
        self.unlink(first);
        Some(first)
    }

    /// Takes this one out.
    ///
    /// # Safety
    ///
    /// It is in this list.
    pub(crate) unsafe fn remove(&mut self, entry: &T) {
        self.unlink(entry);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        // SAFETY: in the list, so it is valid.
        let entry = |entry: NonNull<T>| unsafe { entry.as_ref() };
        std::iter::successors(self.first.map(entry), move |at| at.links().next.get().map(entry))
    }

    #[inline]
    fn link(&mut self, entry: NonNull<T>, prev: Option<NonNull<T>>, next: Option<NonNull<T>>) {
        // SAFETY: valid by the contract of the callers.
        let links = unsafe { entry.as_ref() }.links();
        links.prev.set(prev);
        links.next.set(next);
        self.set_next(prev, Some(entry));
        self.set_prev(next, Some(entry));
    }

    #[inline]
    fn unlink(&mut self, entry: &T) {
        let (prev, next) = (entry.links().prev.get(), entry.links().next.get());
        self.set_next(prev, next);
        self.set_prev(next, prev);
    }

    /// What comes after `at`, or first.
    #[inline]
    fn set_next(&mut self, at: Option<NonNull<T>>, next: Option<NonNull<T>>) {
        match at {
            // SAFETY: in the list, so it is valid.
            Some(at) => unsafe { at.as_ref() }.links().next.set(next),
            None => self.first = next,
        }
    }

    /// What comes before `at`, or last.
    #[inline]
    fn set_prev(&mut self, at: Option<NonNull<T>>, prev: Option<NonNull<T>>) {
        match at {
            // SAFETY: as above.
            Some(at) => unsafe { at.as_ref() }.links().prev.set(prev),
            None => self.last = prev,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Entry(u32, Links<Entry>);

    impl Linked for Entry {
        fn links(&self) -> &Links<Entry> {
            &self.1
        }
    }

    #[test]
    fn entries_come_and_go_anywhere() {
        let entries: Vec<Entry> = (0..5).map(|n| Entry(n, Links::default())).collect();
        let mut list = List::new();
        let numbers = |list: &List<Entry>| list.iter().map(|entry| entry.0).collect::<Vec<_>>();
        // SAFETY: the entries outlive the list, and each is in it once at a time.
        unsafe {
            entries[1..].iter().for_each(|entry| list.push_back(NonNull::from(entry)));
            list.push_front(NonNull::from(&entries[0]));
            assert_eq!(numbers(&list), [0, 1, 2, 3, 4]);
            list.remove(&entries[2]);
            list.remove(&entries[4]);
            assert_eq!(list.pop_front().map(|entry| entry.0), Some(0));
            assert_eq!(numbers(&list), [1, 3]);
            list.push_back(NonNull::from(&entries[4]));
            list.remove(&entries[1]);
            assert_eq!(numbers(&list), [3, 4]);
        }
        assert_eq!(std::iter::from_fn(|| list.pop_front()).count(), 2);
        assert!(list.is_empty());
    }
}
