//! `offshoot decouple`: an lvol without its parent.

use crate::open::{Store, StoreArgs};
use crate::size::Size;
use crate::{job, lookup, report};
use anyhow::Result;
use clap::{ArgGroup, Args};
use offshoot_format::BlobId;
use offshoot_store::{Blob, Underlay, Verb, Work};

/// Take the parent away from a clone
///
/// With --keep everybody reads the same afterwards: what the parent itself holds is copied, and the clone lies on what the
/// parent lies on. What that takes is said beforehand, and kept for it; if it is interrupted, what was done is kept, and
/// the next run goes on from there. A clone of an external snapshot becomes what `inflate` makes of it.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("how").required(true).args(["keep", "zero"])))]
pub(crate) struct DecoupleArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The clone
    name: String,
    /// Copy what the parent holds
    #[arg(long)]
    keep: bool,
    /// Forget what the parent holds: what the clone does not hold itself reads zeros from now on
    #[arg(long)]
    zero: bool,
    /// How many bytes a second may be copied
    #[arg(long, value_name = "SIZE", requires = "keep")]
    rate: Option<Size>,
}

/// Decouples the clone.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &DecoupleArgs) -> Result<()> {
    let (name, parent) = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name) = (blob.id, blob.display_name());
        if args.keep {
            job::run(store, "decouple", Work::Decouple { lvol }, args.rate)?;
        } else {
            store.execute(Verb::SetParent { lvol, underlay: Underlay::Nothing })?;
        }
        Ok((name, parent(store, lvol)))
    })?;
    match parent {
        Some(parent) => report::done(format_args!("the parent of lvol \"{name}\" is \"{parent}\" now")),
        None => report::done(format_args!("lvol \"{name}\" has no parent any more")),
    }
    Ok(())
}

/// What an lvol lies on, as people call it.
fn parent(store: &Store, lvol: BlobId) -> Option<String> {
    let state = store.state();
    let blob = state.blob(lvol)?;
    let external = blob.external.as_ref().filter(|_| blob.external_is_parent);
    let parent = blob.parent.and_then(|parent| state.blob(parent)).map(Blob::display_name);
    parent.or_else(|| external.map(offshoot_store::External::name))
}
