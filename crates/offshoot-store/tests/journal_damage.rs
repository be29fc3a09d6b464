//! Damage to the journal of a store that was not closed (D6): behind the last barrier it is reported and nothing is
//! written any more; in the tail it cannot be told from what a kill leaves, and ends the tail. And the super block,
//! whose copy stands in for it.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/lvols.rs"]
mod lvols;
#[path = "crash/tape.rs"]
mod tape;

use lvols::{AFTER_POWER_LOSS, Lvols as _, SESSION, assert_owned_once, options, pattern, writable_in};
use offshoot_block::BlockDevice;
use offshoot_device::MemDevice;
use offshoot_format::{
    BlobId, FRAME_HEADER_BYTES, FrameHeader, FrameKind, JournalArea, Layout, MdPageIdx, live_mask_pages,
};
use offshoot_store::{
    Blob, Error, Found, InitOptions, JournalDamage, OpenOptions, OrdinalMd, ReadOnlyCause, Store, Underlay,
    Verb, Work,
};
use std::ops::ControlFlow;
use tape::Taped;

const CLUSTER: u64 = 16_384;
const BLOCK: u64 = 4096;

/// A store that died: a checkpointed lvol `old`; `new`, which the journal alone knows; three first writes to `old` that a
/// flush covers, and three that nothing covers.
#[derive(Clone)]
struct Dead {
    device: MemDevice,
    layout: Layout,
    area: JournalArea,
}

impl Dead {
    fn new() -> Self {
        let init = InitOptions { journal_bytes: Some(1 << 20), ..options(16_384, 512, true) };
        let mut store =
            Store::init(MemDevice::new(4 << 20, 512), &init, &writable_in(Some(SESSION))).unwrap();
        let old = store.create("old", 4 * CLUSTER, false).unwrap();
        store.write(old, 0, pattern(CLUSTER, 1)).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        let mut store = Store::open(device, Vec::new(), &writable_in(Some(SESSION))).unwrap();
        store.create("new", CLUSTER, true).unwrap();
        for block in 0..3 {
            store.write(old, CLUSTER + block * BLOCK, pattern(BLOCK, 2)).unwrap();
        }
        store.flush().unwrap();
        for block in 0..3 {
            store.write(old, 2 * CLUSTER + block * BLOCK, pattern(BLOCK, 3)).unwrap();
        }
        let layout = store.state().layout.clone();
        let area = store.super_block().native.as_ref().and_then(|native| native.journal).unwrap();
        Self { device: store.device().clone(), layout, area }
    }

    /// One that died when the last checkpoint of its close was sealed, and before any of it was in place.
    fn sealed() -> Self {
        let dead = Self::new();
        let taped = Taped::new(dead.device.clone());
        let store = open(taped.clone(), &writable_in(Some(SESSION)));
        let (_, closed) = store.close();
        closed.unwrap();
        let tape = taped.tape();
        let cuts = (0..=tape.len()).map(|cut| Self { device: tape.device_after(cut), ..dead.clone() });
        // The newest epoch alone: its frames have the highest numbers.
        let is_sealed = |dead: &Self| dead.frames().last().is_some_and(|(frame, _)| !frame.in_place);
        cuts.into_iter().find(is_sealed).unwrap()
    }

    /// The frames in the ring, in order, and where each starts on the device.
    fn frames(&self) -> Vec<(FrameHeader, u64)> {
        let start = self.layout.md_page_offset(self.area.start);
        let len = u64::from(self.area.len) * u64::from(self.layout.md_page_size);
        let mut frames = Vec::new();
        for at in (0..len).step_by(512) {
            let mut head = [0; FRAME_HEADER_BYTES];
            self.device.read_at(start + at, &mut head);
            frames.extend(FrameHeader::decode(&head, at).map(|frame| (frame, start + at)));
        }
        frames.sort_unstable_by_key(|(frame, _)| frame.lsn);
        frames
    }

    /// With a byte changed.
    fn damaged_at(&self, at: u64) -> MemDevice {
        let mut device = self.device.clone();
        let mut byte = [0];
        device.read_at(at, &mut byte);
        device.write_at(at, &[byte[0] ^ 0x10]);
        device
    }
}

fn open<D: BlockDevice>(device: D, options: &OpenOptions) -> Store<D> {
    Store::open(device, Vec::new(), options).unwrap()
}

