//! `offshoot resize`: an lvol grows or shrinks.

use crate::deed::{Change, Planned};
use crate::lookup;
use crate::open::StoreArgs;
use crate::size::{Bytes, Size};
use anyhow::Result;
use clap::Args;
use offshoot_store::{State, Verb};
use serde::{Deserialize, Serialize};

/// Give an lvol another size
///
/// What is cut off is lost; what is added reads zeros.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct ResizeArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    name: String,
    /// Its new size, rounded up to a whole cluster
    size: Size,
}

impl Change for ResizeArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let size_bytes = self.size.bytes()?;
        let blob = lookup::lvol(state, &self.name)?;
        let (lvol, name, before) = (blob.id, blob.display_name(), state.bytes(blob));
        Ok(Planned::new(Verb::Resize { lvol, size_bytes }, move |state, _| {
            let after = state.blob(lvol).map_or(0, |blob| state.bytes(blob));
            let (from, to) = (Bytes(before), Bytes(after));
            format!("resized lvol \"{name}\" from {from} to {to} ({after} bytes)\n")
        }))
    }
}
