//! Revert: an lvol reads what one of its snapshots reads, whatever was written since. What it held goes to a blob that
//! dies at once, so that nothing is waited for and no data is read.

use super::{Plan, check_metadata};
use crate::error::Error;
use crate::record::{Below, Record};
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::BlobId;

pub(super) fn plan(state: &State, id: BlobId, snapshot_id: BlobId) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(id)?;
    check_metadata(lvol)?;
    if lvol.is_read_only() {
        return Err(Error::ReadOnlyLvol(lvol.display_name()));
    }
    state.check_no_clones(lvol)?;
    let snapshot = state.sound_lvol(snapshot_id)?;
    if !snapshot.is_read_only() || !state.family(id).contains(&snapshot_id) {
        let (name, snapshot) = (lvol.display_name(), snapshot.display_name());
        return Err(Error::NotItsSnapshot { name, snapshot });
    }
    let (to_tables, pages) = state.family_to_tables(id)?;
    let md_pages = pages + lvol.chain_pages_at_most() + 3;
    let root = state.new_roots(1, md_pages)?[0];
    let mut records: Vec<Record> = to_tables.into_iter().collect();
    records.push(Record::Snapshot { origin: id, id: root, len: lvol.len, xattrs: Vec::new() });
    if lvol.len != snapshot.len {
        records.push(Record::Resize { blob: id, len: snapshot.len, runs: Vec::new() });
    }
    records.push(Record::SetParent { blob: id, below: Below::Blob(snapshot_id) });
    records.push(Record::MarkDying { blob: root });
    Ok(Plan { records, md_pages, aside: Some(root), ..Plan::default() })
}
