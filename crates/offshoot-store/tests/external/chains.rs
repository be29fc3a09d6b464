//! Snapshots and clones over an external snapshot: who lies on what, and what moving data along such chains comes to.

use crate::jobs::contents;
use crate::lvols::{Lvols as _, assert_owned_once, pattern};
use crate::{BLOCK, CLUSTER, EXTERNAL, Failing, external, over, reopened};
use offshoot_store::{Error, ErrorKind, Store, Work};
use std::ops::ControlFlow;

/// The external snapshot ends within a cluster.
const BYTES: u64 = 5 * CLUSTER + 512;

/// What an lvol lies on: the name of a snapshot, "external" or nothing.
fn below(store: &Store<Failing>, name: &str) -> Option<String> {
    let state = store.state();
    let blob = state.blob(store.id(name)).unwrap();
    let parent = blob.parent.and_then(|parent| state.blob(parent)).map(|parent| parent.display_name());
    parent.or_else(|| blob.external_is_parent.then(|| "external".into()))
}

fn assert_below(store: &Store<Failing>, expected: &[(&str, Option<&str>)]) {
    for (name, parent) in expected {
        assert_eq!(below(store, name).as_deref(), *parent, "{name}");
    }
}

fn write(store: &mut Store<Failing>, name: &str, offset: u64, len: u64, seed: u8) {
    let lvol = store.id(name);
    store.write(lvol, offset, pattern(len, seed)).unwrap();
}

fn run(store: &mut Store<Failing>, work: Work) -> Result<(), Error> {
    store.run_job(work, |_| ControlFlow::Continue(()))
}

/// external <- s1 <- s2 <- e, and s1 <- c: each holds a block or so of its own, zeros too.
fn chain(native: bool) -> (Store<Failing>, Failing) {
    let device = external(BYTES, 512);
    let mut store = over(&device, 512, native);
    write(&mut store, "e", BLOCK, BLOCK, 1);
    store.snapshot("e", "s1").unwrap();
    store.clone_of("s1", "c").unwrap();
    write(&mut store, "c", 5 * CLUSTER + BLOCK, 700, 2);
    write(&mut store, "e", 2 * CLUSTER + 100, 700, 3);
    let lvol = store.id("e");
    store.write_zeroes(lvol, CLUSTER..CLUSTER + 2 * BLOCK).unwrap();
    store.snapshot("e", "s2").unwrap();
    write(&mut store, "e", 6 * CLUSTER, CLUSTER, 4);
    (store, device)
}

fn id(device: &Failing) -> Vec<(String, Failing)> {
    vec![(EXTERNAL.to_string(), device.clone())]
}

#[test]
fn who_lies_on_what() {
    for native in [true, false] {
        let (mut store, device) = chain(native);
        let mut expected = contents(&mut store);
        let chain = [("e", Some("s2")), ("s2", Some("s1")), ("c", Some("s1")), ("s1", Some("external"))];
        assert_below(&store, &chain);
        for _ in 0..3 {
            store = reopened(store, id(&device));
            assert_below(&store, &chain);
            assert!(contents(&mut store) == expected);
        }
        // Two clones keep a snapshot; with one it goes, and hands down what it lies on.
        assert!(matches!(store.remove("s1"), Err(Error::HasClones { count: 2, .. })));
        store.remove("c").unwrap();
        store.remove("s1").unwrap();
        assert_below(&store, &[("e", Some("s2")), ("s2", Some("external"))]);
        expected.remove("c");
        expected.remove("s1");
        assert!(contents(&mut store) == expected);
        store.remove("s2").unwrap();
        assert_below(&store, &[("e", Some("external"))]);
        expected.remove("s2");
        let mut store = reopened(store, id(&device));
        assert!(contents(&mut store) == expected);
        assert_owned_once(&store);
        store.remove("e").unwrap();
        assert_eq!(store.state().lvols().count(), 0);
    }
}

