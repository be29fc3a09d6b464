//! `offshoot merge`: snapshots go into what lies on them.

use crate::open::StoreArgs;
use crate::size::{Bytes, Size};
use crate::{job, lookup, report};
use anyhow::{Result, bail};
use clap::Args;
use offshoot_format::BlobId;
use offshoot_store::{Blob, Error, State, Work, WorkCost};

/// Fold a snapshot into its only clone, or a run of snapshots into the newest of them
///
/// What a snapshot holds changes hands; data is moved only where both hold parts of one cluster, and the space of one of
/// the two comes free. The folded snapshots are gone. If it is interrupted, the same command goes on from there.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The snapshot; or several that lie on each other, of which the newest stays
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
    /// Say what it would move and free, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How many bytes a second may be copied
    #[arg(long, value_name = "SIZE")]
    rate: Option<Size>,
}

/// Merges the snapshots.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &MergeArgs) -> Result<()> {
    if args.dry_run {
        let store = args.store.look()?;
        let (oldest, into) = find(store.state(), &args.snapshots)?;
        let cost = store.engine().work_cost(Work::Merge { oldest, into })?;
        report::done(what(&cost, store.state().units.cluster));
        return Ok(());
    }
    let name = args.store.change(|store| {
        let (oldest, into) = find(store.state(), &args.snapshots)?;
        let name = store.state().blob(into).map(Blob::display_name).unwrap_or_default();
        let cost = store.engine().work_cost(Work::Merge { oldest, into })?;
        report::done(what(&cost, store.state().units.cluster));
        job::run(store, "merge", Work::Merge { oldest, into }, args.rate)?;
        Ok(name)
    })?;
    report::done(format_args!("merged into \"{name}\""));
    Ok(())
}

fn what(cost: &WorkCost, cluster_bytes: u64) -> String {
    let (moved, freed) = (Bytes(cost.bytes), Bytes(cost.freed * cluster_bytes));
    format!("to move: {moved}; to free: {freed}")
}

/// The oldest snapshot and what takes it up; where some are gone since an earlier run, what is taking them up.
fn find(state: &State, names: &[String]) -> Result<(BlobId, BlobId)> {
    let mut found = Vec::new();
    let mut gone = None;
    for name in names {
        match (lookup::lvol(state, name), state.merging(name.as_bytes())) {
            (Ok(blob), _) => found.push(blob),
            (Err(Error::UnknownLvol(_)), Some(heir)) => {
                if gone.replace(heir.id).is_some_and(|other| other != heir.id) {
                    bail!("they were being merged into different lvols");
                }
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    let Some(into) = gone else {
        let ids: Vec<BlobId> = found.iter().map(|blob| blob.id).collect();
        return Ok(state.merge_run(&ids)?);
    };
    let oldest = found.into_iter().min_by_key(|blob| state.depth(blob));
    Ok((oldest.map_or(into, |blob| blob.id), into))
}
