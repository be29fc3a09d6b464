//! Diff and shallow copy: what their ranges are, case by case. That they are right for whatever was done is shown by `model.rs`.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, options, pattern, writable};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_store::{Change, Error, Store, Underlay, Verb};
use uuid::Uuid;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const LEN: u64 = 2048 * CLUSTER;

type Plain = Store<MemDevice>;

/// A store with a snapshot "old" of the lvol "new" whose first 64 clusters hold data.
fn store(native: bool) -> Plain {
    let device = MemDevice::new(64 << 20, 512);
    let mut store = Store::init(device, &options(16_384, 512, native), &writable()).unwrap();
    let id = store.create("new", LEN, false).unwrap();
    store.write(id, 0, pattern(64 * CLUSTER, 1)).unwrap();
    store.snapshot("new", "old").unwrap();
    store
}

fn data(start: u64, end: u64) -> Change {
    Change { start, len: end - start, zero: false }
}

fn zero(start: u64, end: u64) -> Change {
    Change { start, len: end - start, zero: true }
}

fn diff<D: BlockDevice>(store: &Store<D>, from: &str, to: &str) -> Vec<Change> {
    store.state().diff(store.id(from), store.id(to)).unwrap().collect()
}

fn copy<D: BlockDevice>(store: &Store<D>, name: &str) -> Vec<Change> {
    store.state().shallow_copy(store.id(name)).unwrap().collect()
}

fn write(store: &mut Plain, name: &str, range: std::ops::Range<u64>, seed: u8) {
    let id = store.id(name);
    store.write(id, range.start, pattern(range.end - range.start, seed)).unwrap();
}

/// What happens to "new" behind the snapshot, the changes from "old" to "new", and those back.
type Case = (fn(&mut Plain), &'static [(u64, u64, bool)], &'static [(u64, u64, bool)]);

const CASES: [(&str, Case); 9] = [
    ("nothing", (|_| {}, &[], &[])),
    (
        "a byte is its block",
        (|s| write(s, "new", 5000..5001, 2), &[(BLOCK, 2 * BLOCK, false)], &[(BLOCK, 2 * BLOCK, false)]),
    ),
    (
        "neighbours are one range, over clusters and extent pages",
        (
            |s| {
                write(s, "new", 511 * CLUSTER..513 * CLUSTER, 2);
                write(s, "new", 513 * CLUSTER..513 * CLUSTER + 10, 2);
            },
            &[(511 * CLUSTER, 513 * CLUSTER + BLOCK, false)],
            &[(511 * CLUSTER, 513 * CLUSTER + BLOCK, true)],
        ),
    ),
    (
        "zeros where there was data",
        (
            |s| {
                let id = s.id("new");
                s.write_zeroes(id, CLUSTER..3 * CLUSTER + 2 * BLOCK).unwrap();
            },
            &[(CLUSTER, 3 * CLUSTER + 2 * BLOCK, true)],
            &[(CLUSTER, 3 * CLUSTER + 2 * BLOCK, false)],
        ),
    ),
    (
        "zeros where there was nothing",
        (
            |s| {
                let id = s.id("new");
                s.write_zeroes(id, 100 * CLUSTER..200 * CLUSTER).unwrap();
            },
            &[],
            &[],
        ),
    ),
    (
        "what is added holds nothing until it is written",
        (
            |s| {
                s.resize("new", LEN + 8 * CLUSTER).unwrap();
                write(s, "new", LEN + CLUSTER..LEN + CLUSTER + BLOCK, 2);
            },
            &[(LEN + CLUSTER, LEN + CLUSTER + BLOCK, false)],
            &[],
        ),
    ),
    (
        "what is cut off is no change, and one again on the way back",
        (|s| s.resize("new", 8 * CLUSTER).unwrap(), &[], &[(8 * CLUSTER, 64 * CLUSTER, false)]),
    ),
    (
        "shrunk and grown",
        (
            |s| {
                s.resize("new", 8 * CLUSTER).unwrap();
                s.resize("new", LEN).unwrap();
            },
            &[(8 * CLUSTER, 64 * CLUSTER, true)],
            &[(8 * CLUSTER, 64 * CLUSTER, false)],
        ),
    ),
    (
        "snapshots in between make no difference, layers are told apart",
        (
            |s| {
                for (number, at) in [3, 4, 3, 9].into_iter().enumerate() {
                    write(s, "new", at * BLOCK..(at + 1) * BLOCK, 2);
                    s.snapshot("new", &format!("s{number}")).unwrap();
                }
            },
            &[(3 * BLOCK, 5 * BLOCK, false), (9 * BLOCK, 10 * BLOCK, false)],
            &[(3 * BLOCK, 5 * BLOCK, false), (9 * BLOCK, 10 * BLOCK, false)],
        ),
    ),
];

