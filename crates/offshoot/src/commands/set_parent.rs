//! `offshoot set-parent`: an lvol over another snapshot.

use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use offshoot_store::{State, Underlay, Verb};
use serde::{Deserialize, Serialize};

/// Let a thin lvol read from a snapshot what it does not hold itself
///
/// What it holds itself it keeps. The snapshot must have its size.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct SetParentArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    name: String,
    /// The snapshot
    parent: String,
}

impl Change for SetParentArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let (lvol, onto) = (lookup::lvol(state, &self.name)?, lookup::lvol(state, &self.parent)?);
        let (name, parent) = (lvol.display_name(), onto.display_name());
        let said = format!("the parent of lvol \"{name}\" is \"{parent}\"\n");
        let verb = Verb::SetParent { lvol: lvol.id, underlay: Underlay::Snapshot(onto.id) };
        Ok(Planned::saying(verb, said))
    }
}
