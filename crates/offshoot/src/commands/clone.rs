//! `offshoot clone`: a writable child of a snapshot.

use super::identity;
use crate::open::StoreArgs;
use crate::{lookup, report};
use anyhow::Result;
use clap::Args;
use offshoot_store::{Verb, escape};

/// Make a writable clone of a snapshot
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The snapshot
    snapshot: String,
    /// Name of the clone
    name: String,
}

/// Makes the clone.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &CloneArgs) -> Result<()> {
    let snapshot = args.store.change(|store| {
        let snapshot = lookup::lvol(store.state(), &args.snapshot)?;
        let (parent, name) = (snapshot.id, snapshot.display_name());
        store.execute(Verb::Clone { parent, identity: identity(&args.name) })?;
        Ok(name)
    })?;
    let name = escape(args.name.as_bytes());
    report::done(format_args!("cloned snapshot \"{snapshot}\" as lvol \"{name}\""));
    Ok(())
}
