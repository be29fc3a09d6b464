//! How long verbs take to answer.

use crate::figures::{RUNS, median, report_time};
use crate::mapped::{Mapped, lvol_name};
use crate::raw;
use crate::stores::{BLOCK, Scratch, clone_of, golden_image, identity, opening, options, pattern};
use anyhow::{Context as _, Result};
use offshoot_block::{DeviceOffset, DeviceOp};
use offshoot_device::FileDevice;
use offshoot_format::BlobId;
use offshoot_store::{Store, Verb};
use std::path::Path;
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

pub(crate) fn run(dir: &Path) -> Result<()> {
    clone_create(dir)?;
    batch_of_clones(dir)?;
    for cluster_size in [4 << 20, 1 << 20] {
        delete_full(dir, cluster_size)?;
    }
    Ok(())
}

/// A clone, durable, against the two syncs of the device that this takes, each behind a write of its own.
fn clone_create(dir: &Path) -> Result<()> {
    const CLONES: usize = 101;
    let file = Scratch::new(dir, "bench-store");
    let raw_file = Scratch::new(dir, "bench-raw");
    let mut raw_device = raw_file.device(64 << 20)?;
    raw::fill(&mut raw_device, 0..64 << 20, false)?;
    let (mut store, golden) = golden_store(&file)?;
    let (mut clones, mut syncs) = (Vec::new(), Vec::new());
    for number in 0..CLONES {
        let start = Instant::now();
        clone_of(&mut store, golden, &format!("clone{number}"))?;
        clones.push(start.elapsed());
        syncs.push(two_syncs(&mut raw_device)?);
    }
    let (clone, syncs) = (median(clones), median(syncs));
    report_time("two syncs of the device", syncs, "");
    report_time("clone create, durable", clone, "");
    report_time("  beyond the two syncs", clone.saturating_sub(syncs), "1 ms");
    Ok(())
}

/// Only the syncs count, not the writes that give them something to do.
fn two_syncs(device: &mut FileDevice) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for offset in [0, 1 << 20] {
        let write = DeviceOp::Write { offset: DeviceOffset(offset), buffer: pattern(BLOCK)? };
        raw::timed(device, write)?;
        total += raw::timed(device, DeviceOp::Sync)?;
    }
    Ok(total)
}

/// Started together, until the last one is durable.
fn batch_of_clones(dir: &Path) -> Result<()> {
    const CLONES: usize = 10_000;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let file = Scratch::new(dir, "bench-store");
        let (mut store, parent) = golden_store(&file)?;
        let identities: Vec<_> = (0..CLONES).map(|number| identity(&format!("clone{number}"))).collect();
        let start = Instant::now();
        for identity in identities {
            store.start(Verb::Clone { parent, identity });
        }
        let mut replies = Vec::new();
        let mut left = CLONES;
        while left > 0 {
            store.wait(&mut replies);
            for (_, reply) in replies.drain(..) {
                reply?;
                left -= 1;
            }
        }
        times.push(start.elapsed());
    }
    report_time("10,000 clones in one batch", median(times), "1000 ms");
    Ok(())
}

/// Until the answer, from when on the lvol is durably gone; its clusters are released afterwards.
fn delete_full(dir: &Path, cluster_size: u32) -> Result<()> {
    let file = Scratch::new(dir, "bench-store");
    let lvols = u32::try_from(RUNS)?;
    let size_bytes = u64::from(lvols) * TIB + 8 * GIB;
    Mapped { size_bytes, cluster_size, lvols, spare: 0, whole_md_region: false }.make(&file)?;
    let mut times = Vec::new();
    for number in 0..lvols {
        // Opened anew for each: what is still to be released of the last one would count otherwise.
        let mut store = Store::open(file.again()?, Vec::new(), &opening())?;
        let lvol = store.state().lvol_by_name(lvol_name(number).as_bytes()).context("a full lvol")?.id;
        let start = Instant::now();
        store.execute(Verb::Remove { lvol })?;
        times.push(start.elapsed());
        store.close().1?;
    }
    let what = format!("delete of a full 1 TiB lvol, clusters of {} MiB", cluster_size >> 20);
    report_time(&what, median(times), "10 ms");
    Ok(())
}

/// A store with room for all the clones, and a snapshot.
fn golden_store(file: &Scratch) -> Result<(Store<FileDevice>, BlobId)> {
    let mut store = Store::init(file.device(12 * GIB)?, &options(256 << 10, 4096), &opening())?;
    let golden = golden_image(&mut store, 64 << 20)?;
    Ok((store, golden))
}
