//! Verbs that move data: whatever a family of lvols is made of, everybody reads the same before, meanwhile and afterwards;
//! the lvol has become what was asked for, by another reading of the format too; and a replay ends as life did.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "moves/breaks.rs"]
mod breaks;
#[path = "moves/decouple.rs"]
mod decouple;
#[path = "moves/inflate.rs"]
mod inflate;
#[path = "common/jobs.rs"]
mod jobs;
#[path = "common/lvols.rs"]
mod lvols;
#[path = "moves/merge.rs"]
mod merge;
#[path = "common/plain_checker.rs"]
mod plain_checker;
#[path = "common/shuffled.rs"]
mod shuffled;
#[path = "crash/tape.rs"]
mod tape;
#[path = "moves/together.rs"]
mod together;

use jobs::{BLOCK, CLUSTER, Contents, contents, reopened, write, zero};
use lvols::{Lvols as _, assert_owned_once, options, pattern, writable};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_store::{Error, InitOptions, Store, Work};
use plain_checker::PlainStore;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

fn new_store(cluster_size: u32, device_bytes: u64, native: bool) -> Store<MemDevice> {
    let init = InitOptions { journal_bytes: Some(1 << 20), ..options(cluster_size, 512, native) };
    Store::init(MemDevice::new(device_bytes, 512), &init, &writable()).unwrap()
}

fn parent<D: BlockDevice>(store: &Store<D>, name: &str) -> Option<String> {
    let state = store.state();
    let parent = state.blob(store.id(name)).unwrap().parent;
    parent.map(|parent| state.blob(parent).unwrap().display_name())
}

/// Own clusters and parent of each lvol, and how many clusters are free.
type Shape = (BTreeMap<String, (u64, Option<String>)>, u64);

fn shape<D: BlockDevice>(store: &Store<D>) -> Shape {
    let names = store.state().lvols().map(|lvol| lvol.display_name());
    let shapes = names.map(|name| (name.clone(), (store.own_clusters(&name), parent(store, &name))));
    (shapes.collect(), store.free())
}

fn run<D: BlockDevice>(store: &mut Store<D>, work: Work) -> Result<(), Error> {
    store.run_job(work, |_| ControlFlow::Continue(()))
}

/// Lets everything happen that a request has left to be done behind it.
fn settle<D: BlockDevice>(store: &mut Store<D>) {
    for _ in 0..3 {
        (0..20).for_each(|_| store.poll(&mut Vec::new()));
        store.flush().unwrap();
    }
}

/// A base of four full clusters; over it a snapshot that holds a cluster and a block and zeroes a cluster; and two
/// clones of that. Beside it an lvol over a snapshot of its own.
fn family<D: BlockDevice>(store: &mut Store<D>) {
    for name in ["disk", "far"] {
        store.create(name, 8 * CLUSTER, false).unwrap();
        write(store, name, 0, 4 * CLUSTER, name.as_bytes()[0]);
    }
    store.snapshot("disk", "base").unwrap();
    write(store, "disk", CLUSTER, CLUSTER, 2);
    write(store, "disk", 2 * CLUSTER + BLOCK, BLOCK, 3);
    zero(store, "disk", 3 * CLUSTER, CLUSTER);
    write(store, "disk", 5 * CLUSTER, BLOCK, 4);
    store.snapshot("disk", "snap").unwrap();
    store.clone_of("snap", "clone").unwrap();
    store.snapshot("far", "lonely").unwrap();
}

/// A test of a family that was prepared: with native states and without, opened again and not.
fn in_every_way(name: &str, prepare: fn(&mut Store<MemDevice>), test: impl Fn(Store<MemDevice>, bool, &str)) {
    for (native, reopen) in [(true, false), (true, true), (false, false), (false, true)] {
        let what = format!("{name}, native: {native}, reopened: {reopen}");
        let mut store = new_store(16_384, 24 << 20, native);
        family(&mut store);
        prepare(&mut store);
        store.flush().unwrap();
        if reopen {
            store = reopened(store.close().0);
        }
        settle(&mut store);
        test(store, native, &what);
    }
}

/// Everything is sound and reads as before, now and after a replay, a close, and sealing.
fn assert_same(mut store: Store<MemDevice>, expected: &Contents, what: &str) {
    settle(&mut store);
    assert!(contents(&mut store) == *expected, "{what}: it reads something else");
    assert_eq!(store.state().audit(), &[], "{what}");
    assert_owned_once(&store);
    let mut replayed = reopened(store.device().clone());
    assert!(contents(&mut replayed) == *expected, "{what}: a replay reads something else");
    settle(&mut replayed);
    assert_eq!(shape(&replayed), shape(&store), "{what}: a replay ends otherwise");
    let (device, closed) = store.close();
    closed.unwrap();
    let mut store = reopened(device);
    assert!(contents(&mut store) == *expected, "{what}: reopened it reads something else");
    run(&mut store, Work::Seal).unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    let read_at = |offset, bytes: &mut [u8]| device.read_at(offset, bytes);
    let plain = PlainStore::read(&read_at);
    assert_eq!((plain.version, &plain.problems), (3, &Vec::new()), "{what}");
    let found = plain.lvols().map(|lvol| (lvol.name(), plain.content(&read_at, lvol)));
    assert!(found.collect::<Contents>() == *expected, "{what}: sealed it reads something else");
}
