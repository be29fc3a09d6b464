//! Repairs, row by row of the table in `docs/repair.md`: a store is damaged in just one way. A look finds it; trying
//! the repair writes nothing; the repair leaves no damage, or says which; undoing it brings back every byte.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "repair/damaged.rs"]
mod damaged;
#[path = "common/lvols.rs"]
mod lvols;

use damaged::{CLUSTER, Damaged};
use lvols::{Lvols as _, SESSION, pattern, writable_in};
use offshoot_block::BlockDevice;
use offshoot_device::{
    ErrorDevice, Fault, MemDevice, OpKind, OverlayDevice, Undo, UndoDevice, UndoLog, UndoOf,
};
use offshoot_format::{
    BlobId, ClusterIdx, DataRoFlags, MapMd, MaskKind, MdPageIdx, XATTR_NAME, Xattr, name_value,
};
use offshoot_store::{Finding, Found, OpenOptions, Repairs, Store};
use tempfile::TempDir;

fn look<D: BlockDevice>(device: &mut D) -> Vec<Finding> {
    let store = Store::open(device, Vec::new(), &OpenOptions::read_only(Some(SESSION))).unwrap();
    match store.findings() {
        [] => store.state().audit(),
        found => found.to_vec(),
    }
}

fn repair<D: BlockDevice>(device: &mut D) -> Repairs {
    let options = OpenOptions { repair: true, ..writable_in(Some(SESSION)) };
    let store = Store::open(device, Vec::new(), &options).unwrap();
    let repairs = store.repairs().clone();
    store.close().1.unwrap();
    repairs
}

/// What a repair came to.
struct Repaired {
    before: Vec<Finding>,
    repairs: Repairs,
    after: Vec<Finding>,
    device: MemDevice,
}

impl Repaired {
    fn store(&self) -> Store<MemDevice> {
        Store::open(self.device.clone(), Vec::new(), &writable_in(Some(SESSION))).unwrap()
    }

    fn note(&self, is_it: impl Fn(&Found) -> bool) -> String {
        let finding = self.before.iter().find(|finding| is_it(&finding.what)).unwrap();
        self.repairs.note(&finding.what).unwrap()
    }

    /// Every finding is gone.
    fn is_clean(&self) {
        assert_eq!(self.after, [], "before: {:?}", self.before);
    }
}

