//! Running out of space, on stores so small that it happens all the time (D7): what fails fails with ENOSPC and
//! alone, exactly when nothing is left, and what was freed is there again for whoever asks next.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;

use common::{Model, ShuffledDevice, compare};
use lvols::{Lvols as _, assert_owned_once, device_bytes, options, pattern};
use offshoot_device::MemDevice;
use offshoot_store::{Error, ErrorKind, IoRequest, Reply, Store, Ticket, Verb};
use plain_checker::PlainStore;
use proptest::prelude::*;
use std::sync::LazyLock;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const DATA_CLUSTERS: u64 = 24;

/// Size of a device that leaves a store exactly [`DATA_CLUSTERS`].
static DEVICE_BYTES: LazyLock<u64> = LazyLock::new(|| device_bytes(&options(16_384, 512, true), DATA_CLUSTERS));

type Tiny = Store<ShuffledDevice>;

fn tiny(native: bool, seed: u64) -> Tiny {
    let device = ShuffledDevice::new(MemDevice::new(*DEVICE_BYTES, 512), seed);
    let store = Store::init(device, &options(16_384, 512, native)).unwrap();
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
        assert!(store.content("thick").iter().all(|byte| *byte == 0), "{way}: old bytes in a thick lvol (D4)");
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
            identity: lvols::named("thick"),
            size_bytes: (DATA_CLUSTERS - 1) * CLUSTER,
            thick: true,
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
    assert!(count > 1000, "{count} snapshots");
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

#[derive(Clone, Debug)]
enum Op {
    Create { clusters: u64, thick: bool },
    Snapshot { lvol: usize },
    Clone { lvol: usize },
    Remove { lvol: usize },
    Write { lvol: usize, at: u64, len: u64, seed: u8 },
    Trim { lvol: usize, first: u64, count: u64, zero: bool },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let lvol = 0_usize..6;
    let at = prop_oneof![0..8 * CLUSTER, (0..8_u64).prop_map(|cluster| cluster * CLUSTER)];
    let len = prop_oneof![1..3 * CLUSTER, Just(BLOCK), (1..6_u64).prop_map(|count| count * CLUSTER)];
    prop_oneof![
        3 => (1_u64..9, any::<bool>()).prop_map(|(clusters, thick)| Op::Create { clusters, thick }),
        2 => lvol.clone().prop_map(|lvol| Op::Snapshot { lvol }),
        2 => lvol.clone().prop_map(|lvol| Op::Clone { lvol }),
        3 => lvol.clone().prop_map(|lvol| Op::Remove { lvol }),
        14 => (lvol.clone(), at, len, any::<u8>())
            .prop_map(|(lvol, at, len, seed)| Op::Write { lvol, at, len, seed }),
        3 => (lvol, 0..8_u64, 1..5_u64, any::<bool>())
            .prop_map(|(lvol, first, count, zero)| Op::Trim { lvol, first, count, zero }),
        1 => Just(Op::Reopen),
    ]
}

struct World {
    store: Option<Tiny>,
    model: Model,
    made: usize,
}

impl World {
    fn store(&mut self) -> &mut Tiny {
        self.store.as_mut().unwrap()
    }

    fn pick(&self, lvol: usize) -> Option<String> {
        let count = self.model.len();
        (count > 0).then(|| self.model.keys().nth(lvol % count).unwrap().clone())
    }

    fn writable(&mut self, lvol: usize) -> Option<String> {
        let name = self.pick(lvol)?;
        let id = self.store().id(&name);
        let read_only = self.store().state().blob(id).unwrap().is_read_only();
        (!read_only).then_some(name)
    }

    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("v{:03}", self.made)
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Create { clusters, thick } => self.create(clusters, thick),
            Op::Snapshot { lvol } => {
                let Some(name) = self.writable(lvol) else { return };
                let snapshot = self.fresh();
                self.store().snapshot(&name, &snapshot).unwrap();
                self.model.insert(snapshot, self.model[&name].clone());
            }
            Op::Clone { lvol } => {
                let Some(parent) = self.pick(lvol) else { return };
                let clone = self.fresh();
                if self.store().clone_of(&parent, &clone).is_ok() {
                    self.model.insert(clone, self.model[&parent].clone());
                }
            }
            Op::Remove { lvol } => {
                let Some(name) = self.pick(lvol) else { return };
                match self.store().remove(&name) {
                    Ok(()) => drop(self.model.remove(&name)),
                    Err(error) => assert!(matches!(error, Error::HasClones { .. }), "{error}"),
                }
            }
            Op::Write { lvol, at, len, seed } => self.write(lvol, at, len, seed),
            Op::Trim { lvol, first, count, zero } => self.trim(lvol, first, count, zero),
            Op::Reopen => {
                let store = self.store.take().unwrap();
                self.store = Some(self.checked_reopen(store));
            }
        }
    }

    fn create(&mut self, clusters: u64, thick: bool) {
        let name = self.fresh();
        match self.store().create(&name, clusters * CLUSTER, thick) {
            Ok(_) => {
                let len = usize::try_from(clusters * CLUSTER).unwrap();
                self.model.insert(name, vec![0; len]);
            }
            Err(Error::NoClusters { needed, free }) => {
                assert!(thick && needed == clusters && free < needed);
                assert_eq!(self.store().free(), free, "refused although clusters were coming free");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A write happens as a whole or, where there is no space, not at all: its clusters are chosen before the first
    /// byte of it moves.
    fn write(&mut self, lvol: usize, at: u64, len: u64, seed: u8) {
        let Some(name) = self.writable(lvol) else { return };
        let size = self.model[&name].len() as u64;
        let at = at.min(size);
        let len = len.min(size - at);
        let id = self.store().id(&name);
        let data = pattern(len, seed);
        match self.store().write(id, at, data.clone()) {
            Ok(_) => {
                let at = usize::try_from(at).unwrap();
                let content = self.model.get_mut(&name).unwrap();
                content[at..at + data.len()].copy_from_slice(data.as_slice());
            }
            Err(Error::NoClusters { .. }) => {
                let touched = (at + len).div_ceil(CLUSTER) - at / CLUSTER;
                let free = self.store().free();
                assert!(free < touched, "{free} clusters are free for a write to {touched}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn trim(&mut self, lvol: usize, first: u64, count: u64, zero: bool) {
        let Some(name) = self.writable(lvol) else { return };
        let clusters = self.model[&name].len() as u64 / CLUSTER;
        let first = first.min(clusters);
        let range = first * CLUSTER..(first + count).min(clusters) * CLUSTER;
        let id = self.store().id(&name);
        let plain = !self.store().state().native_allowed;
        let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        if zero {
            match self.store().write_zeroes(id, range.clone()) {
                Ok(()) => self.model.get_mut(&name).unwrap()[part].fill(0),
                // SPDK's format cannot hide a parent's cluster without a cluster.
                Err(error) => assert!(plain && matches!(error, Error::NoClusters { .. }), "{error}"),
            }
            return;
        }
        self.store().unmap(id, range.clone()).unwrap();
        let len = usize::try_from(range.end - range.start).unwrap();
        let after = self.store().read(id, range.start, len).unwrap();
        let content = &mut self.model.get_mut(&name).unwrap()[part];
        if !plain {
            assert!(after.as_slice().iter().all(|byte| *byte == 0), "{name}: trimmed clusters read zeros");
        }
        let old_or_zero = |(now, old): (&u8, &u8)| *now == 0 || now == old;
        assert!(after.as_slice().iter().zip(content.iter()).all(old_or_zero));
        content.copy_from_slice(after.as_slice());
    }

    /// Reopens, and holds a sealed store against the second reading of the format.
    fn checked_reopen(&self, store: Tiny) -> Tiny {
        let (device, closed) = store.close();
        closed.unwrap();
        let store = Store::open(device, Vec::new(), false).unwrap();
        assert_eq!(store.findings(), &[]);
        if !store.super_block().is_native() {
            let device = &store.device().inner;
            let read_at = |offset, bytes: &mut [u8]| device.read_at(offset, bytes);
            let plain = PlainStore::read(&read_at);
            assert_eq!(plain.problems, Vec::<String>::new());
            assert_eq!(plain.free_clusters, store.free());
            assert_eq!(plain.lvols().count(), self.model.len());
            for (name, content) in &self.model {
                assert!(plain.content(&read_at, plain.lvol(name)) == *content, "{name}");
            }
        }
        store
    }
}

fn run(ops: Vec<Op>, native: bool, seed: u64) {
    let mut world = World {
        store: Some(tiny(native, seed)),
        model: Model::new(),
        made: 0,
    };
    for op in ops.into_iter().chain([Op::Reopen]) {
        world.run(op);
        let model = std::mem::take(&mut world.model);
        compare(world.store(), &model);
        world.model = model;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_harmed_on_a_full_native_store(ops in proptest::collection::vec(op(), 1..50), seed in any::<u64>()) {
        run(ops, true, seed);
    }

    #[test]
    fn nothing_is_harmed_on_a_full_plain_store(ops in proptest::collection::vec(op(), 1..50), seed in any::<u64>()) {
        run(ops, false, seed);
    }
}
