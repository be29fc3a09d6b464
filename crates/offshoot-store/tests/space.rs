//! Running out of space, on stores so small that it happens all the time (D7): what fails fails with ENOSPC and
//! alone, exactly when nothing is left, and what was freed is there again for whoever asks next.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "common/plain_checker.rs"]
mod plain_checker;
#[path = "space/random.rs"]
mod random;

use common::ShuffledDevice;
use common::lvols::{Lvols as _, Stale, assert_owned_once, device_bytes, options, pattern, writable};
use offshoot_device::MemDevice;
use offshoot_store::{CreateOptions, Error, ErrorKind, IoRequest, Reply, Store, Ticket, Verb};
use std::sync::LazyLock;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const DATA_CLUSTERS: u64 = 24;

/// Size of a device that leaves a store exactly [`DATA_CLUSTERS`].
static DEVICE_BYTES: LazyLock<u64> =
    LazyLock::new(|| device_bytes(&options(16_384, 512, true), DATA_CLUSTERS));

type Tiny = Store<ShuffledDevice>;

fn tiny(native: bool, seed: u64) -> Tiny {
    let device = ShuffledDevice::new(MemDevice::new(*DEVICE_BYTES, 512), seed);
    let store = Store::init(device, &options(16_384, 512, native), &writable()).unwrap();
    let store = common::reopen(store);
    assert_eq!(store.free(), DATA_CLUSTERS);
    store
}

/// A store whose clusters are all in use by the thin lvol `full`, each with a content of its own.
fn full() -> Tiny {
    let mut store = tiny(true, 1);
    let id = store.create("full", 2 * DATA_CLUSTERS * CLUSTER, false).unwrap();
    for cluster in 0..DATA_CLUSTERS {
        let seed = u8::try_from(cluster).unwrap();
        store.write(id, cluster * CLUSTER, pattern(CLUSTER, seed)).unwrap();
    }
    assert_eq!(store.free(), 0);
    store
}

const NO_CLUSTER: Error = Error::NoClusters { needed: 1, free: 0 };

#[test]
fn writes_fail_exactly_when_nothing_is_left() {
    let mut store = full();
    let id = store.id("full");
    let before = store.content("full");
    let first_free = DATA_CLUSTERS * CLUSTER;
    // A block, a whole cluster, and a write that begins where there is space already.
    for (offset, len) in [(first_free, BLOCK), (first_free, CLUSTER), (first_free - BLOCK, 2 * BLOCK)] {
        assert_eq!(store.write(id, offset, pattern(len, 99)).unwrap_err(), NO_CLUSTER);
        assert!(store.content("full") == before, "{len} at {offset}: a failed write left something");
    }
    assert_eq!(NO_CLUSTER.kind(), ErrorKind::NoSpace);
    // Overwrites need none.
    store.write(id, 0, pattern(first_free, 77)).unwrap();
    assert_eq!(store.read(id, 0, 512).unwrap().as_slice(), pattern(512, 77).as_slice());
    assert_owned_once(&store);
    assert!(common::reopen(store).content("full")[..512] == *pattern(512, 77).as_slice());
}

#[test]
fn thick_creates_and_resizes_need_all_their_clusters() {
    for used in 0..=DATA_CLUSTERS {
        let mut store = tiny(true, used);
        let free = DATA_CLUSTERS - used;
        store.create("a", used * CLUSTER, true).unwrap();
        let short = Error::NoClusters { needed: free + 1, free };
        let refused = store.create("b", (free + 1) * CLUSTER, true).unwrap_err();
        assert_eq!(refused, short);
        assert_eq!(store.resize("a", (DATA_CLUSTERS + 1) * CLUSTER).unwrap_err(), short);
        assert_eq!(store.free(), free, "a refused verb takes nothing");
        assert!(store.state().lvol_by_name(b"b").is_none());
        store.create("b", free * CLUSTER, true).unwrap();
        assert_eq!(store.free(), 0);
        assert_owned_once(&store);
    }
}

/// A write to two clusters where there is one: it fails, and the one that it had chosen is there for the next.
#[test]
fn a_failed_write_gives_its_clusters_back() {
    for native in [true, false] {
        let mut store = tiny(native, 1);
        store.create("rest", (DATA_CLUSTERS - 1) * CLUSTER, true).unwrap();
        let id = store.create("thin", 4 * CLUSTER, false).unwrap();
        for _ in 0..3 {
            let refused = store.write(id, 0, pattern(2 * CLUSTER, 1)).unwrap_err();
            assert!(matches!(refused, Error::NoClusters { .. }), "{refused}");
        }
        assert!(store.content("thin").iter().all(|byte| *byte == 0));
        store.write(id, 3 * CLUSTER, pattern(BLOCK, 2)).unwrap();
        assert_eq!(store.own_clusters("thin"), 1);
        assert_owned_once(&store);
    }
}

