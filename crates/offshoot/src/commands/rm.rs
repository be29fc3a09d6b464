//! `offshoot rm`: an lvol goes away.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::Verb;

/// Remove an lvol, snapshot or clone
///
/// A snapshot with one clone hands what it holds to that clone. One with several clones is refused, unless it may go
/// later.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    name: String,
    /// Take a snapshot with several clones out of sight now; it goes when one of them is left, or none
    #[arg(long)]
    deferred: bool,
}

/// Removes the lvol.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &RmArgs) -> Result<()> {
    let (name, clones) = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name) = (blob.id, blob.display_name());
        store.execute(if args.deferred { Verb::RemoveDeferred { lvol } } else { Verb::Remove { lvol } })?;
        let state = store.state();
        let kept = state.blob(lvol).filter(|blob| state.is_deferred(blob));
        Ok((name, kept.map_or(0, |blob| blob.clones.len())))
    })?;
    match clones {
        0 => report::done(format_args!("removed lvol \"{name}\"")),
        _ => report::done(format_args!(
            "removed snapshot \"{name}\", as soon as one of {clones} clones is left"
        )),
    }
    Ok(())
}
