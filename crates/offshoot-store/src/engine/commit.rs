//! What is committed, covered, freed and chosen.
//!
//! Every change of State passes through [`Engine::commit`](super::Engine), which hands it to the journal. Here is kept
//! what follows from it: what records have let go is put aside until a barrier covers it and no I/O in flight can
//! refer to it (R1), lvols that took over clusters wait for one barrier (R2), and writers of one cluster share the
//! choice of where it goes (R8).

use super::Engine;
use super::reclaim::Freed;
use super::uncovered::Uncovered;
use crate::apply::is_backed;
use crate::io::Epochs;
use crate::record::Lsn;
use crate::rules::Clause;
use alloc::collections::{BTreeMap, VecDeque};
use offshoot_format::{BlobCluster, BlobId, ClusterIdx};

/// A cluster that a first write has chosen. Writers of other blocks of the same cluster join in.
#[derive(Clone, Copy, Debug)]
struct Allocation {
    cluster: ClusterIdx,
    writers: usize,
    /// Whether a record has made the cluster the lvol's own, so that it is not to be given back.
    committed: bool,
    /// Whether it is one that was promised to the lvol.
    drawn: bool,
}

/// What the commit point keeps.
#[derive(Debug, Default)]
pub(super) struct Commit {
    pub(super) covered: Lsn,
    pub(super) epochs: Epochs,
    pub(super) freed: VecDeque<Freed>,
    pub(super) uncovered: Uncovered,
    allocations: BTreeMap<(BlobId, BlobCluster), Allocation>,
    /// Lvols that took over clusters: not to be modified before a barrier covers that record (R2).
    handed_over: BTreeMap<BlobId, Lsn>,
    /// Transactions on their way that zero blocks of an lvol. They may take a layer away.
    zeroing: BTreeMap<BlobId, usize>,
}

impl Commit {
    pub(super) fn cover(&mut self, lsn: Lsn) {
        self.covered = self.covered.max(lsn);
        self.uncovered.cover(lsn);
        self.handed_over.retain(|_, since| *since > lsn);
    }

    pub(super) fn hand_over(&mut self, lvol: BlobId, lsn: Lsn) {
        self.handed_over.insert(lvol, lsn);
    }

    pub(super) fn is_handed_over(&self, lvol: BlobId) -> bool {
        self.handed_over.contains_key(&lvol)
    }

    /// Whether clusters have been freed that no barrier covers yet.
    pub(super) fn has_uncovered_freed(&self, covered: Lsn) -> bool {
        self.freed.back().is_some_and(|freed| freed.lsn > covered)
    }

    /// Whether clusters will come free by themselves once a barrier has passed.
    pub(super) fn has_freed(&self) -> bool {
        !self.freed.is_empty()
    }

    /// A transaction that zeroes blocks of an lvol is on its way.
    pub(super) fn begin_zeroing(&mut self, lvol: BlobId) {
        *self.zeroing.entry(lvol).or_default() += 1;
    }

    /// It has been applied, or has failed.
    pub(super) fn end_zeroing(&mut self, lvol: BlobId) {
        if let Some(count) = self.zeroing.get_mut(&lvol) {
            *count -= 1;
            if *count == 0 {
                self.zeroing.remove(&lvol);
            }
        }
    }

    /// Whether a layer of an lvol may go away by a record that is not applied yet.
    pub(super) fn is_zeroing(&self, lvol: BlobId) -> bool {
        self.zeroing.contains_key(&lvol)
    }

    /// The lvols of which that may be.
    pub(super) fn zeroing(&self) -> impl Iterator<Item = BlobId> + '_ {
        self.zeroing.keys().copied()
    }
}

impl Engine {
    /// The cluster in which a first write to `at` puts its blocks: the lvol's own layer, one that another
    /// writer has just chosen, or a free one. `None` when there is no free one.
    pub(super) fn choose_cluster(&mut self, lvol: BlobId, at: BlobCluster) -> Option<ClusterIdx> {
        self.choose_beside(lvol, at, self.own_layer(lvol, at))
    }

