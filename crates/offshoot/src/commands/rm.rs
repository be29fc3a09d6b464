//! `offshoot rm`: an lvol goes away.

use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use anyhow::Result;
use clap::Args;
use offshoot_store::{State, Verb};
use serde::{Deserialize, Serialize};

/// Remove an lvol, snapshot or clone
///
/// A snapshot with one clone hands what it holds to that clone. One with several clones is refused, unless it may go
/// later.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    name: String,
    /// Take a snapshot with several clones out of sight now; it goes when one of them is left, or none
    #[arg(long)]
    deferred: bool,
}

impl Change for RmArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let lvol = lookup::lvol(state, &self.name)?;
        let (id, name) = (lvol.id, lvol.display_name());
        let verb = if self.deferred { Verb::RemoveDeferred { lvol: id } } else { Verb::Remove { lvol: id } };
        Ok(Planned::new(verb, move |state, _| {
            let kept = state.blob(id).filter(|blob| state.is_deferred(blob));
            match kept.map_or(0, |blob| blob.clones.len()) {
                0 => format!("removed lvol \"{name}\"\n"),
                clones => format!("removed snapshot \"{name}\", as soon as one of {clones} clones is left\n"),
            }
        }))
    }
}
