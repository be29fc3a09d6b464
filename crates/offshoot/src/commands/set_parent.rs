//! `offshoot set-parent`: an lvol over another snapshot.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::{Underlay, Verb};

/// Let a thin lvol read from a snapshot what it does not hold itself
///
/// What it holds itself it keeps. The snapshot must have its size.
#[derive(Debug, Args)]
pub(crate) struct SetParentArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    name: String,
    /// The snapshot
    parent: String,
}

/// Puts the lvol onto the snapshot.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &SetParentArgs) -> Result<()> {
    let (name, parent) = args.store.change(|store| {
        let (lvol, onto) =
            (lookup::lvol(store.state(), &args.name)?, lookup::lvol(store.state(), &args.parent)?);
        let names = (lvol.display_name(), onto.display_name());
        let (lvol, underlay) = (lvol.id, Underlay::Snapshot(onto.id));
        store.execute(Verb::SetParent { lvol, underlay })?;
        Ok(names)
    })?;
    report::done(format_args!("the parent of lvol \"{name}\" is \"{parent}\""));
    Ok(())
}
