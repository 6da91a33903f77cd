//! From a frame of compiled code to its caller, by the `.eh_frame` of the executable or shared object that it is in.
//!
//! ```text
//!   pc ─► rule cache ─ miss ─► object ─► .eh_frame_hdr, binary search ─► FDE ─► row for pc ─► Rule
//!            │ hit                                                                             │
//!            └────────────────────────────► CFA, return address, saved registers ◄─────────────┘
//! ```
//!
//! The tables are read by `gimli`. It is strict: a frame pointer is never guessed at where there is no table.
//!
//! # Loaded objects
//!
//! Each walk first compares the loader's counts of loaded and unloaded objects with those of the last time, and reads
//! the list anew if they differ. So a walk knows every object that has a frame on the stack: it was loaded before the
//! frame was made. An object that is unloaded during the walk has no frame there, so its tables are not read.
//!
//! # Each thread for itself
//!
//! Rules are cached per OS thread: walks of different threads share no lock but that of the registered maps, which they
//! read.

use std::cell::RefCell;
use std::ffi::c_int;
use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, Encoding, EndianSlice, EvaluationResult, Expression, Format,
    FrameDescriptionEntry, LittleEndian, ParsedEhFrameHdr, RegisterRule, UnwindContext, UnwindSection, UnwindTableRow,
    Value, X86_64,
};

use super::Register;
use super::walk::{Frame, Step, Words};

type Bytes = EndianSlice<'static, LittleEndian>;

/// Rules that are kept, a power of two. A program that is moved at more places than that reads tables more often.
/// Plucked from thin air.
const RULES: usize = 512;

/// Steps of a DWARF expression before it is taken for one that does not end. Those of compilers have three.
const EXPRESSION_STEPS: u32 = 100;

/// The registers that callees keep, as tables name them, in the order of [`Register`].
const KEPT: [gimli::Register; Register::COUNT] =
    [X86_64::RBX, X86_64::RBP, X86_64::R12, X86_64::R13, X86_64::R14, X86_64::R15];

/// What a table may find a frame by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Base {
    Sp,
    /// An index of [`KEPT`].
    Kept(usize),
}

impl Base {
    /// The index of `rbp`.
    pub(super) const BP: usize = Register::Rbp as usize;

    /// None for a register that callees may change: it is lost.
    fn new(register: gimli::Register) -> Option<Base> {
        match register {
            X86_64::RSP => Some(Base::Sp),
            _ => KEPT.iter().position(|kept| *kept == register).map(Base::Kept),
        }
    }

    fn value(self, frame: &Frame) -> Option<usize> {
        match self {
            Base::Sp => Some(frame.sp),
            Base::Kept(index) => frame.kept[index],
        }
    }
}

/// How to find the caller of the code at one address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) cfa: Cfa,
    pub(super) ret: Saved,
    pub(super) kept: [Saved; KEPT.len()],
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cfa {
    Register(Base, isize),
    /// What gcc writes where it realigns the stack.
    Expression(&'static [u8]),
}

/// Where the caller's register is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Saved {
    Same,
    /// So far from the CFA.
    At(isize),
    /// At the address that this computes, from the CFA to begin with.
    AtExpression(&'static [u8]),
    /// Marked as not there. A return address of this kind ends the stack.
    Undefined,
    /// In a way that compilers do not use for code that calls.
    Unsupported,
}

impl Saved {
    fn new(rule: Option<RegisterRule<usize>>, section: &EhFrame<Bytes>) -> Saved {
        match rule {
            // The System V ABI's default for registers that callees keep.
            None | Some(RegisterRule::SameValue) => Saved::Same,
            Some(RegisterRule::Offset(offset)) => Saved::At(offset as isize),
            Some(RegisterRule::Expression(expression)) => {
                expression.get(section).map_or(Saved::Unsupported, |e| Saved::AtExpression(e.0.slice()))
            }
            Some(RegisterRule::Undefined) => Saved::Undefined,
            Some(_) => Saved::Unsupported,
        }
    }

    #[inline]
    fn value(self, same: Option<usize>, cfa: usize, frame: &Frame, words: &Words) -> Option<usize> {
        match self {
            Saved::Same => same,
            Saved::At(offset) => words.read(cfa.wrapping_add_signed(offset)),
            Saved::AtExpression(expression) => words.read(evaluate(expression, Some(cfa), frame, words)?),
            Saved::Undefined | Saved::Unsupported => None,
        }
    }
}

impl Rule {
    fn new(row: &UnwindTableRow<usize>, section: &EhFrame<Bytes>) -> Option<Rule> {
        // The caller's sp is the CFA, unless the table says something else.
        if row.register(X86_64::RSP).is_some() {
            return None;
        }
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => Cfa::Register(Base::new(*register)?, *offset as isize),
            CfaRule::Expression(expression) => Cfa::Expression(expression.get(section).ok()?.0.slice()),
        };
        let saved = |register| Saved::new(row.register(register), section);
        Some(Rule { cfa, ret: saved(X86_64::RA), kept: KEPT.map(saved) })
    }

    fn step(&self, frame: &Frame, words: &Words) -> Step {
        if let Saved::Undefined = self.ret {
            return Step::End;
        }
        let caller = || {
            let cfa = match self.cfa {
                Cfa::Register(base, offset) => base.value(frame)?.wrapping_add_signed(offset),
                Cfa::Expression(expression) => evaluate(expression, None, frame, words)?,
            };
            let ret = self.ret.value(None, cfa, frame, words)?;
            let mut kept = frame.kept;
            for (kept, saved) in kept.iter_mut().zip(&self.kept) {
                *kept = saved.value(*kept, cfa, frame, words);
            }
            Some(Frame::caller(ret, cfa, kept))
        };
        caller().map_or(Step::Unknown, Step::Caller)
    }
}

