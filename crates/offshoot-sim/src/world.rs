//! A store, its disk and its model, moved forward one completion at a time.

mod replies;
mod watch;

pub(crate) use watch::{Append, Watch};

use crate::cell;
use crate::check::{Expected, Recovered, contents, one_moment, relations, sound};
use crate::disk::{Cut, DiskState, SimDisk};
use crate::external;
use crate::image::{SECTOR_BYTES, index};
use crate::model::{Change, Model, Number, Observer, Time};
use crate::pattern::fill;
use crate::power::Power;
use crate::random::Random;
use crate::setup::{MD_PAGE_BYTES, Setup};
use crate::violation::{Promise, Violation};
use offshoot_block::{BlockDevice, Buffer};
use offshoot_format::{BlobCluster, BlobId, BlockState, ClearMethod, MdPageIdx, NativeFlags};
use offshoot_store::{CreateOptions, Identity, IoRequest, Rules, Store, Ticket, Underlay, Verb, Work};
use std::collections::BTreeMap;
use std::ops::Range;
use uuid::Uuid;

/// Polls without any progress after which a request counts as forgotten. Removing an lvol takes some.
const IDLE_POLLS_MAX: u32 = 10_000;

/// Something that a client does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Verb(Change),
    Write {
        lvol: Number,
        cells: Range<usize>,
        fua: bool,
    },
    Zero {
        lvol: Number,
        cells: Range<usize>,
        allocate: bool,
        fua: bool,
    },
    Unmap {
        lvol: Number,
        cells: Range<usize>,
        fua: bool,
    },
    Read {
        lvol: Number,
        cells: Range<usize>,
    },
    Flush,
    /// A job that changes what no client can see.
    Seal,
    /// The store takes all of its disk.
    Grow,
    /// Its md region takes so many of the clusters behind it.
    GrowMd {
        clusters: u32,
    },
}

impl Op {
    /// The lvol whose data it is about.
    fn lvol(&self) -> Option<Number> {
        match self {
            Self::Write { lvol, .. }
            | Self::Zero { lvol, .. }
            | Self::Unmap { lvol, .. }
            | Self::Read { lvol, .. } => Some(*lvol),
            Self::Verb(_) | Self::Flush | Self::Seal | Self::Grow | Self::GrowMd { .. } => None,
        }
    }
}

/// A request that has not been answered.
#[derive(Clone, Debug)]
struct Request {
    op: Op,
    /// Its number: that of the write, where it is one.
    id: u64,
    since: Time,
    /// Verbs that are still to follow, last one first, where one request is taken apart.
    rest: Vec<Verb>,
}

/// A store in use.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) power: Power,
    pub(crate) disk: SimDisk,
    /// The external snapshot.
    pub(crate) below: SimDisk,
    pub(crate) model: Model,
    store: Store<SimDisk>,
    requests: BTreeMap<Ticket, Request>,
    /// Verbs that failed together with the device: done or not, the next opening shows it.
    unsure: Vec<(Change, Time)>,
    /// Whether a fault may have cost what was cached.
    lossy: bool,
    /// When the store first took note of a failed device operation.
    error: Option<Time>,
    next_id: u64,
    next_number: Number,
    history: Vec<String>,
    /// Whether each member of a group snapshot becomes a transaction of its own. This is wrong, and has to be found.
    pub(crate) split_groups: bool,
    watch: Option<Watch>,
}

impl World {
    /// Opens an empty store.
    ///
    /// # Errors
    /// When it does not open.
    pub(crate) fn new(setup: Setup, rules: Rules, seed: u64) -> Result<Self, Violation> {
        let power = Power::new(rules, setup.session_known);
        Self::open(
            &Resting { setup, power, state: setup.blank(), model: Model::default(), next: (1, 1) },
            seed,
        )
    }

    /// Opens a store that was closed.
    ///
    /// # Errors
    /// When it does not open, or not as it was closed.
    pub(crate) fn open(resting: &Resting, seed: u64) -> Result<Self, Violation> {
        let Resting { setup, state, next: (next_id, next_number), .. } = resting;
        let mut power = resting.power.clone();
        let disk = SimDisk::resume(state.clone(), seed);
        let below = external::disk(seed);
        let store = Store::open(disk.clone(), external::given(&below), &power.writable());
        let store = store.map_err(|error| {
            Violation::new(Promise::Service, format!("a closed store does not open: {error}"))
        })?;
        sound(&store)?;
        disk.grant(0);
        below.grant(0);
        let world = Self {
            setup: *setup,
            power,
            disk,
            below,
            model: resting.model.clone(),
            store,
            requests: BTreeMap::new(),
            unsure: Vec::new(),
            lossy: false,
            error: None,
            next_id: *next_id,
            next_number: *next_number,
            history: Vec::new(),
            split_groups: false,
            watch: None,
        };
        relations(&world.store, &world.model)?;
        Ok(world)
    }

