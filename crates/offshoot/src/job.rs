//! Running a job of the engine from the command line: what it takes is said before, how far it is meanwhile; Ctrl-C ends
//! it, and the same command goes on from there.

use crate::interrupt::Interrupt;
use crate::open::Store;
use crate::pace::Budget;
use crate::progress::Progress;
use crate::report;
use crate::size::{Bytes, Size};
use anyhow::{Result, bail};
use offshoot_store::{Error, Work, WorkCost};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How long a job that may not go on is left alone.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a job to its durable end. `rate`: bytes that it may copy in a second.
///
/// # Errors
/// Why it was refused, failed or was interrupted.
pub(crate) fn run(store: &mut Store, what: &'static str, work: Work, rate: Option<Size>) -> Result<()> {
    let rate = rate.map(Size::bytes).transpose()?;
    if rate == Some(0) {
        bail!("--rate 0: it would never end");
    }
    let interrupt = Interrupt::install()?;
    let cost = store.engine().work_cost(work)?;
    // What a merge moves and frees is its command's to say.
    if cost.filled > 0 && !matches!(work, Work::Merge { .. }) {
        report::done(Takes { cost, cluster_bytes: store.state().units.cluster });
    }
    let mut progress = Progress::new(what, Some(cost.bytes));
    let mut budget = rate.map(|rate| Budget::new(rate, Instant::now()));
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
    match done {
        Err(Error::Cancelled) => bail!("interrupted: run it again to go on"),
        done => Ok(done?),
    }
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