fn is_filled(bytes: &[u8], at: u64, len: u64, seed: u8) -> bool {
    let at = usize::try_from(at).unwrap();
    bytes[at..].starts_with(pattern(len, seed).as_slice())
}

/// Every frame that the last barrier covers, a byte of its header and one of its records.
#[test]
fn damage_behind_the_last_barrier_opens_the_store_read_only() {
    let dead = Dead::new();
    let frames = dead.frames();
    let (last, _) = frames.last().unwrap();
    let covered: Vec<_> =
        frames.iter().filter(|(frame, _)| (last.tail..=last.covered).contains(&frame.lsn)).collect();
    assert!(covered.len() >= 5, "{frames:?}");
    for (frame, at) in covered {
        let within_payload = (frame.payload_len > 0).then_some(FRAME_HEADER_BYTES as u64 + 1);
        for within in [Some(33), within_payload].into_iter().flatten() {
            let what = format!("frame {}, byte {within}", frame.lsn);
            for power in [SESSION, AFTER_POWER_LOSS] {
                let device = dead.damaged_at(at + within);
                let before = device.content();
                let mut store = Store::open(device, Vec::new(), &writable_in(Some(power))).unwrap();
                let damage = JournalDamage { lsn: frame.lsn };
                assert!(
                    store.findings().iter().any(|finding| finding.what == Found::Journal(damage)),
                    "{what}"
                );
                assert_eq!(store.engine().read_only_cause(), Some(ReadOnlyCause::JournalDamage), "{what}");
                let refused = Error::ReadOnlyStore(ReadOnlyCause::JournalDamage);
                let old = store.id("old");
                assert_eq!(store.write(old, 0, pattern(BLOCK, 4)).unwrap_err(), refused, "{what}");
                assert_eq!(store.create("more", CLUSTER, false).unwrap_err(), refused, "{what}");
                assert!(is_filled(&store.content("old"), 0, CLUSTER, 1), "{what}: what the checkpoint holds");
                let (device, closed) = store.close();
                closed.unwrap();
                assert!(device.content() == before, "{what}: something was written");
            }
        }
    }
}

/// A checkpoint whose images were sealed is needed as a whole until it is in place.
#[test]
fn a_damaged_image_frame_opens_the_store_read_only() {
    let dead = Dead::sealed();
    assert_eq!(open(dead.device.clone(), &writable_in(Some(SESSION))).findings(), &[]);
    let frames = dead.frames();
    let (last, _) = frames.last().unwrap();
    let mut images = 0;
    for (frame, at) in
        frames.iter().filter(|(frame, _)| frame.kind == FrameKind::Images && frame.capture == last.checkpoint)
    {
        let mut store = open(dead.damaged_at(at + 3000), &writable_in(Some(SESSION)));
        let damage = Found::Journal(JournalDamage { lsn: frame.lsn });
        assert!(store.findings().iter().any(|finding| finding.what == damage), "{:?}", store.findings());
        assert_eq!(store.engine().read_only_cause(), Some(ReadOnlyCause::JournalDamage));
        assert!(store.create("more", CLUSTER, false).is_err());
        images += 1;
    }
    assert!(images > 0, "{frames:?}");
}

