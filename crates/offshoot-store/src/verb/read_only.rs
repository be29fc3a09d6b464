//! Read-only: the data of an lvol cannot change any more, and it can be cloned. There is no way back.

use super::{Plan, check_metadata};
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use offshoot_format::BlobId;

pub(super) fn plan(state: &State, id: BlobId) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(id)?;
    check_metadata(lvol)?;
    if lvol.has_read_only_flag() {
        return Ok(Plan::default());
    }
    Ok(Plan { records: alloc::vec![Record::SetReadOnly { blob: id }], ..Plan::default() })
}
