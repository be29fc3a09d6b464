//! Snapshot: a read-only lvol that takes over everything the original holds; the original becomes its clone.

use super::{Identity, Plan, check_metadata};
use crate::error::Error;
use crate::limits::CHAIN_DEPTH_MAX;
use crate::record::Record;
use crate::state::State;
use alloc::{string::ToString, vec::Vec};
use offshoot_format::BlobId;

pub(super) fn plan(state: &State, items: &[(BlobId, Identity)]) -> Result<Plan, Error> {
    let mut needed = 0;
    let mut records = Vec::new();
    for (position, (lvol, identity)) in items.iter().enumerate() {
        state.check_new_name(&identity.name)?;
        if items[..position].iter().any(|(_, other)| other.name == identity.name) {
            return Err(Error::NameExists(identity.name.to_string()));
        }
        let origin = state.sound_lvol(*lvol)?;
        if origin.is_read_only() {
            return Err(Error::SnapshotOfReadOnly(origin.display_name()));
        }
        check_metadata(origin)?;
        if items[..position].iter().any(|(other, _)| other == lvol) {
            return Err(Error::InUse(origin.display_name()));
        }
        let depth = state.depth(origin);
        if depth >= CHAIN_DEPTH_MAX {
            return Err(Error::ChainTooDeep { name: origin.display_name(), depth });
        }
        let (to_tables, pages) = state.family_to_tables(*lvol)?;
        // Two lvols of one family convert it once.
        records.extend(to_tables.filter(|record| !records.contains(record)));
        needed += pages + origin.chain_pages_at_most() + 3;
    }
    let roots = state.new_roots(items.len(), needed)?;
    for ((origin, identity), id) in items.iter().zip(&roots) {
        let len = state.blob(*origin).map_or(0, |origin| origin.len);
        records.push(Record::Snapshot { origin: *origin, id: *id, len, xattrs: identity.xattrs() });
    }
    Ok(Plan { records, md_pages: needed, made: roots, ..Plan::default() })
}
