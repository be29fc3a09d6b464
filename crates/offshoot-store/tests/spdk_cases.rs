//! What SPDK's own tests assert of lvols, where no other test here does: `docs/compat/spdk-tests.md` has the list.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, assert_owned_once, options, pattern, writable};
use offshoot_device::MemDevice;
use offshoot_store::{Error, ErrorKind, Store};

const CLUSTER: u64 = 16_384;

type Plain = Store<MemDevice>;

fn store() -> Plain {
    Store::init(MemDevice::new(16 << 20, 512), &options(16_384, 512, true), &writable()).unwrap()
}

fn reopened(store: Plain) -> Plain {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.state().audit(), &[]);
    assert_owned_once(&store);
    store
}

/// Lets everything happen that goes on behind a removal.
fn settle(store: &mut Plain) {
    while store.engine().is_busy() || store.state().dying_clusters() > 0 {
        store.poll(&mut Vec::new());
    }
    store.flush().unwrap();
}

/// construct_multi_lvols, blob_create_loop.
#[test]
fn names_are_free_again_once_their_lvols_are_gone() {
    let mut store = store();
    let (clusters, md) = (store.free(), store.state().md.free());
    for round in 0..50 {
        for name in ["a", "b", "c", "d"] {
            store.create(name, 5 * CLUSTER, round % 2 == 0).unwrap();
        }
        assert_eq!(store.create("a", CLUSTER, false), Err(Error::NameExists("a".into())));
        for name in ["a", "b", "c", "d"] {
            store.remove(name).unwrap();
        }
    }
    settle(&mut store);
    let store = reopened(store);
    assert_eq!((store.free(), store.state().md.free()), (clusters, md));
}

/// resize_lvol, resize_lvol_with_io_traffic, destroy_after_bdev_lvol_resize_positive, thin_lvol_resize, blob_resize_test,
/// blob_resize_thin_test.
#[test]
fn sizes_up_and_down_to_nothing() {
    let mut store = store();
    let free = store.free();
    for thick in [true, false] {
        let id = store.create("l", 8 * CLUSTER, thick).unwrap();
        let beyond = store.write(id, 8 * CLUSTER, pattern(512, 1)).unwrap_err();
        assert_eq!((beyond.kind(), store.id("l")), (ErrorKind::Invalid, id));
        for clusters in [16, 32, 40, 20, 30, 79, 4, 0, 32] {
            store.resize("l", clusters * CLUSTER).unwrap();
            assert_eq!(store.state().bytes(store.state().blob(id).unwrap()), clusters * CLUSTER);
            settle(&mut store);
            let own = store.own_clusters("l");
            assert_eq!((own, store.free()), (if thick { clusters } else { 0 }, free - own));
        }
        // Every cluster of it is written; a quarter of it is left.
        store.write(id, 0, pattern(32 * CLUSTER, 2)).unwrap();
        assert_eq!(store.own_clusters("l"), 32);
        store.resize("l", 8 * CLUSTER).unwrap();
        settle(&mut store);
        assert_eq!((store.own_clusters("l"), store.free()), (8, free - 8));
        assert!(store.content("l") == pattern(8 * CLUSTER, 2).as_slice());
        store.resize("l", 12 * CLUSTER).unwrap();
        assert!(store.content("l")[8 * 16_384..].iter().all(|byte| *byte == 0));
        if thick {
            let (needed, free) = (free - 11, free - 12);
            assert_eq!(store.resize("l", (free + 13) * CLUSTER), Err(Error::NoClusters { needed, free }));
        }
        store.remove("l").unwrap();
        settle(&mut store);
        assert_eq!(store.free(), free);
    }
}

/// thin_lvol_check_space, blob_thin_prov_alloc, blob_thin_provision.
#[test]
fn a_thin_lvol_takes_what_is_written() {
    let mut store = store();
    let (free, md) = (store.free(), store.state().md.free());
    store.create("terabyte", 1 << 40, false).unwrap();
    let id = store.create("thin", 10 * CLUSTER, false).unwrap();
    assert_eq!(store.free(), free);
    store.write(id, 0, pattern(CLUSTER, 1)).unwrap();
    assert_eq!((store.free(), store.own_clusters("thin")), (free - 1, 1));
    // A cluster and a half on, two more.
    store.write(id, CLUSTER + CLUSTER / 2, pattern(CLUSTER, 2)).unwrap();
    assert_eq!(store.free(), free - 3);
    let mut store = reopened(store);
    assert_eq!((store.free(), store.own_clusters("thin"), store.own_clusters("terabyte")), (free - 3, 3, 0));
    // The chain of a terabyte in 16 KiB clusters names 131,072 extent pages, none of which there is.
    assert!(md - store.state().md.free() < 140, "{} of {md} md pages are left", store.state().md.free());
    store.write(id, 0, pattern(10 * CLUSTER, 3)).unwrap();
    assert_eq!(store.free(), free - 10);
    store.remove("thin").unwrap();
    store.remove("terabyte").unwrap();
    settle(&mut store);
    let store = reopened(store);
    assert_eq!((store.free(), store.state().md.free()), (free, md));
}

