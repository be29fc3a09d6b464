//! Set parent: what an lvol does not hold itself it reads from elsewhere, or nowhere. One record, whatever the sizes.

use super::{Plan, Underlay, check_metadata};
use crate::blob::Blob;
use crate::error::Error;
use crate::limits::CHAIN_DEPTH_MAX;
use crate::record::{Below, Record};
use crate::state::State;
use alloc::{string::ToString, vec::Vec};
use offshoot_format::BlobId;

pub(super) fn plan(state: &State, id: BlobId, underlay: &Underlay) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(id)?;
    check_metadata(lvol)?;
    if !lvol.is_thin() {
        return Err(Error::ThickLvol(lvol.display_name()));
    }
    state.check_no_clones(lvol)?;
    let (below, members) = match underlay {
        Underlay::Nothing if lvol.parent.is_none() && !lvol.external_is_parent => {
            return Err(Error::NoParent(lvol.display_name()));
        }
        Underlay::Nothing => (Below::Nothing, Vec::new()),
        Underlay::Snapshot(parent) => {
            check_parent(state, lvol, *parent)?;
            (Below::Blob(*parent), alloc::vec![id, *parent])
        }
        Underlay::External(uuid) => {
            let external = state.external_id(*uuid)?;
            if lvol.external_is_parent && lvol.external.as_ref().is_some_and(|own| own.id == external) {
                return Err(Error::ParentAlready { name: lvol.display_name(), parent: uuid.to_string() });
            }
            (Below::External(external), Vec::new())
        }
    };
    let mut records = Vec::new();
    // Whatever the order of its descriptors: the chain and one page more.
    let mut md_pages = lvol.chain_pages_at_most() + 1;
    for member in members {
        let (to_tables, pages) = state.family_to_tables(member)?;
        md_pages += pages;
        // One family converts its maps once.
        records.extend(to_tables.filter(|record| !records.contains(record)));
    }
    let spare = state.md_spare();
    if spare < md_pages {
        return Err(Error::NoMdPages { needed: md_pages as u64, free: spare as u64 });
    }
    records.push(Record::SetParent { blob: id, below });
    Ok(Plan { records, md_pages, ..Plan::default() })
}

/// Whether an lvol can be put onto a snapshot.
fn check_parent(state: &State, lvol: &Blob, parent_id: BlobId) -> Result<(), Error> {
    let parent = state.sound_lvol(parent_id)?;
    let (name, parent_name) = (lvol.display_name(), parent.display_name());
    if parent_id == lvol.id || !parent.is_read_only() {
        return Err(Error::CloneOfWritable(parent_name));
    }
    if lvol.parent == Some(parent_id) {
        return Err(Error::ParentAlready { name, parent: parent_name });
    }
    if lvol.len != parent.len {
        let (size, parent_size) = (state.bytes(lvol), state.bytes(parent));
        return Err(Error::SizesDiffer { name, size, parent: parent_name, parent_size });
    }
    let depth = state.depth(parent);
    if depth + 1 > CHAIN_DEPTH_MAX {
        return Err(Error::ChainTooDeep { name: parent_name, depth });
    }
    Ok(())
}
