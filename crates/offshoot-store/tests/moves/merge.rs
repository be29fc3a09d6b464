//! Merging.

use super::lvols::{Lvols as _, Shared, writable};
use super::{
    BLOCK, CLUSTER, assert_same, contents, family, in_every_way, new_store, parent, pattern, reopened, run,
    settle, write, zero,
};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::MemDevice;
use offshoot_store::{Error, IoRequest, Reply, Store, Work};
use std::ops::ControlFlow;

/// A store, the snapshots in it to merge, and what takes them up; how many blocks are copied, and clusters come
/// free.
type Case = (&'static str, fn(&mut Store<MemDevice>), &'static [&'static str], &'static str, (u64, u64));

/// Over `snap`: `disk`, with blocks next to those of the snapshot, over them, and over its zeros. No other clone.
fn written(store: &mut Store<MemDevice>) {
    store.remove("clone").unwrap();
    write(store, "disk", CLUSTER, BLOCK, 5);
    write(store, "disk", 2 * CLUSTER + BLOCK, 2 * BLOCK, 6);
    write(store, "disk", 3 * CLUSTER, BLOCK, 7);
    write(store, "disk", 5 * CLUSTER + BLOCK, BLOCK, 8);
    zero(store, "disk", CLUSTER + BLOCK, BLOCK);
}

const CASES: &[Case] = &[
    (
        "a snapshot of which nothing was written over",
        |store| store.remove("clone").unwrap(),
        &["snap"],
        "disk",
        (0, 0),
    ),
    // A block into the snapshot's cluster, none where all of it is hidden, one beside another.
    ("a snapshot and what was written since", written, &["snap"], "disk", (2, 3)),
    (
        "a snapshot into another, with clones",
        |store| {
            written(store);
            store.snapshot("disk", "next").unwrap();
            store.clone_of("next", "clone").unwrap();
            write(store, "clone", 2 * CLUSTER + 3 * BLOCK, BLOCK, 9);
            write(store, "disk", CLUSTER + 2 * BLOCK, BLOCK, 9);
        },
        &["snap", "next"],
        "next",
        (2, 3),
    ),
    (
        "a run of snapshots",
        |store| {
            written(store);
            for number in 0..5_u64 {
                store.snapshot("disk", &format!("s{number}")).unwrap();
                write(store, "disk", number % 4 * BLOCK, BLOCK, 9);
                write(store, "disk", 7 * CLUSTER + number % 4 * BLOCK, BLOCK, 10);
            }
        },
        // In any order.
        &["s3", "s1", "s4", "s2"],
        "s4",
        (6, 6),
    ),
    (
        "the oldest snapshot into a clone that hides its end",
        |store| {
            store.remove("clone").unwrap();
            store.resize("disk", 2 * CLUSTER).unwrap();
            store.resize("disk", 8 * CLUSTER).unwrap();
            write(store, "disk", BLOCK, BLOCK, 5);
            store.remove("snap").unwrap();
        },
        &["base"],
        "disk",
        (1, 4),
    ),
];

fn work(store: &Store<MemDevice>, snapshots: &[&str]) -> Result<Work, Error> {
    let snapshots: Vec<_> = snapshots.iter().map(|name| store.id(name)).collect();
    let (oldest, into) = store.state().merge_run(&snapshots)?;
    Ok(Work::Merge { oldest, into })
}

#[test]
fn whatever_both_hold() {
    for (name, prepare, snapshots, into, (blocks, freed)) in CASES {
        in_every_way(name, *prepare, |mut store, native, what| {
            let (mut expected, free) = (contents(&mut store), store.free());
            let work = work(&store, snapshots).unwrap();
            let cost = store.engine().work_cost(work).unwrap();
            if native {
                assert_eq!((cost.bytes / BLOCK, cost.freed), (*blocks, *freed), "{what}");
            }
            run(&mut store, work).unwrap();
            settle(&mut store);
            assert_eq!(store.free(), free + cost.freed, "{what}");
            for folded in snapshots.iter().filter(|snapshot| *snapshot != into) {
                expected.remove(*folded);
                assert!(store.state().merging(folded.as_bytes()).is_none(), "{what}");
            }
            assert_eq!(parent(&store, into).is_some(), *name != CASES[4].0, "{what}");
            let names: Vec<String> = contents(&mut store).into_keys().collect();
            assert!(names.iter().eq(expected.keys()), "{what}");
            assert_same(store, &expected, what);
        });
    }
}

/// Clusters beyond what is copied at once.
#[test]
fn large_clusters() {
    const LARGE: u64 = 4 << 20;
    let mut store = new_store(4 << 20, 160 << 20, true);
    store.create("disk", 2 * LARGE, false).unwrap();
    write(&mut store, "disk", 0, LARGE, 1);
    store.snapshot("disk", "base").unwrap();
    for block in (0..700).step_by(2) {
        write(&mut store, "disk", block * BLOCK, BLOCK, 2);
        write(&mut store, "disk", LARGE + block * BLOCK, BLOCK, 2);
    }
    store.snapshot("disk", "snap").unwrap();
    for block in [0, 5, 255, 256, 257, 700, 1023] {
        write(&mut store, "disk", block * BLOCK, BLOCK, 3);
        write(&mut store, "disk", LARGE + block * BLOCK, BLOCK, 3);
    }
    for snapshot in ["snap", "base"] {
        let mut expected = contents(&mut store);
        let work = work(&store, &[snapshot]).unwrap();
        run(&mut store, work).unwrap();
        expected.remove(snapshot);
        assert!(contents(&mut store) == expected);
        assert_eq!(store.own_clusters("disk"), 2);
    }
    let expected = contents(&mut store);
    assert_same(store, &expected, "large clusters");
}

#[test]
fn what_cannot_be_merged() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    let refused = |store: &Store<MemDevice>, snapshots: &[&str]| work(store, snapshots).unwrap_err();
    let two = Error::HasClones { name: "snap".into(), count: 2, clones: "disk, clone".into() };
    assert_eq!(refused(&store, &["snap"]), two);
    assert_eq!(refused(&store, &["snap", "disk"]), two);
    assert_eq!(refused(&store, &["clone"]), Error::NoClone("clone".into()));
    let apart = Error::NotConsecutive { name: "snap".into(), parent: "lonely".into() };
    assert_eq!(refused(&store, &["lonely", "snap"]), apart);
    store.snapshot("disk", "next").unwrap();
    let apart = Error::NotConsecutive { name: "next".into(), parent: "base".into() };
    assert_eq!(refused(&store, &["next", "base"]), apart);
}

