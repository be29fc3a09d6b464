//! The journal of a store that was not closed: what counts instead of the md pages, and what came after them.

use super::pages::MdPages;
use super::verify::{Finding, Found};
use crate::journal::{JournalDamage, decode_all, hold_area, mask_page_at, read_ring, written_images};
use crate::options::Session;
use crate::pool::Pool;
use crate::record::{MappedRun, Record};
use crate::rules::Rules;
use crate::state::State;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::ToString as _,
    vec::Vec,
};
use core::ops::Range;
use offshoot_format::{
    Bitmap, BlobId, ClusterIdx, JournalArea, Layout, LiveMaskPage, MaskKind, MdPageIdx, MdPageRun, PageImage,
    PreviousEpoch, SuperBlock, live_mask_pages,
};

/// What an opening for writing does before anything else, when a store was not closed.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Where the journal lies.
    pub area: JournalArea,
    /// The epoch that is recovered, and exactly what of it counts.
    pub previous: PreviousEpoch,
    /// Pages that a sealed checkpoint may not have brought to their places.
    pub images: BTreeMap<MdPageIdx, PageImage>,
    /// Pages that it zeroes.
    pub zeroed: Vec<MdPageRun>,
    /// Frames of the ring that are needed until recovery is complete: number, offset and length in bytes.
    pub live: Vec<(crate::record::Lsn, u64, u64)>,
    /// Frames behind the last barrier that were dropped, because the power may have been lost since.
    pub dropped: u64,
}

impl Recovery {
    /// What is behind a frame does not count.
    fn end_at(&mut self, lsn: u64) {
        self.previous.last_lsn = self.previous.last_lsn.min(lsn).max(self.previous.checkpoint);
        let last = self.previous.last_lsn;
        self.live.retain(|(frame, ..)| frame.0 <= last);
    }
}

/// A journal as it was read.
#[derive(Clone, Debug)]
pub(super) struct FoundJournal {
    /// Md pages and clusters in use, as far as is known.
    pub(super) masks: [Bitmap; 2],
    /// Of which nobody knows whether they are in use.
    unknown: [Vec<Range<u64>>; 2],
    pub(super) findings: Vec<Finding>,
    recovery: Recovery,
    /// Payloads of the frames to replay, by their numbers.
    frames: Vec<(u64, Vec<u8>)>,
    damage: Option<JournalDamage>,
    /// Intact frames behind what is missing.
    lost: u64,
    /// What checkpoints of this epoch wrote in place, and nothing has overwritten since: for a repair.
    pub(super) copies: BTreeMap<MdPageIdx, PageImage>,
    md_len: u32,
}

/// Bytes of ring and live masks.
pub(super) fn area_bytes(layout: &Layout, area: JournalArea) -> u64 {
    (u64::from(area.len) + u64::from(area.masks)) * u64::from(layout.md_page_size)
}

impl FoundJournal {
    /// Reads ring and live masks, which are `bytes`.
    pub(super) fn read(
        layout: &Layout,
        super_block: &SuperBlock,
        bytes: &[u8],
        session: Option<Session>,
        rules: Rules,
        keep_copies: bool,
    ) -> Option<Self> {
        let header = super_block.native.as_ref()?;
        let area = header.journal?;
        let page = layout.md_page_size as usize;
        let (ring, mask_bytes) = bytes.split_at_checked(area.len as usize * page)?;
        let replay = read_ring(ring, header, session, rules);
        let frames = replay.records.iter().map(|frame| (frame.header.lsn, frame.payload.to_vec())).collect();
        let mut findings = Vec::new();
        let mut unknown = [Vec::new(), Vec::new()];
        let masks = [(MaskKind::MdPages, layout.md_len), (MaskKind::Clusters, layout.total_clusters)];
        let masks = masks.map(|(kind, bits)| {
            let mut mask = Bitmap::new(bits as usize);
            for index in 0..live_mask_pages(bits) {
                let at = mask_page_at(layout, area, kind, index);
                let start = (at.0 - area.masks_start().0) as usize * page;
                let stored = mask_bytes.get(start..start + page).unwrap_or_default();
                let image = replay.images.get(&at).map_or(stored, |image| image.as_slice());
                if let Err(damage) = LiveMaskPage::decode(image, kind, index, &mut mask) {
                    unknown[kind as usize].push(LiveMaskPage::bits(index));
                    findings.push(Finding { lvol: None, what: Found::LiveMask { why: damage.to_string() } });
                }
            }
            mask
        });
        let copies = match keep_copies {
            true => written_images(ring, header, replay.decided.checkpoint),
            false => BTreeMap::new(),
        };
        let recovery = Recovery {
            area,
            previous: replay.decided,
            images: replay.images,
            zeroed: replay.zeroed,
            live: replay.live,
            dropped: replay.dropped,
        };
        Some(Self {
            masks,
            unknown,
            findings,
            recovery,
            frames,
            damage: replay.damage,
            lost: replay.lost,
            copies,
            md_len: layout.md_len,
        })
    }

