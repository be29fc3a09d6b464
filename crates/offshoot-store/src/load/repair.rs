//! What a repair changes while a store is loaded.
//!
//! A repair is an ordinary session: what is wrong is put right in State, what differs from the md pages is marked dirty,
//! and opening, checkpoint and close bring it to the device. Until that checkpoint is sealed the device says what it
//! said before, so a repair that ends early has repaired nothing and harmed nothing. What cannot be said in State, the
//! copies of clusters and the pages to erase, is handed to whoever drives the session.

use super::decode::Parts;
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
    /// Clusters that the journal is going to name, or of which its live masks tell nothing.
    spoken_for: Option<Bitmap>,
    /// Frames of the journal that are given up.
    lost: u64,
    next_free: usize,
    /// Md pages that may be asked for in place of those that two claim.
    pages_left: usize,
}

impl Repair {
    pub(super) fn new(spoken_for: Option<Bitmap>, lost: u64) -> Self {
        Self { spoken_for, lost, ..Self::default() }
    }

    /// Gives each but the first who claims a cluster a copy of its own, as far as there is space, and each but the first
    /// who claims an md page another one, as far as `free_pages` last: half of them, since the journal and other changes
    /// need some too. Clusters that are `taken` may be anybody's. Says what is to be copied.
    pub(super) fn part_owners(
        &mut self,
        all: &mut BTreeMap<BlobId, Parts>,
        owners: &mut Owners,
        taken: &[&Bitmap],
        free_pages: usize,
    ) -> &[ClusterCopy] {
        self.pages_left = free_pages / 2;
        let claims_doubled = |parts: &Parts| {
            parts.clusters().any(|cluster| owners.is_doubled(cluster))
                || parts.mapped_pages().any(|page| owners.is_doubled_md(page))
        };
        let claimers = all.iter().filter(|(_, parts)| claims_doubled(parts));
        // One that is damaged will not be written: it keeps what it claims, and others move.
        let mut order: Vec<(bool, BlobId)> = claimers.map(|(id, _)| (is_sound(all, *id), *id)).collect();
        order.sort_unstable();
        let mut held = Held::default();
        for (may_move, id) in order {
            let Some(parts) = all.get_mut(&id) else { continue };
            let is_doubled = |cluster: ClusterIdx| owners.is_doubled(cluster);
            let claims: Vec<ClusterIdx> = parts.clusters().filter(|cluster| is_doubled(*cluster)).collect();
            if !may_move {
                for cluster in claims {
                    held.clusters.entry(cluster).or_insert(id);
                }
                held.pages.extend(parts.mapped_pages().filter(|page| owners.is_doubled_md(*page)));
                continue;
            }
            if !claims.is_empty() {
                self.part_clusters(id, parts, owners, taken, &mut held);
            }
            self.part_pages(parts, owners, &mut held.pages);
        }
        &self.repairs.copies
    }

    /// The clusters of one blob.
    fn part_clusters(
        &mut self,
        id: BlobId,
        parts: &mut Parts,
        owners: &mut Owners,
        taken: &[&Bitmap],
        held: &mut Held,
    ) {
        let mut moved = 0;
        let spoken_for = self.spoken_for.as_ref();
        let is_taken = |cluster| taken.iter().copied().chain(spoken_for).any(|taken| taken.get(cluster));
        let mut place = |cluster: ClusterIdx, at: u64| {
            if !owners.is_doubled(cluster) {
                return None;
            }
            let Some(first) = held.clusters.get(&cluster).copied() else {
                held.clusters.insert(cluster, id);
                return None;
            };
            let to = owners.take_free(&mut self.next_free, is_taken)?;
            let text = format!("cluster {at} of blob {id} is a copy now: look at the content of both");
            let about = Found::ClusterOwners { cluster, first, second: id };
            self.repairs.notes.push(Note { about, text });
            self.repairs.copies.push(ClusterCopy { from: cluster, to });
            moved += 1;
            Some(to)
        };
        for (ordinal, slots) in &mut parts.full {
            let claims = (ordinal.first_cluster().0..).zip(slots.iter_mut()).filter(|(_, own)| **own != 0);
            for (at, own) in claims {
                if let Some(to) = place(ClusterIdx(*own), at) {
                    *own = to.0;
                    parts.changed.insert(*ordinal);
                }
            }
        }
        for (at, record) in &mut parts.layers {
            if let Some(to) = record.cluster.and_then(|cluster| place(cluster, at.0)) {
                record.cluster = Some(to);
                parts.changed.insert(ExtentOrdinal::of(*at).0);
            }
        }
        // A changed cluster splits at most one run into three.
        parts.pages.rle_runs += 2 * moved;
    }

    /// Md pages that another holds are not this blob's: it gets others.
    fn part_pages(&mut self, parts: &mut Parts, owners: &Owners, held: &mut BTreeSet<MdPageIdx>) {
        let mut is_lost = |page: MdPageIdx| {
            let is_lost = owners.is_doubled_md(page) && !held.insert(page) && self.pages_left > 0;
            self.pages_left -= usize::from(is_lost);
            is_lost
        };
        for (ordinal, md) in &mut parts.pages.ordinals {
            if md.lose_pages(&mut is_lost) {
                parts.changed.insert(*ordinal);
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

    /// State is what it will be: units that nothing refers to come free, and what was given up is told.
    pub(super) fn finish(mut self, state: &mut State) -> Repairs {
        state.release_surplus();
        self.repairs.lost_frames = self.lost;
        self.repairs
    }
}

/// Who holds what more than one claims.
#[derive(Default)]
struct Held {
    clusters: BTreeMap<ClusterIdx, BlobId>,
    pages: BTreeSet<MdPageIdx>,
}

/// Whether all of a blob and of what it inherits from can be read. Only such a blob is written.
fn is_sound(all: &BTreeMap<BlobId, Parts>, id: BlobId) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = Some(id);
    while let Some(blob) = next.filter(|blob| seen.insert(*blob)) {
        let Some(parts) = all.get(&blob).filter(|parts| parts.is_known()) else { return false };
        next = parts.md.parent();
    }
    true
}
