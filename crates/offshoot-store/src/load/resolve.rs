//! Snapshots that SPDK was about to make or to delete when it died.
//!
//! Both take SPDK several writes, and a mark in the snapshot says that they are under way: `SNAPTMP` names the blob that
//! it is made of, `SNAPRM` the clone that it is deleted into. Whether that blob names the snapshot as its parent tells
//! which side of the commit point the crash fell on. Everything becomes as it was before, or as it was to become:
//!
//! | mark | the other blob is | is found | becomes |
//! |---|---|---|---|
//! | `SNAPTMP` | not its clone | the snapshot is empty, or names what the other blob owns | the snapshot is gone |
//! | `SNAPTMP` | its clone | the snapshot owns all | the snapshot stays |
//! | `SNAPRM` | its clone | the clone's extent pages may name clusters of the snapshot | the snapshot stays, and owns them |
//! | `SNAPRM` | not its clone | both name what the clone took over | the snapshot is gone, what only it has is free |
//! | either | missing or unreadable | | the snapshot stays: it may be all that is left |
//!
//! SPDK keeps two owners in the third row, and loses the space of what only the snapshot had in the fourth.
//!
//! This changes memory alone, and what it does follows from the md pages alone. So it may be repeated: until a checkpoint
//! has written the outcome, all of it at once, each opening comes to the same one, and what was journaled meanwhile fits
//! it. That is why it is done on every load and why nothing needs to be written in any order.

use super::decode::{Parts, Slots};
use crate::map::SLOTS;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use offshoot_format::{
    BlobId, ClusterIdx, DataRoFlags, ExtentOrdinal, Flags, MdPageIdx, Transition, XATTR_SNAPRM,
    XATTR_SNAPTMP, Xattr,
};

/// What resolving did.
#[derive(Debug, Default)]
pub(super) struct Resolution {
    /// Md pages that only a snapshot had which is gone.
    pub(super) freed: Vec<MdPageIdx>,
    /// Clusters of a snapshot that is gone which its clone may own: the part of its map that tells cannot be read.
    pub(super) withheld: Vec<ClusterIdx>,
    /// Snapshots that were being deleted, each with the clone from which their clusters were taken. The mark of such a
    /// snapshot goes when both can be written; until then it is needed.
    pub(super) undone: Vec<(BlobId, BlobId)>,
    /// Whether anything was done.
    pub(super) is_any: bool,
}

/// Settles every snapshot with a mark.
pub(super) fn resolve(all: &mut BTreeMap<BlobId, Parts>) -> Resolution {
    let mut resolution = Resolution::default();
    let marked: Vec<(BlobId, Transition)> = all
        .iter()
        .filter(|(_, parts)| parts.has_chain())
        .filter_map(|(id, parts)| Some((*id, parts.md.transition()?)))
        .collect();
    for (snapshot, transition) in marked {
        resolution.is_any = true;
        let (Transition::SnapshotOf(other) | Transition::DeletedInto(other)) = transition;
        let other = Some(other).filter(|other| *other != snapshot);
        let Some((other, parts)) = other.and_then(|other| Some((other, all.get(&other)?))) else {
            keep(all, snapshot);
            continue;
        };
        let is_clone = parts.md.parent() == Some(snapshot);
        let is_known = parts.has_chain();
        let is_parent = all.values().any(|parts| parts.has_chain() && parts.md.parent() == Some(snapshot));
        match transition {
            _ if !is_known => keep(all, snapshot),
            Transition::DeletedInto(_) if is_clone => {
                undo_merge(all, snapshot, other);
                resolution.undone.push((snapshot, other));
            }
            _ if is_clone => keep(all, snapshot),
            // No crash leaves what is not so: the other blob is a later one. Whatever both own shows as damage.
            _ if is_parent || !has_taken_over(all, snapshot, other, transition) => keep(all, snapshot),
            _ => remove(all, snapshot, other, &mut resolution),
        }
    }
    resolution
}

/// The snapshot is one like any other.
fn keep(all: &mut BTreeMap<BlobId, Parts>, snapshot: BlobId) {
    let Some(parts) = all.get_mut(&snapshot) else { return };
    unmark(&mut parts.md.internal_xattrs, &mut parts.md.flags);
    parts.is_changed = true;
}