    /// Md pages and clusters that may be in use although no readable blob owns them: held, so that nobody gets them,
    /// but records may say whose they are. Where every blob can be read there are none.
    fn unclaimed(&self, state: &mut State, pages: &MdPages) -> [Vec<u32>; 2] {
        let known = |kind: usize| self.masks[kind].iter_ones().filter_map(|unit| u32::try_from(unit).ok());
        let unknown = |kind: usize| {
            self.unknown[kind].iter().cloned().flatten().filter_map(|unit| u32::try_from(unit).ok())
        };
        let damaged = state.blobs().any(|blob| blob.damage.is_some());
        let is_empty = |page: &u32| pages.page(MdPageIdx(*page)).is_none();
        let (md_len, clusters_len) = (self.md_len, state.layout.total_clusters);
        // An empty md page is nobody's.
        let md = unknown(0).filter(|page| *page < md_len && !is_empty(page));
        let clusters = unknown(1).filter(|cluster| damaged && *cluster < clusters_len);
        let units = [known(0).chain(md).collect::<Vec<u32>>(), known(1).chain(clusters).collect()];
        let [md, clusters] = units;
        let hold = |pool: &mut Pool, units: Vec<u32>| {
            let units: Vec<u32> = units.into_iter().filter(|unit| pool.is_available(*unit)).collect();
            units.iter().for_each(|unit| pool.hold(*unit));
            units
        };
        [hold(&mut state.md, md), hold(&mut state.clusters, clusters)]
    }

    /// Whether a root that was found may be one: not if nobody knows whether its page is in use and a record is still
    /// to make that blob. A checkpoint had begun to write it.
    pub(super) fn is_root(&self, root: MdPageIdx, layout: &Layout) -> bool {
        if self.masks[0].get(root.0 as usize) {
            return true;
        }
        let id = BlobId::from_root(root);
        let records =
            self.frames.iter().filter_map(|(_, payload)| decode_all(payload, layout).ok()).flatten();
        !records.into_iter().any(|record| match record {
            Record::Create { id: made, .. }
            | Record::Snapshot { id: made, .. }
            | Record::Clone { id: made, .. } => made == id,
            _ => false,
        })
    }

    /// Md pages to look at: those in use, and those of which nobody knows, but not the journal's own.
    pub(super) fn wanted_md_pages(&self) -> Bitmap {
        let mut wanted = self.masks[0].clone();
        for unknown in &self.unknown[0] {
            set(&mut wanted, unknown.clone(), true);
        }
        let area = self.recovery.area;
        set(&mut wanted, u64::from(area.start.0)..area.end(), false);
        wanted
    }

    /// Puts the images of a checkpoint over what was read from their places.
    pub(super) fn overlay(&self, pages: &mut MdPages) {
        // Its live masks are no md pages.
        let area = u64::from(self.recovery.area.start.0)..self.recovery.area.end();
        let is_md = |at: MdPageIdx| at.0 < self.md_len && !area.contains(&u64::from(at.0));
        for (at, image) in self.recovery.images.iter().filter(|(at, _)| is_md(**at)) {
            pages.replace(*at, image);
        }
        for run in &self.recovery.zeroed {
            (u64::from(run.start.0)..run.end())
                .filter_map(|at| u32::try_from(at).ok())
                .for_each(|at| pages.remove(MdPageIdx(at)));
        }
    }

    /// Frames behind what is missing, which nobody can replay.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Gives up a frame and all behind it. Says whether there was such a frame.
    pub(super) fn give_up_from(&mut self, lsn: u64) -> bool {
        let before = self.frames.len();
        self.frames.retain(|(frame, _)| *frame < lsn);
        let given_up = before - self.frames.len();
        self.lost += given_up as u64;
        if given_up > 0 {
            self.recovery.end_at(lsn.saturating_sub(1));
        }
        given_up > 0
    }

    /// Clusters that its records name, those it lies in, and those of which nobody knows whether they are in use.
    pub(super) fn clusters(&self, layout: &Layout) -> Bitmap {
        let mut named = Bitmap::new(layout.total_clusters as usize);
        let records =
            self.frames.iter().filter_map(|(_, payload)| decode_all(payload, layout).ok()).flatten();
        for record in records {
            let clusters = clusters_of(&record).filter(|cluster| cluster.0 < layout.total_clusters);
            clusters.for_each(|cluster| named.set(cluster.0 as usize, true));
        }
        for cluster in (0..layout.total_clusters).map(ClusterIdx) {
            if in_area(layout, self.recovery.area, cluster) {
                named.set(cluster.0 as usize, true);
            }
        }
        self.unknown[1].iter().for_each(|unknown| set(&mut named, unknown.clone(), true));
        named
    }

