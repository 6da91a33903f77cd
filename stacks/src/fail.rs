//! Fault injection: system calls of the allocator that fail because `MORESTACK_STACK_DEBUG` says so.
//!
//! | word | which calls fail, with `ENOMEM` and without being made |
//! |---|---|
//! | `fail=mprotect/3` | of all `mprotect`, the third, the sixth and so on |
//! | `fail=mprotect/1@100..200` | those from the 100th to the 199th |
//! | `fail=mprotect/2@100..` | from the 100th on, those with an even number |
//!
//! The calls are `mmap`, `mprotect` and `madvise`, each counted by itself from 1, over all threads of the process. Only
//! calls of [`sys`](crate::sys) count. `munmap` does not fail: what it gives back is not needed any more, so nobody could
//! do anything about it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::debug;

/// What is allowed after `fail=`, for messages.
pub(crate) const ALLOWED: &str = "fail=CALL/N or fail=CALL/N@FROM..TO, where CALL is mmap, mprotect or madvise";

/// The system calls that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Mmap,
    Mprotect,
    Madvise,
}

const CALLS: [(&str, Call); 3] = [("mmap", Call::Mmap), ("mprotect", Call::Mprotect), ("madvise", Call::Madvise)];

/// How often each was called while a switch was on.
static COUNTS: [AtomicU64; CALLS.len()] = [const { AtomicU64::new(0) }; CALLS.len()];

/// What is to fail, by call.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Rules([Option<Rule>; CALLS.len()]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rule {
    /// One in so many.
    every: u64,
    /// The first number that may fail, and the first that may not any more.
    from: u64,
    to: u64,
}

impl Rules {
    /// Takes what stands after `fail=`. False if it cannot be understood, or the call has its rule already.
    #[must_use]
    pub(crate) fn add(&mut self, word: &str) -> bool {
        let Some((call, rule)) = parse(word) else { return false };
        self.0[call as usize].replace(rule).is_none()
    }

    fn fails(&self, call: Call, number: u64) -> bool {
        self.0[call as usize]
            .is_some_and(|rule| number.is_multiple_of(rule.every) && (rule.from..rule.to).contains(&number))
    }
}

fn parse(word: &str) -> Option<(Call, Rule)> {
    let (name, rest) = word.split_once('/')?;
    let (_, call) = CALLS.iter().find(|(call, _)| *call == name)?;
    let (every, range) = rest.split_once('@').unwrap_or((rest, "1.."));
    let (from, to) = range.split_once("..")?;
    let to = if to.is_empty() { u64::MAX } else { to.parse().ok()? };
    let rule = Rule { every: every.parse().ok()?, from: from.parse().ok()?, to };
    (rule.every > 0).then_some((*call, rule))
}

/// To be asked before each call: the error that it shall end with.
#[inline(always)]
pub(crate) fn injected(call: Call) -> io::Result<()> {
    if debug::active() { count(call) } else { Ok(()) }
}

#[cold]
fn count(call: Call) -> io::Result<()> {
    let number = COUNTS[call as usize].fetch_add(1, Relaxed) + 1;
    if !debug::switches().fail.fails(call, number) {
        return Ok(());
    }
    debug::trace(1, format_args!("{} number {number} fails", CALLS[call as usize].0));
    Err(io::Error::from_raw_os_error(libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(words: &[&str], call: Call) -> Vec<u64> {
        let mut rules = Rules::default();
        assert!(words.iter().all(|word| rules.add(word)), "{words:?}");
        (1..=10).filter(|number| rules.fails(call, *number)).collect()
    }

    #[test]
    fn every_so_many_of_its_call() {
        assert_eq!(failing(&["mmap/3"], Call::Mmap), [3, 6, 9]);
        assert_eq!(failing(&["mmap/3", "madvise/4"], Call::Madvise), [4, 8]);
        assert_eq!(failing(&["mmap/1"], Call::Mprotect), []);
        assert_eq!(failing(&[], Call::Mprotect), []);
    }

    #[test]
    fn from_and_to() {
        assert_eq!(failing(&["mprotect/1@4..7"], Call::Mprotect), [4, 5, 6]);
        assert_eq!(failing(&["mprotect/2@5.."], Call::Mprotect), [6, 8, 10]);
        assert_eq!(failing(&["mprotect/1@7..7"], Call::Mprotect), []);
    }

    #[test]
    fn what_is_not_allowed() {
        for word in [
            "",
            "mmap",
            "mmap/",
            "mmap/0",
            "mmap/x",
            "/3",
            "munmap/3",
            "mmap/3@",
            "mmap/3@4",
            "mmap/1@x..",
            "mmap/1@1..y",
        ] {
            assert!(!Rules::default().add(word), "{word}");
        }
        let mut twice = Rules::default();
        assert!(twice.add("mmap/3") && !twice.add("mmap/4"));
    }
}
