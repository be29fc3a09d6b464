//! Every verb, write and job with next to no space: so many free clusters and so many md pages, from none on.
//!
//! What fails fails with ENOSPC, and has changed nothing. Whatever became of it, the store agrees with itself and with a
//! count from scratch, now and after it was closed; and once there is space again the same goes through (D7).

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::lvols::{Lvols as _, named, options, pattern, writable};
use common::{Model, ShuffledDevice, cases, compare, reopen};
use offshoot_device::MemDevice;
use offshoot_format::BlobId;
use offshoot_store::{CreateOptions, Error, ErrorKind, InitOptions, IoRequest, Store, Underlay, Verb, Work};
use std::ops::ControlFlow;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;

type Tiny = Store<ShuffledDevice>;
type Scenario = (&'static str, fn(&mut Tiny) -> Result<(), Error>);

/// The family that everything is done to: `base` over two snapshots, a clone of the older one, and a thick one.
fn family(native: bool) -> Tiny {
    let init = InitOptions { journal_bytes: Some(256 << 10), ..options(16_384, 512, native) };
    let device = ShuffledDevice::new(MemDevice::new(3 << 20, 512), 7);
    let mut store = Store::init(device, &init, &writable()).unwrap();
    let id = store.create("base", 6 * CLUSTER, false).unwrap();
    store.write(id, 0, pattern(4 * CLUSTER, 1)).unwrap();
    store.snapshot("base", "old").unwrap();
    store.write(id, CLUSTER + BLOCK, pattern(BLOCK, 2)).unwrap();
    store.snapshot("base", "new").unwrap();
    store.write(id, 2 * CLUSTER, pattern(BLOCK, 3)).unwrap();
    let clone = store.clone_of("old", "clone").unwrap();
    store.write(clone, BLOCK, pattern(BLOCK, 4)).unwrap();
    let thick = store.create("thick", 3 * CLUSTER, true).unwrap();
    store.write(thick, 0, pattern(2 * CLUSTER, 5)).unwrap();
    store.create("filler", 1 << 30, false).unwrap();
    store
}

/// A store with so many free clusters, and as many md pages as come free with so many lvols without clusters. Closed.
fn short(native: bool, clusters: u64, md_lvols: usize) -> MemDevice {
    let mut store = family(native);
    let filler = store.id("filler");
    let mut at = 0;
    while store.free() > clusters {
        store.write(filler, at * CLUSTER, pattern(CLUSTER, 6)).unwrap();
        at += 1;
    }
    let mut made = 0;
    loop {
        match store.create(&format!("md{made}"), 0, false) {
            Ok(_) => made += 1,
            Err(error) => break assert!(matches!(error, Error::NoMdPages { .. }), "{error}"),
        }
    }
    for number in 0..md_lvols.min(made) {
        store.remove(&format!("md{number}")).unwrap();
    }
    let (device, closed) = store.close();
    closed.unwrap();
    device.inner
}

fn open(device: MemDevice, seed: u64) -> Tiny {
    let store = Store::open(ShuffledDevice::new(device, seed), Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    store
}

fn content(store: &mut Tiny) -> Model {
    let names: Vec<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
    let small = names.into_iter().filter(|name| name != "filler");
    small.map(|name| (name.clone(), store.content(&name))).collect()
}

/// The content of all lvols, and all that is counted, is right. The filler is too large to be compared.
fn verify(store: &mut Tiny, model: &Model, what: &str) {
    assert!(content(store) == *model, "{what}");
    assert_eq!(store.state().audit(), &[], "{what}");
    common::verify_counts(store.state());
    common::verify_space(store.state());
}

fn write(store: &mut Tiny, name: &str, offset: u64, len: u64) -> Result<(), Error> {
    let id = store.id(name);
    store.write(id, offset, pattern(len, 9)).map(drop)
}

fn job(store: &mut Tiny, work: impl FnOnce(&Tiny) -> Work) -> Result<(), Error> {
    let work = work(store);
    store.run_job(work, |_| ControlFlow::Continue(()))
}

fn set_parent(store: &mut Tiny, lvol: &str, underlay: impl FnOnce(&Tiny) -> Underlay) -> Result<(), Error> {
    let (lvol, underlay) = (store.id(lvol), underlay(store));
    store.run(Verb::SetParent { lvol, underlay }).map(drop)
}

fn create(store: &mut Tiny, thick: bool, reserve: bool) -> Result<(), Error> {
    let options = CreateOptions { thick, reserve, ..CreateOptions::default() };
    store.run(Verb::Create { identity: named("made"), size_bytes: 3 * CLUSTER, options }).map(drop)
}

fn ids(store: &Tiny, names: [&str; 2]) -> [BlobId; 2] {
    names.map(|name| store.id(name))
}

const SCENARIOS: &[Scenario] = &[
    ("create thin", |store| create(store, false, false)),
    ("create thick", |store| create(store, true, false)),
    ("create with a reservation", |store| create(store, false, true)),
    ("snapshot", |store| store.snapshot("base", "made").map(drop)),
    ("group snapshot", |store| {
        let items = ids(store, ["base", "clone"]).into_iter().zip(["made", "made too"].map(named)).collect();
        store.run(Verb::Snapshot { items }).map(drop)
    }),
    ("snapshot of a thick lvol", |store| store.snapshot("thick", "made").map(drop)),
    ("clone", |store| store.clone_of("new", "made").map(drop)),
    ("grow a thick lvol", |store| store.resize("thick", 6 * CLUSTER)),
    ("grow a thin lvol", |store| store.resize("clone", 2000 * CLUSTER)),
    ("shrink", |store| store.resize("thick", CLUSTER)),
    ("rename", |store| store.rename("base", &"b".repeat(60))),
    ("read-only", |store| {
        let lvol = store.id("clone");
        store.run(Verb::SetReadOnly { lvol }).map(drop)
    }),
    ("label", |store| {
        let labels = vec![("key".into(), Some("v".repeat(900)))];
        let lvol = store.id("base");
        store.run(Verb::Label { lvol, labels }).map(drop)
    }),
    ("revert", |store| {
        let [lvol, snapshot] = ids(store, ["base", "new"]);
        store.run(Verb::Revert { lvol, snapshot }).map(drop)
    }),
    ("another parent", |store| set_parent(store, "clone", |store| Underlay::Snapshot(store.id("new")))),
    ("no parent", |store| set_parent(store, "clone", |_| Underlay::Nothing)),
    ("remove a leaf", |store| store.remove("clone")),
    ("remove a snapshot", |store| store.remove("new")),
    ("remove deferred", |store| {
        let lvol = store.id("old");
        store.run(Verb::RemoveDeferred { lvol }).map(drop)
    }),
    ("a first write", |store| write(store, "clone", 2 * CLUSTER, BLOCK)),
    ("a first write of less than a block", |store| write(store, "base", 512, 512)),
    ("a large first write", |store| write(store, "clone", CLUSTER, 4 * CLUSTER)),
    ("a write in place", |store| write(store, "thick", CLUSTER, CLUSTER)),
    ("zeros over a parent", |store| {
        let lvol = store.id("clone");
        store.write_zeroes(lvol, 0..3 * CLUSTER)
    }),
    ("zeros over a part", |store| {
        let lvol = store.id("clone");
        store.write_zeroes(lvol, 512..CLUSTER + BLOCK)
    }),
    ("zeros that keep space", |store| {
        let request = IoRequest::WriteZeroes {
            lvol: store.id("clone"),
            range: 0..3 * CLUSTER,
            allocate: true,
            fua: false,
        };
        let ticket = store.submit(request);
        store.wait_for(ticket).map(drop)
    }),
    ("trim", |store| {
        let lvol = store.id("base");
        store.unmap(lvol, 0..4 * CLUSTER)
    }),
    ("seal", |store| job(store, |_| Work::Seal)),
    ("inflate", |store| job(store, |store| Work::Inflate { lvol: store.id("base") })),
    ("decouple", |store| job(store, |store| Work::Decouple { lvol: store.id("base") })),
    ("merge", |store| {
        job(store, |store| {
            let [oldest, into] = ids(store, ["new", "base"]);
            Work::Merge { oldest, into }
        })
    }),
];

/// Trims and jobs may have done a part.
fn changes_in_parts(name: &str) -> bool {
    name.starts_with("zeros") || name == "trim"
}

/// A campaign has each scenario meet each shortage, other runs a share of them.
fn every_shortage(native: bool) {
    let share = if cases(1) > 1 { 1 } else { 5 };
    let (mut refused, mut done) = (0, 0);
    let shortages = [0, 1, 2, 4].into_iter().flat_map(|clusters| [0, 1, 2, 4, 1000].map(|md| (clusters, md)));
    for (shortage, (clusters, md_lvols)) in shortages.enumerate() {
        let device = short(native, clusters, md_lvols);
        for (number, (name, run)) in SCENARIOS.iter().enumerate() {
            if (number + shortage) % share != 0 {
                continue;
            }
            let what =
                format!("{name}, {clusters} clusters and {md_lvols} lvols' md pages, native: {native}");
            let mut store = open(device.clone(), number as u64 * 31 + clusters);
            let before = content(&mut store);
            let outcome = run(&mut store);
            let after = content(&mut store);
            match &outcome {
                Ok(()) => done += 1,
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), ErrorKind::NoSpace, "{what}: {error}");
                    assert!(!matches!(error, Error::JournalRoom { .. }), "{what}: {error}");
                    assert!(changes_in_parts(name) || after == before, "{what}: {error}");
                }
            }
            verify(&mut store, &after, &what);
            let mut store = reopen(store);
            verify(&mut store, &after, &what);
            // What fills the store goes: whatever was refused goes through.
            store.remove("filler").unwrap();
            let spare = store.state().lvols().map(|lvol| lvol.display_name());
            let spare: Vec<String> = spare.filter(|name| name.starts_with("md")).collect();
            spare.iter().for_each(|name| store.remove(name).unwrap());
            if outcome.is_err() {
                run(&mut store).unwrap_or_else(|error| panic!("{what}: with space again: {error}"));
            }
            let healed = content(&mut store);
            let mut store = reopen(store);
            compare(&mut store, &healed);
        }
    }
    assert!(refused > 20 && done > 20, "{refused} refused, {done} done");
}

#[test]
fn every_shortage_of_a_native_store() {
    every_shortage(true);
}

#[test]
fn every_shortage_of_a_plain_store() {
    every_shortage(false);
}
