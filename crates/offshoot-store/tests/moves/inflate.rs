//! Inflating.

use super::lvols::Lvols as _;
use super::{
    BLOCK, CLUSTER, assert_same, contents, family, in_every_way, new_store, parent, pattern, run, settle,
    write, zero,
};
use offshoot_block::Buffer;
use offshoot_device::MemDevice;
use offshoot_store::{Error, ErrorKind, IoRequest, Store, Underlay, Verb, Work, WorkCost};
use std::ops::ControlFlow;
use uuid::Uuid;

/// A store, the lvol in it to inflate, and what that takes in clusters that are filled and new ones.
type Case = (&'static str, fn(&mut Store<MemDevice>), &'static str, (u64, u64));

const CASES: &[Case] = &[
    ("an lvol without anything", |store| drop(store.create("thin", 5 * CLUSTER, false)), "thin", (5, 5)),
    ("an lvol of no size", |store| drop(store.create("thin", 0, false)), "thin", (0, 0)),
    ("what is thick", |store| drop(store.create("thick", 5 * CLUSTER, true)), "thick", (0, 0)),
    ("a clone", |_| {}, "clone", (8, 8)),
    (
        "a clone with clusters of its own",
        |store| {
            write(store, "clone", 0, CLUSTER, 5);
            zero(store, "clone", CLUSTER, CLUSTER);
            write(store, "clone", 2 * CLUSTER, BLOCK, 6);
            zero(store, "clone", 4 * CLUSTER, 2 * BLOCK);
        },
        "clone",
        (7, 6),
    ),
    ("a snapshot with clones", |_| {}, "snap", (7, 5)),
    ("the oldest snapshot", |_| {}, "base", (4, 4)),
    (
        "a clone that hides the end of its parent",
        |store| {
            store.resize("clone", 2 * CLUSTER).unwrap();
            store.resize("clone", 9 * CLUSTER).unwrap();
        },
        "clone",
        (9, 9),
    ),
    (
        "a snapshot of which a clone hides the end",
        |store| {
            store.resize("clone", 4 * CLUSTER).unwrap();
            store.resize("clone", 8 * CLUSTER).unwrap();
            store.snapshot("clone", "short").unwrap();
            write(store, "clone", 6 * CLUSTER, BLOCK, 5);
        },
        "snap",
        (7, 5),
    ),
    (
        "a snapshot of which a clone hides nothing as yet",
        |store| {
            store.resize("clone", 6 * CLUSTER).unwrap();
            store.resize("clone", 8 * CLUSTER).unwrap();
            store.snapshot("clone", "short").unwrap();
            write(store, "clone", 7 * CLUSTER, BLOCK, 5);
        },
        "snap",
        (7, 5),
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
        "clone",
        (8, 7),
    ),
    (
        "more than an extent page",
        |store| {
            store.create("long", 600 * CLUSTER, false).unwrap();
            write(store, "long", 511 * CLUSTER, 2 * CLUSTER, 1);
            store.snapshot("long", "its").unwrap();
        },
        "long",
        (600, 600),
    ),
];

#[test]
fn whatever_it_holds() {
    for (name, prepare, lvol, (filled, clusters)) in CASES {
        in_every_way(name, *prepare, |mut store, native, what| {
            let (expected, free) = (contents(&mut store), store.free());
            let id = store.id(lvol);
            let cost = store.engine().work_cost(Work::Inflate { lvol: id }).unwrap();
            if native {
                assert_eq!((cost.filled, cost.clusters), (*filled, *clusters), "{what}");
            }
            run(&mut store, Work::Inflate { lvol: id }).unwrap();
            settle(&mut store);
            let blob = store.state().blob(id).unwrap();
            assert!(!blob.is_thin() && blob.external.is_none(), "{what}");
            assert_eq!((blob.own_clusters, parent(&store, lvol)), (blob.len, None), "{what}");
            assert!(store.free() + cost.clusters >= free, "{what}: it took more than it said");
            let after = store.engine().work_cost(Work::Inflate { lvol: id }).unwrap();
            assert_eq!(after, WorkCost::default(), "{what}");
            assert_same(store, &expected, what);
        });
    }
}

/// Clusters beyond what is copied at once.
#[test]
fn large_clusters() {
    const LARGE: u64 = 4 << 20;
    for native in [true, false] {
        let mut store = new_store(4 << 20, 160 << 20, native);
        store.create("disk", 5 * LARGE, false).unwrap();
        write(&mut store, "disk", 0, 2 * LARGE, 1);
        store.snapshot("disk", "snap").unwrap();
        for block in [0, 5, 255, 256, 700, 1023] {
            write(&mut store, "disk", block * BLOCK, BLOCK, 2);
        }
        zero(&mut store, "disk", 2 * LARGE, LARGE);
        let (expected, id) = (contents(&mut store), store.id("disk"));
        let cost = store.engine().work_cost(Work::Inflate { lvol: id }).unwrap();
        let mut seen = Vec::new();
        let watched = store.run_job(Work::Inflate { lvol: id }, |progress| {
            seen.push(progress);
            ControlFlow::Continue(())
        });
        watched.unwrap();
        assert!(seen.is_sorted_by_key(|progress| progress.bytes_done));
        assert_eq!(seen.last().unwrap().bytes_done, cost.bytes);
        assert_same(store, &expected, "large clusters");
    }
}

