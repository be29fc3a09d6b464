//! `offshoot rm`: an lvol goes away.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::Verb;

/// Remove an lvol, snapshot or clone
///
/// A snapshot with one clone hands what it holds to that clone. One with several clones is refused.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    name: String,
}

/// Removes the lvol.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &RmArgs) -> Result<()> {
    let name = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name) = (blob.id, blob.display_name());
        store.execute(Verb::Remove { lvol })?;
        Ok(name)
    })?;
    report::done(format_args!("removed lvol \"{name}\""));
    Ok(())
}
