//! `offshoot revert`: an lvol as it was.

use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use offshoot_store::{State, Verb};
use serde::{Deserialize, Serialize};

/// Make an lvol read what one of its snapshots reads
///
/// What was written since is gone, and the size is that of the snapshot. Snapshots between the two stay. Any snapshot of
/// the same family will do, so that one can also go forward again.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct RevertArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    lvol: String,
    /// The snapshot
    snapshot: String,
}

impl Change for RevertArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let (lvol, to) = (lookup::lvol(state, &self.lvol)?, lookup::lvol(state, &self.snapshot)?);
        let (name, snapshot) = (lvol.display_name(), to.display_name());
        let said = format!("reverted lvol \"{name}\" to snapshot \"{snapshot}\"\n");
        Ok(Planned::saying(Verb::Revert { lvol: lvol.id, snapshot: to.id }, said))
    }
}
