//! Create: a new lvol, thin or thick.

use super::{Identity, Plan, encoding_for};
use crate::error::Error;
use crate::map::SLOTS;
use crate::record::{Encoding, Record};
use crate::state::State;
use offshoot_format::{Flags, InvalidFlags};

pub(super) fn plan(state: &State, identity: &Identity, size_bytes: u64, thick: bool) -> Result<Plan, Error> {
    state.check_new_name(&identity.name)?;
    let len = state.clusters_for(size_bytes)?;
    let xattrs = identity.xattrs();
    let encoding = encoding_for(len, &xattrs);
    let mut flags = Flags::default();
    flags.invalid.set(InvalidFlags::THIN_PROV, !thick);
    let runs = if thick { state.back_clusters(0, len)? } else { alloc::vec![] };
    let extents = if thick && encoding == Encoding::Table {
        usize::try_from(len.div_ceil(SLOTS as u64)).unwrap_or(usize::MAX)
    } else {
        0
    };
    let needed = 2 + extents + extents / 256;
    let id = state.new_roots(1, needed)?[0];
    let create = Record::Create { id, flags, xattrs, len, runs: runs.clone(), encoding };
    Ok(Plan {
        records: alloc::vec![create],
        zero: runs,
        md_pages: needed,
        made: alloc::vec![id],
        ..Plan::default()
    })
}
