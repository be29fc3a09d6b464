//! `offshoot decouple`: an lvol without its parent.

use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::{ArgGroup, Args};
use offshoot_store::{Underlay, Verb};

/// Take the parent away from a clone
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("how").required(true).args(["zero"])))]
pub(crate) struct DecoupleArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The clone
    name: String,
    /// Forget what the parent holds: what the clone does not hold itself reads zeros from now on
    #[arg(long)]
    zero: bool,
}

/// Decouples the clone.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &DecoupleArgs) -> Result<()> {
    let name = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name) = (blob.id, blob.display_name());
        store.execute(Verb::SetParent { lvol, underlay: Underlay::Nothing })?;
        Ok(name)
    })?;
    report::done(format_args!("lvol \"{name}\" has no parent any more"));
    Ok(())
}