    /// The same, where the lvol's own layer is about to be moved: not that.
    pub(super) fn choose_another_cluster(&mut self, lvol: BlobId, at: BlobCluster) -> Option<ClusterIdx> {
        self.choose_beside(lvol, at, None)
    }

    fn choose_beside(
        &mut self,
        lvol: BlobId,
        at: BlobCluster,
        own: Option<ClusterIdx>,
    ) -> Option<ClusterIdx> {
        if let Some(allocation) = self.commit.allocations.get_mut(&(lvol, at))
            && (!allocation.committed || own == Some(allocation.cluster))
            && self.rules.hold(Clause::OneAllocation)
        {
            allocation.writers += 1;
            return Some(allocation.cluster);
        }
        let drawn = own.is_none() && self.is_promised(lvol, at);
        let (cluster, committed) = match own {
            Some(cluster) => (cluster, true),
            None => (ClusterIdx(self.take_cluster(drawn)?), false),
        };
        // A committed allocation that is the lvol's own layer no more ends with its last writer.
        let joined = self.commit.allocations.remove(&(lvol, at)).map_or(0, |stale| stale.writers);
        let allocation = Allocation { cluster, writers: joined + 1, committed, drawn };
        self.commit.allocations.insert((lvol, at), allocation);
        Some(cluster)
    }

    /// Whether a cluster is kept for what an lvol writes at `at`.
    fn is_promised(&self, lvol: BlobId, at: BlobCluster) -> bool {
        let owned = |tag| self.state.owner(tag) == Some(lvol);
        let blob = self.state.blob(lvol).filter(|blob| blob.reserve.on);
        blob.is_some_and(|blob| !is_backed(&blob.tree.entry(at), owned))
    }

    /// The lowest free cluster, of those that are promised where they are.
    fn take_cluster(&mut self, drawn: bool) -> Option<u32> {
        if drawn {
            self.state.clusters.draw();
        }
        let cluster = self.state.clusters.reserve();
        if drawn && cluster.is_none() {
            self.state.clusters.end_draw();
        }
        cluster
    }

    /// Whether a first write that chose `cluster` may still commit to it: nobody took the layer away meanwhile (R3).
    pub(super) fn choice_holds(&self, lvol: BlobId, at: BlobCluster, cluster: ClusterIdx) -> bool {
        match self.commit.allocations.get(&(lvol, at)) {
            Some(allocation) if allocation.cluster == cluster && !allocation.committed => true,
            _ => self.own_layer(lvol, at) == Some(cluster),
        }
    }

    /// The record of a first write is about to be applied.
    pub(super) fn choice_committed(&mut self, lvol: BlobId, at: BlobCluster, cluster: ClusterIdx) {
        if let Some(allocation) = self.commit.allocations.get_mut(&(lvol, at))
            && allocation.cluster == cluster
        {
            allocation.committed = true;
            if core::mem::take(&mut allocation.drawn) {
                self.state.clusters.end_draw();
            }
        }
    }

    /// A writer is done with the cluster that it chose. What nobody committed goes back to the pool.
    pub(super) fn drop_choice(&mut self, lvol: BlobId, at: BlobCluster) {
        let Some(allocation) = self.commit.allocations.get_mut(&(lvol, at)) else {
            return;
        };
        allocation.writers -= 1;
        if allocation.writers == 0 {
            let allocation = *allocation;
            self.commit.allocations.remove(&(lvol, at));
            if !allocation.committed {
                self.state.clusters.release(allocation.cluster.0);
            }
            if allocation.drawn {
                self.state.clusters.end_draw();
            }
        }
    }

    fn own_layer(&self, lvol: BlobId, at: BlobCluster) -> Option<ClusterIdx> {
        let stack = self.state.blob(lvol)?.tree.stack(at)?;
        let own = self.state.tags.owner(stack.top.tag) == Some(lvol);
        stack.top.cluster.filter(|_| own)
    }
}
