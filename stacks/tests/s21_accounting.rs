//! S21: what is in use, what is reserved, what moved.

mod common;

use common::{WHY, done, green, serial};
use morestack_stacks::{FIXED_STACK, StackCache, copystack, stackalloc, stackfree, stats};

#[test]
fn in_use_by_order_and_in_bytes() {
    let _one = serial();
    let mut caches = [StackCache::new(), StackCache::new()];
    let start = stats();
    let mut stacks = Vec::new();
    for (order, count) in [3, 5, 7, 2].into_iter().enumerate() {
        for i in 0..count {
            stacks.push(stackalloc(Some(&mut caches[i % 2]), FIXED_STACK << order).unwrap());
        }
    }
    stacks.push(stackalloc(None, 1 << 20).unwrap());
    stacks.push(stackalloc(None, 4 << 20).unwrap());
    let now = stats();
    assert_eq!([0, 1, 2, 3].map(|order| now.in_use[order] - start.in_use[order]), [3, 5, 7, 2]);
    assert_eq!(now.large_in_use - start.large_in_use, 2);
    let bytes: usize = stacks.iter().map(|stack| stack.size()).sum();
    assert_eq!(now.in_use_bytes - start.in_use_bytes, bytes);
    assert!(now.reserved_bytes >= now.in_use_bytes && now.address_space_bytes >= now.reserved_bytes);
    assert!((0..4).all(|order| now.reserved[order] >= now.in_use[order] + now.cached[order]));
    // SAFETY: nothing runs on them.
    stacks.into_iter().for_each(|stack| unsafe { stackfree(Some(&mut caches[1]), stack) });
    let end = stats();
    assert_eq!(
        (end.in_use, end.large_in_use, end.in_use_bytes),
        (start.in_use, start.large_in_use, start.in_use_bytes)
    );
}

#[test]
fn moves_by_kind() {
    let _one = serial();
    let mut cache = StackCache::new();
    let mut g = green(Some(&mut cache), FIXED_STACK, &[0; 4]);
    let start = stats();
    for size in [2, 4, 4, 2, 1, 1, 1, 2].map(|n| n * FIXED_STACK) {
        // SAFETY: `g` is memory only.
        unsafe { copystack(Some(&mut cache), &mut g, size, WHY).unwrap() };
    }
    let end = stats();
    assert_eq!((end.grows - start.grows, end.shrinks - start.shrinks, end.moves - start.moves), (3, 2, 3));
    assert_eq!(end.bytes_copied - start.bytes_copied, 8 * 32);
    assert_eq!(end.words_adjusted, start.words_adjusted);
    done(Some(&mut cache), g);
}
