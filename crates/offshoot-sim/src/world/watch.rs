//! What has to be known of a life in order to judge what faults of its disk may cost afterwards.

use super::World;
use crate::disk::{Event, OpKind};
use crate::model::{Change, Model, Number, Time};
use offshoot_format::{FRAME_HEADER_BYTES, FrameHeader, JournalArea};
use std::collections::BTreeSet;
use std::ops::Range;

/// A frame of the journal on its way, and what was known and promised then.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) epoch: [u8; 16],
    pub(crate) lsn: u64,
    pub(crate) model: Model,
    pub(crate) verbs: Vec<(Change, Time)>,
    /// Data that was written over or discarded since, as far as it is listed.
    data_before: usize,
}

/// What is kept of a life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// The frames, oldest first.
    appends: Vec<Append>,
    /// Ranges that writes, zeroes and discards touched, oldest first.
    data: Vec<Range<u64>>,
    /// What was known when it began.
    start: Model,
}

impl Watch {
    /// What was known when a frame was appended. `None` when that was before anything was promised.
    pub(crate) fn append(&self, epoch: [u8; 16], lsn: u64) -> Option<&Append> {
        self.appends.iter().rev().find(|append| append.epoch == epoch && append.lsn == lsn)
    }

    /// What has been touched since a frame was appended, or since the beginning.
    pub(crate) fn touched_since(&self, append: Option<&Append>) -> &[Range<u64>] {
        self.data.get(append.map_or(0, |append| append.data_before)..).unwrap_or_default()
    }

    /// Lvols and the parents that they have had, or were to get.
    pub(crate) fn relations(&self) -> BTreeSet<(Number, Number)> {
        let models = self.appends.iter().map(|append| &append.model).chain([&self.start]);
        let had = models.flat_map(Model::lvols).filter_map(|(number, lvol)| Some((number, lvol.parent?)));
        let verbs = self.appends.iter().flat_map(|append| &append.verbs);
        had.chain(verbs.flat_map(|(change, _)| change.relations())).collect()
    }

    /// What was known when it began.
    pub(crate) fn start(&self) -> &Model {
        &self.start
    }
}

impl World {
    /// Keeps from now on what is needed to judge damage later.
    pub(crate) fn watch(&mut self) {
        let layout = &self.store.state().layout;
        self.disk.list_writes(layout.cluster_offset(layout.first_data_cluster()));
        self.watch = Some(Watch { start: self.model.clone(), ..Watch::default() });
    }

    /// What was kept.
    pub(crate) fn kept(&self) -> Watch {
        self.watch.clone().unwrap_or_default()
    }

    /// Takes note of what was sent to the disk.
    pub(super) fn watched(&mut self, events: &[Event]) {
        let Some(mut watch) = self.watch.take() else { return };
        let layout = &self.store.state().layout;
        let data = layout.cluster_offset(layout.first_data_cluster());
        let area = self.store.super_block().native.as_ref().and_then(|native| native.journal);
        let ring = area.map(|area: JournalArea| {
            let start = layout.md_page_offset(area.start);
            start..start + u64::from(area.len) * u64::from(layout.md_page_size)
        });
        let changes = |event: &&Event| !event.completed && !matches!(event.kind, OpKind::Read | OpKind::Sync);
        for event in events.iter().filter(changes) {
            if event.offset >= data {
                watch.data.push(event.offset..event.offset + event.len);
            }
            if let Some(ring) = ring.as_ref().filter(|ring| ring.contains(&event.offset))
                && let Some(header) = self.header_under_way(event.offset, event.offset - ring.start)
            {
                let verbs = self.expected().verbs.into_iter().map(|(change, since)| (change.clone(), since));
                let verbs = verbs.collect();
                let (epoch, lsn, model) = (header.epoch, header.lsn, self.model.clone());
                watch.appends.push(Append { epoch, lsn, model, verbs, data_before: watch.data.len() });
            }
        }
        self.watch = Some(watch);
    }

    /// The header of a frame that is being written, or has just been.
    fn header_under_way(&self, offset: u64, position: u64) -> Option<FrameHeader> {
        let state = self.disk.state();
        let under_way = state.under_way().find(|change| change.offset == offset);
        if let Some(bytes) = under_way.and_then(|change| change.bytes()) {
            return FrameHeader::decode(bytes, position);
        }
        let mut bytes = [0; FRAME_HEADER_BYTES];
        state.view().read(offset, &mut bytes);
        FrameHeader::decode(&bytes, position)
    }
}
