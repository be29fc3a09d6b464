//! `offshoot read-only`: an lvol that nobody writes to any more.

use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use offshoot_store::{State, Verb};
use serde::{Deserialize, Serialize};

/// Make an lvol read-only, so that it can be cloned
///
/// There is no way back; a clone of it can be written to.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct ReadOnlyArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    name: String,
}

impl Change for ReadOnlyArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let lvol = lookup::lvol(state, &self.name)?;
        let said = format!("lvol \"{}\" is read-only\n", lvol.display_name());
        Ok(Planned::saying(Verb::SetReadOnly { lvol: lvol.id }, said))
    }
}
