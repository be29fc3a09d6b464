//! Jobs: work that moves data inside the store while its lvols are in use.
//!
//! A job is a loop of small transactions. It finds one target after the other in the State of the moment and has it
//! *filled* (`write/fill.rs`), some at a time; whatever of that is done is a sound store, so that a job can end anywhere
//! and the next one goes on from there. What it needs at most is kept for it from the start (clusters, md pages), in
//! memory only: it is refused at once or does not run dry. Once nothing is left it looks again, because life went on
//! meanwhile, and ends behind a barrier.
//!
//! It is polite: few targets at a time, fewer while clients wait for something, none beyond what its caller allows.

mod grow;
mod keep;
mod seal;
mod targets;
mod work;

use super::write::{Fill, WriteTask};
use super::{Engine, Reply, Ticket};
use crate::blob::Blob;
use crate::error::Error;
use crate::io::Epoch;
use crate::limits::{FILLS_AT_ONCE, FILLS_BESIDE_OTHERS};
use crate::rules::Clause;
use crate::verb::{Step, WorkCost};
use alloc::{collections::BTreeMap, vec::Vec};
use core::ops::Range;
use targets::Targets;
pub use work::Work;

/// How far a job, or the zeroing of a verb, has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Clusters that are done.
    pub clusters_done: u64,
    /// Clusters in all. May grow: lvols are in use meanwhile.
    pub clusters: u64,
    /// Bytes that have been copied or zeroed.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Whether all that it can do is wait until it is allowed more.
    pub waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Finding out what there is to do, and keeping space for it.
    Plan,
    /// Filling.
    Fill,
    /// Waiting for what had begun before, to look once more.
    Settle,
    /// Waiting for the transaction that it ends with.
    End,
}

#[derive(Debug)]
struct Job {
    work: Work,
    /// Whether somebody waits for its reply.
    is_asked_for: bool,
    phase: Phase,
    progress: Progress,
    /// Bytes that it may have begun in all, and has. `None`: as many as it likes.
    allowed: Option<u64>,
    begun: u64,
    targets: Targets,
    /// Bytes of the device that are left to be zeroed.
    clearing: Range<u64>,
    /// Fills and transactions under way.
    under_way: usize,
    /// Clusters and md pages that are kept for it.
    clusters: usize,
    md_pages: usize,
    /// When it began: what was planned before may be about to leave something to do.
    since: Option<Epoch>,
    /// Fills that came to something since it planned.
    settled: u64,
    /// Plans in a row of which nothing came.
    vain: u32,
    error: Option<Error>,
}

/// The jobs that are running.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: BTreeMap<Ticket, Job>,
    fills: usize,
    /// Whether one has sealed the store, so that nothing native may arise until it is closed.
    sealed: bool,
}

/// Plans of which nothing comes before a job gives up: each lets everything else go on in between.
const VAIN_MAX: u32 = 100;

impl Engine {
    /// Starts a job. The reply comes when it is done, durably, or was refused or ended. `allowed` are the bytes that it
    /// may copy until [`Engine::allow`] gives it more; `None` for no limit.
    pub fn start_job(&mut self, work: Work, allowed: Option<u64>) -> Ticket {
        let ticket = self.next_ticket();
        let work = self.settled(work);
        let is_running = self.is_excluded(work);
        let startable = if is_running { Err(Error::JobRunning) } else { self.check_writable() };
        if let Err(error) = startable {
            self.reply(ticket, Err(error));
            return ticket;
        }
        self.begin_job(ticket, work, allowed, true);
        self.run_ready();
        ticket
    }

    fn begin_job(&mut self, ticket: Ticket, work: Work, allowed: Option<u64>, is_asked_for: bool) {
        let job = Job {
            work,
            is_asked_for,
            phase: Phase::Plan,
            progress: Progress::default(),
            allowed,
            begun: 0,
            targets: Targets::default(),
            clearing: 0..0,
            under_way: 0,
            clusters: 0,
            md_pages: 0,
            since: None,
            settled: 0,
            vain: 0,
            error: None,
        };
        self.jobs.jobs.insert(ticket, job);
        self.step_job(ticket);
    }

