//! Reservations: an overwrite of an lvol that has one never meets ENOSPC, whatever others do.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, device_bytes, named, options, pattern, writable};
use offshoot_device::MemDevice;
use offshoot_store::{CreateOptions, Error, Store, Verb};

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const CLUSTERS: u64 = 40;

type Plain = Store<MemDevice>;

fn store(native: bool) -> Plain {
    let options = options(16_384, 512, native);
    Store::init(MemDevice::new(device_bytes(&options, CLUSTERS), 512), &options, &writable()).unwrap()
}

fn reopen(store: Plain) -> Plain {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    store
}

fn create(store: &mut Plain, name: &str, clusters: u64, thick: bool) -> Result<(), Error> {
    let options = CreateOptions { thick, reserve: true, ..CreateOptions::default() };
    store.run(Verb::Create { identity: named(name), size_bytes: clusters * CLUSTER, options }).map(drop)
}

/// Writes a block in each of some clusters. Says how many took it.
fn write(store: &mut Plain, name: &str, clusters: std::ops::Range<u64>, seed: u8) -> u64 {
    let id = store.id(name);
    let mut done = 0;
    for at in clusters {
        match store.write(id, at * CLUSTER + BLOCK, pattern(BLOCK, seed)) {
            Ok(_) => done += 1,
            Err(error) => assert!(matches!(error, Error::NoClusters { .. }), "{error}"),
        }
    }
    done
}

fn reserved(store: &Plain) -> u64 {
    store.state().space().reserved
}

#[test]
fn what_is_promised_is_nobody_elses() {
    for native in [true, false] {
        let mut store = store(native);
        create(&mut store, "kept", 10, false).unwrap();
        store.create("other", 60 * CLUSTER, false).unwrap();
        assert_eq!((reserved(&store), store.free()), (10, CLUSTERS));
        assert_eq!(write(&mut store, "other", 0..60, 1), CLUSTERS - 10);
        assert!(matches!(
            store.create("thick", CLUSTER, true),
            Err(Error::NoClusters { needed: 1, free: 0 })
        ));
        store = reopen(store);
        assert_eq!(write(&mut store, "other", 50..60, 2), 0);
        assert_eq!(write(&mut store, "kept", 0..10, 3), 10);
        assert_eq!((reserved(&store), store.free()), (0, 0));
        assert_eq!(write(&mut store, "kept", 0..10, 4), 10, "in place");
    }
}

#[test]
fn a_snapshot_takes_as_much_again_or_is_refused() {
    for thick in [true, false] {
        let mut store = store(true);
        create(&mut store, "kept", 12, thick).unwrap();
        assert_eq!(write(&mut store, "kept", 0..12, 1), 12);
        assert_eq!(reserved(&store), 0);
        store.snapshot("kept", "s1").unwrap();
        store.create("other", 60 * CLUSTER, false).unwrap();
        assert_eq!((reserved(&store), write(&mut store, "other", 0..20, 1)), (12, 16));
        assert_eq!(write(&mut store, "kept", 0..7, 2), 7);
        assert_eq!(reserved(&store), 5);
        // What was written since would have to be written once more.
        assert_eq!(
            store.snapshot("kept", "s2"),
            Err(Error::NoClusters { needed: 7, free: 0 }),
            "thick: {thick}"
        );
        store = reopen(store);
        assert_eq!(reserved(&store), 5);
        assert_eq!(write(&mut store, "kept", 0..12, 3), 12);
        // The clusters come back to it, whose first owner is gone.
        let id = store.id("kept");
        store.remove("s1").unwrap();
        store.write_zeroes(id, 0..3 * CLUSTER).unwrap();
        store.flush().unwrap();
        assert_eq!(reserved(&store), 3, "thick: {thick}");
        let free = store.free();
        assert_eq!(write(&mut store, "other", 20..60, 1), free - 3);
        assert_eq!(write(&mut store, "kept", 0..12, 4), 12);
        reopen(store);
    }
}

#[test]
fn sizes_reverts_and_the_end_of_it() {
    let mut store = store(true);
    create(&mut store, "kept", 10, false).unwrap();
    let id = store.id("kept");
    write(&mut store, "kept", 0..4, 1);
    store.resize("kept", 30 * CLUSTER).unwrap();
    assert_eq!(reserved(&store), 26);
    assert_eq!(store.resize("kept", 41 * CLUSTER), Err(Error::NoClusters { needed: 11, free: 10 }));
    store.resize("kept", 8 * CLUSTER).unwrap();
    assert_eq!(reserved(&store), 4);
    let snapshot = store.snapshot("kept", "s").unwrap();
    assert_eq!(reserved(&store), 8);
    write(&mut store, "kept", 0..8, 2);
    assert_eq!(reserved(&store), 0);
    store.run(Verb::Revert { lvol: id, snapshot }).unwrap();
    assert_eq!(reserved(&store), 8);
    // A clone has none of its own, and nothing is promised to what cannot be written.
    store.clone_of("s", "c").unwrap();
    assert_eq!(reserved(&store), 8);
    store.run(Verb::SetReadOnly { lvol: id }).unwrap();
    assert_eq!(reserved(&store), 0);
    create(&mut store, "more", 6, false).unwrap();
    assert_eq!(reserved(&store), 6);
    store.remove("more").unwrap();
    assert_eq!(reserved(&store), 0);
    reopen(store);
}

#[test]
fn md_pages_are_kept_as_well() {
    let options = options(16_384, 512, true);
    let mut store = Store::init(MemDevice::new(64 << 20, 512), &options, &writable()).unwrap();
    create(&mut store, "kept", 2000, false).unwrap();
    let mut number = 0;
    while store.create(&format!("f{number}"), 0, false).is_ok() {
        number += 1;
    }
    assert!(matches!(store.create("one more", 0, false), Err(Error::NoMdPages { .. })));
    assert_eq!(write(&mut store, "kept", 0..2000, 1), 2000);
    let store = reopen(store);
    assert_eq!(store.own_clusters("kept"), 2000);
}

#[test]
fn more_than_there_is_cannot_be_promised() {
    let mut store = store(true);
    assert_eq!(create(&mut store, "kept", 41, false), Err(Error::NoClusters { needed: 41, free: 40 }));
    create(&mut store, "kept", 40, false).unwrap();
    assert_eq!(create(&mut store, "more", 1, false), Err(Error::NoClusters { needed: 1, free: 0 }));
    assert_eq!(create(&mut store, "more", 1, true), Err(Error::NoClusters { needed: 1, free: 0 }));
    assert_eq!(write(&mut store, "kept", 0..40, 1), 40);
}
