//! Stores that SPDK did not close: its crash windows, made by hand in stores of ours, and damage on top of a crash.
//!
//! Each window is settled to one content, whatever operation of the first opening for writing the next crash cuts off,
//! and what a close leaves is a plain store (checked by a second reading of the format).

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;
#[path = "common/plain_checker.rs"]
mod plain_checker;
#[path = "crash/tape.rs"]
mod tape;

use lvols::{Lvols as _, assert_owned_once, options, pattern, writable};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_format::{
    BlobId, BlobMd, Layout, MapMd, MdPageIdx, Run, SuperBlock, XATTR_SNAP, XATTR_SNAPRM, XATTR_SNAPTMP,
    Xattr, blob_id_value,
};
use offshoot_store::{Error, Found, InitOptions, OpenOptions, Store};
use plain_checker::PlainStore;
use std::collections::BTreeMap;
use tape::Taped;

const CLUSTER: u64 = 16_384;

/// What each lvol reads, by name.
type Content = BTreeMap<String, Vec<u8>>;

fn content<D: BlockDevice>(store: &mut Store<D>) -> Content {
    let names: Vec<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
    names.into_iter().map(|name| (name.clone(), store.content(&name))).collect()
}

/// A store as SPDK would have it, and the means to change it behind its back.
#[derive(Clone)]
struct Bench {
    device: MemDevice,
    layout: Layout,
    ids: BTreeMap<String, BlobId>,
    content: Content,
}

impl Bench {
    /// The store that `make` has made, closed, with the mark of a crash on it.
    fn new(make: impl FnOnce(&mut Store<MemDevice>)) -> Self {
        let init = InitOptions { journal_bytes: Some(256 << 10), ..options(16_384, 512, false) };
        let mut store = Store::init(MemDevice::new(4 << 20, 512), &init, &writable()).unwrap();
        make(&mut store);
        let content = content(&mut store);
        let layout = store.state().layout.clone();
        let ids = store.state().lvols().map(|lvol| (lvol.display_name(), lvol.id)).collect();
        let (device, closed) = store.close();
        closed.unwrap();
        let mut bench = Self { device, layout, ids, content };
        let mut block = vec![0; 4096];
        bench.device.read_at(0, &mut block);
        let super_block = SuperBlock { clean: 0, ..SuperBlock::decode(&block).unwrap() };
        assert!(!super_block.is_native());
        bench.device.write_at(0, &super_block.encode());
        bench
    }

    /// A snapshot `s` with its clone `k`, which has clusters of its own over some of the snapshot's.
    fn family() -> Self {
        Self::new(|store| {
            let clone = store.create("k", 8 * CLUSTER, false).unwrap();
            store.write(clone, 0, pattern(4 * CLUSTER, 1)).unwrap();
            store.snapshot("k", "s").unwrap();
            store.write(clone, 3 * CLUSTER, pattern(2 * CLUSTER, 2)).unwrap();
            let other = store.create("other", 2 * CLUSTER, true).unwrap();
            store.write(other, 0, pattern(CLUSTER, 3)).unwrap();
        })
    }

