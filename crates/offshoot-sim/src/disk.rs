//! The simulated disk.
//!
//! It has a volatile cache of 512-byte sectors, completes operations in an order drawn from a seed, and can be asked
//! at any moment what it would look like after a crash. Invariants:
//!
//! - What reads see is the medium under every completed change, in the order of completion.
//! - A sync makes durable what had completed when it was submitted, and nothing else that is not durable by itself.
//! - A crash may keep or lose any sector of any change that is not durable. That covers a cache that writes back by
//!   itself, in any order, and operations that had taken effect before they completed.

mod change;
mod crash;
mod fault;
mod subsets;
mod written;

pub use change::{Change, Content};
pub use crash::{Cut, DiskState, Fate};
pub use fault::{Effect, Fault, OpKind, Withheld};
pub use subsets::{Bounds, Subset};
pub use written::Written;

use crate::image::{Image, SECTOR_BYTES};
use crate::random::Random;
use crash::Cached;
use offshoot_block::{
    BlockDevice, Buffer, Completion, DeviceError, DeviceGeometry, DeviceOffset, DeviceOp, OpId,
};
use std::cell::{RefCell, RefMut};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use written::Listing;

/// When a completed write is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// At once.
    WriteThrough,
    /// With the next sync.
    Volatile,
}

/// A disk that a store owns and its test keeps a hand on: clones are handles of the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Rc<RefCell<Disk>>);

/// What was asked of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Operations that were submitted.
    pub submitted: u64,
    /// Those of them that change something, and syncs.
    pub changing: u64,
    /// Operations that have completed.
    pub completed: u64,
    /// Operations that a fault struck.
    pub struck: u64,
}

#[derive(Debug)]
struct Disk {
    state: DiskState,
    caching: Caching,
    in_flight: Vec<InFlight>,
    random: Random,
    /// How many completions a poll may still hand out.
    grant: u64,
    faults: Vec<Fault>,
    withheld: Vec<Withheld>,
    asked: Asked,
    /// What happened since the last [`SimDisk::events`].
    events: Vec<Event>,
    /// The writes to a part of it, while they are listed.
    written: Option<Listing>,
    /// The disk before each completion, while recording.
    recording: Option<Vec<DiskState>>,
}

/// Something that happened on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether an operation has completed; otherwise it was submitted.
    pub completed: bool,
    /// What it is.
    pub kind: OpKind,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, kind, offset, len } = self;
        write!(f, "{} {kind:?} {offset:#x}+{len:#x}", if *completed { "done:" } else { "disk:" })
    }
}

/// An operation under way.
#[derive(Debug)]
struct InFlight {
    id: OpId,
    kind: OpKind,
    action: Action,
    range: Range<u64>,
    buffer: Option<Buffer>,
    refused: Option<DeviceError>,
    effect: Option<Effect>,
}

#[derive(Debug)]
enum Action {
    Read {
        offset: u64,
    },
    Change(Change),
    /// Covers what had completed when it was submitted: so many operations.
    Sync {
        covers: u64,
    },
}

impl SimDisk {
    /// A disk of zeros.
    #[must_use]
    pub fn new(size_bytes: u64, logical_block: u32, caching: Caching, seed: u64) -> Self {
        let geometry = DeviceGeometry {
            size_bytes,
            logical_block,
            physical_block: 4096,
            volatile_cache: caching == Caching::Volatile,
            read_only: false,
        };
        Self::resume(DiskState::at_rest(geometry, Image::zeros(size_bytes)), seed)
    }

    /// A disk that goes on from a state, with nothing in flight and no faults.
    #[must_use]
    pub fn resume(state: DiskState, seed: u64) -> Self {
        let caching = if state.geometry.volatile_cache { Caching::Volatile } else { Caching::WriteThrough };
        let asked =
            Asked { completed: state.cached.last().map_or(0, |cached| cached.order + 1), ..Asked::default() };
        Self(Rc::new(RefCell::new(Disk {
            state: DiskState { in_flight: Vec::new(), ..state },
            caching,
            in_flight: Vec::new(),
            random: Random::new(seed),
            grant: u64::MAX,
            faults: Vec::new(),
            withheld: Vec::new(),
            asked,
            events: Vec::new(),
            written: None,
            recording: None,
        })))
    }

    /// The disk at this moment.
    #[must_use]
    pub fn state(&self) -> DiskState {
        self.disk().state_now()
    }

    /// How many completions polls may hand out from now on.
    pub fn grant(&self, completions: u64) {
        self.disk().grant = completions;
    }

    /// What was asked of it so far.
    #[must_use]
    pub fn asked(&self) -> Asked {
        self.disk().asked
    }