    /// Brings a State that was assembled from the md pages up to date. Says what recovery has to do, and what of the
    /// journal makes no sense. With `go_on` frames that are missing end it, and no more.
    pub(super) fn replay(
        mut self,
        state: &mut State,
        pages: &MdPages,
        go_on: bool,
    ) -> (Option<Recovery>, Option<Found>) {
        hold_area(state, self.recovery.area);
        let unclaimed = self.unclaimed(state, pages);
        // No record is to blame for that.
        if let Some(shortage) = no_md_pages(state) {
            return (None, Some(shortage));
        }
        // Damaged lvols of which a snapshot should have taken over what they own.
        let mut handed_on = BTreeSet::new();
        for (lsn, payload) in &self.frames {
            let records = match decode_all(payload, &state.layout) {
                Ok(records) => records,
                Err(error) => {
                    return (None, Some(Found::JournalRecord { lsn: *lsn, why: error.to_string() }));
                }
            };
            for record in records {
                let record = readable_part(state, record);
                if clusters_of(&record).any(|cluster| in_area(&state.layout, self.recovery.area, cluster)) {
                    let why = "it names a cluster of the journal".into();
                    return (None, Some(Found::JournalRecord { lsn: *lsn, why }));
                }
                if let Record::MarkDying { blob } = &record
                    && handed_on.contains(blob)
                {
                    // What it owns by what is known does not go with it.
                    forget(state, *blob);
                }
                match state.fits(&record) {
                    Ok(()) => state.apply(&record),
                    // Its blob cannot be read, so neither can its history go on. What it owns stays its own.
                    // It is listed at least, with what it inherits from.
                    Err(_)
                        if matches!(record, Record::Clone { .. })
                            && record
                                .blobs()
                                .iter()
                                .all(|blob| state.blob(*blob).is_some_and(|blob| blob.damage.is_some())) =>
                    {
                        apply_damaged_clone(state, &record);
                    }
                    // Nobody knows which clusters went with it, and others may have been given them since.
                    Err(misfit) if hands_over_unread(state, &record) => {
                        disown(state, &record);
                        return (None, Some(Found::JournalRecord { lsn: *lsn, why: misfit.to_string() }));
                    }
                    Err(_) if record.blobs().iter().any(|blob| is_damaged(state, *blob)) => {
                        if let Record::Snapshot { origin, .. } = &record {
                            handed_on.insert(*origin);
                        }
                        protect(state, &record);
                        lose(state, &record);
                    }
                    Err(misfit) => {
                        return (None, Some(Found::JournalRecord { lsn: *lsn, why: misfit.to_string() }));
                    }
                }
            }
        }
        state.settle_freed();
        // What still has no owner may be a damaged blob's: it counts as used from here on. What a record has let go had one.
        let freed: [BTreeSet<u32>; 2] = [
            state.freed_md.iter().map(|page| page.0).collect(),
            state.freed_clusters.iter().map(|cluster| cluster.0).collect(),
        ];
        let pools = [&mut state.md, &mut state.clusters];
        for ((pool, units), freed) in pools.into_iter().zip(unclaimed).zip(freed) {
            for unit in units {
                if !pool.is_used(unit) && !freed.contains(&unit) {
                    pool.take(unit);
                }
            }
        }
        state.count_withheld();
        state.pack_if_short();
        if !state.has_checkpoint_pages() {
            let why = "what it adds up to takes more md pages than there are".into();
            return (None, Some(Found::JournalRecord { lsn: self.recovery.previous.last_lsn, why }));
        }
        match self.damage {
            None => (Some(self.recovery), None),
            Some(damage) if go_on => {
                if damage.lsn > self.recovery.previous.checkpoint {
                    self.recovery.end_at(damage.lsn - 1);
                }
                (Some(self.recovery), Some(Found::Journal(damage)))
            }
            Some(damage) => (None, Some(Found::Journal(damage))),
        }
    }
}

fn set(mask: &mut Bitmap, bits: Range<u64>, value: bool) {
    let len = mask.len();
    for bit in bits.map_while(|bit| usize::try_from(bit).ok()).take_while(|bit| *bit < len) {
        mask.set(bit, value);
    }
}

/// What to report when the next checkpoint takes more md pages than there are.
pub(super) fn no_md_pages(state: &State) -> Option<Found> {
    let (needed, free) = (state.md_debt, state.md.available());
    (!state.has_checkpoint_pages()).then_some(Found::NoMdPages { needed, free })
}

