//! 4 KiB random reads at chain depth 64 against depth 1, on a device that takes no time: the cost of the lookup.

use crate::figures::{RUNS, Random, median, per_second, report_rate};
use crate::load::Load;
use crate::stores::{BLOCK, create, opening, options, pattern, snapshot};
use anyhow::Result;
use offshoot_device::NullDevice;
use offshoot_format::BlobId;
use offshoot_store::{IoRequest, Store};
use std::path::Path;

const SIZE: u64 = 128 << 20;
const OPERATIONS: u64 = 60_000;

pub(crate) fn run(_dir: &Path) -> Result<()> {
    let mut shallow = Vec::new();
    let mut deep = Vec::new();
    let (mut one, flat) = chain(1)?;
    let (mut many, top) = chain(64)?;
    for run in 0..RUNS as u64 {
        shallow.push(reads(&mut one, flat, run + 1)?);
        deep.push(reads(&mut many, top, run + 1)?);
    }
    let shallow = median(shallow);
    report_rate("at depth 1", shallow, shallow, "");
    report_rate("at depth 64", median(deep), shallow, "0.97 of reads of a disk");
    Ok(())
}

/// An lvol with so many snapshots below, each holding scattered blocks of its own.
fn chain(depth: u64) -> Result<(Store<NullDevice>, BlobId)> {
    let device = NullDevice::new(64 << 30, 4096);
    let mut store = Store::init(device, &options(256 << 10, 4096), &opening())?;
    let lvol = create(&mut store, "lvol", SIZE)?;
    store.write(lvol, 0, pattern(SIZE)?)?;
    let mut random = Random(9);
    for level in 0..depth {
        snapshot(&mut store, lvol, &format!("s{level}"))?;
        for _ in 0..512 {
            store.write(lvol, random.below(SIZE / BLOCK) * BLOCK, pattern(BLOCK)?)?;
        }
    }
    Ok((store, lvol))
}

fn reads(store: &mut Store<NullDevice>, lvol: BlobId, seed: u64) -> Result<f64> {
    let mut random = Random(seed);
    let took = Load::new(32, OPERATIONS).run(store, |_, buffer| {
        let offset = random.below(SIZE / BLOCK) * BLOCK;
        IoRequest::Read { lvol, offset, buffer }
    })?;
    Ok(per_second(OPERATIONS, took))
}
