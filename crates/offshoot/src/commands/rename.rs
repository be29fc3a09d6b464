//! `offshoot rename`: an lvol, or the store, under another name.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::{Verb, escape};

/// Give an lvol, snapshot or clone another name, or the store itself
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    #[arg(required_unless_present = "of_store")]
    old: Option<String>,
    /// Its new name
    #[arg(required_unless_present = "of_store")]
    new: Option<String>,
    /// The new name of the store
    #[arg(long = "store", id = "of_store", value_name = "NEW", conflicts_with_all = ["old", "new"])]
    store_name: Option<String>,
}

/// Renames the lvol or the store.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &RenameArgs) -> Result<()> {
    match (&args.old, &args.new, &args.store_name) {
        (Some(old), Some(new), None) => rename_lvol(&args.store, old, new),
        (_, _, Some(new)) => rename_store(&args.store, new),
        _ => bail!("give the lvol and its new name"),
    }
}

fn rename_lvol(store: &StoreArgs, old: &str, new: &str) -> Result<()> {
    let old = store.change(|store| {
        let blob = lookup::lvol(store.state(), old)?;
        let (lvol, old) = (blob.id, blob.display_name());
        store.execute(Verb::Rename { lvol, name: new.to_owned() })?;
        Ok(old)
    })?;
    let new = escape(new.as_bytes());
    report::done(format_args!("renamed lvol \"{old}\" to \"{new}\""));
    Ok(())
}

fn rename_store(store: &StoreArgs, new: &str) -> Result<()> {
    let old = store.change(|store| {
        let old = store.state().name();
        store.execute(Verb::RenameStore { name: new.to_owned() })?;
        Ok(old)
    })?;
    let new = escape(new.as_bytes());
    report::done(format_args!("renamed store \"{old}\" to \"{new}\""));
    Ok(())
}
