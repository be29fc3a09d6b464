//! `offshoot read-only`: an lvol that nobody writes to any more.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::Verb;

/// Make an lvol read-only, so that it can be cloned
///
/// There is no way back; a clone of it can be written to.
#[derive(Debug, Args)]
pub(crate) struct ReadOnlyArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    name: String,
}

/// Makes it read-only.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &ReadOnlyArgs) -> Result<()> {
    let name = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name) = (blob.id, blob.display_name());
        store.execute(Verb::SetReadOnly { lvol })?;
        Ok(name)
    })?;
    report::done(format_args!("lvol \"{name}\" is read-only"));
    Ok(())
}
