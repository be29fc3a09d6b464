//! Small exhaustive crashes: a run of requests and verbs is cut after every operation that changes the device, and
//! what lies there then is opened again, with the power as it was and after it was lost.
//!
//! The device works in order and keeps everything: what is lost is what recovery must not trust. Disks that reorder,
//! tear and forget are the simulator's matter.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "crash/edges.rs"]
mod edges;
#[path = "common/lvols.rs"]
mod lvols;
#[path = "crash/tape.rs"]
mod tape;

use lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, assert_owned_once, named, options, pattern, writable_in};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_format::BlobId;
use offshoot_store::{Error, InitOptions, IoRequest, OpenOptions, Session, Store, Underlay, Verb, Work};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use tape::{Tape, Taped};
use uuid::Uuid;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const SECTOR: usize = 512;

/// A second loss of power.
const AFTER_ANOTHER: Session = Session { boot_id: [9; 16], device_generation: 1 };

/// An external snapshot that ends within a cluster.
const EXTERNAL: Uuid = Uuid::from_u128(9);
const EXTERNAL_BYTES: u64 = 2 * CLUSTER + 512;

/// What each lvol reads, by name.
type Content = BTreeMap<String, Vec<u8>>;

/// One step of a run, and whether its reply says that everything up to it is durable.
type Step = (&'static str, bool, fn(&mut Store<Taped>));

/// A run as it went when nothing was cut.
struct Run {
    tape: Tape,
    /// What the store held at the start and after each step.
    states: Vec<Content>,
    /// Operations on the tape when each step was replied to.
    replied: Vec<usize>,
    durable: Vec<bool>,
}

impl Run {
    fn record(start: MemDevice, steps: &[Step]) -> Self {
        let device = Taped::new(start);
        let mut store = open(device.clone(), &writable_in(Some(SESSION)), "at rest");
        let mut run =
            Self { tape: device.tape(), states: Vec::new(), replied: Vec::new(), durable: Vec::new() };
        run.states.push(content(&mut store));
        for (_, durable, step) in steps {
            step(&mut store);
            run.replied.push(device.len());
            run.durable.push(*durable);
            run.states.push(content(&mut store));
        }
        store.close().1.unwrap();
        run.tape = device.tape();
        run
    }

    /// Which of the states a store may be in that was cut after so many operations: at least what was replied to, or
    /// what of that was durable, and at most one step more.
    fn allowed(&self, cut: usize, tail_counts: bool) -> &[Content] {
        let replied = self.replied.iter().filter(|ops| **ops <= cut).count();
        let durable = (0..replied).rev().find(|step| self.durable[*step]).map_or(0, |step| step + 1);
        let from = if tail_counts { replied } else { durable };
        &self.states[from..=(replied + 1).min(self.states.len() - 1)]
    }
}

fn content<D: BlockDevice>(store: &mut Store<D>) -> Content {
    let names: Vec<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
    names.into_iter().map(|name| (name.clone(), store.content(&name))).collect()
}

/// Whether a store holds one of some states: their lvols, and in each sector what it holds in one of them.
fn assert_allowed(found: &Content, states: &[Content], what: &str) {
    let shape = |content: &Content| -> Vec<(String, usize)> {
        content.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect()
    };
    let states: Vec<&Content> = states.iter().filter(|state| shape(state) == shape(found)).collect();
    assert!(!states.is_empty(), "{what}: the lvols are {:?}", shape(found));
    for (name, bytes) in found {
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let at = number * SECTOR..number * SECTOR + sector.len();
            let known = states.iter().any(|state| state[name][at.clone()] == *sector);
            assert!(known, "{what}: {name}: sector {number} is {}", sector[0]);
        }
    }
}

fn open<D: BlockDevice + From<MemDevice>>(device: D, options: &OpenOptions, what: &str) -> Store<D> {
    let external = MemDevice::with_content(pattern(EXTERNAL_BYTES, 14).as_slice(), 512);
    let externals = vec![(EXTERNAL.to_string(), external.into())];
    let store = Store::open(device, externals, options).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(store.findings(), &[], "{what}");
    store
}

