//! What requests and verbs cost: the exact device operations of each, as golden lists.
//!
//! A change in write amplification or in the number of barriers shows up here as a one-line diff. Positions are
//! given as what lies there, so that they do not move with the layout: `data N` is the N-th data cluster.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, Shared, metadata_clusters, options, pattern, writable};
use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::{LoggedOp, MemDevice, OpKind};
use offshoot_format::{BlobId, FRAME_HEADER_BYTES, FrameHeader, FrameKind, JournalArea, Layout, MdPageIdx};
use offshoot_store::{IoRequest, Reply, Store};

const CLUSTER: u64 = 65_536;
const BLOCK: u64 = 4096;
/// Clusters of the snapshot that the clones are made of.
const CLUSTERS: u64 = 8;

/// What a barrier costs where a record is not covered yet.
const BARRIER: [&str; 3] = ["sync", "barrier 512", "sync"];

type Watched = Store<Shared<Recorder>>;

/// A device that keeps what it is asked for.
#[derive(Debug)]
struct Recorder {
    inner: MemDevice,
    log: Option<Vec<Seen>>,
}

/// An operation, and the start of what it writes: as much as tells a frame from a mask.
#[derive(Debug)]
struct Seen {
    op: LoggedOp,
    head: Vec<u8>,
}

impl BlockDevice for Recorder {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        if let Some(log) = &mut self.log {
            let head = match &op {
                DeviceOp::Write { buffer, .. } => buffer.as_slice()[..FRAME_HEADER_BYTES].to_vec(),
                _ => Vec::new(),
            };
            log.push(Seen { op: LoggedOp::of(&op), head });
        }
        self.inner.submit(id, op);
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.inner.poll(completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.inner.wait(completions);
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding()
    }
}

/// A store whose device operations can be seen.
struct Bench {
    store: Watched,
    device: Shared<Recorder>,
    /// What the last frame said of the checkpoint and of the tail.
    said: (u64, u64),
}

impl Bench {
    /// A store with a full snapshot `snap` in data clusters 0..8 and a fresh clone `clone`, reopened so that
    /// nothing is dirty and no journal is in use.
    fn at_rest(block_size: u32, native: bool) -> Self {
        let mut bench = Self::empty(32 << 20, block_size, native);
        let disk = bench.store.create("disk", CLUSTERS * CLUSTER, true).unwrap();
        for cluster in 0..CLUSTERS {
            let data = pattern(CLUSTER, u8::try_from(cluster).unwrap());
            bench.store.write(disk, cluster * CLUSTER, data).unwrap();
        }
        bench.store.snapshot("disk", "snap").unwrap();
        bench.store.clone_of("snap", "clone").unwrap();
        bench.reopened()
    }

    /// The same with a journal that is in use.
    fn new(block_size: u32, native: bool) -> Self {
        let mut bench = Self::at_rest(block_size, native);
        bench.use_journal();
        bench
    }

    fn empty(size_bytes: u64, block_size: u32, native: bool) -> Self {
        let inner = MemDevice::new(size_bytes, block_size);
        let device = Shared::new(Recorder { inner, log: None });
        let store = Store::init(device.clone(), &options(65_536, block_size, native), &writable()).unwrap();
        Self { store, device, said: (0, 0) }.reopened()
    }

    fn reopened(self) -> Self {
        self.store.close().1.unwrap();
        let store = Store::open(self.device.clone(), Vec::new(), &writable()).unwrap();
        assert_eq!(store.findings(), &[]);
        Self { store, device: self.device, said: (0, 1) }
    }

    /// A verb that no test is about.
    fn use_journal(&mut self) {
        self.ops(|store| store.rename("clone", "renamed").unwrap());
        self.ops(|store| store.rename("renamed", "clone").unwrap());
    }

    fn journal(&self) -> Option<JournalArea> {
        self.store.super_block().native.as_ref().and_then(|native| native.journal)
    }

    /// The device operations of `run`, and of nothing else.
    fn ops<T>(&mut self, run: impl FnOnce(&mut Watched) -> T) -> Vec<String> {
        let before = self.journal();
        self.device.borrow().log = Some(Vec::new());
        run(&mut self.store);
        let area = before.or_else(|| self.journal());
        self.take_ops(area)
    }

