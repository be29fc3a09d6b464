//! `offshoot set-parent`: an lvol over another snapshot, or over a file or device outside of the store.

use crate::deed::{Change, Planned};
use crate::external::External;
use crate::lookup;
use crate::open::{StoreArgs, external_device};
use anyhow::{Context as _, Result};
use clap::Args;
use offshoot_store::{Blob, State, Underlay, Verb};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Let a thin lvol read from a snapshot, or from a file outside of the store, what it does not hold itself
///
/// What it holds itself it keeps. The snapshot must have its size; a file need not, and behind its end there are zeros. For
/// what is said of files see `clone`.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct SetParentArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The lvol
    name: String,
    /// The snapshot
    #[arg(required_unless_present = "from_external", conflicts_with = "from_external")]
    parent: Option<String>,
    /// A file or block device: the external snapshot of the lvol
    #[arg(long, value_name = "FILE")]
    from_external: Option<PathBuf>,
}

impl Change for SetParentArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        let lvol = lookup::lvol(state, &self.name)?;
        if let Some(file) = &self.from_external {
            return self.plan_external(lvol, file);
        }
        let onto = lookup::lvol(state, self.parent.as_deref().context("no snapshot is named")?)?;
        let (name, parent) = (lvol.display_name(), onto.display_name());
        let said = format!("the parent of lvol \"{name}\" is \"{parent}\"\n");
        let verb = Verb::SetParent { lvol: lvol.id, underlay: Underlay::Snapshot(onto.id) };
        Ok(Planned::saying(verb, said))
    }
}

impl SetParentArgs {
    fn plan_external(&self, lvol: &Blob, file: &Path) -> Result<Planned> {
        let (below, external) = External::of(file, &self.store.path, &self.store.externals)?;
        external_device(&below.file)?;
        let said = format!("the parent of lvol \"{}\" is a file\n{}", lvol.display_name(), below.said());
        let verb = Verb::SetParent { lvol: lvol.id, underlay: Underlay::External(external) };
        Ok(Planned::saying(verb, said).over(below))
    }
}
