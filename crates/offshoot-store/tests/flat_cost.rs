//! What first writes cost does not grow with what the store already holds.
//!
//! Every cluster of a sparse clone of 1 TiB is written once. The device counts; a window of 4096 writes is charged
//! with whatever the device was asked for meanwhile: data, barriers, checkpoints.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, Shared, options, writable};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::{LoggedOp, MemDevice, OpKind};
use offshoot_format::BlobId;
use offshoot_store::{IoRequest, Reply, Store};

const CLUSTER: u64 = 4 << 20;
const CLUSTERS: u64 = (1 << 40) / CLUSTER;
const BLOCK: u64 = 4096;
/// Writes that are charged together.
const WINDOW: u64 = 4096;
/// Writes from one barrier to the next, so that no window lacks one.
const BARRIER: u64 = 1024;
/// What the last ones may cost, in hundredths of the first ones.
const FLAT_PERCENT: u64 = 105;

/// Counts what it is asked, and keeps what lies before the data clusters. Data is dropped: a block in each cluster
/// of 1 TiB is more than a test should hold.
#[derive(Debug)]
struct Counting {
    metadata: MemDevice,
    /// Where data begins; until that is known, everything is kept.
    data_start: u64,
    dropped: Vec<Completion>,
    cost: Cost,
}

/// What a device was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    ops: u64,
    /// Read and written.
    bytes: u64,
}

impl Cost {
    fn since(self, earlier: Self) -> Self {
        Self { ops: self.ops - earlier.ops, bytes: self.bytes - earlier.bytes }
    }

    /// The windows in the middle of the order, by operations and by bytes: what a window costs that has no checkpoint
    /// in it, as long as most have none.
    fn median(windows: &[Self]) -> Self {
        let middle = |part: fn(&Self) -> u64| {
            let mut parts: Vec<u64> = windows.iter().map(part).collect();
            parts.sort_unstable();
            parts[parts.len() / 2]
        };
        Self { ops: middle(|cost| cost.ops), bytes: middle(|cost| cost.bytes) }
    }

    /// Whether this is at most so many hundredths of `other`.
    fn is_within(self, percent: u64, other: Self) -> bool {
        self.ops * 100 <= other.ops * percent && self.bytes * 100 <= other.bytes * percent
    }
}

impl Counting {
    fn new(size_bytes: u64) -> Self {
        let metadata = MemDevice::new(size_bytes, 512);
        Self { metadata, data_start: u64::MAX, dropped: Vec::new(), cost: Cost::default() }
    }
}

impl BlockDevice for Counting {
    fn geometry(&self) -> DeviceGeometry {
        self.metadata.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let LoggedOp { kind, offset, len } = LoggedOp::of(&op);
        self.cost.ops += 1;
        self.cost.bytes += if matches!(kind, OpKind::Read | OpKind::Write) { len } else { 0 };
        match op {
            DeviceOp::Write { buffer, .. } if offset.0 >= self.data_start => {
                self.dropped.push(Completion { id, buffer: Some(buffer), result: Ok(()) });
            }
            op => self.metadata.submit(id, op),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.dropped);
        self.metadata.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.dropped.len() + self.metadata.outstanding()
    }
}

/// A store with a sparse clone of 1 TiB, and room for one more TiB of clusters.
fn store() -> (Store<Shared<Counting>>, Shared<Counting>, BlobId) {
    let device = Shared::new(Counting::new(2 * CLUSTERS * CLUSTER));
    let cluster = u32::try_from(CLUSTER).unwrap();
    let mut store = Store::init(device.clone(), &options(cluster, 512, true), &writable()).unwrap();
    let layout = &store.state().layout;
    device.borrow().data_start = layout.cluster_offset(layout.first_data_cluster());
    store.create("disk", CLUSTERS * CLUSTER, false).unwrap();
    store.snapshot("disk", "golden").unwrap();
    let clone = store.clone_of("golden", "clone").unwrap();
    store.flush().unwrap();
    (store, device, clone)
}

/// Writes the block of this number to each of these clusters at a queue depth, counted from a block that is not the
/// same in every cluster. Returns what each window of writes cost.
fn windows(
    store: &mut Store<Shared<Counting>>,
    device: &Shared<Counting>,
    lvol: BlobId,
    depth: usize,
    block: u64,
    clusters: impl Iterator<Item = u64>,
) -> Vec<Cost> {
    let mut buffers: Vec<Buffer> = (0..depth).map(|_| Buffer::zeroed(4096)).collect();
    let mut clusters = clusters.peekable();
    let mut replies = Vec::new();
    let mut windows = Vec::new();
    let mut before = device.borrow().cost;
    let (mut submitted, mut done, mut waiting) = (0, 0, 0_u64);
    while clusters.peek().is_some() || waiting > 0 {
        while let Some(data) = buffers.pop_if(|_| clusters.peek().is_some()) {
            let cluster = clusters.next().unwrap();
            let offset = cluster * CLUSTER + (cluster + block) % (CLUSTER / BLOCK) * BLOCK;
            store.submit(IoRequest::Write { lvol, offset, data, fua: false });
            submitted += 1;
            waiting += 1;
            if submitted % BARRIER == 0 {
                store.submit(IoRequest::Flush);
                waiting += 1;
            }
        }
        store.wait(&mut replies);
        for (_, reply) in replies.drain(..) {
            waiting -= 1;
            if let Reply::Buffer(buffer) = reply.unwrap() {
                buffers.push(buffer);
                done += 1;
                if done % WINDOW == 0 {
                    let now = device.borrow().cost;
                    windows.push(now.since(before));
                    before = now;
                }
            }
        }
    }
    windows
}

