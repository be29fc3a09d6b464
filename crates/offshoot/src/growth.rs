//! A store that becomes as large as its file or block device is, or is made.

use crate::deed::{Growth, Job};
use crate::job;
use crate::size::{Bytes, Size};
use anyhow::{Context as _, Result, bail};
use offshoot_block::BlockDevice;
use offshoot_format::Layout;
use offshoot_store::{State, Store, Work};
use std::io;

/// Brings a device to the size that its store is to have, unless that cannot be, and says what is left to do. `grow` makes
/// a device at least so long where it can, and has it notice its size.
///
/// # Errors
/// Why it cannot be.
pub(crate) fn prepare<D: BlockDevice>(
    growth: &Growth,
    store: &mut Store<D>,
    mut grow: impl FnMut(&mut D, u64) -> io::Result<()>,
) -> Result<Job> {
    let bytes_per_second = job::rate(growth.rate)?;
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
    let md_pages = growth.md_pages.unwrap_or_else(|| store.engine().md_pages_at(wanted));
    let work = Work::Grow { size_bytes: wanted, md_pages };
    let cost = store.engine().work_cost(work)?;
    if wanted > present {
        grow(store.device_mut(), wanted).with_context(path)?;
    }
    let now = store.device().geometry().size_bytes;
    if now < wanted {
        bail!("{}: is a block device of {now} bytes, which --size {wanted} cannot change", path());
    }
    let before = store.state().layout.clone();
    let takes = match cost.filled {
        0 => String::new(),
        moved => format!("clusters to move: {moved}; to write: {}\n", Bytes(cost.bytes)),
    };
    Ok(Job {
        what: "grow",
        work: Work::Grow { size_bytes: now, md_pages },
        bytes_per_second,
        takes,
        said: Box::new(move |state, _| said(state, &before)),
    })
}

fn said(state: &State, before: &Layout) -> String {
    let (name, layout) = (state.name(), &state.layout);
    let mut said = String::new();
    if layout.size_bytes != before.size_bytes {
        said = format!(
            "grew lvstore \"{name}\" from {} to {} ({} bytes): {} clusters, {} of them free\n",
            Bytes(before.size_bytes),
            Bytes(layout.size_bytes),
            layout.size_bytes,
            layout.total_clusters,
            state.clusters.free(),
        );
    }
    if layout.md_len != before.md_len {
        said += &format!("grew its metadata from {} to {} md pages\n", before.md_len, layout.md_len);
    }
    if said.is_empty() {
        said = format!(
            "lvstore \"{name}\" has {} ({} bytes) already\n",
            Bytes(layout.size_bytes),
            layout.size_bytes
        );
    }
    said
}