/// What it takes is kept before anything is done, or it is refused with the numbers; a job that is ended gives it back.
#[test]
fn space_is_kept_or_refused() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    settle(&mut store);
    let (free, id) = (store.free(), store.id("clone"));
    store.create("all", (free - 7) * CLUSTER, true).unwrap();
    let refused = run(&mut store, Work::Inflate { lvol: id });
    assert_eq!(refused, Err(Error::NoClusters { needed: 8, free: 7 }));
    store.resize("all", (free - 8) * CLUSTER).unwrap();
    settle(&mut store);

    let expected = contents(&mut store);
    let job = store.start_job(Work::Inflate { lvol: id }, Some(0));
    let disk = store.id("disk");
    assert_eq!(
        store.write(disk, 0, pattern(BLOCK, 1)).unwrap_err(),
        Error::NoClusters { needed: 1, free: 0 }
    );
    store.cancel(job);
    assert_eq!(store.wait_for(job).unwrap_err(), Error::Cancelled);
    assert_eq!(store.state().clusters.available(), 8);
    run(&mut store, Work::Inflate { lvol: id }).unwrap();
    assert_eq!(store.free(), 0);
    assert_same_without_space(store, &expected);
}

fn assert_same_without_space(mut store: Store<MemDevice>, expected: &super::Contents) {
    assert!(contents(&mut store) == *expected);
    store.remove("all").unwrap();
    let mut expected = expected.clone();
    expected.remove("all");
    assert_same(store, &expected, "without space");
}

/// A write to the lvol takes what is kept for its cluster, and a trim does not give back what has been filled.
#[test]
fn clients_of_the_lvol_itself() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    settle(&mut store);
    let (free, id) = (store.free(), store.id("clone"));
    store.create("all", (free - 8) * CLUSTER, true).unwrap();
    let job = store.start_job(Work::Inflate { lvol: id }, Some(0));
    store.write(id, BLOCK, pattern(BLOCK, 1)).unwrap();
    store.write_zeroes(id, 2 * CLUSTER..3 * CLUSTER).unwrap();
    store.unmap(id, 3 * CLUSTER..4 * CLUSTER).unwrap();
    store.allow(job, None);
    store.wait_for(job).unwrap();
    assert_eq!((store.free(), store.own_clusters("clone")), (0, 8));
    assert_eq!(parent(&store, "clone"), None);
    let expected = contents(&mut store);
    assert_same_without_space(store, &expected);
}

/// Verbs that would change what a job works on wait for its end; others do not.
#[test]
fn other_verbs_meanwhile() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    let id = store.id("clone");
    let job = store.start_job(Work::Inflate { lvol: id }, Some(0));
    let again = store.start_job(Work::Inflate { lvol: id }, None);
    assert_eq!(store.wait_for(again).unwrap_err(), Error::JobRunning);
    for refused in [
        store.remove("clone"),
        store.resize("clone", CLUSTER),
        store.snapshot("clone", "new").map(drop),
        store.run(Verb::SetParent { lvol: id, underlay: Underlay::Nothing }).map(drop),
    ] {
        assert_eq!(refused, Err(Error::InUse("clone".into())));
    }
    store.rename("clone", "renamed").unwrap();
    // Its parent may go to it: what it takes over need not be copied.
    store.remove("disk").unwrap();
    store.remove("snap").unwrap();
    let expected = contents(&mut store);
    store.allow(job, None);
    store.wait_for(job).unwrap();
    assert_eq!((store.own_clusters("renamed"), parent(&store, "renamed")), (8, None));
    assert_same(store, &expected, "other verbs meanwhile");
}

#[test]
fn what_cannot_be_inflated() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    let gone = store.id("clone");
    store.remove("clone").unwrap();
    let kind = |result: Result<(), Error>| result.unwrap_err().kind();
    assert_eq!(kind(run(&mut store, Work::Inflate { lvol: gone })), ErrorKind::NotFound);
    let disk = store.id("disk");
    let external = Uuid::from_u128(9);
    store.run(Verb::SetParent { lvol: disk, underlay: Underlay::External(external) }).unwrap();
    assert_eq!(run(&mut store, Work::Inflate { lvol: disk }), Err(Error::Degraded("disk".into())));
}

/// A clone of an external snapshot, one that is shorter than the clone.
#[test]
fn external_snapshots() {
    let external = Uuid::from_u128(9);
    let mut store = new_store(16_384, 12 << 20, true);
    store.create("disk", 8 * CLUSTER, false).unwrap();
    let id = store.id("disk");
    store.run(Verb::SetParent { lvol: id, underlay: Underlay::External(external) }).unwrap();
    store.snapshot("disk", "snap").unwrap();
    let device = store.close().0;
    let mut below = MemDevice::new(8 * CLUSTER, 512);
    offshoot_block::BlockDevice::submit(
        &mut below,
        offshoot_block::OpId(0),
        offshoot_block::DeviceOp::Write {
            offset: offshoot_block::DeviceOffset(0),
            buffer: Buffer::copy_of(pattern(8 * CLUSTER, 8).as_slice()),
        },
    );
    offshoot_block::BlockDevice::poll(&mut below, &mut Vec::new());
    let externals = vec![(external.to_string(), below)];
    let mut store = Store::open(device, externals, &super::writable()).unwrap();
    let ticket =
        store.submit(IoRequest::Write { lvol: id, offset: BLOCK, data: pattern(BLOCK, 1), fua: false });
    store.wait_for(ticket).unwrap();
    let expected = contents(&mut store);
    run(&mut store, Work::Inflate { lvol: id }).unwrap();
    let snap = store.id("snap");
    run(&mut store, Work::Inflate { lvol: snap }).unwrap();
    assert!(contents(&mut store) == expected);
    assert_same(store, &expected, "over an external snapshot");
}