/// A store at rest: a thick lvol, a snapshot with two clones, and a thin one.
fn base(native: bool) -> MemDevice {
    let device = MemDevice::new(4 << 20, 512);
    // A small journal: each opening reads all of it.
    let init = InitOptions { journal_bytes: Some(1 << 20), ..options(16_384, 512, native) };
    let mut store = Store::init(device, &init, &writable_in(Some(SESSION))).unwrap();
    for (name, thick) in [("disk", true), ("thick", true), ("thin", false)] {
        let id = store.create(name, 3 * CLUSTER, thick).unwrap();
        store.write(id, 0, pattern(2 * CLUSTER, name.as_bytes()[3])).unwrap();
    }
    store.snapshot("disk", "snap").unwrap();
    store.clone_of("snap", "clone").unwrap();
    closed(store)
}

fn closed<D: BlockDevice>(store: Store<D>) -> D {
    let (device, result) = store.close();
    result.unwrap();
    device
}

fn write<D: BlockDevice>(store: &mut Store<D>, name: &str, offset: u64, len: u64, seed: u8) {
    let lvol = store.id(name);
    store.write(lvol, offset, pattern(len, seed)).unwrap();
}

/// Lets everything happen that goes on behind a reply.
fn settle<D: BlockDevice>(store: &mut Store<D>) {
    for _ in 0..4 {
        store.poll(&mut Vec::new());
        store.flush().unwrap();
    }
}

fn make(made: Result<BlobId, Error>) {
    assert!(made.is_ok(), "{made:?}");
}

/// Every verb, first writes and overwrites, and at the end a close.
const STEPS: &[Step] = &[
    ("first write", false, |store| write(store, "clone", BLOCK, BLOCK, 1)),
    ("another", false, |store| write(store, "thin", 2 * CLUSTER + 512, 1024, 2)),
    ("flush", true, |store| store.flush().unwrap()),
    ("overwrite", false, |store| write(store, "clone", BLOCK, 512, 3)),
    ("first write", false, |store| write(store, "clone", 2 * BLOCK, CLUSTER, 4)),
    ("create", true, |store| make(store.create("new", 2 * CLUSTER, false))),
    ("create thick", true, |store| make(store.create("new thick", 2 * CLUSTER, true))),
    ("first write", false, |store| write(store, "new", 0, BLOCK, 5)),
    ("snapshot", true, |store| make(store.snapshot("clone", "snap2"))),
    ("first write", false, |store| write(store, "clone", 0, 2 * BLOCK, 6)),
    ("clone", true, |store| make(store.clone_of("snap2", "clone2"))),
    ("zeroes", false, |store| {
        let lvol = store.id("clone2");
        store.write_zeroes(lvol, 512..CLUSTER).unwrap();
    }),
    ("trim", false, |store| {
        let lvol = store.id("disk");
        store.unmap(lvol, 0..CLUSTER).unwrap();
    }),
    ("FUA", true, |store| {
        let lvol = store.id("thin");
        let request = IoRequest::Write { lvol, offset: 0, data: pattern(BLOCK, 7), fua: true };
        let ticket = store.submit(request);
        store.wait_for(ticket).unwrap();
    }),
    ("begin", true, |store| begin(store, "begun")),
    ("begin what is never finished", true, |store| begin(store, "left")),
    ("fill", false, |store| {
        for lvol in unfinished(store) {
            store.write(lvol, BLOCK, pattern(CLUSTER, 12)).unwrap();
        }
    }),
    ("grow", true, |store| {
        let lvol = unfinished(store)[0];
        store.run(Verb::Resize { lvol, size_bytes: 4 * CLUSTER }).unwrap();
    }),
    ("flush", true, |store| store.flush().unwrap()),
    ("finish", true, |store| {
        let lvol = unfinished(store)[0];
        store.run(Verb::Finish { lvol, name: "begun".into() }).unwrap();
    }),
    ("rename", true, |store| store.rename("thin", "renamed").unwrap()),
    ("shrink", true, |store| store.resize("thick", CLUSTER).unwrap()),
    ("grow", true, |store| store.resize("thick", 3 * CLUSTER).unwrap()),
    ("first write", false, |store| write(store, "thick", CLUSTER, BLOCK, 8)),
    ("remove a leaf", true, |store| store.remove("clone2").unwrap()),
    ("remove a snapshot", true, |store| store.remove("snap2").unwrap()),
    ("overwrite", false, |store| write(store, "clone", 0, CLUSTER, 9)),
    ("what goes on behind", true, settle),
    ("clone of an external snapshot", true, |store| {
        let (identity, size_bytes) = (named("over"), 4 * CLUSTER);
        let (external, external_bytes) = (EXTERNAL, EXTERNAL_BYTES);
        make(
            store
                .run(Verb::CloneExternal {
                    identity,
                    size_bytes,
                    external,
                    external_bytes,
                    copy_on_read: false,
                })
                .map(|made| made[0]),
        );
    }),
    ("first write", false, |store| write(store, "over", CLUSTER + 512, 512, 11)),
    ("trim", false, |store| {
        let lvol = store.id("over");
        store.unmap(lvol, CLUSTER..2 * CLUSTER).unwrap();
    }),
    ("shrink", true, |store| store.resize("over", CLUSTER).unwrap()),
    ("grow", true, |store| store.resize("over", 3 * CLUSTER).unwrap()),
    ("snapshot", true, |store| make(store.snapshot("over", "over snap"))),
    ("onto an external snapshot", true, |store| {
        let lvol = store.id("new");
        store.run(Verb::SetParent { lvol, underlay: Underlay::External(EXTERNAL) }).unwrap();
    }),
    ("inflate", true, |store| {
        let lvol = store.id("new");
        store.run_job(Work::Inflate { lvol }, |_| ControlFlow::Continue(())).unwrap();
    }),
    ("remove a snapshot", true, |store| store.remove("over snap").unwrap()),
    ("first write", false, |store| write(store, "over", 0, BLOCK, 10)),
];

