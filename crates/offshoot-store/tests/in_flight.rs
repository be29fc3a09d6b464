//! What is under way at the same time, in the one order in which it matters: the device completes only what the test
//! lets go.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;
#[path = "common/plain_maker.rs"]
mod plain_maker;

use lvols::{Lvols as _, Shared, options, pattern, writable};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::MemDevice;
use offshoot_store::{Error, InitOptions, IoRequest, Store, Ticket, Underlay, Verb, Work};
use plain_maker::{Blob, Map, Plan};
use std::collections::BTreeMap;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;

/// Completes what it is let to.
#[derive(Debug)]
struct Held {
    inner: MemDevice,
    waiting: Vec<(OpId, DeviceOp)>,
    is_open: bool,
}

impl Held {
    fn new(inner: MemDevice) -> Shared<Self> {
        Shared::new(Self { inner, waiting: Vec::new(), is_open: true })
    }

    /// Lets go of what waits, as far as `which` says, and says how much that was.
    fn let_go(&mut self, which: impl Fn(&DeviceOp) -> bool) -> usize {
        let (go, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, op)| which(op));
        self.waiting = stay;
        let count = go.len();
        go.into_iter().for_each(|(id, op)| self.inner.submit(id, op));
        count
    }

    fn open(&mut self) {
        self.is_open = true;
        self.let_go(|_| true);
    }
}

impl BlockDevice for Held {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        if self.is_open { self.inner.submit(id, op) } else { self.waiting.push((id, op)) }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.inner.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.inner.wait(completions);
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding() + self.waiting.len()
    }
}

fn is_frame(op: &DeviceOp) -> bool {
    matches!(op, DeviceOp::Write { buffer, .. } if buffer.as_slice().starts_with(b"OSJFRAME"))
}

fn new_store(journal_bytes: u64) -> (Shared<Held>, Store<Shared<Held>>) {
    let held = Held::new(MemDevice::new(8 << 20, 512));
    let init = InitOptions { journal_bytes: Some(journal_bytes), ..options(16_384, 512, true) };
    let store = Store::init(held.clone(), &init, &writable()).unwrap();
    (held, store)
}

fn answers<D: BlockDevice>(store: &mut Store<D>, count: usize) -> BTreeMap<Ticket, Result<(), Error>> {
    let (mut replies, mut answers) = (Vec::new(), BTreeMap::new());
    while answers.len() < count {
        store.wait(&mut replies);
        answers.extend(replies.drain(..).map(|(ticket, result)| (ticket, result.map(drop))));
    }
    answers
}

/// What a kill leaves, opened again.
fn killed(held: &Shared<Held>) -> Store<MemDevice> {
    let image = held.borrow().inner.content();
    let store = Store::open(MemDevice::with_content(&image, 512), Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.state().audit(), &[]);
    store
}

fn write(lvol: offshoot_format::BlobId, offset: u64, seed: u8) -> IoRequest {
    IoRequest::Write { lvol, offset, data: pattern(BLOCK, seed), fua: false }
}

/// A removal that frees md pages, and behind it in the same frame a write, while another write waits for space: the
/// checkpoint that the removal's reply brings about must hold the write as well.
#[test]
fn a_checkpoint_captures_whole_frames() {
    let (held, mut store) = new_store(1 << 20);
    for name in ["a", "b", "c"] {
        store.create(name, 4 * CLUSTER, false).unwrap();
    }
    let (a, b, c) = (store.id("a"), store.id("b"), store.id("c"));
    store.write(a, 0, pattern(CLUSTER, 1)).unwrap();
    store.write(c, 0, pattern(BLOCK, 2)).unwrap();
    let snapshot = store.snapshot("a", "s").unwrap();
    let free = store.state().clusters.available() as u64;
    store.create("filler", free * CLUSTER, true).unwrap();
    store.flush().unwrap();
    assert_eq!(store.state().clusters.available(), 0);

    held.borrow().is_open = false;
    let mut replies = Vec::new();
    store.submit(write(c, BLOCK, 3));
    store.poll(&mut replies);
    assert_eq!(held.borrow().let_go(|op| !is_frame(op)), 1, "the data of the first write");
    store.poll(&mut replies);
    assert!(held.borrow().waiting.iter().all(|(_, op)| is_frame(op)));
    store.start(Verb::Remove { lvol: snapshot });
    store.submit(write(b, 0, 4));
    store.submit(write(c, 2 * BLOCK, 5));
    store.poll(&mut replies);
    assert_eq!(held.borrow().let_go(|op| !is_frame(op)), 1, "the data of the last write");
    store.poll(&mut replies);
    assert!(replies.is_empty(), "{replies:?}");
    held.borrow().open();
    answers(&mut store, 4);
    store.flush().unwrap();
    let after = killed(&held).read(c, 2 * BLOCK, 4096).unwrap();
    assert!(after.as_slice() == pattern(BLOCK, 5).as_slice(), "a flushed write is lost");
}

