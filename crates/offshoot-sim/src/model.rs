//! The plain model of a store: lvols by their numbers, and what each of their sectors may hold.

mod change;
mod history;
mod lvol;

pub(crate) use change::Change;
pub(crate) use history::{Ended, Observer, Time};
pub(crate) use lvol::Lvol;

use crate::pattern::Version;
use std::collections::BTreeMap;
use std::ops::Range;

/// The number of an lvol, which is its UUID: it never changes and never comes back.
pub(crate) type Number = u128;

/// What a store should hold. A clone shares the sectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    lvols: BTreeMap<Number, Lvol>,
    now: Time,
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

    /// A request that makes sectors read `version`. Returns when it was submitted.
    pub(crate) fn submit(
        &mut self,
        number: Number,
        sectors: Range<usize>,
        request: u64,
        version: Version,
    ) -> Time {
        let now = self.tick();
        if let Some(lvol) = self.lvols.get_mut(&number) {
            for sector in lvol.sectors_mut(sectors) {
                sector.submit(request, version, now);
            }
        }
        now
    }

    /// The end of such a request.
    pub(crate) fn end(&mut self, number: Number, sectors: Range<usize>, request: u64, how: Ended) {
        let now = self.tick();
        if let Some(lvol) = self.lvols.get_mut(&number) {
            for sector in lvol.sectors_mut(sectors) {
                sector.end(request, how, now);
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
        change.perform(&mut self.lvols, since, now);
    }

    /// The sectors from `first` on were found to read like that by someone who asked at `since`.
    pub(crate) fn settle(&mut self, number: Number, first: usize, versions: &[Version], since: Time) {
        let now = self.tick();
        if let Some(lvol) = self.lvols.get_mut(&number) {
            lvol.settle(first, versions, since, now);
        }
    }

    /// The store was opened after a crash, and this is what was found: the same for everyone from now on.
    pub(crate) fn restart(&mut self, found: &BTreeMap<Number, Vec<Version>>) {
        for (number, versions) in found {
            if let Some(lvol) = self.lvols.get_mut(number) {
                lvol.restart(versions);
            }
        }
    }
}
