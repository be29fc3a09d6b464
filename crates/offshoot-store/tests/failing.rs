//! EIO at every device operation of every request and verb, one at a time.
//!
//! What must hold, whichever operation fails:
//! - the request reports it, unless what failed is a discard, which nobody waits for;
//! - an error on data fails that request alone; one in a barrier stops writes, and reads go on;
//! - on the device, healthy again, lies the store as it was before the request or after it, without findings, and
//!   it can be used. What was written or trimmed and not made durable may be old or new, sector by sector.
//!
//! Until there is a journal, a barrier writes md pages in place, several at once, and a failure between them leaves
//! some old and some new. The scenarios that show this are marked [`Metadata::Torn`]. They must harm no lvol that
//! they are not about, and each must still show it: the mark goes when the journal comes.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;

use lvols::{Lvols as _, Shared, assert_owned_once, metadata_clusters, options, pattern, writable};
use offshoot_block::DeviceError;
use offshoot_device::{ErrorDevice, Fault, LoggedOp, MemDevice, OpKind};
use offshoot_store::{Error, IoRequest, Store};
use plain_checker::PlainStore;
use std::collections::BTreeMap;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const EIO: DeviceError = DeviceError::Io { errno: 5 };

type Device = Shared<ErrorDevice<MemDevice>>;
type Run = fn(&mut Store<Device>) -> Result<(), Error>;

/// What a store holds: content by lvol, and how many clusters are free.
type Content = (BTreeMap<String, Vec<u8>>, u64);

/// Whether the md pages that a scenario changes reach the device all or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    Atomic,
    Torn,
}
use Metadata::{Atomic, Torn};

struct Scenario {
    name: &'static str,
    metadata: Metadata,
    /// The lvols that it is about.
    lvols: &'static [&'static str],
    /// What happens before anything fails.
    prepare: Option<Run>,
    run: Run,
}

const fn scenario(
    name: &'static str,
    metadata: Metadata,
    lvols: &'static [&'static str],
    run: Run,
) -> Scenario {
    Scenario { name, metadata, lvols, prepare: None, run }
}

const SCENARIOS: &[Scenario] = &[
    scenario("create thin", Atomic, &["new"], |store| store.create("new", 4 * CLUSTER, false).map(drop)),
    scenario("create thick", Atomic, &["new"], |store| store.create("new", 4 * CLUSTER, true).map(drop)),
    scenario("snapshot", Torn, &["clone", "new"], |store| store.snapshot("clone", "new").map(drop)),
    Scenario {
        prepare: Some(|store| write(store, "clone", CLUSTER, BLOCK)),
        ..scenario("snapshot of what was written", Torn, &["clone", "new"], |store| {
            store.snapshot("clone", "new").map(drop)
        })
    },
    scenario("clone", Atomic, &["new"], |store| store.clone_of("snap", "new").map(drop)),
    scenario("remove a leaf", Atomic, &["thick"], |store| store.remove("thick")),
    scenario("remove a leaf and flush", Atomic, &["thick"], |store| {
        store.remove("thick")?;
        settle(store)
    }),
    scenario("remove a snapshot", Torn, &["lonely", "far"], |store| store.remove("lonely")),
    scenario("grow thick", Atomic, &["thick"], |store| store.resize("thick", 6 * CLUSTER)),
    scenario("grow thin", Torn, &["thin"], |store| store.resize("thin", 600 * CLUSTER)),
    scenario("shrink", Atomic, &["thick"], |store| {
        store.resize("thick", 2 * CLUSTER)?;
        settle(store)
    }),
    scenario("rename", Atomic, &["thin", "renamed"], |store| store.rename("thin", "renamed")),
    scenario("first write of a block", Torn, &["clone"], |store| flushed(store, "clone", 5 * BLOCK, BLOCK)),
    scenario("first write with a gap", Torn, &["clone"], |store| {
        flushed(store, "clone", 5 * BLOCK + 512, 512)
    }),
    scenario("first write of a cluster", Torn, &["clone"], |store| flushed(store, "clone", CLUSTER, CLUSTER)),
    scenario("first write into a hole", Torn, &["thin"], |store| flushed(store, "thin", 7 * CLUSTER, BLOCK)),
    Scenario {
        prepare: Some(|store| write(store, "thin", 7 * CLUSTER, BLOCK)),
        ..scenario("first writes to two lvols", Torn, &["clone", "thin"], |store| {
            flushed(store, "clone", 0, BLOCK)
        })
    },
    scenario("overwrite", Atomic, &["thick"], |store| flushed(store, "thick", BLOCK, BLOCK)),
    scenario("write with FUA", Torn, &["clone"], |store| {
        let (lvol, data) = (store.id("clone"), pattern(BLOCK, 9));
        let ticket = store.submit(IoRequest::Write { lvol, offset: 0, data, fua: true });
        store.wait_for(ticket).map(drop)
    }),
    scenario("write zeroes", Torn, &["clone"], |store| {
        let lvol = store.id("clone");
        store.write_zeroes(lvol, 512..2 * CLUSTER)?;
        settle(store)
    }),
    scenario("trim", Torn, &["joined"], |store| {
        let lvol = store.id("joined");
        store.unmap(lvol, 0..2 * CLUSTER)?;
        settle(store)
    }),
];

