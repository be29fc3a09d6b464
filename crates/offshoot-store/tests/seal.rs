//! Sealing: whatever native state a store is in, what is left is SPDK's, by another reading of its format, with the
//! same lvols and bytes; also when life goes on meanwhile, and whenever it is broken off.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "seal/breaks.rs"]
mod breaks;
#[path = "common/jobs.rs"]
mod jobs;
#[path = "seal/life.rs"]
mod life;
#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;
#[path = "common/shuffled.rs"]
mod shuffled;
#[path = "crash/tape.rs"]
mod tape;

use jobs::{BLOCK, CLUSTER, Contents, contents, reopened, write, zero};
use lvols::{Lvols as _, assert_owned_once, options, pattern, writable};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_store::{Error, InitOptions, Progress, Store, Work};
use plain_checker::{PlainStore, checksum};
use std::ops::ControlFlow;

fn new_store(cluster_size: u32, device_bytes: u64) -> Store<MemDevice> {
    let init = InitOptions { journal_bytes: Some(1 << 20), ..options(cluster_size, 512, true) };
    Store::init(MemDevice::new(device_bytes, 512), &init, &writable()).unwrap()
}

fn seal<D: BlockDevice>(store: &mut Store<D>) -> Result<(), Error> {
    store.run_job(Work::Seal, |_| ControlFlow::Continue(()))
}

/// What lies on a device is a plain SPDK store of these lvols, and nothing of ours is left anywhere.
fn assert_plain(device: &MemDevice, expected: &Contents) {
    assert_sound(device, expected, &[b"OFFSHOOT", b"OSJFRAME", b"OSLVMASK"]);
}

/// The same, but for live masks: a crash behind the last step but one of closing leaves them in free md pages, where
/// nobody takes them for anything.
fn assert_plain_after_crash(device: &MemDevice, expected: &Contents) {
    assert_sound(device, expected, &[b"OFFSHOOT", b"OSJFRAME"]);
}

fn assert_sound(device: &MemDevice, expected: &Contents, gone: &[&[u8; 8]]) {
    let read_at = |offset, bytes: &mut [u8]| device.read_at(offset, bytes);
    let plain = PlainStore::read(&read_at);
    assert_eq!((plain.version, &plain.problems), (3, &Vec::new()));
    let found = plain.lvols().map(|lvol| (lvol.name(), plain.content(&read_at, lvol)));
    assert!(found.collect::<Contents>() == *expected, "sealing changed what is read");
    assert_no_leftovers(device, &plain, gone);
}

/// Wherever SPDK's recovery may look, now or after the store has grown, it finds no blob but those that there are; and
/// no frame, live mask or header of ours stands anywhere.
fn assert_no_leftovers(device: &MemDevice, plain: &PlainStore, gone: &[&[u8; 8]]) {
    let image = device.content();
    let first = u64::from(plain.md_start) * plain.md_page_size;
    for at in (0..image.len()).step_by(512) {
        let magic = &image[at..at + 8];
        for ours in gone {
            assert!(magic != *ours, "{} at {at:#x}", String::from_utf8_lossy(&ours[..]));
        }
    }
    for (page, number) in image[usize::try_from(first).unwrap()..].chunks_exact(4096).zip(0_u64..) {
        let id = u64::from_le_bytes(page[..8].try_into().unwrap());
        let stored = u32::from_le_bytes(page[4092..].try_into().unwrap());
        let is_root = id == 0x1_0000_0000 | number && page[8..12] == [0; 4];
        if is_root && stored == checksum(&page[..4092]) {
            assert!(plain.blobs.contains_key(&id), "md page {number} would come to life");
        }
    }
}

