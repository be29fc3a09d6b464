//! `offshoot seal`: a store becomes what SPDK can open.

use crate::open::StoreArgs;
use crate::{job, report};
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::Work;

/// Make a store one that SPDK can open
///
/// Clusters that are stored in part, or only said to be zeros, become whole ones; what is being removed is removed. The
/// lvols stay what they are. What that takes is said beforehand, and kept for it; if it is interrupted, what was done is
/// kept, and the next run goes on from there.
#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    #[command(flatten)]
    store: StoreArgs,
}

/// Seals the store.
///
/// # Errors
/// Why not, or why not all of it.
pub(crate) fn run(args: &SealArgs) -> Result<()> {
    args.store.change(|store| job::run(store, "seal", Work::Seal, None))?;
    // Closing it has sealed it, unless something is left that only this can tell.
    let store = args.store.look()?;
    let super_block = store.super_block();
    if super_block.is_native() || !super_block.is_clean() {
        bail!("{}: is not sealed: see offshoot info", args.store.path.display());
    }
    report::done("sealed");
    Ok(())
}
