//! What requests and verbs cost: the exact device operations of each, as golden lists.
//!
//! A change in write amplification or in the number of barriers shows up here as a one-line diff. Positions are
//! given as what lies there, so that they do not move with the layout: `data N` is the N-th data cluster.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{Lvols as _, Shared, metadata_clusters, options, pattern, writable};
use offshoot_block::BlockDevice as _;
use offshoot_device::{LoggedOp, MemDevice, OpKind};
use offshoot_format::{BlobId, Layout};
use offshoot_store::{IoRequest, Reply, Store};

const CLUSTER: u64 = 65_536;
const BLOCK: u64 = 4096;
/// Clusters of the snapshot that the clones are made of.
const CLUSTERS: u64 = 8;

type Watched = Store<Shared<MemDevice>>;

/// A store whose device operations can be seen.
struct Bench {
    store: Watched,
    device: Shared<MemDevice>,
}

impl Bench {
    /// A store with a full snapshot `snap` in data clusters 0..8 and a fresh clone `clone`, reopened so that
    /// nothing is dirty.
    fn new(block_size: u32, native: bool) -> Self {
        let device = Shared::new(MemDevice::new(32 << 20, block_size));
        let store = Store::init(device.clone(), &options(65_536, block_size, native), &writable()).unwrap();
        let mut bench = Self { store, device }.reopened();
        let disk = bench.store.create("disk", CLUSTERS * CLUSTER, true).unwrap();
        for cluster in 0..CLUSTERS {
            let data = pattern(CLUSTER, u8::try_from(cluster).unwrap());
            bench.store.write(disk, cluster * CLUSTER, data).unwrap();
        }
        bench.store.snapshot("disk", "snap").unwrap();
        bench.store.clone_of("snap", "clone").unwrap();
        bench.reopened()
    }

    fn reopened(self) -> Self {
        self.store.close().1.unwrap();
        let store = Store::open(self.device.clone(), Vec::new(), &writable()).unwrap();
        assert_eq!(store.findings(), &[]);
        Self { store, device: self.device }
    }

    /// The device operations of `run`, and of nothing else.
    fn ops<T>(&mut self, run: impl FnOnce(&mut Watched) -> T) -> Vec<String> {
        self.device.borrow().start_log();
        run(&mut self.store);
        let log = self.device.borrow().take_log();
        let layout = &self.store.state().layout;
        log.into_iter().map(|op| describe(op, layout)).collect()
    }

    fn write(&mut self, lvol: &str, offset: u64, len: u64) -> Vec<String> {
        let id = self.store.id(lvol);
        self.ops(|store| store.write(id, offset, pattern(len, 9)).unwrap())
    }

    fn flush(&mut self) -> Vec<String> {
        self.ops(|store| store.flush().unwrap())
    }
}

fn describe(op: LoggedOp, layout: &Layout) -> String {
    let cluster = u64::from(layout.cluster_size);
    let data = metadata_clusters(layout) * cluster;
    let md = layout.md_page_offset(offshoot_format::MdPageIdx(0));
    let place = match op.offset.0 {
        0 => "super block".into(),
        offset if offset >= data => {
            let (number, within) = ((offset - data) / cluster, (offset - data) % cluster);
            match within {
                0 => format!("data {number}"),
                _ => format!("data {number} + {within}"),
            }
        }
        offset if offset >= md => format!("md page {}", (offset - md) / 4096),
        _ => "mask".into(),
    };
    match op.kind {
        OpKind::Sync => "sync".into(),
        OpKind::Read => format!("read {} from {place}", op.len),
        OpKind::Write => format!("write {} to {place}", op.len),
        OpKind::WriteZeroes => format!("write zeroes {} to {place}", op.len),
        OpKind::Unmap => format!("unmap {} of {place}", op.len),
    }
}

/// A first write costs what is written: no cluster is copied, and nothing is read unless a block is left half.
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
        assert_eq!(bench.write("clone", *offset, *len), *expected, "{len} at {offset}");
        let id = bench.store.id("clone");
        let read = bench.store.read(id, *offset, usize::try_from(*len).unwrap()).unwrap();
        assert_eq!(read.as_slice(), pattern(*len, 9).as_slice());
    }
}

/// On a device of 4 KiB blocks a first write of 512 bytes reads the one block and writes the one block.
#[test]
fn a_small_first_write_on_large_blocks_reads_one_block() {
    let mut bench = Bench::new(4096, true);
    assert_eq!(bench.write("clone", 3 * CLUSTER, 512), ["read 4096 from data 3", "write 4096 to data 8"]);
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
    assert_eq!(bench.write("clone", 3 * CLUSTER + 3 * BLOCK, BLOCK), ["write 4096 to data 8 + 12288"]);
    assert_eq!(bench.store.own_clusters("clone"), 1);
}

/// The flush after a first write: data, then what makes it the clone's. The session's first one also says on disk
/// that the store is open.
#[test]
fn a_flush_after_a_first_write() {
    let mut bench = Bench::new(512, true);
    bench.write("clone", 0, BLOCK);
    assert_eq!(
        bench.flush(),
        ["sync", "write 4096 to super block", "sync", "write 8192 to md page 4", "sync",]
    );
    assert_eq!(bench.flush(), ["sync"], "nothing is dirty any more");
    bench.write("clone", 0, BLOCK);
    assert_eq!(bench.flush(), ["sync"], "an overwrite changes no metadata");
    bench.write("clone", BLOCK, BLOCK);
    assert_eq!(
        bench.flush(),
        ["sync", "write 4096 to md page 5", "sync"],
        "a further block of the cluster changes the layer page alone"
    );
}

