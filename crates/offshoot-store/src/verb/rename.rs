//! Rename: another name for an lvol or snapshot. Read-only ones too: the name is not their content.

use super::{Plan, check_metadata};
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use offshoot_format::{BlobId, Xattr};

pub(super) fn plan(state: &State, id: BlobId, name: &str) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(id)?;
    if lvol.name() == name.as_bytes() {
        return Ok(Plan::default());
    }
    check_metadata(lvol)?;
    state.check_new_name(name)?;
    let value = offshoot_format::name_value(name.as_bytes());
    let xattr = Xattr { name: offshoot_format::XATTR_NAME.to_vec(), value };
    Ok(Plan { records: alloc::vec![Record::SetXattr { blob: id, xattr }], ..Plan::default() })
}
