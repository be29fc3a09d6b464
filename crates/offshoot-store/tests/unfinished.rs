//! Lvols that are out of sight until they are finished, and gone if they never are.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, named, options, pattern, writable};
use offshoot_device::MemDevice;
use offshoot_format::{BlobId, MdPageIdx};
use offshoot_store::{Blob, Error, Finding, Found, OpenOptions, Store, Verb};

const CLUSTER: u64 = 16_384;

type Plain = Store<MemDevice>;

fn store() -> Plain {
    Store::init(MemDevice::new(16 << 20, 512), &options(16_384, 512, true), &writable()).unwrap()
}

fn begin(store: &mut Plain, name: &str) -> Result<BlobId, Error> {
    store.run(Verb::Begin { identity: named(name), size_bytes: 2 * CLUSTER }).map(|made| made[0])
}

fn finish(store: &mut Plain, lvol: BlobId, name: &str) -> Result<(), Error> {
    store.run(Verb::Finish { lvol, name: name.into() }).map(drop)
}

fn names(store: &Plain) -> Vec<String> {
    store.state().lvols().map(|blob| blob.display_name()).collect()
}

fn reopen(store: Plain, options: &OpenOptions) -> Plain {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), options).unwrap();
    assert_eq!((store.findings(), &store.state().audit()[..]), (&[][..], &[][..]));
    store
}

#[test]
fn it_is_filled_out_of_sight_and_there_once_it_is_finished() {
    let mut store = store();
    let lvol = begin(&mut store, "a").unwrap();
    store.write(lvol, 512, pattern(CLUSTER, 1)).unwrap();
    store.run(Verb::Resize { lvol, size_bytes: 4 * CLUSTER }).unwrap();
    store.write(lvol, 3 * CLUSTER, pattern(CLUSTER, 2)).unwrap();
    assert_eq!(names(&store), [""; 0]);
    assert!(store.state().blob(lvol).is_some_and(|blob| store.state().is_unfinished(blob)));
    // Nobody else can do anything with it.
    let unknown = Err(Error::UnknownBlob(lvol));
    assert_eq!(store.run(Verb::Snapshot { items: vec![(lvol, named("s"))] }), unknown);
    assert_eq!(store.run(Verb::Rename { lvol, name: "b".into() }), unknown);
    assert_eq!(store.run(Verb::SetReadOnly { lvol }), unknown);
    finish(&mut store, lvol, "a").unwrap();
    assert_eq!(names(&store), ["a"]);
    assert_eq!(finish(&mut store, lvol, "b"), Err(Error::UnknownBlob(lvol)));
    let before = store.content("a");
    assert!(before[512..][..16_384] == *pattern(CLUSTER, 1).as_slice());
    let mut store = reopen(store, &writable());
    assert!(names(&store) == ["a"] && store.content("a") == before);
    assert_eq!(store.id("a"), lvol);
    store.snapshot("a", "s").unwrap();
    store.remove("s").unwrap();
    store.remove("a").unwrap();
}

#[test]
fn what_is_never_finished_goes_with_the_next_opening_for_writing() {
    let mut store = store();
    let free = store.state().clusters.free();
    let lvol = begin(&mut store, "a").unwrap();
    store.write(lvol, 0, pattern(2 * CLUSTER, 1)).unwrap();
    let mut store = reopen(store, &OpenOptions::read_only(None));
    assert_eq!((names(&store).len(), store.state().deferred().count()), (0, 1));
    assert!(store.run(Verb::Remove { lvol }).is_err());
    let mut store = reopen(store, &writable());
    assert_eq!((names(&store).len(), store.state().deferred().count()), (0, 0));
    store.create("a", CLUSTER, false).unwrap();
    store.remove("a").unwrap();
    assert_eq!(reopen(store, &writable()).state().clusters.free(), free);
}

#[test]
fn one_that_is_given_up_is_removed_at_once() {
    let mut store = store();
    let lvol = begin(&mut store, "a").unwrap();
    store.write(lvol, 0, pattern(2 * CLUSTER, 1)).unwrap();
    store.run(Verb::Remove { lvol }).unwrap();
    assert_eq!(store.state().deferred().count(), 0);
    assert_eq!(finish(&mut store, lvol, "a"), Err(Error::UnknownBlob(lvol)));
}

#[test]
fn its_name_is_looked_at_twice() {
    let mut store = store();
    store.create("a", CLUSTER, false).unwrap();
    assert_eq!(begin(&mut store, "a"), Err(Error::NameExists("a".into())));
    assert!(matches!(begin(&mut store, "x/y"), Err(Error::BadName { .. })));
    let lvol = begin(&mut store, "b").unwrap();
    store.create("b", CLUSTER, false).unwrap();
    assert_eq!(finish(&mut store, lvol, "b"), Err(Error::NameExists("b".into())));
    assert!(matches!(finish(&mut store, lvol, ""), Err(Error::BadName { .. })));
    finish(&mut store, lvol, &"c".repeat(63)).unwrap();
    assert_eq!(names(&store).len(), 3);
    // A snapshot whose removal is put off cannot be finished.
    let [one, two] = ["a", "s"].map(str::to_owned);
    store.snapshot(&one, &two).unwrap();
    store.clone_of("s", "k").unwrap();
    let snapshot = store.id("s");
    store.run(Verb::RemoveDeferred { lvol: snapshot }).unwrap();
    assert_eq!(finish(&mut store, snapshot, "s"), Err(Error::UnknownBlob(snapshot)));
}

#[test]
fn one_that_is_damaged_goes_too() {
    let mut store = store();
    let kept = store.create("kept", CLUSTER, false).unwrap();
    store.write(kept, 0, pattern(CLUSTER, 7)).unwrap();
    // Large enough for a map in pages of its own.
    let identity = named("a");
    let lvol = store.run(Verb::Begin { identity, size_bytes: 2000 * CLUSTER }).unwrap()[0];
    for at in [0, 600, 1999] {
        store.write(lvol, at * CLUSTER, pattern(CLUSTER, 1)).unwrap();
    }
    let layout = store.state().layout.clone();
    let (device, closed) = store.close();
    closed.unwrap();
    let mut damaged = 0;
    for page in 0..layout.md_len {
        let mut device = device.clone();
        device.write_at(layout.md_page_offset(MdPageIdx(page)) + 100, &[0x5a; 8]);
        let Ok(found) = Store::open(device.clone(), Vec::new(), &OpenOptions::read_only(None)) else {
            continue;
        };
        let is_left = |blob: &Blob| found.state().is_unfinished(blob) && blob.damage.is_some();
        let is_hit = found.state().deferred().any(is_left);
        damaged += usize::from(is_hit);
        let store = Store::open(device, Vec::new(), &writable()).unwrap();
        if is_hit {
            assert_eq!(store.state().deferred().count(), 0, "page {page}");
            assert_eq!(names(&store), ["kept"]);
            // Clusters that only the lost page told of are left for a repair, as after any removal of what is damaged.
            let (device, closed) = store.close();
            closed.unwrap();
            let store = Store::open(device, Vec::new(), &writable()).unwrap();
            assert!(store.state().blob(lvol).is_none());
            let is_surplus = |finding: &Finding| matches!(finding.what, Found::Mask { missing: 0, .. });
            assert!(store.findings().iter().all(is_surplus), "{:?}", store.findings());
        }
    }
    assert!(damaged >= 2, "{damaged}");
}