fn write(store: &mut Store<Device>, name: &str, offset: u64, len: u64) -> Result<(), Error> {
    let lvol = store.id(name);
    store.write(lvol, offset, pattern(len, 9)).map(drop)
}

fn flushed(store: &mut Store<Device>, name: &str, offset: u64, len: u64) -> Result<(), Error> {
    write(store, name, offset, len)?;
    store.flush()
}

/// Lets everything happen that a request has left to be done behind it.
fn settle(store: &mut Store<Device>) -> Result<(), Error> {
    for _ in 0..3 {
        store.poll(&mut Vec::new());
        store.flush()?;
    }
    store.poll(&mut Vec::new());
    Ok(())
}

/// A store at rest with a family of snapshots and clones, a thin and a thick lvol, and one that no scenario is about.
fn base(native: bool) -> MemDevice {
    let device = MemDevice::new(12 << 20, 512);
    let mut store = Store::init(device, &options(16_384, 512, native), &writable()).unwrap();
    for (name, thick) in
        [("bystander", true), ("disk", true), ("thick", true), ("thin", false), ("far", false)]
    {
        let id = store.create(name, 4 * CLUSTER, thick).unwrap();
        let seed = name.as_bytes()[1];
        store.write(id, 0, pattern(4 * CLUSTER, seed)).unwrap();
    }
    store.resize("thin", 10 * CLUSTER).unwrap();
    store.snapshot("disk", "snap").unwrap();
    store.clone_of("snap", "clone").unwrap();
    store.snapshot("far", "lonely").unwrap();
    let far = store.id("far");
    store.write(far, CLUSTER, pattern(2 * CLUSTER, 3)).unwrap();
    let joined = store.clone_of("snap", "joined").unwrap();
    store.write(joined, CLUSTER, pattern(2 * CLUSTER, 4)).unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    device
}

fn open(content: &MemDevice) -> (Store<Device>, Device) {
    let device = Shared::new(ErrorDevice::new(content.clone()));
    let store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    (store, device)
}

fn content(store: &mut Store<Device>) -> Content {
    let names: Vec<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
    let contents = names.into_iter().map(|name| {
        let content = store.content(&name);
        (name, content)
    });
    (contents.collect(), store.free())
}

/// What one scenario does to a store when nothing fails.
struct Healthy {
    start: MemDevice,
    ops: Vec<LoggedOp>,
    /// At the start, after the preparation, and after the scenario.
    states: [Content; 3],
}