    /// The device operations of closing the store, and of opening it again.
    fn reopening_ops(self) -> ([Vec<String>; 2], Self) {
        let area = self.journal();
        let Self { store, device, said } = self;
        device.borrow().log = Some(Vec::new());
        store.close().1.unwrap();
        let closing = device.borrow().log.replace(Vec::new()).unwrap();
        let store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
        assert_eq!(store.findings(), &[]);
        let opening = device.borrow().log.take().unwrap();
        let mut bench = Self { store, device, said };
        let closing = bench.describe_all(&closing, area);
        bench.said = (0, 1);
        let opening = bench.describe_all(&opening, None);
        ([closing, opening], bench)
    }

    fn take_ops(&mut self, area: Option<JournalArea>) -> Vec<String> {
        let log = self.device.borrow().log.take().unwrap();
        self.describe_all(&log, area)
    }

    fn describe_all(&mut self, log: &[Seen], area: Option<JournalArea>) -> Vec<String> {
        let layout = self.store.state().layout.clone();
        log.iter().map(|seen| self.describe(seen, &layout, area)).collect()
    }

    fn write(&mut self, lvol: &str, offset: u64, len: u64) -> Vec<String> {
        let id = self.store.id(lvol);
        self.ops(|store| store.write(id, offset, pattern(len, 9)).unwrap())
    }

    fn flush(&mut self) -> Vec<String> {
        self.ops(|store| store.flush().unwrap())
    }

    fn describe(&mut self, seen: &Seen, layout: &Layout, area: Option<JournalArea>) -> String {
        let Seen { op, head } = seen;
        let ring = area.map_or(u64::MAX, |area| layout.md_page_offset(area.start));
        let frame = op.offset.0.checked_sub(ring).and_then(|at| FrameHeader::decode(head, at));
        if let Some(frame) = frame.filter(|_| op.kind == OpKind::Write) {
            return format!("{} {}", self.name_of(&frame), op.len);
        }
        let place = match op.offset.0 {
            4096 if head.starts_with(b"SPDKBLOB") => "super block copy".into(),
            offset => place(offset, layout, area),
        };
        match op.kind {
            OpKind::Sync => "sync".into(),
            OpKind::Read => format!("read {} from {place}", op.len),
            OpKind::Write => format!("write {} to {place}", op.len),
            OpKind::WriteZeroes => format!("write zeroes {} to {place}", op.len),
            OpKind::Unmap => format!("unmap {} of {place}", op.len),
        }
    }

    /// What a frame is there for. One without records says something about the journal.
    fn name_of(&mut self, frame: &FrameHeader) -> &'static str {
        let (checkpoint, tail) = std::mem::replace(&mut self.said, (frame.checkpoint, frame.tail));
        match frame.kind {
            FrameKind::Images => "images",
            _ if frame.payload_len > 0 => "frame",
            _ if frame.checkpoint > checkpoint => "seal",
            _ if frame.tail > tail => "complete",
            _ => "barrier",
        }
    }
}

/// What lies at a byte of the device.
fn place(offset: u64, layout: &Layout, area: Option<JournalArea>) -> String {
    let cluster = u64::from(layout.cluster_size);
    let data = metadata_clusters(layout) * cluster;
    let md = layout.md_page_offset(MdPageIdx(0));
    if offset == 0 {
        return "super block".into();
    }
    if offset >= data {
        let (number, within) = ((offset - data) / cluster, (offset - data) % cluster);
        return match within {
            0 => format!("data {number}"),
            _ => format!("data {number} + {within}"),
        };
    }
    if offset < md {
        return "mask".into();
    }
    match area {
        Some(area) if offset >= layout.md_page_offset(area.masks_start()) => "live masks".into(),
        Some(area) if offset >= layout.md_page_offset(area.start) => "ring".into(),
        _ => format!("md page {}", (offset - md) / 4096),
    }
}

