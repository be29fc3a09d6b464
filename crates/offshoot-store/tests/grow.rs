//! Growing: a store takes over the size that its device has by now, at rest and while it is in use.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "grow/cuts.rs"]
mod cuts;
#[path = "common/jobs.rs"]
mod jobs;
#[path = "common/lvols.rs"]
mod lvols;
#[path = "grow/md.rs"]
mod md;
#[path = "common/plain_checker.rs"]
mod plain_checker;
#[path = "common/plain_maker.rs"]
mod plain_maker;
#[path = "common/shuffled.rs"]
mod shuffled;
#[path = "crash/tape.rs"]
mod tape;

use lvols::{Lvols as _, assert_owned_once, options, pattern, writable};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_format::SuperBlock;
use offshoot_store::{Error, InitOptions, IoRequest, LoadError, Store};
use plain_checker::PlainStore;

const CLUSTER: u64 = 16_384;
const SMALL: u64 = 4 << 20;
const LARGE: u64 = 9 << 20;

/// A store of [`SMALL`] bytes.
fn small(native: bool) -> Store<MemDevice> {
    let init = InitOptions { journal_bytes: Some(256 << 10), ..options(16_384, 512, native) };
    let mut store = Store::init(MemDevice::new(SMALL, 512), &init, &writable()).unwrap();
    for (name, thick) in [("disk", false), ("thick", true)] {
        let id = store.create(name, 3 * CLUSTER, thick).unwrap();
        store.write(id, 0, pattern(2 * CLUSTER, name.as_bytes()[3])).unwrap();
    }
    store.snapshot("disk", "snap").unwrap();
    store
}

fn closed<D: BlockDevice>(store: Store<D>) -> D {
    let (device, result) = store.close();
    result.unwrap();
    device
}

fn opened<D: BlockDevice>(device: D) -> Store<D> {
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.state().audit(), &[]);
    assert_owned_once(&store);
    store
}

fn clusters<D: BlockDevice>(store: &Store<D>) -> (u64, u64) {
    (u64::from(store.state().layout.total_clusters), store.free())
}

/// What SPDK finds in a store at rest.
fn plain(device: &MemDevice) -> PlainStore {
    let plain = PlainStore::read(&|offset, bytes| device.read_at(offset, bytes));
    assert_eq!(plain.problems, [""; 0]);
    plain
}

fn super_block(device: &MemDevice) -> SuperBlock {
    let mut bytes = [0; 4096];
    device.read_at(0, &mut bytes);
    SuperBlock::decode(&bytes).unwrap()
}

/// Fills every cluster of a new lvol, as many as there are, and reads them back.
fn fill<D: BlockDevice>(store: &mut Store<D>, name: &str) {
    let free = store.free();
    let id = store.create(name, (free + 1) * CLUSTER, false).unwrap();
    for at in 0..free {
        store.write(id, at * CLUSTER, pattern(CLUSTER, u8::try_from(at % 15).unwrap())).unwrap();
    }
    let beyond = store.write(id, free * CLUSTER, pattern(CLUSTER, 1)).map(drop);
    assert_eq!(beyond, Err(Error::NoClusters { needed: 1, free: 0 }));
    for at in 0..free {
        let read = store.read(id, at * CLUSTER, usize::try_from(CLUSTER).unwrap()).unwrap();
        assert!(read.as_slice() == pattern(CLUSTER, u8::try_from(at % 15).unwrap()).as_slice(), "{at}");
    }
}

#[test]
fn a_store_in_use_takes_what_its_device_has() {
    for native in [true, false] {
        let mut store = small(native);
        let (total, free) = clusters(&store);
        let before = ["disk", "thick", "snap"].map(|name| store.content(name));
        store.device_mut().resize(LARGE);
        store.grow().unwrap();
        assert_eq!(store.super_block().size_bytes, LARGE);
        let more = (LARGE - SMALL) / CLUSTER;
        assert_eq!(clusters(&store), (total + more, free + more));
        assert_eq!(["disk", "thick", "snap"].map(|name| store.content(name)), before);
        fill(&mut store, "full");
        assert_owned_once(&store);
        let mut store = opened(closed(store));
        assert_eq!(clusters(&store), (total + more, 0));
        assert_eq!(["disk", "thick", "snap"].map(|name| store.content(name)), before);
    }
}

#[test]
fn a_store_at_rest_grows_and_is_spdks_again() {
    for native in [true, false] {
        let device = closed(small(native));
        let before = (super_block(&device), plain(&device));
        let mut store = opened(device);
        store.device_mut().resize(LARGE);
        store.grow().unwrap();
        let device = closed(store);
        // As SPDK's own grow leaves it: size and length of the cluster mask, and nothing else.
        let after = super_block(&device);
        let mut expected = before.0;
        expected.size_bytes = LARGE;
        assert_eq!(after, expected);
        let plain = plain(&device);
        assert_eq!(u64::from(plain.total_clusters), LARGE / CLUSTER);
        assert_eq!(plain.free_clusters, before.1.free_clusters + (LARGE - SMALL) / CLUSTER);
    }
}