    fn page(&self, page: MdPageIdx) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        self.device.clone().read_at(self.layout.md_page_offset(page), &mut bytes);
        bytes
    }

    fn set_page(&mut self, page: MdPageIdx, bytes: &[u8]) {
        self.device.write_at(self.layout.md_page_offset(page), bytes);
    }

    fn root(&self, name: &str) -> MdPageIdx {
        self.ids[name].root()
    }

    fn md(&self, name: &str) -> BlobMd {
        BlobMd::decode_chain(&[(self.root(name), &self.page(self.root(name)))]).unwrap()
    }

    fn edit(&mut self, name: &str, edit: impl FnOnce(&mut BlobMd)) {
        let mut md = self.md(name);
        edit(&mut md);
        let root = self.root(name);
        self.set_page(root, &md.encode_chain(&[root])[0]);
    }

    fn mark(&mut self, name: &str, xattr: &[u8], other: BlobId) {
        self.edit(name, |md| md.internal_xattrs.push(Xattr::new(xattr, blob_id_value(other))));
    }

    fn extent_page(&self, name: &str) -> MdPageIdx {
        match self.md(name).map {
            MapMd::Table { pages, .. } => pages[0].unwrap(),
            MapMd::Rle(_) => panic!("{name} has no table"),
        }
    }

    /// Entries of the first extent page of an lvol, which are at a fixed place.
    fn entries(&self, name: &str) -> Vec<u8> {
        self.page(self.extent_page(name))[0x19..0x19 + 8 * 4].to_vec()
    }

    fn set_entries(&mut self, name: &str, entries: &[u8]) {
        let at = self.extent_page(name);
        let mut page = self.page(at);
        page[0x19..0x19 + entries.len()].copy_from_slice(entries);
        let sum = plain_checker::checksum(&page[..4092]);
        page[4092..].copy_from_slice(&sum.to_le_bytes());
        self.set_page(at, &page);
    }

    /// What the clone's extent page becomes while the snapshot is deleted into it.
    fn merge(&mut self) {
        let theirs = self.entries("s");
        let own = self.entries("k");
        let merged = own.chunks(4).zip(theirs.chunks(4));
        let merged: Vec<u8> =
            merged.flat_map(|(own, theirs)| if own == [0; 4] { theirs } else { own }).copied().collect();
        self.set_entries("k", &merged);
    }

    fn flip(&mut self, page: MdPageIdx, at: usize) {
        let mut bytes = self.page(page);
        bytes[at] ^= 1;
        self.set_page(page, &bytes);
    }

    /// A root of which nobody can tell what it said, by more than one bit.
    fn lose_root(&mut self, name: &str) {
        let root = self.root(name);
        [4070, 4085, 4090].into_iter().for_each(|at| self.flip(root, at));
    }

    fn open(&self) -> Store<MemDevice> {
        Store::open(self.device.clone(), Vec::new(), &writable()).unwrap()
    }

    /// Looks, opens for writing, and cuts that opening at every operation: always the same lvols with the same content,
    /// no damage, nothing leaked, and a plain store at the end.
    fn settles_to(&self, names: &[&str], own_clusters: &[(&str, u64)]) {
        let mut expected = self.content.clone();
        expected.retain(|name, _| names.contains(&name.as_str()));
        let mut device = self.device.clone();
        device.set_read_only(true);
        let mut seen = Store::open(device, Vec::new(), &OpenOptions::read_only(None)).unwrap();
        assert_eq!(seen.findings(), &[]);
        assert!(content(&mut seen) == expected, "{:?}", content(&mut seen).keys());
        for (name, own) in own_clusters {
            assert_eq!(seen.own_clusters(name), *own, "{name}");
        }
        assert_owned_once(&seen);
        assert_eq!(seen.state().audit(), &[]);

        let device = Taped::new(self.device.clone());
        let store = Store::open(device.clone(), Vec::new(), &writable()).unwrap();
        let tape = device.tape();
        drop(store);
        assert!(tape.len() > 4, "{} operations", tape.len());
        for cut in 1..tape.len() {
            torn_super_blocks_cost_nothing(tape.device_after(cut - 1), tape.device_after(cut), &expected);
        }
        for cut in 0..=tape.len() {
            let mut store = Store::open(tape.device_after(cut), Vec::new(), &writable()).unwrap();
            assert_eq!(store.findings(), &[], "cut after {cut} ({:?})", tape.last_before(cut));
            assert!(content(&mut store) == expected, "cut after {cut}: {:?}", content(&mut store).keys());
            assert_owned_once(&store);
            // Everything that is free can be used, and none of it was anybody's.
            let free = store.free();
            store.create("rest", free * CLUSTER, true).unwrap();
            store.remove("rest").unwrap();
            let (device, closed) = store.close();
            closed.unwrap();
            let device = std::cell::RefCell::new(device);
            let plain = PlainStore::read(&|offset, bytes| device.borrow_mut().read_at(offset, bytes));
            assert_eq!(plain.problems, Vec::<String>::new(), "cut after {cut}");
            assert_eq!(plain.free_clusters, free, "cut after {cut}");
            let marked = |blob: &plain_checker::PlainBlob| {
                [XATTR_SNAPRM, XATTR_SNAPTMP].iter().any(|mark| blob.internal_xattrs.contains_key(*mark))
            };
            assert!(!plain.lvols().any(marked), "cut after {cut}: a mark is left");
        }
    }
}

