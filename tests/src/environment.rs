//! Environments that programs run in: under stress at every prologue, and with old stacks inaccessible.

/// Variables and their values.
pub type Environment = [(&'static str, &'static str)];

/// As it is.
pub const NONE: &Environment = &[];

/// Every prologue preempts.
pub const PREEMPT: &Environment = &[("MORESTACK_STRESS", "preempt")];

/// Every prologue moves the stack.
pub const MOVE: &Environment = &[("MORESTACK_STRESS", "move"), ("MORESTACK_EFENCE", "1")];

/// Both.
pub const BOTH: &Environment = &[("MORESTACK_STRESS", "move,preempt"), ("MORESTACK_EFENCE", "1")];