#[test]
fn ranges() {
    for (what, (change, there, back)) in CASES {
        let mut store = store(true);
        change(&mut store);
        for (from, to, expected) in [("old", "new", there), ("new", "old", back)] {
            let expected: Vec<Change> = expected
                .iter()
                .map(|(start, end, zero)| Change { start: *start, len: end - start, zero: *zero })
                .collect();
            assert_eq!(diff(&store, from, to), expected, "{what}: {from} to {to}");
        }
    }
}

/// Without partial clusters a first write copies its cluster: nobody can tell any more what of it is new.
#[test]
fn without_native_states_whole_clusters_differ() {
    let mut store = store(false);
    write(&mut store, "new", 5000..5001, 2);
    assert_eq!(diff(&store, "old", "new"), [data(0, CLUSTER)]);
}

#[test]
fn siblings_and_those_whose_common_parent_is_gone() {
    let mut store = store(true);
    store.clone_of("old", "sister").unwrap();
    write(&mut store, "new", BLOCK..2 * BLOCK, 2);
    write(&mut store, "sister", 2 * BLOCK..3 * BLOCK, 2);
    let expected = [data(BLOCK, 3 * BLOCK)];
    assert_eq!(diff(&store, "sister", "new"), expected);
    assert_eq!(diff(&store, "new", "sister"), expected);

    store.create("stranger", LEN, false).unwrap();
    for (from, to) in [("stranger", "new"), ("new", "stranger")] {
        let refused = store.state().diff(store.id(from), store.id(to)).unwrap_err();
        assert_eq!(refused, Error::NotRelated { name: to.into(), other: from.into() });
    }
    let alone = store.id("sister");
    store.run(Verb::SetParent { lvol: alone, underlay: Underlay::Nothing }).unwrap();
    assert!(store.state().diff(alone, store.id("new")).is_err());
}

#[test]
fn an_external_snapshot_counts_as_data_where_it_shows() {
    let uuid = Uuid::from_u128(99);
    let device = MemDevice::new(64 << 20, 512);
    let mut store = Store::init(device, &options(16_384, 512, true), &writable()).unwrap();
    let lvol = store.create("new", LEN, false).unwrap();
    store.run(Verb::SetParent { lvol, underlay: Underlay::External(uuid) }).unwrap();
    store.snapshot("new", "old").unwrap();
    assert_eq!(diff(&store, "old", "new"), []);
    store.write_zeroes(lvol, BLOCK..2 * BLOCK).unwrap();
    store.resize("new", 600 * CLUSTER).unwrap();
    store.resize("new", LEN).unwrap();
    assert_eq!(diff(&store, "old", "new"), [zero(BLOCK, 2 * BLOCK), zero(600 * CLUSTER, LEN)]);
    assert_eq!(diff(&store, "new", "old"), [data(BLOCK, 2 * BLOCK), data(600 * CLUSTER, LEN)]);
}

