//! Running verbs: drain, plan, zero, commit, barrier, reply.
//!
//! Between its plan and the moment when its records are applied nothing may spoil a plan: [`queue`] says which verbs
//! run beside each other. Barriers are shared: a batch of verbs waits for one.

mod queue;
mod zeroing;

pub(super) use queue::VerbQueue;

use super::journal::After;
use super::{Engine, OpOwner, Progress, Reply, Target, Task, TaskId, Ticket};
use crate::error::Error;
use crate::io::Mode;
use crate::verb::{Plan, Step, Verb};
use alloc::{string::String, vec::Vec};
use offshoot_block::{DeviceError, DeviceOffset, DeviceOp};
use offshoot_format::BlobId;
use zeroing::Zeroing;

/// What is planned and committed as one transaction.
#[derive(Debug)]
enum Planned {
    Verb(Verb),
    /// What the job of that ticket ends with.
    Step(Step),
}

#[derive(Debug)]
pub(super) struct VerbTask {
    ticket: Ticket,
    what: Planned,
    /// The name that it gives, where it may run beside others.
    makes: Option<String>,
    /// Lvols to drain, those held first.
    drains: Vec<BlobId>,
    held: usize,
    /// Whether it waits in line for the next one.
    waits_for_lvol: bool,
    plan: Option<Plan>,
    zeroing: Zeroing,
    /// Why it is not committed when the zeroing that has begun is done.
    error: Option<Error>,
}

impl Engine {
    pub(super) fn start_verb(&mut self, ticket: Ticket, verb: Verb) {
        if let Err(error) = self.check_writable() {
            return self.reply(ticket, Err(error));
        }
        let makes = verb.only_makes().map(String::from);
        self.start_planned(ticket, Planned::Verb(verb), makes);
    }

    /// Starts what a job ends with, under its ticket. The job hears of it.
    pub(super) fn start_step(&mut self, job: Ticket, step: Step) {
        self.start_planned(job, Planned::Step(step), None);
    }

    fn start_planned(&mut self, ticket: Ticket, what: Planned, makes: Option<String>) {
        let verb = VerbTask {
            ticket,
            what,
            makes,
            drains: Vec::new(),
            held: 0,
            waits_for_lvol: false,
            plan: None,
            zeroing: Zeroing::default(),
            error: None,
        };
        let task = TaskId(self.tasks.insert(Task::Verb(verb)));
        self.verbs.wait(ticket, task);
        self.start_verbs();
    }

    /// Starts those in line, as far as they may run beside those that run.
    fn start_verbs(&mut self) {
        while let Some(task) = self.verbs.next() {
            let makes = match self.tasks.get(task.0) {
                Some(Task::Verb(verb)) => verb.makes.as_deref(),
                _ => None,
            };
            if !self.verbs.begin_next(makes) {
                return;
            }
            if let Some(Task::Verb(verb)) = self.tasks.get_mut(task.0) {
                // Nothing changes relations until it is done.
                verb.drains = match &verb.what {
                    Planned::Verb(verb) => verb.drains(&self.state),
                    Planned::Step(step) => step.drains(&self.state),
                };
            }
            self.resume(task);
        }
    }

    /// The task has got the lvol it waited for, or its turn, or may try again.
    pub(super) fn verb_granted(&mut self, task: TaskId) {
        if let Some(verb) = self.verb_task_mut(task) {
            verb.held += usize::from(core::mem::take(&mut verb.waits_for_lvol));
            self.drain_next(task);
        }
    }

    /// Waits until no write is in flight on the next lvol that the verb is about, then plans.
    fn drain_next(&mut self, task: TaskId) {
        loop {
            let Some(verb) = self.verb_task_mut(task) else {
                return;
            };
            let Some(lvol) = verb.drains.get(verb.held).copied() else {
                break;
            };
            let held = self.acquire(lvol, task, 0..u64::MAX, Mode::Exclusive);
            let Some(verb) = self.verb_task_mut(task) else {
                return;
            };
            verb.waits_for_lvol = !held;
            verb.held += usize::from(held);
            if !held {
                return;
            }
        }
        self.plan_verb(task);
    }

