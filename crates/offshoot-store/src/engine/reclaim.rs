//! Giving back: clusters that records have freed, and what waits for space.

use super::journal::After;
use super::{Engine, OpOwner, Target, TaskId};
use crate::error::Error;
use crate::io::Epoch;
use crate::limits::{DISCARD_BYTES, RELEASE_ORDINALS};
use crate::record::{Lsn, Record};
use crate::rules::Clause;
use alloc::{collections::VecDeque, vec::Vec};
use offshoot_block::DeviceOp;
use offshoot_format::{ClearMethod, ClusterIdx};

/// Discards under way at the same time. A file system that punches a hole keeps writers of the same file out
/// meanwhile: one at a time, and none of them long, lets the writes of living volumes through in between.
const DISCARDS_MAX: usize = 1;

/// Clusters that records have freed, and since when.
#[derive(Debug)]
pub(super) struct Freed {
    pub lsn: Lsn,
    pub epoch: Epoch,
    pub clusters: Vec<ClusterIdx>,
}

/// Freed clusters to be cleared in one operation.
#[derive(Clone, Copy, Debug)]
struct Discard {
    first: u32,
    count: u32,
    method: ClearMethod,
}

/// What is on its way back to the pool of clusters, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Space {
    waiting: Vec<TaskId>,
    discards: VecDeque<Discard>,
    discarding: usize,
    /// Whether a record that releases a part of a dying blob is on its way.
    releasing: bool,
    /// Whether the journal cannot take one, so that dying blobs stay as they are.
    release_refused: bool,
}

impl Space {
    pub(super) fn is_wanted(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.discards.is_empty() || self.discarding > 0
    }
}

impl Engine {
    /// Resumes a task when clusters or md pages have come free, or when none will.
    pub(super) fn retry_after_space(&mut self, task: TaskId) {
        self.space.waiting.push(task);
        self.start_round();
    }

    /// Sees to it that what records have freed can be used again.
    pub(super) fn want_space(&mut self) {
        if !self.freed_md.is_empty() && self.is_checkpoint_possible() {
            self.checkpoint.wanted = true;
            self.append();
        }
        if self.commit.has_uncovered_freed(self.journal.facts.covered) {
            self.want_barrier();
        }
    }

    /// Whether clusters will come free without anyone's doing.
    pub(super) fn may_reclaim(&self) -> bool {
        // A verb whose records are on their way may be about to free something.
        let on_their_way = self.verb_is_committing();
        let freeing = self.commit.has_freed() || self.space.is_busy() || self.is_releasing();
        on_their_way || freeing || self.may_reclaim_md()
    }

    /// Whether md pages will come free without anyone's doing.
    pub(super) fn may_reclaim_md(&self) -> bool {
        !self.freed_md.is_empty() || self.checkpoint.is_running() || self.is_releasing()
    }