/// Broken off after the folds, it says of the heir what is gone, and goes on there.
#[test]
fn goes_on_with_what_is_gone() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    written(&mut store);
    let mut expected = contents(&mut store);
    let merge = work(&store, &["snap"]).unwrap();
    let result = store.run_paced_job(merge, Some(0), |progress| match progress.waits {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(None),
    });
    assert_eq!(result, Err(Error::Cancelled));
    expected.remove("snap");
    let mut store = reopened(store.close().0);
    assert!(contents(&mut store) == expected);
    let into = store.state().merging(b"snap").unwrap().id;
    assert_eq!(into, store.id("disk"));
    let rest = Work::Merge { oldest: into, into };
    assert_eq!(store.engine().work_cost(rest).unwrap().filled, 2);
    run(&mut store, rest).unwrap();
    assert!(store.state().merging(b"snap").is_none());
    assert_same(store, &expected, "goes on");
}

/// Keeps reads back for as long as it is told to.
#[derive(Debug)]
struct SlowReads {
    inner: MemDevice,
    kept: Vec<(OpId, DeviceOp)>,
    is_slow: bool,
}

impl BlockDevice for SlowReads {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        match op {
            DeviceOp::Read { .. } if self.is_slow => self.kept.push((id, op)),
            op => self.inner.submit(id, op),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        if !self.is_slow {
            self.kept.drain(..).for_each(|(id, op)| self.inner.submit(id, op));
        }
        self.inner.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.kept.len() + self.inner.outstanding()
    }
}

/// A read of the snapshot that is under way when it goes does not find what others have written there since.
#[test]
fn readers_of_what_goes() {
    let mut store = new_store(16_384, 12 << 20, true);
    family(&mut store);
    store.remove("clone").unwrap();
    let device = Shared::new(SlowReads { inner: store.close().0, kept: Vec::new(), is_slow: false });
    let mut store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
    let (snap, disk, len) = (store.id("snap"), store.id("disk"), 2 * BLOCK);
    let before = store.read(snap, CLUSTER, 8192).unwrap();
    device.borrow().is_slow = true;
    let buffer = Buffer::zeroed(usize::try_from(len).unwrap());
    let read = store.submit(IoRequest::Read { lvol: snap, offset: CLUSTER, buffer });
    store.poll(&mut Vec::new());
    store.remove("snap").unwrap();
    store.write(disk, CLUSTER, pattern(len, 9)).unwrap();
    // Its id may be another's by then.
    store.create("other", CLUSTER, false).unwrap();
    device.borrow().is_slow = false;
    let mut replies = Vec::new();
    while replies.is_empty() {
        store.poll(&mut replies);
    }
    assert_eq!(replies[0].0, read);
    match &replies[0].1 {
        Ok(Reply::Buffer(found)) => assert!(found.as_slice() == before.as_slice()),
        result => assert!(matches!(result, Err(Error::UnknownBlob(gone)) if *gone == snap), "{result:?}"),
    }
}
