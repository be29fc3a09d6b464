//! What a checkpoint writes.

use super::encode::{blob_md, extent_page, section_pages};
use super::{assign, assign_chains, spread_or_pack};
use crate::journal::live_masks;
use crate::record::Record;
use crate::state::State;
use alloc::{collections::BTreeMap, vec::Vec};
use offshoot_block::{Buffer, DeviceOffset, DeviceOp};
use offshoot_format::{ImageSet, JournalArea, Layout, MD_STRUCT_BYTES, MdPageIdx, MdPageRun, PageImage};

/// Md pages that one operation writes at most.
const PAGES_PER_WRITE: usize = 256;

/// Bytes of an image set besides its images, at most.
pub(crate) const SET_BYTES: usize = 64;

/// Images that a set of `bytes` holds, at least one.
pub(crate) fn images_per_set(bytes: u64) -> usize {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    (bytes.saturating_sub(SET_BYTES) / (MD_STRUCT_BYTES + 4)).max(1)
}

/// The md pages that make State durable, as they are at one moment.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    /// Pages that nothing durable refers to: they go where they belong at once.
    pub fresh: BTreeMap<MdPageIdx, PageImage>,
    /// Pages that are written over: their images go to the journal first, so that none can be torn for good.
    pub images: BTreeMap<MdPageIdx, PageImage>,
    /// Pages that are free from now on and become zeros: SPDK would take the root of a deleted blob for a blob.
    pub zeroed: Vec<MdPageRun>,
}

impl Capture {
    /// Assigns md pages to what is dirty and captures them. `freed` are the pages that records have let go since the
    /// last checkpoint; those that assigning lets go are added. With an `area`, its live masks are part of it. Where
    /// more than `images_max` pages would be written over, some move to free md pages instead.
    pub(crate) fn take(
        state: &mut State,
        freed: &mut Vec<MdPageIdx>,
        area: Option<JournalArea>,
        images_max: usize,
    ) -> Self {
        spread_or_pack(state, images_max);
        let mut moved = state.image_pages.saturating_sub(images_max);
        let assigned = assign(state, &mut moved);
        assigned.iter().for_each(|record| state.apply(record));
        // How long a chain is can be told once extent and layer pages have their places.
        let chains = assign_chains(state, &assigned, moved);
        chains.iter().for_each(|record| state.apply(record));
        let (clusters, md) = state.take_freed();
        debug_assert!(clusters.is_empty());
        freed.extend(md);
        freed.sort_unstable();
        let unwritten = state.take_fresh_md();
        let pages = changed_pages(state, &assigned);
        let (fresh, mut images) = pages.into_iter().partition(|(page, _)| unwritten.contains(page));
        if let Some(area) = area {
            let changed = [state.md.take_changed(), state.clusters.take_changed()];
            let used = [state.md.used(), state.clusters.used()];
            BTreeMap::extend(&mut images, live_masks(&state.layout, used, area, Some(changed)));
        }
        Self { fresh, images, zeroed: runs(freed) }
    }

    /// The image sets of this capture, each at most `max` bytes long.
    pub(crate) fn image_sets(&self, max: u64) -> Vec<ImageSet> {
        let images_at_once = images_per_set(max);
        let runs_at_once = (usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(SET_BYTES) / 8).max(1);
        let images: Vec<(MdPageIdx, PageImage)> =
            self.images.iter().map(|(at, image)| (*at, *image)).collect();
        let images = images.chunks(images_at_once);
        let images = images.map(|images| ImageSet { images: images.to_vec(), zeroed: Vec::new() });
        let zeroed = self.zeroed.chunks(runs_at_once);
        let zeroed = zeroed.map(|zeroed| ImageSet { images: Vec::new(), zeroed: zeroed.to_vec() });
        images.chain(zeroed).collect()
    }
}

fn changed_pages(state: &State, assigned: &[Record]) -> BTreeMap<MdPageIdx, PageImage> {
    let mut images = BTreeMap::new();
    for record in assigned {
        let Record::Assign { blob, pages } = record else {
            continue;
        };
        let Some(blob) = state.blob(*blob) else { continue };
        for (ordinal, page) in &pages.extents {
            if let Some(page) = page {
                images.insert(*page, extent_page(state, blob, *ordinal).encode());
            }
        }
        for (ordinal, section, list) in &pages.layers {
            for (page, layers) in list.iter().zip(section_pages(state, blob, *ordinal, *section)) {
                images.insert(*page, layers.encode());
            }
        }
        if pages.write_chain {
            let chain = &blob.pages.chain;
            images.extend(chain.iter().copied().zip(blob_md(state, blob).encode_chain(chain)));
        }
    }
    images
}

/// Ascending pages as runs.
pub(crate) fn runs(pages: &[MdPageIdx]) -> Vec<MdPageRun> {
    let runs = pages.chunk_by(|left, right| left.0 + 1 == right.0);
    runs.map(|run| MdPageRun { start: run[0], len: u32::try_from(run.len()).unwrap_or(u32::MAX) }).collect()
}

/// Writes md pages where they belong: one operation per run of adjacent pages.
pub(crate) fn write_pages(layout: &Layout, images: &BTreeMap<MdPageIdx, PageImage>) -> Vec<DeviceOp> {
    let stride = layout.md_page_size as usize;
    let pages: Vec<(&MdPageIdx, &PageImage)> = images.iter().collect();
    let runs = pages.chunk_by(|(left, _), (right, _)| left.0 + 1 == right.0);
    // Adjacent pages go out together, but not without bound: each operation holds its pages in memory.
    let runs = runs.flat_map(|run| run.chunks(PAGES_PER_WRITE));
    runs.map(|run| {
        let mut buffer = Buffer::zeroed(run.len() * stride);
        for (slot, (_, image)) in buffer.as_mut_slice().chunks_mut(stride).zip(run) {
            slot[..MD_STRUCT_BYTES].copy_from_slice(*image);
        }
        DeviceOp::Write { offset: DeviceOffset(layout.md_page_offset(*run[0].0)), buffer }
    })
    .collect()
}

/// Zeroes md pages.
pub(crate) fn zero_pages(layout: &Layout, runs: &[MdPageRun]) -> Vec<DeviceOp> {
    let page = u64::from(layout.md_page_size);
    let op = |run: &MdPageRun| DeviceOp::WriteZeroes {
        offset: DeviceOffset(layout.md_page_offset(run.start)),
        len: u64::from(run.len) * page,
        may_unmap: true,
    };
    runs.iter().map(op).collect()
}
