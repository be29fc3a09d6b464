//! Remove, deferred: a snapshot with several clones is hidden at once and goes when at most one of them is left.
//!
//! Until then it is a snapshot like any other with a mark, an xattr that SPDK keeps, and a name that nobody else has. Who
//! takes a clone from it looks whether it can go now, in the same transaction: at no time does a marked snapshot stay for
//! one clone alone, unless damage keeps it from going.

use super::{Plan, check_metadata, remove};
use crate::blob::{Blob, XATTR_DELETED};
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use alloc::{format, vec::Vec};
use offshoot_format::{BlobId, XATTR_NAME, Xattr, name_value};

pub(super) fn plan(state: &State, id: BlobId) -> Result<Plan, Error> {
    let lvol = state.lvol(id)?;
    if lvol.clones.len() < 2 {
        return remove::plan(state, id);
    }
    let lvol = state.sound_lvol(id)?;
    check_metadata(lvol)?;
    // The chain and one page more, as the order of its descriptors changes.
    let md_pages = lvol.chain_pages_at_most() + 1;
    let spare = state.md_spare();
    if spare < md_pages {
        return Err(Error::NoMdPages { needed: md_pages as u64, free: spare as u64 });
    }
    let name = Xattr { name: XATTR_NAME.to_vec(), value: name_value(hidden_name(lvol).as_bytes()) };
    let xattrs = [name, Xattr::new(XATTR_DELETED, "1")];
    let records = xattrs.map(|xattr| Record::SetXattr { blob: id, xattr }).into();
    Ok(Plan { records, md_pages, ..Plan::default() })
}

/// What a removed snapshot is called meanwhile: its name is free again.
fn hidden_name(lvol: &Blob) -> alloc::string::String {
    match lvol.uuid() {
        Some(uuid) => format!(".deleted-{uuid}"),
        None => format!(".deleted-blob-{:x}", lvol.id.0),
    }
}

/// Lets go of what waits only for the lvols that lose their parent by a plan.
pub(super) fn let_go(state: &State, plan: &mut Plan) {
    let losing = plan.records.iter().filter_map(|record| match record {
        Record::MarkDying { blob } | Record::SetParent { blob, .. } | Record::Inflate { blob } => {
            Some((*blob, usize::MAX))
        }
        // What lies below the parent gets a clone instead of losing one.
        Record::Bypass { blob, .. } => Some((*blob, 1)),
        _ => None,
    });
    for (clone, depth) in losing.collect::<Vec<_>>() {
        let mut gone = clone;
        for snapshot in state.deferred_ancestors(clone).filter_map(|id| state.blob(id)).take(depth) {
            let mut left = snapshot.clones.iter().copied().filter(|other| *other != gone);
            match (left.next(), left.next()) {
                _ if snapshot.damage.is_some() => break,
                (None, _) => plan.records.push(Record::MarkDying { blob: snapshot.id }),
                (Some(heir), None) if state.blob(heir).is_some_and(|heir| heir.damage.is_none()) => {
                    plan.records.push(Record::Adopt { snapshot: snapshot.id, clone: heir });
                    plan.handed_over = Some(heir);
                    break;
                }
                _ => break,
            }
            gone = snapshot.id;
        }
    }
}

impl State {
    /// Snapshots that were removed while they had several clones, and still have, and lvols that are not finished.
    pub fn deferred(&self) -> impl Iterator<Item = &Blob> {
        self.blobs().filter(|blob| self.is_deferred(blob))
    }

    /// Whether a blob is one of them.
    #[must_use]
    pub fn is_deferred(&self, blob: &Blob) -> bool {
        !blob.dying && Some(blob.id) != self.super_blob && blob.xattr(XATTR_DELETED).is_some()
    }

    /// The removed snapshots right below a blob, nearest first.
    pub(crate) fn deferred_ancestors(&self, id: BlobId) -> impl Iterator<Item = BlobId> {
        let parent = move |id: BlobId| {
            let parent = self.blob(id)?.parent.and_then(|parent| self.blob(parent))?;
            self.is_deferred(parent).then_some(parent.id)
        };
        core::iter::successors(parent(id), move |id| parent(*id))
    }

    /// What is out of sight and nothing keeps any more: a removed snapshot whose clones SPDK, or the removal of what was damaged, has
    /// taken, or an lvol that was not finished. One without clones goes as it is, damaged or not.
    #[must_use]
    pub fn needless_deferred(&self) -> Option<BlobId> {
        let is_free = |blob: &&Blob| {
            let sound = |id: &BlobId| self.blob(*id).is_some_and(|blob| blob.damage.is_none());
            blob.clones.is_empty()
                || (blob.damage.is_none() && blob.clones.len() < 2 && blob.clones.iter().all(sound))
        };
        self.deferred().find(is_free).map(|blob| blob.id)
    }
}
