//! Where the journal lies, and the live masks behind it.

use crate::init::{growth_clusters, md_pages_for};
use crate::limits::{JOURNAL_BYTES_LEAST, JOURNAL_BYTES_MAX, JOURNAL_BYTES_MIN, JOURNAL_SHARE};
use crate::state::State;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
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

/// Clusters that the live masks get room for: more than there are, so that the store can grow while it is open.
fn live_clusters(layout: &Layout) -> u32 {
    most_live_clusters(layout.total_clusters, layout.md_page_size).min(layout.growable_clusters())
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

/// Finds room for ring and live masks: in free md pages, where enough lie together; else in free clusters; else in
/// what md pages there are. `None` when there is no room at all.
pub(crate) fn choose_area(state: &State, block: u32) -> Option<JournalArea> {
    let layout = &state.layout;
    let page = u64::from(layout.md_page_size);
    let masks = mask_pages(layout.md_len, live_clusters(layout));
    // Frames are whole blocks: larger ones take a larger ring.
    let empty_bytes = if block > 512 { 4 * JOURNAL_BYTES_LEAST } else { JOURNAL_BYTES_LEAST };
    // What loading has changed must fit, twice (a recovery takes it once more), beside what is kept free: an eighth.
    let image_bytes = MD_STRUCT_BYTES as u64 + u64::from(block);
    let least_bytes = empty_bytes + state.image_pages as u64 * image_bytes * 5 / 2;
    let pages = |bytes: u64| {
        let bytes = bytes.max(least_bytes);
        u32::try_from(bytes.div_ceil(page)).map_or(u32::MAX, |pages| pages.saturating_add(masks))
    };
    let wanted = pages(default_bytes(layout.size_bytes));
    let enough =
        pages((layout.size_bytes / 64).clamp(empty_bytes, empty_bytes.max(JOURNAL_BYTES_LEAST * 16)));
    let least = pages(0);

    // Without those that the next checkpoint takes.
    let free = state.md.available().saturating_sub(state.md_debt);
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
    let run = state.md.run_of(most as usize);
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
        .find_map(|wanted| in_clusters(state, wanted, masks))
        .or(in_md)
}

/// An area of so many pages in free clusters: md page numbers beyond the md region.
fn in_clusters(state: &State, pages: u32, masks: u32) -> Option<JournalArea> {
    let layout = &state.layout;
    let per_cluster = layout.cluster_size / layout.md_page_size;
    let clusters = pages.div_ceil(per_cluster);
    let run = state.clusters.run_of(clusters as usize);
    if run.len() < clusters as usize {
        return None;
    }
    let first = u64::try_from(run.start).ok()? * u64::from(per_cluster);
    let start = u32::try_from(first.checked_sub(u64::from(layout.md_start))?).ok()?;
    Some(JournalArea { start: MdPageIdx(start), len: clusters.checked_mul(per_cluster)? - masks, masks })
}

/// Keeps the md pages, or else the clusters, that an area takes from everybody else while it is in use.
pub(crate) fn hold_area(state: &mut State, area: JournalArea) {
    let layout = &state.layout;
    let pages = area.len + area.masks;
    if layout.contains_md(area.start) {
        (area.start.0..area.start.0 + pages).for_each(|page| state.md.hold_if_available(page));
    } else {
        let cluster_size = u64::from(layout.cluster_size);
        let start = layout.md_page_offset(area.start);
        let end = start + u64::from(pages) * u64::from(layout.md_page_size);
        let clusters = start / cluster_size..end.div_ceil(cluster_size);
        clusters
            .filter_map(|cluster| u32::try_from(cluster).ok())
            .for_each(|cluster| state.clusters.hold_if_available(cluster));
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
