//! One lvol of the model.

use super::history::{History, Observer, Time};
use super::{Number, Version};
use crate::{cell, external};
use std::ops::Range;
use std::rc::Rc;

/// What an lvol is and may hold.
#[derive(Clone, Debug)]
pub(crate) struct Lvol {
    pub(crate) name: String,
    pub(crate) parent: Option<Number>,
    pub(crate) read_only: bool,
    /// Whether its writes must not fail for want of space.
    pub(crate) reserved: bool,
    /// When its size last changed.
    pub(crate) resized: Time,
    /// How many sectors it has.
    sectors: usize,
    cells: Rc<Vec<History>>,
}

impl Lvol {
    /// Of so many sectors of zeros.
    pub(crate) fn zeros(name: String, sectors: usize) -> Self {
        let cells = Rc::new(vec![History::one_of([]); cell::first(sectors)]);
        Self { name, parent: None, read_only: false, reserved: false, resized: 0, sectors, cells }
    }

    /// Of so many sectors over the external snapshot.
    pub(crate) fn over_external(name: String, sectors: usize) -> Self {
        let shown = cell::first(external::SECTORS);
        let content = |cell| if cell < shown { external::VERSION } else { 0 };
        let cells = (0..cell::first(sectors)).map(|cell| History::one_of([content(cell)]));
        let (parent, cells) = (Some(external::NUMBER), Rc::new(cells.collect()));
        Self { name, parent, read_only: false, reserved: false, resized: 0, sectors, cells }
    }

    /// A snapshot that was taken at some moment since `since`: each cell holds what a reader might have seen.
    pub(crate) fn frozen(&self, name: String, since: Time) -> Self {
        let observer = Observer::Since(since);
        let cells = self.cells.iter().map(|cell| History::one_of(cell.versions(observer)));
        let (sectors, cells) = (self.sectors, Rc::new(cells.collect()));
        Self { name, parent: self.parent, read_only: true, reserved: false, resized: 0, sectors, cells }
    }

    /// A writable child that reads the same.
    pub(crate) fn cloned(&self, name: String, parent: Number) -> Self {
        let (sectors, cells) = (self.sectors, Rc::clone(&self.cells));
        Self { name, parent: Some(parent), read_only: false, reserved: false, resized: 0, sectors, cells }
    }

    /// How many sectors it has.
    pub(crate) fn len(&self) -> usize {
        self.sectors
    }

    pub(crate) fn cells(&self) -> &[History] {
        &self.cells
    }

    pub(super) fn cells_mut(&mut self, range: Range<usize>) -> impl Iterator<Item = &mut History> {
        let end = range.end.min(self.cells.len());
        Rc::make_mut(&mut self.cells)[range.start.min(end)..end].iter_mut()
    }

    pub(super) fn resize(&mut self, sectors: usize, now: Time) {
        self.resized = now;
        self.sectors = sectors;
        Rc::make_mut(&mut self.cells).resize(cell::first(sectors), History::one_of([]));
    }

    pub(super) fn revert(&mut self, snapshot: &Self, number: Number, now: Time) {
        self.parent = Some(number);
        self.resized = now;
        self.sectors = snapshot.sectors;
        self.cells = Rc::clone(&snapshot.cells);
    }

    /// What is not its own comes from elsewhere.
    pub(super) fn put_onto(&mut self, below: Option<&Self>, own: &[bool]) {
        for (cell, history) in Rc::make_mut(&mut self.cells).iter_mut().enumerate() {
            if !own.get(cell).copied().unwrap_or(false) {
                let below = below.and_then(|below| below.cells.get(cell)).cloned();
                *history = below.unwrap_or_else(|| History::one_of([]));
            }
        }
    }

    pub(super) fn flush(&mut self, before: Time, reader: Time) {
        for cell in Rc::make_mut(&mut self.cells) {
            cell.flush(before);
            cell.prune(reader);
        }
    }

    pub(super) fn age(&mut self, before: Time) {
        Rc::make_mut(&mut self.cells).iter_mut().for_each(|cell| cell.age(before));
    }

    pub(super) fn settle(
        &mut self,
        first: usize,
        versions: &[Version],
        since: Time,
        reader: Option<Time>,
        now: Time,
    ) {
        // What a snapshot holds is as durable as the snapshot itself.
        let durable = self.read_only;
        for (cell, version) in self.cells_mut(first..first + versions.len()).zip(versions) {
            cell.settle(*version, since, durable, reader, now);
        }
    }

    pub(super) fn restart(&mut self, versions: &[Version]) {
        self.cells = Rc::new(versions.iter().map(|version| History::one_of([*version])).collect());
    }
}