    /// Lets a job copy so many bytes more: the caller has the clock. What it was allowed before and has not begun is
    /// forfeit, what it has begun beyond that comes off. `None` lifts the limit.
    pub fn allow(&mut self, job: Ticket, bytes: Option<u64>) {
        if let Some(job) = self.jobs.jobs.get_mut(&job) {
            let allowed = bytes.and_then(|bytes| Some(job.allowed?.min(job.begun).saturating_add(bytes)));
            job.allowed = allowed;
        }
    }

    /// Ends a job: what it has begun is completed, nothing else is begun, and it replies with [`Error::Cancelled`]. What
    /// it has done stays done. Ends a verb likewise, as long as its records are not on their way, and nothing has changed then.
    /// What is done already is not touched.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.end_job(ticket, Error::Cancelled);
        self.step_job(ticket);
        self.cancel_verb(ticket);
    }

    /// How far a job has come, while it runs, or a verb, while it zeroes.
    #[must_use]
    pub fn progress(&self, ticket: Ticket) -> Option<Progress> {
        let job = self.jobs.jobs.get(&ticket).map(|job| Progress { waits: job.waits(), ..job.progress });
        job.or_else(|| self.verb_progress(ticket))
    }

    /// Ends every job: the store is about to be closed.
    pub(crate) fn cancel_jobs(&mut self) {
        let running: Vec<Ticket> = self.jobs.jobs.keys().copied().collect();
        running.into_iter().for_each(|job| self.cancel(job));
    }

    /// Whether a job has anything to do that it may do now.
    pub(super) fn has_jobs(&self) -> bool {
        self.jobs.jobs.values().any(|job| !job.waits())
    }

    /// One bounded step of every job.
    pub(super) fn step_jobs(&mut self) {
        if self.jobs.jobs.is_empty() {
            return;
        }
        let running: Vec<Ticket> = self.jobs.jobs.keys().copied().collect();
        running.into_iter().for_each(|job| self.step_job(job));
    }

    fn step_job(&mut self, ticket: Ticket) {
        if let Some(failure) = self.failed {
            self.end_job(ticket, Error::Stopped(failure));
        }
        let Some(job) = self.jobs.jobs.get(&ticket) else { return };
        if job.error.is_some() {
            if job.under_way == 0 {
                self.finish_job(ticket);
            }
            return;
        }
        match job.phase {
            Phase::Plan => self.plan_job(ticket),
            Phase::Fill => self.begin_fills(ticket),
            Phase::Settle => self.settle_job(ticket),
            Phase::End => {}
        }
    }

    /// Looks what there is to do and keeps the space for it, or waits for space that is on its way.
    fn plan_job(&mut self, ticket: Ticket) {
        // What the records of a verb are about to change is not known before they are applied.
        if self.verb_is_committing() {
            return;
        }
        let Some(work) = self.work_of(ticket) else { return };
        if let Work::Grow { size_bytes, md_pages } = work
            && self.plan_growth(ticket, size_bytes, md_pages)
        {
            return;
        }
        let cost = self.work_cost(work);
        if let Some(step) = work.first_step(&self.state).filter(|_| cost.is_ok()) {
            return self.begin_step(ticket, step);
        }
        let kept = cost.and_then(|cost| self.keep_space(ticket, &cost).map(|()| cost));
        let cost = match kept {
            Ok(cost) => cost,
            Err(Error::NoClusters { .. }) if self.may_reclaim() => return self.want_space(),
            Err(Error::NoMdPages { .. }) if self.may_reclaim_md() => return self.want_space(),
            Err(error) => {
                self.end_job(ticket, error);
                return self.step_job(ticket);
            }
        };
        if work == Work::Seal {
            self.begin_seal(ticket);
        }
        let since = self.commit.epochs.advance();
        let targets = Targets::new(self.targets_of(work));
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        job.vain = if job.settled == 0 { job.vain + 1 } else { 0 };
        job.settled = 0;
        job.since.get_or_insert(since);
        job.targets = targets;
        job.progress.clusters = job.progress.clusters_done + cost.filled;
        job.progress.bytes = job.progress.bytes_done + cost.bytes;
        job.phase = Phase::Fill;
        if job.vain > VAIN_MAX {
            self.end_job(ticket, Error::Restless);
        }
        self.step_job(ticket);
    }

    /// Keeps what a job may need, in place of what is kept for it already.
    fn keep_space(&mut self, ticket: Ticket, cost: &WorkCost) -> Result<(), Error> {
        self.free_space(ticket);
        let (clusters, md_pages) = (index(cost.clusters), index(cost.md_pages));
        let (free, spare) = (self.state.clusters.available() as u64, self.state.md_spare());
        if spare < md_pages {
            return Err(Error::NoMdPages { needed: cost.md_pages, free: spare as u64 });
        }
        if !self.state.clusters.set_aside(clusters) {
            return Err(Error::NoClusters { needed: cost.clusters, free });
        }
        self.state.md_reserved += md_pages;
        if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
            (job.clusters, job.md_pages) = (clusters, md_pages);
        }
        Ok(())
    }

    fn free_space(&mut self, ticket: Ticket) {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        self.state.clusters.give_back(core::mem::take(&mut job.clusters));
        self.state.md_reserved -= core::mem::take(&mut job.md_pages);
    }

    /// Starts fills, as many as may be.
    fn begin_fills(&mut self, ticket: Ticket) {
        let since = self.jobs.jobs.get(&ticket).filter(|job| matches!(job.work, Work::Merge { .. }));
        let since = since.and_then(|job| job.since);
        if since.is_some_and(|since| !self.commit.epochs.is_clear(since))
            && self.rules.hold(Clause::ReuseAfterIo)
        {
            return;
        }
        let others = self.tasks.len() > self.jobs.fills;
        let most = if others { FILLS_BESIDE_OTHERS } else { FILLS_AT_ONCE };
        while self.jobs.fills < most {
            let Some(job) = self.jobs.jobs.get_mut(&ticket).filter(|job| job.may_begin()) else { return };
            let (state, work) = (&self.state, job.work);
            let needs = |blob: &Blob, from| work.needs(state, blob, from);
            let Some((lvol, at, blocks)) = job.targets.next(state, work.fills_whole(), needs) else {
                if job.under_way == 0 {
                    job.phase = Phase::Settle;
                }
                return;
            };
            job.under_way += 1;
            self.jobs.fills += 1;
            let (base, units) = (at.0 * self.state.units.cluster, self.state.units);
            let end = (u64::from(blocks.end) * units.block).min(units.cluster);
            let range = base + u64::from(blocks.start) * units.block..base + end;
            if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
                job.begun += range.end - range.start;
            }
            self.start_write(WriteTask::fill(ticket, lvol, at, blocks, range, work.keeps_space()));
        }
    }

    /// A fill has been committed, was in vain, or failed.
    pub(super) fn fill_done(&mut self, ticket: Ticket, fill: &Fill, result: Result<(), Error>) {
        self.jobs.fills -= 1;
        let is_last = fill.blocks.end == self.state.units.blocks;
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        job.under_way -= 1;
        // What was there already costs nothing.
        job.begun -= fill.charged.saturating_sub(fill.bytes).min(job.begun);
        match result {
            Ok(()) if fill.settled => {
                job.settled += 1;
                job.progress.clusters_done += u64::from(is_last);
                job.progress.bytes_done += fill.bytes;
            }
            // It went away or was cut off meanwhile, or has to come again.
            Ok(()) | Err(Error::UnknownBlob(_) | Error::OutOfRange { .. }) => {}
            Err(Error::NoClusters { .. } | Error::NoMdPages { .. })
                if job.under_way > 0 || job.settled > 0 => {}
            Err(error) => self.end_job(ticket, error),
        }
    }

    /// A transaction of a job has been applied, or never will be.
    pub(super) fn job_committed(&mut self, ticket: Ticket, result: Result<(), Error>) {
        if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
            job.under_way -= 1;
            job.settled += 1;
        }
        if let Err(error) = result {
            self.end_job(ticket, error);
        }
    }

    /// Nothing is left to do as far as the job knows. What was under way when it began, and verbs, may have added to it.
    fn settle_job(&mut self, ticket: Ticket) {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        if let Work::Grow { md_pages, .. } = job.work {
            return self.settle_growth(ticket, md_pages);
        }
        if let Some(step) = job.work.last_step(&self.state) {
            // Its plan looks once more, with no write in flight.
            return self.begin_step(ticket, step);
        }
        let is_clear = job.since.is_none_or(|since| self.commit.epochs.is_clear(since));
        // Zeros that were planned over a cluster which a fill has brought below them since say so with a layer.
        if !is_clear || self.verb_is_running() || self.commit.zeroing().next().is_some() {
            return;
        }
        match self.is_seal_done() {
            Ok(true) => self.finish_job(ticket),
            Ok(false) if self.is_releasing() => {}
            Ok(false) => self.set_phase(ticket, Phase::Plan),
            Err(error) => self.end_job(ticket, error),
        }
    }

    fn begin_step(&mut self, ticket: Ticket, step: Step) {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        job.phase = Phase::End;
        job.under_way += 1;
        self.start_step(ticket, step);
    }

    /// A transaction of a job is applied, or was refused.
    pub(super) fn step_done(&mut self, ticket: Ticket, step: Step, result: Result<(), Error>) {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        job.under_way -= 1;
        match (step, result) {
            (Step::Fold { snapshot, into }, Ok(())) => {
                // Its id may soon be another's.
                if job.work == (Work::Merge { oldest: snapshot, into }) {
                    job.work = Work::Merge { oldest: into, into };
                }
                // What reads the snapshot that is gone must not find what its clusters are about to take up (R1).
                job.since = Some(self.commit.epochs.advance());
                job.settled += 1;
                job.phase = Phase::Plan;
            }
            // Also when it was to be ended meanwhile: it is done.
            (_, Ok(())) => {
                job.error = None;
                self.finish_job(ticket);
            }
            (_, Err(Error::Restless)) => job.phase = Phase::Plan,
            (_, Err(error)) => self.end_job(ticket, error),
        }
    }

    fn finish_job(&mut self, ticket: Ticket) {
        self.free_space(ticket);
        let Some(job) = self.jobs.jobs.remove(&ticket) else { return };
        if matches!(job.work, Work::Grow { .. }) {
            self.state.clusters.take_down_fence();
            self.resume_for_space();
        }
        match job.error {
            _ if !job.is_asked_for => {}
            None => {
                self.jobs.sealed |= job.work == Work::Seal;
                self.reply_after_barrier(ticket, Reply::Done);
            }
            Some(error) => {
                if job.work == Work::Seal {
                    self.abandon_seal();
                }
                self.reply(ticket, Err(error));
            }
        }
    }

    /// Lets a job end, for the first reason that is given.
    fn end_job(&mut self, ticket: Ticket, error: Error) {
        if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
            job.error.get_or_insert(error);
        }
    }

    fn set_phase(&mut self, ticket: Ticket, phase: Phase) {
        if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
            job.phase = phase;
        }
    }

    pub(super) fn work_of(&self, ticket: Ticket) -> Option<Work> {
        self.jobs.jobs.get(&ticket).map(|job| job.work)
    }

    /// Takes clusters out of those that are kept for a job, for one of its fills. Says how many there were.
    pub(super) fn draw_clusters(&mut self, ticket: Ticket, wanted: usize) -> usize {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return 0 };
        let drawn = wanted.min(job.clusters);
        job.clusters -= drawn;
        self.state.clusters.give_back(drawn);
        drawn
    }

    pub(super) fn put_clusters_back(&mut self, ticket: Ticket, drawn: usize) {
        if let Some(job) = self.jobs.jobs.get_mut(&ticket)
            && self.state.clusters.set_aside(drawn)
        {
            job.clusters += drawn;
        }
    }

    /// As [`Engine::draw_clusters`], of md pages.
    pub(super) fn draw_md(&mut self, ticket: Ticket, wanted: usize) -> usize {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return 0 };
        let drawn = wanted.min(job.md_pages);
        job.md_pages -= drawn;
        self.state.md_reserved -= drawn;
        drawn
    }

    pub(super) fn put_md_back(&mut self, ticket: Ticket, drawn: usize) {
        if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
            job.md_pages += drawn;
            self.state.md_reserved += drawn;
        }
    }
}

impl Job {
    /// Whether it has to be allowed more before anything else happens.
    fn waits(&self) -> bool {
        self.error.is_none() && self.phase == Phase::Fill && self.under_way == 0 && !self.may_begin()
    }

    /// Whether it may begin another fill.
    fn may_begin(&self) -> bool {
        self.error.is_none() && self.allowed.is_none_or(|allowed| self.begun < allowed)
    }
}

fn index(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