/// Between two operations, one of which may write the super block: of its sectors only the first, or all others, arrive.
fn torn_super_blocks_cost_nothing(before: MemDevice, after: MemDevice, expected: &Content) {
    let (mut old, mut new) = (vec![0; 4096], vec![0; 4096]);
    before.read_at(0, &mut old);
    after.read_at(0, &mut new);
    if old == new {
        return;
    }
    for (first, others) in [(&new, &old), (&old, &new)] {
        let mut device = before.clone();
        device.write_at(0, &[&first[..512], &others[512..]].concat());
        let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
        assert!(content(&mut store) == *expected, "{:?}", store.findings());
        assert_owned_once(&store);
        store.close().1.unwrap();
    }
}

#[test]
fn without_a_window() {
    Bench::family().settles_to(&["k", "other", "s"], &[("k", 2), ("s", 4), ("other", 2)]);
}

#[test]
fn a_snapshot_that_was_being_made_goes_before_its_commit_point() {
    let mut bench = Bench::family();
    // The origin names what the snapshot names, and is nobody's clone.
    let snapshot = bench.md("s");
    let origin = bench.ids["k"];
    let extent = bench.extent_page("k");
    bench.edit("k", |md| {
        md.map = snapshot.map.clone();
        md.internal_xattrs.retain(|xattr| xattr.name != XATTR_SNAP);
        md.flags.invalid.remove(offshoot_format::InvalidFlags::INTERNAL_XATTR);
    });
    bench.set_page(extent, &[0; 4096]);
    bench.mark("s", XATTR_SNAPTMP, origin);
    bench.content.insert("k".into(), bench.content["s"].clone());
    bench.settles_to(&["k", "other"], &[("k", 4)]);
}

#[test]
fn a_snapshot_that_was_being_made_stays_behind_its_commit_point() {
    let mut bench = Bench::family();
    bench.mark("s", XATTR_SNAPTMP, bench.ids["k"]);
    bench.settles_to(&["k", "other", "s"], &[("k", 2), ("s", 4)]);
}

#[test]
fn a_snapshot_that_was_being_deleted_stays_before_the_commit_point() {
    let mut bench = Bench::family();
    bench.mark("s", XATTR_SNAPRM, bench.ids["k"]);
    bench.settles_to(&["k", "other", "s"], &[("k", 2), ("s", 4)]);
    // The window in which SPDK ends with two owners.
    bench.merge();
    bench.settles_to(&["k", "other", "s"], &[("k", 2), ("s", 4)]);
}

#[test]
fn a_snapshot_that_was_being_deleted_goes_behind_the_commit_point() {
    let mut bench = Bench::family();
    bench.mark("s", XATTR_SNAPRM, bench.ids["k"]);
    bench.merge();
    bench.edit("k", |md| md.internal_xattrs.retain(|xattr| xattr.name != XATTR_SNAP));
    // What SPDK leaks comes free: the cluster that the clone had overwritten.
    bench.settles_to(&["k", "other"], &[("k", 5)]);
}

#[test]
fn a_mark_that_names_a_stranger_costs_nothing() {
    for other in [BlobId(0x1_0000_0042), Bench::family().ids["other"]] {
        for mark in [XATTR_SNAPRM, XATTR_SNAPTMP] {
            let mut bench = Bench::family();
            bench.mark("s", mark, other);
            bench.settles_to(&["k", "other", "s"], &[("k", 2), ("s", 4)]);
        }
    }
}

#[test]
fn a_chain_page_of_a_growth_or_shrinking_is_taken_for_what_it_is() {
    // Longer than the root says: the growth never came to be.
    let mut bench = Bench::family();
    let at = bench.extent_page("k");
    let mut page = bench.page(at);
    // The first entry behind the end, and the length of the descriptor.
    page[0x11] += 4;
    page[0x19 + 32..0x19 + 36].copy_from_slice(&200_u32.to_le_bytes());
    let sum = plain_checker::checksum(&page[..4092]);
    page[4092..].copy_from_slice(&sum.to_le_bytes());
    bench.set_page(at, &page);
    bench.settles_to(&["k", "other", "s"], &[("k", 2), ("s", 4)]);
}

