//! Bytes that reach the device per byte that is written for the first time, all metadata included.
//!
//! Counted, not timed: the same in every run. A store in service makes a barrier each second; here it comes after as
//! many writes as a disk of today does in a second at that queue depth.

use crate::counted::Counted;
use crate::figures::{Random, aim, ratio};
use crate::load::Load;
use crate::stores::{BLOCK, clone_of, golden_image, opening, options};
use anyhow::Result;
use offshoot_block::BlockDevice as _;
use offshoot_device::NullDevice;
use offshoot_store::{IoRequest, Store};
use std::path::Path;

const IMAGE: u64 = 4 << 30;
/// Blocks that are written, each once, at random places of the image: a quarter of it.
const WRITES: u64 = IMAGE / BLOCK / 4;

struct Setting {
    depth: usize,
    /// Writes in a second.
    per_second: u64,
    target: &'static str,
}

const SETTINGS: [Setting; 2] = [
    Setting { depth: 1, per_second: 10_000, target: "1.2" },
    Setting { depth: 32, per_second: 60_000, target: "1.1" },
];

pub(crate) fn run(_dir: &Path) -> Result<()> {
    for setting in SETTINGS {
        for block_size in [512, 4096] {
            measure(&setting, block_size)?;
        }
    }
    Ok(())
}

fn measure(setting: &Setting, block_size: u32) -> Result<()> {
    // Nothing that is written is read again while the store is open, so that the device need not keep it.
    let device = Counted::new(NullDevice::new(3 * IMAGE, block_size));
    let mut store = Store::init(device, &options(256 << 10, block_size), &opening())?;
    let golden = golden_image(&mut store, IMAGE)?;
    let lvol = clone_of(&mut store, golden, "clone")?;
    store.flush()?;
    let before = store.device().stats();
    let blocks = Random(1).shuffled(IMAGE / BLOCK);
    let load = Load { depth: setting.depth, requests: WRITES, flush_every: Some(setting.per_second) };
    let mut places = blocks.into_iter();
    load.run(&mut store, |_, data| {
        let offset = places.next().map_or(0, |block| block * BLOCK);
        IoRequest::Write { lvol, offset, data, fua: false }
    })?;
    store.flush()?;
    let after = store.device().stats();
    println!(
        "  queue depth {}, device blocks of {}: {:.3} bytes{}, {:.3} writes, one barrier per {} writes",
        setting.depth,
        store.device().geometry().logical_block,
        ratio(after.writes.bytes - before.writes.bytes, WRITES * BLOCK),
        // A record of its own takes a whole block: a target was set for small ones only.
        aim(if block_size == 512 { setting.target } else { "" }),
        ratio(after.writes.ops - before.writes.ops, WRITES),
        setting.per_second,
    );
    Ok(())
}
