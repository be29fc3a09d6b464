//! One lvol of the model.

use super::history::{History, Observer, Time};
use super::{Number, Version};
use std::ops::Range;
use std::rc::Rc;

/// What an lvol is and may hold.
#[derive(Clone, Debug)]
pub(crate) struct Lvol {
    pub(crate) name: String,
    pub(crate) parent: Option<Number>,
    pub(crate) read_only: bool,
    /// When its size last changed.
    pub(crate) resized: Time,
    sectors: Rc<Vec<History>>,
}

impl Lvol {
    /// Of so many sectors of zeros.
    pub(crate) fn zeros(name: String, sectors: usize) -> Self {
        let sectors = Rc::new(vec![History::one_of([]); sectors]);
        Self { name, parent: None, read_only: false, resized: 0, sectors }
    }

    /// A snapshot that was taken at some moment since `since`: each sector holds what a reader might have seen.
    pub(crate) fn frozen(&self, name: String, since: Time) -> Self {
        let observer = Observer::Since(since);
        let sectors = self.sectors.iter().map(|sector| History::one_of(sector.versions(observer)));
        let sectors = Rc::new(sectors.collect());
        Self { name, parent: self.parent, read_only: true, resized: 0, sectors }
    }

    /// A writable child that reads the same.
    pub(crate) fn cloned(&self, name: String, parent: Number) -> Self {
        let sectors = Rc::clone(&self.sectors);
        Self { name, parent: Some(parent), read_only: false, resized: 0, sectors }
    }

    /// How many sectors it has.
    pub(crate) fn len(&self) -> usize {
        self.sectors.len()
    }

    pub(crate) fn sectors(&self) -> &[History] {
        &self.sectors
    }

    pub(super) fn sectors_mut(&mut self, range: Range<usize>) -> impl Iterator<Item = &mut History> {
        let end = range.end.min(self.len());
        Rc::make_mut(&mut self.sectors)[range.start.min(end)..end].iter_mut()
    }

    pub(super) fn resize(&mut self, sectors: usize, now: Time) {
        self.resized = now;
        Rc::make_mut(&mut self.sectors).resize(sectors, History::one_of([]));
    }

    pub(super) fn flush(&mut self, before: Time, reader: Time) {
        for sector in Rc::make_mut(&mut self.sectors) {
            sector.flush(before);
            sector.prune(reader);
        }
    }

    pub(super) fn age(&mut self, before: Time) {
        Rc::make_mut(&mut self.sectors).iter_mut().for_each(|sector| sector.age(before));
    }

    pub(super) fn settle(&mut self, first: usize, versions: &[Version], since: Time, now: Time) {
        // What a snapshot holds is as durable as the snapshot itself.
        let durable = self.read_only;
        for (sector, version) in self.sectors_mut(first..first + versions.len()).zip(versions) {
            sector.settle(*version, since, durable, now);
        }
    }

    pub(super) fn restart(&mut self, versions: &[Version]) {
        self.sectors = Rc::new(versions.iter().map(|version| History::one_of([*version])).collect());
    }
}
