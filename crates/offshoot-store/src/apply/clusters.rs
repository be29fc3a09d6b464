//! Records about clusters: mapping, zeroing, resizing, releasing.

use super::is_backed;
use crate::map::{BlockStates, Entry, Layer, Stack, Tag};
use crate::pages::OrdinalMd;
use crate::record::{Encoding, MappedRun};
use crate::state::{State, give_up};
use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, BlockState, ClearMethod, ClusterIdx, ExtentOrdinal};

/// What a blob owns of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    /// A full cluster at the bottom.
    pub full: Option<ClusterIdx>,
    /// Layers above.
    pub layers: u32,
    /// Clusters of both.
    pub clusters: u64,
}

impl State {
    pub(super) fn map_runs(&mut self, id: BlobId, runs: &[MappedRun]) {
        let blocks = self.units.blocks;
        for run in runs {
            for index in 0..run.length {
                let at = BlobCluster(run.at.0 + u64::from(index));
                self.apply_map(id, at, ClusterIdx(run.cluster.0 + index), 0..blocks);
            }
        }
    }

    pub(super) fn apply_map(&mut self, id: BlobId, at: BlobCluster, cluster: ClusterIdx, blocks: Range<u32>) {
        if self.mark_data_in_place(id, at, cluster, &blocks) {
            return;
        }
        let all = self.units.blocks;
        self.change_entry(id, at, |old, tag, owned| {
            if matches!(&old, Entry::Full { cluster: full, .. } if *full == cluster) {
                return old;
            }
            let (mut top, below) = match old {
                Entry::Stack(stack)
                    if owned(stack.top.tag) && stack.top.cluster.is_none_or(|own| own == cluster) =>
                {
                    (stack.top.clone(), stack.below.clone())
                }
                other => {
                    let states = BlockStates::all(all, BlockState::Inherit);
                    (Layer { tag, cluster: None, states }, other)
                }
            };
            top.cluster = Some(cluster);
            top.states.set(blocks, BlockState::Data);
            below.covered_by(top, false)
        });
    }

