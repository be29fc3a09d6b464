//! Seal: what SPDK's format cannot say is said in a way that it can.
//!
//! Native are layers: clusters that a blob holds in part, or of which it only says that they read zeros; and clusters
//! behind `inherit_len` that hide what an ancestor holds. Each becomes a full cluster of the blob's own, except zeros
//! below which there is nothing: they need no saying. Here is which, and what that costs; the engine does it.
//!
//! Clones come before their parents. Where a snapshot hides something with a new cluster of zeros, a clone that hides
//! the same has one of its own by then: what a clone inherits must not depend on whether its metadata was written, which
//! forgets `inherit_len` where nothing is hidden.

use crate::blob::Blob;
use crate::error::Error;
use crate::map::{Entry, SLOTS, Source};
use crate::record::{Encoding, Record};
use crate::state::State;
use alloc::{collections::BTreeMap, vec::Vec};
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ClusterIdx, ExtentOrdinal};

/// What a job takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkCost {
    /// Clusters that are filled in, or freed of zeros that need no saying.
    pub filled: u64,
    /// Free clusters that this takes.
    pub clusters: u64,
    /// Clusters that come free.
    pub freed: u64,
    /// Bytes that are copied or zeroed.
    pub bytes: u64,
    /// Md pages that this takes at most.
    pub md_pages: u64,
}

/// Which blocks of a cluster a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocks {
    /// All of them.
    All,
    /// Those whose data another blob holds.
    Of(BlobId),
    /// Those whose data is in other clusters of the blob's own.
    Joined,
    /// Those of some that lie below the whole chain.
    Below {
        /// The first of these.
        first: u32,
        /// Behind the last.
        end: u32,
    },
}

/// What a cluster needs: for sealing, what it takes to be said in SPDK's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it reads zeros by itself.
    DropZeros,
    /// To say itself what its parent says of zeros.
    KeepZeros,
    /// Some blocks in a cluster of the blob's own.
    Fill {
        /// The cluster of the blob's own that holds most of them, if it has one.
        target: Option<ClusterIdx>,
        /// Bytes that are not there.
        missing: u64,
        /// Which blocks.
        blocks: Blocks,
    },
}

/// A cluster, and what it needs.
pub(crate) type Needed = (BlobCluster, Need);

impl State {
    /// What sealing the store takes.
    ///
    /// # Errors
    /// An lvol is damaged: nobody knows what it holds.
    pub fn seal_cost(&self) -> Result<WorkCost, Error> {
        if let Some(blob) = self.blobs().find(|blob| blob.damage.is_some()) {
            return Err(Error::Damaged(blob.display_name()));
        }
        let mut cost = WorkCost::default();
        for blob in self.blobs() {
            self.add_seal_cost(blob, &mut cost);
        }
        for id in self.mixed_families() {
            let (_, pages) = self.family_to_tables(id)?;
            cost.md_pages += pages as u64;
        }
        Ok(cost)
    }

    fn add_seal_cost(&self, blob: &Blob, cost: &mut WorkCost) {
        let (mut filled, mut extents, mut next) = (0, 0, ExtentOrdinal(0));
        while let Some((ordinal, needed)) = self.seal_needs(blob, next) {
            next = ExtentOrdinal(ordinal.0 + 1);
            cost.filled += needed.len() as u64;
            let fills = needed.iter().filter_map(|(_, need)| match need {
                Need::DropZeros | Need::KeepZeros => None,
                Need::Fill { target, missing, .. } => Some((target, missing)),
            });
            let before = filled;
            for (target, missing) in fills {
                filled += 1;
                cost.clusters += u64::from(target.is_none());
                cost.bytes += missing;
            }
            let has_extent = blob.pages.ordinals.get(&ordinal).is_some_and(|md| md.extent.is_some());
            extents += u64::from(filled > before && !has_extent && blob.encoding == Encoding::Table);
        }
        if filled > 0 {
            // The chain names each extent page, or holds up to two more runs for each cluster.
            let named = if blob.encoding == Encoding::Table { extents } else { 2 * filled };
            cost.md_pages += extents + 2 + named / 256;
        }
    }

