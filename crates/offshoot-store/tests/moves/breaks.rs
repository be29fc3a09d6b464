//! Moves that are broken off: by a crash behind every operation, by an error of every operation, by their caller at every
//! step. What is left is a store with the same lvols and bytes, and the same move, asked for again, goes on from there.

use super::lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, assert_owned_once, writable, writable_in};
use super::tape::Taped;
use super::{BLOCK, CLUSTER, Contents, contents, family, new_store, parent, run, settle, write, zero};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_format::BlobId;
use offshoot_store::{Error, Session, Store, Work};
use std::ops::ControlFlow;

/// Finds an lvol by its name.
type Find<'a> = &'a dyn Fn(&str) -> Option<BlobId>;

/// A move, and what shows that it has been done.
struct Move {
    name: &'static str,
    work: fn(Find<'_>) -> Work,
    lvol: &'static str,
    parent: Option<&'static str>,
}

const MOVES: &[Move] = &[
    Move {
        name: "inflate a clone",
        work: |id| Work::Inflate { lvol: id("clone").unwrap() },
        lvol: "clone",
        parent: None,
    },
    Move {
        name: "inflate a snapshot",
        work: |id| Work::Inflate { lvol: id("snap").unwrap() },
        lvol: "snap",
        parent: None,
    },
    Move {
        name: "decouple a clone",
        work: |id| Work::Decouple { lvol: id("clone").unwrap() },
        lvol: "clone",
        parent: Some("base"),
    },
    Move {
        name: "decouple a snapshot",
        work: |id| Work::Decouple { lvol: id("snap").unwrap() },
        lvol: "snap",
        parent: None,
    },
    Move {
        name: "merge a snapshot",
        work: |id| {
            let into = id("snap").unwrap();
            Work::Merge { oldest: id("base").unwrap_or(into), into }
        },
        lvol: "snap",
        parent: None,
    },
];

impl Move {
    fn run<D: BlockDevice>(
        &self,
        store: &mut Store<D>,
        watch: impl FnMut(offshoot_store::Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let id = |name: &str| store.state().lvol_by_name(name.as_bytes()).map(|lvol| lvol.id);
        let work = (self.work)(&id);
        store.run_job(work, watch)
    }

    fn is_done<D: BlockDevice>(&self, store: &Store<D>) -> bool {
        parent(store, self.lvol).as_deref() == self.parent && store.state().merging(b"base").is_none()
    }

    /// What there is to read, without the snapshot that has gone into another.
    fn assert_reads<D: BlockDevice>(&self, store: &mut Store<D>, expected: &Contents, what: &str) {
        let mut expected = expected.clone();
        if self.name.starts_with("merge") && store.state().lvol_by_name(b"base").is_none() {
            expected.remove("base");
        }
        assert!(contents(store) == expected, "{what}");
    }
}

/// A store at rest with states of every kind.
fn start() -> (MemDevice, Contents) {
    let mut store = new_store(16_384, 6 << 20, true);
    family(&mut store);
    write(&mut store, "clone", BLOCK, BLOCK, 1);
    write(&mut store, "clone", 2 * CLUSTER, 512, 2);
    zero(&mut store, "clone", CLUSTER, CLUSTER);
    store.clone_of("snap", "short").unwrap();
    store.resize("short", 5 * CLUSTER).unwrap();
    store.resize("short", 8 * CLUSTER).unwrap();
    let expected = contents(&mut store);
    let (device, closed) = store.close();
    closed.unwrap();
    (device, expected)
}

/// What is left opens, holds the same, and the move can be made.
fn assert_goes_on(left: MemDevice, expected: &Contents, its: &Move, power: Session, what: &str) {
    let opened = Store::open(left, Vec::new(), &writable_in(Some(power)));
    let mut store = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((store.findings(), store.state().audit()), (&[][..], Vec::new()), "{what}");
    its.assert_reads(&mut store, expected, &format!("{what}: it reads something else"));
    assert_owned_once(&store);
    if !its.is_done(&store) {
        its.run(&mut store, |_| ControlFlow::Continue(())).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert!(its.is_done(&store), "{what}");
    its.assert_reads(&mut store, expected, &format!("{what}: done, it reads something else"));
    assert_eq!(store.state().audit(), &[], "{what}");
    run(&mut store, Work::Seal).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (device, closed) = store.close();
    closed.unwrap();
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    its.assert_reads(&mut store, expected, &format!("{what}: sealed, it reads something else"));
}

#[test]
fn every_crash() {
    let (start, expected) = start();
    for its in MOVES {
        let device = Taped::new(start.clone());
        let mut store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
        its.run(&mut store, |_| ControlFlow::Continue(())).unwrap();
        let replied = device.tape().len();
        store.close().1.unwrap();
        let tape = device.tape();
        assert!(tape.len() > 20, "{} operations", tape.len());
        for cut in 0..=tape.len() {
            for power in [SESSION, AFTER_POWER_LOSS] {
                let what =
                    format!("{}, cut after {cut} of {} ({:?})", its.name, tape.len(), tape.last_before(cut));
                let left = tape.device_after(cut);
                if cut >= replied {
                    let store = Store::open(left.clone(), Vec::new(), &writable_in(Some(power))).unwrap();
                    assert!(its.is_done(&store), "{what}: acknowledged, and not done");
                }
                assert_goes_on(left, &expected, its, power, &what);
            }
        }
    }
}

#[test]
fn an_error_of_every_operation() {
    let (start, expected) = start();
    for its in MOVES {
        let refused = super::jobs::an_error_of_every_operation(
            &start,
            |store| its.run(store, |_| ControlFlow::Continue(())),
            |store, what| its.assert_reads(store, &expected, &format!("{}, {what}", its.name)),
            |left, power, what| assert_goes_on(left, &expected, its, power, &format!("{}, {what}", its.name)),
        );
        assert!(refused > 0, "no failed operation refused to {}", its.name);
    }
}

#[test]
fn ended_at_every_step() {
    let (start, expected) = start();
    for its in MOVES {
        let mut ended = 0;
        for step in 0.. {
            let mut store = Store::open(start.clone(), Vec::new(), &writable()).unwrap();
            let mut steps = 0;
            let result = its.run(&mut store, |_| {
                steps += 1;
                if steps > step { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let is_ended = match result {
                Ok(()) => false,
                Err(Error::Cancelled) => true,
                Err(error) => panic!("{}, step {step}: {error}", its.name),
            };
            assert_eq!(is_ended, !its.is_done(&store), "{}, step {step}", its.name);
            settle(&mut store);
            assert_eq!(store.state().clusters.available() as u64, store.free(), "space is still kept");
            let (device, closed) = store.close();
            closed.unwrap();
            let what = format!("{}, ended at step {step}", its.name);
            assert_goes_on(device, &expected, its, SESSION, &what);
            ended += usize::from(is_ended);
            if steps <= step {
                break;
            }
        }
        assert!(ended > 2, "{}: ended {ended} times", its.name);
    }
}