fn is_damaged(state: &State, blob: BlobId) -> bool {
    state.blob(blob).is_none_or(|blob| blob.damage.is_some())
}

/// A change of encoding is about each blob by itself: those that cannot be read stay as they are.
fn readable_part(state: &State, mut record: Record) -> Record {
    if let Record::UseExtentTable { blobs } = &mut record {
        blobs.retain(|blob| !is_damaged(state, *blob));
    }
    record
}

/// Whether a sound snapshot leaves what it has to a clone that cannot be read.
fn hands_over_unread(state: &State, record: &Record) -> bool {
    matches!(record, Record::Adopt { snapshot, clone }
        if !is_damaged(state, *snapshot) && state.blob(*clone).is_some_and(|blob| blob.damage.is_some()))
}

/// What a snapshot that was removed held may be gone: nothing of it is served, nor of what inherits from it.
fn disown(state: &mut State, record: &Record) {
    let Record::Adopt { snapshot, .. } = record else { return };
    if let Some(blob) = state.blobs.get_mut(snapshot) {
        blob.damage = Some("it was removed, and its clone cannot be read".into());
    }
    lose(state, record);
}

/// A clone of a damaged snapshot is as damaged, but it is there.
fn apply_damaged_clone(state: &mut State, record: &Record) {
    let Record::Clone { parent, id, .. } = record else { return };
    if state.blob(*id).is_some() || state.md.is_used(id.root().0) {
        return;
    }
    state.apply(record);
    let parent = state.blob(*parent).map(|blob| (blob.display_name(), blob.lost_len));
    let (parent, lost_len) = parent.unwrap_or_default();
    if let Some(clone) = state.blobs.get_mut(id) {
        clone.lost_len = lost_len.min(clone.len);
        clone.damage = Some(format!("it inherits from \"{parent}\", which is damaged"));
    }
}

/// Clusters that a record gives to a damaged blob are handed to nobody else.
fn protect(state: &mut State, record: &Record) {
    for ClusterIdx(cluster) in clusters_of(record) {
        if !state.clusters.is_used(cluster) {
            state.clusters.take(cluster);
        }
    }
}

/// What was known of a damaged blob is out of date once a record that changes its map cannot be applied. The next
/// checkpoint says so where its chain is, for the opening that does not find the record any more.
fn lose(state: &mut State, record: &Record) {
    let blobs = match record {
        Record::Map { blob, .. }
        | Record::ZeroBlocks { blob, .. }
        | Record::ZeroClusters { blob, .. }
        | Record::Resize { blob, .. } => alloc::vec![*blob],
        Record::SetParent { blob: id, .. } | Record::Bypass { blob: id, .. } => {
            // It may be sound itself, but what it is to read now is not.
            if let Some(blob) = state.blobs.get_mut(id) {
                blob.damage.get_or_insert_with(|| "what it inherits from is damaged".into());
            }
            alloc::vec![*id]
        }
        Record::Adopt { snapshot, clone } => alloc::vec![*snapshot, *clone],
        _ => Vec::new(),
    };
    blobs.into_iter().for_each(|blob| forget(state, blob));
}

/// Nothing is known of the map of a damaged blob any more. What it owns stays in use, and its pages stay where they are.
fn forget(state: &mut State, id: BlobId) {
    let Some(blob) = state.blobs.get_mut(&id).filter(|blob| blob.damage.is_some() && !blob.dying) else {
        return;
    };
    blob.lost_len = blob.len;
    blob.tree = crate::map::Tree::default();
    blob.own_clusters = 0;
    blob.outdated = true;
    if !blob.pages.unread {
        state.touch_chain(id);
    }
}

/// Clusters that a record gives to a blob.
fn clusters_of(record: &Record) -> impl Iterator<Item = ClusterIdx> + '_ {
    let one = match record {
        Record::Map { cluster, .. } | Record::Fill { cluster, .. } => Some(*cluster),
        _ => None,
    };
    let runs: &[MappedRun] = match record {
        Record::Create { runs, .. } | Record::Resize { runs, .. } => runs,
        _ => &[],
    };
    let runs = runs.iter().flat_map(|run| run.cluster.0..run.cluster.0 + run.length).map(ClusterIdx);
    one.into_iter().chain(runs)
}

/// Whether the journal lies in a cluster.
fn in_area(layout: &Layout, area: JournalArea, cluster: ClusterIdx) -> bool {
    let start = layout.md_page_offset(area.start);
    let end = start + area_bytes(layout, area);
    let cluster = layout.cluster_offset(cluster);
    cluster < end && start < cluster + u64::from(layout.cluster_size)
}