    /// The first ordinal from `from` on in which something of a blob is native, with all of that.
    pub(crate) fn seal_needs(
        &self,
        blob: &Blob,
        from: ExtentOrdinal,
    ) -> Option<(ExtentOrdinal, Vec<Needed>)> {
        if blob.dying || blob.damage.is_some() {
            return None;
        }
        let tail = self.hidden_tail(blob);
        let mut layers = blob.pages.ordinals.range(from..).filter(|(_, md)| md.own_layers() > 0).peekable();
        let mut hidden = ordinals(&tail, from).filter(|at| self.anything_below(blob, *at)).peekable();
        loop {
            let next = match (layers.peek(), hidden.peek()) {
                (Some((layer, _)), Some(hidden)) => **layer.min(&hidden),
                (Some((layer, _)), None) => **layer,
                (None, Some(hidden)) => *hidden,
                (None, None) => return None,
            };
            layers.next_if(|(at, _)| **at == next);
            hidden.next_if(|at| *at == next);
            let first = next.first_cluster().0;
            let clusters = (first..(first + SLOTS as u64).min(blob.len)).map(BlobCluster);
            let needed: Vec<Needed> =
                clusters.filter_map(|at| Some((at, self.seal_need(blob, at)?))).collect();
            if !needed.is_empty() {
                return Some((next, needed));
            }
        }
    }

    /// What a cluster of a blob needs, if it is native.
    pub(crate) fn seal_need(&self, blob: &Blob, at: BlobCluster) -> Option<Need> {
        let entry = blob.tree.entry(at);
        let is_native = match &entry {
            Entry::Absent => at.0 >= blob.inherit_len && self.parent_will_hold(blob, at),
            Entry::Full { .. } | Entry::Unknown => false,
            Entry::Stack(stack) => self.owner(stack.top.tag) == Some(blob.id),
        };
        if !is_native {
            return None;
        }
        if self.is_needless_zero(blob, at) {
            return Some(Need::DropZeros);
        }
        let (target, missing) = self.fill_target(blob, &entry, at);
        Some(Need::Fill { target, missing, blocks: Blocks::All })
    }

    /// The cluster of a blob's own that shows most of a cluster, and how many bytes it does not show.
    pub(crate) fn fill_target(
        &self,
        blob: &Blob,
        entry: &Entry,
        at: BlobCluster,
    ) -> (Option<ClusterIdx>, u64) {
        let owned = |tag| self.owner(tag) == Some(blob.id);
        let cluster = self.units.cluster;
        let mut shown: BTreeMap<ClusterIdx, u64> = BTreeMap::new();
        let (mut pos, end) = (at.0 * cluster, (at.0 + 1) * cluster);
        while pos < end {
            let (source, run) = self.source_in(entry, at.0, pos, end);
            if let Source::Cluster { tag, cluster } = source
                && owned(tag)
            {
                *shown.entry(cluster).or_default() += run.end - run.start;
            }
            pos = run.end;
        }
        let shown_by = |own: &ClusterIdx| shown.get(own).copied().unwrap_or(0);
        let target = entry.clusters_of(owned).max_by_key(shown_by);
        (target, cluster - target.as_ref().map_or(0, shown_by))
    }

    /// Whether a clone would hide what a cluster of `blob` comes to hold, although nothing on disk says so. Its own
    /// cluster has to come first.
    pub(crate) fn is_hidden_by_clone(&self, blob: &Blob, at: BlobCluster) -> bool {
        let mut open: Vec<BlobId> = blob.clones.iter().copied().collect();
        while let Some(clone) = open.pop().and_then(|id| self.blob(id)) {
            if at.0 < clone.len && matches!(clone.tree.entry(at), Entry::Absent) {
                if at.0 >= clone.inherit_len {
                    return true;
                }
                open.extend(clone.clones.iter().copied());
            }
        }
        false
    }

