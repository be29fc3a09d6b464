//! `offshoot revert`: an lvol as it was.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::Verb;

/// Make an lvol read what one of its snapshots reads
///
/// What was written since is gone, and the size is that of the snapshot. Snapshots between the two stay. Any snapshot of
/// the same family will do, so that one can also go forward again.
#[derive(Debug, Args)]
pub(crate) struct RevertArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    lvol: String,
    /// The snapshot
    snapshot: String,
}

/// Reverts the lvol.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &RevertArgs) -> Result<()> {
    let (name, snapshot) = args.store.change(|store| {
        let (lvol, to) =
            (lookup::lvol(store.state(), &args.lvol)?, lookup::lvol(store.state(), &args.snapshot)?);
        let names = (lvol.display_name(), to.display_name());
        let (lvol, snapshot) = (lvol.id, to.id);
        store.execute(Verb::Revert { lvol, snapshot })?;
        Ok(names)
    })?;
    report::done(format_args!("reverted lvol \"{name}\" to snapshot \"{snapshot}\""));
    Ok(())
}
