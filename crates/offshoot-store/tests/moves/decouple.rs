//! Decoupling that keeps what the parent holds.

use super::lvols::Lvols as _;
use super::{
    BLOCK, CLUSTER, Contents, assert_same, contents, family, in_every_way, new_store, parent, run, settle,
    write, zero,
};
use offshoot_device::MemDevice;
use offshoot_store::{Error, ErrorKind, Store, Underlay, Verb, Work};
use uuid::Uuid;

/// A store, the lvol in it to decouple, its parent afterwards; and what that takes: clusters that are filled or said to
/// be zeros, new ones, blocks that are copied.
type Case = (&'static str, fn(&mut Store<MemDevice>), &'static str, Option<&'static str>, (u64, u64, u64));

const CASES: &[Case] = &[
    // A cluster, two blocks of others, and the zeros.
    ("a clone", |_| {}, "clone", Some("base"), (4, 3, 6)),
    ("a snapshot with clones", |_| {}, "snap", None, (2, 1, 7)),
    ("an lvol whose parent holds all that there is", |_| {}, "far", None, (4, 4, 16)),
    (
        "a clone with clusters of its own",
        |store| {
            write(store, "clone", CLUSTER, 2 * BLOCK, 5);
            zero(store, "clone", CLUSTER + 3 * BLOCK, BLOCK);
            write(store, "clone", 2 * CLUSTER + 2 * BLOCK, BLOCK, 6);
            write(store, "clone", 3 * CLUSTER, BLOCK, 6);
            zero(store, "clone", 5 * CLUSTER, CLUSTER);
        },
        "clone",
        Some("base"),
        (3, 0, 2),
    ),
    (
        "a snapshot between",
        |store| {
            store.snapshot("clone", "middle").unwrap();
            write(store, "clone", CLUSTER, BLOCK, 5);
            store.clone_of("middle", "other").unwrap();
            zero(store, "other", 2 * CLUSTER, BLOCK);
        },
        "middle",
        Some("base"),
        (4, 3, 6),
    ),
    ("an empty parent", |store| drop(store.snapshot("clone", "middle")), "clone", Some("snap"), (0, 0, 0)),
    (
        "a parent that hides the end of its own",
        |store| {
            store.resize("clone", 2 * CLUSTER).unwrap();
            store.resize("clone", 9 * CLUSTER).unwrap();
            write(store, "clone", 6 * CLUSTER, BLOCK, 1);
            store.snapshot("clone", "short").unwrap();
        },
        "clone",
        Some("snap"),
        (1, 1, 1),
    ),
    (
        "a parent that is shorter, and one that is hidden",
        |store| {
            store.resize("clone", 3 * CLUSTER).unwrap();
            write(store, "clone", 2 * CLUSTER, CLUSTER, 1);
            store.snapshot("clone", "short").unwrap();
            store.resize("clone", CLUSTER).unwrap();
            store.resize("clone", 8 * CLUSTER).unwrap();
        },
        "clone",
        Some("snap"),
        (0, 0, 0),
    ),
    (
        "zeros over zeros",
        |store| {
            zero(store, "clone", 0, 2 * CLUSTER);
            store.snapshot("clone", "middle").unwrap();
            zero(store, "clone", 0, BLOCK);
        },
        "clone",
        Some("snap"),
        (2, 0, 0),
    ),
];

#[test]
fn whatever_both_hold() {
    for (name, prepare, lvol, onto, (filled, clusters, blocks)) in CASES {
        in_every_way(name, *prepare, |mut store, native, what| {
            let (expected, free) = (contents(&mut store), store.free());
            let id = store.id(lvol);
            let cost = store.engine().work_cost(Work::Decouple { lvol: id }).unwrap();
            if native {
                assert_eq!(
                    (cost.filled, cost.clusters, cost.bytes / BLOCK),
                    (*filled, *clusters, *blocks),
                    "{what}"
                );
            }
            run(&mut store, Work::Decouple { lvol: id }).unwrap();
            settle(&mut store);
            assert!(store.state().blob(id).unwrap().is_thin(), "{what}");
            assert_eq!(parent(&store, lvol).as_deref(), *onto, "{what}");
            assert!(store.free() + cost.clusters >= free, "{what}: it took more than it said");
            assert_same(store, &expected, what);
        });
    }
}

/// One after the other up to the oldest snapshot: then nothing is below, and the snapshots can go.
#[test]
fn to_the_end_of_a_chain() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    for number in 0..4_u64 {
        write(&mut store, "clone", number * CLUSTER + BLOCK, BLOCK, 7);
        store.snapshot("clone", &format!("s{number}")).unwrap();
    }
    let mut expected = contents(&mut store);
    let id = store.id("clone");
    for below in [Some("s2"), Some("s1"), Some("s0"), Some("snap"), Some("base"), None] {
        run(&mut store, Work::Decouple { lvol: id }).unwrap();
        assert_eq!(parent(&store, "clone").as_deref(), below);
    }
    assert_eq!(run(&mut store, Work::Decouple { lvol: id }), Err(Error::NoParent("clone".into())));
    for name in ["s3", "s2", "s1", "s0"] {
        store.remove(name).unwrap();
        expected.remove(name);
    }
    assert_same(store, &expected, "a chain");
}

/// The parent keeps its shape as well; its other clones may come and go.
#[test]
fn other_verbs_meanwhile() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    let id = store.id("clone");
    let job = store.start_job(Work::Decouple { lvol: id }, Some(0));
    for name in ["clone", "snap"] {
        assert_eq!(store.remove(name), Err(Error::InUse(name.into())));
    }
    let inflating = store.start_job(Work::Inflate { lvol: id }, None);
    assert_eq!(store.wait_for(inflating).unwrap_err(), Error::JobRunning);
    store.clone_of("snap", "new").unwrap();
    store.remove("disk").unwrap();
    let expected: Contents = contents(&mut store);
    store.allow(job, None);
    store.wait_for(job).unwrap();
    assert_eq!(parent(&store, "clone").as_deref(), Some("base"));
    assert_same(store, &expected, "other verbs meanwhile");
}

#[test]
fn what_cannot_be_decoupled() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    settle(&mut store);
    let (clone, base) = (store.id("clone"), store.id("base"));
    assert_eq!(run(&mut store, Work::Decouple { lvol: base }), Err(Error::NoParent("base".into())));
    let free = store.free();
    store.create("all", (free - 2) * CLUSTER, true).unwrap();
    let refused = run(&mut store, Work::Decouple { lvol: clone });
    assert_eq!(refused, Err(Error::NoClusters { needed: 3, free: 2 }));
    store.remove("all").unwrap();
    // What lies on an external snapshot is inflated, which has to read that.
    let external = Underlay::External(Uuid::from_u128(9));
    store.run(Verb::SetParent { lvol: clone, underlay: external }).unwrap();
    let kind = run(&mut store, Work::Decouple { lvol: clone }).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Io);
}