/// A seal fills a cluster of a snapshot that its clone holds itself, and a client zeroes it in the clone: life and
/// replay must agree on whether the clone hides it.
#[test]
fn a_fill_of_a_snapshot_waits_for_zeros_in_its_clone() {
    let (held, mut store) = new_store(256 << 10);
    store.create("d", 2 * CLUSTER, false).unwrap();
    store.create("x", 16 * CLUSTER, false).unwrap();
    let (d, x) = (store.id("d"), store.id("x"));
    store.write(d, CLUSTER, pattern(CLUSTER, 1)).unwrap();
    // What lies below is hidden from then on, by the snapshot and by its clone.
    for snapshot in ["g", "p"] {
        store.snapshot("d", snapshot).unwrap();
        store.resize("d", CLUSTER).unwrap();
        store.resize("d", 2 * CLUSTER).unwrap();
    }
    store.write(d, CLUSTER, pattern(CLUSTER, 2)).unwrap();
    // Enough for a checkpoint.
    for _ in 0..1000 {
        store.write(x, 0, pattern(CLUSTER, 3)).unwrap();
        store.unmap(x, 0..CLUSTER).unwrap();
    }
    store.flush().unwrap();
    held.borrow().is_open = false;
    let mut replies = Vec::new();
    let job = store.start_job(Work::Seal, None);
    store.poll(&mut replies);
    let range = CLUSTER..2 * CLUSTER;
    store.submit(IoRequest::WriteZeroes { lvol: d, range, allocate: false, fua: false });
    store.cancel(job);
    store.poll(&mut replies);
    assert!(held.borrow().let_go(|op| !is_frame(op)) > 0, "what the fill writes");
    store.poll(&mut replies);
    held.borrow().open();
    answers(&mut store, 2);
    store.flush().unwrap();
    assert!(killed(&held).content("d").iter().skip(16_384).all(|byte| *byte == 0));
    // What life and replay disagree on shows once somebody else has it.
    store.remove("p").unwrap();
    store.flush().unwrap();
    (0..20).for_each(|_| store.poll(&mut replies));
    let free = store.state().clusters.available() as u64;
    store.create("y", free * CLUSTER, true).unwrap();
    store.flush().unwrap();
    killed(&held);
}

/// A seal of a family with maps of two kinds, while a member of it is being removed.
#[test]
fn encodings_are_changed_behind_a_removal() {
    let mut plan = Plan::new();
    let snap = plan.add(Blob::thin("snap", 1, "xx.").snapshot());
    plan.add(Blob { map: Map::Runs, ..Blob::thin("clone", 2, ".x.").clone_of(snap) });
    plan.add(Blob::thin("other", 3, "x"));
    let held = Held::new(MemDevice::with_content(&plan.make().bytes, 512));
    let mut store = Store::open(held.clone(), Vec::new(), &writable()).unwrap();
    let clone = store.id("clone");
    store.start(Verb::Remove { lvol: clone });
    let job = store.start_job(Work::Seal, None);
    let answers = answers(&mut store, 2);
    assert!(answers[&job].is_ok(), "{answers:?}");
    killed(&held);
}