    /// The number of an lvol that is yet to be made, and its name.
    pub(crate) fn fresh(&mut self) -> (Number, String) {
        let number = self.next_number;
        self.next_number += 1;
        (number, format!("v{number}"))
    }

    /// How many requests wait for their answer.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// Whether the store is on its way to another size.
    pub(crate) fn is_growing(&self) -> bool {
        self.requests.values().any(|request| matches!(request.op, Op::Grow | Op::GrowMd { .. }))
    }

    /// Whether a job is under way.
    pub(crate) fn is_sealing(&self) -> bool {
        self.requests.values().any(|request| matches!(request.op, Op::Seal))
    }

    /// Verbs under way.
    pub(crate) fn verbs(&self) -> impl Iterator<Item = &Change> {
        self.requests.values().filter_map(|request| match &request.op {
            Op::Verb(change) => Some(change),
            _ => None,
        })
    }

    /// Whether any request for data of an lvol is under way.
    pub(crate) fn is_used(&self, number: Number) -> bool {
        self.requests.values().any(|request| request.op.lvol() == Some(number))
    }

    /// Whether an lvol may lie on something.
    pub(crate) fn is_thin(&self, number: Number) -> bool {
        let blob = self.blob(number).and_then(|id| self.store.state().blob(id));
        blob.is_some_and(offshoot_store::Blob::is_thin)
    }

    /// Of each cell of an lvol whether it says itself what the cell reads.
    pub(crate) fn own_cells(&self, number: Number) -> Vec<bool> {
        let state = self.store.state();
        let Some(blob) = self.blob(number).and_then(|id| state.blob(id)) else { return Vec::new() };
        let cells = self.model.lvol(number).map_or(0, |lvol| lvol.cells().len());
        let is_own = |cell| {
            let block = cell::bytes_of(cell).start / state.units.block;
            let blocks = u64::from(state.units.blocks);
            let entry = blob.tree.entry(BlobCluster(block / blocks));
            let block = u32::try_from(block % blocks).unwrap_or(0);
            let mut layers = entry.layers();
            let speaks = layers
                .find(|(_, _, states)| states.is_none_or(|states| states.of(block) != BlockState::Inherit));
            speaks.is_some_and(|(tag, ..)| state.owner(tag) == Some(blob.id))
        };
        (0..cells).map(is_own).collect()
    }

