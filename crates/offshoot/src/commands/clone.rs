//! `offshoot clone`: a writable child of a snapshot, or of a file or device outside of the store.

use super::identity;
use crate::deed::{Change, Planned};
use crate::external::External;
use crate::lookup;
use crate::open::{StoreArgs, external_device};
use crate::size::{Bytes, Size};
use anyhow::{Context as _, Result};
use clap::Args;
use offshoot_block::BlockDevice as _;
use offshoot_store::{State, Verb, escape};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Make a writable clone of a snapshot, or of a file outside of the store
///
/// What lies outside is never written to, and must not be changed by others as long as clones of it are there. The store keeps
/// a UUID for it, which is printed, and not its path: whoever opens the store says --external UUID=FILE. Give that here as
/// well to make one more clone of the same file.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(allow_missing_positional = true)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The snapshot
    #[arg(required_unless_present = "from_external", conflicts_with = "from_external")]
    snapshot: Option<String>,
    /// Name of the clone
    name: String,
    /// A file or block device that the clone shows where it holds nothing itself: its external snapshot
    #[arg(long, value_name = "FILE")]
    from_external: Option<PathBuf>,
    /// Size of the clone, rounded up to a whole cluster [default: that of the file]. What the file does not have reads zeros
    #[arg(long, requires = "from_external", conflicts_with = "snapshot")]
    size: Option<Size>,
    /// Keep what is read of the file, so that it is read from there only once
    #[arg(long, requires = "from_external", conflicts_with = "snapshot")]
    copy_on_read: bool,
}

impl Change for CloneArgs {
    fn plan(&self, state: &State) -> Result<Planned> {
        if let Some(file) = &self.from_external {
            return self.plan_external(file);
        }
        let snapshot = lookup::lvol(state, self.snapshot.as_deref().context("no snapshot is named")?)?;
        let said = format!(
            "cloned snapshot \"{}\" as lvol \"{}\"\n",
            snapshot.display_name(),
            escape(self.name.as_bytes())
        );
        let verb = Verb::Clone { parent: snapshot.id, identity: identity(&self.name) };
        Ok(Planned::saying(verb, said))
    }
}

impl CloneArgs {
    fn plan_external(&self, file: &Path) -> Result<Planned> {
        let (below, external) = External::of(file, &self.store.path, &self.store.externals)?;
        let external_bytes = external_device(&below.file)?.geometry().size_bytes;
        let size_bytes = self.size.map_or(Ok(external_bytes), Size::bytes)?;
        let verb = Verb::CloneExternal {
            identity: identity(&self.name),
            size_bytes,
            external,
            external_bytes,
            copy_on_read: self.copy_on_read,
        };
        let (name, said) = (escape(self.name.as_bytes()), below.said());
        let planned = Planned::new(verb, move |state, made| {
            let made = made.iter().filter_map(|id| state.blob(*id));
            let size_bytes: u64 = made.map(|blob| state.bytes(blob)).sum();
            format!("made lvol \"{name}\": {} ({size_bytes} bytes)\n{said}", Bytes(size_bytes))
        });
        Ok(planned.over(below))
    }
}
