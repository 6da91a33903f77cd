//! Guards do not use up the mappings of a process. In a file, and so in a process, of its own: nothing else maps.

use std::fs;

use morestack_stacks::{FIXED_STACK, Shortage, StackError, guard_of, stackalloc, stackfree, stats};

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn twenty_thousand_guarded_stacks() {
    const STACKS: usize = 20_000;
    let before = mappings();
    let mut refused = None;
    let stacks: Vec<_> = (0..STACKS)
        .map_while(|i| stackalloc(None, FIXED_STACK << (i % 100 / 99)).map_err(|error| refused = Some(error)).ok())
        .collect();
    for stack in &stacks {
        assert_eq!(guard_of(*stack).len(), 4096);
        // SAFETY: the stack is the test's.
        unsafe { ((stack.hi - 8) as *mut u64).write(1) };
    }
    let stats = stats();
    let grown = mappings() - before;
    if stats.guards_mprotect == 0 {
        assert_eq!(stacks.len(), STACKS, "{refused:?}");
        assert!(stats.guards_madvise >= STACKS, "{stats:?}");
        assert!(grown < 100, "{grown} new mappings");
    } else {
        // An older kernel: each guard costs two, within half of what there is, and beyond it there are no stacks.
        let most: usize = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
        assert!(grown < most / 2 + 100, "{grown} new mappings of {most}");
        assert!(stats.guards_mprotect >= stacks.len(), "{stats:?}");
        // Two spans of 32 and 21 guards may be in part free.
        assert!(stacks.len() + 53 > STACKS.min(most / 4), "{refused:?} {stats:?}");
        assert!(
            matches!(refused.as_ref().map(StackError::shortage), None | Some(Shortage::NoGuard { source: None, .. })),
            "{refused:?}"
        );
    }
    // SAFETY: nothing runs on them.
    stacks.into_iter().for_each(|stack| unsafe { stackfree(None, stack) });
}
