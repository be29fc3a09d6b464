//! The frames of a ring, as recovery finds them.

use crate::disk::DiskState;
use crate::image::index;
use offshoot_format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, ImageSet, JournalArea, Layout, NativeHeader,
};

/// A ring in memory.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where it starts on the disk, in bytes.
    pub(super) start: u64,
    bytes: Vec<u8>,
}

impl Ring {
    pub(super) fn read(disk: &DiskState, layout: &Layout, area: JournalArea) -> Self {
        let start = layout.md_page_offset(area.start);
        let mut bytes = vec![0; index(u64::from(area.len) * u64::from(layout.md_page_size))];
        disk.view().read(start, &mut bytes);
        Self { start, bytes }
    }

    /// Every frame that is whole, of whatever epoch, and its payload. One that was torn never counts.
    pub(super) fn frames(&self) -> impl Iterator<Item = (FrameHeader, &[u8])> {
        let starts = (0..self.bytes.len().saturating_sub(FRAME_HEADER_BYTES)).step_by(512);
        starts.filter_map(|at| {
            let header = FrameHeader::decode(&self.bytes[at..], at as u64)?;
            let payload = header.payload(&self.bytes)?;
            Some((header, payload))
        })
    }

    /// The newest frame of an epoch.
    pub(super) fn newest(&self, native: &NativeHeader) -> Option<FrameHeader> {
        let current = |header: &FrameHeader| header.epoch == native.epoch && header.lsn >= native.start_lsn;
        self.frames().map(|(header, _)| header).filter(current).max_by_key(|header| header.lsn)
    }

    /// What the checkpoint that a frame speaks of writes over.
    pub(super) fn image_sets(&self, newest: &FrameHeader) -> Vec<ImageSet> {
        let is_its = |header: &FrameHeader| {
            header.epoch == newest.epoch
                && header.kind == FrameKind::Images
                && header.capture == newest.checkpoint
        };
        let sets = self.frames().filter(|(header, _)| is_its(header));
        sets.filter_map(|(header, payload)| ImageSet::decode(header.lsn, payload).ok()).collect()
    }
}
