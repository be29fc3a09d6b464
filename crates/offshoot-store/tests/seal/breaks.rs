//! Sealing that is broken off: by a crash behind every operation, by an error of every operation, by its caller at every
//! step. What is left is a store with the same lvols and bytes, and sealing goes on from there.

use super::lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, assert_owned_once, writable, writable_in};
use super::tape::Taped;
use super::{
    BLOCK, CLUSTER, Contents, assert_plain, assert_plain_after_crash, contents, family, new_store, reopened,
    seal, write, zero,
};
use offshoot_device::MemDevice;
use offshoot_store::{Error, Store, Work};
use std::ops::ControlFlow;

/// A store at rest with native states of every kind, deep and shallow.
fn native() -> (MemDevice, Contents) {
    let mut store = new_store(16_384, 6 << 20);
    family(&mut store);
    write(&mut store, "clone", BLOCK, BLOCK, 1);
    store.snapshot("clone", "second").unwrap();
    write(&mut store, "clone", 0, BLOCK, 2);
    zero(&mut store, "clone", 2 * BLOCK, BLOCK);
    zero(&mut store, "clone", 2 * CLUSTER, CLUSTER);
    write(&mut store, "far", CLUSTER, BLOCK, 3);
    store.remove("lonely").unwrap();
    store.resize("disk", 3 * CLUSTER).unwrap();
    store.resize("disk", 5 * CLUSTER).unwrap();
    store.snapshot("disk", "tail").unwrap();
    store.create("gone", 4 * CLUSTER, true).unwrap();
    let expected = contents(&mut store);
    let (device, closed) = store.close();
    closed.unwrap();
    (device, expected)
}

/// What is left opens, holds the same, and can be sealed.
fn assert_goes_on(left: MemDevice, expected: &Contents, power: offshoot_store::Session, what: &str) {
    let opened = Store::open(left, Vec::new(), &writable_in(Some(power)));
    let mut store = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((store.findings(), store.state().audit()), (&[][..], Vec::new()), "{what}");
    assert!(contents(&mut store) == *expected, "{what}: it reads something else");
    assert_owned_once(&store);
    seal(&mut store).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (device, closed) = store.close();
    closed.unwrap();
    assert_plain_after_crash(&device, expected);
}

/// Opens the store, seals it and closes it, with a removed lvol still on its way out.
fn sealed_on(device: Taped) {
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    store.remove("gone").unwrap();
    seal(&mut store).unwrap();
    store.close().1.unwrap();
}

#[test]
fn every_crash_of_sealing_and_closing() {
    let (start, mut expected) = native();
    let device = Taped::new(start);
    sealed_on(device.clone());
    let tape = device.tape();
    let with_gone = expected.clone();
    expected.remove("gone");
    assert!(tape.len() > 30, "{} operations", tape.len());
    for cut in 0..=tape.len() {
        for power in [SESSION, AFTER_POWER_LOSS] {
            let what = format!("cut after {cut} of {} ({:?})", tape.len(), tape.last_before(cut));
            let left = tape.device_after(cut);
            let is_there = {
                let store = Store::open(left.clone(), Vec::new(), &writable_in(Some(power))).unwrap();
                store.state().lvol_by_name(b"gone").is_some()
            };
            assert_goes_on(left, if is_there { &with_gone } else { &expected }, power, &what);
        }
    }
}

#[test]
fn an_error_of_every_operation() {
    let (start, expected) = native();
    let refused = super::jobs::an_error_of_every_operation(
        &start,
        seal,
        |store, what| {
            assert!(store.state().native_allowed, "{what}");
            assert!(contents(store) == expected, "{what}");
        },
        |left, power, what| assert_goes_on(left, &expected, power, what),
    );
    assert!(refused > 10, "{refused} failed operations refused sealing alone");
}

#[test]
fn ended_at_every_step() {
    let (start, expected) = native();
    let mut ended = 0;
    for steps in 0.. {
        let mut store = reopened(start.clone());
        let mut left = steps;
        let result = store.run_job(Work::Seal, |_| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            ControlFlow::Continue(())
        });
        assert_owned_once(&store);
        assert!(contents(&mut store) == expected, "ended after {steps}");
        let (device, closed) = store.close();
        closed.unwrap();
        match result {
            Ok(()) => break,
            Err(error) => assert_eq!(error, Error::Cancelled),
        }
        ended += 1;
        let mut store = reopened(device);
        assert!(contents(&mut store) == expected, "ended after {steps}");
        seal(&mut store).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        assert_plain(&device, &expected);
    }
    assert!(ended > 3, "{ended} steps");
}

/// A store that is closed while a job runs is closed as it is.
#[test]
fn closed_in_the_middle() {
    let (start, expected) = native();
    let mut store = reopened(start);
    store.start_job(Work::Seal, Some(CLUSTER));
    (0..10).for_each(|_| store.poll(&mut Vec::new()));
    let (device, closed) = store.close();
    closed.unwrap();
    assert_goes_on(device, &expected, SESSION, "closed in the middle");
}
