//! Remove: an lvol that nothing depends on dies; a snapshot with one clone hands everything to it. Of a damaged lvol
//! that goes, what is known and nobody else claims comes free.

use super::Plan;
use crate::blob::Blob;
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use offshoot_format::BlobId;

pub(super) fn plan(state: &State, id: BlobId) -> Result<Plan, Error> {
    let removable = |blob: &&Blob| state.is_lvol(blob) || state.is_deferred(blob);
    let lvol = state.blob(id).filter(removable).ok_or(Error::UnknownBlob(id))?;
    let mut clones = lvol.clones.iter();
    let (record, handed_over) = match (clones.next(), clones.next()) {
        (None, _) => (Record::MarkDying { blob: id }, None),
        // What is not known of a damaged snapshot cannot be handed to anybody: its clones go first.
        (Some(clone), None) if lvol.damage.is_none() => {
            state.sound_blob(*clone)?;
            (Record::Adopt { snapshot: id, clone: *clone }, Some(*clone))
        }
        _ => {
            return Err(state.has_clones(lvol));
        }
    };
    Ok(Plan { records: alloc::vec![record], handed_over, ..Plan::default() })
}