    /// Whether the store takes no writes any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.store.engine().failure().is_some()
    }

    /// What was done so far.
    pub(crate) fn history(&self) -> &[String] {
        &self.history
    }

    pub(crate) fn note(&mut self, line: impl Into<String>) {
        self.history.push(line.into());
    }

    /// Faults from now on may lose what was cached.
    pub(crate) fn expect_loss(&mut self) {
        self.lossy = true;
    }

    /// Whether the disk has just lost what a failed sync was to make durable, and nothing on it says so yet. A process
    /// that is killed at that very moment cannot tell later (`durability.md`, section 8).
    pub(crate) fn is_loss_untold(&self) -> bool {
        self.lossy && self.has_failed() && self.disk.outstanding() > 0
    }

    /// Hands a request to the store. Nothing happens when its lvol is not there.
    pub(crate) fn submit(&mut self, op: Op) {
        let id = self.next_id;
        self.next_id += 1;
        let observer = self.model.tick();
        let mut rest = Vec::new();
        let (ticket, since) = match &op {
            Op::Verb(change @ (Change::Inflate { lvol } | Change::Decouple { lvol, .. })) => {
                let Some(lvol) = self.blob(*lvol) else { return };
                let inflates = matches!(change, Change::Inflate { .. });
                let work = if inflates { Work::Inflate { lvol } } else { Work::Decouple { lvol } };
                (self.store.start_job(work, None), observer)
            }
            Op::Verb(Change::Merge { snapshot, into }) => {
                let (Some(oldest), Some(into)) = (self.blob(*snapshot), self.blob(*into)) else { return };
                (self.store.start_job(Work::Merge { oldest, into }, None), observer)
            }
            Op::Verb(change) => {
                let Some(verb) = self.verb(change) else { return };
                rest = if self.split_groups { taken_apart(verb) } else { vec![verb] };
                let Some(verb) = rest.pop() else { return };
                (self.store.start(verb), observer)
            }
            Op::Flush => (self.store.submit(IoRequest::Flush), observer),
            Op::Seal => (self.store.start_job(Work::Seal, None), observer),
            Op::Grow => (self.store.start_job(self.store.growth(), None), observer),
            Op::GrowMd { clusters } => {
                let Work::Grow { size_bytes, md_pages } = self.store.growth() else { return };
                let md_pages = md_pages + clusters * (self.setup.cluster_size / MD_PAGE_BYTES);
                (self.store.start_job(Work::Grow { size_bytes, md_pages }, None), observer)
            }
            Op::Read { lvol, cells } => {
                let Some((lvol, offset, len)) = self.place(*lvol, cells) else { return };
                let buffer = Buffer::zeroed(index(len));
                (self.store.submit(IoRequest::Read { lvol, offset, buffer }), observer)
            }
            Op::Write { lvol, cells, fua } => {
                let Some((blob, offset, len)) = self.place(*lvol, cells) else { return };
                let mut data = Buffer::zeroed(index(len));
                fill(data.as_mut_slice(), id, cells);
                let since = self.model.submit(*lvol, cells.clone(), id, id);
                let request = IoRequest::Write { lvol: blob, offset, data, fua: *fua };
                (self.store.submit(request), since)
            }
            Op::Zero { lvol, cells, fua, .. } | Op::Unmap { lvol, cells, fua } => {
                let Some((blob, offset, len)) = self.place(*lvol, cells) else { return };
                let (range, fua) = (offset..offset + len, *fua);
                let since = self.model.submit(*lvol, cells.clone(), id, 0);
                let request = match &op {
                    Op::Zero { allocate, .. } => {
                        IoRequest::WriteZeroes { lvol: blob, range, allocate: *allocate, fua }
                    }
                    _ => IoRequest::Unmap { lvol: blob, range, fua },
                };
                (self.store.submit(request), since)
            }
        };
        self.note(format!("{id}: {op:?}"));
        self.requests.insert(ticket, Request { op, id, since, rest });
    }

    /// Lets the disk complete one operation, and takes the answers that follow. Says whether anything happened.
    ///
    /// # Errors
    /// An answer that breaks a promise.
    pub(crate) fn advance(&mut self) -> Result<bool, Violation> {
        let asked = || (self.disk.asked(), self.below.asked());
        let before = asked();
        let mut replies = Vec::new();
        self.disk.grant(1);
        self.below.grant(1);
        self.store.poll(&mut replies);
        self.disk.grant(0);
        self.below.grant(0);
        let moved = asked() != before || !replies.is_empty();
        let events = self.disk.events();
        for event in &events {
            self.note(format!("    {event}"));
        }
        for (ticket, result) in replies {
            self.answered(ticket, result)?;
        }
        self.watched(&events);
        let native = self.store.super_block().native.as_ref();
        if native.is_some_and(|native| native.flags.contains(NativeFlags::DEVICE_ERROR)) {
            self.error.get_or_insert(self.model.now());
        }
        Ok(moved)
    }

    /// The bytes of md pages before the journal, which are written in place once there is one, and those of data.
    pub(crate) fn regions(&self) -> (Range<u64>, Range<u64>) {
        let layout = &self.store.state().layout;
        let journal = self.store.super_block().native.as_ref().and_then(|native| native.journal);
        let pages = journal.map_or(0, |area| area.start.0.min(layout.md_len));
        let cluster = u64::from(layout.cluster_size);
        let data = layout.first_data_cluster().0..layout.total_clusters;
        (
            layout.md_page_offset(MdPageIdx(0))..layout.md_page_offset(MdPageIdx(pages)),
            u64::from(data.start) * cluster..u64::from(data.end) * cluster,
        )
    }

    /// A second passes, in which the disk gets everything done that it was asked for.
    ///
    /// # Errors
    /// An answer that breaks a promise.
    pub(crate) fn second(&mut self) -> Result<(), Violation> {
        self.note("a second passes");
        let before = self.model.tick();
        for _ in 0..2 {
            self.store.tick();
            while self.advance()?
                || self.disk.outstanding() > self.disk.withheld()
                || self.below.outstanding() > 0
            {}
        }
        if !self.lossy && !self.has_failed() {
            self.model.age(before);
        }
        Ok(())
    }

    /// Until every request is answered and the disk is idle. `after_each` sees the world after every step.
    ///
    /// # Errors
    /// An answer that breaks a promise, or none.
    pub(crate) fn drain(
        &mut self,
        mut after_each: impl FnMut(&Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut idle = 0;
        while self.waiting() > 0 || self.disk.outstanding() > 0 || self.below.outstanding() > 0 {
            if self.advance()? {
                idle = 0;
                after_each(self)?;
            } else {
                idle += 1;
            }
            if idle > IDLE_POLLS_MAX {
                let forgotten: Vec<&Op> = self.requests.values().map(|request| &request.op).collect();
                return Err(Violation::new(Promise::Service, format!("no answer to {forgotten:?}")));
            }
        }
        Ok(())
    }

    /// What is known at this moment.
    pub(crate) fn expected(&self) -> Expected<'_> {
        let waiting = self.requests.values().filter_map(|request| match &request.op {
            Op::Verb(change) => Some((change, request.since)),
            _ => None,
        });
        let unsure = self.unsure.iter().map(|(change, since)| (change, *since));
        let verbs = unsure.chain(waiting).collect();
        let failed = self.lossy || self.has_failed();
        Expected { model: &self.model, verbs, failed, error: self.error, now: self.model.now() + 1 }
    }

    /// Checks one crash at this moment, and what is left when its recovery is cut short as well.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub(crate) fn check(
        &self,
        left: &DiskState,
        cut: Cut,
        random: &mut Random,
    ) -> Result<Recovered, Violation> {
        let mut power = self.power.clone();
        power.after(cut);
        let checked = self.expected().check(left, cut, power, random);
        checked.map_err(|violation| violation.during(cut))
    }

    /// Goes on with a store that has recovered from a crash.
    pub(crate) fn go_on(&mut self, recovered: Recovered) {
        self.power = recovered.power;
        self.model = recovered.model;
        self.model.restart(&recovered.contents);
        self.store = recovered.store;
        self.disk = recovered.disk;
        self.below = recovered.below;
        self.disk.grant(0);
        self.below.grant(0);
        self.requests.clear();
        self.unsure.clear();
        self.lossy = false;
        self.error = None;
    }

    /// Reads everything. Nothing may be under way.
    ///
    /// # Errors
    /// The first cell that reads what it should not.
    pub(crate) fn read_all(&mut self) -> Result<(), Violation> {
        let now = self.model.tick();
        let observer = if self.lossy { Observer::AfterPowerCut } else { Observer::Since(now) };
        let model = self.expected().model_of(&self.store);
        relations(&self.store, &model)?;
        let found = contents(&mut self.store, &model, observer)?;
        if !self.lossy {
            one_moment(&model, &found)?;
            self.model.forget_moments();
        }
        for (number, versions) in found.into_iter().filter(|_| !self.lossy) {
            self.model.settle(number, 0, &versions, now);
        }
        Ok(())
    }

    /// Closes the store. Every request has been answered.
    ///
    /// # Errors
    /// When it does not close.
    pub(crate) fn close(mut self) -> Result<Closed, Violation> {
        external::untouched(&self.below)?;
        let now = self.model.tick();
        let before = self.model.clone();
        self.disk.record();
        let (disk, closed) = self.store.close();
        closed.map_err(|error| {
            Violation::new(Promise::Service, format!("the store does not close: {error}"))
        })?;
        let steps = disk.recorded();
        self.model.flush(now, None);
        let next = (self.next_id, self.next_number);
        let resting =
            Resting { setup: self.setup, power: self.power, state: disk.state(), model: self.model, next };
        Ok(Closed { resting, before, error: self.error, steps })
    }

    fn place(&self, lvol: Number, cells: &Range<usize>) -> Option<(BlobId, u64, u64)> {
        let blob = self.blob(lvol)?;
        let Range { start, end } = cell::bytes(cells);
        Some((blob, start, end - start))
    }

    /// Whether an lvol has a parent, and no snapshot that was removed is between the two.
    pub(crate) fn lies_on(&self, lvol: Number, parent: Option<Number>) -> bool {
        let Some(blob) = self.blob(lvol).and_then(|id| self.store.state().blob(id)) else { return false };
        match parent {
            Some(external::NUMBER) => blob.external_is_parent,
            Some(parent) => self.blob(parent).is_some_and(|parent| blob.parent == Some(parent)),
            None => false,
        }
    }

    pub(super) fn blob(&self, lvol: Number) -> Option<BlobId> {
        self.store.state().lvol_by_uuid(Uuid::from_u128(lvol)).map(|blob| blob.id)
    }

    fn verb(&self, change: &Change) -> Option<Verb> {
        let identity = |number: &Number, name: &String| Identity {
            name: name.clone(),
            uuid: Uuid::from_u128(*number),
            created: 1_700_000_000,
        };
        let bytes = |sectors: &usize| *sectors as u64 * SECTOR_BYTES;
        Some(match change {
            Change::Create { number, name, sectors, thick, reserve } => {
                let (identity, size_bytes) = (identity(number, name), bytes(sectors));
                let options =
                    CreateOptions { thick: *thick, reserve: *reserve, clear_method: clear_method(*number) };
                Verb::Create { identity, size_bytes, options }
            }
            Change::Snapshot { items } => {
                let items = items
                    .iter()
                    .map(|(origin, number, name)| Some((self.blob(*origin)?, identity(number, name))));
                Verb::Snapshot { items: items.collect::<Option<_>>()? }
            }
            Change::Clone { parent, number, name } => {
                Verb::Clone { parent: self.blob(*parent)?, identity: identity(number, name) }
            }
            Change::CloneExternal { number, name, sectors } => Verb::CloneExternal {
                identity: identity(number, name),
                size_bytes: bytes(sectors),
                external: external::uuid(),
                external_bytes: external::BYTES,
                copy_on_read: keeps_reads(*number),
            },
            Change::Remove { lvol, deferred: false } => Verb::Remove { lvol: self.blob(*lvol)? },
            Change::Remove { lvol, deferred: true } => Verb::RemoveDeferred { lvol: self.blob(*lvol)? },
            Change::Resize { lvol, sectors } => {
                Verb::Resize { lvol: self.blob(*lvol)?, size_bytes: bytes(sectors) }
            }
            Change::Rename { lvol, name } => Verb::Rename { lvol: self.blob(*lvol)?, name: name.clone() },
            Change::Revert { lvol, snapshot } => {
                Verb::Revert { lvol: self.blob(*lvol)?, snapshot: self.blob(*snapshot)? }
            }
            Change::SetParent { lvol, parent, .. } => {
                let underlay = match parent {
                    Some(external::NUMBER) => Underlay::External(external::uuid()),
                    Some(parent) => Underlay::Snapshot(self.blob(*parent)?),
                    None => Underlay::Nothing,
                };
                Verb::SetParent { lvol: self.blob(*lvol)?, underlay }
            }
            // These are jobs.
            Change::Inflate { .. } | Change::Decouple { .. } | Change::Merge { .. } => return None,
        })
    }
}