impl Healthy {
    /// `warm` has the session write metadata first, so that the store is marked as open already.
    fn run(scenario: &Scenario, native: bool, warm: bool) -> Self {
        let start = base(native);
        let (mut store, device) = open(&start);
        let before = content(&mut store);
        prepare(scenario, &mut store, warm);
        let prepared = content(&mut store);
        device.borrow().inner_mut().start_log();
        (scenario.run)(&mut store).unwrap();
        let ops = device.borrow().inner_mut().take_log();
        settle(&mut store).unwrap();
        let after = content(&mut store);
        store.close().1.unwrap();
        let states = [before, prepared, after];
        Self { start, ops, states }
    }

    fn prepared(&self) -> &Content {
        &self.states[1]
    }
}

fn prepare(scenario: &Scenario, store: &mut Store<Device>, warm: bool) {
    if warm {
        warm_up(store);
    }
    if let Some(prepare) = scenario.prepare {
        prepare(store).unwrap();
    }
}

fn warm_up(store: &mut Store<Device>) {
    store.rename("bystander", "witness").unwrap();
    store.rename("witness", "bystander").unwrap();
}

#[test]
fn eio_at_every_operation_of_a_native_store() {
    every_operation(true);
}

#[test]
fn eio_at_every_operation_of_a_plain_store() {
    every_operation(false);
}

fn every_operation(native: bool) {
    let mut cases = 0;
    for scenario in SCENARIOS {
        let mut torn = 0;
        for warm in [false, true] {
            let healthy = Healthy::run(scenario, native, warm);
            assert!(!healthy.ops.is_empty(), "{}", scenario.name);
            for number in 0..healthy.ops.len() {
                let warmth = if warm { "warm" } else { "cold" };
                let what = format!("{}, {warmth}, operation {number}", scenario.name);
                let left = one_failure(scenario, &healthy, warm, number, &what);
                match (before_or_after(&left, &healthy), scenario.metadata) {
                    (Ok(()), _) => {}
                    (Err(why), Atomic) => panic!("{what}: {why}"),
                    (Err(_), Torn) => {
                        torn += 1;
                        assert_contained(&left, &healthy, scenario, &what);
                    }
                }
                cases += 1;
            }
        }
        let is_torn = scenario.metadata == Torn;
        assert!(torn > 0 || !is_torn || !native, "{} is atomic now: mark it so", scenario.name);
    }
    assert!(cases > 200, "{cases} cases");
}

/// Runs the scenario with one failure, and hands back what is then on the device.
fn one_failure(scenario: &Scenario, healthy: &Healthy, warm: bool, number: usize, what: &str) -> MemDevice {
    let (mut store, device) = open(&healthy.start);
    prepare(scenario, &mut store, warm);
    device.borrow().inject(Fault::new(5).after(number as u64).times(1));
    let result = (scenario.run)(&mut store);
    assert_eq!(device.borrow().failures(), 1, "{what}");

    let op = healthy.ops[number];
    let in_barrier = is_metadata(&store, op);
    match op.kind {
        OpKind::Unmap => assert_eq!(result, Ok(()), "{what}: a discard is nobody's business"),
        _ => assert_eq!(result, Err(Error::Device(EIO)), "{what}: {op:?}"),
    }
    assert_eq!(store.engine().failure().is_some(), in_barrier, "{what}: {op:?}");

    // Reads go on, and writes where nothing but data failed.
    assert!(store.content("bystander") == healthy.prepared().0["bystander"], "{what}");
    let other = write(&mut store, "bystander", 0, BLOCK).and_then(|()| store.flush());
    let expected = if in_barrier { Err(Error::Device(EIO)) } else { Ok(()) };
    assert_eq!(other, expected, "{what}");
    if in_barrier {
        let refused = store.create("late", CLUSTER, false).unwrap_err();
        assert_eq!(refused, Error::Device(EIO), "{what}");
    } else {
        let data = healthy.prepared().0["bystander"][..4096].to_vec();
        let lvol = store.id("bystander");
        store.write(lvol, 0, offshoot_block::Buffer::copy_of(&data)).unwrap();
        if result.is_err() {
            assert!(content(&mut store) == *healthy.prepared(), "{what}: a failed request left something");
            // Nor does it keep a cluster: a thick lvol of everything that is free can be made.
            let free = store.free();
            store.create("all", free * CLUSTER, true).unwrap();
            store.remove("all").unwrap();
            settle(&mut store).unwrap();
            assert_eq!(store.free(), free, "{what}");
        }
    }

    // The process dies.
    drop(store);
    device.borrow().inner().clone()
}

