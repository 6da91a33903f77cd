//! Faults that are ours: a guard page that was hit, and, under efence, a stack that was moved away.
//!
//! The handler of SIGSEGV and SIGBUS runs on the M's signal stack. It may interrupt anything, so it allocates nothing,
//! takes no lock, formats into a fixed buffer and writes with `write`. What is not ours goes to the handler that was there
//! before (std's, which reports overflows of OS threads).
//!
//! | address in | message | then |
//! |---|---|---|
//! | a stack that was moved or freed (`MORESTACK_EFENCE`) | which green thread, which old stack, when and where it was moved, which rule was broken | abort |
//! | the guard page of the running green thread, or the gap below its [side stack](crate::side) | its name, its limit, what to do | abort |
//! | the guard page of the signal stack | who was interrupted by the handler that needs more | abort |
//! | anything else | none | the previous handler |

use std::cell::Cell;
use std::fmt::Write;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use bytesize::ByteSize;
use morestack_asm::{Stack, on_signal, set_signal_handler};
use morestack_stacks::{SIDE_GAP, efence, guard_of};

use crate::g::{G, StackKind};
use crate::m::{self, M};
use crate::{side, timers};

const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// The handlers that were there before, in the order of `SIGNALS`.
static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();

/// Installs the handler, once for the process.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let mut previous = [None; 2];
        for (signal, previous) in SIGNALS.into_iter().zip(&mut previous) {
            *previous = Some(action(signal, None)?);
        }
        // Before the first of ours can run.
        PREVIOUS.get_or_init(|| previous.map(|old| old.expect("read above")));
        // SAFETY: a zeroed sigaction is a valid one.
        let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
        set_signal_handler(handle);
        new.sa_sigaction = on_signal as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        SIGNALS.into_iter().try_for_each(|signal| action(signal, Some(&new)).map(drop))
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// Sets what a signal does, if `new` says so, and returns what it did. The error is the system's number.
fn action(signal: i32, new: Option<&libc::sigaction>) -> Result<libc::sigaction, i32> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: both pointers are valid or null; the one handler that is installed here is async-signal-safe.
    unsafe {
        if libc::sigaction(signal, new.map_or(ptr::null(), ptr::from_ref), old.as_mut_ptr()) == 0 {
            Ok(old.assume_init())
        } else {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL))
        }
    }
}

extern "C" fn handle(signal: i32, info: *mut libc::c_void, context: *mut libc::c_void, side: usize) {
    let info = info.cast::<libc::siginfo_t>();
    // SAFETY: the kernel gives a valid siginfo and ucontext to an SA_SIGINFO handler.
    let (addr, pc) = unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        ((*info).si_addr() as usize, context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize)
    };
    let g = m::current_g();
    let mut line = Line::new();
    if let Some(old) = efence::explain(addr) {
        explain_old_stack(&mut line, g, addr, pc, &old);
        die(&line);
    }
    if let Some(g) = g.filter(|g| {
        // SAFETY: the green thread runs on this very OS thread.
        guard_of(unsafe { (*g.head()).stack }).contains(&addr)
    }) {
        explain_overflow(&mut line, g);
        die(&line);
    }
    if let Some(g) = g.filter(|g| side::overflowed(g, addr)) {
        let _ = writeln!(
            line,
            "morestack: green thread '{}' (id {}) overflowed its side stack: its locals need more than there is for its stack\n  \
             more room: Builder::stack(Stack::Reserved(bytes)), of which the side stack has some times as much",
            g.label(),
            g.id
        );
        die(&line);
    }
    // On g0, in a blocking call say.
    if g.is_none() && side != 0 && (side.saturating_sub(SIDE_GAP)..side + SIDE_GAP).contains(&addr) {
        let _ = writeln!(
            line,
            "morestack: fatal: the side stack of a worker cannot grow: its locals need more than there is (sp={side:#x})"
        );
        die(&line);
    }
    if let Some(stack) = m::current().map(M::signal_stack).filter(|s| (s.lo - SIGNAL_GUARD..s.lo).contains(&addr)) {
        explain_signal_stack(&mut line, g, stack);
        die(&line);
    }
    previous(signal, info, context);
}

