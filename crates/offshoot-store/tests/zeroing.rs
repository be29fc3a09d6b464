//! The long zeroing of thick lvols: in pieces that can be watched, ended after any of them, and of which nothing remains then.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use std::ops::ControlFlow;

use lvols::{Lvols as _, device_bytes, named, options, pattern, writable};
use offshoot_device::MemDevice;
use offshoot_store::{CreateOptions, Error, Progress, Store, Verb};

const MIB: u64 = 1 << 20;
const CLUSTER: u64 = MIB;
/// More than one piece, and no whole number of them.
const SIZE: u64 = 200 * MIB;

type Plain = Store<MemDevice>;

fn store() -> Plain {
    let options = options(1 << 20, 512, true);
    Store::init(MemDevice::new(device_bytes(&options, 500), 512), &options, &writable()).unwrap()
}

fn thick(name: &str) -> Verb {
    let options = CreateOptions::provisioned(true);
    Verb::Create { identity: named(name), size_bytes: SIZE, options }
}

/// Carries a verb out and ends it when so many bytes are zeroed. Returns all that was seen of it.
fn run(store: &mut Plain, verb: Verb, until: u64) -> (Result<(), Error>, Vec<Progress>) {
    let mut seen = Vec::new();
    let result = store.execute_watched(verb, |progress| {
        seen.push(progress);
        if progress.bytes_done >= until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (result.map(drop), seen)
}

#[test]
fn a_thick_lvol_is_zeroed_piece_by_piece() {
    let mut store = store();
    store.create("old", SIZE, true).unwrap();
    let id = store.id("old");
    store.write(id, SIZE - MIB, pattern(MIB, 7)).unwrap();
    store.remove("old").unwrap();
    assert_eq!(thick("new").zeroed_bytes(store.state()), SIZE);
    let (result, seen) = run(&mut store, thick("new"), u64::MAX);
    result.unwrap();
    assert!(seen.iter().all(|progress| progress.bytes == SIZE && progress.clusters == SIZE / CLUSTER));
    assert!(seen.is_sorted_by_key(|progress| progress.bytes_done), "{seen:?}");
    let id = store.id("new");
    assert_eq!(store.read(id, SIZE - MIB, 4096).unwrap().as_slice(), [0; 4096]);
    // What is added to it too; what is not thick needs none of it.
    let more = Verb::Resize { lvol: id, size_bytes: SIZE + 100 * MIB };
    assert_eq!(more.zeroed_bytes(store.state()), 100 * MIB);
    store.create("thin", SIZE, false).unwrap();
    let more = Verb::Resize { lvol: store.id("thin"), size_bytes: 2 * SIZE };
    assert_eq!(more.zeroed_bytes(store.state()), 0);
    let too_much = Verb::Resize { lvol: id, size_bytes: 600 * MIB };
    assert_eq!(too_much.zeroed_bytes(store.state()), 0, "it is refused");
}

#[test]
fn what_is_ended_has_changed_nothing() {
    let mut store = store();
    let free = store.free();
    let (result, seen) = run(&mut store, thick("a"), 0);
    assert_eq!(result, Err(Error::Cancelled));
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(store.state().lvol_by_name(b"a").is_none());
    assert_eq!(store.free(), free);
    run(&mut store, thick("a"), u64::MAX).0.unwrap();
    let lvol = store.id("a");
    let more = |clusters: u64| Verb::Resize { lvol, size_bytes: SIZE + clusters * CLUSTER };
    let free = store.free();
    assert_eq!(run(&mut store, more(100), 0).0, Err(Error::Cancelled));
    assert_eq!((store.free(), store.state().blob(lvol).unwrap().len), (free, SIZE / CLUSTER));
    run(&mut store, more(100), u64::MAX).0.unwrap();
    assert_eq!(store.free(), free - 100);
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!((store.findings().len(), store.free()), (0, free - 100));
}

#[test]
fn what_waits_in_line_can_be_ended_too() {
    let mut store = store();
    let free = store.free();
    let first = store.start(thick("a"));
    // Gives the same name, so that it comes after the first.
    let second = store.start(thick("a"));
    store.cancel(second);
    let mut replies = Vec::new();
    while replies.len() < 2 {
        store.wait(&mut replies);
    }
    replies.sort_by_key(|(ticket, _)| *ticket);
    assert_eq!((replies[0].0, replies[1].0), (first, second));
    assert!(replies[0].1.is_ok(), "{replies:?}");
    assert_eq!(replies[1].1.as_ref().map(drop), Err(&Error::Cancelled));
    // What is done is done.
    store.cancel(first);
    assert_eq!(store.free(), free - SIZE / CLUSTER);
    assert!(store.state().lvol_by_name(b"a").is_some());
}
