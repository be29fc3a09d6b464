//! The fault atlas: what of a disk is what, and so what a fault there may cost.

use super::graph::{Graph, SUPER_BLOB};
use super::ring::Ring;
use crate::disk::DiskState;
use crate::harm::Zone;
use offshoot_format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, JournalArea, Layout, MD_STRUCT_BYTES, MaskKind, MdPageIdx,
    NativeHeader, SuperBlock,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Where each zone of a disk lies, as ranges of bytes that are written together.
#[derive(Clone, Debug)]
pub(super) struct Atlas {
    pub(super) layout: Layout,
    pub(super) area: Option<JournalArea>,
    /// Whether the store was open.
    pub(super) open: bool,
    /// The epoch of the journal.
    pub(super) epoch: [u8; 16],
    /// The frames of that epoch, by where they start: number, and up to which one it says that all were durable.
    frames: BTreeMap<u64, (u64, u64)>,
    /// The frames that say that the newest checkpoint was sealed, if it was one of this epoch.
    pub(super) sealed_by: BTreeSet<u64>,
    zones: BTreeMap<Zone, Vec<Range<u64>>>,
}

impl Atlas {
    /// The atlas of a sound store, whose md pages are owned as these say.
    pub(super) fn of(
        disk: &DiskState,
        super_block: &SuperBlock,
        layout: &Layout,
        owners: [&Graph; 2],
    ) -> Self {
        let native = super_block.native.as_ref().filter(|_| super_block.is_native());
        let area = native.and_then(|native| native.journal);
        let open = area.is_some() && !super_block.is_clean();
        let epoch = native.map_or([0; 16], |native| native.epoch);
        let mut atlas = Self {
            layout: layout.clone(),
            area: area.filter(|_| open),
            open,
            epoch,
            frames: BTreeMap::new(),
            sealed_by: BTreeSet::new(),
            zones: BTreeMap::new(),
        };
        atlas.add_all(Zone::Header, Some(0..512));
        atlas.add_all(Zone::SuperBlock, Some(512..4096));
        if let Some((area, native)) = atlas.area.zip(native) {
            atlas.add_all(Zone::Copy, layout.super_block_copy().map(|at| at..at + 4096));
            let first = area.masks_start();
            atlas.add_pages(Zone::LiveMasks, first.0..first.0 + area.masks);
            atlas.add_frames(disk, area, native);
        } else {
            for kind in MaskKind::ALL {
                let start = layout.mask_offset(kind);
                let used = layout.mask_bits(kind).div_ceil(8) as usize + offshoot_format::MASK_HEADER_BYTES;
                let len = used.min(layout.mask_bytes(kind)) as u64;
                atlas.add_all(Zone::Masks, (len > 0).then(|| start..start + len));
            }
        }
        for node in owners.into_iter().flat_map(|graph| graph.0.values()) {
            if node.number == SUPER_BLOB {
                atlas.add_pages(Zone::SuperBlob, node.pages());
                continue;
            }
            atlas.add_pages(Zone::Roots, node.chain.iter().copied().take(1));
            atlas.add_pages(Zone::Chains, node.chain.iter().copied().skip(1));
            atlas.add_pages(Zone::Extents, node.extents.iter().copied());
            atlas.add_pages(Zone::Layers, node.layers.iter().copied());
        }
        atlas.add_free(owners);
        for units in atlas.zones.values_mut() {
            units.sort_unstable_by_key(|unit| unit.start);
            units.dedup();
        }
        atlas
    }

    /// The units of a zone.
    pub(super) fn units(&self, zone: Zone) -> &[Range<u64>] {
        self.zones.get(&zone).map_or(&[], Vec::as_slice)
    }

    /// Zones that there is something of.
    pub(super) fn zones(&self) -> impl Iterator<Item = Zone> {
        self.zones.iter().filter(|(_, units)| !units.is_empty()).map(|(zone, _)| *zone)
    }

    /// The number of the frame that starts at a byte, if it is one of the journal's epoch.
    pub(super) fn frame(&self, offset: u64) -> Option<u64> {
        self.frames.get(&offset).map(|(lsn, _)| *lsn)
    }

