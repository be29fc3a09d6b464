//! Growing: one change of the super block, by which the store takes over a larger device, a longer md region, or another
//! place for its journal.
//!
//! Everything that is on its way is brought into the md pages first: a checkpoint, behind which no record is appended.
//! From then on the old journal says nothing that the md pages do not say, and another epoch can begin over the larger
//! store. That is one change of the super block. It concerns more than one sector, so the second super block is written
//! and synced before the first: whichever of the two counts after a crash, the store has the old size or the new one,
//! and no record names a cluster that is not there.
//!
//! Where that changes a bit of the live masks that are there, or their places, the new epoch has its journal elsewhere: the
//! masks of the old one stay true until it begins.
//!
//! Reads and overwrites go on meanwhile; what needs a record waits.

use super::Engine;
use super::life::{Growing, Life, Outcome, Step};
use crate::checkpoint::{self, Opening, write_pages, write_super_block};
use crate::error::Error;
use crate::journal::{Ground, Ring, Taken, choose_area, hold_area, holds_masks, live_masks, taken_by};
use alloc::{collections::VecDeque, vec::Vec};
use offshoot_format::{JournalArea, Layout, live_mask_pages};

impl Engine {
    /// Goes on with growing, if it is wanted. Called while no append is under way; says whether none may begin now.
    pub(super) fn grow_step(&mut self) -> bool {
        if !self.transition.is_growing() || self.transition.is_recovering() {
            return false;
        }
        if !self.is_settled() {
            self.checkpoint.wanted |= !self.checkpoint.is_running();
            return false;
        }
        let is_quiet = !self.checkpoint.is_running()
            && !self.checkpoint.wants_frames()
            && !self.journal.wants_barrier_frame()
            && !self.transition.marking;
        is_quiet && self.begin_growing()
    }

    /// Begins the change of the super block. Says whether it has: there may be no room for the journal.
    fn begin_growing(&mut self) -> bool {
        let (Some(area), Some(growing)) = (self.journal.area, &self.transition.growing) else { return false };
        let layout = growing.layout.clone();
        let mut md = self.state.md.clone();
        md.grow(layout.md_len as usize);
        let mut clusters = self.state.clusters.clone();
        clusters.grow(layout.total_clusters as usize);
        let way = self.state.layout.clusters_for_md(layout.md_len);
        if layout.md_len != self.state.layout.md_len {
            clusters.take_behind_fence();
        }
        let now = &self.state.layout;
        let keeps_area = holds_masks(area, &layout)
            && way.is_empty()
            && live_mask_pages(layout.md_len) == live_mask_pages(now.md_len)
            && layout != *now;
        let chosen = match keeps_area {
            true => Some(area),
            false => {
                let ground =
                    Ground { layout: &layout, md: &md, clusters: &clusters, ..Ground::of(&self.state) };
                choose_area(&ground, self.sector)
            }
        };
        let Some(chosen) = chosen else {
            return self.refuse_growing();
        };
        let opening = Opening {
            epoch: next_epoch(self.journal.epoch),
            session: self.journal.session,
            area: chosen,
            // The change itself counts as a frame, as in a recovery.
            start_lsn: self.journal.last.next().next().0,
            previous: None,
        };
        // Those that are there already are written as they are, or elsewhere: a crash finds them good either way.
        let masks = live_masks(&layout, [md.used(), clusters.used()], chosen, None);
        let grown = checkpoint::grown(&self.super_block, &layout, &opening);
        let mut steps = VecDeque::from([
            Step::Write(write_pages(&layout, &masks)),
            Step::Sync,
            self.write_copy(&checkpoint::replacing(&grown)),
            Step::Sync,
            Step::Write(Vec::from([write_super_block(&grown, 0)])),
            Step::Sync,
            self.write_copy(&grown),
        ]);
        if chosen != area && matches!(taken_by(now, area), Taken::Md(_)) {
            // Nothing in free md pages may look like metadata.
            let mut left = self.erase_ring();
            left.extend(self.erase_live_masks());
            steps.push_back(Step::Write(left));
        }
        // Nobody else gets it meanwhile. What is about to be there is nobody's.
        if chosen != area {
            hold_area(&mut self.state, chosen);
        }
        if let Some(growing) = &mut self.transition.growing {
            growing.area = Some(chosen);
        }
        self.begin(steps, grown, Outcome::Grown);
        true
    }

    fn refuse_growing(&mut self) -> bool {
        if let Some(growing) = self.transition.growing.take() {
            self.change_done(growing.ticket, Err(Error::NoRoomForJournal));
        }
        false
    }

    /// The super block says that the store has grown.
    pub(super) fn grown(&mut self) {
        let Some(Growing { ticket, layout, area }) = self.transition.growing.take() else { return };
        let before = core::mem::replace(&mut self.state.layout, layout);
        let layout = &self.state.layout;
        self.state.clusters.grow(layout.total_clusters as usize);
        self.state.md.grow(layout.md_len as usize);
        if layout.md_len != before.md_len {
            self.state.clusters.take_behind_fence();
        }
        self.state.md.take_changed();
        self.state.clusters.take_changed();
        let last = self.journal.last.next();
        let block = self.journal.ring.block() as u64;
        let mut ring = Ring::used_before(self.journal.ring.len(), block);
        if let (Some(old), Some(new)) = (self.journal.area, area)
            && old != new
        {
            self.move_journal(&before, old, new);
            let page = u64::from(self.state.layout.md_page_size);
            ring = Ring::new(u64::from(new.len) * page, block);
        }
        self.journal.begin_epoch(next_epoch(self.journal.epoch), last, ring);
        self.commit.cover(last);
        self.life = Life::Open;
        if core::mem::take(&mut self.transition.mark_is_due) {
            self.mark_device_error();
        }
        self.change_done(ticket, Ok(()));
        // There may be room now for those that wait for it.
        self.resume_for_space();
        self.append();
    }

    /// The journal lies elsewhere: what it had is anybody's.
    fn move_journal(&mut self, before: &Layout, old: JournalArea, new: JournalArea) {
        hold_area(&mut self.state, new);
        match taken_by(before, old) {
            Taken::Md(pages) => pages.for_each(|page| self.state.md.release(page)),
            Taken::Clusters(clusters) => {
                clusters.for_each(|cluster| self.state.clusters.release(cluster));
            }
        }
        self.journal.area = Some(new);
    }
}

/// The name of the epoch that follows another one of the same opening. The first one is random, so that none of them has
/// ever been used.
fn next_epoch(epoch: [u8; 16]) -> [u8; 16] {
    u128::from_le_bytes(epoch).wrapping_add(1).to_le_bytes()
}
