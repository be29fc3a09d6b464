//! `offshoot inflate`: an lvol that needs no parent.

use crate::open::StoreArgs;
use crate::size::Size;
use crate::{job, lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::Work;

/// Make an lvol or snapshot hold everything that it reads, so that it needs no parent
///
/// What it reads from its snapshots is copied, and every cluster is allocated: it is thick afterwards, and has no parent.
/// What that takes is said beforehand, and kept for it: if there is not enough, nothing is done. If it is interrupted,
/// what was done is kept, and the next run goes on from there.
#[derive(Debug, Args)]
pub(crate) struct InflateArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol or snapshot
    name: String,
    /// How many bytes a second it may write
    #[arg(long, value_name = "SIZE")]
    rate: Option<Size>,
}

/// Inflates the lvol.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &InflateArgs) -> Result<()> {
    let name = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name) = (blob.id, blob.display_name());
        job::run(store, "inflate", Work::Inflate { lvol }, args.rate)?;
        Ok(name)
    })?;
    report::done(format_args!("lvol \"{name}\" holds all that it reads"));
    Ok(())
}