fn begin(store: &mut Store<Taped>, name: &str) {
    make(store.run(Verb::Begin { identity: named(name), size_bytes: 2 * CLUSTER }).map(|made| made[0]));
}

/// Lvols that were begun and are not finished, the oldest first.
fn unfinished(store: &Store<Taped>) -> Vec<BlobId> {
    store.state().deferred().map(|blob| blob.id).collect()
}

#[test]
fn every_cut_of_a_native_store() {
    every_cut(base(true));
}

#[test]
fn every_cut_of_a_plain_store() {
    every_cut(base(false));
}

fn every_cut(start: MemDevice) {
    let run = Run::record(start, STEPS);
    assert!(run.tape.len() > 60, "{} operations", run.tape.len());
    for cut in 0..=run.tape.len() {
        let left = run.tape.device_after(cut);
        for power in [SESSION, AFTER_POWER_LOSS] {
            let what = format!("cut after {cut} ({:?}), {:?}", run.tape.last_before(cut), power.boot_id[0]);
            let allowed = run.allowed(cut, power == SESSION);
            let seen = look(&left, power, &what);
            assert_allowed(&seen, allowed, &what);
            let mut store = open(left.clone(), &writable_in(Some(power)), &what);
            assert!(content(&mut store) == seen, "{what}: it differs from what looking showed");
            assert_eq!(store.state().deferred().count(), 0, "{what}: something is not finished");
            settle(&mut store);
            assert_owned_once(&store);
            // It works, and nothing of it depends on the journal that was.
            store.create("proof", CLUSTER, true).unwrap();
            store.remove("proof").unwrap();
            let mut store = open(closed(store), &writable_in(Some(power)), &what);
            assert!(content(&mut store) == seen, "{what}: it changes by being closed");
            assert_owned_once(&store);
        }
    }
}