/// Only one seal at a time; and once it is done nothing native arises, whatever becomes of the next.
#[test]
fn a_store_stays_sealed_whatever_becomes_of_another_seal() {
    let (held, mut store) = new_store(1 << 20);
    store.create("a", 4 * CLUSTER, false).unwrap();
    let a = store.id("a");
    store.write(a, 0, pattern(BLOCK, 1)).unwrap();
    held.borrow().is_open = false;
    let first = store.start_job(Work::Seal, None);
    let second = store.start_job(Work::Seal, None);
    let mut replies = Vec::new();
    store.poll(&mut replies);
    assert!(matches!(replies[..], [(ticket, Err(Error::JobRunning))] if ticket == second), "{replies:?}");
    held.borrow().open();
    assert_eq!(answers(&mut store, 1)[&first], Ok(()));
    let third = store.start_job(Work::Seal, Some(0));
    store.cancel(third);
    answers(&mut store, 1);
    store.write(a, CLUSTER, pattern(BLOCK, 2)).unwrap();
    assert!(!store.state().has_native_states());
}

/// A read of an lvol that began when it had data which is another one's meanwhile. `since` is done to the lvol while the
/// read is under way, after a snapshot of it got a clone.
fn slow_read(since: impl Fn(&mut Store<Shared<Held>>)) -> Result<Vec<u8>, Error> {
    let (held, mut store) = new_store(256 << 10);
    let origin = store.create("origin", CLUSTER, false).unwrap();
    store.write(origin, 0, pattern(CLUSTER, 1)).unwrap();
    held.borrow().is_open = false;
    let buffer = offshoot_block::Buffer::zeroed(usize::try_from(CLUSTER).unwrap());
    let read = store.submit(IoRequest::Read { lvol: origin, offset: 0, buffer });
    let mut replies = Vec::new();
    store.poll(&mut replies);
    let slow = std::mem::take(&mut held.borrow().waiting);
    assert!(matches!(slow[..], [(_, DeviceOp::Read { .. })]), "{slow:?}");
    held.borrow().open();
    store.snapshot("origin", "snap").unwrap();
    let clone = store.clone_of("snap", "clone").unwrap();
    since(&mut store);
    store.remove("snap").unwrap();
    store.write(clone, 0, pattern(CLUSTER, 2)).unwrap();
    store.flush().unwrap();
    held.borrow().waiting.extend(slow);
    held.borrow().let_go(|_| true);
    let (ticket, reply) = loop {
        if let Some(reply) = replies.pop() {
            break reply;
        }
        store.wait(&mut replies);
    };
    assert_eq!(ticket, read);
    reply.map(|reply| match reply {
        offshoot_store::Reply::Buffer(shown) => shown.as_slice().to_vec(),
        reply => panic!("{reply:?}"),
    })
}

#[test]
fn a_slow_read_does_not_show_what_another_lvol_writes() {
    let shown = slow_read(|store| {
        let lvol = store.id("origin");
        store.run(Verb::SetParent { lvol, underlay: Underlay::Nothing }).unwrap();
    });
    let shown = shown.unwrap();
    assert!(shown == pattern(CLUSTER, 1).as_slice() || shown.iter().all(|byte| *byte == 0));
}

/// The same of one that is gone, and whose id is another one's.
#[test]
fn a_slow_read_does_not_show_another_lvol() {
    let shown = slow_read(|store| {
        let gone = store.id("origin");
        store.remove("origin").unwrap();
        while store.state().blob(gone).is_some() || store.state().md.is_used(gone.root().0) {
            store.flush().unwrap();
        }
        let next = (0..200).find(|number| {
            let made = store.create(&format!("l{number}"), CLUSTER, false).unwrap();
            store.write(made, 0, pattern(CLUSTER, 3)).unwrap();
            store.flush().unwrap();
            made == gone
        });
        assert!(next.is_some(), "its id was not used again");
    });
    assert!(matches!(shown, Err(Error::UnknownBlob(_))), "{shown:?}");
}