/// A first write costs what is written: no cluster is copied, and nothing is read unless a block is left half. Behind
/// the data follows one frame, whatever it was.
#[test]
fn a_first_write_costs_what_it_writes() {
    let table: &[(u64, u64, &[&str])] = &[
        // One block, at its place in a fresh cluster.
        (3 * CLUSTER + 2 * BLOCK, BLOCK, &["write 4096 to data 8 + 8192"]),
        // A part of a block: the rest of it is read from the snapshot and written along.
        (
            3 * CLUSTER + 512,
            512,
            &["read 512 from data 3", "read 3072 from data 3 + 1024", "write 4096 to data 8"],
        ),
        // The start of a block.
        (3 * CLUSTER, 512, &["read 3584 from data 3 + 512", "write 4096 to data 8"]),
        // A whole cluster.
        (3 * CLUSTER, CLUSTER, &["write 65536 to data 8"]),
        // Two clusters and their fresh neighbours on the device: one operation.
        (3 * CLUSTER, 2 * CLUSTER, &["write 131072 to data 8"]),
        // The end of one cluster and the start of the next meet on the device.
        (4 * CLUSTER - BLOCK, 2 * BLOCK, &["write 8192 to data 8 + 61440"]),
        // Half a block at both ends, and whole ones between.
        (
            3 * CLUSTER + 2048,
            2 * BLOCK,
            &["read 2048 from data 3", "read 2048 from data 3 + 10240", "write 12288 to data 8"],
        ),
    ];
    for (offset, len, expected) in table {
        let mut bench = Bench::new(512, true);
        let expected: Vec<&str> = expected.iter().copied().chain(["frame 512"]).collect();
        assert_eq!(bench.write("clone", *offset, *len), expected, "{len} at {offset}");
        let id = bench.store.id("clone");
        let read = bench.store.read(id, *offset, usize::try_from(*len).unwrap()).unwrap();
        assert_eq!(read.as_slice(), pattern(*len, 9).as_slice());
    }
}

/// On a device of 4 KiB blocks a first write of 512 bytes reads the one block and writes the one block.
#[test]
fn a_small_first_write_on_large_blocks_reads_one_block() {
    let mut bench = Bench::new(4096, true);
    assert_eq!(
        bench.write("clone", 3 * CLUSTER, 512),
        ["read 4096 from data 3", "write 4096 to data 8", "frame 4096"]
    );
}

#[test]
fn an_overwrite_is_one_write_in_place() {
    let mut bench = Bench::new(512, true);
    bench.write("clone", 3 * CLUSTER + 2 * BLOCK, BLOCK);
    let overwrites = [(0, BLOCK), (512, 512), (0, 1024)];
    for (within, len) in overwrites {
        let ops = bench.write("clone", 3 * CLUSTER + 2 * BLOCK + within, len);
        assert_eq!(ops, [format!("write {len} to data 8 + {}", 2 * BLOCK + within)]);
    }
    // The next block of the cluster is a first write of its own, into the same cluster.
    assert_eq!(
        bench.write("clone", 3 * CLUSTER + 3 * BLOCK, BLOCK),
        ["write 4096 to data 8 + 12288", "frame 512"]
    );
    assert_eq!(bench.store.own_clusters("clone"), 1);
}

/// A store at rest is not touched before its first record. Then the journal comes into use: the live masks, and once
/// they are durable the super block, which may say so only then, and its copy.
#[test]
fn the_first_record_opens_the_journal() {
    let mut bench = Bench::at_rest(512, true);
    let id = bench.store.id("clone");
    assert_eq!(bench.ops(|store| store.read(id, 0, 512).unwrap()), ["read 512 from data 0"]);
    assert_eq!(
        bench.write("clone", 0, BLOCK),
        [
            "write 4096 to data 8",
            "write 8192 to live masks",
            "sync",
            "write 4096 to super block",
            "sync",
            "write 4096 to super block copy",
            "frame 512",
        ]
    );
    assert_eq!(bench.write("clone", BLOCK, BLOCK), ["write 4096 to data 8 + 4096", "frame 512"]);
}