    /// Adds a fault. Every fault counts every operation that it matches; the oldest that strikes decides.
    pub fn inject(&self, fault: Fault) {
        self.disk().faults.push(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.disk().faults.clear();
    }

    /// Whether something may hang.
    #[must_use]
    pub fn may_hang(&self) -> bool {
        let disk = self.disk();
        disk.faults.iter().any(Fault::hangs) || disk.in_flight.iter().any(|op| disk.is_withheld(op))
    }

    /// Lets operations of this kind never complete from now on, those in flight included.
    pub fn withhold(&self, withheld: Withheld) {
        self.disk().withheld.push(withheld);
    }

    /// Lets everything complete again, what hangs included.
    pub fn release(&self) {
        let mut disk = self.disk();
        disk.withheld.clear();
        for op in &mut disk.in_flight {
            op.effect = op.effect.filter(|effect| *effect != Effect::Hang);
        }
    }

    /// Operations in flight that are withheld or hang.
    #[must_use]
    pub fn withheld(&self) -> usize {
        let disk = self.disk();
        disk.in_flight.iter().filter(|op| disk.is_withheld(op)).count()
    }

    /// What has happened since the last call, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.disk().events)
    }

    /// Lists the writes below a byte from now on.
    pub fn list_writes(&self, below: u64) {
        self.disk().written = Some(Listing::new(below));
    }

    /// The writes that were listed, in the order of their completion. The list begins anew.
    #[must_use]
    pub fn written(&self) -> Vec<Written> {
        self.disk().written.as_mut().map(Listing::take).unwrap_or_default()
    }

    /// Keeps the state before each completion from now on.
    pub fn record(&self) {
        self.disk().recording = Some(Vec::new());
    }

    /// Ends the recording and hands it out.
    #[must_use]
    pub fn recorded(&self) -> Vec<DiskState> {
        self.disk().recording.take().unwrap_or_default()
    }

    fn disk(&self) -> RefMut<'_, Disk> {
        self.0.borrow_mut()
    }
}

impl BlockDevice for SimDisk {
    fn geometry(&self) -> DeviceGeometry {
        self.disk().state.geometry
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.disk().submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let mut disk = self.disk();
        if disk.grant > 0 && disk.complete_one(completions) {
            disk.grant -= 1;
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.disk().complete_one(completions);
    }

    fn outstanding(&self) -> usize {
        self.disk().in_flight.len()
    }
}

impl Disk {
    fn state_now(&self) -> DiskState {
        let changes = self.in_flight.iter().filter(|op| op.refused.is_none());
        let in_flight = changes.filter_map(|op| match &op.action {
            Action::Change(change) => Some(change.clone()),
            Action::Read { .. } | Action::Sync { .. } => None,
        });
        DiskState { in_flight: in_flight.collect(), ..self.state.clone() }
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let kind = OpKind::of(&op);
        let range = range(&op);
        let refused = self.refusal(kind, &range);
        self.asked.submitted += 1;
        self.asked.changing += u64::from(kind != OpKind::Read);
        let mut effect = None;
        if refused.is_none() {
            for fault in &mut self.faults {
                let struck = fault.strike(kind, range.clone());
                effect = effect.or(struck);
            }
            self.asked.struck += u64::from(effect.is_some());
        }
        if let Some(Effect::Delay { completions }) = &mut effect {
            *completions += self.asked.completed;
        }
        let len = range.end - range.start;
        let change = |content| Action::Change(Change { offset: range.start, len, content });
        let (action, buffer) = match op {
            DeviceOp::Read { offset, buffer } => (Action::Read { offset: offset.0 }, Some(buffer)),
            DeviceOp::Write { buffer, .. } => {
                (change(Content::Bytes(buffer.as_slice().into())), Some(buffer))
            }
            DeviceOp::WriteZeroes { .. } => (change(Content::Zeros), None),
            DeviceOp::Unmap { .. } => (change(Content::Undefined(self.random.bits())), None),
            DeviceOp::Sync => (Action::Sync { covers: self.asked.completed }, None),
        };
        self.events.push(Event { completed: false, kind, offset: range.start, len });
        self.in_flight.push(InFlight { id, kind, action, range, buffer, refused, effect });
    }

    fn refusal(&self, kind: OpKind, range: &Range<u64>) -> Option<DeviceError> {
        let geometry = &self.state.geometry;
        let block = u64::from(geometry.logical_block);
        let (offset, len) = (DeviceOffset(range.start), range.end - range.start);
        if range.end > geometry.size_bytes {
            Some(DeviceError::OutOfRange { offset, len })
        } else if !range.start.is_multiple_of(block) || !len.is_multiple_of(block) {
            Some(DeviceError::Misaligned { offset, len })
        } else if geometry.read_only && kind != OpKind::Read {
            Some(DeviceError::ReadOnly)
        } else {
            None
        }
    }

