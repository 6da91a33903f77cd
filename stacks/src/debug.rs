//! Debug switches (S9), read once from the environment.
//!
//! | variable | word | effect |
//! |---|---|---|
//! | `MORESTACK_EFENCE` | `1` (`0` or empty: off) | a stack that was freed or moved away from becomes inaccessible ([`efence`](crate::efence)) |
//! | `MORESTACK_STACK_DEBUG` | `nocache` | no per-P caches: every stack comes from the pool and goes back to it |
//! | | `fromsystem` | no pool either: every stack is a mapping of its own |
//! | | `poison` | copystack fills the new stack with `0xfd` first and the old one with `0xfc` afterwards |
//! | | `mprotect` | guards as on kernels before 6.13 |
//! | | `fail=mmap/3` | every third `mmap` of the allocator fails; so `mprotect` and `madvise`; `fail=mmap/3@10..20`: of the 10th to the 19th only |
//! | | `trace` | a line on standard error for every stack that is moved, and for every call that `fail` makes fail |
//! | | `trace=2` | one for every stack that is allocated or freed, too |
//!
//! Words are separated by commas. A variable that cannot be understood is as good as unset for the allocator, and
//! [`debug_switches`] says what is wrong with it, so that a runtime can refuse to start.
//!
//! # What they cost while off
//!
//! The fast paths ask one question, [`active`]: a relaxed load of a byte that never changes again, and a branch that is
//! never taken. The byte starts as "unread", which counts as active, so the first caller reads the environment.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::{fail, sys};

/// The debug switches. Of a process: every runtime in it has the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Switches {
    /// No per-P caches.
    pub no_cache: bool,
    /// Every stack is a mapping of its own.
    pub from_system: bool,
    /// copystack poisons what it leaves and what it has not yet filled.
    pub poison_copy: bool,
    /// Stacks that were freed or moved away from become inaccessible.
    pub efence: bool,
    /// Guards as on kernels before 6.13.
    pub mprotect_guards: bool,
    /// 0: silent. 1: moved stacks and calls made to fail. 2: allocated and freed stacks, too.
    pub trace: u8,
    /// System calls that fail.
    pub(crate) fail: fail::Rules,
}

const UNREAD: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNREAD);
static SWITCHES: OnceLock<Result<Switches, String>> = OnceLock::new();

/// The debug switches, or one line that names a value in the environment that cannot be understood and what is allowed
/// there. The environment is read once, by the first call or the first stack.
///
/// ```
/// // Nothing is set: nothing is on.
/// assert!(!morestack_stacks::debug_switches().unwrap().efence);
/// ```
pub fn debug_switches() -> Result<&'static Switches, String> {
    SWITCHES.get_or_init(read).as_ref().map_err(String::clone)
}

/// Whether anything but the plain path may be called for.
#[inline(always)]
pub(crate) fn active() -> bool {
    STATE.load(Relaxed) != OFF
}

/// The switches, all off where the environment cannot be understood.
pub(crate) fn switches() -> Switches {
    match STATE.load(Relaxed) {
        OFF => Switches::default(),
        _ => SWITCHES.get_or_init(read).as_ref().copied().unwrap_or_default(),
    }
}

pub(crate) fn mprotect_guards() -> bool {
    switches().mprotect_guards
}

/// Writes a line to standard error if `level` is traced. Formatting happens in a buffer on this stack: the lines are
/// written from the middle of the allocator.
pub(crate) fn trace(level: u8, line: fmt::Arguments<'_>) {
    if active() && switches().trace >= level {
        say(line);
    }
}

/// Writes a line to standard error, from anywhere in the allocator: see [`trace`].
pub(crate) fn say(line: fmt::Arguments<'_>) {
    const LONGEST: usize = 512;
    let mut buffer = [0; LONGEST];
    let mut rest = &mut buffer[..];
    // A line that does not fit is cut off.
    let _ = writeln!(rest, "morestack: {line}");
    let len = LONGEST - rest.len();
    sys::write_stderr(&buffer[..len]);
}

fn read() -> Result<Switches, String> {
    let read = parse(env::var_os("MORESTACK_EFENCE"), env::var_os("MORESTACK_STACK_DEBUG"));
    let off = read.as_ref().copied().unwrap_or_default() == Switches::default();
    STATE.store(if off { OFF } else { ON }, Relaxed);
    read
}

fn parse(efence: Option<OsString>, words: Option<OsString>) -> Result<Switches, String> {
    let mut switches = Switches::default();
    let efence = efence.unwrap_or_default();
    match efence.to_string_lossy().trim() {
        "" | "0" => {}
        "1" => switches.efence = true,
        other => return Err(format!("MORESTACK_EFENCE={other:?}: allowed are 0 and 1")),
    }
    for word in words.unwrap_or_default().to_string_lossy().split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "nocache" => switches.no_cache = true,
            "fromsystem" => switches.from_system = true,
            "poison" => switches.poison_copy = true,
            "mprotect" => switches.mprotect_guards = true,
            "trace" => switches.trace = 1,
            "trace=2" => switches.trace = 2,
            other if other.strip_prefix("fail=").is_some_and(|rule| switches.fail.add(rule)) => {}
            other if other.starts_with("fail=") => {
                return Err(format!(
                    "MORESTACK_STACK_DEBUG: bad word {other:?}: allowed are {}, once for each CALL",
                    fail::ALLOWED
                ));
            }
            other => {
                return Err(format!(
                    "MORESTACK_STACK_DEBUG: unknown word {other:?}: allowed are nocache, fromsystem, poison, mprotect, \
                     trace, trace=2, {}",
                    fail::ALLOWED
                ));
            }
        }
    }
    Ok(switches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(efence: &str, words: &str) -> Result<Switches, String> {
        parse(Some(efence.into()), Some(words.into()))
    }

    #[test]
    fn unset_and_empty_are_off() {
        assert_eq!(parse(None, None), Ok(Switches::default()));
        assert_eq!(parsed("", " , ,"), Ok(Switches::default()));
        assert_eq!(parsed("0", ""), Ok(Switches::default()));
    }

    #[test]
    fn every_word() {
        let mut fails = fail::Rules::default();
        assert!(fails.add("mmap/3") && fails.add("madvise/1@5..9"));
        let all = Switches {
            no_cache: true,
            from_system: true,
            poison_copy: true,
            efence: true,
            mprotect_guards: true,
            trace: 2,
            fail: fails,
        };
        let words = "nocache,fromsystem, poison ,mprotect,fail=mmap/3,trace=2,fail=madvise/1@5..9";
        assert_eq!(parsed("1", words), Ok(all));
        assert_eq!(parsed("0", "trace").unwrap().trace, 1);
    }

    #[test]
    fn a_bad_value_is_named_in_one_line() {
        for (efence, words, bad) in [
            ("yes", "", "yes"),
            ("0", "poison,cache", "cache"),
            ("", "trace=3", "trace=3"),
            ("", "fail=mmap", "fail=mmap"),
            ("", "trace,fail=brk/3", "fail=brk/3"),
            ("", "fail=mmap/2,fail=mmap/3", "fail=mmap/3"),
        ] {
            let line = parsed(efence, words).unwrap_err();
            assert!(line.contains(bad) && line.contains("allowed are") && !line.contains('\n'), "{line}");
        }
    }
}
