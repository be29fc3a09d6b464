//! `offshoot grow`: a store becomes as large as its file or block device is, or is made.

use crate::errand::Said;
use crate::open::StoreArgs;
use crate::size::{Bytes, Size};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use offshoot_block::BlockDevice;
use offshoot_store::{State, Store};
use serde::{Deserialize, Serialize};
use std::io;

/// Make a store larger
///
/// It takes all that its file or block device has by now. How far it can grow `offshoot info` tells. Lvols can be in use
/// meanwhile.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct GrowArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Make the file as long as this first. A block device is made larger by other means
    #[arg(long)]
    size: Option<Size>,
}

impl GrowArgs {
    /// Brings a device to the size that its store is to have, unless that cannot be. `grow` makes a device at least so
    /// long where it can, and has it notice its size. Says what to say once the store has grown.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn prepare<D: BlockDevice>(
        &self,
        store: &mut Store<D>,
        mut grow: impl FnMut(&mut D, u64) -> io::Result<()>,
    ) -> Result<Said> {
        let path = || self.store.path.display().to_string();
        let asked = self.size.map(Size::bytes).transpose()?;
        grow(store.device_mut(), 0).with_context(path)?;
        let geometry = store.device().geometry();
        let present = geometry.size_bytes;
        // What is behind the last block of the device cannot be reached.
        let wanted = asked.map_or(present, |size| size - size % u64::from(geometry.logical_block));
        if wanted < present {
            bail!("{}: has {present} bytes, which --size {wanted} cannot change", path());
        }
        store.engine().check_grow(wanted)?;
        if wanted > present {
            grow(store.device_mut(), wanted).with_context(path)?;
        }
        let now = store.device().geometry().size_bytes;
        if now < wanted {
            bail!("{}: is a block device of {now} bytes, which --size {wanted} cannot change", path());
        }
        let before = store.state().layout.size_bytes;
        Ok(Box::new(move |state, _| said(state, before)))
    }
}

fn said(state: &State, before: u64) -> String {
    let (name, layout) = (state.name(), &state.layout);
    let now = layout.size_bytes;
    if now == before {
        return format!("lvstore \"{name}\" has {} ({now} bytes) already\n", Bytes(now));
    }
    format!(
        "grew lvstore \"{name}\" from {} to {} ({now} bytes): {} clusters, {} of them free\n",
        Bytes(before),
        Bytes(now),
        layout.total_clusters,
        state.clusters.free(),
    )
}
