//! `offshoot rename`: an lvol, or the store, under another name.

use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::{State, Verb, escape};
use serde::{Deserialize, Serialize};

/// Give an lvol, snapshot or clone another name, or the store itself
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
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

impl Change for RenameArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        match (&self.old, &self.new, &self.store_name) {
            (Some(old), Some(new), None) => {
                let lvol = lookup::lvol(state, old)?;
                let (old, shown) = (lvol.display_name(), escape(new.as_bytes()));
                let verb = Verb::Rename { lvol: lvol.id, name: new.clone() };
                Ok(Planned::saying(verb, format!("renamed lvol \"{old}\" to \"{shown}\"\n")))
            }
            (_, _, Some(new)) => {
                let (old, shown) = (state.name(), escape(new.as_bytes()));
                let verb = Verb::RenameStore { name: new.clone() };
                Ok(Planned::saying(verb, format!("renamed store \"{old}\" to \"{shown}\"\n")))
            }
            _ => bail!("give the lvol and its new name"),
        }
    }
}
