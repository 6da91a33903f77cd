//! High-water marks: how large a stack the green threads of a spawn site come to need.
//!
//! Growing by doubling costs a copy each time, and a warm service should not pay it for every request again. So each
//! place in the program that starts copying green threads remembers the size they grew to, and the next starts with it.
//!
//! # Small sizes: the mark itself
//!
//! Up to [`SMALL_MOST`] the next green thread starts with the largest size that one before it grew to. That costs address
//! space and, with cached stacks, no memory. After [`CALM`] green threads in a row that did not grow, the mark is lowered
//! by one class: if that was too low, the next growth sets it again, at a price of one copy in so many.
//!
//! # Large sizes: credit
//!
//! Above that, a page touched may be a huge page of 2 MiB, so a large stack for nothing is memory for nothing. Each
//! growth beyond gives the site credit for some large starts: one at first, twice as many each time growth comes again
//! right after the credit was used up, and none any more when a green thread without credit did not need it. One that
//! started large, and did use it, gives its credit back. Where every green thread goes deep, all but the first start large;
//! where one in a hundred does, two in a hundred do.
//!
//! # Accuracy
//!
//! All fields are read and written without a lock and without regard for each other: a lost update makes a stack start
//! one class too small or too large. The table does not grow. A site that finds no place in it starts with the smallest
//! stack each time.

use std::panic::Location;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicUsize};

use morestack_stacks::{FIXED_STACK, NUM_STACK_ORDERS};

/// The largest class that the mark reaches by itself: what per-P caches hold.
pub(crate) const SMALL_MOST: usize = FIXED_STACK << (NUM_STACK_ORDERS - 1);

/// Reports of no growth that lower the mark: 1024 green threads, of which every [`SAMPLE`]th reports. Plucked from thin
/// air: one growth more in a thousand is not seen.
const CALM: u32 = 1024 / SAMPLE;

/// One in so many green threads that did not grow says so, to keep the site's cache line from moving between workers.
pub(crate) const SAMPLE: u32 = 8;

/// The most credit that a growth gives.
const CREDIT_MOST: u32 = 1024;

/// Sites that are remembered: more than a program has, in 24 KiB.
const SITES: usize = 1024;

/// Places that are tried for a site.
const PROBES: usize = 8;

pub(crate) struct Site {
    /// The address of the `Location`; 0 while free.
    key: AtomicUsize,
    /// The mark: bytes of the largest stack, or 0.
    size: AtomicUsize,
    /// Reports since the last growth, or large starts that are left.
    count: AtomicU32,
    /// What the next growth to a large size is to give.
    credit: AtomicU32,
}

static TABLE: [Site; SITES] = [const {
    Site { key: AtomicUsize::new(0), size: AtomicUsize::new(0), count: AtomicU32::new(0), credit: AtomicU32::new(1) }
}; SITES];

impl Site {
    /// The site of a call, if there is a place for it.
    pub(crate) fn of(location: &'static Location<'static>) -> Option<&'static Site> {
        let key = std::ptr::from_ref(location) as usize;
        // Locations are neighbours in memory: the multiplication spreads them (Fibonacci hashing).
        let start = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) % SITES;
        (0..PROBES).map(|i| &TABLE[(start + i) % SITES]).find(|site| match site.key.load(Acquire) {
            0 => match site.key.compare_exchange(0, key, AcqRel, Acquire) {
                Ok(_) => true,
                Err(found) => found == key,
            },
            found => found == key,
        })
    }

    /// The size to start with.
    pub(crate) fn first_size(&self) -> usize {
        let size = self.size.load(Relaxed);
        if size <= SMALL_MOST {
            return size.max(FIXED_STACK);
        }
        match self.count.load(Relaxed) {
            0 => SMALL_MOST,
            left => {
                self.count.store(left - 1, Relaxed);
                size
            }
        }
    }

    /// One of its green threads grew to `size`.
    pub(crate) fn grew(&self, size: usize) {
        if size <= SMALL_MOST {
            if size > self.size.load(Relaxed) {
                self.size.store(size, Relaxed);
            }
            self.count.store(0, Relaxed);
            return;
        }
        let mark = self.size.load(Relaxed);
        if mark <= SMALL_MOST {
            // From here on it counts credit.
            self.count.store(0, Relaxed);
        }
        self.size.store(mark.max(size), Relaxed);
        // Once for the whole way up: a doubling finds the credit of the one before.
        if self.count.load(Relaxed) == 0 {
            let credit = self.credit.load(Relaxed);
            self.count.store(credit, Relaxed);
            self.credit.store((credit * 2).min(CREDIT_MOST), Relaxed);
        }
    }

    /// One of its green threads started large and used that: the next may, too.
    pub(crate) fn used_its_start(&self) {
        self.count.store(self.count.load(Relaxed).saturating_add(1).min(CREDIT_MOST), Relaxed);
    }

    /// One of its green threads ended without having grown; it had started with `first` bytes.
    pub(crate) fn ended_as_it_began(&self, first: usize) {
        let size = self.size.load(Relaxed);
        if size > SMALL_MOST {
            // Without credit, and it did not need the large stack.
            if first <= SMALL_MOST && self.count.load(Relaxed) == 0 {
                self.credit.store(1, Relaxed);
                self.size.store(SMALL_MOST, Relaxed);
            }
        } else if size > FIXED_STACK {
            let calm = self.count.load(Relaxed) + 1;
            if calm < CALM {
                self.count.store(calm, Relaxed);
            } else {
                self.count.store(0, Relaxed);
                self.size.store(size / 2, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn here() -> &'static Site {
        Site::of(Location::caller()).expect("an empty table")
    }

    #[test]
    fn sites_are_told_apart_and_found_again() {
        let again = || here();
        assert!(std::ptr::eq(again(), again()));
        assert!(!std::ptr::eq(here(), here()));
    }

    #[test]
    fn a_small_mark_is_kept_until_it_has_not_been_needed_for_long() {
        let site = here();
        assert_eq!(site.first_size(), FIXED_STACK);
        site.grew(2 * FIXED_STACK);
        site.grew(4 * FIXED_STACK);
        assert_eq!(site.first_size(), 4 * FIXED_STACK);
        for _ in 1..CALM {
            site.ended_as_it_began(4 * FIXED_STACK);
            assert_eq!(site.first_size(), 4 * FIXED_STACK);
        }
        site.ended_as_it_began(4 * FIXED_STACK);
        assert_eq!(site.first_size(), 2 * FIXED_STACK);
        site.grew(4 * FIXED_STACK);
        assert_eq!(site.first_size(), 4 * FIXED_STACK);
    }

    /// How many of a thousand green threads start large, and how many grow, when every `nth` goes to 64 MiB.
    fn thousand(site: &Site, nth: usize) -> (usize, usize) {
        const DEEP: usize = 64 << 20;
        let (mut large, mut grown) = (0, 0);
        for i in 0..1000 {
            let first = site.first_size();
            large += usize::from(first == DEEP);
            if i % nth == 0 && first == DEEP {
                site.used_its_start();
            } else if i % nth == 0 {
                let mut size = first;
                while size < DEEP {
                    size *= 2;
                    site.grew(size);
                }
                grown += 1;
            } else {
                site.ended_as_it_began(first);
            }
        }
        (large, grown)
    }

    #[test]
    fn where_all_go_deep_all_but_the_first_start_large() {
        assert_eq!(thousand(here(), 1), (999, 1));
    }

    #[test]
    fn where_few_go_deep_few_start_large() {
        let (large, grown) = thousand(here(), 100);
        assert!(large <= 20 && grown >= 8, "{large} {grown}");
    }
}