#[test]
fn the_mask_grows_with_the_store() {
    let init = InitOptions { journal_bytes: Some(64 << 10), ..options(16_384, 512, true) };
    let mut store = Store::init(MemDevice::new(8 << 20, 512), &init, &writable()).unwrap();
    let layout = store.state().layout.clone();
    assert_eq!(layout.used_cluster_mask.len, 1);
    let max = layout.growable_bytes();
    assert!(max >= 64 * (8 << 20), "{max}");
    store.device_mut().resize(max + CLUSTER);
    let beyond = Err(Error::StoreTooLarge { size: max + CLUSTER, max });
    assert_eq!(store.engine().work_cost(store.growth()).map(drop), beyond);
    assert_eq!((store.grow(), &store.state().layout), (beyond, &layout));
    store.device_mut().resize(max);
    store.grow().unwrap();
    let id = store.create("l", max, false).unwrap();
    store.write(id, 0, pattern(4096, 1)).unwrap();
    let store = opened(closed(store));
    let grown = &store.state().layout;
    assert_eq!(u64::from(grown.total_clusters), max / CLUSTER);
    assert_eq!(grown.used_cluster_mask.len, layout.cluster_mask_room());
    assert_eq!(grown.used_cluster_mask.start, layout.used_cluster_mask.start);
}

#[test]
fn what_makes_no_cluster_counts_as_size() {
    let mut store = small(true);
    let free = store.free();
    for (size, bytes) in [(SMALL, SMALL), (SMALL + CLUSTER - 512, SMALL + CLUSTER - 512)] {
        store.device_mut().resize(size);
        store.grow().unwrap();
        assert_eq!((store.super_block().size_bytes, store.free()), (bytes, free));
    }
    store.device_mut().resize(SMALL + CLUSTER);
    store.grow().unwrap();
    assert_eq!(store.free(), free + 1);
}

#[test]
fn a_store_does_not_shrink() {
    let mut store = small(true);
    store.device_mut().resize(SMALL + CLUSTER);
    store.grow().unwrap();
    let layout = store.state().layout.clone();
    store.device_mut().resize(SMALL);
    assert_eq!(store.grow(), Err(Error::StoreShrinks { size: SMALL, present: SMALL + CLUSTER }));
    assert_eq!(store.state().layout, layout);
    store.device_mut().resize(SMALL + CLUSTER);
    let mut device = closed(store);
    device.resize(SMALL);
    let refused = Store::open(device, Vec::new(), &writable()).map(drop);
    assert!(
        matches!(refused, Err(LoadError::Truncated { store, device: SMALL }) if store == SMALL + CLUSTER)
    );
}

/// Requests that are under way, and those that come while the store grows, are served. What waits for space gets it.
#[test]
fn what_is_under_way_goes_on() {
    let mut store = small(true);
    let id = store.id("disk");
    store.create("full", SMALL, false).unwrap();
    let full = store.id("full");
    for at in 0..store.free() {
        store.write(full, at * CLUSTER, pattern(CLUSTER, 3)).unwrap();
    }
    let write = |lvol, offset, seed| IoRequest::Write { lvol, offset, data: pattern(4096, seed), fua: false };
    store.remove("thick").unwrap();
    let mut tickets = vec![store.submit(write(id, 0, 1))];
    store.device_mut().resize(LARGE);
    let grow = store.start_job(store.growth(), None);
    assert_eq!(store.state().layout.size_bytes, SMALL, "not at once");
    let again = store.start_job(store.growth(), None);
    tickets.extend([store.submit(write(id, CLUSTER, 2)), store.submit(write(full, SMALL - 4096, 4))]);
    tickets.push(grow);
    let mut replies = Vec::new();
    while replies.len() < tickets.len() + 1 {
        store.wait(&mut replies);
    }
    for (ticket, result) in replies {
        match ticket == again {
            true => assert_eq!(result.map(drop), Err(Error::JobRunning)),
            false => assert_eq!((tickets.contains(&ticket), result.map(drop)), (true, Ok(()))),
        }
    }
    assert_eq!(store.state().layout.size_bytes, LARGE);
    let mut store = opened(closed(store));
    assert_eq!(store.content("disk")[..4096], *pattern(4096, 1).as_slice());
    assert_eq!(store.content("disk")[16_384..20_480], *pattern(4096, 2).as_slice());
}

#[test]
fn a_store_that_is_damaged_or_takes_no_writes_does_not_grow() {
    let device = closed(small(true));
    let mut read_only = device.clone();
    read_only.resize(LARGE);
    let mut store =
        Store::open(read_only, Vec::new(), &offshoot_store::OpenOptions::read_only(None)).unwrap();
    assert!(matches!(store.grow(), Err(Error::ReadOnlyStore(_))));

    let root = {
        let store = opened(device.clone());
        store.state().layout.md_page_offset(store.id("snap").root())
    };
    let mut damaged = device;
    damaged.write_at(root + 100, &[0xff; 8]);
    damaged.resize(LARGE);
    let mut store = Store::open(damaged, Vec::new(), &writable()).unwrap();
    assert!(!store.findings().is_empty());
    assert!(matches!(store.grow(), Err(Error::Damaged(_))));
    assert_eq!(store.state().layout.size_bytes, SMALL);
}
