//! Measures the engine against the raw disk, side by side in one run, as ratios of medians.
//!
//! `cargo run --release -p bench -- DIR` works in DIR, which must be on the disk to be measured. Each case runs three
//! times in alternation with its peer; the figures are per second and for 4 KiB at queue depth 32 unless they say
//! otherwise.

#![allow(clippy::print_stdout, reason = "a measuring program")]

use anyhow::{Context, Result, anyhow};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceOffset, DeviceOp, OpId};
use offshoot_device::{FileDevice, MemDevice, NullDevice, OpenOptions};
use offshoot_format::BlobId;
use offshoot_store::{Identity, InitOptions, IoRequest, Reply, Store, Verb};
use std::path::Path;
use std::time::Instant;
use uuid::Uuid;

const BLOCK: u64 = 4096;
const IMAGE: u64 = 4 << 30;
const OPERATIONS: u64 = 60_000;
const DEPTH: usize = 32;
const RUNS: usize = 3;

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).ok_or_else(|| anyhow!("usage: bench DIR"))?;
    let dir = Path::new(&dir);
    chain_reads()?;
    amplification()?;
    first_writes(dir)?;
    Ok(())
}

/// As in service: the machine keeps its power while this runs.
fn opening() -> offshoot_store::OpenOptions {
    let session = offshoot_store::Session { boot_id: [1; 16], device_generation: 1 };
    offshoot_store::OpenOptions::writable([1; 16], Some(session))
}

