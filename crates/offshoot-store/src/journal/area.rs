//! Where the journal lies, and the live masks behind it.

use crate::init::{growth_clusters, md_pages_for};
use crate::limits::{JOURNAL_BYTES_LEAST, JOURNAL_BYTES_MAX, JOURNAL_BYTES_MIN, JOURNAL_SHARE};
use crate::pool::Pool;
use crate::state::State;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::ops::Range;
use offshoot_format::{
    Bitmap, JournalArea, LIVE_MASK_BITS, Layout, LiveMaskPage, MD_STRUCT_BYTES, MaskKind, MdPageIdx,
    PageImage, live_mask_pages,
};

/// Bytes of the ring that a store of so many bytes gets: what is dirty at one time grows with the store.
pub(crate) fn default_bytes(size_bytes: u64) -> u64 {
    (size_bytes / JOURNAL_SHARE).clamp(JOURNAL_BYTES_MIN, JOURNAL_BYTES_MAX)
}

/// Md pages that the live masks of a store take.
pub(crate) fn mask_pages(md_len: u32, total_clusters: u32) -> u32 {
    live_mask_pages(md_len) + live_mask_pages(total_clusters)
}

/// Pages that the live masks get: for more clusters and md pages than there are, so that the store can grow while it is
/// open.
fn live_pages(layout: &Layout) -> u32 {
    let clusters =
        most_live_clusters(layout.total_clusters, layout.md_page_size).min(layout.growable_clusters());
    let md_pages = u32::try_from(md_pages_for(clusters)).unwrap_or(u32::MAX);
    mask_pages(md_pages.min(layout.growable_md_pages()).max(layout.md_len), clusters)
}

/// The same for a store whose masks have room for any number.
pub(crate) fn most_live_clusters(total_clusters: u32, md_page_size: u32) -> u32 {
    // The room that a new store leaves is whole pages.
    growth_clusters(total_clusters).saturating_add(md_page_size.saturating_mul(8)).min(u32::MAX - 1)
}

/// Whether the live masks of a grown store fit an area.
pub(crate) fn holds_masks(area: JournalArea, layout: &Layout) -> bool {
    mask_pages(layout.md_len, layout.total_clusters) <= area.masks
}

/// What a journal can be laid into: a store as it is, or as it is about to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub layout: &'a Layout,
    pub md: &'a Pool,
    pub clusters: &'a Pool,
    /// Md pages that the next checkpoint may have to add, and those that it writes over.
    pub md_debt: usize,
    pub image_pages: usize,
}

impl<'a> Ground<'a> {
    pub(crate) fn of(state: &'a State) -> Self {
        Self {
            layout: &state.layout,
            md: &state.md,
            clusters: &state.clusters,
            md_debt: state.md_debt,
            image_pages: state.image_pages,
        }
    }
}

/// Finds room for ring and live masks: in free md pages, where enough lie together; else in free clusters; else in
/// what md pages there are. `None` when there is no room at all.
pub(crate) fn choose_area(ground: &Ground<'_>, block: u64) -> Option<JournalArea> {
    let layout = ground.layout;
    let page = u64::from(layout.md_page_size);
    let masks = live_pages(layout);
    // Frames are whole blocks: larger ones take a larger ring.
    let empty_bytes = if block > 512 { 4 * JOURNAL_BYTES_LEAST } else { JOURNAL_BYTES_LEAST };
    // What loading has changed must fit, twice (a recovery takes it once more), beside what is kept free: an eighth.
    let image_bytes = MD_STRUCT_BYTES as u64 + block;
    let least_bytes = empty_bytes + ground.image_pages as u64 * image_bytes * 5 / 2;
    let pages = |bytes: u64| {
        let bytes = bytes.max(least_bytes);
        u32::try_from(bytes.div_ceil(page)).map_or(u32::MAX, |pages| pages.saturating_add(masks))
    };
    let wanted = pages(default_bytes(layout.size_bytes));
    let enough =
        pages((layout.size_bytes / 64).clamp(empty_bytes, empty_bytes.max(JOURNAL_BYTES_LEAST * 16)));
    let least = pages(0);

    // Without those that the next checkpoint takes.
    let free = ground.md.available().saturating_sub(ground.md_debt);
    let lvols = md_pages_for(layout.total_clusters);
    // Of our making: what is beyond was left for the journal.
    let is_planned = layout.md_len as usize > lvols;
    let used = layout.md_len as usize - free;
    let kept = match is_planned {
        // Lvols that are there have had their pages.
        true => lvols.saturating_sub(used).min(free.saturating_sub(least as usize)),
        false => free / 2,
    };
    let most = wanted.min(u32::try_from(free - kept).unwrap_or(u32::MAX));
    let run = ground.md.run_of(most as usize);
    let run_len = u32::try_from(run.len()).unwrap_or(u32::MAX).min(most);
    // At the end of the run: blobs get the low numbers.
    let in_md = (run_len >= least).then(|| JournalArea {
        start: MdPageIdx(u32::try_from(run.end).unwrap_or(u32::MAX) - run_len),
        len: run_len - masks,
        masks,
    });
    if run_len >= enough || (is_planned && in_md.is_some()) {
        return in_md;
    }
    [pages(JOURNAL_BYTES_MIN), enough, least]
        .into_iter()
        .find_map(|wanted| in_clusters(ground, wanted, masks))
        .or(in_md)
}

