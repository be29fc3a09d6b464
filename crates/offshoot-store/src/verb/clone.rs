//! Clone: a writable child of a snapshot. Owns nothing until it is written to.

use super::{Identity, Plan};
use crate::error::Error;
use crate::limits::CHAIN_DEPTH_MAX;
use crate::record::Record;
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::BlobId;

pub(super) fn plan(state: &State, parent_id: BlobId, identity: &Identity) -> Result<Plan, Error> {
    state.check_new_name(&identity.name)?;
    let parent = state.sound_lvol(parent_id)?;
    if !parent.is_read_only() {
        return Err(Error::CloneOfWritable(parent.display_name()));
    }
    let depth = state.depth(parent) + 1;
    if depth > CHAIN_DEPTH_MAX {
        return Err(Error::ChainTooDeep { name: parent.display_name(), depth: depth - 1 });
    }
    let (to_tables, pages) = state.family_to_tables(parent_id)?;
    let id = state.new_roots(1, pages + 2)?[0];
    let clone = Record::Clone { parent: parent_id, id, len: parent.len, xattrs: identity.xattrs() };
    let records: Vec<Record> = to_tables.into_iter().chain([clone]).collect();
    Ok(Plan { records, md_pages: pages + 2, made: alloc::vec![id], ..Plan::default() })
}