/// Seals, and looks at everything; then goes on with the store, and seals once more.
fn assert_seals(mut store: Store<MemDevice>) -> MemDevice {
    let expected = contents(&mut store);
    seal(&mut store).unwrap();
    assert_eq!(store.state().audit(), &[]);
    assert_owned_once(&store);
    assert!(contents(&mut store) == expected);
    let (device, closed) = store.close();
    closed.unwrap();
    assert_plain(&device, &expected);

    let mut store = reopened(device);
    assert!(contents(&mut store) == expected);
    assert!(store.state().native_allowed, "it is asked for again when the store is opened again");
    let writable: Vec<String> = {
        let lvols = store.state().lvols().filter(|lvol| !lvol.is_read_only() && lvol.len > 1);
        lvols.map(|lvol| lvol.display_name()).collect()
    };
    for name in &writable {
        write(&mut store, name, BLOCK + 512, 512, 14);
        zero(&mut store, name, CLUSTER, BLOCK);
    }
    let expected = contents(&mut store);
    let (device, closed) = store.close();
    closed.unwrap();
    let mut store = reopened(device);
    seal(&mut store).unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    assert_plain(&device, &expected);
    device
}

/// A store in one native state, what that takes to seal in clusters that are filled, new ones, and bytes.
type Case = (&'static str, fn(&mut Store<MemDevice>), (u64, u64, u64));

const CASES: &[Case] = &[
    ("nothing", |_| {}, (0, 0, 0)),
    ("a partial cluster", |store| write(store, "disk", 5 * CLUSTER + BLOCK, BLOCK, 1), (1, 0, 3 * BLOCK)),
    ("a partial cluster of a clone", |store| write(store, "clone", BLOCK, 2 * BLOCK, 1), (1, 0, 2 * BLOCK)),
    (
        "a partial cluster of a snapshot",
        |store| {
            write(store, "clone", BLOCK, BLOCK, 1);
            store.snapshot("clone", "second").unwrap();
            write(store, "clone", 2 * BLOCK, BLOCK, 2);
        },
        (2, 0, 6 * BLOCK),
    ),
    ("zeros that hide the parent", |store| zero(store, "clone", 0, 2 * CLUSTER), (2, 2, 2 * CLUSTER)),
    ("zeros and the parent", |store| zero(store, "clone", BLOCK, BLOCK), (1, 1, 4 * BLOCK)),
    (
        "zeros where there was data",
        |store| {
            write(store, "disk", 5 * CLUSTER, 2 * BLOCK, 1);
            zero(store, "disk", 5 * CLUSTER, BLOCK);
        },
        (1, 0, 3 * BLOCK),
    ),
    (
        "a layer over the full cluster of a snapshot that went",
        |store| {
            write(store, "far", 0, BLOCK, 1);
            zero(store, "far", BLOCK, BLOCK);
            store.remove("lonely").unwrap();
        },
        // What is copied is the smaller part.
        (1, 0, 2 * BLOCK),
    ),
    (
        "layers over layers",
        |store| {
            for number in 0..3 {
                write(store, "clone", number * BLOCK, BLOCK, 1);
                store.snapshot("clone", &format!("s{number}")).unwrap();
            }
            store.remove("s1").unwrap();
            store.remove("s2").unwrap();
        },
        // s0 of one block; the clone, of two that were two snapshots'.
        (2, 0, 6 * BLOCK),
    ),
    (
        "zeros below which nothing is left",
        |store| {
            store.create("thin", 4 * CLUSTER, false).unwrap();
            write(store, "thin", 0, CLUSTER, 1);
            store.snapshot("thin", "its").unwrap();
            zero(store, "thin", 0, CLUSTER);
            store.remove("its").unwrap();
        },
        (1, 0, 0),
    ),
    (
        "a tail that hides the parent",
        |store| {
            store.resize("clone", CLUSTER).unwrap();
            store.resize("clone", 8 * CLUSTER).unwrap();
        },
        (3, 3, 3 * CLUSTER),
    ),
    (
        "a tail that came to hide something when a snapshot went",
        |store| {
            store.resize("clone", CLUSTER).unwrap();
            store.snapshot("clone", "short").unwrap();
            store.resize("clone", 4 * CLUSTER).unwrap();
            store.remove("short").unwrap();
        },
        (3, 3, 3 * CLUSTER),
    ),
];

/// Four full clusters in a snapshot with two clones; and an lvol over a snapshot of its own.
fn family(store: &mut Store<MemDevice>) {
    for name in ["disk", "far"] {
        store.create(name, 8 * CLUSTER, false).unwrap();
        write(store, name, 0, 4 * CLUSTER, name.as_bytes()[0]);
    }
    store.snapshot("disk", "snap").unwrap();
    store.clone_of("snap", "clone").unwrap();
    store.snapshot("far", "lonely").unwrap();
}

#[test]
fn every_native_state() {
    for (name, prepare, (filled, clusters, bytes)) in CASES {
        for reopen in [false, true] {
            let mut store = new_store(16_384, 12 << 20);
            family(&mut store);
            prepare(&mut store);
            store.flush().unwrap();
            if reopen {
                store = reopened(store.close().0);
            }
            let cost = store.engine().seal_cost().unwrap();
            let found = (cost.filled, cost.clusters, cost.bytes);
            assert_eq!(found, (*filled, *clusters, *bytes), "{name}, reopened: {reopen}");
            let free = store.free();
            seal(&mut store).unwrap();
            assert!(store.free() + clusters >= free, "{name}: it took more than it said");
            assert_seals(store);
        }
    }
}

/// The end of a clone that has shrunk and grown over a snapshot that had: both hide what the oldest snapshot holds. The
/// clone gets clusters of its own as long as it is known that it inherits less than its snapshot has; metadata does not
/// say so, because there is nothing to hide yet.
#[test]
fn a_tail_of_a_snapshot_hidden_again() {
    for (reopen, clusters) in [(false, 5), (true, 3)] {
        let mut store = new_store(16_384, 12 << 20);
        family(&mut store);
        store.resize("clone", CLUSTER).unwrap();
        store.resize("clone", 4 * CLUSTER).unwrap();
        store.snapshot("clone", "short").unwrap();
        store.clone_of("short", "other").unwrap();
        store.resize("clone", 2 * CLUSTER).unwrap();
        store.resize("clone", 4 * CLUSTER).unwrap();
        if reopen {
            store = reopened(store.close().0);
        }
        let cost = store.engine().seal_cost().unwrap();
        assert_eq!((cost.filled, cost.clusters), (clusters, clusters), "reopened: {reopen}");
        assert_seals(store);
    }
}

/// A store of SPDK's making, or one whose native states are gone, takes nothing; it stays what it is.
#[test]
fn sealing_twice_is_sealing_once() {
    let mut store = new_store(16_384, 12 << 20);
    family(&mut store);
    write(&mut store, "clone", 0, 512, 1);
    let device = assert_seals(store);
    let mut store = reopened(device.clone());
    seal(&mut store).unwrap();
    let (again, closed) = store.close();
    closed.unwrap();
    assert!(again.content() == device.content());
}

/// Clusters beyond what is copied at once are filled part by part.
#[test]
fn large_clusters() {
    const LARGE: u64 = 4 << 20;
    let mut store = new_store(4 << 20, 160 << 20);
    store.create("disk", 3 * LARGE, false).unwrap();
    write(&mut store, "disk", 0, LARGE, 1);
    store.snapshot("disk", "snap").unwrap();
    for block in [0, 5, 255, 256, 700, 1023] {
        write(&mut store, "disk", block * BLOCK, BLOCK, 2);
    }
    zero(&mut store, "disk", 300 * BLOCK, 500 * BLOCK);
    write(&mut store, "disk", LARGE, 3 * BLOCK, 3);
    zero(&mut store, "disk", 2 * LARGE, LARGE);
    let cost = store.engine().seal_cost().unwrap();
    assert_eq!((cost.filled, cost.clusters), (2, 0));
    let mut seen = Vec::new();
    store
        .run_job(Work::Seal, |progress: Progress| {
            seen.push(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(seen.is_sorted_by_key(|progress| progress.bytes_done));
    let last = seen.last().unwrap();
    assert_eq!((last.bytes_done, last.clusters_done), (cost.bytes, 2));
    let expected = contents(&mut store);
    let (device, closed) = store.close();
    closed.unwrap();
    assert_plain(&device, &expected);
}

/// What it takes is kept before anything is done, or it is refused with the numbers; what is kept is nobody else's.
#[test]
fn space_is_kept_or_refused() {
    let prepared = || {
        let mut store = new_store(16_384, 12 << 20);
        family(&mut store);
        zero(&mut store, "clone", 0, 3 * CLUSTER);
        store
    };
    let mut store = prepared();
    let free = store.free();
    store.create("all", (free - 2) * CLUSTER, true).unwrap();
    assert_eq!(seal(&mut store), Err(Error::NoClusters { needed: 3, free: 2 }));
    assert!(store.state().native_allowed);
    store.resize("all", (free - 3) * CLUSTER).unwrap();
    settle(&mut store);

    let job = store.start_job(Work::Seal, Some(0));
    let lvol = store.id("disk");
    let full = store.write(lvol, 5 * CLUSTER, pattern(BLOCK, 1));
    assert_eq!(full.unwrap_err(), Error::NoClusters { needed: 1, free: 0 });
    store.cancel(job);
    assert_eq!(store.wait_for(job).unwrap_err(), Error::Cancelled);
    assert!(store.state().native_allowed);
    store.write(lvol, 5 * CLUSTER, pattern(BLOCK, 1)).unwrap();
    store.unmap(lvol, 5 * CLUSTER..6 * CLUSTER).unwrap();
    assert_seals_with(store, 0);

    // The same when nothing is free but what has just been freed.
    let mut store = prepared();
    store.create("all", free * CLUSTER, true).unwrap();
    store.remove("all").unwrap();
    seal(&mut store).unwrap();
}

fn assert_seals_with(mut store: Store<MemDevice>, free: u64) {
    let expected = contents(&mut store);
    seal(&mut store).unwrap();
    assert_eq!(store.free(), free);
    let (device, closed) = store.close();
    closed.unwrap();
    assert_plain(&device, &expected);
}

fn settle<D: BlockDevice>(store: &mut Store<D>) {
    (0..50).for_each(|_| store.poll(&mut Vec::new()));
}

/// A job copies no more than its caller allows, but for the cluster that it has begun.
#[test]
fn a_job_keeps_its_pace() {
    let mut store = new_store(16_384, 12 << 20);
    family(&mut store);
    for cluster in 0..8 {
        write(&mut store, "clone", cluster * CLUSTER, BLOCK, 1);
    }
    let job = store.start_job(Work::Seal, Some(1));
    settle(&mut store);
    let done = |store: &Store<MemDevice>| store.engine().progress(job).map(|progress| progress.clusters_done);
    assert_eq!(done(&store), Some(1));
    assert!(!store.engine().is_busy(), "a job that may not go on keeps nobody awake");
    store.allow(job, Some(2 * CLUSTER));
    settle(&mut store);
    assert_eq!(done(&store), Some(3));
    // What is not used is not saved up: a client that pauses must not be met by a flood afterwards.
    store.allow(job, Some(64 * CLUSTER));
    store.allow(job, Some(0));
    settle(&mut store);
    assert_eq!(done(&store), Some(3));
    store.allow(job, None);
    store.wait_for(job).unwrap();
    assert_eq!(done(&store), None);
}

/// What is in a cluster already is not paid for: a few missing blocks in large clusters cost what they are.
#[test]
fn a_job_pays_for_what_it_copies() {
    const LARGE: u64 = 4 << 20;
    let mut store = new_store(4 << 20, 64 << 20);
    store.create("disk", 3 * LARGE, false).unwrap();
    for cluster in 0..3 {
        write(&mut store, "disk", cluster * LARGE, LARGE - BLOCK, 1);
    }
    let cost = store.engine().work_cost(Work::Seal).unwrap();
    assert_eq!(cost.bytes, 3 * BLOCK);
    // One byte more, for what has nothing to copy any more.
    let job = store.start_job(Work::Seal, Some(cost.bytes + 1));
    let mut replies = Vec::new();
    (0..1000).for_each(|_| store.poll(&mut replies));
    assert!(matches!(&replies[..], [(ticket, Ok(_))] if *ticket == job), "{replies:?}");
}