/// The kernel has begun at the top of the signal stack again, since `rsp` was below it.
fn explain_signal_stack(line: &mut Line, g: Option<&G>, stack: Stack) {
    let _ = write!(
        line,
        "morestack: a signal handler overflowed the signal stack of its worker, {}",
        ByteSize(stack.size() as u64)
    );
    let _ = match g {
        Some(g) => writeln!(line, ": it had interrupted green thread '{}' (id {})", g.label(), g.id),
        None => writeln!(line, ": it had interrupted the scheduler"),
    };
}

fn explain_old_stack(line: &mut Line, g: Option<&G>, addr: usize, pc: usize, old: &efence::Retired) {
    let _ = write!(line, "morestack: access to an old stack at {addr:#x} (pc {}): ", Pc(pc));
    match g {
        Some(g) => {
            let _ = writeln!(line, "by green thread '{}' (id {})", g.label(), g.id);
        }
        None => {
            let _ = writeln!(line, "by an OS thread");
        }
    }
    let ms = (timers::monotonic().saturating_sub(old.when)) as f64 / 1e6;
    let _ = write!(line, "  the old stack [{:#x}, {:#x}) of green thread {} ", old.stack.lo, old.stack.hi, old.goid);
    let frozen = old.new == Stack::NONE && old.goid != 0;
    if frozen {
        let _ = writeln!(line, "was frozen {ms:.3} ms ago, while that green thread waited at {}", Pc(old.pc));
    } else if old.new == Stack::NONE {
        let _ = writeln!(line, "was freed {ms:.3} ms ago, when that green thread ended");
    } else {
        let _ = writeln!(
            line,
            "was moved to [{:#x}, {:#x}) {ms:.3} ms ago, at the prologue of the function at {}",
            old.new.lo,
            old.new.hi,
            Pc(old.pc)
        );
    }
    let _ = line.write_str(if old.new == Stack::NONE && !frozen {
        "  rule broken: nothing may point into the stack of a green thread that has ended\n"
    } else {
        "  rule broken: no pointer into the stack of a `go` green thread may exist outside of it across a safepoint\n\
         \x20 (a heap object, a static, a thread-local or another thread kept the address of a local: docs/soundness.md)\n"
    });
}

fn explain_overflow(line: &mut Line, g: &G) {
    let _ = write!(line, "morestack: green thread '{}' (id {}) overflowed its stack: ", g.label(), g.id);
    let _ = match g.kind {
        StackKind::Reserved(class) => writeln!(
            line,
            "it reached the guard page of its {}\n  more room: RuntimeBuilder::stack_size, MORESTACK_STACK_SIZE or \
             Builder::stack(Stack::Reserved(bytes));\n  an error instead of this: mark the functions that recurse with \
             #[morestack::prologue]",
            ByteSize(class.size() as u64)
        ),
        StackKind::Copying | StackKind::Contract => writeln!(
            line,
            "code without #[morestack::prologue] needed more than the {} below the guard\n  mark the functions that \
             recurse or have large frames, with #[prologue(frame = N)] for the latter",
            ByteSize(morestack_asm::STACK_GUARD as u64)
        ),
    };
}

/// An address, and where it lies in its executable or library: what `addr2line -e` wants.
struct Pc(usize);

impl std::fmt::Display for Pc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: dladdr fills `info` if it returns non-zero; its lock is the loader's, which green threads do not hold
        // while they run code that faults on a stack.
        unsafe {
            if libc::dladdr(self.0 as *const _, info.as_mut_ptr()) != 0 && !(*info.as_ptr()).dli_fname.is_null() {
                let info = info.assume_init();
                let path = std::ffi::CStr::from_ptr(info.dli_fname).to_bytes();
                let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
                let name = std::str::from_utf8(name).unwrap_or("?");
                return write!(f, "{name}+{:#x}", self.0 - info.dli_fbase as usize);
            }
        }
        write!(f, "{:#x}", self.0)
    }
}