    /// The common case: the layer exists, some of its blocks become data, and others stay what they are.
    fn mark_data_in_place(
        &mut self,
        id: BlobId,
        at: BlobCluster,
        cluster: ClusterIdx,
        blocks: &Range<u32>,
    ) -> bool {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return false;
        };
        let Some(stack) = blob.tree.stack(at) else {
            return false;
        };
        if stack.top.cluster != Some(cluster) || self.tags.owner(stack.top.tag) != Some(id) {
            return false;
        }
        let mut states = stack.top.states.clone();
        states.set(blocks.clone(), BlockState::Data);
        if !states.any(BlockState::Inherit) {
            return false;
        }
        if let Some(stack) = blob.tree.stack_mut(at) {
            stack.top.states = states;
        }
        let (ordinal, slot) = ExtentOrdinal::of(at);
        let spread = self.units.spread;
        // How many there are does not matter: as many as before.
        self.touch_ordinal(id, ordinal, |md| md.change_layers(spread, slot, 1, 1));
        true
    }

    pub(super) fn apply_zero_blocks(&mut self, id: BlobId, at: BlobCluster, blocks: Range<u32>) {
        let freed_before = self.freed_clusters.len();
        let Some(blob) = self.blobs.get(&id) else { return };
        // Where the blob holds something of its own, nothing on disk need say whether the parent would show through:
        // what is put there must not depend on whether memory still knows, or a replay would not end as life did.
        let nothing_to_hide = match matches!(blob.tree.entry(at), Entry::Absent) {
            true => self.reads_zero_below(blob, at),
            false => !self.parent_holds(blob, at),
        };
        let all = self.units.blocks;
        self.change_entry(id, at, |old, tag, owned| {
            let (mut top, below) = match old {
                Entry::Full { tag: owner, cluster } if owned(owner) => {
                    let states = BlockStates::all(all, BlockState::Data);
                    (Layer { tag: owner, cluster: Some(cluster), states }, Entry::Absent)
                }
                Entry::Stack(stack) if owned(stack.top.tag) => (stack.top.clone(), stack.below.clone()),
                other => {
                    let states = BlockStates::all(all, BlockState::Inherit);
                    (Layer { tag, cluster: None, states }, other)
                }
            };
            top.states.set(blocks, BlockState::Zero);
            if !top.states.any(BlockState::Data) {
                top.cluster = None;
            }
            below.covered_by(top, nothing_to_hide)
        });
        // What a client trims is unmapped, whatever method its lvol has: SPDK does so.
        for cluster in &self.freed_clusters[freed_before..] {
            self.clearing.remove(cluster);
        }
    }

    pub(super) fn apply_zero_clusters(&mut self, id: BlobId, range: Range<u64>) {
        let blocks = self.units.blocks;
        let mut at = range.start;
        while at < range.end {
            let (ordinal, _) = ExtentOrdinal::of(BlobCluster(at));
            let next = (ordinal.first_cluster().0 + crate::map::SLOTS as u64).min(range.end);
            let Some(blob) = self.blobs.get(&id) else { return };
            let shows = blob.external.as_ref().is_some_and(|external| at < external.len);
            if blob.tree.leaf(ordinal).is_some() || shows || at < blob.lost_len {
                for cluster in at..next {
                    self.apply_zero_blocks(id, BlobCluster(cluster), 0..blocks);
                }
            }
            at = next;
        }
    }

    pub(super) fn apply_resize(&mut self, id: BlobId, len: u64) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let old_len = blob.len;
        if len < old_len {
            let cut: Vec<u64> = blob
                .tree
                .ordinals()
                .into_iter()
                .filter(|ordinal| ordinal.first_cluster().0 + crate::map::SLOTS as u64 > len)
                .flat_map(|ordinal| {
                    let start = ordinal.first_cluster().0;
                    start.max(len)..start + crate::map::SLOTS as u64
                })
                .collect();
            for at in cut {
                self.change_entry(id, BlobCluster(at), |_, _, _| Entry::Absent);
            }
        }
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        blob.tree.truncate(BlobCluster(len));
        blob.inherit_len = blob.inherit_len.min(len);
        blob.lost_len = blob.lost_len.min(len);
        if let Some(external) = &mut blob.external {
            external.len = external.len.min(len);
        }
        blob.len = len;
        blob.pages.rle_runs += 1;
        self.settle_reserve(id);
        self.touch_end(id, old_len);
        self.touch_end(id, len);
        self.touch_chain(id);
    }

    /// Marks the extent page of the last cluster for writing: it states how many clusters it covers.
    pub(super) fn touch_end(&mut self, id: BlobId, len: u64) {
        let Some(last) = len.checked_sub(1) else { return };
        let (ordinal, _) = ExtentOrdinal::of(BlobCluster(last));
        if self.blobs.get(&id).is_some_and(|blob| blob.pages.ordinals.contains_key(&ordinal)) {
            self.touch_ordinal(id, ordinal, |md| md.extent_dirty = true);
        }
    }

    pub(super) fn apply_release(&mut self, id: BlobId, ordinals: &[ExtentOrdinal]) {
        for ordinal in ordinals {
            let Some(blob) = self.blobs.get_mut(&id) else {
                return;
            };
            let tags = &self.tags;
            let leaf = blob.tree.leaf(*ordinal);
            let owned = |tag: Tag| tags.owner(tag) == Some(id);
            let freed: Vec<ClusterIdx> = leaf
                .into_iter()
                .flat_map(crate::map::Leaf::entries)
                .flat_map(|(_, entry)| entry.clusters_of(owned).collect::<Vec<_>>())
                .collect();
            blob.tree.remove_leaf(*ordinal);
            blob.own_clusters -= freed.len() as u64;
            let method = blob.flags.clear_method();
            self.free_clusters(&freed, method);
            self.touch_ordinal(id, *ordinal, OrdinalMd::clear);
        }
    }

    /// Replaces the entry of a cluster and keeps every count that depends on it.
    pub(super) fn change_entry(
        &mut self,
        id: BlobId,
        at: BlobCluster,
        change: impl FnOnce(Entry, Tag, &dyn Fn(Tag) -> bool) -> Entry,
    ) {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return;
        };
        let tags = &self.tags;
        let owned = |tag: Tag| tags.owner(tag) == Some(id);
        let old = blob.tree.entry(at);
        let before = what_is_owned(&old, owned);
        let was_backed = blob.reserve.on && is_backed(&old, owned);
        let clusters_before: Vec<ClusterIdx> = old.clusters_of(owned).collect();
        let new = change(old, blob.write_tag(), &owned);
        let after = what_is_owned(&new, owned);
        let clusters_after: Vec<ClusterIdx> = new.clusters_of(owned).collect();
        let is_backed = blob.reserve.on && is_backed(&new, owned);
        blob.tree.replace(at, new);
        blob.own_clusters = blob.own_clusters + after.clusters - before.clusters;
        let method = blob.flags.clear_method();
        if blob.encoding == Encoding::Rle {
            // A changed cluster splits at most one run into three.
            blob.pages.rle_runs += 2;
        }
        for cluster in clusters_after.iter().filter(|cluster| !clusters_before.contains(cluster)) {
            self.clusters.take(cluster.0);
        }
        let freed: Vec<ClusterIdx> =
            clusters_before.into_iter().filter(|cluster| !clusters_after.contains(cluster)).collect();
        self.free_clusters(&freed, method);
        self.entry_backed(id, was_backed, is_backed);
        let (ordinal, slot) = ExtentOrdinal::of(at);
        let spread = self.units.spread;
        self.touch_ordinal(id, ordinal, |md| {
            md.own_full = md.own_full + u16::from(after.full.is_some()) - u16::from(before.full.is_some());
            md.extent_dirty |= after.full != before.full;
            md.change_layers(spread, slot, before.layers, after.layers);
        });
    }

    /// Clusters are let go by a blob with a clear method of its own.
    pub(super) fn free_clusters(&mut self, freed: &[ClusterIdx], method: ClearMethod) {
        for cluster in freed {
            if !give_up(&mut self.disputed_clusters, cluster) {
                self.clusters.drop_use(cluster.0);
                self.freed_clusters.push(*cluster);
                self.clearing.remove(cluster);
                if matches!(method, ClearMethod::None | ClearMethod::WriteZeroes) {
                    self.clearing.insert(*cluster, method);
                }
            }
        }
    }
}

/// What a blob owns of an entry. A full cluster under a layer of the blob's own is the slot of the extent page.
pub(super) fn what_is_owned(entry: &Entry, owned: impl Fn(Tag) -> bool) -> Owned {
    let mut count = Owned::default();
    for (_, cluster, states) in entry.layers().filter(|(tag, ..)| owned(*tag)) {
        match states {
            None => count.full = cluster,
            Some(_) => count.layers += 1,
        }
        count.clusters += u64::from(cluster.is_some());
    }
    count
}

/// An entry as the loader builds it: a record's layer over what lies below.
#[must_use]
pub(crate) fn stacked(top: Layer, below: Entry) -> Entry {
    Entry::Stack(Arc::new(Stack::new(top, below)))
}