    /// The records that say how far clones inherit from a blob, before it comes to hold something in a cluster in which
    /// it holds nothing. Those that do not inherit that far and have nothing of their own there would hide it; where they
    /// hid nothing until now, nothing on disk says from where on. They inherit to their ends then: it makes no difference.
    pub(crate) fn settle_clones(&self, blob: &Blob, at: BlobCluster) -> Vec<Record> {
        let mut records = Vec::new();
        let mut open: Vec<BlobId> = blob.clones.iter().copied().collect();
        while let Some(clone) = open.pop().and_then(|id| self.blob(id)) {
            if at.0 >= clone.len || clone.damage.is_some() || !self.shows_below(clone, at) {
                continue;
            }
            if at.0 < clone.inherit_len {
                open.extend(clone.clones.iter().copied());
                continue;
            }
            let mut tail = self.parent_tail(clone, clone.inherit_len..clone.len);
            let hides = tail.any(|at| self.shows_below(clone, BlobCluster(at)));
            let len = if hides { clone.inherit_len } else { clone.len };
            records.push(Record::Inherit { blob: clone.id, len });
        }
        records
    }

    /// Whether a blob would show something in a cluster that lies below what it has there itself.
    pub(crate) fn shows_below(&self, blob: &Blob, at: BlobCluster) -> bool {
        blob.tree.entry(at).shows_below(&|tag| self.owner(tag) == Some(blob.id))
    }

    /// Every blob, clones before their parents.
    pub(crate) fn clones_first(&self) -> Vec<BlobId> {
        let roots = self.blobs().filter(|blob| blob.parent.is_none());
        let mut found: Vec<BlobId> = roots.map(|blob| blob.id).collect();
        let mut next = 0;
        while let Some(blob) = found.get(next).and_then(|id| self.blob(*id)) {
            found.extend(blob.clones.iter().copied());
            next += 1;
        }
        found.reverse();
        found
    }

    /// The records that bring every family under one encoding.
    pub(crate) fn seal_encodings(&self) -> Vec<Record> {
        // One that is damaged is refused before.
        let records = self.mixed_families().into_iter().filter_map(|id| self.family_to_tables(id).ok()?.0);
        records.collect()
    }

    /// A member of each family of which some maps are runs and some are tables.
    fn mixed_families(&self) -> Vec<BlobId> {
        if !self.mixed_encodings {
            return Vec::new();
        }
        let roots = self.blobs().filter(|blob| blob.parent.is_none() && !blob.clones.is_empty());
        let is_mixed = |root: &&Blob| {
            let family = self.family(root.id);
            let mut encodings = family.iter().filter_map(|id| self.blob(*id)).map(|blob| blob.encoding);
            let first = encodings.next();
            encodings.any(|encoding| Some(encoding) != first)
        };
        roots.filter(is_mixed).map(|root| root.id).collect()
    }

    /// Clusters behind `inherit_len` in which some ancestor may hold something.
    fn hidden_tail(&self, blob: &Blob) -> Range<u64> {
        let below = match blob.parent.and_then(|id| self.blob(id)) {
            Some(parent) => parent.len,
            None if blob.external_is_parent => u64::MAX,
            None => 0,
        };
        blob.inherit_len..blob.len.min(below)
    }

    /// Whether some ancestor of a blob has anything in an ordinal.
    fn anything_below(&self, blob: &Blob, ordinal: ExtentOrdinal) -> bool {
        let mut blob = blob;
        while let Some(parent) = blob.parent.and_then(|id| self.blob(id)) {
            if parent.tree.leaf(ordinal).is_some() {
                return true;
            }
            blob = parent;
        }
        blob.external_is_parent
    }
}

/// The ordinals of a range of clusters, from one on.
pub(super) fn ordinals(
    clusters: &Range<u64>,
    from: ExtentOrdinal,
) -> impl Iterator<Item = ExtentOrdinal> + use<> {
    let of = |at| ExtentOrdinal::of(BlobCluster(at)).0.0;
    let range = match clusters.is_empty() {
        true => 0..0,
        false => of(clusters.start).max(from.0)..of(clusters.end - 1) + 1,
    };
    range.map(ExtentOrdinal)
}