/// Whether an operation is part of a barrier: a sync, or anything in the metadata area.
fn is_metadata(store: &Store<Device>, op: LoggedOp) -> bool {
    let layout = &store.state().layout;
    let data = metadata_clusters(layout) * u64::from(layout.cluster_size);
    op.kind == OpKind::Sync || op.offset.0 < data
}

/// Whether the healthy device holds one of the states of a scenario, and a store that works.
fn before_or_after(left: &MemDevice, healthy: &Healthy) -> Result<(), String> {
    let device = Shared::new(ErrorDevice::new(left.clone()));
    // The first opening lets go what was dying when the process died.
    for _ in 0..2 {
        let store =
            Store::open(device.clone(), Vec::new(), &writable()).map_err(|error| error.to_string())?;
        if let Some(finding) = store.findings().first() {
            return Err(format!("{finding:?}"));
        }
        store.close().1.map_err(|error| error.to_string())?;
    }
    let mut store =
        Store::open(device.clone(), Vec::new(), &writable()).map_err(|error| error.to_string())?;
    assert_owned_once(&store);
    same(&content(&mut store), healthy)?;

    // It works: something new, and what it holds is sound in the other reading of the format, too.
    let bystander = store.content("bystander");
    store.create("proof", 2 * CLUSTER, true).unwrap();
    store.snapshot("bystander", "proof of it").unwrap();
    assert!(store.content("proof of it") == bystander);
    store.close().1.unwrap();
    let device = device.borrow();
    let plain = PlainStore::read(&|offset, bytes| device.inner().read_at(offset, bytes));
    if plain.version <= 3 {
        assert_eq!(plain.problems, Vec::<String>::new());
    }
    Ok(())
}

/// The lvols are those of one of the states, and each sector holds what it holds in one of them.
fn same(found: &Content, healthy: &Healthy) -> Result<(), String> {
    let names = |content: &Content| content.0.keys().cloned().collect::<Vec<_>>();
    let states = healthy.states.iter().filter(|state| names(state) == names(found));
    let states: Vec<&Content> = states.collect();
    if states.is_empty() {
        return Err(format!("the lvols are {:?}", names(found)));
    }
    for (name, content) in &found.0 {
        let lens: Vec<usize> = states.iter().map(|state| state.0[name].len()).collect();
        if !lens.contains(&content.len()) {
            return Err(format!("{name}: {} bytes, not one of {lens:?}", content.len()));
        }
        for (number, sector) in content.chunks(512).enumerate() {
            let range = number * 512..number * 512 + 512;
            let of = |state: &&Content| state.0[name].get(range.clone()) == Some(sector);
            if !states.iter().any(of) {
                return Err(format!("{name}: sector {number} is neither old nor new"));
            }
        }
    }
    let free = healthy.states.iter().map(|state| state.1);
    let (least, most) = (free.clone().min().unwrap(), free.max().unwrap());
    if !(least..=most).contains(&found.1) {
        return Err(format!("{} clusters are free, not {least} to {most}", found.1));
    }
    Ok(())
}