/// A flush is one sync, and two with a frame between them where a record is not covered yet.
#[test]
fn a_flush_covers_the_records_before_it() {
    let mut bench = Bench::new(512, true);
    assert_eq!(bench.flush(), ["sync"], "the verb before it is covered");
    bench.write("clone", 0, BLOCK);
    bench.write("clone", BLOCK, BLOCK);
    assert_eq!(bench.flush(), BARRIER, "one for both");
    assert_eq!(bench.flush(), ["sync"]);
    bench.write("clone", 0, BLOCK);
    assert_eq!(bench.flush(), ["sync"], "an overwrite makes no record");
}

/// A write with FUA costs what the write and a flush behind it cost.
#[test]
fn a_write_with_fua_is_a_write_and_a_barrier() {
    let mut bench = Bench::new(512, true);
    let id = bench.store.id("clone");
    let fua = |bench: &mut Bench| {
        bench.ops(|store| {
            let request = IoRequest::Write { lvol: id, offset: 0, data: pattern(BLOCK, 9), fua: true };
            let ticket = store.submit(request);
            store.wait_for(ticket).unwrap();
        })
    };
    let first = fua(&mut bench);
    assert_eq!(first, ["write 4096 to data 8", "frame 512", "sync", "barrier 512", "sync"]);
    assert_eq!(fua(&mut bench), ["write 4096 to data 8", "sync"], "an overwrite");
}

/// Ticks bring a barrier for what has been uncovered since the one before, and nothing else.
#[test]
fn a_tick_covers_what_the_tick_before_it_saw() {
    let mut bench = Bench::new(512, true);
    let tick = |bench: &mut Bench| {
        bench.ops(|store| {
            store.tick();
            store.wait(&mut Vec::new());
        })
    };
    let nothing: [String; 0] = [];
    tick(&mut bench);
    assert_eq!(tick(&mut bench), nothing);
    bench.write("clone", 0, BLOCK);
    assert_eq!(tick(&mut bench), nothing, "it is not half a second old");
    assert_eq!(tick(&mut bench), BARRIER);
    assert_eq!(tick(&mut bench), nothing);
}

/// Where native states may not arise a first write copies the cluster, once: 1 read, 1 write.
#[test]
fn without_native_states_a_first_write_copies_the_cluster_once() {
    let mut bench = Bench::new(512, false);
    assert_eq!(
        bench.write("clone", 3 * CLUSTER, BLOCK),
        ["read 61440 from data 3 + 4096", "write 65536 to data 8", "frame 512"],
        "what is overwritten is not read"
    );
    assert_eq!(
        bench.write("clone", 3 * CLUSTER + 5 * BLOCK, BLOCK),
        ["write 4096 to data 8 + 20480"],
        "the cluster is the clone's as a whole"
    );
    assert_eq!(bench.write("clone", 4 * CLUSTER, CLUSTER), ["write 65536 to data 9", "frame 512"]);
    // Below a thin lvol without parent there is nothing to read.
    bench.store.create("thin", CLUSTER, false).unwrap();
    assert_eq!(bench.write("thin", BLOCK, BLOCK), ["write 65536 to data 10", "frame 512"]);
}

/// Verbs cost one frame and a barrier, whatever they change: their records are one transaction.
#[test]
fn verbs_cost_a_frame_and_a_barrier() {
    const VERB: [&str; 4] = ["frame 512", "sync", "barrier 512", "sync"];
    let mut bench = Bench::new(512, true);
    let thin = bench.ops(|store| store.create("thin", CLUSTERS * CLUSTER, false).unwrap());
    assert_eq!(thin, VERB);
    let thick = bench.ops(|store| store.create("thick", 4 * CLUSTER, true).unwrap());
    assert_eq!(thick[0], "write zeroes 262144 to data 8", "one zeroing of the whole run");
    assert_eq!(thick[1..], VERB);
    assert_eq!(bench.ops(|store| store.clone_of("snap", "other").unwrap()), VERB);
    bench.write("clone", 0, CLUSTER);
    assert_eq!(bench.ops(|store| store.snapshot("clone", "snap2").unwrap()), VERB);
    assert_eq!(bench.ops(|store| store.rename("other", "renamed").unwrap()), VERB);
    assert_eq!(bench.ops(|store| store.resize("thin", 2 * CLUSTERS * CLUSTER).unwrap()), VERB);
}

