//! What it takes until a verb is answered, on volumes of 1 GiB to 16 TiB that are mapped from end to end, on a device in
//! memory: processor time alone, which must not grow with the volume.
//!
//! Each measurement is of a store of its own, opened from a copy of the same device outside of the measured time.

#![allow(missing_docs, reason = "criterion's macros make functions")]

use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main,
    measurement::WallTime,
};
use offshoot_device::MemDevice;
use offshoot_format::BlobId;
use offshoot_store::{
    ClearMethod, CreateOptions, Identity, InitOptions, OpenOptions, Session, Store, Underlay, Verb,
};
use std::time::Duration;
use uuid::Uuid;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Size of each lvol, and of a cluster. What an lvol of 256 KiB clusters has in metadata at 1 TiB, one of 4 MiB
/// clusters has at 16 TiB.
const SUBJECTS: [(u64, u64); 7] = [
    (GIB, 4 * MIB),
    (64 * GIB, 4 * MIB),
    (TIB, 4 * MIB),
    (16 * TIB, 4 * MIB),
    (GIB, 256 * KIB),
    (64 * GIB, 256 * KIB),
    (TIB, 256 * KIB),
];

/// Clusters whose map is one extent page, and one leaf of a tree.
const CLUSTERS_PER_LEAF: u64 = 512;

/// A verb, on the lvols of [`prepared`].
type Case = (&'static str, fn(&Lvols) -> Verb);

const CASES: [Case; 7] = [
    ("snapshot", |lvols| Verb::Snapshot { items: vec![(lvols.full, identity("snap"))] }),
    ("clone", |lvols| Verb::Clone { parent: lvols.golden, identity: identity("new") }),
    ("rm --deferred", |lvols| Verb::RemoveDeferred { lvol: lvols.golden }),
    ("rm", |lvols| Verb::Remove { lvol: lvols.full }),
    ("revert", |lvols| Verb::Revert { lvol: lvols.disk, snapshot: lvols.golden }),
    ("decouple --zero, idle", |lvols| Verb::SetParent { lvol: lvols.idle, underlay: Underlay::Nothing }),
    ("decouple --zero", |lvols| Verb::SetParent { lvol: lvols.disk, underlay: Underlay::Nothing }),
];

#[derive(Clone, Copy)]
struct Lvols {
    /// Owns every cluster of its own.
    full: BlobId,
    /// A snapshot that owns every cluster of its own, with two clones.
    golden: BlobId,
    /// One of the clones. It has something of its own in each leaf, so that it shares none with the snapshot.
    disk: BlobId,
    /// The other one. It owns nothing.
    idle: BlobId,
}

fn identity(name: &str) -> Identity {
    Identity { name: name.into(), uuid: Uuid::nil(), created: 0 }
}

fn opening() -> OpenOptions {
    OpenOptions::writable([1; 16], Some(Session { boot_id: [1; 16], device_generation: 1 }))
}

fn execute(store: &mut Store<MemDevice>, verb: Verb) -> Vec<BlobId> {
    store.execute(verb).unwrap_or_else(|error| panic!("{error}"))
}

/// A session in which something has been changed already: before the first change the masks are written, which is as much
/// work as the store is large, and belongs to the opening.
fn opened(device: &MemDevice) -> Store<MemDevice> {
    let store = Store::open(device.clone(), Vec::new(), &opening());
    let mut store = store.unwrap_or_else(|error| panic!("{error}"));
    let options = CreateOptions::provisioned(false);
    execute(&mut store, Verb::Create { identity: identity("first"), size_bytes: 0, options });
    store
}

/// A store at rest with the lvols to measure.
fn prepared(size_bytes: u64, cluster: u64) -> (MemDevice, Lvols) {
    let cluster_size = u32::try_from(cluster).unwrap_or_else(|_| panic!("cluster of {cluster} bytes"));
    let init = InitOptions {
        journal_bytes: None,
        name: "bench".into(),
        uuid: Uuid::nil(),
        cluster_size,
        block_size: 4096,
        md_page_size: 4096,
        native: true,
        clear_method: ClearMethod::None,
    };
    let device = MemDevice::new(2 * size_bytes + size_bytes / 8 + GIB, 4096);
    let mut store = Store::init(device, &init, &opening()).unwrap_or_else(|error| panic!("{error}"));
    // Nothing is written to the clusters of a thick lvol that need not be cleared: only metadata takes memory.
    let options = CreateOptions { thick: true, reserve: false, clear_method: ClearMethod::None };
    let [full, disk] = ["full", "disk"]
        .map(|name| execute(&mut store, Verb::Create { identity: identity(name), size_bytes, options })[0]);
    let golden = execute(&mut store, Verb::Snapshot { items: vec![(disk, identity("golden"))] })[0];
    let idle = execute(&mut store, Verb::Clone { parent: golden, identity: identity("idle") })[0];
    let leaf = usize::try_from(CLUSTERS_PER_LEAF * cluster).unwrap_or(usize::MAX);
    for at in (0..size_bytes).step_by(leaf) {
        store.write_zeroes(disk, at..at + cluster).unwrap_or_else(|error| panic!("{error}"));
    }
    let (device, closed) = store.close();
    closed.unwrap_or_else(|error| panic!("{error}"));
    (device, Lvols { full, golden, disk, idle })
}

fn size(bytes: u64) -> String {
    match bytes {
        TIB.. => format!("{} TiB", bytes / TIB),
        GIB.. => format!("{} GiB", bytes / GIB),
        MIB.. => format!("{} MiB", bytes / MIB),
        _ => format!("{} KiB", bytes / KIB),
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, subject: &str, device: &MemDevice, lvols: &Lvols) {
    for (name, verb) in CASES {
        group.bench_function(BenchmarkId::new(name, subject), |bencher| {
            // What the verb leaves to be done behind the answer goes with the store.
            let run = |store: &mut Store<MemDevice>| execute(store, verb(lvols));
            bencher.iter_batched_ref(|| opened(device), run, BatchSize::PerIteration);
        });
    }
}

fn verbs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verbs");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    for (size_bytes, cluster) in SUBJECTS {
        let (device, lvols) = prepared(size_bytes, cluster);
        let subject = format!("{} in clusters of {}", size(size_bytes), size(cluster));
        measure(&mut group, &subject, &device, &lvols);
    }
    group.finish();
}

criterion_group!(benches, verbs);
criterion_main!(benches);