/// Where native states may not arise a first write copies the cluster, once: 1 read, 1 write.
#[test]
fn without_native_states_a_first_write_copies_the_cluster_once() {
    let mut bench = Bench::new(512, false);
    assert_eq!(
        bench.write("clone", 3 * CLUSTER, BLOCK),
        ["read 61440 from data 3 + 4096", "write 65536 to data 8"],
        "what is overwritten is not read"
    );
    assert_eq!(bench.write("clone", 3 * CLUSTER + 5 * BLOCK, BLOCK), ["write 4096 to data 8 + 20480"]);
    assert_eq!(bench.write("clone", 4 * CLUSTER, CLUSTER), ["write 65536 to data 9"]);
    // Below a thin lvol without parent there is nothing to read.
    bench.store.create("thin", CLUSTER, false).unwrap();
    assert_eq!(bench.write("thin", BLOCK, BLOCK), ["write 65536 to data 10"]);
}

/// Verbs cost metadata alone, and a session's first one says on disk that the store is open.
#[test]
fn verbs_write_metadata_alone() {
    let mut bench = Bench::new(512, true);
    let thin = bench.ops(|store| store.create("thin", CLUSTERS * CLUSTER, false).unwrap());
    assert_eq!(thin, ["sync", "write 4096 to super block", "sync", "write 4096 to md page 5", "sync",]);
    let thick = bench.ops(|store| store.create("thick", 4 * CLUSTER, true).unwrap());
    assert_eq!(
        thick,
        ["write zeroes 262144 to data 8", "sync", "write 4096 to md page 6", "sync"],
        "one zeroing of the whole run"
    );
    let clone = bench.ops(|store| store.clone_of("snap", "other").unwrap());
    assert_eq!(clone, ["sync", "write 4096 to md page 7", "sync"]);
    bench.write("clone", 0, CLUSTER);
    let snapshot = bench.ops(|store| store.snapshot("clone", "snap2").unwrap());
    assert_eq!(
        snapshot,
        ["sync", "write 4096 to md page 4", "write 8192 to md page 8", "sync"],
        "the clone's root, and the snapshot's with the extent page of the write before"
    );
    let rename = bench.ops(|store| store.rename("other", "renamed").unwrap());
    assert_eq!(rename, ["sync", "write 4096 to md page 7", "sync"]);
    let resize = bench.ops(|store| store.resize("thin", 2 * CLUSTERS * CLUSTER).unwrap());
    assert_eq!(resize, ["sync", "write 4096 to md page 5", "sync"]);
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

/// Removing an lvol is one small write before the reply, whatever its size; its clusters are discarded behind the
/// barrier that makes their release durable (R1).
#[test]
fn a_removal_replies_before_clusters_are_released() {
    let mut bench = Bench::new(512, true);
    bench.store.create("thick", 16 * CLUSTER, true).unwrap();
    let free = bench.store.free();
    let before_reply = bench.ops(|store| store.remove("thick").unwrap());
    assert_eq!(before_reply, ["sync", "write 4096 to md page 5", "sync"]);
    let afterwards = bench.ops(|store| {
        store.poll(&mut Vec::new());
        store.flush().unwrap();
        store.poll(&mut Vec::new());
    });
    assert_eq!(afterwards, ["sync", "write 4096 to md page 5", "sync", "unmap 1048576 of data 8"]);
    assert_eq!(bench.store.free(), free + 16);
}

/// A snapshot with one clone hands everything over by pointer: no data moves, and the clone overwrites in place.
#[test]
fn removing_a_snapshot_moves_no_data() {
    let mut bench = Bench::new(512, true);
    bench.store.remove("disk").unwrap();
    let mut bench = bench.reopened();
    let removed = bench.ops(|store| store.remove("snap").unwrap());
    assert_eq!(
        removed,
        [
            "sync",
            "write 4096 to super block",
            "sync",
            "write 4096 to md page 2",
            "write 4096 to md page 4",
            "sync",
        ],
        "the clone's root with the extent page of the snapshot, whose own root is zeroed"
    );
    assert_eq!(bench.store.own_clusters("clone"), CLUSTERS);
    assert_eq!(bench.write("clone", 3 * CLUSTER, BLOCK), ["write 4096 to data 3"]);
}

/// Lookups are a memory read: 300 snapshots deep a block takes one device read, and so does a whole run that lies
/// together, whoever of the chain owns it.
#[test]
fn lookups_need_no_io_at_any_depth() {
    const DEPTH: u64 = 300;
    let device = Shared::new(MemDevice::new(64 << 20, 512));
    let store = Store::init(device.clone(), &options(65_536, 512, true), &writable()).unwrap();
    let mut bench = Bench { store, device }.reopened();
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
        nothing,
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
    let expected = [0, 3, 7, 15].map(|block: u64| match block {
        0 => "write 4096 to data 8".to_owned(),
        _ => format!("write 4096 to data 8 + {}", block * BLOCK),
    });
    assert_eq!(ops, expected);
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