/// In an lvol that is damaged, what SPDK left half done stays as it is. What can be read of it can still be read once
/// others have been written and the store was closed, when nothing says any more that a resize was under way.
#[test]
fn a_resize_of_a_damaged_lvol_costs_what_its_extent_page_does_not_tell() {
    for more in [-12_i8, 4] {
        let mut bench = Bench::family();
        let at = bench.extent_page("k");
        let mut page = bench.page(at);
        page[0x11] = page[0x11].wrapping_add_signed(more);
        let sum = plain_checker::checksum(&page[..4092]);
        page[4092..].copy_from_slice(&sum.to_le_bytes());
        bench.set_page(at, &page);
        bench.set_page(bench.root("s"), &[0x5a; 4096]);
        let mut store = bench.open();
        for opening in 0..3 {
            let (id, len) = (store.id("k"), if more < 0 { 5 } else { 8 });
            let own =
                store.read(id, 3 * CLUSTER, 2 * 16_384).unwrap_or_else(|error| panic!("{more}: {error}"));
            assert!(own.as_slice() == pattern(2 * CLUSTER, 2).as_slice(), "{more}, {opening}");
            assert!(matches!(store.read(id, 0, 512), Err(Error::UnknownPart { .. })), "{more}, {opening}");
            let size = store.state().bytes(store.state().blob(id).unwrap());
            if size > len * CLUSTER {
                let behind = store.read(id, len * CLUSTER, 512);
                assert!(matches!(behind, Err(Error::UnknownPart { .. })), "{more}, {opening}: {behind:?}");
            }
            let why = store.state().blob(id).unwrap().damage.clone().unwrap();
            assert!(why.contains("does not exist"), "{more}, {opening}: {why}");
            store.create(&format!("new{opening}"), CLUSTER, false).unwrap();
            let (device, closed) = store.close();
            closed.unwrap();
            bench.device = device;
            assert_eq!(bench.page(at), page, "{more}, {opening}: left as it is");
            store = bench.open();
        }
    }
}

/// An extent page that cannot be read costs its clusters; what is not in them can be read, and so can clones that
/// have clusters of their own everywhere.
#[test]
fn a_lost_extent_page_costs_what_it_described() {
    let mut bench = Bench::new(|store| {
        let clone = store.create("k", 600 * CLUSTER, false).unwrap();
        store.write(clone, 0, pattern(2 * CLUSTER, 1)).unwrap();
        store.write(clone, 590 * CLUSTER, pattern(CLUSTER, 2)).unwrap();
        store.snapshot("k", "s").unwrap();
        store.write(clone, 0, pattern(CLUSTER, 3)).unwrap();
        store.create("other", 2 * CLUSTER, false).unwrap();
    });
    let at = bench.extent_page("s");
    bench.flip(at, 0x30);
    let mut store = bench.open();
    let (snapshot, clone, other) = (store.id("s"), store.id("k"), store.id("other"));
    let damaged = |store: &Store<MemDevice>, id| store.state().blob(id).unwrap().damage.is_some();
    assert!(damaged(&store, snapshot) && damaged(&store, clone) && !damaged(&store, other));
    // Known parts are read, unknown ones are not, and the map tells which.
    let first = store.read(clone, 0, 512).unwrap();
    assert_eq!(first.as_slice(), &pattern(CLUSTER, 3).as_slice()[..512]);
    assert!(matches!(store.read(clone, CLUSTER, 512), Err(Error::UnknownPart { .. })));
    let unknown = store.read(snapshot, 511 * CLUSTER, 2 * 16_384);
    assert!(
        matches!(unknown, Err(Error::UnknownPart { offset, len, .. }) if (offset, len) == (511 * CLUSTER, CLUSTER))
    );
    let known = store.read(snapshot, 590 * CLUSTER, 512).unwrap();
    assert_eq!(known.as_slice(), &pattern(CLUSTER, 2).as_slice()[..512]);
    let extents = store.extents(clone, 0..600 * CLUSTER, 16).unwrap();
    let kinds: Vec<(u64, bool, bool)> =
        extents.iter().map(|extent| (extent.len / CLUSTER, extent.hole, extent.unknown)).collect();
    assert_eq!(
        kinds,
        [(1, false, false), (511, false, true), (78, true, false), (1, false, false), (9, true, false)]
    );
    assert!(matches!(store.write(clone, 0, pattern(512, 9)), Err(Error::Damaged(_))));
    // What the page named is nowhere else: nothing is handed out, and it is said why.
    let refused = store.write(other, 0, pattern(512, 9));
    assert!(matches!(refused, Err(Error::ClustersWithheld { free: 0, withheld: 1.., .. })), "{refused:?}");
    assert!(store.findings().iter().any(|finding| matches!(finding.what, Found::Withheld { .. })));
    // The snapshot has a clone that reads from it; that one can go, and then the snapshot.
    assert!(matches!(store.remove("s"), Err(Error::HasClones { .. })));
    assert!(matches!(store.rename("k", "l"), Err(Error::Damaged(_))));
    store.remove("k").unwrap();
    store.remove("s").unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    let store = Store::open(device, Vec::new(), &writable()).unwrap();
    let names: Vec<String> = store.state().lvols().map(|lvol| lvol.display_name()).collect();
    assert_eq!(names, ["other"]);
}

