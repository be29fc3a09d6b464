//! The commit point: where records get their place in history and become true.
//!
//! Every change of State passes through [`Engine::commit`]. Here records get their LSN, here they will be
//! appended to the journal before they are applied, and here what they free is put aside until a barrier covers
//! it and no I/O in flight can refer to it (R1).

use super::Engine;
use crate::io::{Epoch, Epochs};
use crate::limits::{DIRTY_ORDINALS_MAX, RELEASE_ORDINALS};
use crate::record::{Lsn, Record};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use offshoot_format::{BlobCluster, BlobId, ClusterIdx};

/// Clusters that records have freed, and since when.
#[derive(Debug)]
struct Freed {
    lsn: Lsn,
    epoch: Epoch,
    clusters: Vec<ClusterIdx>,
}

/// A cluster that a first write has chosen. Writers of other blocks of the same cluster join in.
#[derive(Clone, Copy, Debug)]
struct Allocation {
    cluster: ClusterIdx,
    writers: usize,
    /// Whether a record has made the cluster the lvol's own, so that it is not to be given back.
    committed: bool,
}

/// What the commit point keeps.
#[derive(Debug, Default)]
pub(super) struct Commit {
    last: Lsn,
    covered: Lsn,
    pub(super) epochs: Epochs,
    freed: VecDeque<Freed>,
    allocations: BTreeMap<(BlobId, BlobCluster), Allocation>,
    /// Lvols that took over clusters: not to be modified before a barrier covers that record (R2).
    handed_over: BTreeMap<BlobId, Lsn>,
}

impl Commit {
    pub(super) fn last(&self) -> Lsn {
        self.last
    }

    pub(super) fn cover(&mut self, lsn: Lsn) {
        self.covered = self.covered.max(lsn);
        self.handed_over.retain(|_, since| *since > lsn);
    }

    pub(super) fn hand_over(&mut self, lvol: BlobId) {
        self.handed_over.insert(lvol, self.last);
    }

    pub(super) fn is_handed_over(&self, lvol: BlobId) -> bool {
        self.handed_over.contains_key(&lvol)
    }

    /// Whether clusters have been freed that no barrier covers yet.
    pub(super) fn has_uncovered(&self) -> bool {
        self.freed.back().is_some_and(|freed| freed.lsn > self.covered)
    }

    /// Whether clusters will come free by themselves once a barrier has passed.
    pub(super) fn has_freed(&self) -> bool {
        !self.freed.is_empty()
    }
}

impl Engine {
    /// Makes the records of one transaction true.
    pub(super) fn commit(&mut self, records: &[Record]) {
        for record in records {
            self.commit.last = self.commit.last.next();
            self.state.apply(record);
        }
        let (clusters, md) = self.state.take_freed();
        // The next checkpoint overwrites freed md pages with zeros and gives them back.
        self.barrier.freed_md.extend(md);
        if !clusters.is_empty() {
            let epoch = self.commit.epochs.advance();
            self.commit.freed.push_back(Freed { lsn: self.commit.last, epoch, clusters });
        }
    }

    /// The cluster in which a first write to `at` puts its blocks: the lvol's own layer, one that another
    /// writer has just chosen, or a free one. `None` when there is no free one.
    pub(super) fn choose_cluster(&mut self, lvol: BlobId, at: BlobCluster) -> Option<ClusterIdx> {
        let own = self.own_layer(lvol, at);
        if let Some(allocation) = self.commit.allocations.get_mut(&(lvol, at))
            && (!allocation.committed || own == Some(allocation.cluster))
        {
            allocation.writers += 1;
            return Some(allocation.cluster);
        }
        let (cluster, committed) = match own {
            Some(cluster) => (cluster, true),
            None => (ClusterIdx(self.state.clusters.reserve()?), false),
        };
        // A committed allocation that is the lvol's own layer no more ends with its last writer.
        let joined = self.commit.allocations.remove(&(lvol, at)).map_or(0, |stale| stale.writers);
        let allocation = Allocation { cluster, writers: joined + 1, committed };
        self.commit.allocations.insert((lvol, at), allocation);
        Some(cluster)
    }

    /// Whether a first write that chose `cluster` may still commit to it: nobody took the layer away meanwhile (R3).
    pub(super) fn choice_holds(&self, lvol: BlobId, at: BlobCluster, cluster: ClusterIdx) -> bool {
        match self.commit.allocations.get(&(lvol, at)) {
            Some(allocation) if allocation.cluster == cluster && !allocation.committed => true,
            _ => self.own_layer(lvol, at) == Some(cluster),
        }
    }

    /// The record of a first write is about to be committed.
    pub(super) fn choice_committed(&mut self, lvol: BlobId, at: BlobCluster, cluster: ClusterIdx) {
        if let Some(allocation) = self.commit.allocations.get_mut(&(lvol, at))
            && allocation.cluster == cluster
        {
            allocation.committed = true;
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
        }
    }

    /// Whether so much metadata is out of date that a barrier must come first.
    pub(super) fn over_dirty_budget(&self) -> bool {
        self.state.dirty_ordinals > DIRTY_ORDINALS_MAX
    }

    /// Releases a bounded part of a dying blob. Says whether there is more.
    pub(super) fn release_step(&mut self) -> bool {
        if self.check_writable().is_err() {
            return false;
        }
        let Some(dying) = self.state.dying.first().and_then(|id| self.state.blob(*id)) else {
            return false;
        };
        let id = dying.id;
        let ordinals: Vec<_> = dying
            .pages
            .ordinals
            .iter()
            .filter(|(_, md)| md.own_full > 0 || md.own_layers > 0)
            .map(|(ordinal, _)| *ordinal)
            .take(RELEASE_ORDINALS)
            .collect();
        let record = match ordinals.is_empty() {
            true => Record::Destroy { blob: id },
            false => Record::Release { blob: id, ordinals },
        };
        self.commit(&[record]);
        true
    }

    /// Discards freed clusters that a barrier covers and no I/O refers to, and then gives them back.
    pub(super) fn reclaim(&mut self) {
        while let Some(freed) = self.commit.freed.front()
            && freed.lsn <= self.commit.covered
            && self.commit.epochs.is_clear(freed.epoch)
        {
            let mut clusters = self.commit.freed.pop_front().map_or_else(Vec::new, |freed| freed.clusters);
            clusters.sort_unstable();
            let mut runs = clusters.chunk_by(|left, right| left.0 + 1 == right.0);
            while let Some([first, rest @ ..]) = runs.next() {
                let count = u32::try_from(rest.len() + 1).unwrap_or(u32::MAX);
                self.discard(*first, count);
            }
        }
    }

    fn own_layer(&self, lvol: BlobId, at: BlobCluster) -> Option<ClusterIdx> {
        let stack = self.state.blob(lvol)?.tree.stack(at)?;
        let own = self.state.tags.owner(stack.top.tag) == Some(lvol);
        stack.top.cluster.filter(|_| own)
    }
}