/// Nobody reads old bytes of another lvol (D4), although discards leave them where they are: not in a thick lvol,
/// not around a small first write, not where an lvol was shrunk and grown again.
#[test]
fn old_bytes_never_come_back() {
    for native in [true, false] {
        let device = Stale(MemDevice::new(*DEVICE_BYTES, 512));
        let mut store = Store::init(device, &options(16_384, 512, native), &writable()).unwrap();
        let closed = store.close();
        closed.1.unwrap();
        store = Store::open(closed.0, Vec::new(), &writable()).unwrap();
        let whole = DATA_CLUSTERS * CLUSTER;
        for round in 0..3 {
            let old = store.create("old", whole, false).unwrap();
            store.write(old, 0, pattern(whole, 5)).unwrap();
            store.remove("old").unwrap();

            store.create("thick", 8 * CLUSTER, true).unwrap();
            let thin = store.create("thin", 8 * CLUSTER, false).unwrap();
            store.write(thin, 5 * BLOCK + 100, pattern(7, 1)).unwrap();
            store.write(thin, 2 * CLUSTER - 3, pattern(6, 1)).unwrap();
            let shrunk = store.create("shrunk", 4 * CLUSTER, true).unwrap();
            store.write(shrunk, 0, pattern(4 * CLUSTER, 2)).unwrap();
            store.resize("shrunk", CLUSTER).unwrap();
            store.resize("shrunk", 4 * CLUSTER).unwrap();

            let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            assert!(zeros(&store.content("thick")), "native {native}, round {round}");
            let written = store.content("thin");
            assert_eq!(written.iter().filter(|byte| **byte != 0).count(), 7 + 6);
            assert!(zeros(&store.content("shrunk")[16_384..]));
            for name in ["thick", "thin", "shrunk"] {
                store.remove(name).unwrap();
            }
        }
    }
}

/// What a clone has overwritten of its snapshot goes with the snapshot, the rest is the clone's.
#[test]
fn removing_a_snapshot_frees_what_its_clone_overwrote() {
    for native in [true, false] {
        let mut store = tiny(native, 1);
        let id = store.create("lvol", 8 * CLUSTER, true).unwrap();
        store.write(id, 0, pattern(8 * CLUSTER, 1)).unwrap();
        store.snapshot("lvol", "snap").unwrap();
        store.write(id, 2 * CLUSTER, pattern(3 * CLUSTER, 2)).unwrap();
        let expected = store.content("lvol");
        assert_eq!(store.free(), DATA_CLUSTERS - 8 - 3);
        store.remove("snap").unwrap();
        assert_eq!((store.free(), store.own_clusters("lvol")), (DATA_CLUSTERS - 8, 8));
        // And they can be used again, all of them.
        store.create("thick", (DATA_CLUSTERS - 8) * CLUSTER, true).unwrap();
        assert_owned_once(&store);
        let mut store = common::reopen(store);
        assert!(store.content("lvol") == expected);
        assert_eq!(store.free(), 0);
    }
}

/// Nobody flushes here: the engine forces the barrier that freed clusters wait for (R1).
#[test]
fn freed_clusters_are_there_for_the_next_write() {
    type Freeing = fn(&mut Tiny);
    let ways: [(&str, Freeing); 4] = [
        ("remove", |store| store.remove("full").unwrap()),
        ("shrink", |store| store.resize("full", 0).unwrap()),
        ("unmap", |store| {
            let id = store.id("full");
            store.unmap(id, 0..DATA_CLUSTERS * CLUSTER).unwrap();
        }),
        ("write zeroes", |store| {
            let id = store.id("full");
            store.write_zeroes(id, 0..DATA_CLUSTERS * CLUSTER).unwrap();
        }),
    ];
    for (way, free) in ways {
        let mut store = full();
        let other = store.create("other", DATA_CLUSTERS * CLUSTER, false).unwrap();
        assert_eq!(store.write(other, 0, pattern(BLOCK, 1)).unwrap_err(), NO_CLUSTER);
        free(&mut store);
        let whole = pattern(DATA_CLUSTERS * CLUSTER, 5);
        store.write(other, 0, whole.clone()).unwrap_or_else(|error| panic!("{way}: {error}"));
        assert_eq!(store.free(), 0, "{way}");
        assert!(store.content("other") == whole.as_slice(), "{way}");
        assert_owned_once(&store);

        let mut store = full();
        free(&mut store);
        store.create("thick", DATA_CLUSTERS * CLUSTER, true).unwrap_or_else(|error| panic!("{way}: {error}"));
        assert!(
            store.content("thick").iter().all(|byte| *byte == 0),
            "{way}: old bytes in a thick lvol (D4)"
        );
    }
}