/// Damage stays where it is (D6): the store opens, and every lvol that the scenario is not about, nor a descendant
/// of one, is as it was.
fn assert_contained(left: &MemDevice, healthy: &Healthy, scenario: &Scenario, what: &str) {
    let device = Shared::new(ErrorDevice::new(left.clone()));
    let mut store =
        Store::open(device, Vec::new(), &writable()).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (name, expected) in &healthy.prepared().0 {
        if !scenario.lvols.contains(&name.as_str()) {
            assert!(store.content(name) == *expected, "{what}: {name} is harmed");
        }
    }
    let concerned = |name: &str| scenario.lvols.contains(&name) || name.starts_with("blob-0x");
    for finding in store.findings() {
        let named = finding.lvol.as_deref().is_none_or(concerned);
        assert!(named, "{what}: {finding:?}");
    }
}

/// Every operation of a close, with first writes of two lvols still unwritten.
#[test]
fn eio_at_every_operation_of_a_close() {
    const CLOSE: Scenario = Scenario {
        prepare: Some(|store| {
            write(store, "clone", CLUSTER, BLOCK)?;
            write(store, "thin", 5 * CLUSTER, CLUSTER)
        }),
        ..scenario("close", Torn, &["clone", "thin"], |_| Ok(()))
    };
    for native in [true, false] {
        let mut healthy = Healthy::run(&CLOSE, native, false);
        let (mut store, device) = open(&healthy.start);
        prepare(&CLOSE, &mut store, false);
        device.borrow().inner_mut().start_log();
        store.close().1.unwrap();
        healthy.ops = device.borrow().inner_mut().take_log();
        assert!(healthy.ops.len() > 8, "{:?}", healthy.ops);
        for number in 0..healthy.ops.len() {
            let what = format!("close, native {native}, operation {number}");
            let (mut store, device) = open(&healthy.start);
            prepare(&CLOSE, &mut store, false);
            device.borrow().inject(Fault::new(5).after(number as u64).times(1));
            let (_, closed) = store.close();
            assert_eq!(closed, Err(Error::Device(EIO)), "{what}: {:?}", healthy.ops[number]);
            let left = device.borrow().inner().clone();
            if before_or_after(&left, &healthy).is_err() {
                assert_contained(&left, &healthy, &CLOSE, &what);
            }
        }
    }
}

/// A read fails alone: the same read works afterwards, and so does everything else.
#[test]
fn a_failed_read_fails_alone() {
    let (mut store, device) = open(&base(true));
    let id = store.id("joined");
    let expected = store.content("joined");
    device.borrow().inner_mut().start_log();
    // From the snapshot, from its own clusters, and from the snapshot again.
    store.read(id, 512, expected.len() - 1024).unwrap();
    let ops = device.borrow().inner_mut().take_log().len();
    assert!(ops >= 2, "{ops}");
    for number in 0..ops {
        device.borrow().inject(Fault::new(5).after(number as u64).times(1));
        assert_eq!(store.read(id, 512, expected.len() - 1024).unwrap_err(), Error::Device(EIO));
        device.borrow().heal();
        assert_eq!(store.engine().failure(), None);
        assert!(store.content("joined") == expected);
    }
    write(&mut store, "joined", 0, BLOCK).unwrap();
    store.flush().unwrap();
    store.close().1.unwrap();
}

/// A device that fails for good: nothing hangs, nothing is acknowledged, and the store is as it was.
#[test]
fn a_dead_device_answers_everything_with_an_error() {
    for native in [true, false] {
        for scenario in SCENARIOS {
            let healthy = Healthy::run(scenario, native, false);
            let (mut store, device) = open(&healthy.start);
            device.borrow().inject(Fault::new(5));
            let result = (scenario.run)(&mut store);
            assert_eq!(result, Err(Error::Device(EIO)), "{}", scenario.name);
            let id = store.id("bystander");
            assert_eq!(store.read(id, 0, 512).unwrap_err(), Error::Device(EIO), "{}", scenario.name);
            assert_eq!(store.close().1, Err(Error::Device(EIO)), "{}", scenario.name);
            assert!(device.borrow().inner().content() == healthy.start.content(), "{}", scenario.name);
        }
    }
}
