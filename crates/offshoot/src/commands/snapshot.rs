//! `offshoot snapshot`: what lvols hold now, kept.

use super::identity;
use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use crate::time::{self, Utc};
use anyhow::Result;
use clap::Args;
use offshoot_format::BlobId;
use offshoot_store::{Error, State, Verb, escape};
use serde::{Deserialize, Serialize};

/// Take read-only snapshots of one or more lvols, all at one point in time
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// An lvol, and the name of its snapshot [default: LVOL-snap- and the time]
    #[arg(value_name = "LVOL[=NAME]", required = true)]
    lvols: Vec<String>,
}

/// An lvol and what its snapshot will be called.
struct Item {
    lvol: BlobId,
    lvol_name: String,
    name: String,
}

impl Change for SnapshotArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let items = self.lvols.iter().map(|text| item(state, text));
        let items: Vec<Item> = items.collect::<Result<_, Error>>()?;
        let named = items.iter().map(|item| (item.lvol, identity(&item.name)));
        let verb = Verb::Snapshot { items: named.collect() };
        let lines = items.iter().map(|Item { lvol_name, name, .. }| {
            format!("took snapshot \"{}\" of lvol \"{lvol_name}\"\n", escape(name.as_bytes()))
        });
        Ok(Planned::saying(verb, lines.collect()))
    }
}

fn item(state: &State, text: &str) -> Result<Item, Error> {
    // An lvol of another's making may have an equals sign in its name: if there is one, it is meant.
    let (lvol, name) = match (lookup::lvol(state, text), text.rsplit_once('=')) {
        (Ok(lvol), _) => (lvol, None),
        (Err(_), Some((lvol, name))) => (lookup::lvol(state, lvol)?, Some(name)),
        (Err(error), None) => return Err(error),
    };
    let lvol_name = lvol.display_name();
    let name = name.map_or_else(|| default_name(&lvol_name), str::to_owned);
    Ok(Item { lvol: lvol.id, lvol_name, name })
}

fn default_name(lvol_name: &str) -> String {
    let now = time::now();
    let time = Utc::of(now).map_or_else(|| now.to_string(), Utc::compact);
    format!("{lvol_name}-snap-{time}")
}