/// A DWARF expression over the registers of a frame and the words of its stack.
fn evaluate(expression: &'static [u8], initial: Option<usize>, frame: &Frame, words: &Words) -> Option<usize> {
    let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };
    let mut evaluation = Expression(Bytes::new(expression, LittleEndian)).evaluation(encoding);
    evaluation.set_max_iterations(EXPRESSION_STEPS);
    if let Some(value) = initial {
        evaluation.set_initial_value(value as u64);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                evaluation.resume_with_register(Value::Generic(Base::new(register)?.value(frame)? as u64))
            }
            EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                evaluation.resume_with_memory(Value::Generic(words.read(address as usize)? as u64))
            }
            _ => return None,
        }
        .ok()?;
    }
    match evaluation.value_result()? {
        Value::Generic(value) => Some(value as usize),
        _ => None,
    }
}

/// An executable or shared object with unwind tables.
pub(super) struct Object {
    pub(super) code: Range<usize>,
    table: ParsedEhFrameHdr<Bytes>,
    eh_frame: EhFrame<Bytes>,
    bases: BaseAddresses,
}

impl Object {
    /// None if it has no tables that can be searched.
    fn new(info: &libc::dl_phdr_info) -> Option<Object> {
        // SAFETY: the loader's own list of program headers.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let base = info.dlpi_addr as usize;
        let range = |header: &libc::Elf64_Phdr| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        };
        let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(range);
        // From an address to the end of the segment that it is in.
        let section = |start: usize| {
            let end = loaded().find(|segment| segment.contains(&start))?.end;
            // SAFETY: the loader has mapped the segment, readable: unwinding needs it. It is used while code of the
            // object is on a stack that is walked, so while it is loaded.
            let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(start as *const u8, end - start) };
            Some(Bytes::new(bytes, LittleEndian))
        };
        let hdr = range(headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME)?).start;
        let bases = BaseAddresses::default().set_eh_frame_hdr(hdr as u64);
        let table = EhFrameHdr::from(section(hdr)?).parse(&bases, size_of::<usize>() as u8).ok()?;
        table.table()?;
        let start = table.eh_frame_ptr().direct().ok()?;
        Some(Object {
            code: loaded().map(|segment| segment.start).min()?..loaded().map(|segment| segment.end).max()?,
            table,
            eh_frame: EhFrame::from(section(start as usize)?),
            bases: bases.set_eh_frame(start),
        })
    }

    fn fde(&self, pc: usize) -> Option<FrameDescriptionEntry<Bytes>> {
        let find = EhFrame::cie_from_offset;
        self.table.table()?.fde_for_address(&self.eh_frame, &self.bases, pc as u64, find).ok()
    }

    fn rule(&self, pc: usize, context: &mut UnwindContext<usize>) -> Option<Rule> {
        let fde = self.fde(pc)?;
        // What it interrupted was not in a call, and no green thread is suspended in a signal handler.
        if fde.is_signal_trampoline() {
            return None;
        }
        let row = fde.unwind_info_for_address(&self.eh_frame, &self.bases, context, pc as u64).ok()?;
        Rule::new(row, &self.eh_frame)
    }
}

/// The unwinder of an OS thread.
pub(super) struct Unwinder {
    objects: Vec<Object>,
    /// How many objects had been loaded and unloaded when `objects` was read.
    counts: Option<(u64, u64)>,
    /// Rules by a hash of their address; a collision overwrites.
    rules: Vec<Option<(usize, Rule)>>,
    context: UnwindContext<usize>,
    pub(super) shapes: super::movable::Shapes,
}

