//! Barriers: making what was committed durable, and what waits for that (R5).
//!
//! A round syncs the device, appends a frame that names what that sync covered, and syncs again; where no record is
//! uncovered the first sync is all. Whoever asks while a round runs is served by the next one, because its sync must
//! be submitted after the request arrived.

use super::checkpoint::Part;
use super::{Engine, OpOwner, Reply, Target, TaskId, Ticket};
use crate::error::{During, Error};
use crate::record::Lsn;
use crate::rules::Clause;
use alloc::vec::Vec;
use offshoot_block::{DeviceError, DeviceOp};

#[derive(Debug)]
enum Waiter {
    Reply(Ticket, Reply),
    Retry(TaskId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The sync that covers data and records.
    FirstSync,
    /// The frame that says so.
    Frame,
    /// The sync that makes the frame durable.
    LastSync(Lsn),
}

#[derive(Debug)]
struct Round {
    phase: Phase,
    /// The last frame that had completed when the first sync was submitted.
    covers: Lsn,
    /// How many writes had.
    written: u64,
    /// What it does for a checkpoint.
    part: Option<Part>,
    waiters: Vec<Waiter>,
}

/// What the barrier keeps.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    running: Option<Round>,
    waiting: Vec<Waiter>,
    /// Whether a round is wanted that nobody waits for.
    wanted: bool,
    /// Writes that have been done, and how many of them had been when the last completed sync was submitted.
    written: u64,
    synced: u64,
    /// Records and writes at the last tick.
    at_tick: (Lsn, u64),
}

impl Barrier {
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }
}

impl Engine {
    /// To be called about twice a second: what had been acknowledged at the last call and is not durable yet gets its
    /// barrier now, so that nothing stays at risk for more than a second.
    pub fn tick(&mut self) {
        let now = (self.journal.last_records, self.barrier.written);
        let (records, written) = core::mem::replace(&mut self.barrier.at_tick, now);
        let at_risk = records > self.journal.facts.covered || written > self.barrier.synced;
        if at_risk && self.rules.hold(Clause::BarrierInTime) && !self.read_only {
            self.want_barrier();
        }
    }

    /// Whether [`Engine::tick`] has anything to do, now or at the next call.
    #[must_use]
    pub fn needs_tick(&self) -> bool {
        let at_risk = self.journal.has_uncovered() || self.barrier.written > self.barrier.synced;
        !self.read_only && self.failed.is_none() && at_risk
    }

    /// Bytes of a client have been written.
    pub(super) fn count_write(&mut self) {
        self.barrier.written += 1;
    }

    /// A barrier is wanted, though nobody waits for it.
    pub(super) fn want_barrier(&mut self) {
        self.barrier.wanted = true;
        self.start_round();
    }

    pub(super) fn reply_after_barrier(&mut self, ticket: Ticket, reply: Reply) {
        self.wait_for_barrier(Waiter::Reply(ticket, reply));
    }

    pub(super) fn retry_after_barrier(&mut self, task: TaskId) {
        self.wait_for_barrier(Waiter::Retry(task));
    }

    fn wait_for_barrier(&mut self, waiter: Waiter) {
        match &mut self.barrier.running {
            Some(round) if !self.rules.hold(Clause::SyncAfterRequest) => round.waiters.push(waiter),
            _ => self.barrier.waiting.push(waiter),
        }
        self.start_round();
    }

    /// Starts a round if somebody waits for one and none is running.
    pub(super) fn start_round(&mut self) {
        if self.barrier.running.is_some() {
            return;
        }
        if let Some(failure) = self.failed {
            return self.fail_barriers(&Error::Stopped(failure));
        }
        if self.space.is_wanted() && !self.freed_md.is_empty() && self.is_checkpoint_possible() {
            // Md pages come free with a checkpoint only.
            self.checkpoint.wanted = true;
            return self.append();
        }
        let part = self.checkpoint.part();
        let space = self.commit.has_uncovered_freed(self.journal.facts.covered) && self.space.is_wanted();
        if self.barrier.waiting.is_empty() && !self.barrier.wanted && part.is_none() && !space {
            return self.resume_if_no_space_comes();
        }
        self.barrier.wanted = false;
        let waiters = core::mem::take(&mut self.barrier.waiting);
        let (covers, written) = (self.journal.last, self.barrier.written);
        let round = Round { phase: Phase::FirstSync, covers, written, part, waiters };
        self.barrier.running = Some(round);
        if self.read_only {
            return self.finish_round();
        }
        let skipped = match part {
            None | Some(Part::Seal) => !self.rules.hold(Clause::SyncBeforeBarrier),
            Some(Part::Complete) => !self.rules.hold(Clause::SyncBeforeTail),
        };
        match skipped {
            false => self.emit(Target::Store, OpOwner::Barrier, DeviceOp::Sync),
            true => self.first_sync_done(),
        }
    }

    /// A sync of the running round has completed.
    pub(super) fn barrier_sync_done(&mut self, result: Result<(), DeviceError>) {
        if let Err(error) = result {
            return self.fail(During::Sync, error);
        }
        match self.barrier.running.as_ref().map(|round| round.phase) {
            Some(Phase::FirstSync) => self.first_sync_done(),
            Some(Phase::LastSync(_)) => self.finish_round(),
            Some(Phase::Frame) | None => {}
        }
    }

    fn first_sync_done(&mut self) {
        let names_synced = self.rules.hold(Clause::BarrierNamesSynced);
        let Some(round) = &mut self.barrier.running else { return };
        if !names_synced {
            round.covers = self.journal.last;
        }
        let (covers, part) = (round.covers, round.part);
        self.barrier.synced = round.written;
        if self.journal.last_records.min(covers) <= self.journal.facts.covered && part.is_none() {
            return self.finish_round();
        }
        round.phase = Phase::Frame;
        self.journal.facts.covered = self.journal.facts.covered.max(covers);
        if let Some(part) = part {
            self.publish(part);
        }
        self.journal.want_barrier_frame();
        self.append();
    }

    /// The frame of the running round has been appended.
    pub(super) fn barrier_appended(&mut self) {
        let last = self.journal.last;
        let Some(round) = &mut self.barrier.running else { return };
        round.phase = Phase::LastSync(last);
        match self.rules.hold(Clause::SyncAfterBarrier) {
            true => self.emit(Target::Store, OpOwner::Barrier, DeviceOp::Sync),
            false => self.finish_round(),
        }
    }

    fn finish_round(&mut self) {
        let Some(round) = self.barrier.running.take() else { return };
        self.counters.barriers += 1;
        if let Phase::LastSync(frame) = round.phase {
            self.commit.cover(round.covers);
            if let Some(part) = round.part {
                self.part_done(part, frame);
            }
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

    pub(super) fn fail_barriers(&mut self, error: &Error) {
        let running = self.barrier.running.take();
        let waiters: Vec<Waiter> = running.into_iter().flat_map(|round| round.waiters).collect();
        for waiter in waiters.into_iter().chain(core::mem::take(&mut self.barrier.waiting)) {
            match waiter {
                Waiter::Reply(ticket, _) => self.reply(ticket, Err(error.clone())),
                Waiter::Retry(task) => self.resume(task),
            }
        }
        self.resume_for_space();
    }
}