    /// Up to which frame is known to have been durable when these are missing.
    pub(super) fn covered_without(&self, missing: &BTreeSet<u64>) -> u64 {
        let left = self.frames.values().filter(|(lsn, _)| !missing.contains(lsn));
        left.max().map_or(0, |(_, covered)| *covered)
    }

    /// The byte behind the ring, 0 without one.
    pub(super) fn ring_end(&self) -> u64 {
        self.area.map_or(0, |area| self.layout.md_page_offset(area.masks_start()))
    }

    /// The md page that begins at a byte.
    pub(super) fn md_page(&self, offset: u64) -> Option<u32> {
        let first = self.layout.md_page_offset(MdPageIdx(0));
        u32::try_from(offset.checked_sub(first)? / u64::from(self.layout.md_page_size)).ok()
    }

    fn add_all(&mut self, zone: Zone, units: impl IntoIterator<Item = Range<u64>>) {
        self.zones.entry(zone).or_default().extend(units);
    }

    fn add_pages(&mut self, zone: Zone, pages: impl Iterator<Item = u32>) {
        let starts: Vec<u64> = pages.map(|page| self.layout.md_page_offset(MdPageIdx(page))).collect();
        self.add_all(zone, starts.into_iter().map(|start| start..start + MD_STRUCT_BYTES as u64));
    }

    fn add_frames(&mut self, disk: &DiskState, area: JournalArea, native: &NativeHeader) {
        let ring = Ring::read(disk, &self.layout, area);
        // What fills the last block up is not looked at.
        let bytes = |header: &FrameHeader| {
            let start = ring.start + header.position;
            start..start + FRAME_HEADER_BYTES as u64 + u64::from(header.payload_len)
        };
        let frames: Vec<(FrameHeader, Range<u64>)> =
            ring.frames().map(|(header, _)| (header.clone(), bytes(&header))).collect();
        let current = |header: &FrameHeader| header.epoch == native.epoch && header.lsn >= native.start_lsn;
        let newest = frames.iter().map(|(header, _)| header).filter(|header| current(header));
        let newest = newest.max_by_key(|header| header.lsn).cloned();
        // Without images it changed nothing, or was not of this epoch.
        if let Some(newest) = newest.as_ref().filter(|newest| !ring.image_sets(newest).is_empty()) {
            let says = |header: &&FrameHeader| current(header) && header.checkpoint == newest.checkpoint;
            let headers = frames.iter().map(|(header, _)| header);
            self.sealed_by = headers.filter(says).map(|header| header.lsn).collect();
        }
        for (header, bytes) in frames {
            if current(&header) {
                self.frames.insert(bytes.start, (header.lsn, header.covered.max(header.checkpoint)));
            }
            let zone = newest.as_ref().filter(|_| current(&header)).map_or(Zone::Stale, |newest| {
                let covered = newest.covered.max(newest.checkpoint);
                let image = header.kind == FrameKind::Images && header.capture == newest.checkpoint;
                match header.lsn {
                    lsn if lsn == newest.lsn => Zone::Newest,
                    _ if image && !newest.in_place => Zone::Images,
                    lsn if lsn > covered => Zone::Tail,
                    lsn if lsn >= newest.tail => Zone::Covered,
                    _ => Zone::Stale,
                }
            });
            self.add_all(zone, [bytes]);
        }
    }

    fn add_free(&mut self, owners: [&Graph; 2]) {
        let nodes = || owners.into_iter().flat_map(|graph| graph.0.values());
        let used: BTreeSet<u32> = nodes().flat_map(|node| node.pages()).collect();
        let area = self.area.map_or(0..0, |area| area.start.0..area.start.0 + area.len + area.masks);
        let pages = (0..self.layout.md_len).filter(|page| !used.contains(page) && !area.contains(page));
        self.add_pages(Zone::Free, pages.collect::<Vec<_>>().into_iter());
        let used: BTreeSet<u32> = nodes().flat_map(|node| node.clusters.iter().copied()).collect();
        let data = self.layout.metadata_clusters()..self.layout.total_clusters;
        let size = u64::from(self.layout.cluster_size);
        let free = data.filter(|cluster| !used.contains(cluster)).map(|cluster| u64::from(cluster) * size);
        let free: Vec<Range<u64>> = free.map(|start| start..start + 4096).collect();
        self.add_all(Zone::Free, free);
    }
}
