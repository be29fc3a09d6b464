//! `offshoot rename`: an lvol under another name.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::{Verb, escape};

/// Give an lvol, snapshot or clone another name
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    old: String,
    /// Its new name
    new: String,
}

/// Renames the lvol.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &RenameArgs) -> Result<()> {
    let old = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.old)?;
        let (lvol, old) = (blob.id, blob.display_name());
        store.execute(Verb::Rename { lvol, name: args.new.clone() })?;
        Ok(old)
    })?;
    let new = escape(args.new.as_bytes());
    report::done(format_args!("renamed lvol \"{old}\" to \"{new}\""));
    Ok(())
}