/// What an opening for looking shows. It writes nothing.
fn look(left: &MemDevice, power: Session, what: &str) -> Content {
    let mut device = left.clone();
    device.set_read_only(true);
    let mut store = open(device, &OpenOptions::read_only(Some(power)), what);
    let seen = content(&mut store);
    let (device, closed) = store.close();
    assert_eq!(closed, Ok(()), "{what}");
    assert_eq!(device.stats().syncs, 0, "{what}");
    let stats = device.stats();
    assert_eq!(
        (stats.writes.ops, stats.write_zeroes.ops, stats.unmaps.ops),
        (0, 0, 0),
        "{what}: looking writes"
    );
    seen
}

/// Recovery itself is cut after each of its operations, and what it left is recovered again.
#[test]
fn every_cut_of_recovery() {
    let run = Run::record(base(true), STEPS);
    let powers = [
        (SESSION, SESSION),
        (SESSION, AFTER_POWER_LOSS),
        (AFTER_POWER_LOSS, AFTER_POWER_LOSS),
        (AFTER_POWER_LOSS, AFTER_ANOTHER),
    ];
    let mut cuts = 0;
    for first_cut in 0..=run.tape.len() {
        let left = run.tape.device_after(first_cut);
        for (first, second) in powers {
            let what = format!("cut after {first_cut}, {} and {}", first.boot_id[0], second.boot_id[0]);
            let device = Taped::new(left.clone());
            let mut store = open(device.clone(), &writable_in(Some(first)), &what);
            let recovery = device.tape();
            let recovered = content(&mut store);
            drop(store);
            for cut in 0..=recovery.len() {
                let what = format!("{what}, recovery cut after {cut}");
                let allowed = run.allowed(first_cut, second == SESSION);
                let mut store = open(recovery.device_after(cut), &writable_in(Some(second)), &what);
                let found = content(&mut store);
                assert_allowed(&found, allowed, &what);
                assert_owned_once(&store);
                if cut == recovery.len() {
                    assert!(found == recovered, "{what}: a recovery that was complete is not final");
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 1000, "{cuts} cuts");
}

/// A ring so small that the run laps it: frames of earlier laps lie between those that count, and checkpoints run
/// while writes go on.
#[test]
fn every_cut_of_a_run_that_laps_the_ring() {
    const LARGE: u64 = 65_536;
    const WRITES: u64 = 160;
    let init = InitOptions { journal_bytes: Some(64 << 10), ..options(65_536, 4096, true) };
    let store = Store::init(MemDevice::new(8 << 20, 4096), &init, &writable_in(Some(SESSION))).unwrap();
    let device = Taped::new(closed(store));
    let mut store = Store::open(device.clone(), Vec::new(), &writable_in(Some(SESSION))).unwrap();
    let id = store.create("l", 16 * LARGE, false).unwrap();
    let ring = store.super_block().native.as_ref().and_then(|native| native.journal).unwrap().len;
    assert!(u64::from(ring) < WRITES, "a ring of {ring} pages is not lapped by {WRITES} frames");

    let mut run = Run {
        tape: device.tape(),
        states: vec![Content::new(), content(&mut store)],
        replied: vec![device.len()],
        durable: vec![true],
    };
    for number in 0..WRITES {
        let flush = number % 5 == 4;
        let offset = number * 7 % 256 * BLOCK;
        if flush {
            store.flush().unwrap();
        } else {
            store.write(id, offset, pattern(BLOCK, u8::try_from(number % 15).unwrap())).unwrap();
        }
        run.replied.push(device.len());
        run.durable.push(flush);
        run.states.push(content(&mut store));
    }
    run.tape = device.tape();
    for cut in (0..=run.tape.len()).filter(|cut| *cut >= run.replied[0]) {
        let left = run.tape.device_after(cut);
        for power in [SESSION, AFTER_POWER_LOSS] {
            let what = format!("cut after {cut} ({:?}), {}", run.tape.last_before(cut), power.boot_id[0]);
            let mut store = open(left.clone(), &writable_in(Some(power)), &what);
            assert_allowed(&content(&mut store), run.allowed(cut, power == SESSION), &what);
            assert_owned_once(&store);
        }
    }
}
