//! `offshoot rm`: an lvol goes away.

use crate::errand::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use offshoot_store::{State, Verb};
use serde::{Deserialize, Serialize};

/// Remove an lvol, snapshot or clone
///
/// A snapshot with one clone hands what it holds to that clone. One with several clones is refused.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    name: String,
}

impl Change for RmArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let lvol = lookup::lvol(state, &self.name)?;
        let said = format!("removed lvol \"{}\"\n", lvol.display_name());
        Ok(Planned::saying(Verb::Remove { lvol: lvol.id }, said))
    }
}