/// A rotten page of the live masks: nothing else is the worse for it.
/// The journal was given up for it once, because its records took what counted as used.
#[test]
fn a_damaged_live_mask_costs_nothing_of_the_journal() {
    let dead = Dead::new();
    let masks = dead.layout.md_page_offset(dead.area.masks_start());
    let mut wrong = Vec::new();
    let in_use = [dead.layout.md_len, dead.layout.total_clusters].map(live_mask_pages).iter().sum::<u32>();
    assert!(in_use <= dead.area.masks);
    for page in 0..u64::from(in_use) {
        let device = dead.damaged_at(masks + page * 4096 + 100);
        for power in [SESSION, AFTER_POWER_LOSS] {
            let mut store = open(device.clone(), &writable_in(Some(power)));
            assert!(matches!(store.findings()[0].what, Found::LiveMask { .. }));
            let is_mask = |found: &Found| matches!(found, Found::LiveMask { .. } | Found::Mask { .. });
            let others = store.findings().iter().filter(|finding| !is_mask(&finding.what));
            wrong.extend(others.map(|finding| format!("live mask {page}: {}", finding.what)));
            let (old, content) = (store.id("old"), store.content("old"));
            assert!(is_filled(&content, 0, CLUSTER, 1));
            if !is_filled(&content, CLUSTER, BLOCK, 2) {
                wrong.push(format!("live mask {page}: what was flushed is gone"));
                continue;
            }
            // Every blob can be read, so what they own is known without the mask.
            store.write(old, 0, pattern(BLOCK, 5)).unwrap();
            store.create("more", CLUSTER, true).unwrap();
            let (device, closed) = store.close();
            closed.unwrap();
            let mut store = open(device, &writable_in(Some(power)));
            assert!(is_filled(&store.content("old"), 0, BLOCK, 5));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The same beside a checkpoint that had begun to write the root of an lvol which only the journal knows.
#[test]
fn a_damaged_live_mask_beside_a_begun_checkpoint() {
    let dead = Dead::new();
    let store = open(dead.device.clone(), &writable_in(Some(SESSION)));
    let root = dead.layout.md_page_offset(store.id("new").root());
    let mut written = vec![0; 4096];
    store.close().0.read_at(root, &mut written);
    let mut device = dead.damaged_at(dead.layout.md_page_offset(dead.area.masks_start()) + 100);
    device.write_at(root, &written);
    let mut store = open(device, &writable_in(Some(SESSION)));
    assert_eq!(store.engine().read_only_cause(), None, "{:?}", store.findings());
    assert!(is_filled(&store.content("old"), CLUSTER, BLOCK, 2));
    store.create("more", CLUSTER, true).unwrap();
    assert_eq!(store.state().audit(), &[]);
}

/// A tail that was cut short is what a kill leaves.
#[test]
fn damage_in_the_tail_ends_it() {
    let dead = Dead::new();
    let frames = dead.frames();
    let covered = frames.last().unwrap().0.covered;
    // Behind the frame of the barrier itself, which its barrier does not cover.
    let tail: Vec<_> = frames.iter().filter(|(frame, _)| frame.lsn > covered + 1).collect();
    assert_eq!(tail.len(), 3, "{frames:?}");
    for (kept, (frame, at)) in (0..).zip(tail) {
        for within in [33, FRAME_HEADER_BYTES as u64 + 1] {
            let device = dead.damaged_at(at + within);
            let mut store = Store::open(device, Vec::new(), &writable_in(Some(SESSION))).unwrap();
            assert_eq!(store.findings(), &[], "frame {}", frame.lsn);
            let old = store.content("old");
            assert!((0..3).all(|block| is_filled(&old, CLUSTER + block * BLOCK, BLOCK, 2)));
            for block in 0..3 {
                let there = is_filled(&old, 2 * CLUSTER + block * BLOCK, BLOCK, 3);
                assert_eq!(there, block < kept, "frame {}, block {block}", frame.lsn);
            }
            store.create("more", CLUSTER, false).unwrap();
            store.close().1.unwrap();
        }
    }
}

/// The first super block is destroyed while the store is open: its copy stands in for it, is looked at without being
/// touched, and puts it right when the store is opened for writing.
#[test]
fn a_destroyed_super_block_is_replaced_by_its_copy() {
    let dead = Dead::new();
    for garbage in [[0; 4096], [0xa5; 4096]] {
        let mut device = dead.device.clone();
        device.write_at(0, &garbage);
        let before = device.content();
        let check = |store: &mut Store<MemDevice>| {
            assert!(
                matches!(store.findings()[..], [ref only] if matches!(only.what, Found::SuperBlock { .. }))
            );
            let old = store.content("old");
            assert!(is_filled(&old, 0, CLUSTER, 1));
            assert!((0..3).all(|block| is_filled(&old, 2 * CLUSTER + block * BLOCK, BLOCK, 3)));
            assert!(store.state().lvol_by_name(b"new").is_some());
        };
        let mut store = open(device.clone(), &OpenOptions::read_only(Some(SESSION)));
        check(&mut store);
        assert!(store.close().0.content() == before);

        let mut store = open(device, &writable_in(Some(SESSION)));
        check(&mut store);
        // Killed again, it opens by itself.
        let mut store = open(store.device().clone(), &writable_in(Some(SESSION)));
        assert_eq!(store.findings(), &[]);
        assert!(is_filled(&store.content("old"), 2 * CLUSTER, BLOCK, 3));
        let (device, closed) = store.close();
        closed.unwrap();
        assert_eq!(open(device, &writable_in(Some(SESSION))).findings(), &[]);
    }
}

/// A store that died with a rotten md page: `before` says what lvol it is of, and what `since` does the journal alone
/// knows.
fn rotten(
    page: impl FnOnce(&Blob) -> MdPageIdx,
    before: impl FnOnce(&mut Store<MemDevice>) -> BlobId,
    since: impl FnOnce(&mut Store<MemDevice>),
) -> (MemDevice, BlobId) {
    let init = InitOptions { journal_bytes: Some(1 << 20), ..options(16_384, 512, true) };
    let mut store = Store::init(MemDevice::new(4 << 20, 512), &init, &writable_in(Some(SESSION))).unwrap();
    let lvol = before(&mut store);
    let (device, closed) = store.close();
    closed.unwrap();
    let mut store = open(device, &writable_in(Some(SESSION)));
    let page = page(store.state().blob(lvol).unwrap());
    let at = store.state().layout.md_page_offset(page) + 100;
    since(&mut store);
    let mut device = store.device().clone();
    device.write_at(at, &[0xff]);
    (device, lvol)
}

fn layer_page(blob: &Blob) -> MdPageIdx {
    blob.pages.ordinals.values().flat_map(OrdinalMd::layer_pages).next().unwrap()
}

/// With one block written.
fn partial(store: &mut Store<MemDevice>, name: &str) -> BlobId {
    let lvol = store.create(name, 4 * CLUSTER, false).unwrap();
    store.write(lvol, 0, pattern(BLOCK, 1)).unwrap();
    lvol
}

fn is_damaged(store: &Store<MemDevice>, lvol: BlobId) -> bool {
    let damage = |found: &Found| matches!(found, Found::Damaged { blob, .. } if *blob == lvol);
    store.findings().iter().any(|finding| damage(&finding.what))
}

/// Applied to what little is known of a damaged lvol, a record made a good one of it with nothing in it, which the next
/// opening served.
#[test]
fn a_record_of_a_damaged_lvol_does_not_make_it_sound() {
    type Since = fn(&mut Store<MemDevice>);
    let table: [(&str, Since); 3] = [
        ("rename", |store| store.rename("old", "new").unwrap()),
        ("snapshot, for which the map is encoded anew", |store| {
            store.snapshot("old", "snapshot").unwrap();
        }),
        ("clone of its snapshot", |store| {
            store.snapshot("old", "snapshot").unwrap();
            store.clone_of("snapshot", "clone").unwrap();
        }),
    ];
    for (what, since) in table {
        let (mut device, lvol) = rotten(layer_page, |store| partial(store, "old"), since);
        for opening in 0..3 {
            let mut store = open(device, &writable_in(Some(SESSION)));
            assert!(is_damaged(&store, lvol), "{what}, opening {opening}: {:?}", store.findings());
            assert!(store.read(lvol, 0, 4096).is_err(), "{what}, opening {opening}");
            store.create(&format!("more {opening}"), CLUSTER, true).unwrap();
            let closed;
            (device, closed) = store.close();
            closed.unwrap();
        }
    }
}

/// The next opening does not find the records any more. A clone made of a snapshot whose parent was damaged, and written
/// to since, was served then as it was made.
#[test]
fn what_was_made_of_something_damaged_is_read_by_later_openings_too() {
    let before = |store: &mut Store<MemDevice>| {
        store.create("lvol", CLUSTER, false).unwrap();
        let first = store.snapshot("lvol", "first").unwrap();
        let lvol = store.id("lvol");
        store.write(lvol, 0, pattern(CLUSTER, 1)).unwrap();
        store.snapshot("lvol", "second").unwrap();
        first
    };
    let since = |store: &mut Store<MemDevice>| {
        let clone = store.clone_of("second", "clone").unwrap();
        store.write(clone, 0, pattern(BLOCK, 2)).unwrap();
        store.flush().unwrap();
    };
    let (mut device, first) = rotten(|first| first.id.root(), before, since);
    for opening in 0..3 {
        let mut store = open(device, &writable_in(Some(SESSION)));
        assert!(store.state().blob(first).is_none_or(|blob| blob.damage.is_some()), "opening {opening}");
        let content = store.content("clone");
        assert!(is_filled(&content, 0, BLOCK, 2), "opening {opening}");
        assert!(content[4096..] == pattern(CLUSTER, 1).as_slice()[4096..], "opening {opening}");
        store.create(&format!("more {opening}"), CLUSTER, true).unwrap();
        let closed;
        (device, closed) = store.close();
        closed.unwrap();
    }
    let mut store = open(device, &writable_in(Some(SESSION)));
    store.remove("clone").unwrap();
}

/// An lvol that got a parent of which nothing can be read would read as before instead, and keep the one that it had.
#[test]
fn a_parent_that_cannot_be_read_is_missed_by_later_openings_too() {
    let before = |store: &mut Store<MemDevice>| {
        partial(store, "before");
        store.snapshot("before", "parent").unwrap();
        store.remove("before").unwrap();
        store.clone_of("parent", "heir").unwrap();
        partial(store, "old");
        store.snapshot("old", "snapshot").unwrap()
    };
    let since = |store: &mut Store<MemDevice>| {
        let underlay = Underlay::Snapshot(store.id("snapshot"));
        let lvol = store.id("heir");
        store.execute(Verb::SetParent { lvol, underlay }).unwrap();
        store.remove("parent").unwrap();
    };
    let (mut device, _) = rotten(|snapshot| snapshot.id.root(), before, since);
    for opening in 0..3 {
        let mut store = open(device, &writable_in(Some(SESSION)));
        let heir = store.id("heir");
        assert!(store.read(heir, 0, 4096).is_err(), "opening {opening}: {:?}", store.findings());
        store.create(&format!("more {opening}"), CLUSTER, true).unwrap();
        let closed;
        (device, closed) = store.close();
        closed.unwrap();
    }
}

/// What a damaged lvol had is its snapshot's, of which nothing is known. The removal of the lvol gave it away.
#[test]
fn what_a_lost_snapshot_took_over_is_handed_to_nobody() {
    let since = |store: &mut Store<MemDevice>| {
        store.snapshot("old", "snapshot").unwrap();
        store.remove("old").unwrap();
        store.flush().unwrap();
    };
    let before = |store: &mut Store<MemDevice>| {
        let lvol = store.create("old", 4 * CLUSTER, false).unwrap();
        let first = store.snapshot("old", "first").unwrap();
        store.write(lvol, 0, pattern(BLOCK, 1)).unwrap();
        first
    };
    let (mut device, _) = rotten(|first| first.id.root(), before, since);
    for opening in 0..3 {
        let mut store = open(device, &writable_in(Some(SESSION)));
        let name = format!("filling {opening}");
        let all = u64::from(store.state().layout.total_data_clusters());
        let lvol = store.create(&name, all * CLUSTER, false).unwrap();
        let written = (0..all).map(|at| store.write(lvol, at * CLUSTER, pattern(CLUSTER, 3)));
        assert!(written.take_while(Result::is_ok).count() > 0 || opening > 0);
        let content = store.device().content();
        let kept = content.chunks(16_384).any(|cluster| cluster.starts_with(pattern(BLOCK, 1).as_slice()));
        assert!(kept, "opening {opening}");
        let closed;
        (device, closed) = store.close();
        closed.unwrap();
    }
}

/// Where a snapshot is filled, a cluster is let go that its clones read as well, although nothing that they read changes.
#[test]
fn what_a_damaged_snapshot_was_filled_with_is_missed_by_its_clones() {
    let before = |store: &mut Store<MemDevice>| {
        let lvol = store.create("lvol", CLUSTER, false).unwrap();
        let first = store.snapshot("lvol", "first").unwrap();
        store.write(lvol, 0, pattern(CLUSTER, 1)).unwrap();
        store.snapshot("lvol", "hidden").unwrap();
        store.write(lvol, 0, pattern(BLOCK, 2)).unwrap();
        store.remove("hidden").unwrap();
        store.snapshot("lvol", "second").unwrap();
        store.clone_of("second", "clone").unwrap();
        first
    };
    let since = |store: &mut Store<MemDevice>| {
        store.run_job(Work::Seal, |_| ControlFlow::Continue(())).unwrap();
        store.flush().unwrap();
    };
    let (mut device, _) = rotten(|first| first.id.root(), before, since);
    for opening in 0..3 {
        let mut store = open(device, &writable_in(Some(SESSION)));
        for name in ["clone", "lvol"] {
            let lvol = store.id(name);
            if let Ok(read) = store.read(lvol, 0, 4096) {
                assert!(read.as_slice() == pattern(BLOCK, 2).as_slice(), "{name}, opening {opening}");
            }
        }
        store.create(&format!("more {opening}"), CLUSTER, true).unwrap();
        let closed;
        (device, closed) = store.close();
        closed.unwrap();
    }
}

/// A clone that hides all of a damaged snapshot is sound, and so is what it grows by.
#[test]
fn what_a_sound_clone_grows_by_reads_zeros() {
    let before = |store: &mut Store<MemDevice>| {
        let lvol = store.create("lvol", CLUSTER, false).unwrap();
        store.write(lvol, 0, pattern(BLOCK, 1)).unwrap();
        let snapshot = store.snapshot("lvol", "snapshot").unwrap();
        store.write(lvol, 0, pattern(CLUSTER, 2)).unwrap();
        snapshot
    };
    for replayed in [true, false] {
        let grow = |store: &mut Store<MemDevice>| store.resize("lvol", 2 * CLUSTER).unwrap();
        let since = |store: &mut Store<MemDevice>| {
            if replayed {
                grow(store);
            }
        };
        let (device, snapshot) = rotten(layer_page, before, since);
        let mut store = open(device, &writable_in(Some(SESSION)));
        assert!(is_damaged(&store, snapshot), "{:?}", store.findings());
        if !replayed {
            grow(&mut store);
        }
        let lvol = store.id("lvol");
        let read = store.read(lvol, CLUSTER, 16_384).unwrap();
        assert!(read.as_slice().iter().all(|byte| *byte == 0), "replayed: {replayed}");
    }
}

/// A cluster of an lvol that cannot be read, that others got and gave back since its removal: it was both kept from
/// everybody and handed out.
#[test]
fn what_was_given_back_since_is_free_once() {
    let since = |store: &mut Store<MemDevice>| {
        store.remove("old").unwrap();
        store.flush().unwrap();
        for round in 0..3 {
            store.create("more", 4 * CLUSTER, true).unwrap();
            store.remove("more").unwrap();
            store.flush().unwrap();
            assert!(store.free() > 0, "round {round}");
        }
    };
    let (device, _) = rotten(|old| old.id.root(), |store| partial(store, "old"), since);
    let mut store = open(device, &writable_in(Some(SESSION)));
    let all = u64::from(store.state().layout.total_data_clusters());
    let lvol = store.create("all", all * CLUSTER, false).unwrap();
    let written = (0..all).map(|at| store.write(lvol, at * CLUSTER, pattern(CLUSTER, 3)));
    let clusters = written.take_while(Result::is_ok).count() as u64;
    assert!(clusters + 1 >= all, "{clusters} of {all}");
    for at in 0..clusters {
        let read = store.read(lvol, at * CLUSTER, usize::try_from(CLUSTER).unwrap()).unwrap();
        assert!(read.as_slice() == pattern(CLUSTER, 3).as_slice(), "cluster {at}");
    }
    assert_owned_once(&store);
}

/// Which of a snapshot's clusters a removal freed nobody can tell when the clone cannot be read. Others may have got
/// them since: nothing of it is served, and what is sound goes on.
#[test]
fn a_snapshot_that_was_handed_to_a_damaged_lvol_is_not_served() {
    let mut snapshot = None;
    let before = |store: &mut Store<MemDevice>| {
        let lvol = partial(store, "old");
        snapshot = Some(store.snapshot("old", "snapshot").unwrap());
        store.write(lvol, 0, pattern(BLOCK, 2)).unwrap();
        lvol
    };
    let (device, lvol) = rotten(layer_page, before, |store| store.remove("snapshot").unwrap());
    let mut store = open(device, &writable_in(Some(SESSION)));
    assert_eq!(store.engine().read_only_cause(), None);
    for lvol in [lvol, snapshot.unwrap()] {
        assert!(store.read(lvol, 0, 4096).is_err(), "{:?}", store.findings());
    }
    let more = store.create("more", CLUSTER, false).unwrap();
    store.write(more, 0, pattern(CLUSTER, 3)).unwrap();
    assert!(store.read(more, 0, 4096).is_ok());
}

/// Where the store was sealed after its copy was written the copy is dead: it may say nothing.
#[test]
fn the_copy_of_a_sealed_store_is_dead() {
    let dead = Dead::new();
    let store = Store::open(dead.device, Vec::new(), &writable_in(Some(SESSION))).unwrap();
    let (mut device, closed) = store.close();
    closed.unwrap();
    device.write_at(0, &[0; 4096]);
    assert!(Store::open(device, Vec::new(), &writable_in(Some(SESSION))).is_err());
}
