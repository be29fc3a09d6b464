//! `offshoot clone`: a writable child of a snapshot.

use super::identity;
use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use offshoot_store::{State, Verb, escape};
use serde::{Deserialize, Serialize};

/// Make a writable clone of a snapshot
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The snapshot
    snapshot: String,
    /// Name of the clone
    name: String,
}

impl Change for CloneArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let snapshot = lookup::lvol(state, &self.snapshot)?;
        let said = format!(
            "cloned snapshot \"{}\" as lvol \"{}\"\n",
            snapshot.display_name(),
            escape(self.name.as_bytes())
        );
        let verb = Verb::Clone { parent: snapshot.id, identity: identity(&self.name) };
        Ok(Planned::saying(verb, said))
    }
}