/// clone_snapshot_relations, delete_snapshot_with_snapshot, bdev_lvol_delete_ordering, blob_relations, blob_relations2,
/// lvol_iter_clones.
#[test]
fn relations_follow_every_change_and_survive_loading() {
    let mut store = store();
    let id = store.create("origin", 4 * CLUSTER, false).unwrap();
    for (round, snapshot) in ["s1", "s2", "s3"].into_iter().enumerate() {
        store.write(id, round as u64 * CLUSTER, pattern(CLUSTER, 3 + u8::try_from(round).unwrap())).unwrap();
        store.snapshot("origin", snapshot).unwrap();
    }
    store.clone_of("s2", "c1").unwrap();
    store.clone_of("s2", "c2").unwrap();
    let relations = |store: &Plain| -> Vec<(String, String, usize)> {
        let state = store.state();
        let parent = |blob: &offshoot_store::Blob| {
            blob.parent.and_then(|id| state.blob(id)).map_or_else(String::new, |blob| blob.display_name())
        };
        let mut all: Vec<_> =
            state.lvols().map(|blob| (blob.display_name(), parent(blob), blob.clones.len())).collect();
        all.sort();
        all
    };
    let expect = |store: &Plain, expected: &[(&str, &str, usize)]| {
        let expected: Vec<(String, String, usize)> = expected
            .iter()
            .map(|(name, parent, clones)| ((*name).into(), (*parent).into(), *clones))
            .collect();
        assert_eq!(relations(store), expected);
    };
    let content = store.content("origin");
    let six = [
        ("c1", "s2", 0),
        ("c2", "s2", 0),
        ("origin", "s3", 0),
        ("s1", "", 1),
        ("s2", "s1", 3),
        ("s3", "s2", 1),
    ];
    expect(&store, &six);
    store = reopened(store);
    expect(&store, &six);
    assert!(matches!(store.remove("s2"), Err(Error::HasClones { count: 3, .. })));
    store.remove("s3").unwrap();
    store.remove("c1").unwrap();
    assert!(matches!(store.remove("s2"), Err(Error::HasClones { count: 2, .. })));
    store.remove("c2").unwrap();
    let three = [("origin", "s2", 0), ("s1", "", 1), ("s2", "s1", 1)];
    expect(&store, &three);
    store = reopened(store);
    expect(&store, &three);
    // The one in the middle goes: what lies above it lies on what lay below it.
    store.remove("s2").unwrap();
    settle(&mut store);
    expect(&store, &[("origin", "s1", 0), ("s1", "", 1)]);
    store = reopened(store);
    assert!(store.content("origin") == content);
    store.remove("s1").unwrap();
    expect(&store, &[("origin", "", 0)]);
    assert!(store.content("origin") == content);
    store.remove("origin").unwrap();
}

/// blob_snapshot, blob_clone, blob_snapshot_rw, blob_clone_resize: a clone that grew beyond its snapshot.
#[test]
fn a_clone_grows_beyond_its_snapshot() {
    let mut store = store();
    let id = store.create("origin", 2 * CLUSTER, false).unwrap();
    store.write(id, 0, pattern(2 * CLUSTER, 1)).unwrap();
    store.snapshot("origin", "snap").unwrap();
    assert_eq!((store.own_clusters("origin"), store.own_clusters("snap")), (0, 2));
    let clone = store.clone_of("snap", "clone").unwrap();
    store.resize("clone", 5 * CLUSTER).unwrap();
    store.write(clone, 4 * CLUSTER, pattern(CLUSTER, 2)).unwrap();
    store.write(clone, CLUSTER, pattern(4096, 3)).unwrap();
    let mut expected = vec![0; 5 * 16_384];
    expected[..2 * 16_384].copy_from_slice(pattern(2 * CLUSTER, 1).as_slice());
    expected[16_384..20_480].copy_from_slice(pattern(4096, 3).as_slice());
    expected[4 * 16_384..].copy_from_slice(pattern(CLUSTER, 2).as_slice());
    let mut store = reopened(store);
    assert!(store.content("clone") == expected);
    assert!(store.content("snap") == pattern(2 * CLUSTER, 1).as_slice());
    let snap = store.id("snap");
    let refused = store.write(snap, 0, pattern(512, 1)).map(drop);
    assert_eq!(refused, Err(Error::ReadOnlyLvol("snap".into())));
    assert_eq!(store.resize("snap", CLUSTER), Err(Error::ReadOnlyLvol("snap".into())));
}