/// Each is somebody's.
fn clear_method(number: Number) -> ClearMethod {
    match number % 4 {
        0 => ClearMethod::None,
        1 => ClearMethod::WriteZeroes,
        2 => ClearMethod::Unmap,
        _ => ClearMethod::Default,
    }
}

/// A verb for each member of a group, last one first.
fn taken_apart(verb: Verb) -> Vec<Verb> {
    match verb {
        Verb::Snapshot { items } => {
            items.into_iter().rev().map(|item| Verb::Snapshot { items: vec![item] }).collect()
        }
        other => vec![other],
    }
}

/// A store that was closed, and what it should hold.
#[derive(Clone, Debug)]
pub(crate) struct Resting {
    pub(crate) setup: Setup,
    pub(crate) power: Power,
    pub(crate) state: DiskState,
    pub(crate) model: Model,
    /// Numbers of the next request and the next lvol.
    pub(crate) next: (u64, Number),
}

/// An orderly close.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) resting: Resting,
    /// What the store had promised before.
    before: Model,
    error: Option<Time>,
    /// The disk before each step of it.
    pub(crate) steps: Vec<DiskState>,
}

impl Closed {
    /// What is known about the store while it closes.
    pub(crate) fn expected(&self) -> Expected<'_> {
        let now = self.before.now() + 1;
        Expected { model: &self.before, verbs: Vec::new(), failed: false, error: self.error, now }
    }

    /// What is known about it once it is closed.
    pub(crate) fn at_rest(&self) -> Expected<'_> {
        let model = &self.resting.model;
        Expected { model, verbs: Vec::new(), failed: false, error: None, now: model.now() + 1 }
    }

    /// Checks what a crash during the close leaves.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub(crate) fn check(&self, left: &DiskState, cut: Cut, random: &mut Random) -> Result<(), Violation> {
        let expected = self.expected();
        let mut power = self.resting.power.clone();
        power.after(cut);
        let checked = expected.check(left, cut, power, random);
        checked.map(drop).map_err(|violation| violation.during(format!("{cut} while closing")))
    }
}

/// Whether a clone of the external snapshot keeps what it has read. What such a clone holds itself changes by itself: it is
/// not put onto something else.
pub(crate) fn keeps_reads(number: Number) -> bool {
    number.is_multiple_of(8)
}