/// Repairs a damaged store after trying it out, and undoes it.
fn treat(damaged: &Damaged) -> Repaired {
    let mut device = damaged.device.clone();
    let sick = device.content();
    let before = look(&mut device);
    assert!(!before.is_empty(), "the damage is found");
    device.set_read_only(true);
    let mut overlay = OverlayDevice::new(device);
    repair(&mut overlay);
    let tried = look(&mut overlay);
    let mut device = overlay.inner().clone();
    device.set_read_only(false);
    assert!(device.content() == sick, "trying it writes nothing");

    let folder = TempDir::with_prefix_in("repair-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("undo");
    let of = UndoOf { device_bytes: device.geometry().size_bytes, store: [0; 16] };
    let mut logged = UndoDevice::new(device, UndoLog::create(&path, of).unwrap());
    let repairs = repair(&mut logged);
    let (mut device, finished) = logged.finish();
    finished.unwrap();
    let after = look(&mut device);
    assert_eq!(after, tried, "it does what it said");

    let mut undone = device.clone();
    let undo = Undo::open(&path).unwrap();
    assert_eq!(undo.compare(&mut undone).unwrap().foreign, 0);
    undo.restore(&mut undone).unwrap();
    assert!(undone.content() == sick, "undoing it brings back every byte");
    Repaired { before, repairs, after, device }
}

/// The lvols that nothing was done to are as they were, and the store works.
fn assert_well(repaired: &Repaired, untouched: &[&str]) {
    let mut store = repaired.store();
    for name in untouched {
        assert!(store.content(name) == Damaged::content_of(name), "{name}");
    }
    store.create("more", 2 * CLUSTER, true).unwrap();
    store.write(store.id("more"), 0, pattern(CLUSTER, 9)).unwrap();
    let (mut device, closed) = store.close();
    closed.unwrap();
    assert_eq!(look(&mut device), repaired.after);
}

const ALL: &[&str] = &["base", "snap", "clone", "other"];

#[test]
fn surplus_in_the_masks_is_given_back() {
    for kind in [MaskKind::Clusters, MaskKind::MdPages] {
        let mut damaged = Damaged::closed(false);
        damaged.mask(kind, |mask| mask.set(mask.len() - 7, true));
        let repaired = treat(&damaged);
        assert_eq!(repaired.before.len(), 1);
        assert!(matches!(repaired.before[0].what, Found::Mask { surplus: 1, missing: 0, .. }));
        repaired.is_clean();
        assert_well(&repaired, ALL);
    }
}

#[test]
fn what_the_masks_lack_is_added() {
    for kind in [MaskKind::Clusters, MaskKind::MdPages] {
        let mut damaged = Damaged::closed(false);
        damaged.mask(kind, |mask| {
            let last = mask.iter_ones().last().unwrap();
            mask.set(last, false);
        });
        let repaired = treat(&damaged);
        assert!(matches!(repaired.before[0].what, Found::Mask { missing: 1, .. } | Found::Damaged { .. }));
        repaired.is_clean();
        assert_well(&repaired, ALL);
    }
}

#[test]
fn a_mask_that_cannot_be_read_is_rebuilt() {
    for kind in MaskKind::ALL {
        let mut damaged = Damaged::closed(false);
        damaged.flip_at(damaged.layout.mask_offset(kind), 0x40);
        let repaired = treat(&damaged);
        assert!(matches!(repaired.before[0].what, Found::MaskUnreadable { .. }));
        repaired.is_clean();
        assert_well(&repaired, ALL);
    }
}

#[test]
fn masks_with_a_bad_checksum_are_rebuilt() {
    let mut damaged = Damaged::closed(true);
    damaged.mask(MaskKind::Clusters, |mask| mask.set(mask.len() - 7, true));
    let repaired = treat(&damaged);
    assert!(repaired.before.iter().any(|finding| finding.what == Found::MaskChecksum));
    repaired.is_clean();
    assert_well(&repaired, ALL);
}

#[test]
fn a_cluster_with_two_owners_is_copied() {
    // A snapshot whose clones share what it claims, and a map of runs.
    for (claimer, victim) in [("other", "base"), ("other", "snap"), ("snap", "other"), ("clone", "clone")] {
        let mut damaged = Damaged::closed(false);
        let at = damaged.cluster_of(victim);
        damaged.claim(claimer, 3, at);
        let repaired = treat(&damaged);
        let doubles = |found: &Found| matches!(found, Found::ClusterOwners { cluster, .. } if *cluster == at);
        assert!(repaired.note(doubles).contains("look at the content of both"));
        repaired.is_clean();
        assert_eq!(repaired.repairs.copies.len(), 1);
        let untouched: Vec<&str> =
            ["base", "other", "clone"].into_iter().filter(|name| *name != claimer).collect();
        let untouched: &[&str] = if claimer == "snap" { &["other"] } else { &untouched };
        assert_well(&repaired, untouched);
        // Both hold what the cluster held, and each can change its own.
        let mut store = repaired.store();
        let content = store.content(claimer);
        let (start, len) = (usize::try_from(3 * CLUSTER).unwrap(), usize::try_from(CLUSTER).unwrap());
        let mut held = vec![0; len];
        damaged.device.read_at(damaged.layout.cluster_offset(at), &mut held);
        assert!(content[start..start + len] == held, "{claimer}");
        assert_eq!(store.state().audit(), []);
        if claimer == "other" {
            store.write(store.id("other"), 3 * CLUSTER, pattern(CLUSTER, 12)).unwrap();
            assert!(store.content(victim) == Damaged::content_of(victim));
        }
    }
}

#[test]
fn an_extent_page_with_two_owners_is_parted() {
    let mut damaged = Damaged::closed(false);
    let MapMd::Table { pages, .. } = damaged.md("base").map else { panic!("a table") };
    let shared = pages[0].unwrap();
    damaged.edit("clone", |md| {
        let MapMd::Table { pages, .. } = &mut md.map else { panic!("a table") };
        pages[0] = Some(shared);
    });
    let repaired = treat(&damaged);
    let has = |is_it: fn(&Found) -> bool| repaired.before.iter().any(|finding| is_it(&finding.what));
    assert!(has(|found| matches!(found, Found::MdPageOwners { .. })));
    assert!(has(|found| matches!(found, Found::ClusterOwners { .. })));
    repaired.is_clean();
    assert_well(&repaired, &["base", "snap", "other"]);
}

#[test]
fn without_space_both_stay_damaged() {
    let mut damaged = Damaged::closed(false);
    damaged.fill();
    let at = damaged.cluster_of("base");
    damaged.claim("other", 3, at);
    let repaired = treat(&damaged);
    assert!(repaired.after.iter().any(|finding| matches!(finding.what, Found::ClusterOwners { .. })));
    assert!(repaired.repairs.copies.is_empty());
}

#[test]
fn one_wrong_bit_is_put_right() {
    for name in ALL {
        let mut damaged = Damaged::closed(false);
        let root = damaged.md(name).id.root();
        damaged.flip(root, 700, 0x20);
        let repaired = treat(&damaged);
        let lost = |found: &Found| matches!(found, Found::Damaged { blob, .. } if blob.root() == root);
        assert!(repaired.note(lost).contains("one bit"), "{name}");
        repaired.is_clean();
        assert_well(&repaired, ALL);
    }
}

#[test]
fn what_is_lost_stays_damaged_until_it_is_removed() {
    let mut damaged = Damaged::closed(false);
    let root = damaged.md("other").id.root();
    damaged.garble(root);
    let repaired = treat(&damaged);
    assert!(matches!(&repaired.after[..], [mask, lost]
        if matches!(mask.what, Found::Mask { surplus: 2, .. }) && matches!(lost.what, Found::Damaged { .. })));
    assert_well(&repaired, &["base", "snap", "clone"]);
    // Once it is gone nobody can own what is left.
    let mut store = repaired.store();
    store.execute(offshoot_store::Verb::Remove { lvol: BlobId::from_root(root) }).unwrap();
    let (device, closed) = store.close();
    closed.unwrap();
    let repaired = treat(&Damaged { device, ..damaged });
    repaired.is_clean();
    assert_well(&repaired, &["base", "snap", "clone"]);
}

#[test]
fn a_clone_without_its_parent_stays_as_it_is() {
    let mut damaged = Damaged::closed(false);
    let parent = BlobId::from_root(MdPageIdx(damaged.layout.md_len - 3));
    damaged.edit("clone", |md| md.internal_xattrs[0].value = offshoot_format::blob_id_value(parent));
    let before = damaged.page(damaged.md("clone").id.root());
    let repaired = treat(&damaged);
    assert!(repaired.after.iter().any(|finding| finding.lvol.as_deref() == Some("clone")));
    let after = Damaged { device: repaired.device.clone(), ..damaged.clone() };
    assert!(after.page(damaged.md("clone").id.root()) == before);
    assert_well(&repaired, &["base", "snap", "other"]);
}

#[test]
fn a_second_name_is_made_unique() {
    let mut damaged = Damaged::closed(false);
    let id = damaged.md("other").id;
    damaged.edit("other", |md| {
        let name = md.xattrs.iter_mut().find(|xattr| xattr.name == XATTR_NAME).unwrap();
        *name = Xattr { name: XATTR_NAME.to_vec(), value: name_value(b"base") };
    });
    let repaired = treat(&damaged);
    repaired.is_clean();
    let name = format!("base-{:#x}", id.0);
    assert!(repaired.note(|found| matches!(found, Found::DuplicateName { .. })).contains(&name));
    let mut store = repaired.store();
    assert!(store.content(&name) == Damaged::content_of("other"));
    assert_well(&repaired, &["base", "snap", "clone"]);
}

#[test]
fn rotten_pages_that_nothing_refers_to_are_erased() {
    // Two of them are where the next opening would have its journal.
    let journal = Damaged::dead().area.unwrap();
    for rotten in [MdPageIdx(40), MdPageIdx(journal.masks_start().0 - 1), journal.masks_start()] {
        let mut damaged = Damaged::closed(true);
        damaged.garble(rotten);
        // Only where no mask can be believed may a page be anything.
        damaged.mask(MaskKind::Clusters, |mask| mask.set(mask.len() - 7, true));
        let repaired = treat(&damaged);
        assert!(repaired.note(|found| *found == Found::RottenPages { count: 1 }).contains("given up"));
        repaired.is_clean();
        let after = Damaged { device: repaired.device.clone(), ..damaged };
        assert!(after.page(rotten).iter().all(|byte| *byte == 0), "md page {rotten}");
        assert_well(&repaired, ALL);
    }
}

#[test]
fn a_destroyed_super_block_is_written_anew() {
    let mut damaged = Damaged::dead();
    damaged.device.write_at(0, &[0xa5; 4096]);
    let repaired = treat(&damaged);
    assert!(matches!(repaired.before[0].what, Found::SuperBlock { .. }));
    repaired.is_clean();
    assert_well(&repaired, ALL);
}

#[test]
fn a_torn_super_block_is_written_as_its_checksum_says() {
    let mut damaged = Damaged::closed(false);
    // `clean` of the one that opened the store, the rest of the one that closed it.
    damaged.flip_at(0x10, 1);
    let repaired = treat(&damaged);
    assert!(matches!(repaired.before[0].what, Found::SuperBlockTorn { .. }));
    repaired.is_clean();
    assert_well(&repaired, ALL);
}

#[test]
fn one_wrong_bit_of_a_super_block_is_put_right() {
    for (native, byte) in [(false, 3), (false, 0x30), (true, 0x34), (true, 0xffd)] {
        let mut damaged = Damaged::closed(native);
        damaged.flip_at(byte, 0x08);
        let repaired = treat(&damaged);
        assert!(matches!(repaired.before[0].what, Found::SuperBlockBit { .. }));
        repaired.is_clean();
        assert_well(&repaired, ALL);
    }
}

#[test]
fn live_masks_are_rebuilt() {
    let mut damaged = Damaged::dead();
    let area = damaged.area.unwrap();
    for page in 0..area.masks {
        damaged.flip(MdPageIdx(area.masks_start().0 + page), 100, 0x10);
    }
    let repaired = treat(&damaged);
    assert!(matches!(repaired.before[0].what, Found::LiveMask { .. }));
    repaired.is_clean();
    assert_well(&repaired, ALL);
}

#[test]
fn a_damaged_journal_goes_on_up_to_there() {
    let frames = Damaged::dead().frames();
    let (last, _) = frames.last().unwrap().clone();
    let mut lost = 0;
    for (frame, at) in frames.iter().filter(|(frame, _)| (last.tail..=last.covered).contains(&frame.lsn)) {
        let mut damaged = Damaged::dead();
        damaged.flip_at(at + 33, 0x10);
        let repaired = treat(&damaged);
        assert!(repaired.before.iter().any(|finding| matches!(finding.what, Found::Journal(_))));
        repaired.is_clean();
        let given_up = frames.iter().filter(|(other, _)| other.lsn > frame.lsn).count() as u64;
        assert_eq!(repaired.repairs.lost_frames, given_up);
        assert!(repaired.note(|found| matches!(found, Found::Journal(_))).starts_with(&given_up.to_string()));
        // What the checkpoint holds is whole.
        assert_well(&repaired, &["snap"]);
        lost += given_up;
    }
    assert!(lost > 0);
}

#[test]
fn a_record_that_does_not_fit_ends_the_journal() {
    let mut damaged = Damaged::dead();
    // Records of the journal write to it.
    damaged.edit("other", |md| md.flags.data_ro.insert(DataRoFlags::READ_ONLY));
    let repaired = treat(&damaged);
    assert!(repaired.before.iter().any(|finding| matches!(finding.what, Found::JournalRecord { .. })));
    assert!(repaired.after.iter().all(|finding| !matches!(finding.what, Found::JournalRecord { .. })));
    assert!(repaired.repairs.lost_frames > 0);
    assert_well(&repaired, &["snap"]);
}

#[test]
fn a_page_is_brought_back_from_the_journal() {
    let mut damaged = Damaged::dead_after_checkpoint();
    let root = damaged.md("base").id.root();
    damaged.garble(root);
    let repaired = treat(&damaged);
    let lost = |found: &Found| matches!(found, Found::RottenPages { .. });
    assert!(repaired.note(lost).contains("from the journal"));
    repaired.is_clean();
    assert_well(&repaired, ALL);
}

#[test]
fn a_sector_that_cannot_be_read_is_written_anew() {
    let mut damaged = Damaged::closed(true);
    // Searched as a whole, since the masks cannot be believed.
    damaged.mask(MaskKind::Clusters, |mask| mask.set(mask.len() - 7, true));
    let page = damaged.layout.md_page_offset(MdPageIdx(40));
    let mut device = ErrorDevice::new(damaged.device.clone());
    device.inject(Fault::new(5).on(OpKind::Read).within(page..page + 512));
    let before = look(&mut device);
    assert!(
        before
            .iter()
            .any(|finding| matches!(finding.what, Found::Unreadable { offset, .. } if offset == page))
    );
    repair(&mut device);
    // What is written anew can be read again.
    device.heal();
    assert_eq!(look(&mut device), []);
}

#[test]
fn a_sound_store_stays_as_it_is() {
    for native in [false, true] {
        let mut device = Damaged::closed(native).device;
        let before = device.content();
        repair(&mut device);
        assert_eq!(look(&mut device), []);
        assert!(native || device.content() == before, "a sealed store is sealed again");
    }
}

/// What claims a cluster that does not exist is refused by the decoder, not disputed.
#[test]
fn a_cluster_outside_stays_damaged() {
    let mut damaged = Damaged::closed(false);
    damaged.claim("other", 3, ClusterIdx(damaged.layout.total_clusters + 1));
    let repaired = treat(&damaged);
    assert!(repaired.after.iter().any(|finding| matches!(finding.what, Found::Damaged { .. })));
    assert_well(&repaired, &["base", "snap", "clone"]);
}
