//! `offshoot diff`: where two related lvols read differently.

use crate::deed::{Look, Shown, View};
use crate::json::{self, DiffInfo};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Show the ranges in which an lvol may read something else than a relative of it
///
/// Both are of one family of snapshots and clones; which is the older one does not matter. Each line is a range of TO:
/// offset and length in bytes, and what TO has there: data, or zeros that it does not store. Put into a copy of FROM that
/// was cut or extended with zeros to the size of TO, they make a copy of TO. Nothing is read but metadata: what was
/// written again with the same content counts as changed.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol or snapshot that is known already
    from: String,
    /// The lvol or snapshot whose ranges are shown
    to: String,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

impl Look for DiffArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        let state = view.engine.state();
        let (from, to) = (lookup::lvol(state, &self.from)?, lookup::lvol(state, &self.to)?);
        let changes = state.diff(from.id, to.id)?;
        if self.json {
            return Ok(json::text(&DiffInfo::new(state, from, to, changes))?.into());
        }
        let mut text = String::new();
        for change in changes {
            writeln!(text, "{} {} {}", change.start, change.len, json::range_kind(change))?;
        }
        Ok(text.into())
    }
}
