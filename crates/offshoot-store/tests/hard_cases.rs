//! Cases that broke the engine once, each with what it would have cost.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;

use lvols::{AFTER_POWER_LOSS, Lvols, SESSION, named, options, pattern, writable, writable_in};
use offshoot_block::{BlockDevice, Buffer, Completion, DeviceOp, OpId};
use offshoot_device::MemDevice;
use offshoot_format::{
    BlobId, BlobMd, BlockState, ClusterIdx, InvalidFlags, Layout, MaskKind, NativeBlob, XATTR_EXTSNAP,
    XATTR_NAME, Xattr, name_value,
};
use offshoot_store::map::{BlockStates, Entry, Layer, Tag};
use offshoot_store::{Engine, Error, Found, InitOptions, IoRequest, Loader, Store, Verb, init};

const CLUSTER: u64 = 16_384;
const EXTERNAL: &str = "00000000-0000-0000-0000-000000000009";

fn fresh(bytes: u64, cluster: u32, native: bool) -> Store<MemDevice> {
    Store::init(MemDevice::new(bytes, 512), &options(cluster, 512, native), &writable()).unwrap()
}

fn closed(store: Store<MemDevice>) -> MemDevice {
    let (device, result) = store.close();
    result.unwrap();
    device
}

/// Changes the chain of a blob that lies in its root page, as another program might have written it.
fn edit_root(device: &mut MemDevice, layout: &Layout, id: BlobId, edit: impl FnOnce(&mut BlobMd)) {
    let at = layout.md_page_offset(id.root());
    let mut page = vec![0; 4096];
    device.read_at(at, &mut page);
    let mut md = BlobMd::decode_chain(&[(id.root(), &page[..])]).unwrap();
    edit(&mut md);
    device.write_at(at, &md.encode_chain(&[id.root()])[0]);
}

/// Changes one bit.
fn flip(device: &mut MemDevice, at: u64) {
    let mut byte = [0];
    device.read_at(at, &mut byte);
    device.write_at(at, &[byte[0] ^ 1]);
}

/// Makes lvols of size 0 until no more than `leave` md pages can be counted on.
fn use_up_md_pages(store: &mut Store<MemDevice>, leave: usize) {
    let mut number = 0;
    while store.state().md_spare() > leave && store.create(&format!("f{number}"), 0, false).is_ok() {
        number += 1;
    }
}

/// A store with an lvol "e" of eight clusters over an external snapshot.
fn over_external(native: bool) -> (MemDevice, MemDevice) {
    let mut store = fresh(32 << 20, 16_384, native);
    store.create("e", 8 * CLUSTER, false).unwrap();
    let (id, layout) = (store.id("e"), store.state().layout.clone());
    let mut device = closed(store);
    edit_root(&mut device, &layout, id, |md| {
        md.internal_xattrs.push(Xattr::new(XATTR_EXTSNAP, format!("{EXTERNAL}\0")));
        md.flags.invalid.insert(InvalidFlags::EXTERNAL_SNAPSHOT | InvalidFlags::INTERNAL_XATTR);
    });
    (device, MemDevice::with_content(pattern(8 * CLUSTER, 5).as_slice(), 512))
}

fn open_over(device: MemDevice, external: &MemDevice) -> Store<MemDevice> {
    let store = Store::open(device, vec![(EXTERNAL.into(), external.clone())], &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    store
}

/// Nightly snapshots would fill the store: each removal left a layer that nobody could see.
#[test]
fn rotating_snapshots_keep_no_hidden_layers() {
    let mut store = fresh(64 << 20, 65_536, true);
    store.create("l", 1 << 20, false).unwrap();
    let id = store.id("l");
    store.write(id, 0, pattern(4096, 1)).unwrap();
    for round in 0..20 {
        store.snapshot("l", "s").unwrap();
        store.write(id, 0, pattern(4096, round)).unwrap();
        store.remove("s").unwrap();
    }
    assert_eq!(store.own_clusters("l"), 1);
    assert_eq!(store.content("l")[..4096], *pattern(4096, 19).as_slice());
    let mut store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.content("l")[..4096], *pattern(4096, 19).as_slice());
}