#[test]
fn a_shallow_copy_is_what_an_lvol_says_itself() {
    let mut store = store(true);
    let id = store.id("new");
    write(&mut store, "new", BLOCK..2 * BLOCK, 2);
    store.write_zeroes(id, 2 * BLOCK..3 * BLOCK).unwrap();
    store.write_zeroes(id, 70 * CLUSTER..71 * CLUSTER).unwrap();
    assert_eq!(store.state().shallow_copy(id).unwrap_err(), Error::CopyOfWritable("new".into()));
    store.snapshot("new", "newer").unwrap();
    assert_eq!(copy(&store, "old"), [data(0, 64 * CLUSTER)]);
    assert_eq!(copy(&store, "newer"), [data(BLOCK, 2 * BLOCK), zero(2 * BLOCK, 3 * BLOCK)]);
    // What is hidden by a size that the lvol once had.
    store.resize("new", 60 * CLUSTER).unwrap();
    store.resize("new", LEN).unwrap();
    store.run(Verb::SetReadOnly { lvol: id }).unwrap();
    assert_eq!(copy(&store, "new"), [zero(60 * CLUSTER, 64 * CLUSTER)]);
}

#[test]
fn a_shallow_copy_leaves_an_external_snapshot_out() {
    let device = MemDevice::new(64 << 20, 512);
    let mut store = Store::init(device, &options(16_384, 512, true), &writable()).unwrap();
    let lvol = store.create("new", LEN, false).unwrap();
    store.run(Verb::SetParent { lvol, underlay: Underlay::External(Uuid::from_u128(99)) }).unwrap();
    store.write_zeroes(lvol, BLOCK..2 * BLOCK).unwrap();
    store.resize("new", 600 * CLUSTER).unwrap();
    store.resize("new", 601 * CLUSTER).unwrap();
    store.run(Verb::SetReadOnly { lvol }).unwrap();
    assert_eq!(copy(&store, "new"), [zero(BLOCK, 2 * BLOCK), zero(600 * CLUSTER, 601 * CLUSTER)]);
}

/// An lvol that was shorter once shows nothing of what lies below that: its copy says so.
#[test]
fn a_copy_hides_what_is_below_a_shorter_parent() {
    for native in [true, false] {
        let mut store = store(native);
        store.resize("new", 16 * CLUSTER).unwrap();
        store.snapshot("new", "short").unwrap();
        store.resize("new", 40 * CLUSTER).unwrap();
        let id = store.id("new");
        store.write(id, 20 * CLUSTER, pattern(CLUSTER, 2)).unwrap();
        store.snapshot("new", "long").unwrap();
        let expected = [
            zero(16 * CLUSTER, 20 * CLUSTER),
            data(20 * CLUSTER, 21 * CLUSTER),
            zero(21 * CLUSTER, 40 * CLUSTER),
        ];
        assert_eq!(copy(&store, "short"), []);
        assert_eq!(copy(&store, "long"), expected);
    }
}

#[test]
fn a_diff_can_be_taken_up_behind_any_of_its_ranges() {
    let mut store = store(true);
    for at in [0, 5, 511, 512, 513, 600, 1023, 1024, 1500, 2047] {
        write(&mut store, "new", at * CLUSTER + BLOCK..(at + 1) * CLUSTER, 2);
    }
    write(&mut store, "new", 1200 * CLUSTER..1300 * CLUSTER, 3);
    let all = diff(&store, "old", "new");
    assert!(all.len() > 10, "{all:?}");
    for (number, change) in all.iter().enumerate() {
        let behind = change.start + change.len;
        let rest = store.state().diff(store.id("old"), store.id("new")).unwrap().starting_near(behind);
        let rest: Vec<Change> = rest.skip_while(|change| change.start < behind).collect();
        assert_eq!(rest, all[number + 1..]);
    }
    let last = store.state().diff(store.id("old"), store.id("new")).unwrap().starting_near(2047 * CLUSTER);
    assert!(last.count() < 3, "what lies before is not looked at");
}
