//! Figure 1 of the brief that the project was founded on: a snapshot with extents 1..256, a clone of it, and a
//! write to the clone's cluster 7, with both maps before and after as `dump` shows them.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;

use lvols::{Lvols as _, metadata_clusters, options, pattern, writable};
use offshoot_device::MemDevice;
use offshoot_format::{dump_blob, dump_extent_page, dump_layer_page};
use offshoot_store::{Store, blob_md, extent_page, layer_pages};
use plain_checker::PlainStore;

const CLUSTER: u64 = 65_536;
const CLUSTERS: u64 = 256;

#[test]
fn figure_one() {
    let mut store = before();
    let first = metadata_clusters(&store.state().layout);
    let last = first + CLUSTERS - 1;
    let snapshot_map = format!(
        "\
num_clusters: 256
map: EXTENT_TABLE
extent_page: 0 -> md page 4
extent_page.start: 0
extent_page.len: 256
clusters: 0..255 -> {first}..{last}
"
    );
    assert_eq!(map(&store, "snap1"), snapshot_map);
    assert_eq!(
        map(&store, "cl1"),
        "num_clusters: 256\nmap: EXTENT_TABLE\n",
        "the clone owns nothing: all reads fall through"
    );

    // A whole cluster: the map after it is one that SPDK reads.
    let id = store.id("cl1");
    store.write(id, 7 * CLUSTER, pattern(CLUSTER, 9)).unwrap();
    let mut store = reopened(store);

    let private = last + 1;
    assert_eq!(map(&store, "snap1"), snapshot_map, "the snapshot is unchanged");
    assert_eq!(
        map(&store, "cl1"),
        format!(
            "\
num_clusters: 256
map: EXTENT_TABLE
extent_page: 0 -> md page 5
extent_page.start: 0
extent_page.len: 256
clusters: 7 -> {private}
"
        )
    );
    assert_eq!((store.own_clusters("snap1"), store.own_clusters("cl1")), (256, 1));
    assert_content(&mut store, CLUSTER);

    // At rest this is what any reader of SPDK's format finds, by another reading of the same bytes.
    let (device, closed) = store.close();
    closed.unwrap();
    let plain = PlainStore::read(&|offset, bytes| device.read_at(offset, bytes));
    assert_eq!(plain.problems, Vec::<String>::new());
    let (snapshot, clone) = (plain.lvol("snap1"), plain.lvol("cl1"));
    assert!((0..256).all(|at| u64::from(snapshot.clusters[at]) == first + at as u64));
    assert!((0..256).all(|at| u64::from(clone.clusters[at]) == if at == 7 { private } else { 0 }));
    assert_eq!(clone.parent, Some(snapshot.id));
}

/// The same with a write of one block: the clone's cluster is partial and holds that block alone.
#[test]
fn figure_one_with_a_single_block() {
    let mut store = before();
    let first = metadata_clusters(&store.state().layout);
    let snapshot_map = map(&store, "snap1");
    let id = store.id("cl1");
    store.write(id, 7 * CLUSTER + 8192, pattern(4096, 9)).unwrap();
    let mut store = reopened(store);

    assert_eq!(map(&store, "snap1"), snapshot_map, "the snapshot is unchanged");
    assert_eq!(
        map(&store, "cl1"),
        format!(
            "\
native.dying: false
native.inherit_len: 256
native.layer_page: 0 -> md page 5
num_clusters: 256
map: EXTENT_TABLE
layer_page.ordinal: 0
layer_page.states_bytes: 4
layer: slot 7 depth 0 -> {} data 2
",
            first + CLUSTERS
        )
    );
    assert_eq!((store.own_clusters("snap1"), store.own_clusters("cl1")), (256, 1));

    let (before, after) = (store.content("snap1"), store.content("cl1"));
    let written = 7 * 65_536 + 8192..7 * 65_536 + 12_288;
    assert_eq!(after[written.clone()], *pattern(4096, 9).as_slice());
    assert!(after[..written.start] == before[..written.start]);
    assert!(after[written.end..] == before[written.end..]);
}

/// The figure's upper half: `snap1` holds 256 clusters in one run, `cl1` is a fresh clone of it.
///
/// Md pages are handed out lowest first: the super blob has 0, `disk1` 1, `snap1` 2, `cl1` 3, and the close that wrote
/// them gave `snap1`'s extent page 4, so that the first page of `cl1`'s map is 5.
fn before() -> Store<MemDevice> {
    let device = MemDevice::new(64 << 20, 512);
    let mut store = Store::init(device, &options(65_536, 512, true), &writable()).unwrap();
    let origin = store.create("disk1", CLUSTERS * CLUSTER, true).unwrap();
    for cluster in 0..CLUSTERS {
        let seed = u8::try_from(cluster % 8).unwrap();
        store.write(origin, cluster * CLUSTER, pattern(CLUSTER, seed)).unwrap();
    }
    store.snapshot("disk1", "snap1").unwrap();
    store.clone_of("snap1", "cl1").unwrap();
    reopened(store)
}

/// Md pages are assigned when a checkpoint writes them, so the store is closed before one looks at them.
fn reopened(store: Store<MemDevice>) -> Store<MemDevice> {
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    store
}

fn assert_content(store: &mut Store<MemDevice>, len: u64) {
    let (before, after) = (store.content("snap1"), store.content("cl1"));
    let start = usize::try_from(7 * CLUSTER).unwrap();
    let end = start + usize::try_from(len).unwrap();
    assert!(before[start..end] == *pattern(len, 7).as_slice());
    assert!(after[start..end] == *pattern(len, 9).as_slice());
    assert!(after[..start] == before[..start] && after[end..] == before[end..]);
}

/// What `dump` says of an lvol's map: from its size on, without the ids and names above it.
fn map(store: &Store<MemDevice>, name: &str) -> String {
    let state = store.state();
    let blob = state.blob(store.id(name)).unwrap();
    let mut text = String::new();
    dump_blob(&blob_md(state, blob), &mut text).unwrap();
    for (ordinal, md) in &blob.pages.ordinals {
        if md.own_full > 0 {
            dump_extent_page(&extent_page(state, blob, *ordinal), &mut text).unwrap();
        }
        for page in layer_pages(state, blob, *ordinal) {
            dump_layer_page(&page, &mut text).unwrap();
        }
    }
    let of_the_map = |line: &&str| {
        let key = line.split(':').next().unwrap();
        let starts = ["native.", "num_clusters", "map", "extent_page", "layer", "clusters"];
        starts.iter().any(|start| key.starts_with(start)) && !key.ends_with(".id")
    };
    text.lines().filter(of_the_map).flat_map(|line| [line, "\n"]).collect()
}