/// A removal, a create and a write that all wait for the same clusters, under way together.
#[test]
fn requests_wait_together_for_what_is_being_freed() {
    for seed in 1..50 {
        let mut store = tiny(true, seed);
        let full = store.create("full", DATA_CLUSTERS * CLUSTER, true).unwrap();
        let thin = store.create("thin", CLUSTER, false).unwrap();
        let thick = Verb::Create {
            identity: common::lvols::named("thick"),
            size_bytes: (DATA_CLUSTERS - 1) * CLUSTER,
            options: CreateOptions::provisioned(true),
        };
        let removed = store.start(Verb::Remove { lvol: full });
        let made = store.start(thick);
        let data = pattern(BLOCK, 3);
        let written = store.submit(IoRequest::Write { lvol: thin, offset: 0, data, fua: true });
        for result in results(&mut store, [removed, made, written]) {
            assert!(result.is_ok(), "seed {seed}: {result:?}");
        }
        assert_eq!(store.own_clusters("thick"), DATA_CLUSTERS - 1);
        assert_owned_once(&store);
    }
}

/// Two first writes and one cluster: one of them gets it, the other fails and leaves nothing behind.
#[test]
fn two_writers_race_for_the_last_cluster() {
    for seed in 1..50 {
        let mut store = tiny(true, seed);
        store.create("rest", (DATA_CLUSTERS - 1) * CLUSTER, true).unwrap();
        let lvols = ["a", "b"].map(|name| store.create(name, CLUSTER, false).unwrap());
        let tickets = lvols.map(|lvol| {
            let data = pattern(BLOCK, 9);
            store.submit(IoRequest::Write { lvol, offset: 0, data, fua: false })
        });
        let outcomes = results(&mut store, tickets);
        let winners = outcomes.iter().filter(|result| result.is_ok()).count();
        assert_eq!(winners, 1, "seed {seed}");
        for (lvol, result) in lvols.into_iter().zip(outcomes) {
            let read = store.read(lvol, 0, 4096).unwrap();
            match result {
                Ok(_) => assert_eq!(read.as_slice(), pattern(BLOCK, 9).as_slice()),
                Err(error) => {
                    assert_eq!(error, NO_CLUSTER);
                    assert!(read.as_slice().iter().all(|byte| *byte == 0));
                }
            }
        }
        assert_owned_once(&store);
        // Writers of one cluster share it.
        let mut store = tiny(true, seed);
        store.create("rest", (DATA_CLUSTERS - 1) * CLUSTER, true).unwrap();
        let lvol = store.create("a", CLUSTER, false).unwrap();
        let tickets = [0, BLOCK].map(|offset| {
            let data = pattern(BLOCK, 9);
            store.submit(IoRequest::Write { lvol, offset, data, fua: false })
        });
        assert!(results(&mut store, tickets).iter().all(Result::is_ok));
        assert_eq!(store.own_clusters("a"), 1);
    }
}

/// The results of requests that are under way, in the order of their tickets.
fn results<const N: usize>(store: &mut Tiny, tickets: [Ticket; N]) -> [Result<Reply, Error>; N] {
    let mut replies = Vec::new();
    while replies.len() < N {
        store.poll(&mut replies);
    }
    tickets.map(|ticket| {
        let at = replies.iter().position(|(done, _)| *done == ticket).unwrap();
        replies.swap_remove(at).1
    })
}

