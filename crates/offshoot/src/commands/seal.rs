//! `offshoot seal`: a store becomes what SPDK can open.

use crate::interrupt::Interrupt;
use crate::open::{Store, StoreArgs};
use crate::progress::Progress;
use crate::report;
use crate::size::Bytes;
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::{Error, SealCost, Work};
use std::ops::ControlFlow;

/// Make a store one that SPDK can open
///
/// Clusters that are stored in part, or only said to be zeros, become whole ones; what is being removed is removed. The
/// lvols stay what they are. What that takes is said beforehand, and kept for it; if it is interrupted, what was done is
/// kept, and the next run goes on from there.
#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    #[command(flatten)]
    store: StoreArgs,
}

/// Seals the store.
///
/// # Errors
/// Why not, or why not all of it.
pub(crate) fn run(args: &SealArgs) -> Result<()> {
    let interrupt = Interrupt::install()?;
    args.store.change(|store| fill(store, &interrupt))?;
    // Closing it has sealed it, unless something is left that only this can tell.
    let store = args.store.look()?;
    let super_block = store.super_block();
    if super_block.is_native() || !super_block.is_clean() {
        bail!("{}: is not sealed: see offshoot info", args.store.path.display());
    }
    report::done("sealed");
    Ok(())
}

/// Says what it takes, and does it.
fn fill(store: &mut Store, interrupt: &Interrupt) -> Result<()> {
    let cost = store.engine().seal_cost()?;
    if cost.filled > 0 {
        report::done(Takes { cost, cluster_bytes: store.state().units.cluster });
    }
    let mut progress = Progress::new("seal", Some(cost.bytes));
    let sealed = store.run_job(Work::Seal, |job| {
        progress.reach(job.bytes_done.min(cost.bytes));
        match interrupt.check() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    match sealed {
        Err(Error::Cancelled) => bail!("interrupted: run it again to go on"),
        sealed => Ok(sealed?),
    }
}

/// What sealing takes, in words.
pub(crate) struct Takes {
    /// What it takes.
    pub(crate) cost: SealCost,
    /// Bytes of a cluster.
    pub(crate) cluster_bytes: u64,
}

impl std::fmt::Display for Takes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SealCost { filled, clusters, bytes, .. } = self.cost;
        let space = Bytes(clusters * self.cluster_bytes);
        write!(
            f,
            "clusters to fill in: {filled}; free ones needed: {clusters} ({space}); to write: {}",
            Bytes(bytes)
        )
    }
}
