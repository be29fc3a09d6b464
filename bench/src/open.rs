//! Opening a store of 8 TiB that is mapped from end to end, after a crash, against reading the same bytes raw.
//!
//! Each opening runs in a process of its own, so that its peak of memory is its own. Everything goes past the page
//! cache. The crash is a session's that changed metadata and never closed.

mod cost;

pub(crate) use cost::{ONE_OPENING, one_opening};

use crate::figures::RUNS;
use crate::mapped::Mapped;
use crate::raw;
use crate::stores::{BLOCK, Scratch, create, opening, pattern};
use anyhow::{Context as _, Result, ensure};
use cost::Cost;
use offshoot_block::{BlockDevice as _, Buffer, DeviceOffset, DeviceOp, OpId};
use offshoot_device::FileDevice;
use offshoot_format::SuperBlock;
use offshoot_store::Store;
use std::path::Path;

const STORE: u64 = 8 << 40;
/// What the last session writes to an lvol of its own, in a cluster each.
const LAST_WRITES: u64 = 64;

/// How the last session ended.
#[derive(Clone, Copy)]
enum Crash {
    /// Ours, in the midst of things.
    Native,
    /// SPDK's: no masks to rely on, and nothing but md pages to go by.
    Spdk,
}

pub(crate) fn run(dir: &Path) -> Result<()> {
    for cluster_size in [4 << 20, 1 << 20] {
        let file = Scratch::new(dir, "bench-open");
        let mapped = Mapped { size_bytes: STORE, cluster_size, lvols: 8, spare: 4096, whole_md_region: true };
        mapped.make(&file)?;
        println!("  8 TiB mapped in clusters of {} MiB", cluster_size >> 20);
        // First, while the store is still a plain one.
        measure(&file, Crash::Spdk)?;
        measure(&file, Crash::Native)?;
    }
    Ok(())
}

fn measure(file: &Scratch, crash: Crash) -> Result<()> {
    let name = match crash {
        Crash::Native => "after a crash",
        Crash::Spdk => "after a crash of SPDK",
    };
    let mut costs = Vec::new();
    for run in 0..RUNS {
        match crash {
            Crash::Native => crash_natively(file, run)?,
            Crash::Spdk => crash_as_spdk(file)?,
        }
        costs.push(Cost::of_one(file)?);
    }
    Cost::report(name, &costs);
    Ok(())
}

/// A session that makes an lvol, writes to it, and is gone: some of it behind a barrier, some not.
fn crash_natively(file: &Scratch, run: usize) -> Result<()> {
    let mut store = Store::open(file.again()?, Vec::new(), &opening())?;
    let cluster = u64::from(store.state().layout.cluster_size);
    let lvol = create(&mut store, &format!("last{run}"), LAST_WRITES * cluster)?;
    for at in 0..LAST_WRITES {
        store.write(lvol, at * cluster, pattern(BLOCK)?)?;
        if at == LAST_WRITES / 2 {
            store.flush()?;
        }
    }
    Ok(())
}

/// Closes the store, which leaves a plain one, and sets the word `clean` of its super block.
fn crash_as_spdk(file: &Scratch) -> Result<()> {
    Store::open(file.again()?, Vec::new(), &opening())?.close().1?;
    let mut device = file.again()?;
    let mut super_block = read_super_block(&mut device)?;
    ensure!(!super_block.is_native(), "the store is not a plain one");
    super_block.clean = 0;
    let buffer = Buffer::copy_of(&super_block.encode());
    raw::timed(&mut device, DeviceOp::Write { offset: DeviceOffset(0), buffer })?;
    raw::timed(&mut device, DeviceOp::Sync).map(drop)
}

fn read_super_block(device: &mut FileDevice) -> Result<SuperBlock> {
    let mut completions = Vec::new();
    let buffer = Buffer::zeroed(4096);
    device.submit(OpId(0), DeviceOp::Read { offset: DeviceOffset(0), buffer });
    device.wait(&mut completions);
    let buffer = completions.pop().and_then(|completion| completion.buffer).context("a super block")?;
    Ok(SuperBlock::decode(buffer.as_slice())?)
}