/// An area of so many pages in free clusters: md page numbers beyond the md region.
fn in_clusters(ground: &Ground<'_>, pages: u32, masks: u32) -> Option<JournalArea> {
    let layout = ground.layout;
    let per_cluster = layout.cluster_size / layout.md_page_size;
    let clusters = pages.div_ceil(per_cluster);
    let run = ground.clusters.run_of(clusters as usize);
    // Some may be promised to others.
    if run.len().min(ground.clusters.available()) < clusters as usize {
        return None;
    }
    let first = u64::try_from(run.start).ok()? * u64::from(per_cluster);
    let start = u32::try_from(first.checked_sub(u64::from(layout.md_start))?).ok()?;
    Some(JournalArea { start: MdPageIdx(start), len: clusters.checked_mul(per_cluster)? - masks, masks })
}

/// The md pages, or else the clusters, that an area takes.
pub(crate) enum Taken {
    Md(Range<u32>),
    Clusters(Range<u32>),
}

/// What an area takes from everybody else while it is in use, as far as there is any of that.
pub(crate) fn taken_by(layout: &Layout, area: JournalArea) -> Taken {
    let pages = area.len + area.masks;
    if layout.contains_md(area.start) {
        return Taken::Md(area.start.0..layout.md_len.min(area.start.0 + pages));
    }
    let cluster_size = u64::from(layout.cluster_size);
    let start = layout.md_page_offset(area.start);
    let end = start + u64::from(pages) * u64::from(layout.md_page_size);
    let number = |cluster: u64| u32::try_from(cluster).unwrap_or(u32::MAX).min(layout.total_clusters);
    Taken::Clusters(number(start / cluster_size)..number(end.div_ceil(cluster_size)))
}

/// Keeps what an area takes from everybody else while it is in use.
pub(crate) fn hold_area(state: &mut State, area: JournalArea) {
    match taken_by(&state.layout, area) {
        Taken::Md(pages) => pages.for_each(|page| state.md.hold_if_available(page)),
        Taken::Clusters(clusters) => clusters.for_each(|cluster| state.clusters.hold_if_available(cluster)),
    }
}

/// Live mask pages for the md pages and clusters in use: all of them, or those in which something has changed.
pub(crate) fn live_masks(
    layout: &Layout,
    used: [&Bitmap; 2],
    area: JournalArea,
    changed: Option<[BTreeSet<usize>; 2]>,
) -> BTreeMap<MdPageIdx, PageImage> {
    let kinds = [MaskKind::MdPages, MaskKind::Clusters].into_iter().zip(used);
    let mut pages = BTreeMap::new();
    for (number, (kind, bits)) in kinds.enumerate() {
        let all = 0..bits.len().div_ceil(LIVE_MASK_BITS as usize);
        let wanted: Vec<usize> = match &changed {
            Some(changed) => changed[number].iter().copied().collect(),
            None => all.collect(),
        };
        for index in wanted.into_iter().filter_map(|index| u32::try_from(index).ok()) {
            pages.insert(mask_page_at(layout, area, kind, index), LiveMaskPage::encode(kind, index, bits));
        }
    }
    pages
}

/// Where a page of a live mask lies: those of the md pages first.
pub(crate) fn mask_page_at(layout: &Layout, area: JournalArea, kind: MaskKind, index: u32) -> MdPageIdx {
    let before = if kind == MaskKind::Clusters { live_mask_pages(layout.md_len) } else { 0 };
    MdPageIdx(area.start.0 + area.len + before + index)
}
