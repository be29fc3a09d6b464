//! What a repair changes while a store is loaded.
//!
//! A repair is an ordinary session: what is wrong is put right in State, what differs from the md pages is marked dirty,
//! and opening, checkpoint and close bring it to the device. Until that checkpoint is sealed the device says what it
//! said before, so a repair that ends early has repaired nothing and harmed nothing. What cannot be said in State, the
//! copies of clusters and the pages to erase, is handed to whoever drives the session.

use super::assemble::Parts;
use super::verify::{Found, Owners};
use crate::state::State;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use offshoot_format::{Bitmap, BlobId, ClusterIdx, ExtentOrdinal, MdPageIdx};

/// A cluster that two claimed: the second has a copy of it from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterCopy {
    /// What both claimed.
    pub from: ClusterIdx,
    /// What was free.
    pub to: ClusterIdx,
}

/// What was done about a finding, beyond what goes without saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What was wrong.
    pub about: Found,
    /// What was done, and what is to be looked at now.
    pub text: String,
}

/// What a repair has changed in State, and what it has to do on the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// To be copied before anything else, and synced.
    pub copies: Vec<ClusterCopy>,
    /// Md pages that hold something unreadable which nothing refers to. They are free from now on.
    pub erased: Vec<MdPageIdx>,
    /// Frames of the journal that are given up.
    pub lost_frames: u64,
    /// What is to be said.
    pub notes: Vec<Note>,
}

impl Repairs {
    /// What is to be said of a finding, if anything.
    #[must_use]
    pub fn note(&self, about: &Found) -> Option<String> {
        let same = |note: &&Note| match (&note.about, about) {
            (Found::ClusterOwners { cluster, .. }, Found::ClusterOwners { cluster: other, .. }) => {
                cluster == other
            }
            (Found::Damaged { blob, .. }, Found::Damaged { blob: other, .. }) => blob == other,
            (Found::RottenPages { .. }, Found::RottenPages { .. }) => true,
            (note, about) => note == about,
        };
        match about {
            Found::Journal(_) | Found::JournalRecord { .. } => {
                Some(format!("{} frames of the journal are given up", self.lost_frames))
            }
            _ => {
                let texts: Vec<&str> =
                    self.notes.iter().filter(same).map(|note| note.text.as_str()).collect();
                (!texts.is_empty()).then(|| texts.join("; "))
            }
        }
    }
}

/// A repair under way.
#[derive(Debug, Default)]
pub(super) struct Repair {
    pub(super) repairs: Repairs,
    /// Clusters that the journal is going to name.
    spoken_for: Option<Bitmap>,
    /// Frames of the journal that are given up.
    lost: u64,
    /// Maps that differ from their md pages now.
    dirty: BTreeSet<(BlobId, ExtentOrdinal)>,
    next_free: usize,
}

impl Repair {
    pub(super) fn new(spoken_for: Option<Bitmap>, lost: u64) -> Self {
        Self { spoken_for, lost, ..Self::default() }
    }

    /// Gives each but the first who claims a cluster a copy of its own, as far as there is space, and each but the first
    /// who claims an md page another one.
    pub(super) fn part_owners(
        &mut self,
        all: &mut BTreeMap<BlobId, Result<Parts, String>>,
        owners: &mut Owners,
        mask: Option<&Bitmap>,
    ) {
        // One whose parent is gone cannot be written: it keeps what it claims, and others move.
        let is_fixed = |parts: &Parts| parts.md.parent().is_some_and(|parent| !all.contains_key(&parent));
        let readable = all.iter().filter_map(|(id, parts)| Some((*id, parts.as_ref().ok()?)));
        let mut order: Vec<(bool, BlobId)> = readable.map(|(id, parts)| (!is_fixed(parts), id)).collect();
        order.sort_unstable();
        let (mut clusters, mut pages) = (BTreeMap::new(), BTreeSet::new());
        for (may_move, id) in order {
            let Some(Ok(parts)) = all.get_mut(&id) else { continue };
            let mut moved = 0;
            for (at, cluster) in parts.claims() {
                if !owners.is_doubled(*cluster) {
                    continue;
                }
                let Some(first) = clusters.get(cluster).copied() else {
                    clusters.insert(*cluster, id);
                    continue;
                };
                let mut free = || owners.take_free(&mut self.next_free, mask, self.spoken_for.as_ref());
                let Some(to) = may_move.then(&mut free).flatten() else { continue };
                let about = Found::ClusterOwners { cluster: *cluster, first, second: id };
                let text = format!(
                    "blob {id} has a copy of it in cluster {to} now: look at the content of both, at {} clusters from \
                     the start of blob {id}",
                    at.0
                );
                self.repairs.notes.push(Note { about, text });
                self.repairs.copies.push(ClusterCopy { from: *cluster, to });
                self.dirty.insert((id, ExtentOrdinal::of(at).0));
                *cluster = to;
                moved += 1;
            }
            // A changed cluster splits at most one run into three.
            parts.pages.rle_runs += 2 * moved;
            if may_move {
                self.part_pages(id, parts, owners, &mut pages);
            } else {
                pages.extend(parts.mapped_pages().filter(|page| owners.is_doubled_md(*page)));
            }
        }
    }

    fn part_pages(
        &mut self,
        id: BlobId,
        parts: &mut Parts,
        owners: &Owners,
        taken: &mut BTreeSet<MdPageIdx>,
    ) {
        for (ordinal, md) in &mut parts.pages.ordinals {
            let mut is_taken = |page: MdPageIdx| owners.is_doubled_md(page) && !taken.insert(page);
            if md.lose_pages(&mut is_taken) {
                self.dirty.insert((id, *ordinal));
            }
        }
    }

    /// Unreadable pages that nothing refers to are given up.
    pub(super) fn erase(&mut self, rotten: Vec<MdPageIdx>) {
        let about = Found::RottenPages { count: rotten.len() };
        let text = "erased: what they may have been is given up".into();
        self.repairs.notes.push(Note { about, text });
        self.repairs.erased = rotten;
    }

    /// Marks for writing what differs from the md pages.
    pub(super) fn mark_dirty(&self, state: &mut State) {
        for (id, ordinal) in &self.dirty {
            state.touch_ordinal(*id, *ordinal, crate::pages::OrdinalMd::rewrite);
        }
    }

    /// State is what it will be: units that nothing refers to come free, and what was given up is told.
    pub(super) fn finish(mut self, state: &mut State) -> Repairs {
        state.release_surplus();
        self.repairs.lost_frames = self.lost;
        self.repairs
    }
}
