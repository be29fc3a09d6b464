//! EIO at every device operation of every request and verb, one at a time.
//!
//! What must hold, whichever operation fails:
//! - the request reports it, unless what failed is a discard, which nobody waits for;
//! - an error on data fails that request alone; one in the journal, a barrier or a checkpoint stops writes, and reads
//!   go on;
//! - on the device, healthy again, lies the store as it was before the request or after it, without findings, and
//!   it can be used. What was written or trimmed and not made durable may be old or new, sector by sector. That holds
//!   when only the process died, and when the power went and the tail of the journal with it.
//!
//! The same for ENOSPC of the file system below, at every operation.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;

use lvols::{
    AFTER_POWER_LOSS, Lvols as _, SESSION, Shared, assert_owned_once, metadata_clusters, options, pattern,
    writable, writable_in,
};
use offshoot_block::DeviceError;
use offshoot_device::{ErrorDevice, Fault, LoggedOp, MemDevice, OpKind};
use offshoot_store::{Error, Failure, InitOptions, IoRequest, Session, Store};
use plain_checker::PlainStore;
use std::collections::BTreeMap;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;
const EIO: DeviceError = DeviceError::Io { errno: 5 };

type Device = Shared<ErrorDevice<MemDevice>>;
type Run = fn(&mut Store<Device>) -> Result<(), Error>;

/// What a store holds: content by lvol, and how many clusters are free.
type Content = (BTreeMap<String, Vec<u8>>, u64);

struct Scenario {
    name: &'static str,
    /// What happens before anything fails.
    prepare: Option<Run>,
    run: Run,
}

const fn scenario(name: &'static str, run: Run) -> Scenario {
    Scenario { name, prepare: None, run }
}

