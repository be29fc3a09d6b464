//! `offshoot resize`: an lvol grows or shrinks.

use crate::open::StoreArgs;
use crate::size::{Bytes, Size};
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::Verb;

/// Give an lvol another size
///
/// What is cut off is lost; what is added reads zeros.
#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    name: String,
    /// Its new size, rounded up to a whole cluster
    size: Size,
}

/// Resizes the lvol.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &ResizeArgs) -> Result<()> {
    let size_bytes = args.size.bytes()?;
    let (name, before, after) = args.store.change(|store| {
        let blob = lookup::lvol(store.state(), &args.name)?;
        let (lvol, name, before) = (blob.id, blob.display_name(), store.state().bytes(blob));
        store.execute(Verb::Resize { lvol, size_bytes })?;
        let after = store.state().blob(lvol).map_or(0, |blob| store.state().bytes(blob));
        Ok((name, before, after))
    })?;
    report::done(format_args!(
        "resized lvol \"{name}\" from {} to {} ({after} bytes)",
        Bytes(before),
        Bytes(after)
    ));
    Ok(())
}
