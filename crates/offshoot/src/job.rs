//! Running a job of the engine from the command line: what it takes is said before, how far it is meanwhile; Ctrl-C ends
//! it, and the same command goes on from there.

use crate::deed::Job;
use crate::interrupt::{Interrupt, Interrupted};
use crate::open::Store;
use crate::pace::Budget;
use crate::progress::Progress;
use crate::report;
use crate::size::{Bytes, Size};
use anyhow::{Result, anyhow, bail};
use offshoot_format::BlobId;
use offshoot_store::{Engine, Error, Verb, Work, WorkCost};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How long a job that may not go on is left alone.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a job to its durable end. Returns what to print.
///
/// # Errors
/// Why it was refused, failed or was interrupted.
pub(crate) fn run(store: &mut Store, job: Job) -> Result<String> {
    let Job { what, work, bytes_per_second, takes, said } = job;
    let interrupt = Interrupt::install()?;
    let cost = store.engine().work_cost(work)?;
    report::text(&takes);
    let mut progress = Progress::new(what, Some(cost.bytes));
    let mut budget = bytes_per_second.map(|rate| Budget::new(rate, Instant::now()));
    let done = store.run_paced_job(work, budget.map(|_| 0), |job| {
        progress.reach(job.bytes_done.min(cost.bytes));
        if interrupt.check().is_err() {
            return ControlFlow::Break(());
        }
        if job.waits {
            std::thread::sleep(PAUSE);
        }
        // What is allowed and not begun would be forfeit: more comes when the job is through with it.
        let earned = budget.as_mut().filter(|_| job.waits).map(|budget| budget.earn(Instant::now()));
        ControlFlow::Continue(earned.filter(|earned| *earned > 0))
    });
    done.map_err(failed)?;
    Ok(said(store.state(), &[]))
}

/// Carries out a verb. Returns what it made. Long zeroing is shown, and Ctrl-C ends it.
///
/// # Errors
/// Why it was refused, failed or was interrupted. Nothing has changed then.
pub(crate) fn execute(store: &mut Store, verb: Verb) -> Result<Vec<BlobId>> {
    let bytes = verb.zeroed_bytes(store.state());
    if bytes == 0 {
        return Ok(store.execute(verb)?);
    }
    let interrupt = Interrupt::install()?;
    let mut progress = Progress::new(zeroing(&verb), Some(bytes));
    let made = store.execute_watched(verb, |zeroed| {
        progress.reach(zeroed.bytes_done);
        if interrupt.check().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    made.map_err(undone)
}

/// What a verb that zeroes is called while it does.
pub(crate) fn zeroing(verb: &Verb) -> &'static str {
    if matches!(verb, Verb::Create { .. }) { "create" } else { "resize" }
}

/// Why a verb has changed nothing.
pub(crate) fn undone(error: Error) -> anyhow::Error {
    match error {
        Error::Cancelled => Interrupted.into(),
        error => error.into(),
    }
}

/// Why a job has ended before it was done.
pub(crate) fn failed(error: Error) -> anyhow::Error {
    match error {
        Error::Cancelled => anyhow!("interrupted: run it again to go on"),
        error => error.into(),
    }
}

/// The `--rate` of a job, in bytes a second.
///
/// # Errors
/// It would never end.
pub(crate) fn rate(rate: Option<Size>) -> Result<Option<u64>> {
    match rate.map(Size::bytes).transpose()? {
        Some(0) => bail!("--rate 0: it would never end"),
        rate => Ok(rate),
    }
}

/// What a job takes, in a line, if it takes anything.
///
/// # Errors
/// It cannot be done.
pub(crate) fn takes(engine: &Engine, work: Work) -> Result<String> {
    let cost = engine.work_cost(work)?;
    let cluster_bytes = engine.state().units.cluster;
    let line = || format!("{}\n", Takes { cost, cluster_bytes });
    Ok(if cost.filled > 0 { line() } else { String::new() })
}

/// What a job takes, in words.
pub(crate) struct Takes {
    /// What it takes.
    pub(crate) cost: WorkCost,
    /// Bytes of a cluster.
    pub(crate) cluster_bytes: u64,
}

impl std::fmt::Display for Takes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WorkCost { filled, clusters, bytes, .. } = self.cost;
        let space = Bytes(clusters * self.cluster_bytes);
        write!(
            f,
            "clusters to fill in: {filled}; free ones needed: {clusters} ({space}); to write: {}",
            Bytes(bytes)
        )
    }
}
