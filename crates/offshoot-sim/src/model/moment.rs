//! A snapshot shows one moment, however many lvols it is of.
//!
//! What is certain of each cell alone leaves writes in flight either way. Together they say more: if one member shows
//! a write, no other may lack one that had been acknowledged before that write was sent. So there has to be a moment,
//! between the request for the snapshot and its answer, at which every cell of every member could be seen as it was
//! found.

use super::history::{Observer, Time, Visible};
use super::{Lvol, Number};
use crate::pattern::Version;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Snapshots that were taken by one request and have not been read as a whole since.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Between request and answer.
    window: RangeInclusive<Time>,
    /// Cells that showed different things meanwhile.
    doubts: Vec<Doubt>,
}

#[derive(Clone, Debug)]
struct Doubt {
    snapshot: Number,
    cell: usize,
    visible: Vec<Visible>,
}

impl Moment {
    /// What lvols showed meanwhile: pairs of them and their snapshots.
    pub(super) fn of<'a>(
        items: impl Iterator<Item = (&'a Lvol, Number)>,
        window: RangeInclusive<Time>,
    ) -> Self {
        let since = *window.start();
        let doubts = items.flat_map(|(origin, snapshot)| {
            let doubtful = origin.cells().iter().enumerate().filter(|(_, history)| !history.is_certain());
            doubtful.map(move |(cell, history)| {
                let visible = history.visible(Observer::Since(since)).collect();
                Doubt { snapshot, cell, visible }
            })
        });
        Self { doubts: doubts.filter(|doubt| doubt.visible.len() > 1).collect(), window }
    }

    /// Whether there was a moment at which all of this could be seen. Snapshots that were not read say nothing.
    pub(crate) fn explains(&self, found: &BTreeMap<Number, Vec<Version>>) -> bool {
        let told: Vec<(&Doubt, Version)> = self
            .doubts
            .iter()
            .filter_map(|doubt| Some((doubt, *found.get(&doubt.snapshot)?.get(doubt.cell)?)))
            .collect();
        // What can be seen changes for the better only when a write begins.
        let begins = told.iter().flat_map(|(doubt, _)| doubt.visible.iter().map(Visible::first));
        let mut moments = begins.chain([*self.window.start()]).filter(|moment| self.window.contains(moment));
        let shows = |(doubt, version): &(&Doubt, Version), moment: Time| {
            doubt.visible.iter().any(|visible| visible.shows(*version, moment))
        };
        moments.any(|moment| told.iter().all(|told| shows(told, moment)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Ended, Model};
    use super::*;

    const LEFT: Number = 1;
    const RIGHT: Number = 2;

    /// A write to `LEFT` that was acknowledged before one to `RIGHT` was sent, both while a snapshot of both was taken.
    fn taken() -> Model {
        let mut model = Model::default();
        for number in [LEFT, RIGHT] {
            let create =
                Change::Create { number, name: String::new(), sectors: 2, thick: false, reserve: false };
            model.perform(&create, 0);
        }
        let since = model.tick();
        model.submit(LEFT, 0..1, 11, 11);
        model.end(LEFT, 0..1, 11, Ended::Done);
        model.submit(RIGHT, 0..1, 12, 12);
        model.end(RIGHT, 0..1, 12, Ended::Done);
        let items = vec![(LEFT, 3, "left".into()), (RIGHT, 4, "right".into())];
        model.perform(&Change::Snapshot { items }, since);
        model
    }

    #[test]
    fn a_group_is_a_cut_through_the_order_of_writes() {
        let model = taken();
        for (left, right, consistent) in [(0, 0, true), (11, 0, true), (11, 12, true), (0, 12, false)] {
            let found = BTreeMap::from([(3, vec![left, 0]), (4, vec![right, 0])]);
            assert_eq!(model.torn_moment(&found).is_none(), consistent, "{left} and {right}");
            // Each alone could be like that.
            for (snapshot, version) in [(3, left), (4, right)] {
                assert!(model.torn_moment(&BTreeMap::from([(snapshot, vec![version, 0])])).is_none());
            }
        }
    }
}
