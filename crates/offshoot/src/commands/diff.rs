//! `offshoot diff`: where two related lvols read differently.

use crate::json::{self, DiffInfo};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use std::io::{self, BufWriter, Write as _};

/// Show the ranges in which an lvol may read something else than a relative of it
///
/// Both are of one family of snapshots and clones; which is the older one does not matter. Each line is a range of TO:
/// offset and length in bytes, and what TO has there: data, or zeros that it does not store. Put into a copy of FROM that
/// was cut or extended with zeros to the size of TO, they make a copy of TO. Nothing is read but metadata: what was
/// written again with the same content counts as changed.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol or snapshot that is known already
    from: String,
    /// The lvol or snapshot whose ranges are shown
    to: String,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

/// Shows the ranges.
///
/// # Errors
/// The store cannot be opened, or the two are not related.
pub(crate) fn run(args: &DiffArgs) -> Result<()> {
    let store = args.store.look()?;
    let state = store.state();
    let (from, to) = (lookup::lvol(state, &args.from)?, lookup::lvol(state, &args.to)?);
    let changes = state.diff(from.id, to.id)?;
    if args.json {
        return json::print(&DiffInfo::new(state, from, to, changes));
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for change in changes {
        writeln!(out, "{} {} {}", change.start, change.len, json::range_kind(change))?;
    }
    Ok(out.flush()?)
}
