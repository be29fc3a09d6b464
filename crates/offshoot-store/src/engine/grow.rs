//! Growing: the store takes over the size that its device has by now.
//!
//! Everything that is on its way is brought into the md pages first: a checkpoint, behind which no record is appended.
//! From then on the old journal says nothing that the md pages do not say, and another epoch can begin over the larger
//! store. That is one change of the super block. It concerns more than one sector, so the second super block is written
//! and synced before the first: whichever of the two counts after a crash, the store has the old size or the new one,
//! and no record names a cluster that is not there.
//!
//! Reads and overwrites go on meanwhile; what needs a record waits.

use super::life::{Growing, Life, Outcome, Step};
use super::{Engine, Reply, Ticket};
use crate::checkpoint::{self, Opening, write_pages, write_super_block};
use crate::error::Error;
use crate::journal::{Ring, holds_masks, live_masks};
use crate::state::State;
use alloc::{collections::VecDeque, vec::Vec};
use offshoot_format::{Layout, LayoutError};

impl State {
    /// What the store is like once it has grown to `size_bytes`. Fewer bytes than a cluster more make no cluster, but
    /// count as its size.
    ///
    /// # Errors
    /// It is larger than that, its masks have no room for so many clusters, or an lvol is damaged: nobody can tell what
    /// it owns of what was not there until now.
    pub fn grown(&self, size_bytes: u64) -> Result<Layout, Error> {
        let grown = self.layout.grown(size_bytes).map_err(|why| match why {
            LayoutError::Shrinks { size_bytes, present_bytes } => {
                Error::StoreShrinks { size: size_bytes, present: present_bytes }
            }
            _ => Error::StoreTooLarge { size: size_bytes, max: self.layout.growable_bytes() },
        })?;
        match self.blobs().find(|blob| blob.damage.is_some()) {
            Some(blob) => Err(Error::Damaged(blob.display_name())),
            None => Ok(grown),
        }
    }
}

impl Engine {
    /// Whether the store can grow to `size_bytes`, which is asked before its device does.
    ///
    /// # Errors
    /// Why not.
    pub fn check_grow(&self, size_bytes: u64) -> Result<(), Error> {
        self.grown_layout(size_bytes).map(drop)
    }

    /// Grows the store to `size_bytes`, which its device has already. The reply comes when that is durable. A store that
    /// has that size is left alone.
    pub fn grow(&mut self, size_bytes: u64) -> Ticket {
        let ticket = self.next_ticket();
        match self.grown_layout(size_bytes) {
            Err(error) => self.reply(ticket, Err(error)),
            Ok(_) if self.transition.is_growing() => self.reply(ticket, Err(Error::JobRunning)),
            Ok(layout) if layout == self.state.layout => self.reply(ticket, Ok(Reply::Done)),
            Ok(layout) => {
                self.transition.growing = Some(Growing { ticket, layout });
                self.append();
                self.run_ready();
            }
        }
        ticket
    }

    fn grown_layout(&self, size_bytes: u64) -> Result<Layout, Error> {
        self.check_writable()?;
        let layout = self.state.grown(size_bytes)?;
        if layout.super_block_copy().is_none() {
            return Err(Error::NoSuperBlockCopy);
        }
        match self.journal.area.filter(|area| !holds_masks(*area, &layout)) {
            Some(_) => Err(Error::JournalMasks { clusters: layout.total_clusters }),
            None => Ok(layout),
        }
    }

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
        if is_quiet {
            self.begin_growing();
        }
        is_quiet
    }

    fn begin_growing(&mut self) {
        let (Some(area), Some(growing)) = (self.journal.area, &self.transition.growing) else { return };
        let layout = growing.layout.clone();
        let opening = Opening {
            epoch: next_epoch(self.journal.epoch),
            session: self.journal.session,
            area,
            // The change itself counts as a frame, as in a recovery.
            start_lsn: self.journal.last.next().next().0,
            previous: None,
        };
        // Those that are there already are written as they are: a crash finds them good either way.
        let mut larger = self.state.clusters.clone();
        larger.grow(layout.total_clusters as usize);
        let masks = live_masks(&layout, [self.state.md.used(), larger.used()], area, None);
        let grown = checkpoint::grown(&self.super_block, &layout, &opening);
        let steps = VecDeque::from([
            Step::Write(write_pages(&layout, &masks)),
            Step::Sync,
            self.write_copy(&checkpoint::replacing(&grown)),
            Step::Sync,
            Step::Write(Vec::from([write_super_block(&grown, 0)])),
            Step::Sync,
            self.write_copy(&grown),
        ]);
        self.begin(steps, grown, Outcome::Grown);
    }

    /// The super block says that the store has grown.
    pub(super) fn grown(&mut self) {
        let Some(Growing { ticket, layout }) = self.transition.growing.take() else { return };
        self.state.clusters.grow(layout.total_clusters as usize);
        self.state.layout = layout;
        let last = self.journal.last.next();
        let (len, block) = (self.journal.ring.len(), self.journal.ring.block() as u64);
        self.journal.begin_epoch(next_epoch(self.journal.epoch), last, Ring::used_before(len, block));
        self.commit.cover(last);
        self.life = Life::Open;
        if core::mem::take(&mut self.transition.mark_is_due) {
            self.mark_device_error();
        }
        self.reply(ticket, Ok(Reply::Done));
        // There may be room now for those that wait for it.
        self.resume_for_space();
        self.append();
    }
}

/// The name of the epoch that follows another one of the same opening. The first one is random, so that none of them has
/// ever been used.
fn next_epoch(epoch: [u8; 16]) -> [u8; 16] {
    u128::from_le_bytes(epoch).wrapping_add(1).to_le_bytes()
}
