//! Two jobs at once, on lvols that depend on each other: what one of them has found out must still be true when its records
//! are applied. The device completes operations in any order, and the process may be killed at any of them.

use super::lvols::{Lvols as _, Shared, assert_owned_once, writable};
use super::shuffled::ShuffledDevice;
use super::{BLOCK, CLUSTER, Contents, contents, new_store, write};
use offshoot_device::MemDevice;
use offshoot_format::BlobId;
use offshoot_store::{Error, Reply, Store, Work};

/// Finds an lvol by its name.
type Find<'a> = &'a dyn Fn(&str) -> Option<BlobId>;

/// A job, where the lvols that it is about exist.
type Job = fn(Find<'_>) -> Option<Work>;

const JOBS: &[(&str, Job)] = &[
    ("seal", |_| Some(Work::Seal)),
    ("inflate a snapshot", |id| Some(Work::Inflate { lvol: id("snap")? })),
    ("inflate a clone", |id| Some(Work::Inflate { lvol: id("clone")? })),
    ("decouple a snapshot", |id| Some(Work::Decouple { lvol: id("base").and(id("snap"))? })),
    ("decouple a clone", |id| Some(Work::Decouple { lvol: id("clone")? })),
    ("merge a snapshot", |id| Some(Work::Merge { oldest: id("base")?, into: id("snap")? })),
    ("merge into a clone", |id| Some(Work::Merge { oldest: id("snap")?, into: id("clone")? })),
];

/// A chain of which every member holds a block of the same cluster, and nobody some of its blocks; or a clone that holds
/// nothing over its only snapshot.
fn start(native: bool, shown: bool) -> (MemDevice, Contents) {
    let mut store = new_store(16_384, 6 << 20, native);
    store.create("clone", CLUSTER, false).unwrap();
    let chain =
        if shown { &[(1, Some("base")), (2, Some("snap")), (3, None)][..] } else { &[(1, Some("snap"))] };
    for (number, (block, snapshot)) in (1..).zip(chain) {
        write(&mut store, "clone", block * BLOCK, BLOCK, number);
        if let Some(name) = snapshot {
            store.snapshot("clone", name).unwrap();
        }
    }
    let expected = contents(&mut store);
    let (device, closed) = store.close();
    closed.unwrap();
    (device, expected)
}

/// Runs both. What a kill leaves behind any operation of the device is sound, and reads the same.
fn run_both(start: &MemDevice, expected: &Contents, works: [usize; 2], seed: u64) {
    let what = format!("{} beside {}, seed {seed}", JOBS[works[0]].0, JOBS[works[1]].0);
    let device = Shared::new(ShuffledDevice::new(start.clone(), seed));
    let mut store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
    let id = |name: &str| store.state().lvol_by_name(name.as_bytes()).map(|lvol| lvol.id);
    let [Some(first), Some(second)] = works.map(|number| JOBS[number].1(&id)) else { return };
    let (mut done, mut replies, mut idle) = (0, Vec::new(), 0);
    device.borrow().grant = 0;
    let jobs = [first, second].map(|work| {
        let job = store.start_job(work, None);
        device.borrow().grant = seed % 4;
        (0..4).for_each(|_| store.poll(&mut replies));
        job
    });
    while done < jobs.len() {
        device.borrow().grant = 1;
        store.poll(&mut replies);
        for (ticket, result) in replies.drain(..) {
            assert!(jobs.contains(&ticket), "{what}");
            // One may leave the other nothing to do, or stand in its way. It is not half done.
            match result {
                Ok(Reply::Done) => {}
                Err(error) => assert!(is_refusal(&error), "{what}: {error}"),
                other => panic!("{what}: {other:?}"),
            }
            done += 1;
        }
        let is_idle = device.borrow().grant == 1;
        idle = if is_idle { idle + 1 } else { 0 };
        assert!(idle < 10_000, "{what}: it stands still");
        if !is_idle {
            assert_left(&device.borrow().inner, expected, &what);
        }
    }
    device.borrow().grant = u64::MAX;
    store.flush().unwrap();
    assert_left(&device.borrow().inner, expected, &what);
}

fn is_refusal(error: &Error) -> bool {
    !matches!(error, Error::Device(_) | Error::JournalRoom { .. })
}

/// What a kill would leave opens and reads as before, but for snapshots that have gone into others.
fn assert_left(left: &MemDevice, expected: &Contents, what: &str) {
    let left = Store::open(left.clone(), Vec::new(), &writable());
    let mut left = left.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((left.findings(), left.state().audit()), (&[][..], Vec::new()), "{what}");
    assert_owned_once(&left);
    let found = contents(&mut left);
    for (name, content) in &found {
        assert!(expected.get(name) == Some(content), "{what}: {name} reads something else");
    }
    let gone = expected.keys().filter(|name| !found.contains_key(*name));
    gone.for_each(|name| assert!(["base", "snap"].contains(&name.as_str()), "{what}: {name} is gone"));
}

/// Runs each pair in so many orders of completion.
fn run_pairs(native: bool, shown: bool, orders: u64) {
    let (start, expected) = start(native, shown);
    let pairs = (0..JOBS.len()).flat_map(|first| (0..JOBS.len()).map(move |second| [first, second]));
    for (works, number) in pairs.filter(|[first, second]| first != second).zip(1_u64..) {
        for order in 0..orders {
            run_both(&start, &expected, works, number.wrapping_mul(0x9e37_79b9_7f4a_7c15) + order);
        }
    }
}

#[test]
fn in_a_chain() {
    run_pairs(true, true, 30);
    run_pairs(false, true, 5);
}

#[test]
fn where_the_clone_holds_nothing() {
    run_pairs(true, false, 60);
    run_pairs(false, false, 5);
}