/// The flush after it panicked: a request over many ordinals counted the md pages of one.
#[test]
fn zeroing_many_ordinals_is_refused_when_md_pages_are_short() {
    let mut store = fresh(1200 << 20, 16_384, true);
    let len = 40 * 512 * CLUSTER;
    store.create("base", len, true).unwrap();
    store.snapshot("base", "snap").unwrap();
    store.clone_of("snap", "c").unwrap();
    use_up_md_pages(&mut store, 10);
    let id = store.id("c");
    assert!(matches!(store.write_zeroes(id, 0..len), Err(Error::NoMdPages { .. })));
    store.flush().unwrap();
}

/// It panicked in the checkpoint, and removing a snapshot is what one does when md pages are short.
#[test]
fn a_snapshot_can_be_removed_when_md_pages_are_used_up() {
    let mut store = fresh(400 << 20, 16_384, true);
    let ordinal = 512 * CLUSTER;
    store.create("l", 8 * ordinal, false).unwrap();
    let id = store.id("l");
    let scatter = |store: &mut Store<MemDevice>, in_cluster: u64| {
        for at in (0..8).flat_map(|part| (0..300).map(move |cluster| part * ordinal + cluster * CLUSTER)) {
            store.write(id, at + in_cluster, pattern(4096, 1)).unwrap();
        }
    };
    scatter(&mut store, 0);
    store.snapshot("l", "s").unwrap();
    scatter(&mut store, 4096);
    store.flush().unwrap();
    use_up_md_pages(&mut store, 0);
    let before = store.content("l");
    store.remove("s").unwrap();
    let mut store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert!(store.content("l") == before);
}

/// Verbs took the md pages that writes in flight counted on, and the flush panicked.
#[test]
fn verbs_leave_the_md_pages_of_writes_in_flight_alone() {
    let mut store = fresh(200 << 20, 16_384, true);
    let ordinal = 512 * CLUSTER;
    store.create("l", 16 * ordinal, false).unwrap();
    use_up_md_pages(&mut store, 80);
    let lvol = store.id("l");
    for part in 0..8 {
        store.submit(IoRequest::Write { lvol, offset: part * ordinal, data: pattern(4096, 1), fua: false });
    }
    for number in 0..100 {
        let identity = named(&format!("x{number}"));
        store.start(Verb::Create { identity, size_bytes: 0, thick: false });
    }
    let mut replies = Vec::new();
    while replies.len() < 108 {
        store.poll(&mut replies);
    }
    store.flush().unwrap();
    assert!(replies.iter().any(|(_, reply)| matches!(reply, Err(Error::NoMdPages { .. }))));
}

/// Blocks are counted from the start of a cluster; ranges were locked from the start of the lvol, and one of two
/// acknowledged writes to a block was lost.
#[test]
fn writers_of_one_block_exclude_each_other_where_blocks_do_not_divide_clusters() {
    let cluster = (32 << 20) + 4096;
    let mut store = fresh(1 << 30, cluster, true);
    store.create("l", 4 * u64::from(cluster), false).unwrap();
    let (lvol, base) = (store.id("l"), u64::from(cluster));
    assert_eq!(store.state().units.block, 8192);
    let writes = [(base, 3), (base + 7680, 4)];
    for (offset, seed) in writes {
        store.submit(IoRequest::Write { lvol, offset, data: pattern(512, seed), fua: false });
    }
    let mut replies = Vec::new();
    while replies.len() < 2 {
        store.poll(&mut replies);
    }
    for (offset, seed) in writes {
        assert_eq!(store.read(lvol, offset, 512).unwrap().as_slice(), pattern(512, seed).as_slice());
    }
}

/// After a reopen the external snapshot showed through where the clone had been shrunk and grown.
#[test]
fn what_a_shrink_cut_off_stays_zero_over_an_external_snapshot() {
    for native in [true, false] {
        let (device, external) = over_external(native);
        let mut store = open_over(device, &external);
        store.snapshot("e", "snap").unwrap();
        store.clone_of("snap", "c").unwrap();
        store.resize("c", 2 * CLUSTER).unwrap();
        store.resize("c", 8 * CLUSTER).unwrap();
        let before = store.content("c");
        let mut store = open_over(closed(store), &external);
        let after = store.content("c");
        assert!(
            after == before && after[usize::try_from(2 * CLUSTER).unwrap()..].iter().all(|byte| *byte == 0)
        );
    }
}

