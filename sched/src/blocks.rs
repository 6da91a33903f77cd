//! The memory of small tasks: what an M keeps of it for the next spawn.
//!
//! A green thread that ends leaves a block that is in the cache of the processor, and the next one that is spawned, often by
//! the same code, can have it without a way through malloc. A block is kept by the M on which it was freed; what is too much,
//! and what other threads free, goes back to malloc, from which all come. The list is emptied when its M has been idle for
//! long, and when it leaves.
//!
//! Only the thread of the M touches its list.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;

/// Of a block: a `G`, and what comes behind it for a small closure and result.
pub(crate) const LAYOUT: Layout = match Layout::from_size_align(248, align_of::<usize>()) {
    Ok(layout) => layout,
    Err(_) => panic!("a size and an alignment"),
};

/// Blocks that an M keeps: 64 KiB. As many as a recursion that forks has alive at a time, and as a handler has that spawns
/// some and joins them.
const KEPT: usize = 256;

/// A block that is free.
struct Free {
    next: Option<NonNull<Free>>,
}

/// The free blocks of an M.
pub(crate) struct Blocks {
    first: Cell<Option<NonNull<Free>>>,
    len: Cell<usize>,
}

impl Blocks {
    pub(crate) fn new() -> Blocks {
        Blocks { first: Cell::new(None), len: Cell::new(0) }
    }

    fn pop(&self) -> Option<NonNull<u8>> {
        let block = self.first.get()?;
        // SAFETY: what is in the list is the list's, and was written by `free`.
        self.first.set(unsafe { block.as_ref() }.next);
        self.len.set(self.len.get() - 1);
        Some(block.cast())
    }

    /// A block; the process ends where there is no memory, as with a `Box`.
    #[inline]
    pub(crate) fn alloc(&self) -> NonNull<u8> {
        self.pop().unwrap_or_else(new)
    }

    /// # Safety
    ///
    /// The block came from `alloc` or [`new`], and is not used again.
    #[inline]
    pub(crate) unsafe fn free(&self, block: NonNull<u8>) {
        if self.len.get() == KEPT {
            // SAFETY: by the contract.
            return unsafe { delete(block) };
        }
        let block = block.cast::<Free>();
        // SAFETY: by the contract; a block has room for this.
        unsafe { block.write(Free { next: self.first.get() }) };
        self.first.set(Some(block));
        self.len.set(self.len.get() + 1);
    }

    /// Gives all back.
    pub(crate) fn clear(&self) {
        while let Some(block) = self.pop() {
            // SAFETY: it was in the list, and is not any more.
            unsafe { delete(block) };
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A block for a thread without an M.
pub(crate) fn new() -> NonNull<u8> {
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { alloc(LAYOUT) }).unwrap_or_else(|| handle_alloc_error(LAYOUT))
}

/// Frees a block where there is no M.
///
/// # Safety
///
/// As for [`Blocks::free`].
pub(crate) unsafe fn delete(block: NonNull<u8>) {
    // SAFETY: by the contract.
    unsafe { dealloc(block.as_ptr(), LAYOUT) };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_warmest_first_and_no_more_than_so_many() {
        let blocks = Blocks::new();
        let taken: Vec<_> = (0..KEPT + 10).map(|_| blocks.alloc()).collect();
        for block in &taken {
            // SAFETY: in use by this test.
            unsafe { block.write_bytes(0xab, LAYOUT.size()) };
        }
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len());
        // SAFETY: from `alloc`, each once.
        taken.iter().for_each(|block| unsafe { blocks.free(*block) });
        assert_eq!(blocks.len.get(), KEPT);
        let again: Vec<_> = (0..KEPT).map(|_| blocks.alloc()).collect();
        assert!(again.iter().eq(taken[..KEPT].iter().rev()));
        assert_eq!(blocks.len.get(), 0);
        // SAFETY: as above.
        again.iter().for_each(|block| unsafe { blocks.free(*block) });
        blocks.clear();
        assert_eq!(blocks.len.get(), 0);
    }
}