/// Takes the marks away, as SPDK does.
pub(super) fn unmark(internal_xattrs: &mut Vec<Xattr>, flags: &mut Flags) {
    internal_xattrs.retain(|xattr| xattr.name != XATTR_SNAPRM && xattr.name != XATTR_SNAPTMP);
    flags.data_ro.insert(DataRoFlags::READ_ONLY);
}

/// Whether a blob holds all that it must hold if a snapshot is to go: the very clusters of one that was being made of
/// it; something in each place of one that was being deleted into it.
fn has_taken_over(
    all: &BTreeMap<BlobId, Parts>,
    snapshot: BlobId,
    other: BlobId,
    transition: Transition,
) -> bool {
    let (Some(gone), Some(heir)) = (all.get(&snapshot), all.get(&other)) else { return false };
    let is_deleted = matches!(transition, Transition::DeletedInto(_));
    if is_deleted && gone.md.parent() != heir.md.parent() {
        return false;
    }
    let extent = |parts: &Parts, ordinal| parts.pages.ordinals.get(ordinal).and_then(|md| md.extent);
    let follows = |ordinal| match is_deleted {
        true => extent(heir, ordinal).is_some(),
        false => extent(heir, ordinal) == extent(gone, ordinal),
    };
    let holds = |(ordinal, slots): (&ExtentOrdinal, &Slots)| {
        let start = ordinal.first_cluster().0;
        let own = heir.full.get(ordinal);
        let has = |(slot, cluster): (usize, &u32)| {
            let own = own.map_or(0, |own| own[slot]);
            let is_beyond = is_deleted && start + slot as u64 >= heir.len;
            *cluster == 0 || is_beyond || if is_deleted { own != 0 } else { own == *cluster }
        };
        heir.lost.contains(ordinal) || slots.iter().enumerate().all(has)
    };
    gone.lost.iter().all(follows) && gone.full.iter().all(holds)
}

/// The snapshot and its clone become what they were: what both name is the snapshot's.
fn undo_merge(all: &mut BTreeMap<BlobId, Parts>, snapshot: BlobId, clone: BlobId) {
    let Some(mut merged) = all.remove(&clone) else { return };
    let Some(kept) = all.get(&snapshot) else { return };
    let mut changed = BTreeSet::new();
    for (ordinal, theirs) in &kept.full {
        let Some(own) = merged.full.get_mut(ordinal) else { continue };
        let before = own.clone();
        own.iter_mut().zip(theirs.iter()).filter(|(own, theirs)| own == theirs).for_each(|(own, _)| *own = 0);
        if *own != before {
            changed.insert(*ordinal);
        }
    }
    for ordinal in &changed {
        count(&mut merged, *ordinal);
    }
    if kept.lost.iter().any(|ordinal| merged.full.contains_key(ordinal)) {
        let why = "what it has taken over from a snapshot that was being deleted into it cannot be told";
        merged.damage.get_or_insert_with(|| why.into());
    }
    merged.changed.extend(changed);
    all.insert(clone, merged);
}

/// The number of clusters that a blob owns in an ordinal, after some were taken out.
fn count(parts: &mut Parts, ordinal: ExtentOrdinal) {
    let owned = parts.full.get(&ordinal).map_or(0, |slots| slots.iter().filter(|own| **own != 0).count());
    if owned == 0 {
        parts.full.remove(&ordinal);
    }
    if let Some(md) = parts.pages.ordinals.get_mut(&ordinal) {
        md.own_full = u16::try_from(owned).unwrap_or(u16::MAX);
    }
}

/// The snapshot is gone. What the other blob names as well is that one's.
fn remove(all: &mut BTreeMap<BlobId, Parts>, snapshot: BlobId, other: BlobId, resolution: &mut Resolution) {
    let Some(gone) = all.remove(&snapshot) else { return };
    let Some(heir) = all.get(&other) else { return };
    for ordinal in &heir.lost {
        let slots = gone.full.get(ordinal).map_or(&[0; SLOTS], |slots| slots);
        resolution.withheld.extend(slots.iter().filter(|cluster| **cluster != 0).map(|own| ClusterIdx(*own)));
    }
    let kept: BTreeSet<MdPageIdx> = heir.md_pages().collect();
    resolution.freed.extend(gone.md_pages().filter(|page| !kept.contains(page)));
}