/// Stores of SPDK's making came back with states that SPDK refuses.
#[test]
fn plain_stores_stay_plain() {
    let (device, external) = over_external(false);
    let mut store = open_over(device, &external);
    store.resize("e", 2 * CLUSTER).unwrap();
    store.resize("e", 8 * CLUSTER).unwrap();
    assert_eq!(open_over(closed(store), &external).super_block().version, 3);

    let mut store = fresh(32 << 20, 16_384, false);
    store.create("d", 8 * CLUSTER, false).unwrap();
    let origin = store.id("d");
    store.write(origin, 0, pattern(8 * CLUSTER, 2)).unwrap();
    store.snapshot("d", "s").unwrap();
    store.clone_of("s", "k").unwrap();
    store.resize("k", 2 * CLUSTER).unwrap();
    store.resize("k", 8 * CLUSTER).unwrap();
    let clone = store.id("k");
    store.unmap(clone, 4 * CLUSTER..6 * CLUSTER).unwrap();
    let mut store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
    assert_eq!(store.super_block().version, 3);
    assert!(store.content("k")[usize::try_from(2 * CLUSTER).unwrap()..].iter().all(|byte| *byte == 0));
}

/// Dropping layer within layer exhausted the program's stack.
#[test]
fn a_deep_stack_of_layers_is_dropped() {
    let mut entry = Entry::Absent;
    for number in 1..=100_000 {
        let mut states = BlockStates::all(64, BlockState::Inherit);
        states.set(5..6, BlockState::Data);
        entry =
            entry.covered_by(Layer { tag: Tag(number), cluster: Some(ClusterIdx(number)), states }, false);
    }
    drop(entry);
}

/// Barriers followed each other without end: no barrier helps against a read that is still out.
#[test]
fn a_write_that_waits_for_a_read_causes_no_barriers() {
    let (state, super_block, _) = init(64 << 20, &options(16_384, 512, true)).unwrap();
    let mut engine = Engine::new(state, super_block, 512, &writable());
    let mut device = MemDevice::new(64 << 20, 512);
    let mut reads: Vec<(OpId, DeviceOp)> = Vec::new();
    let mut pump = |engine: &mut Engine, reads: &mut Vec<(OpId, DeviceOp)>| {
        let mut syncs = 0;
        for _ in 0..10_000 {
            let mut moved = engine.advance();
            while let Some((_, id, op)) = engine.poll_device() {
                moved = true;
                match op {
                    DeviceOp::Read { .. } => reads.push((id, op)),
                    op => {
                        syncs += u64::from(matches!(op, DeviceOp::Sync));
                        assert!(syncs < 1000, "barriers without end");
                        device.submit(id, op);
                    }
                }
                let mut completions = Vec::new();
                device.poll(&mut completions);
                for Completion { id, buffer, result } in completions {
                    engine.handle_completion(id, buffer, result);
                }
            }
            if !moved {
                return syncs;
            }
        }
        syncs
    };
    let create = |name: &str, clusters: u64, thick: bool| Verb::Create {
        identity: named(name),
        size_bytes: clusters * CLUSTER,
        thick,
    };
    engine.execute(create("l", 8, true));
    pump(&mut engine, &mut reads);
    let free = engine.state().clusters.available() as u64;
    engine.execute(create("fill", free, true));
    engine.execute(create("thin", 1, false));
    pump(&mut engine, &mut reads);
    let id = |engine: &Engine, name: &[u8]| engine.state().lvol_by_name(name).unwrap().id;
    let (lvol, thin) = (id(&engine, b"l"), id(&engine, b"thin"));
    engine.submit(IoRequest::Read { lvol, offset: 0, buffer: Buffer::zeroed(4096) });
    engine.execute(Verb::Remove { lvol });
    let write = engine.submit(IoRequest::Write { lvol: thin, offset: 0, data: pattern(4096, 1), fua: false });
    let syncs = pump(&mut engine, &mut reads);
    assert!(syncs < 20, "{syncs} syncs");
    while let Some((ticket, _)) = engine.poll_reply() {
        assert_ne!(ticket, write, "the clusters are still being read");
    }
    for (read, op) in reads.drain(..) {
        let DeviceOp::Read { buffer, .. } = op else { unreachable!() };
        engine.handle_completion(read, Some(buffer), Ok(()));
    }
    pump(&mut engine, &mut Vec::new());
    let replies: Vec<_> = std::iter::from_fn(|| engine.poll_reply()).collect();
    assert!(replies.iter().any(|(ticket, reply)| *ticket == write && reply.is_ok()));
}