    /// Releases a bounded part of a dying blob. Says whether there may be more at once.
    pub(super) fn release_step(&mut self) -> bool {
        if !self.is_releasing() || self.space.releasing || self.transition.is_ending() {
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
            .filter(|(_, md)| md.owns_any())
            .map(|(ordinal, _)| *ordinal)
            .take(RELEASE_ORDINALS)
            .collect();
        let record = match ordinals.is_empty() {
            true => Record::Destroy { blob: id },
            false => Record::Release { blob: id, ordinals },
        };
        self.space.releasing = true;
        match self.commit(alloc::vec![record], After::Release) {
            Ok(()) => true,
            refused @ Err(_) => {
                self.release_committed(&refused);
                false
            }
        }
    }

    pub(super) fn release_committed(&mut self, result: &Result<(), Error>) {
        self.space.releasing = false;
        self.space.release_refused |= result.is_err();
    }

    /// Whether a dying blob is going to let go of more.
    pub(super) fn is_releasing(&self) -> bool {
        !self.state.dying.is_empty() && self.check_writable().is_ok() && !self.space.release_refused
    }

    /// Puts aside what the records of a frame have let go.
    pub(super) fn collect_freed(&mut self, lsn: Lsn) {
        let (clusters, md) = self.state.take_freed();
        // A checkpoint gives md pages back.
        self.freed_md.extend(md);
        if !clusters.is_empty() {
            let epoch = self.commit.epochs.advance();
            self.commit.freed.push_back(Freed { lsn, epoch, clusters });
        }
    }

    /// Clears freed clusters that a barrier covers and no I/O refers to, each as its lvol wanted it, and then gives them
    /// back (R1). Nobody reads what a cluster held before, cleared or not: who takes one writes it before it is shown (D4).
    pub(super) fn reclaim(&mut self) {
        if self.transition.is_recovering() {
            // What was replayed counts from the new header on: another crash may decide otherwise until then.
            return;
        }
        while let Some(freed) = self.commit.freed.front()
            && (freed.lsn <= self.commit.covered || !self.rules.hold(Clause::ReuseBehindBarrier))
            && (self.commit.epochs.is_clear(freed.epoch) || !self.rules.hold(Clause::ReuseAfterIo))
        {
            let mut clusters = self.commit.freed.pop_front().map_or_else(Vec::new, |freed| freed.clusters);
            clusters.sort_unstable();
            let clear = |cluster| (cluster, self.state.take_clearing(cluster));
            let clusters: Vec<(ClusterIdx, ClearMethod)> = clusters.into_iter().map(clear).collect();
            let mut runs =
                clusters.chunk_by(|(left, how), (right, other)| left.0 + 1 == right.0 && how == other);
            while let Some([(first, method), rest @ ..]) = runs.next() {
                let count = u32::try_from(rest.len() + 1).unwrap_or(u32::MAX);
                match method {
                    ClearMethod::None => self.give_back(first.0, count),
                    method => self.discard(*first, count, *method),
                }
            }
        }
    }

    fn discard(&mut self, first: ClusterIdx, count: u32, method: ClearMethod) {
        let at_once = u32::try_from(DISCARD_BYTES / self.state.units.cluster).unwrap_or(u32::MAX).max(1);
        let end = first.0 + count;
        let starts = (first.0..end).step_by(at_once as usize);
        let discard = |first| Discard { first, count: at_once.min(end - first), method };
        self.space.discards.extend(starts.map(discard));
        self.next_discard();
    }

    fn next_discard(&mut self) {
        while self.space.discarding < DISCARDS_MAX
            && let Some(Discard { first, count, method }) = self.space.discards.pop_front()
        {
            self.space.discarding += 1;
            let offset = self.state.block_offset(ClusterIdx(first), 0);
            let len = u64::from(count) * self.state.units.cluster;
            let op = match method {
                ClearMethod::WriteZeroes => DeviceOp::WriteZeroes { offset, len, may_unmap: false },
                ClearMethod::Default | ClearMethod::None | ClearMethod::Unmap => {
                    DeviceOp::Unmap { offset, len }
                }
            };
            self.emit(Target::Store, OpOwner::Discard { first, count }, op);
        }
    }

    /// Freed clusters may be handed out again. A discard that failed only means that the device keeps the space.
    pub(super) fn discard_done(&mut self, first: u32, count: u32) {
        self.space.discarding -= 1;
        self.next_discard();
        self.give_back(first, count);
    }

    fn give_back(&mut self, first: u32, count: u32) {
        (first..first + count).for_each(|cluster| self.state.clusters.release(cluster));
        self.resume_for_space();
    }

    pub(super) fn resume_for_space(&mut self) {
        for task in core::mem::take(&mut self.space.waiting) {
            self.resume(task);
        }
    }

    /// Tasks that wait for space go on, to fail, when nothing will come free any more.
    pub(super) fn resume_if_no_space_comes(&mut self) {
        if !self.may_reclaim() {
            self.resume_for_space();
        }
    }
}