/// Writes the message and ends the process.
fn die(line: &Line) -> ! {
    // SAFETY: plain system calls.
    unsafe {
        libc::write(2, line.bytes.as_ptr().cast(), line.len);
        libc::abort()
    }
}

fn previous(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let index = usize::from(signal == SIGNALS[1]);
    let old = PREVIOUS.get().map(|p| p[index]);
    match old {
        Some(old) if old.sa_sigaction > libc::SIG_IGN => {
            if old.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: it was installed as a handler of this type.
                let f: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    unsafe { std::mem::transmute(old.sa_sigaction) };
                f(signal, info, context);
            } else {
                // SAFETY: as above.
                let f: extern "C" fn(i32) = unsafe { std::mem::transmute(old.sa_sigaction) };
                f(signal);
            }
        }
        // The default: the instruction runs again when this returns, and the kernel ends the process.
        _ => {
            // SAFETY: restores the default disposition.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// A message of bounded length.
struct Line {
    bytes: [u8; 1536],
    len: usize,
}

impl Line {
    fn new() -> Line {
        Line { bytes: [0; 1536], len: 0 }
    }
}

impl Write for Line {
    /// What does not fit is cut.
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let n = s.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// The signal stack of an M (S22). Its own, larger than std's: a message is formatted on it. Below it lies a page that
/// faults: code in a handler need not carry checks.
pub(crate) struct SignalStack {
    bounds: Stack,
    previous: libc::stack_t,
    /// Not Send: it is the calling thread's.
    _here: std::marker::PhantomData<Cell<*const u8>>,
}

/// Bytes of a signal stack. The kernel's frame takes up to 3 KB with AVX-512 state, a formatted message as much again;
/// the rest is for handlers of the program.
const SIGNAL_STACK: usize = 64 << 10;

/// Bytes of its guard: a page.
const SIGNAL_GUARD: usize = 4096;

impl SignalStack {
    /// Gives the calling thread one. None if there is no memory: then faults on it are reported by the kernel alone.
    pub(crate) fn install() -> Option<SignalStack> {
        // SAFETY: maps fresh memory, and hands it to the kernel as this thread's signal stack.
        unsafe {
            let map = libc::mmap(
                ptr::null_mut(),
                SIGNAL_GUARD + SIGNAL_STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if map == libc::MAP_FAILED {
                return None;
            }
            let lo = map as usize + SIGNAL_GUARD;
            let bounds = Stack { lo, hi: lo + SIGNAL_STACK };
            let new = libc::stack_t { ss_sp: lo as *mut _, ss_flags: 0, ss_size: SIGNAL_STACK };
            let mut previous = MaybeUninit::<libc::stack_t>::zeroed();
            let stack = if libc::mprotect(map, SIGNAL_GUARD, libc::PROT_NONE) == 0
                && libc::sigaltstack(&new, previous.as_mut_ptr()) == 0
            {
                Some(SignalStack { bounds, previous: previous.assume_init(), _here: std::marker::PhantomData })
            } else {
                None
            };
            if stack.is_none() {
                libc::munmap(map, SIGNAL_GUARD + SIGNAL_STACK);
            }
            stack
        }
    }

    pub(crate) fn bounds(&self) -> Stack {
        self.bounds
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // SAFETY: the thread that installed it; nothing runs on it.
        unsafe {
            libc::sigaltstack(&self.previous, ptr::null_mut());
            libc::munmap((self.bounds.lo - SIGNAL_GUARD) as *mut _, SIGNAL_GUARD + SIGNAL_STACK);
        }
    }
}