const SCENARIOS: &[Scenario] = &[
    scenario("create thin", |store| store.create("new", 4 * CLUSTER, false).map(drop)),
    scenario("create thick", |store| store.create("new", 4 * CLUSTER, true).map(drop)),
    scenario("snapshot", |store| store.snapshot("clone", "new").map(drop)),
    Scenario {
        prepare: Some(|store| write(store, "clone", CLUSTER, BLOCK)),
        ..scenario("snapshot of what was written", |store| store.snapshot("clone", "new").map(drop))
    },
    scenario("clone", |store| store.clone_of("snap", "new").map(drop)),
    scenario("remove a leaf", |store| store.remove("thick")),
    scenario("remove a leaf and flush", |store| {
        store.remove("thick")?;
        settle(store)
    }),
    scenario("remove a snapshot", |store| store.remove("lonely")),
    scenario("grow thick", |store| store.resize("thick", 6 * CLUSTER)),
    scenario("grow thin", |store| store.resize("thin", 600 * CLUSTER)),
    scenario("shrink", |store| {
        store.resize("thick", 2 * CLUSTER)?;
        settle(store)
    }),
    scenario("rename", |store| store.rename("thin", "renamed")),
    scenario("first write of a block", |store| flushed(store, "clone", 5 * BLOCK, BLOCK)),
    scenario("first write with a gap", |store| flushed(store, "clone", 5 * BLOCK + 512, 512)),
    scenario("first write of a cluster", |store| flushed(store, "clone", CLUSTER, CLUSTER)),
    scenario("first write into a hole", |store| flushed(store, "thin", 7 * CLUSTER, BLOCK)),
    Scenario {
        prepare: Some(|store| write(store, "thin", 7 * CLUSTER, BLOCK)),
        ..scenario("first writes to two lvols", |store| flushed(store, "clone", 0, BLOCK))
    },
    scenario("overwrite", |store| flushed(store, "thick", BLOCK, BLOCK)),
    scenario("write with FUA", |store| {
        let (lvol, data) = (store.id("clone"), pattern(BLOCK, 9));
        let ticket = store.submit(IoRequest::Write { lvol, offset: 0, data, fua: true });
        store.wait_for(ticket).map(drop)
    }),
    scenario("write zeroes", |store| {
        let lvol = store.id("clone");
        store.write_zeroes(lvol, 512..2 * CLUSTER)?;
        settle(store)
    }),
    scenario("trim", |store| {
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
    // A small journal: each opening reads all of it.
    let init = InitOptions { journal_bytes: Some(1 << 20), ..options(16_384, 512, native) };
    let mut store = Store::init(device, &init, &writable()).unwrap();
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
    every_operation(true, EIO);
}

#[test]
fn eio_at_every_operation_of_a_plain_store() {
    every_operation(false, EIO);
}

#[test]
fn enospc_at_every_operation_of_a_native_store() {
    every_operation(true, DeviceError::NoSpace);
}

fn every_operation(native: bool, error: DeviceError) {
    let mut cases = 0;
    for scenario in SCENARIOS {
        for warm in [false, true] {
            let healthy = Healthy::run(scenario, native, warm);
            assert!(!healthy.ops.is_empty(), "{}", scenario.name);
            for number in 0..healthy.ops.len() {
                let warmth = if warm { "warm" } else { "cold" };
                let what =
                    format!("{}, {warmth}, operation {number} ({:?})", scenario.name, healthy.ops[number]);
                let left = one_failure(scenario, &healthy, warm, (number, error), &what);
                assert_before_or_after(&left, &healthy, &what);
                cases += 1;
            }
        }
    }
    assert!(cases > 200, "{cases} cases");
}

/// Runs the scenario with one failure, and hands back what is then on the device.
fn one_failure(
    scenario: &Scenario,
    healthy: &Healthy,
    warm: bool,
    (number, error): (usize, DeviceError),
    what: &str,
) -> MemDevice {
    let (mut store, device) = open(&healthy.start);
    prepare(scenario, &mut store, warm);
    device.borrow().inject(Fault::with_error(error).after(number as u64).times(1));
    let result = (scenario.run)(&mut store);
    // What is done in the background is done now or never.
    while device.borrow().failures() == 0 {
        store.poll(&mut Vec::new());
    }

    let op = healthy.ops[number];
    let stops = is_metadata(&store, op);
    match (op.kind, &result) {
        (OpKind::Unmap, Ok(())) => {}
        // Behind the reply of a verb the releasing goes on.
        (_, Ok(())) => assert!(stops && scenario.name.starts_with("remove"), "{what}"),
        (_, Err(Error::Stopped(failure))) => assert!(stops && failure.error == error, "{what}: {failure}"),
        (_, Err(failed)) => assert!(!stops && *failed == Error::Device(error), "{what}: {failed}"),
    }
    assert_eq!(store.engine().failure().is_some(), stops, "{what}");

    // Reads go on, and writes where nothing but data failed.
    assert!(store.content("bystander") == healthy.prepared().0["bystander"], "{what}");
    let other = write(&mut store, "bystander", 0, BLOCK).and_then(|()| store.flush());
    if stops {
        for refused in [other, store.create("late", CLUSTER, false).map(drop)] {
            assert!(matches!(refused, Err(Error::Stopped(failure)) if failure.error == error), "{what}");
        }
    } else {
        assert_eq!(other, Ok(()), "{what}");
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

/// The healthy device holds one of the states of a scenario, and a store that works, whether the power was lost or not.
fn assert_before_or_after(left: &MemDevice, healthy: &Healthy, what: &str) {
    for power in [SESSION, AFTER_POWER_LOSS] {
        before_or_after(left, healthy, power).unwrap_or_else(|why| panic!("{what}, {power:?}: {why}"));
    }
}

fn before_or_after(left: &MemDevice, healthy: &Healthy, power: Session) -> Result<(), String> {
    let device = Shared::new(ErrorDevice::new(left.clone()));
    let open = |power| {
        let store = Store::open(device.clone(), Vec::new(), &writable_in(Some(power)));
        let store = store.map_err(|error| error.to_string())?;
        match store.findings().first() {
            Some(finding) => Err(format!("{finding:?}")),
            None => Ok(store),
        }
    };
    let mut store = open(power)?;
    // What was dying when the process died is let go.
    settle(&mut store).map_err(|error| error.to_string())?;
    assert_owned_once(&store);
    same(&content(&mut store), healthy)?;
    let found = content(&mut store);
    store.close().1.map_err(|error| error.to_string())?;
    let mut store = open(power)?;
    assert_owned_once(&store);
    if content(&mut store) != found {
        return Err("it changes by being closed".into());
    }

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

/// First writes of two lvols that no checkpoint has written, and nothing more.
const CLOSE: Scenario = Scenario {
    prepare: Some(|store| {
        write(store, "clone", CLUSTER, BLOCK)?;
        write(store, "thin", 5 * CLUSTER, CLUSTER)
    }),
    ..scenario("close", |_| Ok(()))
};

#[test]
fn eio_and_enospc_at_every_operation_of_a_close() {
    for (native, error) in [(true, EIO), (false, EIO), (true, DeviceError::NoSpace)] {
        let mut healthy = Healthy::run(&CLOSE, native, false);
        let (mut store, device) = open(&healthy.start);
        prepare(&CLOSE, &mut store, false);
        device.borrow().inner_mut().start_log();
        store.close().1.unwrap();
        healthy.ops = device.borrow().inner_mut().take_log();
        assert!(healthy.ops.len() > 12, "{:?}", healthy.ops);
        for (number, op) in healthy.ops.iter().enumerate() {
            let what = format!("close, native {native}, operation {number} ({op:?})");
            let (mut store, device) = open(&healthy.start);
            prepare(&CLOSE, &mut store, false);
            device.borrow().inject(Fault::with_error(error).after(number as u64).times(1));
            let (_, closed) = store.close();
            let stopped = matches!(closed, Err(Error::Stopped(failure)) if failure.error == error);
            assert!(stopped, "{what}: {closed:?}");
            let left = device.borrow().inner().clone();
            assert_before_or_after(&left, &healthy, &what);
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
            assert_eq!(result.map_err(device_error), Err(EIO), "{}", scenario.name);
            let id = store.id("bystander");
            assert_eq!(store.read(id, 0, 512).unwrap_err(), Error::Device(EIO), "{}", scenario.name);
            assert_eq!(store.close().1.map_err(device_error), Err(EIO), "{}", scenario.name);
            assert!(device.borrow().inner().content() == healthy.start.content(), "{}", scenario.name);
        }
    }
}

fn device_error(error: Error) -> DeviceError {
    match error {
        Error::Device(error) | Error::Stopped(Failure { error, .. }) => error,
        other => panic!("{other}"),
    }
}
