//! From blobs in memory to md pages.

use crate::blob::Blob;
use crate::map::{Entry, SLOTS, Tag};
use crate::pages::Section;
use crate::record::Encoding;
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{
    BlobCluster, BlobMd, ClusterIdx, ExtentOrdinal, ExtentPage, InvalidFlags, LayerPage, LayerRecord, MapMd,
    NativeBlob, XATTR_EXTSNAP, XATTR_SNAP, Xattr, blob_id_value,
};

/// The chain of a blob.
#[must_use]
pub fn blob_md(state: &State, blob: &Blob) -> BlobMd {
    let mut internal_xattrs = blob.internal_xattrs.clone();
    if let Some(parent) = blob.parent {
        internal_xattrs.push(Xattr::new(XATTR_SNAP, blob_id_value(parent)));
    }
    if blob.external_is_parent
        && let Some(external) = &blob.external
    {
        internal_xattrs.push(Xattr::new(XATTR_EXTSNAP, external.id.clone()));
    }
    let mut flags = blob.flags;
    flags.invalid.set(InvalidFlags::INTERNAL_XATTR, !internal_xattrs.is_empty());
    flags.invalid.set(InvalidFlags::EXTENT_TABLE, blob.encoding == Encoding::Table);
    flags.invalid.set(InvalidFlags::EXTERNAL_SNAPSHOT, blob.external_is_parent);
    let native = state.is_native(blob).then(|| NativeBlob {
        dying: blob.dying,
        outdated: blob.outdated,
        inherit_len: blob.inherit_len,
        layer_pages: blob
            .pages
            .ordinals
            .iter()
            .flat_map(|(ordinal, md)| md.layer_pages().map(|page| (*ordinal, page)))
            .collect(),
    });
    BlobMd {
        id: blob.id,
        flags,
        xattrs: blob.xattrs.clone(),
        internal_xattrs,
        native,
        map: map_md(state, blob),
        unknown: blob.unknown.clone(),
    }
}

fn map_md(state: &State, blob: &Blob) -> MapMd {
    match blob.encoding {
        Encoding::Rle => {
            MapMd::rle((0..blob.len).map(|at| own_full(state, blob, &blob.tree.entry(BlobCluster(at)))))
        }
        Encoding::Table => {
            let count = usize::try_from(MapMd::extent_page_count(blob.len)).unwrap_or(usize::MAX);
            let mut pages = alloc::vec![None; count];
            for (ordinal, md) in &blob.pages.ordinals {
                if let Some(page) = pages.get_mut(ordinal.0 as usize) {
                    *page = md.extent;
                }
            }
            MapMd::Table { num_clusters: blob.len, pages }
        }
    }
}

/// The extent page of an ordinal: the full clusters that the blob owns itself.
#[must_use]
pub fn extent_page(state: &State, blob: &Blob, ordinal: ExtentOrdinal) -> ExtentPage {
    let start = ordinal.first_cluster().0;
    let len = usize::try_from(blob.len.saturating_sub(start)).unwrap_or(SLOTS).min(SLOTS);
    let leaf = blob.tree.leaf(ordinal);
    let cluster = |slot| leaf.and_then(|leaf| own_full(state, blob, &leaf.entry(slot)));
    ExtentPage {
        id: blob.id,
        start: u32::try_from(start).unwrap_or(u32::MAX),
        clusters: (0..len).map(cluster).collect(),
    }
}

/// The layer pages of an ordinal: the layers that the blob owns itself, newest first in each slot.
#[must_use]
pub fn layer_pages(state: &State, blob: &Blob, ordinal: ExtentOrdinal) -> Vec<LayerPage> {
    let sections = blob.pages.ordinals.get(&ordinal).into_iter().flat_map(|md| md.sections.keys());
    sections.flat_map(|section| section_pages(state, blob, ordinal, *section)).collect()
}

/// Those of one section.
#[must_use]
pub(super) fn section_pages(
    state: &State,
    blob: &Blob,
    ordinal: ExtentOrdinal,
    section: Section,
) -> Vec<LayerPage> {
    let slots = state.units.spread.slots(section);
    let owned = |tag: Tag| state.tags.owner(tag) == Some(blob.id);
    let mut records = Vec::new();
    for (slot, entry) in blob.tree.leaf(ordinal).into_iter().flat_map(|leaf| leaf.entries_in(slots.clone())) {
        let layers = entry.layers().filter(|(tag, ..)| owned(*tag));
        let layers = layers.filter_map(|(_, cluster, states)| Some((cluster, states?.pack())));
        for ((cluster, states), depth) in layers.zip(0..) {
            let slot = u16::try_from(slot).unwrap_or(u16::MAX);
            records.push(LayerRecord { slot, depth, cluster, states });
        }
    }
    let states_bytes = u16::try_from(state.units.states_bytes).unwrap_or(u16::MAX);
    let pages = records.chunks(state.units.spread.records_per_page);
    pages.map(|records| LayerPage { id: blob.id, ordinal, states_bytes, records: records.to_vec() }).collect()
}

/// The cluster at the bottom of an entry, if it is full and the blob's own: what SPDK's map holds.
fn own_full(state: &State, blob: &Blob, entry: &Entry) -> Option<ClusterIdx> {
    let mut full = entry.layers().filter(|(_, _, states)| states.is_none());
    let (tag, cluster, _) = full.next()?;
    cluster.filter(|_| state.tags.owner(tag) == Some(blob.id))
}
