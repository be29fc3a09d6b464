//! 4 KiB random writes: raw against the first ones on a fresh clone of a full image.

use crate::figures::{RUNS, Random, median, per_second, report_rate};
use crate::load::Load;
use crate::raw;
use crate::stores::{BLOCK, Scratch, clone_of, golden_image, opening, options};
use anyhow::Result;
use offshoot_block::{Buffer, DeviceOffset, DeviceOp};
use offshoot_device::FileDevice;
use offshoot_format::BlobId;
use offshoot_store::{IoRequest, Store, Verb};
use std::path::Path;

const IMAGE: u64 = 4 << 30;
const OPERATIONS: u64 = 60_000;
const DEPTH: usize = 32;

pub(crate) fn run(dir: &Path) -> Result<()> {
    let raw_file = Scratch::new(dir, "bench-raw");
    let store_file = Scratch::new(dir, "bench-store");
    let mut raw_device = raw_file.device(IMAGE)?;
    raw::fill(&mut raw_device, 0..IMAGE, false)?;
    let device = store_file.device(3 * IMAGE)?;
    println!("  disk: engine {:?}, O_DIRECT {}", device.engine(), device.is_direct());
    let mut store = Store::init(device, &options(256 << 10, 4096), &opening())?;
    let golden = golden_image(&mut store, IMAGE)?;
    let (mut raws, mut firsts, mut overwrites) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS as u64 {
        raws.push(raw_writes(&mut raw_device, run + 1)?);
        let clone = clone_of(&mut store, golden, &format!("clone{run}"))?;
        firsts.push(store_writes(&mut store, clone, run + 1)?);
        overwrites.push(store_writes(&mut store, clone, run + 1)?);
        store.execute(Verb::Remove { lvol: clone })?;
        // Discards of the old clone are not part of the next one's figures.
        store.wait(&mut Vec::new());
        store.flush()?;
        store.wait(&mut Vec::new());
    }
    let raw = median(raws);
    report_rate("raw writes", raw, raw, "");
    report_rate("first writes on a clone", median(firsts), raw, "0.85");
    report_rate("overwrites of them", median(overwrites), raw, "");
    Ok(())
}

fn raw_writes(device: &mut FileDevice, seed: u64) -> Result<f64> {
    let mut random = Random(seed);
    let mut left = OPERATIONS;
    let buffers = (0..DEPTH).map(|_| Buffer::zeroed(4096)).collect();
    let took = raw::run(device, buffers, |buffer| {
        left = left.checked_sub(1)?;
        Some(DeviceOp::Write { offset: DeviceOffset(random.below(IMAGE / BLOCK) * BLOCK), buffer })
    })?;
    Ok(per_second(OPERATIONS, took))
}

fn store_writes(store: &mut Store<FileDevice>, lvol: BlobId, seed: u64) -> Result<f64> {
    let mut random = Random(seed);
    let took = Load::new(DEPTH, OPERATIONS).run(store, |_, data| {
        let offset = random.below(IMAGE / BLOCK) * BLOCK;
        IoRequest::Write { lvol, offset, data, fua: false }
    })?;
    Ok(per_second(OPERATIONS, took))
}
