//! The plain model of a store: lvols by their numbers, and what each of their cells may hold.

mod change;
mod history;
mod lvol;
mod moment;
mod origins;

pub(crate) use change::{Change, Seen};
pub(crate) use history::{Ended, Observer, Time};
pub(crate) use lvol::Lvol;

use crate::pattern::Version;
use moment::Moment;
use origins::Origins;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// The number of an lvol, which is its UUID: it never changes and never comes back.
pub(crate) type Number = u128;

/// What a store should hold. A clone shares the cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    lvols: BTreeMap<Number, Lvol>,
    now: Time,
    /// Snapshots that are still to be held against each other.
    moments: Vec<Moment>,
    origins: Rc<Origins>,
    /// Whether the store has been said to have grown to the size of its disk.
    pub(crate) grown: bool,
    /// Md pages that the store has been said to have.
    pub(crate) md_pages: u32,
}

impl Model {
    /// The present moment; the next one is another.
    pub(crate) fn tick(&mut self) -> Time {
        self.now += 1;
        self.now
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// The lvols, by number.
    pub(crate) fn lvols(&self) -> impl ExactSizeIterator<Item = (Number, &Lvol)> {
        self.lvols.iter().map(|(number, lvol)| (*number, lvol))
    }

    pub(crate) fn lvol(&self, number: Number) -> Option<&Lvol> {
        self.lvols.get(&number)
    }

    /// The lvols whose parent this is.
    pub(crate) fn clones(&self, number: Number) -> impl Iterator<Item = Number> {
        self.lvols().filter(move |(_, lvol)| lvol.parent == Some(number)).map(|(clone, _)| clone)
    }

    /// Whether one of two lvols inherits from the other, or both from a third.
    pub(crate) fn are_related(&self, left: Number, right: Number) -> bool {
        self.root(left) == self.root(right)
    }

    fn root(&self, number: Number) -> Number {
        let mut root = number;
        let is_lvol = |parent: &Number| self.lvols.contains_key(parent);
        while let Some(parent) = self.lvols.get(&root).and_then(|lvol| lvol.parent).filter(is_lvol) {
            root = parent;
        }
        root
    }

    /// A request that makes cells read `version`. Returns when it was submitted.
    pub(crate) fn submit(
        &mut self,
        number: Number,
        cells: Range<usize>,
        request: u64,
        version: Version,
    ) -> Time {
        let now = self.tick();
        Rc::make_mut(&mut self.origins).wrote(version, number);
        if let Some(lvol) = self.lvols.get_mut(&number) {
            for cell in lvol.cells_mut(cells) {
                cell.submit(request, version, now);
            }
        }
        now
    }

    /// The end of such a request.
    pub(crate) fn end(&mut self, number: Number, cells: Range<usize>, request: u64, how: Ended) {
        let now = self.tick();
        if let Some(lvol) = self.lvols.get_mut(&number) {
            for cell in lvol.cells_mut(cells) {
                cell.end(request, how, now);
            }
        }
    }

    /// Everything acknowledged before a moment is durable. `reader` is the oldest reader under way.
    pub(crate) fn flush(&mut self, before: Time, reader: Option<Time>) {
        let reader = reader.unwrap_or_else(|| self.tick());
        for lvol in self.lvols.values_mut().filter(|lvol| !lvol.read_only) {
            lvol.flush(before, reader);
        }
    }

    /// More than a second has passed since everything acknowledged before a moment.
    pub(crate) fn age(&mut self, before: Time) {
        self.lvols.values_mut().filter(|lvol| !lvol.read_only).for_each(|lvol| lvol.age(before));
    }

    /// A verb has been done; it was submitted at `since`.
    pub(crate) fn perform(&mut self, change: &Change, since: Time) {
        let now = self.tick();
        if let Change::Snapshot { items } = change {
            let known =
                items.iter().filter_map(|(origin, snapshot, _)| Some((self.lvols.get(origin)?, *snapshot)));
            self.moments.push(Moment::of(known, since..=now));
        }
        Rc::make_mut(&mut self.origins).performed(change);
        change.perform(&mut self.lvols, since, now);
    }

    /// The cells from `first` on were found to read like that by someone who asked at `since`.
    pub(crate) fn settle(&mut self, number: Number, first: usize, versions: &[Version], since: Time) {
        let now = self.tick();
        if let Some(lvol) = self.lvols.get_mut(&number) {
            lvol.settle(first, versions, since, now);
        }
    }

    /// Whether a write went to this lvol, to one that it comes from, or to one that comes from the same.
    pub(crate) fn is_of_family(&self, version: Version, number: Number) -> bool {
        self.origins.is_of_family(version, number)
    }

    /// Whether two lvols come from the same.
    pub(crate) fn are_of_family(&self, left: Number, right: Number) -> bool {
        self.origins.family(left) == self.origins.family(right)
    }

    /// The first snapshot that does not show one moment, going by what was found.
    pub(crate) fn torn_moment(&self, found: &BTreeMap<Number, Vec<Version>>) -> Option<&Moment> {
        self.moments.iter().find(|moment| !moment.explains(found))
    }

    /// Every snapshot has been read as a whole: it stays what it is.
    pub(crate) fn forget_moments(&mut self) {
        self.moments.clear();
    }

    /// The store was opened after a crash, and this is what was found: the same for everyone from now on.
    pub(crate) fn restart(&mut self, found: &BTreeMap<Number, Vec<Version>>) {
        self.forget_moments();
        for (number, versions) in found {
            if let Some(lvol) = self.lvols.get_mut(number) {
                lvol.restart(versions);
            }
        }
    }
}