    /// Completes one operation, if there is one that may. Delayed ones come last.
    fn complete_one(&mut self, completions: &mut Vec<Completion>) -> bool {
        let free = |op: &InFlight| !self.is_withheld(op);
        let late = |op: &InFlight| match op.effect {
            Some(Effect::Delay { completions }) => completions > self.asked.completed,
            _ => false,
        };
        let ops = || self.in_flight.iter().enumerate().filter(|(_, op)| free(op));
        let mut candidates: Vec<usize> = ops().filter(|(_, op)| !late(op)).map(|(at, _)| at).collect();
        if candidates.is_empty() {
            candidates = ops().map(|(at, _)| at).collect();
        }
        if candidates.is_empty() {
            return false;
        }
        if self.recording.is_some() {
            let state = self.state_now();
            self.recording.iter_mut().for_each(|recording| recording.push(state.clone()));
        }
        let op = self.in_flight.remove(candidates[self.random.index(candidates.len())]);
        completions.push(self.complete(op));
        true
    }

    fn complete(&mut self, mut op: InFlight) -> Completion {
        let result = match op.refused {
            Some(error) => Err(error),
            None => self.carry_out(&op.action, &mut op.buffer, op.effect),
        };
        self.asked.completed += 1;
        let (offset, len) = (op.range.start, op.range.end - op.range.start);
        self.events.push(Event { completed: true, kind: op.kind, offset, len });
        Completion { id: op.id, buffer: op.buffer, result }
    }

    fn carry_out(
        &mut self,
        action: &Action,
        buffer: &mut Option<Buffer>,
        effect: Option<Effect>,
    ) -> Result<(), DeviceError> {
        match (action, effect) {
            (Action::Change(change), Some(Effect::Fail(error))) => {
                let mut random = self.random.fork();
                let kept = change.tear(|_| random.chance(1, 2));
                kept.into_iter().for_each(|part| self.change(part));
                return Err(error);
            }
            (Action::Change(change), _) => self.change(change.clone()),
            (Action::Sync { covers }, Some(Effect::LoseCache)) => {
                self.lose(*covers);
                return Err(DeviceError::Io { errno: 5 });
            }
            (_, Some(Effect::Fail(error))) => return Err(error),
            (Action::Sync { covers }, _) => self.sync(*covers),
            (Action::Read { offset }, _) => {
                if let Some(buffer) = buffer {
                    let end = *offset + buffer.len() as u64;
                    let sectors = *offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
                    if self.state.unreadable.range(sectors).next().is_some() {
                        return Err(DeviceError::Io { errno: 5 });
                    }
                    self.state.view.read(*offset, buffer.as_mut_slice());
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        if !self.state.unreadable.is_empty() {
            let first = change.offset / SECTOR_BYTES;
            self.state.unreadable.retain(|sector| !(first..first + change.sectors()).contains(sector));
        }
        let before = self.written.as_ref().map(|written| written.what_is_at(&change, &self.state.view));
        change.apply(&mut self.state.view);
        if let (Some(written), Some(Some(before))) = (&mut self.written, before) {
            written.add(&change, before, &self.state.view);
        }
        match self.caching {
            Caching::WriteThrough => change.apply(&mut self.state.medium),
            Caching::Volatile => self.state.cached.push(Cached { order: self.asked.completed, change }),
        }
    }

    fn sync(&mut self, covers: u64) {
        let durable = self.state.cached.iter().take_while(|cached| cached.order < covers).count();
        for cached in self.state.cached.drain(..durable) {
            cached.change.apply(&mut self.state.medium);
        }
    }

    /// What a failed sync should have made durable is gone, from the cache too.
    fn lose(&mut self, covers: u64) {
        self.state.cached.retain(|cached| cached.order >= covers);
        self.state.view = self.state.medium.clone();
        for cached in &self.state.cached {
            cached.change.apply(&mut self.state.view);
        }
    }

    fn is_withheld(&self, op: &InFlight) -> bool {
        let change = match &op.action {
            Action::Change(change) => Some(change),
            _ => None,
        };
        op.effect == Some(Effect::Hang)
            || self.withheld.iter().any(|withheld| withheld.holds(op.kind, change))
    }
}

/// The bytes that an operation touches. A sync touches none.
fn range(op: &DeviceOp) -> Range<u64> {
    let (offset, len) = match op {
        DeviceOp::Read { offset, buffer } | DeviceOp::Write { offset, buffer } => {
            (offset.0, buffer.len() as u64)
        }
        DeviceOp::WriteZeroes { offset, len, .. } | DeviceOp::Unmap { offset, len } => (offset.0, *len),
        DeviceOp::Sync => (0, 0),
    };
    offset..offset.saturating_add(len)
}

#[cfg(test)]
mod tests;
