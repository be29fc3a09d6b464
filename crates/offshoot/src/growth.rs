//! A store that becomes as large as its file or block device is, or is made.

use crate::deed::{Growth, Said};
use crate::size::{Bytes, Size};
use anyhow::{Context as _, Result, bail};
use offshoot_block::BlockDevice;
use offshoot_store::{State, Store};
use std::io;

/// Brings a device to the size that its store is to have, unless that cannot be. `grow` makes a device at least so
/// long where it can, and has it notice its size. Says what to say once the store has grown.
///
/// # Errors
/// Why it cannot be.
pub(crate) fn prepare<D: BlockDevice>(
    growth: &Growth,
    store: &mut Store<D>,
    mut grow: impl FnMut(&mut D, u64) -> io::Result<()>,
) -> Result<Said> {
    let path = || growth.path.display().to_string();
    let asked = growth.size.map(Size::bytes).transpose()?;
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