#[test]
fn trim_gives_clusters_back() {
    let mut store = tiny(true, 1);
    let thin = store.create("thin", 8 * CLUSTER, false).unwrap();
    store.write(thin, 0, pattern(8 * CLUSTER, 1)).unwrap();
    store.snapshot("thin", "snap").unwrap();
    let clone = store.clone_of("snap", "clone").unwrap();
    store.write(clone, 0, pattern(8 * CLUSTER, 2)).unwrap();
    assert_eq!((store.own_clusters("snap"), store.own_clusters("clone")), (8, 8));

    // A part of a cluster keeps it, the rest of it as well gives it back; the parent does not show through.
    store.unmap(clone, 0..CLUSTER - BLOCK).unwrap();
    assert_eq!(store.own_clusters("clone"), 8);
    store.unmap(clone, CLUSTER - BLOCK..CLUSTER).unwrap();
    assert_eq!(store.own_clusters("clone"), 7);
    store.unmap(clone, 2 * CLUSTER..4 * CLUSTER).unwrap();
    assert_eq!(store.own_clusters("clone"), 5);
    let content = store.content("clone");
    let zeros = |range: std::ops::Range<u64>| {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        content[range].iter().all(|byte| *byte == 0)
    };
    assert!(zeros(0..CLUSTER) && zeros(2 * CLUSTER..4 * CLUSTER));
    assert!(!zeros(CLUSTER..2 * CLUSTER) && !zeros(4 * CLUSTER..5 * CLUSTER));

    // All of it: everything comes back, and the snapshot keeps what it holds.
    for name in ["clone", "thin"] {
        let id = store.id(name);
        store.unmap(id, 0..8 * CLUSTER).unwrap();
        assert_eq!(store.own_clusters(name), 0);
        assert!(store.content(name).iter().all(|byte| *byte == 0));
    }
    assert_eq!(store.free(), DATA_CLUSTERS - 8);
    assert!(store.content("snap") == pattern(8 * CLUSTER, 1).as_slice());
    let mut store = common::reopen(store);
    assert!(store.content("clone").iter().all(|byte| *byte == 0));
    assert!(store.content("snap") == pattern(8 * CLUSTER, 1).as_slice());
}

/// A thick lvol keeps its clusters, and reads zeros where it was trimmed.
#[test]
fn trim_of_a_thick_lvol_keeps_its_space() {
    let mut store = tiny(true, 1);
    let thick = store.create("thick", 4 * CLUSTER, true).unwrap();
    store.write(thick, 0, pattern(4 * CLUSTER, 1)).unwrap();
    store.unmap(thick, 0..4 * CLUSTER).unwrap();
    assert_eq!((store.own_clusters("thick"), store.free()), (4, DATA_CLUSTERS - 4));
    store.write_zeroes(thick, 0..CLUSTER).unwrap();
    assert!(store.content("thick")[..512].iter().all(|byte| *byte == 0));
    assert_eq!(store.own_clusters("thick"), 4);
}

/// Verbs until the md pages are gone: each is refused by name, nothing breaks, and removing makes room again.
#[test]
fn md_pages_run_out() {
    let mut store = tiny(true, 1);
    let id = store.create("data", 4 * CLUSTER, false).unwrap();
    store.write(id, 0, pattern(CLUSTER, 1)).unwrap();
    store.create("other", 2 * CLUSTER, false).unwrap();
    let mut count = 0;
    let refused = loop {
        match store.snapshot("data", &format!("s{count}")) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 10_000, "md pages never run out");
    };
    assert!(matches!(refused, Error::NoMdPages { .. }), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::NoSpace);
    // Each takes a root, and what is left beside the journal is plenty.
    assert!(count > 300, "{count} snapshots");
    let mut more = 0;
    while store.create(&format!("c{more}"), CLUSTER, false).is_ok() {
        more += 1;
    }

    // Whatever needs an md page is refused and changes nothing; what needs none goes on.
    let before = (store.free(), store.state().lvols().count());
    let new = store.id("other");
    let last = format!("s{}", count - 1);
    let refusals = [
        store.create("x", CLUSTER, true).unwrap_err(),
        store.clone_of(&last, "x").unwrap_err(),
        store.snapshot("other", "x").unwrap_err(),
        store.write(new, 0, pattern(BLOCK, 1)).unwrap_err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Error::NoMdPages { .. }), "{refusal}");
    }
    assert_eq!(before, (store.free(), store.state().lvols().count()));
    assert!(store.content("data")[..512] == pattern(512, 1).as_slice()[..]);
    assert!(store.content("other").iter().all(|byte| *byte == 0));
    store.flush().unwrap();
    store.rename(&last, "renamed").unwrap();

    let mut store = common::reopen(store);
    assert_eq!(store.state().lvols().count(), before.1);
    for number in 0..more {
        store.remove(&format!("c{number}")).unwrap();
    }
    store.remove("s0").unwrap();
    store.flush().unwrap();
    store.write(new, 0, pattern(BLOCK, 1)).unwrap();
    store.create("x", CLUSTER, true).unwrap();
    assert_owned_once(&store);
    let mut store = common::reopen(store);
    assert!(store.content("data")[..512] == pattern(512, 1).as_slice()[..]);
}
