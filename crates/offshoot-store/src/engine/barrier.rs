//! Barriers: making what was committed durable, and what waits for that.
//!
//! A round syncs the data that records speak of, writes the metadata that is out of date, and syncs again.
//! Whoever asks while a round runs is served by the next one, because its sync must be submitted after the
//! request arrived (R5). The journal will make a round one append; until then it is a checkpoint in place.

use super::{Engine, OpOwner, Reply, Target, TaskId, Ticket};
use crate::checkpoint::{self, Step};
use crate::error::Error;
use crate::limits::DISCARD_BYTES;
use crate::record::Lsn;
use alloc::{collections::VecDeque, vec::Vec};
use offshoot_block::{DeviceError, DeviceOp};
use offshoot_format::{MdPageIdx, SuperBlock};

/// Discards under way at the same time. A file system that punches a hole keeps writers of the same file out
/// meanwhile: one at a time, and none of them long, lets the writes of living volumes through in between.
const DISCARDS_MAX: usize = 1;

#[derive(Debug)]
enum Waiter {
    Reply(Ticket, Reply),
    Retry(TaskId),
}

#[derive(Debug)]
struct Round {
    covers: Lsn,
    waiters: Vec<Waiter>,
    steps: VecDeque<Step>,
    pending: usize,
    error: Option<DeviceError>,
    /// Zeroed by this round, to be given back after it.
    md: Vec<MdPageIdx>,
    /// What the super block is after this round.
    super_block: SuperBlock,
}

/// What the barrier keeps.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    running: Option<Round>,
    waiting: Vec<Waiter>,
    /// Whether the next round is the last one.
    closing: bool,
    /// Md pages that records have freed since the last round.
    pub(super) freed_md: Vec<MdPageIdx>,
    /// Tasks that wait for clusters to come free.
    space: Vec<TaskId>,
    discards: VecDeque<(u32, u32)>,
    discarding: usize,
}

impl Barrier {
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty() || !self.discards.is_empty() || self.discarding > 0
    }
}

impl Engine {
    /// Ends the store's service: everything becomes durable, and the store is sealed when nothing native is left
    /// in it. The caller has waited for all other replies.
    pub fn close(&mut self) -> Ticket {
        let ticket = self.next_ticket();
        self.barrier.closing = true;
        self.reply_after_barrier(ticket, Reply::Done);
        self.run_ready();
        ticket
    }

    pub(super) fn reply_after_barrier(&mut self, ticket: Ticket, reply: Reply) {
        self.wait_for_barrier(Waiter::Reply(ticket, reply));
    }

    pub(super) fn retry_after_barrier(&mut self, task: TaskId) {
        self.wait_for_barrier(Waiter::Retry(task));
    }

    /// Resumes a task when clusters have come free, or when none will.
    pub(super) fn retry_after_space(&mut self, task: TaskId) {
        self.barrier.space.push(task);
    }

    /// Whether clusters will come free without anyone's doing.
    pub(super) fn may_reclaim(&self) -> bool {
        self.commit.has_freed()
            || !self.barrier.freed_md.is_empty()
            || !self.barrier.discards.is_empty()
            || self.barrier.discarding > 0
            || !self.state.dying.is_empty()
    }

    /// Whether md pages will come free without anyone's doing.
    pub(super) fn may_reclaim_md(&self) -> bool {
        !self.barrier.freed_md.is_empty() || !self.state.dying.is_empty()
    }

    fn wait_for_barrier(&mut self, waiter: Waiter) {
        self.barrier.waiting.push(waiter);
        self.start_round();
    }

    /// Starts a round if someone waits for one and none is running.
    pub(super) fn start_round(&mut self) {
        if self.barrier.running.is_some() {
            return;
        }
        // What is covered already comes free when the I/O that still refers to it ends: no barrier helps.
        let uncovered = self.commit.has_uncovered() || !self.barrier.freed_md.is_empty();
        let space_wanted = uncovered && !self.barrier.space.is_empty();
        if self.barrier.waiting.is_empty() && !space_wanted {
            return self.resume_if_no_space_comes();
        }
        if let Some(error) = self.failed {
            return self.fail_waiters(error);
        }
        let waiters = core::mem::take(&mut self.barrier.waiting);
        let closing = core::mem::take(&mut self.barrier.closing);
        let (steps, super_block, md) = match self.read_only {
            true => (VecDeque::new(), self.super_block.clone(), Vec::new()),
            false => self.capture(closing),
        };
        self.barrier.running =
            Some(Round { covers: self.lsn(), waiters, steps, pending: 0, error: None, md, super_block });
        self.next_step();
    }