/// The first of two lvols of one name could not be addressed any more after the second was renamed.
#[test]
fn renaming_one_of_two_namesakes_leaves_the_other_its_name() {
    let mut store = fresh(32 << 20, 16_384, true);
    store.create("aaa", CLUSTER, false).unwrap();
    store.create("aab", CLUSTER, false).unwrap();
    let (first, second, layout) = (store.id("aaa"), store.id("aab"), store.state().layout.clone());
    let mut device = closed(store);
    edit_root(&mut device, &layout, second, |md| {
        md.xattrs.iter_mut().filter(|xattr| xattr.name == XATTR_NAME).for_each(|xattr| {
            xattr.value = name_value(b"aaa");
        });
    });
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert!(matches!(store.findings()[0].what, Found::DuplicateName { .. }));
    store.execute(Verb::Rename { lvol: second, name: "other".into() }).unwrap();
    assert_eq!(store.id("aaa"), first);
    assert_eq!(store.create("aaa", CLUSTER, false), Err(Error::NameExists("aaa".into())));
}

/// After a crash a rotten root was nothing at all, and the lvol's clusters were handed out.
///
/// The page says that it was a root, and the live masks say what is in use: the lvol is listed, its clusters stay its own,
/// and the rest of the store goes on.
#[test]
fn after_a_crash_nothing_is_handed_out_that_an_unreadable_lvol_may_own() {
    let mut store = fresh(16 << 20, 16_384, true);
    store.create("victim", 8 * CLUSTER, true).unwrap();
    store.create("other", 8 * CLUSTER, false).unwrap();
    let (victim, other) = (store.id("victim"), store.id("other"));
    store.write(victim, 0, pattern(8 * CLUSTER, 7)).unwrap();
    let mut store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
    let at = store.state().layout.md_page_offset(victim.root());
    let run = store.extents(victim, 0..8 * CLUSTER, 1).unwrap();
    assert_eq!(run.len(), 1);
    let free = store.free();
    store.write(other, 0, pattern(4096, 1)).unwrap();
    store.flush().unwrap();
    // The process dies, and the root rots.
    let mut device = store.device().clone();
    drop(store);
    flip(&mut device, at + 100);

    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    let found: Vec<&Found> = store.findings().iter().map(|finding| &finding.what).collect();
    assert!(
        matches!(found[..], [
            Found::Mask { kind: MaskKind::Clusters, surplus: 8, missing: 0 },
            Found::Damaged { blob, .. },
        ] if *blob == victim),
        "{found:?}"
    );
    assert_eq!(store.free(), free - 1, "the eight clusters stay taken");
    // Everything that is free is handed out, and none of it is what the victim holds.
    store.create("rest", store.free() * CLUSTER, true).unwrap();
    store.write(other, 4096, pattern(4096, 2)).unwrap();
    let refused = store.write(other, CLUSTER, pattern(4096, 1));
    assert!(
        matches!(refused, Err(Error::ClustersWithheld { needed: 1, free: 0, withheld: 8 })),
        "{refused:?}"
    );
    let mut device = closed(store);
    flip(&mut device, at + 100);
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    // A close does not forget what is marked, nor the root.
    assert!(store.content("victim") == pattern(8 * CLUSTER, 7).as_slice());
    assert_eq!(store.free(), 0);
    assert_eq!(store.content("other")[..4096], *pattern(4096, 1).as_slice());
    assert_eq!(store.content("other")[4096..8192], *pattern(4096, 2).as_slice());
}

/// An lvol that no checkpoint has written yet lives in the journal alone: what lies where its root will be is nothing.
#[test]
fn an_lvol_that_was_never_checkpointed_has_no_root_to_rot() {
    let mut store = fresh(16 << 20, 16_384, true);
    let victim = store.create("victim", 8 * CLUSTER, true).unwrap();
    store.write(victim, 0, pattern(8 * CLUSTER, 7)).unwrap();
    store.flush().unwrap();
    let at = store.state().layout.md_page_offset(victim.root());
    let mut device = store.device().clone();
    drop(store);
    flip(&mut device, at + 100);
    for power in [SESSION, AFTER_POWER_LOSS] {
        let mut store = Store::open(device.clone(), Vec::new(), &writable_in(Some(power))).unwrap();
        assert_eq!(store.findings(), &[]);
        assert!(store.content("victim") == pattern(8 * CLUSTER, 7).as_slice());
        let mut store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
        assert_eq!(store.findings(), &[]);
        assert!(store.content("victim") == pattern(8 * CLUSTER, 7).as_slice());
    }
}

