//! Remove: an lvol that nothing depends on dies; a snapshot with one clone hands everything to it. Of a damaged lvol
//! that goes, what is known and nobody else claims comes free.

use super::Plan;
use crate::error::Error;
use crate::record::Record;
use crate::state::State;
use alloc::{string::String, vec::Vec};
use offshoot_format::BlobId;

/// Names listed in a refusal before it says how many more there are.
const NAMES_LISTED: usize = 8;

pub(super) fn plan(state: &State, id: BlobId) -> Result<Plan, Error> {
    let lvol = state.lvol(id)?;
    let mut clones = lvol.clones.iter();
    let (record, handed_over) = match (clones.next(), clones.next()) {
        (None, _) => (Record::MarkDying { blob: id }, None),
        // What is not known of a damaged snapshot cannot be handed to anybody: its clones go first.
        (Some(clone), None) if lvol.damage.is_none() => {
            state.sound_lvol(*clone)?;
            (Record::Adopt { snapshot: id, clone: *clone }, Some(*clone))
        }
        _ => {
            let mut names: Vec<String> =
                lvol.clones.iter().take(NAMES_LISTED).map(|clone| display(state, *clone)).collect();
            if lvol.clones.len() > NAMES_LISTED {
                names.push(alloc::format!("and {} more", lvol.clones.len() - NAMES_LISTED));
            }
            let (name, count) = (lvol.display_name(), lvol.clones.len());
            return Err(Error::HasClones { name, count, clones: names.join(", ") });
        }
    };
    Ok(Plan { records: alloc::vec![record], handed_over, ..Plan::default() })
}

fn display(state: &State, id: BlobId) -> String {
    state.blob(id).map_or_else(String::new, crate::blob::Blob::display_name)
}