    fn capture(&mut self, closing: bool) -> (VecDeque<Step>, SuperBlock, Vec<MdPageIdx>) {
        let assigned = checkpoint::assign(&self.state);
        self.commit(&assigned);
        // How long a chain is can be told once extent and layer pages have their places.
        let chains = checkpoint::assign_chains(&self.state, &assigned);
        self.commit(&chains);
        let md: Vec<MdPageIdx> = core::mem::take(&mut self.barrier.freed_md);
        let (steps, super_block) = checkpoint::steps(&self.state, &self.super_block, &assigned, &md, closing);
        (steps.into(), super_block, md)
    }

    fn next_step(&mut self) {
        let Some(round) = &mut self.barrier.running else {
            return;
        };
        if round.error.is_some() {
            return self.finish_round();
        }
        let Some(step) = round.steps.pop_front() else {
            return self.finish_round();
        };
        let ops: Vec<DeviceOp> = match step {
            Step::Sync => alloc::vec![DeviceOp::Sync],
            Step::Write(ops) => ops,
        };
        round.pending = ops.len();
        if ops.is_empty() {
            return self.next_step();
        }
        for op in ops {
            self.emit(Target::Store, OpOwner::Barrier, op);
        }
    }

    pub(super) fn barrier_op_done(&mut self, result: Result<(), DeviceError>) {
        let Some(round) = &mut self.barrier.running else {
            return;
        };
        round.pending -= 1;
        if let Err(error) = result {
            round.error = Some(error);
        }
        if round.pending == 0 {
            self.next_step();
        }
    }

    fn finish_round(&mut self) {
        let Some(round) = self.barrier.running.take() else {
            return;
        };
        if let Some(error) = round.error {
            self.failed = Some(error);
            self.barrier.waiting.splice(0..0, round.waiters);
            return self.fail_waiters(error);
        }
        self.super_block = round.super_block;
        self.commit.cover(round.covers);
        if !round.md.is_empty() {
            self.resume_for_space();
        }
        for page in round.md {
            self.state.md.release(page.0);
        }
        for waiter in round.waiters {
            match waiter {
                Waiter::Reply(ticket, reply) => self.reply(ticket, Ok(reply)),
                Waiter::Retry(task) => self.resume(task),
            }
        }
        self.reclaim();
        self.start_round();
    }

    fn fail_waiters(&mut self, error: DeviceError) {
        for waiter in core::mem::take(&mut self.barrier.waiting) {
            match waiter {
                Waiter::Reply(ticket, _) => self.reply(ticket, Err(Error::Device(error))),
                Waiter::Retry(task) => self.resume(task),
            }
        }
        self.resume_for_space();
    }

    pub(super) fn discard(&mut self, first: offshoot_format::ClusterIdx, count: u32) {
        let at_once = u32::try_from(DISCARD_BYTES / self.state.units.cluster).unwrap_or(u32::MAX).max(1);
        let end = first.0 + count;
        let starts = (first.0..end).step_by(at_once as usize);
        self.barrier.discards.extend(starts.map(|start| (start, at_once.min(end - start))));
        self.next_discard();
    }

    fn next_discard(&mut self) {
        while self.barrier.discarding < DISCARDS_MAX
            && let Some((first, count)) = self.barrier.discards.pop_front()
        {
            self.barrier.discarding += 1;
            let offset = self.state.block_offset(offshoot_format::ClusterIdx(first), 0);
            let len = u64::from(count) * self.state.units.cluster;
            self.emit(Target::Store, OpOwner::Discard { first, count }, DeviceOp::Unmap { offset, len });
        }
    }

    /// Freed clusters may be handed out again. A discard that failed only means that the device keeps the space.
    pub(super) fn discard_done(&mut self, first: u32, count: u32) {
        self.barrier.discarding -= 1;
        (first..first + count).for_each(|cluster| self.state.clusters.release(cluster));
        self.next_discard();
        self.resume_for_space();
    }

    fn resume_for_space(&mut self) {
        for task in core::mem::take(&mut self.barrier.space) {
            self.resume(task);
        }
    }

    /// Tasks that wait for space go on, to fail, when nothing will come free any more.
    fn resume_if_no_space_comes(&mut self) {
        if !self.may_reclaim() {
            self.resume_for_space();
        }
    }
}