/// A thick lvol in pieces: one zeroing per run of free clusters.
#[test]
fn a_thick_create_zeroes_each_run_once() {
    let mut bench = Bench::new(512, true);
    bench.store.create("a", 2 * CLUSTER, true).unwrap();
    bench.store.create("b", CLUSTER, true).unwrap();
    bench.store.remove("a").unwrap();
    let mut bench = bench.reopened();
    let ops = bench.ops(|store| store.create("c", 5 * CLUSTER, true).unwrap());
    let zeroing: Vec<_> = ops.iter().filter(|op| op.starts_with("write zeroes")).collect();
    assert_eq!(zeroing, ["write zeroes 131072 to data 8", "write zeroes 196608 to data 11"]);
}

/// Removing an lvol is one frame and a barrier before the reply, whatever its size; its clusters are discarded behind the
/// barrier that makes their release durable (R1).
#[test]
fn a_removal_replies_before_clusters_are_released() {
    let mut bench = Bench::new(512, true);
    bench.store.create("thick", 16 * CLUSTER, true).unwrap();
    let free = bench.store.free();
    let before_reply = bench.ops(|store| store.remove("thick").unwrap());
    // The second and the third frame are the releasing that goes on behind it.
    assert_eq!(before_reply, ["frame 512", "sync", "frame 512", "barrier 512", "sync", "frame 512"]);
    let afterwards = bench.ops(|store| {
        store.poll(&mut Vec::new());
        store.flush().unwrap();
        store.poll(&mut Vec::new());
    });
    assert_eq!(afterwards, ["sync", "barrier 512", "sync", "unmap 1048576 of data 8"]);
    assert_eq!(bench.store.free(), free + 16);
}

/// A snapshot with one clone hands everything over by pointer: no data moves, and the clone overwrites in place.
#[test]
fn removing_a_snapshot_moves_no_data() {
    let mut bench = Bench::new(512, true);
    bench.store.remove("disk").unwrap();
    let mut bench = bench.reopened();
    bench.use_journal();
    let removed = bench.ops(|store| store.remove("snap").unwrap());
    assert_eq!(removed, ["frame 512", "sync", "barrier 512", "sync"]);
    assert_eq!(bench.store.own_clusters("clone"), CLUSTERS);
    assert_eq!(bench.write("clone", 3 * CLUSTER, BLOCK), ["write 4096 to data 3"]);
}

/// A close with metadata to write is a checkpoint (R7), and then the store is sealed. What comes after is at rest, and
/// closing it again writes nothing.
#[test]
fn a_close_is_a_checkpoint_and_a_seal() {
    let mut bench = Bench::new(512, true);
    bench.write("clone", 0, BLOCK);
    bench.store.clone_of("snap", "other").unwrap();
    let ([closing, opening], bench) = bench.reopening_ops();
    let (checkpoint, seal) = closing.split_at(10);
    assert_eq!(
        checkpoint,
        [
            // Pages that nothing refers to yet, and images of those that something does.
            "write 8192 to md page 5",
            "images 12800",
            "sync",
            "seal 512",
            "sync",
            "write 4096 to md page 3",
            "write 8192 to live masks",
            "sync",
            "complete 512",
            "sync",
        ]
    );
    assert_eq!(
        seal,
        [
            // From here on no frame counts, and what the ring holds goes.
            "write 4096 to super block",
            "sync",
            "write zeroes 20480 to ring",
            "write 4096 to mask",
            "write 4096 to mask",
            "write 4096 to mask",
            "sync",
            "write 4096 to super block",
            "sync",
            // Needed up to here.
            "write zeroes 16384 to live masks",
            "sync",
        ]
    );
    let reads = |op: &String| op.starts_with("read ") || op == "sync";
    assert!(opening.iter().all(reads), "a store at rest is only read: {opening:?}");
    let ([closing, opening], _) = bench.reopening_ops();
    assert_eq!(closing, ["sync"]);
    assert!(opening.iter().all(reads), "{opening:?}");
}