/// The clusters of the clone in steps of `stride`, each once.
fn clusters(stride: u64) -> impl Iterator<Item = u64> {
    (0..CLUSTERS).map(move |number| number * stride % CLUSTERS)
}

/// Checks that the clone of a closed store holds what was written.
fn verify(device: Shared<Counting>, clusters: u64) {
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.own_clusters("clone"), clusters);
}

/// One write into each of the first `count` clusters: the last windows cost what the first ones do, and the whole
/// run with its checkpoints, that of the close included, costs at most `whole_percent` of its data.
fn check(depth: usize, stride: u64, count: u64, whole_percent: u64) {
    let (mut store, device, clone) = store();
    let start = device.borrow().cost;
    let clusters = clusters(stride).take(usize::try_from(count).unwrap());
    let windows = windows(&mut store, &device, clone, depth, 0, clusters);
    assert_eq!(windows.len() as u64, count / WINDOW);
    let quarter = windows.len() / 4;
    let first = Cost::median(&windows[..quarter]);
    let last = Cost::median(&windows[windows.len() - quarter..]);
    assert!(last.is_within(FLAT_PERCENT, first), "depth {depth}: first {first:?}, last {last:?}");
    store.close().1.unwrap();
    let whole = device.borrow().cost.since(start);
    assert!(whole.bytes * 100 <= count * BLOCK * whole_percent, "depth {depth}: {whole:?}");
    verify(device, count);
}

/// In the order of the volume.
#[test]
fn first_writes_in_order_cost_the_same_from_the_first_to_the_last() {
    check(32, 1, CLUSTERS, 115);
    check(1, 1, CLUSTERS / 8, 130);
}

/// Across the volume, so that neighbours in time share no md page.
#[test]
fn scattered_first_writes_cost_the_same_from_the_first_to_the_last() {
    const STRIDE: u64 = 104_729;
    check(32, STRIDE, CLUSTERS, 115);
    check(1, STRIDE, CLUSTERS / 8, 130);
}

/// A checkpoint costs what changed since the one before, whatever the store holds. Each session ends with one.
#[test]
fn checkpoints_cost_what_changed() {
    const SESSIONS: u64 = 16;
    let (mut store, device, clone) = store();
    let mut sessions = Vec::new();
    for session in 0..SESSIONS {
        let start = device.borrow().cost;
        windows(&mut store, &device, clone, 32, 0, session * WINDOW..(session + 1) * WINDOW);
        store.close().1.unwrap();
        sessions.push(device.borrow().cost.since(start));
        // Not charged: opening reads what there is.
        store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
    }
    // The first one also writes what makes the clone.
    let (first, last) = (Cost::median(&sessions[..4]), Cost::median(&sessions[sessions.len() - 4..]));
    assert!(last.is_within(FLAT_PERCENT, first), "{sessions:?}");
    drop(store);
    verify(device, SESSIONS * WINDOW);
}

/// Further blocks of clusters that hold some already, across the volume: what changes is one layer record each time,
/// whatever else its md page and its ordinal hold.
#[test]
fn scattered_second_blocks_cost_the_same_from_the_first_to_the_last() {
    const STRIDE: u64 = 104_729;
    const WINDOWS: u64 = 16;
    const SESSIONS: usize = 2;
    let (mut store, device, clone) = store();
    let first = windows(&mut store, &device, clone, 32, 0, clusters(STRIDE));
    store.close().1.unwrap();
    let count = WINDOWS * WINDOW;
    let mut scattered = clusters(STRIDE);
    for session in 0..SESSIONS {
        let mut store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
        let start = device.borrow().cost;
        let clusters = scattered.by_ref().take(usize::try_from(count).unwrap());
        let second = windows(&mut store, &device, clone, 32, 1, clusters);
        let (first, last) = (Cost::median(&first), Cost::median(&second));
        assert!(last.is_within(FLAT_PERCENT, first), "session {session}: first {first:?}, last {last:?}");
        store.close().1.unwrap();
        // Besides its data a write costs its page of 15 records, as an image and in place, unless a checkpoint finds
        // several changes in a page.
        let whole = device.borrow().cost.since(start);
        assert!(whole.bytes * 100 <= count * BLOCK * 300, "session {session}: {whole:?}");
    }
    verify(device, CLUSTERS);
}
