//! What a node sees of the frames above it.
//!
//! ```text
//!   root     Run, a Counter, an array, a Link   ◄──────────┐
//!   node     local                              ◄── near   │ run, object
//!   node     array                              ◄── far    │
//!   node     Link ───► Link of a frame above    ◄── chain  │
//!   node     Env { near, far, object, chain, run } ────────┘
//! ```
//!
//! A node hands its own [`Env`] to its children, with some of the references replaced by references to its own locals. So
//! one `Env` points to the locals of several ancestors.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use morestack::checkpoint;

use crate::on::On;

/// What a node returns. An `Err` leaves each function by `?` until one of them takes it.
pub(super) type Outcome = Result<u64, Early>;

/// The reason of an early return. One of them owns memory, so that a `Result` has something to drop.
#[derive(Debug)]
pub(super) enum Early {
    Number(u64),
    Text(String),
}

impl Early {
    /// What it says.
    pub(super) fn value(&self) -> u64 {
        match self {
            Early::Number(number) => *number,
            Early::Text(text) => mix_bytes(7, text.as_bytes()),
        }
    }
}

/// Makes of a state and a value the next state. Both count, and so does the order of the values.
pub(super) fn mix(state: u64, value: u64) -> u64 {
    (state.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// [`mix`] of every byte.
pub(super) fn mix_bytes(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| mix(state, u64::from(*byte)))
}

/// [`mix`] of every number.
pub(super) fn mix_all(state: u64, numbers: &[u64]) -> u64 {
    numbers.iter().fold(state, |state, number| mix(state, *number))
}

/// A run of a program. It lies at the root of the stack; every frame has a reference to it.
pub(super) struct Run {
    /// Where it runs: for nodes that start another thread of the same kind.
    pub(super) on: On,
    /// Everything that nodes noted, in order.
    pub(super) hash: Cell<u64>,
    /// Everything that destructors noted, in order.
    pub(super) log: Cell<u64>,
    /// Destructors that ran.
    pub(super) drops: Cell<u64>,
    /// Panics caught.
    pub(super) panics: Cell<u64>,
    /// Nodes entered.
    pub(super) nodes: Cell<u64>,
    /// Nodes that may still be entered: loops in loops would take for ever.
    pub(super) fuel: Cell<u64>,
    /// Nodes and recursive calls on the stack, and the most there were.
    pub(super) depth: Cell<u64>,
    pub(super) deepest: Cell<u64>,
    /// Locals of frames that are on the stack, in their order.
    pub(super) registered: RefCell<Vec<NonNull<Cell<u64>>>>,
}

impl Run {
    pub(super) fn new(on: On, fuel: u64) -> Run {
        let zero = || Cell::new(0);
        let (hash, log, drops, panics, nodes, depth, deepest) =
            (zero(), zero(), zero(), zero(), zero(), zero(), zero());
        let registered = RefCell::default();
        Run { on, hash, log, drops, panics, nodes, fuel: Cell::new(fuel), depth, deepest, registered }
    }

    /// Adds to the hash.
    pub(super) fn note(&self, value: u64) {
        self.hash.set(mix(self.hash.get(), value));
    }

    /// Adds to the destructors' log.
    pub(super) fn log_drop(&self, value: u64) {
        self.log.set(mix(self.log.get(), value));
        self.drops.set(self.drops.get() + 1);
    }

    /// One level deeper, until the guard is dropped.
    pub(super) fn level(&self) -> Level<'_> {
        let depth = self.depth.get() + 1;
        self.depth.set(depth);
        self.deepest.set(self.deepest.get().max(depth));
        Level(self)
    }
}

/// A level of depth: given back by returning and by unwinding.
pub(super) struct Level<'a>(&'a Run);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}

/// The locals of ancestors that a node may use. See the module's picture.
pub(super) struct Env<'a> {
    pub(super) run: &'a Run,
    /// A local of some ancestor.
    pub(super) near: &'a mut u64,
    /// An array of some ancestor, or a part of it. Never empty.
    pub(super) far: &'a mut [u64],
    /// Something of some ancestor, behind a vtable.
    pub(super) object: &'a mut (dyn Object + 'a),
    /// A list through the frames.
    pub(super) chain: &'a Link<'a>,
}

impl<'a> Env<'a> {
    /// The same for a child.
    pub(super) fn again(&mut self) -> Env<'_> {
        Env { run: self.run, near: self.near, far: self.far, object: self.object, chain: self.chain }
    }

    pub(super) fn near<'b>(&'b mut self, near: &'b mut u64) -> Env<'b> {
        Env { near, ..self.again() }
    }

    pub(super) fn far<'b>(&'b mut self, far: &'b mut [u64]) -> Env<'b> {
        Env { far, ..self.again() }
    }

    pub(super) fn object<'b>(&'b mut self, object: &'b mut (dyn Object + 'b)) -> Env<'b> {
        Env { object, ..self.again() }
    }

    pub(super) fn chain<'b>(&'b mut self, chain: &'b Link<'b>) -> Env<'b> {
        Env { chain, ..self.again() }
    }
}

/// A link of a list whose parts lie in different frames.
pub(super) struct Link<'a> {
    pub(super) above: Option<&'a Link<'a>>,
    pub(super) cell: Cell<u64>,
}

/// Something with a vtable and a state.
pub(super) trait Object {
    /// Changes the state by `value`, and gives something of both.
    fn call(&mut self, value: u64) -> u64;

    /// The state.
    fn peek(&self) -> u64;
}

/// The object at the root.
pub(super) struct Counter(pub(super) u64);

impl Object for Counter {
    #[inline(never)]
    fn call(&mut self, value: u64) -> u64 {
        checkpoint();
        self.0 = mix(self.0, value);
        self.0 >> 3
    }

    fn peek(&self) -> u64 {
        self.0
    }
}
