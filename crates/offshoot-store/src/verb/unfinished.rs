//! Begin and finish: an lvol that is out of sight until it holds what it is to hold, and gone if that never happens.
//!
//! To begin one is to make it and to put off its removal ([`super::deferred`]) in the same transaction: nothing but the will to
//! finish it keeps it, so that the next opening of the store for writing removes it. To finish it takes that back, under the name
//! that it is to have.

use super::{CreateOptions, Identity, Plan, check_metadata, create};
use crate::blob::{Blob, UNFINISHED, XATTR_DELETED};
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use alloc::format;
use offshoot_format::{BlobId, XATTR_NAME, Xattr, name_value};

/// A thin lvol. The name is looked at now, and taken at the end.
pub(super) fn begin(state: &State, identity: &Identity, size_bytes: u64) -> Result<Plan, Error> {
    state.check_new_name(&identity.name)?;
    let hidden = Identity { name: format!(".unfinished-{}", identity.uuid), ..identity.clone() };
    state.check_new_name(&hidden.name)?;
    let mut xattrs = hidden.xattrs();
    xattrs.push(Xattr { name: XATTR_DELETED.to_vec(), value: UNFINISHED.to_vec() });
    create::make(state, xattrs, size_bytes, CreateOptions::provisioned(false))
}

pub(super) fn finish(state: &State, id: BlobId, name: &str) -> Result<Plan, Error> {
    let unfinished = |blob: &&Blob| state.is_unfinished(blob);
    let lvol = state.blob(id).filter(unfinished).ok_or(Error::UnknownBlob(id))?;
    state.sound_blob(id)?;
    check_metadata(lvol)?;
    state.check_new_name(name)?;
    // The chain and one page more, as the order of its descriptors changes.
    let md_pages = lvol.chain_pages_at_most() + 1;
    let spare = state.md_spare();
    if spare < md_pages {
        return Err(Error::NoMdPages { needed: md_pages as u64, free: spare as u64 });
    }
    let xattr = Xattr { name: XATTR_NAME.to_vec(), value: name_value(name.as_bytes()) };
    let records = alloc::vec![
        Record::SetXattr { blob: id, xattr },
        Record::RemoveXattr { blob: id, name: XATTR_DELETED.to_vec() },
    ];
    Ok(Plan { records, md_pages, ..Plan::default() })
}

impl State {
    /// Whether a blob is an lvol that was begun and is not finished.
    #[must_use]
    pub fn is_unfinished(&self, blob: &Blob) -> bool {
        self.is_deferred(blob) && blob.xattr(XATTR_DELETED) == Some(UNFINISHED)
    }
}