/// A root that is torn: the table in it is lost, the extent pages are not, so that everything else is free.
#[test]
fn a_torn_root_keeps_what_its_extent_pages_name() {
    let mut bench = Bench::family();
    let root = bench.root("s");
    bench.flip(root, 4090);
    let mut store = bench.open();
    let lost = store.state().blob(bench.ids["s"]).unwrap();
    assert_eq!((lost.display_name(), lost.damage.is_some()), ("blob-0x100000002".into(), true));
    let clone = store.id("k");
    assert!(matches!(store.read(clone, 0, 512), Err(Error::UnknownPart { .. })));
    let own = store.read(clone, 3 * CLUSTER, 512).unwrap();
    assert_eq!(own.as_slice(), &pattern(CLUSTER, 2).as_slice()[..512]);
    // All that is free is handed out; the bytes of the snapshot are not among it.
    let clusters: Vec<u32> =
        bench.entries_at(bench.stray()).into_iter().filter(|cluster| *cluster != 0).collect();
    assert_eq!(clusters.len(), 4);
    let free = store.free();
    let rest = store.create("rest", free * CLUSTER, true).unwrap();
    for at in 0..free {
        store.write(rest, at * CLUSTER, pattern(CLUSTER, 9)).unwrap();
    }
    store.flush().unwrap();
    for (index, cluster) in clusters.iter().enumerate() {
        let mut bytes = vec![0; 512];
        store.device().clone().read_at(u64::from(*cluster) * CLUSTER, &mut bytes);
        let from = index * 16_384;
        assert!(bytes == pattern(4 * CLUSTER, 1).as_slice()[from..from + 512], "cluster {cluster}");
    }
    store.remove("k").unwrap();
    store.remove_id(bench.ids["s"]);
    assert_eq!(store.content("other").len(), 2 * 16_384);
}

/// One cluster that two lvols name, with no mark to tell whose it is: neither is written, both keep the rest.
#[test]
fn a_cluster_with_two_owners_is_nobodys_until_one_goes() {
    let mut bench = Bench::family();
    bench.merge();
    let mut store = bench.open();
    let (snapshot, clone, other) = (store.id("s"), store.id("k"), store.id("other"));
    assert!(matches!(store.read(clone, 0, 512), Err(Error::UnknownPart { .. })));
    assert!(matches!(store.read(snapshot, 0, 512), Err(Error::UnknownPart { .. })));
    let own = store.read(clone, 4 * CLUSTER, 512).unwrap();
    assert_eq!(own.as_slice(), &pattern(2 * CLUSTER, 2).as_slice()[16_384..16_384 + 512]);
    let sound = store.read(snapshot, 3 * CLUSTER, 512).unwrap();
    assert_eq!(sound.as_slice(), &pattern(4 * CLUSTER, 1).as_slice()[3 * 16_384..3 * 16_384 + 512]);
    store.write(other, 0, pattern(512, 4)).unwrap();
    store.remove("k").unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert!(store.content("s") == bench.content["s"], "the other one has all of it");
}