    fn plan_verb(&mut self, task: TaskId) {
        let planned = match (self.check_writable(), self.verb_task(task)) {
            (Err(error), _) => Err(error),
            // It was ended while it waited.
            (Ok(()), Some(VerbTask { error: Some(error), .. })) => {
                let error = error.clone();
                return self.finish_verb(task, Err(error));
            }
            (Ok(()), Some(VerbTask { what: Planned::Verb(verb), .. })) => {
                self.check_no_job(verb).and_then(|()| verb.plan(&self.state))
            }
            (Ok(()), Some(VerbTask { what: Planned::Step(step), .. })) => step.plan(&self.state),
            (Ok(()), None) => return,
        };
        match planned {
            Ok(plan) => self.zero_for_verb(task, plan),
            Err(Error::NoClusters { needed, free } | Error::ClustersWithheld { needed, free, .. })
                if needed <= self.state.clusters.free() as u64 + self.state.dying_clusters()
                    && self.may_reclaim() =>
            {
                // What has been freed lately is enough: wait until it may be reused. The drained lvols wait along.
                debug_assert!(free < needed);
                self.retry_after_space(task);
            }
            Err(Error::NoMdPages { .. }) if self.may_reclaim_md() => self.retry_after_space(task),
            // What the others hold may be more than they need.
            Err(_) if !self.verbs.is_single() => self.plan_alone(task),
            Err(error) => self.finish_verb(task, Err(error)),
        }
    }

    /// A verb is planned once more when those that run are done, and then without others beside it.
    fn plan_alone(&mut self, task: TaskId) {
        let Some(verb) = self.verb_task_mut(task) else { return };
        let (ticket, makes) = (verb.ticket, verb.makes.take());
        self.verbs.end(makes.as_deref());
        self.verbs.wait(ticket, task);
    }

    /// Holds what the plan names and zeroes the clusters that need it.
    fn zero_for_verb(&mut self, task: TaskId, plan: Plan) {
        for id in plan.made.iter().chain(&plan.aside) {
            self.state.md.hold(id.root().0);
        }
        for run in &plan.zero {
            (run.cluster.0..run.cluster.0 + run.length).for_each(|cluster| self.state.clusters.hold(cluster));
        }
        let zeroing = Zeroing::new(plan.zero.iter().map(|run| {
            let start = self.state.block_offset(run.cluster, 0).0;
            start..start + u64::from(run.length) * self.state.units.cluster
        }));
        self.state.md_reserved += plan.md_pages;
        let is_kept = self.state.clusters.set_aside(plan.promises());
        debug_assert!(is_kept, "a plan promises clusters that are not there");
        if let Some(verb) = self.verb_task_mut(task) {
            verb.plan = Some(plan);
            verb.zeroing = zeroing;
        }
        self.zero_on(task);
    }

    /// Zeroes the next pieces. When all is zeroed the verb is committed.
    fn zero_on(&mut self, task: TaskId) {
        while let Some(piece) = self.verb_task_mut(task).and_then(|verb| verb.zeroing.begin()) {
            let len = piece.end - piece.start;
            let op = DeviceOp::WriteZeroes { offset: DeviceOffset(piece.start), len, may_unmap: false };
            self.emit(Target::Store, OpOwner::VerbZero { task, bytes: len }, op);
        }
        let Some(verb) = self.verb_task_mut(task).filter(|verb| !verb.zeroing.goes_on()) else {
            return;
        };
        match verb.error.take() {
            None => self.commit_verb(task),
            Some(error) => {
                let plan = verb.plan.take().unwrap_or_default();
                self.drop_plan(plan);
                self.finish_verb(task, Err(error));
            }
        }
    }

    pub(super) fn verb_zero_done(&mut self, task: TaskId, bytes: u64, result: Result<(), DeviceError>) {
        let Some(verb) = self.verb_task_mut(task) else {
            return;
        };
        verb.zeroing.end(bytes);
        if let Err(error) = result {
            verb.error = Some(Error::Device(error));
            verb.zeroing.stop();
        }
        self.zero_on(task);
    }

    /// Ends a verb whose records are not on their way yet: it replies with [`Error::Cancelled`], and nothing has changed.
    pub(super) fn cancel_verb(&mut self, ticket: Ticket) {
        let mut tasks = self.tasks.values_mut().filter_map(|task| match task {
            Task::Verb(verb) if verb.ticket == ticket && matches!(verb.what, Planned::Verb(_)) => Some(verb),
            _ => None,
        });
        if let Some(verb) = tasks.find(|verb| verb.plan.is_none() || verb.zeroing.under_way > 0) {
            verb.error = Some(Error::Cancelled);
            verb.zeroing.stop();
        }
    }

