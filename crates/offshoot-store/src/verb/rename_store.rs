//! Rename the store itself: its name is an xattr of the super blob.

use super::{Plan, check_name};
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use offshoot_format::Xattr;

pub(super) fn plan(state: &State, name: &str) -> Result<Plan, Error> {
    check_name(name)?;
    let super_blob = state.super_blob.and_then(|id| state.blob(id)).ok_or(Error::NoSuperBlob)?;
    if super_blob.name() == name.as_bytes() {
        return Ok(Plan::default());
    }
    let value = offshoot_format::name_value(name.as_bytes());
    let xattr = Xattr { name: offshoot_format::XATTR_NAME.to_vec(), value };
    Ok(Plan { records: alloc::vec![Record::SetXattr { blob: super_blob.id, xattr }], ..Plan::default() })
}