/// 4 KiB random writes: raw against the first ones on a fresh clone of a full image.
fn first_writes(dir: &Path) -> Result<()> {
    let raw_path = dir.join("bench-raw");
    let store_path = dir.join("bench-store");
    let _ = std::fs::remove_file(&raw_path);
    let _ = std::fs::remove_file(&store_path);
    let mut raw = FileDevice::create(&raw_path, IMAGE, &OpenOptions::writable())?;
    fill(&mut raw, IMAGE)?;
    let device = FileDevice::create(&store_path, 3 * IMAGE, &OpenOptions::writable())?;
    println!("disk: engine {:?}, O_DIRECT {}", device.engine(), device.is_direct());
    let mut store = Store::init(device, &options(256 << 10), &opening())?;
    let golden = golden_image(&mut store)?;
    let (mut raws, mut firsts, mut overwrites) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS as u64 {
        raws.push(raw_writes(&mut raw, run + 1)?);
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
    report("raw writes", raw, raw);
    report("first writes on a clone", median(firsts), raw);
    report("overwrites of them", median(overwrites), raw);
    drop(store);
    std::fs::remove_file(raw_path)?;
    std::fs::remove_file(store_path)?;
    Ok(())
}

/// Bytes written to the device per first-written byte, metadata included.
fn amplification() -> Result<()> {
    let mut store = Store::init(MemDevice::new(1 << 30, 512), &options(256 << 10), &opening())?;
    let lvol = create(&mut store, "image", 256 << 20)?;
    store.write(lvol, 0, Buffer::zeroed(128 << 20))?;
    store.execute(Verb::Snapshot { items: vec![(lvol, identity("golden"))] })?;
    let golden = store.state().lvol_by_name(b"golden").context("golden")?.id;
    let clone = clone_of(&mut store, golden, "clone")?;
    let before = store.device().stats().writes.bytes;
    let mut random = Random(1);
    let count = 4000;
    for _ in 0..count {
        store.write(clone, random.below((128 << 20) / BLOCK) * BLOCK, Buffer::zeroed(4096))?;
    }
    store.flush()?;
    let written = store.device().stats().writes.bytes - before;
    println!("bytes written per first-written byte, one flush: {:.3}", ratio(written, count * BLOCK));
    Ok(())
}

/// 4 KiB random reads at chain depth 64 against depth 1, on a device that takes no time: the cost of the lookup.
fn chain_reads() -> Result<()> {
    let mut shallow = Vec::new();
    let mut deep = Vec::new();
    let (mut one, flat) = chain(1)?;
    let (mut many, top) = chain(64)?;
    for run in 0..RUNS as u64 {
        shallow.push(store_reads(&mut one, flat, run + 1)?);
        deep.push(store_reads(&mut many, top, run + 1)?);
    }
    let shallow = median(shallow);
    report("lookups, depth 1", shallow, shallow);
    report("lookups, depth 64", median(deep), shallow);
    Ok(())
}

/// An lvol with so many snapshots below, each holding scattered blocks of its own.
fn chain(depth: u64) -> Result<(Store<NullDevice>, BlobId)> {
    let size = 128 << 20;
    let mut store = Store::init(NullDevice::new(64 << 30, 4096), &options(256 << 10), &opening())?;
    let lvol = create(&mut store, "lvol", size)?;
    store.write(lvol, 0, pattern(size)?)?;
    let mut random = Random(9);
    for level in 0..depth {
        store.execute(Verb::Snapshot { items: vec![(lvol, identity(&format!("s{level}")))] })?;
        for _ in 0..512 {
            store.write(lvol, random.below(size / BLOCK) * BLOCK, pattern(BLOCK)?)?;
        }
    }
    Ok((store, lvol))
}

fn raw_writes(device: &mut FileDevice, seed: u64) -> Result<f64> {
    let mut random = Random(seed);
    let mut done = 0;
    let mut completions: Vec<Completion> = Vec::new();
    let mut buffers: Vec<Buffer> = (0..DEPTH).map(|_| Buffer::zeroed(4096)).collect();
    let mut submitted = 0;
    let start = Instant::now();
    while done < OPERATIONS {
        while submitted < OPERATIONS
            && let Some(buffer) = buffers.pop()
        {
            let offset = DeviceOffset(random.below(IMAGE / BLOCK) * BLOCK);
            device.submit(OpId(submitted), DeviceOp::Write { offset, buffer });
            submitted += 1;
        }
        device.wait(&mut completions);
        for completion in completions.drain(..) {
            completion.result?;
            buffers.extend(completion.buffer);
            done += 1;
        }
    }
    Ok(rate(start))
}

fn store_writes(store: &mut Store<FileDevice>, lvol: BlobId, seed: u64) -> Result<f64> {
    drive(store, seed, IMAGE, |offset, data| IoRequest::Write { lvol, offset, data, fua: false })
}

fn store_reads(store: &mut Store<NullDevice>, lvol: BlobId, seed: u64) -> Result<f64> {
    drive(store, seed, 128 << 20, |offset, buffer| IoRequest::Read { lvol, offset, buffer })
}

fn drive<D: BlockDevice>(
    store: &mut Store<D>,
    seed: u64,
    size: u64,
    request: impl Fn(u64, Buffer) -> IoRequest,
) -> Result<f64> {
    let mut random = Random(seed);
    let mut buffers: Vec<Buffer> = (0..DEPTH).map(|_| Buffer::zeroed(4096)).collect();
    let (mut submitted, mut done) = (0, 0);
    let mut replies = Vec::new();
    let start = Instant::now();
    while done < OPERATIONS {
        while submitted < OPERATIONS
            && let Some(buffer) = buffers.pop()
        {
            store.submit(request(random.below(size / BLOCK) * BLOCK, buffer));
            submitted += 1;
        }
        store.wait(&mut replies);
        for (_, reply) in replies.drain(..) {
            if let Reply::Buffer(buffer) = reply? {
                buffers.push(buffer);
            }
            done += 1;
        }
    }
    Ok(rate(start))
}

fn golden_image(store: &mut Store<FileDevice>) -> Result<BlobId> {
    let lvol = create(store, "image", IMAGE)?;
    for offset in (0..IMAGE).step_by(8 << 20) {
        store.write(lvol, offset, pattern(8 << 20)?)?;
    }
    store.execute(Verb::Snapshot { items: vec![(lvol, identity("golden"))] })?;
    Ok(store.state().lvol_by_name(b"golden").context("golden")?.id)
}

fn fill(device: &mut impl BlockDevice, size: u64) -> Result<()> {
    let mut completions = Vec::new();
    for offset in (0..size).step_by(8 << 20) {
        device.submit(OpId(0), DeviceOp::Write { offset: DeviceOffset(offset), buffer: pattern(8 << 20)? });
        device.wait(&mut completions);
        for completion in completions.drain(..) {
            completion.result?;
        }
    }
    Ok(())
}

fn create<D: BlockDevice>(store: &mut Store<D>, name: &str, size_bytes: u64) -> Result<BlobId> {
    let made = store.execute(Verb::Create { identity: identity(name), size_bytes, thick: false })?;
    made.first().copied().context("create makes an lvol")
}

fn clone_of<D: BlockDevice>(store: &mut Store<D>, parent: BlobId, name: &str) -> Result<BlobId> {
    let made = store.execute(Verb::Clone { parent, identity: identity(name) })?;
    made.first().copied().context("clone makes an lvol")
}

fn identity(name: &str) -> Identity {
    Identity { name: name.into(), uuid: Uuid::nil(), created: 0 }
}

fn options(cluster_size: u32) -> InitOptions {
    InitOptions {
        name: "bench".into(),
        uuid: Uuid::nil(),
        cluster_size,
        block_size: 4096,
        md_page_size: 4096,
        native: true,
    }
}

fn pattern(len: u64) -> Result<Buffer> {
    let mut buffer = Buffer::zeroed(usize::try_from(len)?);
    buffer.as_mut_slice().fill(0x5a);
    Ok(buffer)
}

/// Xorshift: the same sequence on both sides of a comparison.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ value >> 31) % limit
    }
}

fn rate(start: Instant) -> f64 {
    f64::from(u32::try_from(OPERATIONS).unwrap_or(u32::MAX)) / start.elapsed().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(what: &str, rate: f64, base: f64) {
    println!("{what}: {rate:.0}/s, ratio {:.2}", rate / base);
}