/// A clone that owns all it shows is sound, whatever became of its snapshot. What is zeroed in it must not read as
/// whatever the snapshot held there.
#[test]
fn zeros_over_a_lost_map_stay_zeros() {
    let mut bench = Bench::new(|store| {
        let clone = store.create("k", 4 * CLUSTER, false).unwrap();
        store.write(clone, 0, pattern(4 * CLUSTER, 1)).unwrap();
        store.snapshot("k", "s").unwrap();
        store.write(clone, 0, pattern(4 * CLUSTER, 2)).unwrap();
    });
    bench.lose_root("s");
    let mut store = bench.open();
    let clone = store.id("k");
    store.write_zeroes(clone, 0..CLUSTER).unwrap();
    store.unmap(clone, CLUSTER..2 * CLUSTER).unwrap();
    store.flush().unwrap();
    let mut expected = pattern(4 * CLUSTER, 2).as_slice().to_vec();
    expected[..2 * 16_384].fill(0);
    let killed = store.device().clone();
    let (closed, result) = store.close();
    result.unwrap();
    for device in [killed, closed] {
        let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
        assert!(store.content("k") == expected);
    }
}

/// Which free clusters the copies of a repair go to, with a third lvol that tells nothing of what it owns.
#[test]
fn a_repair_copies_over_nothing_of_a_torn_root() {
    let mut bench = Bench::family();
    bench.merge();
    let MapMd::Rle(runs) = bench.md("other").map else { panic!("other has a table") };
    let clusters_of = |run: &Run| u64::from(run.cluster.unwrap().0)..;
    let owned: Vec<u64> =
        runs.iter().flat_map(|run| clusters_of(run).take(usize::try_from(run.length).unwrap())).collect();
    bench.lose_root("other");
    let held = |device: &MemDevice| -> Vec<Vec<u8>> {
        let read = |cluster: &u64| {
            let mut bytes = vec![0; 16_384];
            device.read_at(*cluster * CLUSTER, &mut bytes);
            bytes
        };
        owned.iter().map(read).collect()
    };
    let before = held(&bench.device);
    let options = OpenOptions { repair: true, ..writable() };
    let store = Store::open(bench.device.clone(), Vec::new(), &options).unwrap();
    assert_eq!(store.repairs().copies, []);
    let (device, closed) = store.close();
    closed.unwrap();
    assert!(held(&device) == before, "clusters {owned:?} of the torn one");
}

/// A torn root with a table, and one of its extent pages tells nothing: a repair gives that page up, not what it named.
#[test]
fn what_a_repair_gives_up_may_have_named_clusters() {
    let mut bench = Bench::family();
    let extents = bench.stray();
    bench.lose_root("s");
    bench.set_page(extents, &[0xa5; 4096]);
    let options = OpenOptions { repair: true, ..writable() };
    let mut store = Store::open(bench.device.clone(), Vec::new(), &options).unwrap();
    assert!(store.findings().iter().any(|finding| finding.what == Found::RottenPages { count: 1 }));
    let refused = store.create("rest", CLUSTER, true);
    assert!(matches!(refused, Err(Error::ClustersWithheld { free: 0, .. })), "{refused:?}");
    let (device, closed) = store.close();
    closed.unwrap();
    bench.device = device;
    assert_eq!(bench.page(extents), [0; 4096]);
}

/// Many lvols share an extent page, and md pages are short: each gets one of its own, or the store stays as it is.
#[test]
fn a_repair_takes_no_more_md_pages_than_there_are() {
    for (clones, has_room) in [(10, true), (40, true), (82, false), (100, false)] {
        let mut bench = Bench::new(|store| {
            let origin = store.create("k", 4 * CLUSTER, false).unwrap();
            store.write(origin, 0, pattern(CLUSTER, 1)).unwrap();
            store.snapshot("k", "s").unwrap();
            for number in 0..clones {
                let clone = store.clone_of("s", &format!("c{number}")).unwrap();
                store.write(clone, CLUSTER, pattern(CLUSTER, 2)).unwrap();
            }
            let mut fill = (0..).map(|number| store.create(&format!("n{number}"), CLUSTER, false));
            assert!(fill.any(|made| made.is_err()));
        });
        let shared = bench.extent_page("c0");
        for number in 1..clones {
            bench.edit(&format!("c{number}"), |md| {
                let MapMd::Table { pages, .. } = &mut md.map else { panic!("a table") };
                pages[0] = Some(shared);
            });
        }
        let options = OpenOptions { repair: true, ..writable() };
        let store = Store::open(bench.device.clone(), Vec::new(), &options).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        let store = Store::open(device, Vec::new(), &OpenOptions::read_only(None)).unwrap();
        let damaged = store.state().lvols().filter(|lvol| lvol.damage.is_some()).count();
        assert_eq!(damaged == 0, has_room, "{damaged} of {clones} are still damaged");
    }
}