/// Lookups are a memory read: 300 snapshots deep a block takes one device read, and so does a whole run that lies
/// together, whoever of the chain owns it.
#[test]
fn lookups_need_no_io_at_any_depth() {
    const DEPTH: u64 = 300;
    let mut bench = Bench::empty(64 << 20, 512, true);
    let id = bench.store.create("lvol", DEPTH * CLUSTER, false).unwrap();
    for depth in 0..DEPTH {
        // Every layer adds a cluster of its own, and a block to the first one.
        let seed = u8::try_from(depth % 15).unwrap();
        bench.store.write(id, depth * CLUSTER, pattern(CLUSTER, seed)).unwrap();
        let block = depth % 16 * BLOCK;
        bench.store.write(id, block, pattern(BLOCK, seed)).unwrap();
        bench.store.snapshot("lvol", &format!("s{depth}")).unwrap();
    }
    let mut bench = bench.reopened();
    assert_eq!(bench.store.state().depth(bench.store.state().blob(id).unwrap()), 300);
    for cluster in [1, 2, 150, 299] {
        let read = bench.ops(|store| {
            let read = store.read(id, cluster * CLUSTER + 512, 512).unwrap();
            let seed = u8::try_from(cluster % 15).unwrap();
            assert_eq!(read.as_slice(), &pattern(CLUSTER, seed).as_slice()[512..1024]);
        });
        assert_eq!(read.len(), 1, "cluster {cluster}: {read:?}");
    }
    // The first cluster is a stack of layers. Each of its blocks lies in one place.
    for block in 0..16 {
        let read = bench.ops(|store| store.read(id, block * BLOCK, 4096).unwrap());
        assert_eq!(read.len(), 1, "block {block}: {read:?}");
    }
}

/// Requests that touch neither device nor metadata.
#[test]
fn what_costs_nothing() {
    let mut bench = Bench::new(512, true);
    bench.store.create("thin", CLUSTERS * CLUSTER, false).unwrap();
    let id = bench.store.id("thin");
    let nothing: [String; 0] = [];
    assert_eq!(bench.ops(|store| store.read(id, 0, 4096).unwrap()), nothing, "a read of a hole");
    assert_eq!(bench.ops(|store| store.unmap(id, 0..CLUSTER).unwrap()), nothing, "trim of a hole");
    assert_eq!(bench.ops(|store| store.write_zeroes(id, 0..CLUSTER).unwrap()), nothing, "zeroing of a hole");
    let clone = bench.store.id("clone");
    assert_eq!(
        bench.ops(|store| store.write_zeroes(clone, 0..CLUSTER).unwrap()),
        ["frame 512"],
        "hiding the parent"
    );
    assert_eq!(bench.ops(|store| store.extents(clone, 0..CLUSTERS * CLUSTER, 99).unwrap()), nothing);
}

/// First writes in flight together: each costs itself, and one cluster is chosen for all blocks of it.
#[test]
fn concurrent_first_writes_share_a_cluster() {
    let mut bench = Bench::new(512, true);
    let id = bench.store.id("clone");
    let ops = bench.ops(|store| submit_blocks(store, id, &[0, 3, 7, 15]));
    assert_eq!(
        ops,
        [
            "write 4096 to data 8",
            "write 4096 to data 8 + 12288",
            "write 4096 to data 8 + 28672",
            "write 4096 to data 8 + 61440",
            "frame 512",
            "frame 512"
        ]
    );
    assert_eq!(bench.store.own_clusters("clone"), 1);
    assert_eq!(bench.device.outstanding(), 0);
}

fn submit_blocks(store: &mut Watched, lvol: BlobId, blocks: &[u64]) {
    for block in blocks {
        store.submit(IoRequest::Write { lvol, offset: block * BLOCK, data: pattern(BLOCK, 9), fua: false });
    }
    let mut replies = Vec::new();
    while replies.len() < blocks.len() {
        store.poll(&mut replies);
    }
    assert!(replies.iter().all(|(_, reply)| matches!(reply, Ok(Reply::Buffer(_)))));
}
