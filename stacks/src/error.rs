//! Why there is no stack. Each error carries the values that its message names.

use std::error::Error;
use std::fmt;
use std::io;

/// A stack could not be had: of which size, and why. Nothing has changed when this is returned.
#[derive(Debug)]
pub struct StackError {
    size: usize,
    shortage: Shortage,
}

impl StackError {
    pub(crate) fn new(size: usize, shortage: Shortage) -> StackError {
        StackError { size, shortage }
    }

    /// Bytes of the stack that was asked for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What there is too little of.
    pub fn shortage(&self) -> &Shortage {
        &self.shortage
    }
}

/// What there is too little of.
#[derive(Debug)]
#[non_exhaustive]
pub enum Shortage {
    /// The address space that is reserved for stacks has no free run of this size.
    OutOfAddressSpace {
        /// Bytes of the run. Small stacks are made by the span.
        size: usize,
        /// Bytes of address space reserved for stacks of this kind.
        reserved: usize,
        /// Bytes of them that are handed out, in whole spans.
        in_use: usize,
    },
    /// The page below the stack cannot be made to fault, and without that an overflow would write into another stack.
    ///
    /// Kernels with `MADV_GUARD_INSTALL` (Linux 6.13) make it so at no cost, unless memory is locked (`mlockall`).
    /// Elsewhere each guard takes two of the mappings that a process may have, and stacks leave half of those to the
    /// program.
    NoGuard {
        /// Mappings that are taken by guards, and by stacks that efence keeps inaccessible.
        taken: usize,
        /// `vm.max_map_count`, as it was when the first stack was made. Half of it is what stacks may use.
        max_map_count: usize,
        /// The kernel's error; `None` where that half is used up and it was not asked.
        source: Option<io::Error>,
    },
    /// The kernel refused.
    Os {
        /// The system call.
        call: &'static str,
        /// Bytes that it was to map or to make usable.
        size: usize,
        /// Its error.
        source: io::Error,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no stack of {}: {}", Bytes(self.size), self.shortage)
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shortage::OutOfAddressSpace { size, reserved, in_use } => write!(
                f,
                "no room for {}: {} of the {} reserved for stacks are in use",
                Bytes(*size),
                Bytes(*in_use),
                Bytes(*reserved)
            ),
            Shortage::NoGuard { taken, max_map_count, source } => {
                write!(f, "no guard page: ")?;
                if let Some(source) = source {
                    write!(f, "mprotect failed: {source}: ")?;
                }
                write!(
                    f,
                    "{taken} of the {} mappings that stacks may use are taken (half of vm.max_map_count={max_map_count}, \
                     two for each guard): raise vm.max_map_count, or use a kernel with MADV_GUARD_INSTALL (6.13) and do \
                     not lock memory",
                    max_map_count / 2
                )
            }
            Shortage::Os { call, size, source } => write!(f, "{call} of {} failed: {source}", Bytes(*size)),
        }
    }
}

impl Error for StackError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.shortage {
            Shortage::OutOfAddressSpace { .. } => None,
            Shortage::NoGuard { source, .. } => source.as_ref().map(|source| source as _),
            Shortage::Os { source, .. } => Some(source),
        }
    }
}

impl From<StackError> for io::Error {
    fn from(error: StackError) -> io::Error {
        io::Error::new(io::ErrorKind::OutOfMemory, error)
    }
}

/// A size in bytes, printed in the largest unit that divides it.
pub(crate) struct Bytes(pub(crate) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match UNITS.iter().find(|(shift, _)| self.0 != 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_names_the_values() {
        let full = Shortage::OutOfAddressSpace { size: 4 << 20, reserved: 1 << 30, in_use: 3 << 22 };
        assert_eq!(
            StackError::new(1 << 16, full).to_string(),
            "no stack of 64 KiB: no room for 4 MiB: 12 MiB of the 1 GiB reserved for stacks are in use"
        );
        let spent = Shortage::NoGuard { taken: 32764, max_map_count: 65530, source: None };
        let spent = StackError::new(1 << 20, spent);
        assert!(spent.source().is_none());
        assert_eq!(
            spent.to_string(),
            "no stack of 1 MiB: no guard page: 32764 of the 32765 mappings that stacks may use are taken (half of \
             vm.max_map_count=65530, two for each guard): raise vm.max_map_count, or use a kernel with \
             MADV_GUARD_INSTALL (6.13) and do not lock memory"
        );
        let refused = io::Error::from_raw_os_error(libc::ENOMEM);
        let refused = Shortage::NoGuard { taken: 10, max_map_count: 65530, source: Some(refused) };
        let refused = StackError::new(1 << 16, refused);
        assert!(refused.source().is_some());
        let line = refused.to_string();
        assert!(line.starts_with("no stack of 64 KiB: no guard page: mprotect failed: "), "{line}");
        assert!(line.contains(": 10 of the 32765 mappings") && !line.contains('\n'), "{line}");
        let os = Shortage::Os { call: "mprotect", size: 64 << 20, source: io::Error::from_raw_os_error(libc::ENOMEM) };
        let os = StackError::new(1 << 18, os);
        assert!(os.source().is_some());
        let os = io::Error::from(os);
        assert_eq!(os.kind(), io::ErrorKind::OutOfMemory);
        let line = os.to_string();
        assert!(line.starts_with("no stack of 256 KiB: mprotect of 64 MiB failed: "), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn sizes_in_the_largest_exact_unit() {
        let shown = [0, 100, 1 << 10, 3 << 12, 1 << 40, 5 << 30].map(|n| Bytes(n).to_string());
        assert_eq!(shown, ["0 bytes", "100 bytes", "1 KiB", "12 KiB", "1 TiB", "5 GiB"]);
    }
}