/// A blob that was being removed was released under a clone that still read from it.
#[test]
fn a_dying_blob_with_a_clone_is_damage() {
    let mut store = fresh(16 << 20, 16_384, true);
    store.create("d", 8 * CLUSTER, true).unwrap();
    let origin = store.id("d");
    store.write(origin, 0, pattern(8 * CLUSTER, 7)).unwrap();
    store.snapshot("d", "snap").unwrap();
    // Something native, so that the store stays under our version.
    store.write(origin, 0, pattern(4096, 7)).unwrap();
    let (snapshot, layout) = (store.id("snap"), store.state().layout.clone());
    let mut device = closed(store);
    edit_root(&mut device, &layout, snapshot, |md| {
        md.native = Some(NativeBlob { dying: true, ..NativeBlob::default() });
        md.xattrs.clear();
    });
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    let free = store.state().clusters.free();
    store.poll(&mut Vec::new());
    store.flush().unwrap();
    assert_eq!(store.state().clusters.free(), free, "nothing of it is released");
    assert_eq!(store.read(origin, 0, 4096).unwrap().as_slice(), pattern(4096, 7).as_slice(), "its own");
    assert!(matches!(store.read(origin, CLUSTER, 4096), Err(Error::UnknownPart { .. })));
    assert!(matches!(store.write(origin, 0, pattern(4096, 7)), Err(Error::Damaged(_))));
}

/// Looking at an empty store of 1 TiB after a crash took 4 GiB of memory.
#[test]
fn opening_after_a_crash_reads_few_pages_at_a_time() {
    let mut store = fresh(1 << 40, 262_144, true);
    store.create("a", 1 << 20, false).unwrap();
    let mut loader = Loader::new(store.device().geometry(), &writable());
    let (id, op) = loader.poll_device().unwrap();
    let DeviceOp::Read { offset, mut buffer } = op else { unreachable!() };
    store.device().clone().read_at(offset.0, buffer.as_mut_slice());
    loader.handle_completion(id, Some(buffer), Ok(()));
    let reads = std::iter::from_fn(|| loader.poll_device()).count();
    assert!((1..=16).contains(&reads), "{reads} reads at once");
}

/// Md pages that a removal frees were no help until somebody flushed.
#[test]
fn md_pages_of_a_removed_lvol_can_be_used_at_once() {
    let mut store = fresh(64 << 20, 65_536, true);
    use_up_md_pages(&mut store, 0);
    store.remove("f7").unwrap();
    store.create("again", 0, false).unwrap();
}

/// Md pages above 4096 bytes: only the first 4096 of each are used, wherever they are counted.
#[test]
fn large_md_pages_survive_reopening() {
    let options = InitOptions { md_page_size: 16_384, ..options(262_144, 512, true) };
    let cluster = 262_144;
    let mut store = Store::init(MemDevice::new(512 << 20, 512), &options, &writable()).unwrap();
    store.create("l", 600 * cluster, false).unwrap();
    let id = store.id("l");
    store.write(id, 599 * cluster, pattern(cluster, 1)).unwrap();
    store.snapshot("l", "s").unwrap();
    store.write(id, 599 * cluster, pattern(4096, 2)).unwrap();
    let before = (store.content("l"), store.content("s"));
    let mut store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert_eq!(store.super_block().md_page_size, 16_384);
    assert!((store.content("l"), store.content("s")) == before);
    store.remove("s").unwrap();
    let mut store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings(), &[]);
    assert!(store.content("l") == before.0);
}

/// The checksums of the masks were written and never looked at.
#[test]
fn masks_of_a_closed_native_store_are_held_against_their_checksums() {
    let mut store = fresh(16 << 20, 16_384, true);
    store.create("l", 8 * CLUSTER, false).unwrap();
    let id = store.id("l");
    store.write(id, 0, pattern(4096, 1)).unwrap();
    let at = store.state().layout.mask_offset(MaskKind::Clusters);
    let mut device = closed(store);
    assert!(Store::open(device.clone(), Vec::new(), &writable()).unwrap().findings().is_empty());
    let mut mask = vec![0; 4096];
    device.read_at(at, &mut mask);
    mask[70] ^= 1;
    device.write_at(at, &mask);
    let mut store = Store::open(device, Vec::new(), &writable()).unwrap();
    assert_eq!(store.findings()[0].what, Found::MaskChecksum);
    assert_eq!(store.content("l")[..4096], *pattern(4096, 1).as_slice());
    let store = Store::open(closed(store), Vec::new(), &writable()).unwrap();
    assert_eq!(store.own_clusters("l"), 1);
}
