//! `offshoot ls`: the lvols of a store.

use crate::deed::{Look, Shown, View};
use crate::json::{self, LvolInfo};
use crate::listing::{Lvol, lvols};
use crate::open::StoreArgs;
use crate::size::Bytes;
use crate::table::{Align, Table};
use crate::time::Utc;
use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};

/// List the lvols, snapshots and clones of a store
///
/// OWN is what an lvol holds itself, in whole clusters.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Show JSON
    #[arg(long)]
    json: bool,
}

impl Look for LsArgs {
    fn show(&self, view: &View<'_>) -> Result<Shown> {
        let lvols = lvols(view.engine);
        if self.json {
            let list: Vec<LvolInfo<'_>> = lvols.iter().map(LvolInfo::from).collect();
            return Ok(json::text(&list)?.into());
        }
        Ok(table(&lvols).to_string().into())
    }
}

fn table(lvols: &[Lvol]) -> Table {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("KIND", Align::Left),
        ("SIZE", Align::Right),
        ("OWN", Align::Right),
        ("PARENT", Align::Left),
        ("CREATED", Align::Left),
        ("STATE", Align::Left),
    ]);
    for lvol in lvols {
        table.push([
            lvol.name.clone(),
            lvol.kind.to_string(),
            Bytes(lvol.size_bytes).to_string(),
            Bytes(lvol.own_bytes).to_string(),
            parent(lvol),
            created(lvol),
            lvol.condition().to_owned(),
        ]);
    }
    table
}

fn parent(lvol: &Lvol) -> String {
    match (&lvol.parent, &lvol.external) {
        (Some((_, name)), _) => name.clone(),
        (None, Some(external)) => format!("external {external}"),
        (None, None) => "-".to_owned(),
    }
}

/// When an lvol was made, or a dash.
pub(super) fn created(lvol: &Lvol) -> String {
    let created = lvol.created.and_then(Utc::of);
    created.map_or_else(|| "-".to_owned(), |created| created.to_string())
}
