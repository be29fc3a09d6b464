//! Grow: the store takes over what its device has by now, and gets more md pages if these run short.
//!
//! The md region has to stay in one piece, and lvols own the clusters behind it. What lies there is moved to other
//! clusters, each in a transaction of its own, before the md region takes their place. Here is which clusters these are
//! and what moving them takes; the engine does it.

use super::{Blocks, Need, Needed, WorkCost};
use crate::blob::Blob;
use crate::error::Error;
use crate::init::md_pages_for;
use crate::map::{Entry, Leaf};
use crate::record::Encoding;
use crate::state::State;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_format::{BlobCluster, ClusterIdx, ExtentOrdinal, Layout, LayoutError};

impl State {
    /// What the store is like once it has grown to `size_bytes` and `md_pages` md pages. Fewer bytes than a cluster more
    /// make no cluster, but count as its size.
    ///
    /// # Errors
    /// There are more of either now, its masks have no room for so many, the md pages would take more clusters than there
    /// are, or an lvol is damaged: nobody can tell what it owns.
    pub fn grown(&self, size_bytes: u64, md_pages: u32) -> Result<Layout, Error> {
        let grown = self.layout.grown(size_bytes, md_pages).map_err(|why| match why {
            LayoutError::Shrinks { size_bytes, present_bytes } => {
                Error::StoreShrinks { size: size_bytes, present: present_bytes }
            }
            LayoutError::MdShrinks { md_len, present } => Error::MdShrinks { pages: md_len, present },
            LayoutError::MdMaskRoom { md_len, max } => Error::TooManyMdPages { pages: md_len, max },
            LayoutError::NoRoom { needed, total_clusters } => {
                Error::NoClusters { needed, free: total_clusters.into() }
            }
            _ => Error::StoreTooLarge { size: size_bytes, max: self.layout.growable_bytes() },
        })?;
        match self.blobs().find(|blob| blob.damage.is_some()) {
            Some(blob) => Err(Error::Damaged(blob.display_name())),
            None => Ok(grown),
        }
    }

    /// How many md pages the store should have at a size: as many for lvols as a new store, if it has fewer in all, as
    /// far as its masks can index them. `kept` are those of them that something else has.
    #[must_use]
    pub(crate) fn md_pages_at(&self, size_bytes: u64, kept: u32) -> u32 {
        let present = self.layout.md_len;
        let clusters = size_bytes / self.units.cluster;
        let wanted = md_pages_for(u32::try_from(clusters).unwrap_or(u32::MAX));
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        if wanted <= present {
            return present;
        }
        wanted.saturating_add(kept).min(self.layout.growable_md_pages())
    }

    /// What moving everything out of some clusters takes.
    pub(crate) fn move_cost(&self, way: &Range<u32>) -> WorkCost {
        let mut cost = WorkCost::default();
        for blob in self.blobs() {
            let (filled, mut next) = (cost.filled, ExtentOrdinal(0));
            while let Some((ordinal, needed)) = self.move_needs(blob, next, way) {
                next = ExtentOrdinal(ordinal.0 + 1);
                let has_extent = blob.pages.ordinals.get(&ordinal).is_some_and(|md| md.extent.is_some());
                let becomes_full =
                    |need: &Need| matches!(need, Need::Fill { blocks: Blocks::All, target: None, .. });
                cost.filled += needed.len() as u64;
                for (_, need) in &needed {
                    if let Need::Fill { target, missing, .. } = need {
                        cost.clusters += u64::from(target.is_none());
                        cost.bytes += missing;
                    }
                }
                let needs_extent = needed.iter().any(|(_, need)| becomes_full(need)) && !has_extent;
                cost.md_pages += u64::from(needs_extent && blob.encoding == Encoding::Table);
            }
            if cost.filled > filled && blob.encoding == Encoding::Rle {
                // Each may cut a run in three.
                cost.md_pages += 2 + 2 * (cost.filled - filled) / 256;
            }
        }
        cost
    }

    /// The first ordinal from `from` on in which a blob owns some of these clusters, with where it has them.
    pub(crate) fn move_needs(
        &self,
        blob: &Blob,
        from: ExtentOrdinal,
        way: &Range<u32>,
    ) -> Option<(ExtentOrdinal, Vec<Needed>)> {
        if blob.dying || way.is_empty() {
            return None;
        }
        blob.pages.ordinals.range(from..).filter(|(_, md)| md.owns_any()).find_map(|(ordinal, _)| {
            let first = ordinal.first_cluster().0;
            let slots = blob.tree.leaf(*ordinal).into_iter().flat_map(Leaf::entries);
            let clusters = slots.map(|(slot, _)| BlobCluster(first + slot as u64));
            let needed: Vec<Needed> =
                clusters.filter_map(|at| Some((at, self.move_need(blob, at, way)?))).collect();
            (!needed.is_empty()).then_some((*ordinal, needed))
        })
    }

    /// What a cluster of a blob needs to own none of these clusters: its data in one cluster that is not among them.
    pub(crate) fn move_need(&self, blob: &Blob, at: BlobCluster, way: &Range<u32>) -> Option<Need> {
        let entry = blob.tree.entry(at);
        let owned = |tag| self.owner(tag) == Some(blob.id);
        let is_in_way = |cluster: &ClusterIdx| way.contains(&cluster.0);
        if blob.dying || !entry.clusters_of(owned).any(|cluster| is_in_way(&cluster)) {
            return None;
        }
        let shown = self.shown_per_cluster(&entry, &owned);
        let shown_by = |own: &ClusterIdx| shown.get(own).copied().unwrap_or(0);
        let others = entry.clusters_of(owned).filter(|cluster| !is_in_way(cluster));
        let target = others.max_by_key(shown_by).filter(|target| shown.contains_key(target));
        // A part of a cluster stays a part, unless that may not arise or nothing of it shows.
        let stays_part = self.native_allowed && !shown.is_empty() && matches!(entry, Entry::Stack(_));
        let blocks = if stays_part { Blocks::Joined } else { Blocks::All };
        let bytes = if stays_part { shown.values().sum() } else { self.units.cluster };
        Some(Need::Fill { target, missing: bytes - target.as_ref().map_or(0, shown_by), blocks })
    }
}
