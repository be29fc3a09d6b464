//! What is kept for lvols with a reservation, brought up to date with every record that changes it.
//!
//! Such an lvol may need one more cluster for each cluster that it cannot overwrite where it is, and md pages for all that
//! it could come to hold. Both are counted, not chosen: nobody else gets the last ones.

use crate::blob::{Blob, Reserve};
use crate::map::{Entry, Leaf, SLOTS, Tag};
use crate::pages::Spread;
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::BlobId;

impl State {
    /// Counts what is kept for every blob. To be called once a store is loaded.
    pub(crate) fn settle_reserves(&mut self) {
        let ids: Vec<BlobId> = self.blobs.keys().copied().collect();
        ids.into_iter().for_each(|id| self.recount_reserve(id));
    }

    /// Counts what a blob may still need, from its map.
    pub(super) fn recount_reserve(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get(&id) else { return };
        let backed = if blob.is_reserved() { self.count_backed(blob) } else { 0 };
        self.set_backed(id, backed);
    }

    /// A blob has lost all that it held, or its length or kind has changed.
    pub(super) fn set_backed(&mut self, id: BlobId, backed: u64) {
        let spread = self.units.spread;
        let Some(blob) = self.blobs.get_mut(&id) else { return };
        let before = blob.reserve;
        let now = match blob.is_reserved() {
            false => Reserve::default(),
            true => Reserve {
                on: true,
                backed,
                clusters: blob.len.saturating_sub(backed),
                md_pages: md_pages_at_most(blob.len, spread),
            },
        };
        blob.reserve = now;
        self.clusters.promise(before.clusters, now.clusters);
        self.md_promised = self.md_promised + now.md_pages - before.md_pages;
    }

    /// An entry of a blob has changed.
    pub(super) fn entry_backed(&mut self, id: BlobId, before: bool, after: bool) {
        let Some(reserve) = self.blobs.get(&id).map(|blob| blob.reserve).filter(|reserve| reserve.on) else {
            return;
        };
        match (before, after) {
            (false, true) => self.set_backed(id, reserve.backed + 1),
            (true, false) => self.set_backed(id, reserve.backed.saturating_sub(1)),
            _ => {}
        }
    }

    /// Brings up to date what follows from the length and the kind of a blob.
    pub(super) fn settle_reserve(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get(&id) else { return };
        match blob.reserve.on == blob.is_reserved() {
            true => self.set_backed(id, blob.reserve.backed),
            false => self.recount_reserve(id),
        }
    }

    fn count_backed(&self, blob: &Blob) -> u64 {
        let owned = |tag: Tag| self.owner(tag) == Some(blob.id);
        let counts = blob.pages.ordinals.iter().map(|(ordinal, md)| match md.own_layers() {
            0 => u64::from(md.own_full),
            _ => {
                let entries = blob.tree.leaf(*ordinal).into_iter().flat_map(Leaf::entries);
                entries.filter(|(_, entry)| is_backed(entry, owned)).count() as u64
            }
        });
        counts.sum()
    }
}

/// Whether any block of a cluster can be written without another cluster.
pub(crate) fn is_backed(entry: &Entry, owned: impl Fn(Tag) -> bool) -> bool {
    match entry {
        Entry::Absent | Entry::Unknown => false,
        Entry::Full { tag, .. } => owned(*tag),
        Entry::Stack(stack) => owned(stack.top.tag) && stack.top.cluster.is_some(),
    }
}

/// Md pages that an lvol of so many clusters may need, whatever it comes to hold.
pub(crate) fn md_pages_at_most(len: u64, spread: Spread) -> usize {
    /// Least that a page of a chain holds of what it says about the map.
    const SPLIT_ROOM: u64 = offshoot_format::DESCRIPTORS_BYTES as u64 - 64;
    let ordinals = len.div_ceil(SLOTS as u64);
    let layers = ordinals * spread.ranges() as u64;
    // A table names each page; runs are eight bytes a cluster, where they are few.
    let named = 8 * (2 * ordinals + 1 + layers) + 8 * len.min(SLOTS as u64);
    usize::try_from(ordinals + layers + named.div_ceil(SPLIT_ROOM) + 2).unwrap_or(usize::MAX / 2)
}
