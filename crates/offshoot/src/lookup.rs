//! From what a user typed to an lvol.

use anyhow::{Result, bail};
use offshoot_format::BlobId;
use offshoot_store::{Blob, Error, State, escape};
use uuid::Uuid;

/// The lvol that a text names: by its name, its UUID, its blob id as `blob-0x...`, or its name as it is shown where
/// that had to be escaped. A name goes before all else, so that no other lvol can stand in its way.
///
/// # Errors
/// There is no such lvol.
pub(crate) fn lvol<'s>(state: &'s State, text: &str) -> Result<&'s Blob, Error> {
    let by_uuid = || state.lvol_by_uuid(Uuid::parse_str(text).ok()?);
    let by_id = || {
        let id = BlobId(u64::from_str_radix(text.strip_prefix("blob-0x")?, 16).ok()?);
        state.lvols().find(|blob| blob.id == id)
    };
    let by_shown_name = || state.lvols().find(|blob| blob.display_name() == text);
    state
        .lvol_by_name(text.as_bytes())
        .or_else(by_uuid)
        .or_else(by_id)
        .or_else(by_shown_name)
        .ok_or_else(|| Error::UnknownLvol(escape(text.as_bytes())))
}

/// The oldest snapshot and what takes it up; where some are gone since an earlier run, what is taking them up.
///
/// # Errors
/// One of them is not known, or they are no run of snapshots.
pub(crate) fn merge(state: &State, names: &[String]) -> Result<(BlobId, BlobId)> {
    let mut found = Vec::new();
    let mut gone = None;
    for name in names {
        match (lvol(state, name), state.merging(name.as_bytes())) {
            (Ok(blob), _) => found.push(blob),
            (Err(Error::UnknownLvol(_)), Some(heir)) => {
                if gone.replace(heir.id).is_some_and(|other| other != heir.id) {
                    bail!("they were being merged into different lvols");
                }
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    let Some(into) = gone else {
        let ids: Vec<BlobId> = found.iter().map(|blob| blob.id).collect();
        return Ok(state.merge_run(&ids)?);
    };
    let oldest = found.into_iter().min_by_key(|blob| state.depth(blob));
    Ok((oldest.map_or(into, |blob| blob.id), into))
}