trait ById {
    fn remove_id(&mut self, lvol: BlobId);
}

impl ById for Store<MemDevice> {
    fn remove_id(&mut self, lvol: BlobId) {
        self.execute(offshoot_store::Verb::Remove { lvol }).unwrap();
    }
}

impl Bench {
    /// The extent page of the snapshot whose root is lost.
    fn stray(&self) -> MdPageIdx {
        let own = self.extent_page("k");
        (0..self.layout.md_len)
            .map(MdPageIdx)
            .find(|at| *at != own && self.page(*at)[0x10] == 6 && self.entries_at(*at)[0] != 0)
            .unwrap()
    }

    fn entries_at(&self, page: MdPageIdx) -> Vec<u32> {
        let page = self.page(page);
        page[0x19..0x19 + 32].chunks(4).map(|entry| u32::from_le_bytes(entry.try_into().unwrap())).collect()
    }
}

/// One bit of every byte of the md pages of a dirty store rots. What can be read is right, lvols that the page does not
/// describe are whole, and nothing that anybody owned is handed out, known or not.
#[test]
fn rot_costs_what_it_touches_and_gives_nothing_away() {
    let bench = Bench::family();
    let owned: Vec<u64> = ["s", "k"]
        .iter()
        .flat_map(|name| bench.entries_at(bench.extent_page(name)))
        .filter(|cluster| *cluster != 0)
        .map(|cluster| u64::from(cluster) * CLUSTER)
        .collect();
    let held = |device: &MemDevice| -> Vec<Vec<u8>> {
        let read = |at: &u64| {
            let mut bytes = vec![0; 512];
            device.read_at(*at, &mut bytes);
            bytes
        };
        owned.iter().map(read).collect()
    };
    let before = held(&bench.device);
    let super_blob = bench.open().state().super_blob.unwrap().root();
    let used =
        (0..bench.layout.md_len).map(MdPageIdx).filter(|at| bench.page(*at)[4] != 0 && *at != super_blob);
    let used: Vec<MdPageIdx> = used.collect();
    assert_eq!(used.len(), 5, "three roots and two extent pages");
    for page in used {
        for at in (0..448).chain(4088..4096) {
            let what = format!("md page {page}, byte {at}");
            let mut rotten = bench.clone();
            rotten.flip(page, at);
            let mut store = rotten.open();
            for (name, content) in &bench.content {
                let Some(lvol) = store.state().lvol_by_name(name.as_bytes()) else {
                    assert_eq!(bench.root(name), page, "{what}: {name} is gone");
                    continue;
                };
                let (id, is_damaged) = (lvol.id, lvol.damage.is_some());
                let concerned = match name.as_str() {
                    "other" => page == bench.root("other"),
                    "s" => page == bench.root("s") || page == bench.extent_page("s"),
                    _ => page != bench.root("other"),
                };
                assert!(!is_damaged || concerned, "{what}: {name} is damaged");
                for (at, expected) in (0..).step_by(16_384).zip(content.chunks(16_384)) {
                    match store.read(id, at, expected.len()) {
                        Ok(read) => {
                            assert!(read.as_slice() == expected, "{what}: {name} reads wrong at {at}");
                        }
                        Err(error) => assert!(
                            is_damaged && matches!(error, Error::UnknownPart { .. }),
                            "{what}: {name}: {error}"
                        ),
                    }
                }
            }
            let free = store.free();
            if free > 0 {
                let rest = store.create("rest", free * CLUSTER, true).unwrap();
                for at in 0..free {
                    store.write(rest, at * CLUSTER, pattern(512, 9)).unwrap();
                }
            }
            let (device, closed) = store.close();
            closed.unwrap();
            assert!(held(&device) == before, "{what}: something of somebody was handed out");
        }
    }
}
