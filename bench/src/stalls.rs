//! The longest that a write waits when a snapshot is made of the lvol that it is for.
//!
//! Against the longest wait beside a flush, which is what the device itself makes writes wait: both sync it. The load
//! is the same on both volumes, and only the volume around it is larger.

use crate::figures::{Random, median, milliseconds};
use crate::load::Load;
use crate::stores::{BLOCK, Scratch, create, identity, opening, options};
use anyhow::Result;
use offshoot_block::{BlockDevice, Buffer};
use offshoot_device::NullDevice;
use offshoot_format::BlobId;
use offshoot_store::{IoRequest, Reply, Store, Ticket, Verb};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const STORE: u64 = 1 << 40;
const CLUSTER: u32 = 4 << 20;
const DEPTH: usize = 32;
const REQUESTS: u64 = 8_000;
/// Clusters that the load goes to, spread over the volume.
const HOT: u64 = 256;
/// Clusters that are written beforehand, spread over the volume, if it has so many.
const WRITTEN: u64 = 50_000;
const ROUNDS: usize = 9;

/// What happens in the midst of the load.
#[derive(Clone, Copy)]
enum Event {
    Flush,
    Snapshot,
}

pub(crate) fn run(dir: &Path) -> Result<()> {
    for (name, size_bytes) in [("1 GiB", 1 << 30), ("16 TiB", 16 << 40)] {
        let file = Scratch::new(dir, "bench-store");
        measure(&format!("{name}, on disk"), file.device(STORE)?, size_bytes)?;
        measure(&format!("{name}, device of no time"), NullDevice::new(STORE, 4096), size_bytes)?;
    }
    Ok(())
}

fn measure<D: BlockDevice>(name: &str, device: D, size_bytes: u64) -> Result<()> {
    let mut store = Store::init(device, &options(CLUSTER, 4096), &opening())?;
    let lvol = create(&mut store, "lvol", size_bytes)?;
    prepare(&mut store, lvol, size_bytes)?;
    let (mut flushes, mut snapshots) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        flushes.push(longest(&mut store, lvol, size_bytes, round, Event::Flush)?);
        snapshots.push(longest(&mut store, lvol, size_bytes, round, Event::Snapshot)?);
    }
    let (flush, snapshot) = (median(flushes), median(snapshots));
    println!(
        "  volume of {name}: longest write beside a snapshot {:.3} ms, beside a flush {:.3} ms, beyond it {:.3} ms \
         (target 1 ms, equal)",
        milliseconds(snapshot),
        milliseconds(flush),
        milliseconds(snapshot.saturating_sub(flush)),
    );
    Ok(())
}

/// A block in each of many clusters, and in each that the load goes to.
fn prepare<D: BlockDevice>(store: &mut Store<D>, lvol: BlobId, size_bytes: u64) -> Result<()> {
    let clusters = size_bytes / u64::from(CLUSTER);
    for count in [HOT, WRITTEN.min(clusters)] {
        let step = clusters / count;
        let load = Load { depth: DEPTH, requests: count, flush_every: Some(10_000) };
        load.run(store, |number, data| {
            let offset = number * step * u64::from(CLUSTER);
            IoRequest::Write { lvol, offset, data, fua: false }
        })?;
    }
    store.flush()?;
    Ok(())
}

/// The longest time from the submission of a write to its reply.
fn longest<D: BlockDevice>(
    store: &mut Store<D>,
    lvol: BlobId,
    size_bytes: u64,
    round: usize,
    event: Event,
) -> Result<Duration> {
    let step = size_bytes / HOT;
    let mut random = Random(round as u64);
    let mut buffers: Vec<Buffer> = (0..DEPTH).map(|_| Buffer::zeroed(4096)).collect();
    let mut started: BTreeMap<Ticket, Instant> = BTreeMap::new();
    let (mut submitted, mut done, mut longest) = (0, 0, Duration::ZERO);
    let mut replies = Vec::new();
    // The event is answered, too.
    while done < REQUESTS + 1 {
        while submitted < REQUESTS
            && let Some(data) = buffers.pop()
        {
            let block = random.below(u64::from(CLUSTER) / BLOCK);
            let offset = random.below(HOT) * step + block * BLOCK;
            let now = Instant::now();
            started.insert(store.submit(IoRequest::Write { lvol, offset, data, fua: false }), now);
            submitted += 1;
            if submitted == REQUESTS / 2 {
                match event {
                    Event::Flush => store.submit(IoRequest::Flush),
                    Event::Snapshot => {
                        let items = vec![(lvol, identity(&format!("s{round}")))];
                        store.start(Verb::Snapshot { items })
                    }
                };
            }
        }
        store.wait(&mut replies);
        let now = Instant::now();
        for (ticket, reply) in replies.drain(..) {
            done += 1;
            if let Some(start) = started.remove(&ticket) {
                longest = longest.max(now - start);
            }
            if let Reply::Buffer(buffer) = reply? {
                buffers.push(buffer);
            }
        }
    }
    Ok(longest)
}
