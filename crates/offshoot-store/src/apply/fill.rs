//! Records that change how a blob holds a cluster and not what it reads: filling, and dropping zeros that need no
//! saying.
//!
//! Clones have the entries of what they inherit in their own trees. They follow at once, and become what a loader would
//! make of them: otherwise a clone would read on from a layer that its parent has let go. What a clone shared with its
//! parent is shared again afterwards.

use crate::blob::Blob;
use crate::map::{Entry, Tree};
use crate::state::State;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ClusterIdx, ExtentOrdinal};

impl State {
    pub(super) fn apply_fill(
        &mut self,
        id: BlobId,
        at: BlobCluster,
        cluster: ClusterIdx,
        blocks: Range<u32>,
    ) {
        let all = self.units.blocks;
        self.change_for_clones(id, at, |state| {
            state.change_entry(id, at, |old, tag, owned| {
                old.filled(tag, cluster, blocks, all, owned).without_hidden(owned)
            });
        });
    }

    pub(super) fn apply_drop_zeros(&mut self, id: BlobId, at: BlobCluster) {
        if self.blob(id).is_none_or(|blob| !self.is_needless_zero(blob, at)) {
            return;
        }
        self.change_for_clones(id, at, |state| state.change_entry(id, at, |_, _, _| Entry::Absent));
    }

    pub(super) fn apply_keep_zeros(&mut self, id: BlobId, at: BlobCluster) {
        let Some(zeros) = self.blob(id).and_then(|blob| self.zeroed_by_parent(blob, at)) else {
            return;
        };
        self.change_for_clones(id, at, |state| {
            state.change_entry(id, at, |old, tag, owned| old.with_zeros(tag, &zeros, owned));
        });
    }

    /// Whether everything that is stored for a cluster of a blob is that it reads zeros, and it would without.
    pub(crate) fn is_needless_zero(&self, blob: &Blob, at: BlobCluster) -> bool {
        let base = at.0 * self.units.cluster;
        let extents = self.extents(blob, base..base + self.units.cluster, 2);
        extents.iter().all(|extent| extent.hole) && !self.parent_will_hold(blob, at)
    }

    /// Whether something lies below a blob in a cluster, shown or not, now or once every ancestor hides in a way that
    /// SPDK understands what it hides: with a cluster of its own.
    pub(crate) fn parent_will_hold(&self, blob: &Blob, at: BlobCluster) -> bool {
        let mut blob = blob;
        while let Some(parent) = blob.parent.and_then(|id| self.blob(id)) {
            // Nobody can tell: it may.
            if at.0 < parent.lost_len {
                return true;
            }
            if at.0 >= parent.len {
                return false;
            }
            if !matches!(parent.tree.entry(at), Entry::Absent) {
                return true;
            }
            blob = parent;
        }
        blob.external_is_parent
    }

    /// Changes an entry, and then what the clones made of it.
    fn change_for_clones(&mut self, id: BlobId, at: BlobCluster, change: impl FnOnce(&mut Self)) {
        let Some(blob) = self.blob(id) else { return };
        if blob.clones.is_empty() {
            return change(self);
        }
        let before = blob.tree.clone();
        change(self);
        let mut changed = alloc::vec![(id, before)];
        while let Some((id, before)) = changed.pop() {
            let Some(blob) = self.blob(id) else { continue };
            let after = blob.tree.clone();
            let clones: Vec<BlobId> = blob.clones.iter().copied().collect();
            for clone in clones {
                if let Some(tree) = self.follow(clone, at, &before, &after) {
                    changed.push((clone, tree));
                }
            }
        }
    }

    /// Brings the entry of a clone up to date with that of its parent. Hands back the tree as it was, where it changed
    /// and others inherit from it.
    fn follow(&mut self, id: BlobId, at: BlobCluster, before: &Tree, after: &Tree) -> Option<Tree> {
        let clone = self.blobs.get_mut(&id)?;
        let old = clone.tree.clone();
        // What is known of a damaged clone follows like that of any other. What is not may be its own.
        let is_unknown = at.0 < clone.lost_len || matches!(old.entry(at), Entry::Unknown);
        if at.0 >= clone.inherit_len || is_unknown && !clone.is_readable() {
            return None;
        }
        let (ordinal, _) = ExtentOrdinal::of(at);
        if !clone.tree.follow(before, after, ordinal) {
            let tags = &self.tags;
            let owned = |tag| tags.owner(tag) == Some(id);
            let entry = old.entry(at).over(after.entry(at), &owned)?;
            clone.tree.replace(at, entry);
        }
        (!clone.clones.is_empty()).then_some(old)
    }
}