impl Unwinder {
    fn new() -> Unwinder {
        Unwinder {
            objects: Vec::new(),
            counts: None,
            rules: vec![None; RULES],
            context: UnwindContext::new(),
            shapes: super::movable::Shapes::new(),
        }
    }

    /// Calls `f` with this thread's unwinder, which knows all loaded objects.
    pub(super) fn with<R>(f: impl FnOnce(&mut Unwinder) -> R) -> R {
        thread_local! {
            static UNWINDER: RefCell<Option<Unwinder>> = const { RefCell::new(None) };
        }
        // Taken out for the time: a thread that is about to exit has none any more, and makes one for this call.
        let kept = UNWINDER.try_with(RefCell::take).ok().flatten();
        let mut unwinder = kept.unwrap_or_else(Unwinder::new);
        unwinder.refresh();
        let result = f(&mut unwinder);
        // Not kept if the thread exits.
        let _ = UNWINDER.try_with(|kept| kept.replace(Some(unwinder)));
        result
    }

    fn refresh(&mut self) {
        struct Visit<'a> {
            unwinder: &'a mut Unwinder,
            first: bool,
        }
        unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, data: *mut libc::c_void) -> c_int {
            // SAFETY: glibc's description of one object, whole since 2.4, and the `visit` below.
            let (info, visit) = unsafe { (&*info, &mut *data.cast::<Visit<'_>>()) };
            let unwinder = &mut *visit.unwinder;
            if visit.first {
                visit.first = false;
                let counts = Some((info.dlpi_adds, info.dlpi_subs));
                if unwinder.counts == counts {
                    return 1;
                }
                unwinder.counts = counts;
                unwinder.objects.clear();
                unwinder.rules.fill(None);
                unwinder.shapes.clear();
            }
            unwinder.objects.extend(Object::new(info));
            0
        }
        let mut visit_all = Visit { unwinder: self, first: true };
        // SAFETY: `visit` is called before this returns only, with what it expects. The loader's lock is held meanwhile, so
        // no object goes away.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut visit_all).cast()) };
    }

    /// The caller of a frame of compiled code.
    pub(super) fn step(&mut self, frame: &Frame, words: &Words) -> Step {
        self.rule(frame.code()).map_or(Step::Unknown, |rule| rule.step(frame, words))
    }

    fn rule(&mut self, pc: usize) -> Option<&Rule> {
        // Fibonacci hashing: the top bits of the product depend on all bits of the address.
        let slot = pc.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - RULES.ilog2());
        if !matches!(self.rules[slot], Some((cached, _)) if cached == pc) {
            let object = Self::object(&self.objects, pc)?;
            self.rules[slot] = Some((pc, object.rule(pc, &mut self.context)?));
        }
        self.rules[slot].as_ref().map(|(_, rule)| rule)
    }

    fn object(objects: &[Object], pc: usize) -> Option<&Object> {
        objects.iter().find(|object| object.code.contains(&pc))
    }

    /// Where the function begins that this code is in, by its unwind table, and the object that has it.
    pub(super) fn function(&self, pc: usize) -> Option<(usize, &Object)> {
        let object = Self::object(&self.objects, pc)?;
        object.fde(pc).map(|fde| (fde.initial_address() as usize, object))
    }

    /// The rule for the code at this address, which is not kept.
    pub(super) fn rule_of(&mut self, pc: usize) -> Option<Rule> {
        Self::object(&self.objects, pc)?.rule(pc, &mut self.context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More addresses than there is room for: whatever the order, each has its own rule.
    #[test]
    fn a_cached_rule_is_that_of_its_address() {
        Unwinder::with(|unwinder| {
            let start = Unwinder::refresh as *const () as usize;
            let pcs = start..start + 8 * RULES;
            let mut fresh = Vec::new();
            for pc in pcs.clone() {
                let object = unwinder.objects.iter().find(|object| object.code.contains(&pc)).unwrap();
                fresh.push(object.rule(pc, &mut unwinder.context));
            }
            for (pc, fresh) in pcs.clone().zip(&fresh).chain(pcs.zip(&fresh)) {
                // The second time it may come from the cache.
                let (first, second) = (unwinder.rule(pc).copied(), unwinder.rule(pc).copied());
                assert_eq!((first, second), (*fresh, *fresh), "{pc:#x}");
            }
            let found: Vec<Rule> = fresh.into_iter().flatten().collect();
            assert!(found.len() > RULES && found.iter().any(|rule| *rule != found[0]), "they differ");
        });
    }
}