#[test]
fn decoupled_step_by_step() {
    for native in [true, false] {
        let (mut store, device) = chain(native);
        let expected = contents(&mut store);
        let lvol = store.id("e");
        for parent in [Some("s1"), Some("external"), None] {
            let mut seen = 0;
            let cost = store.engine().work_cost(Work::Decouple { lvol }).unwrap();
            let watch = |progress: offshoot_store::Progress| {
                assert!(progress.bytes_done >= seen);
                seen = progress.bytes_done;
                ControlFlow::Continue(())
            };
            store.run_job(Work::Decouple { lvol }, watch).unwrap();
            assert!(seen <= cost.bytes, "{seen} of {}", cost.bytes);
            assert_below(&store, &[("e", parent)]);
            assert_eq!(store.state().blob(lvol).unwrap().is_thin(), parent.is_some());
            assert!(contents(&mut store) == expected, "{parent:?}");
            store = reopened(store, id(&device));
            assert!(contents(&mut store) == expected, "{parent:?}: reopened");
            assert_owned_once(&store);
        }
        assert_eq!(run(&mut store, Work::Decouple { lvol }), Err(Error::NoParent("e".into())));
        // It needs the device no more; the others do.
        let mut store = reopened(store, Vec::new());
        assert!(store.content("e") == expected["e"]);
        let c = store.id("c");
        assert_eq!(store.read(c, 3 * CLUSTER, 512).unwrap_err(), Error::Degraded("c".into()));
    }
}

#[test]
fn inflated_and_merged() {
    for native in [true, false] {
        let (mut store, device) = chain(native);
        let mut expected = contents(&mut store);
        let (s1, s2, c) = (store.id("s1"), store.id("s2"), store.id("c"));
        run(&mut store, Work::Inflate { lvol: c }).unwrap();
        assert_below(&store, &[("c", None), ("s1", Some("external"))]);
        run(&mut store, Work::Merge { oldest: s1, into: s2 }).unwrap();
        expected.remove("s1");
        assert_below(&store, &[("s2", Some("external")), ("e", Some("s2"))]);
        assert!(contents(&mut store) == expected);
        run(&mut store, Work::Inflate { lvol: s2 }).unwrap();
        assert_below(&store, &[("s2", None), ("e", Some("s2"))]);
        let mut store = reopened(store, Vec::new());
        assert!(contents(&mut store) == expected, "all of it is in the store");
        run(&mut store, Work::Seal).unwrap();
        let mut store = reopened(store, Vec::new());
        assert!(contents(&mut store) == expected);
        assert_owned_once(&store);
        drop(device);
    }
}

/// A read of the external snapshot that fails ends the job, and the next one goes on from there.
#[test]
fn an_error_of_every_read_below_while_inflating() {
    for number in 0.. {
        let (mut store, device) = chain(true);
        let expected = contents(&mut store);
        let lvol = store.id("c");
        device.borrow().inject(offshoot_device::Fault::new(5).after(number).times(1));
        let result = run(&mut store, Work::Inflate { lvol });
        if result.is_ok() {
            assert!(number > 2, "{number} reads");
            return;
        }
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Io, "read {number}");
        assert_eq!(store.engine().failure(), None);
        assert!(contents(&mut store) == expected, "read {number}");
        run(&mut store, Work::Inflate { lvol }).unwrap();
        assert!(contents(&mut store) == expected, "read {number}, once more");
        assert_owned_once(&store);
    }
}

/// What cannot be read can go, under the rules for all.
#[test]
fn degraded_lvols_are_removed() {
    let (store, _) = chain(true);
    let mut store = reopened(store, Vec::new());
    for lvol in store.state().lvols().map(|lvol| lvol.id).collect::<Vec<_>>() {
        assert!(store.engine().is_degraded(lvol));
    }
    let lvol = store.id("e");
    assert_eq!(run(&mut store, Work::Inflate { lvol }), Err(Error::Degraded("e".into())));
    store.snapshot("e", "s3").unwrap();
    assert!(matches!(store.remove("s1"), Err(Error::HasClones { .. })));
    for name in ["s3", "c", "s2", "s1", "e"] {
        store.remove(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        store = reopened(store, Vec::new());
    }
    assert_eq!((store.state().lvols().count(), store.state().audit()), (0, Vec::new()));
}

/// Another device under the same id is read from then on.
#[test]
fn its_device_is_replaced() {
    let (mut store, device) = chain(true);
    let before = contents(&mut store);
    let other = crate::failing(offshoot_device::MemDevice::with_content(pattern(BYTES, 9).as_slice(), 4096));
    store.attach_external(&EXTERNAL.to_string(), other);
    let lvol = store.id("c");
    assert_eq!(store.read(lvol, 0, 4096).unwrap().as_slice(), pattern(BLOCK, 9).as_slice());
    store.attach_external(&EXTERNAL.to_string(), device);
    assert!(contents(&mut store) == before);
}