    /// How far the zeroing of a verb is, while there is some.
    pub(super) fn verb_progress(&self, ticket: Ticket) -> Option<Progress> {
        let mut zeroings = self.tasks.values().filter_map(|task| match task {
            Task::Verb(verb) if verb.ticket == ticket && verb.zeroing.goes_on() => Some(&verb.zeroing),
            _ => None,
        });
        let Zeroing { bytes, bytes_done, .. } = *zeroings.next()?;
        let clusters = |bytes: u64| bytes / self.state.units.cluster;
        let (clusters_done, clusters) = (clusters(bytes_done), clusters(bytes));
        Some(Progress { clusters_done, clusters, bytes_done, bytes, waits: false })
    }

    fn commit_verb(&mut self, task: TaskId) {
        let Some(plan) = self.verb_task_mut(task).and_then(|verb| verb.plan.as_mut()) else {
            return;
        };
        let records = core::mem::take(&mut plan.records);
        self.verbs.committing += 1;
        if records.is_empty() {
            return self.verb_committed(task, Ok(()));
        }
        if let Err(error) = self.commit(records, After::Verb(task)) {
            self.verb_committed(task, Err(error));
        }
    }

    /// The records of a verb have been applied, or never will be.
    pub(super) fn verb_committed(&mut self, task: TaskId, result: Result<(), Error>) {
        let Some(plan) = self.verb_task_mut(task).and_then(|verb| verb.plan.take()) else {
            return;
        };
        self.verbs.committing -= 1;
        match result {
            Ok(()) => {
                self.state.md_reserved -= plan.md_pages;
                self.state.clusters.give_back(plan.promises());
                if let Some(lvol) = plan.handed_over {
                    self.commit.hand_over(lvol, self.journal.last);
                }
                plan.made.iter().for_each(|made| self.begin_counts(*made));
                self.finish_verb(task, Ok(plan.made));
            }
            Err(error) => {
                self.drop_plan(plan);
                self.finish_verb(task, Err(error));
            }
        }
    }

    /// Lets go of what a plan held.
    fn drop_plan(&mut self, plan: Plan) {
        self.state.md_reserved -= plan.md_pages;
        self.state.clusters.give_back(plan.promises());
        for id in plan.made.into_iter().chain(plan.aside) {
            self.state.md.release(id.root().0);
        }
        for run in plan.zero {
            let clusters = run.cluster.0..run.cluster.0 + run.length;
            clusters.for_each(|cluster| self.state.clusters.release(cluster));
        }
    }

    fn finish_verb(&mut self, task: TaskId, result: Result<Vec<BlobId>, Error>) {
        let Some(verb) = self.verb_task_mut(task) else {
            return;
        };
        let held: Vec<BlobId> = verb.drains.drain(..verb.held).collect();
        for lvol in held {
            self.release_lock(lvol, task);
        }
        let Some(Task::Verb(verb)) = self.tasks.remove(task.0) else {
            return;
        };
        match (verb.what, result) {
            (Planned::Step(step), result) => self.step_done(verb.ticket, step, result.map(drop)),
            (Planned::Verb(_), Ok(made)) => self.reply_after_barrier(verb.ticket, Reply::Made(made)),
            (Planned::Verb(_), Err(error)) => self.reply(verb.ticket, Err(error)),
        }
        self.verbs.end(verb.makes.as_deref());
        for fill in self.verbs.take_fills() {
            self.resume(fill);
        }
        self.start_verbs();
    }

    /// Resumes a task once the verb whose records are on their way is done.
    pub(super) fn retry_after_verb(&mut self, task: TaskId) {
        self.verbs.let_fill_wait(task);
    }

    /// Whether a verb has begun that is not done.
    pub(super) fn verb_is_running(&self) -> bool {
        self.verbs.is_running()
    }

    /// Whether the records of a verb are on their way.
    pub(super) fn verb_is_committing(&self) -> bool {
        self.verbs.committing > 0
    }

    fn verb_task(&self, task: TaskId) -> Option<&VerbTask> {
        match self.tasks.get(task.0) {
            Some(Task::Verb(verb)) => Some(verb),
            _ => None,
        }
    }

    fn verb_task_mut(&mut self, task: TaskId) -> Option<&mut VerbTask> {
        match self.tasks.get_mut(task.0) {
            Some(Task::Verb(verb)) => Some(verb),
            _ => None,
        }
    }
}
