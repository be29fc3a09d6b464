//! Growing as a job: first the size, then the md region, each by one change of the super block ([`super::super::grow`]).
//!
//! The clusters that the md region takes are behind a fence from the start: nobody gets one of them any more. What lvols
//! own there is filled into other clusters; what records have let go of, and what writes have chosen, comes back by itself.
//! A journal that lies there moves, too. Once nobody has any of them they are zeroed, so that nothing in them can be taken
//! for metadata, and the md region takes them.

use super::{Phase, Ticket, Work};
use crate::engine::life::Growing;
use crate::engine::{Engine, OpOwner, Target};
use crate::error::Error;
use crate::journal::{Taken, taken_by};
use crate::limits::DISCARD_BYTES;
use crate::verb::WorkCost;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_block::{DeviceError, DeviceOffset, DeviceOp};
use offshoot_format::{BlobId, MdPageIdx};

impl Engine {
    /// How many md pages the store should have at a size: those it has, unless these run short and there is room for
    /// more.
    #[must_use]
    pub fn md_pages_at(&self, size_bytes: u64) -> u32 {
        let layout = &self.state.layout;
        let area = self.journal.area.filter(|area| layout.contains_md(area.start));
        let wanted = self.state.md_pages_at(size_bytes, area.map_or(0, |area| area.len + area.masks));
        let Ok(grown) = layout.grown(size_bytes, wanted) else { return layout.md_len };
        let more = u64::from(grown.total_clusters - layout.total_clusters);
        // Whether somebody has them or not: each is one less for data.
        let has_room = self.way_of(wanted).len() as u64 <= self.state.clusters.available() as u64 + more;
        if has_room { wanted } else { layout.md_len }
    }

    /// What growing takes besides the change itself: clusters that have to be moved.
    pub(super) fn grow_cost(&self, size_bytes: u64, md_pages: u32) -> Result<WorkCost, Error> {
        self.check_growth(size_bytes, md_pages)?;
        let way = self.way_of(md_pages);
        Ok(if self.used_within(&way) > 0 { self.state.move_cost(&way) } else { WorkCost::default() })
    }

    fn check_growth(&self, size_bytes: u64, md_pages: u32) -> Result<(), Error> {
        self.check_writable()?;
        let grown = self.state.grown(size_bytes, md_pages)?;
        grown.super_block_copy().map(drop).ok_or(Error::NoSuperBlockCopy)
    }

    /// The blobs that may have something in the way of so many md pages.
    pub(super) fn owners_in_way(&self, md_pages: u32) -> Vec<BlobId> {
        match self.used_within(&self.way_of(md_pages)) {
            0 => Vec::new(),
            _ => self.state.blobs().filter(|blob| blob.own_clusters > 0).map(|blob| blob.id).collect(),
        }
    }

    /// Whether more clusters are kept for moving than there are left to be moved.
    pub(super) fn keeps_too_many(&self, ticket: Ticket, md_pages: u32, kept: usize) -> bool {
        kept + self.clusters_of_fills(ticket) > self.used_within(&self.way_of(md_pages))
    }

    fn used_within(&self, clusters: &Range<u32>) -> usize {
        clusters.clone().filter(|cluster| self.state.clusters.is_used(*cluster)).count()
    }

    /// The clusters that so many md pages take and that are not theirs yet.
    fn way_of(&self, md_pages: u32) -> Range<u32> {
        self.state.layout.clusters_for_md(md_pages)
    }

    /// Begins with what is next. Says whether there is nothing to move, or not yet.
    pub(super) fn plan_growth(&mut self, ticket: Ticket, size_bytes: u64, md_pages: u32) -> bool {
        if let Err(error) = self.check_growth(size_bytes, md_pages) {
            self.end_job(ticket, error);
            self.step_job(ticket);
            return true;
        }
        let present = (self.state.layout.size_bytes, self.state.layout.md_len);
        if present == (size_bytes, md_pages) {
            self.finish_job(ticket);
            return true;
        }
        if present.0 != size_bytes {
            self.begin_change(ticket, size_bytes, present.1);
            return true;
        }
        self.free_space(ticket);
        let way = self.way_of(md_pages);
        let needed = way.len() as u64;
        if self.state.clusters.put_up_fence(way) {
            return false;
        }
        if self.may_reclaim() {
            self.want_space();
            return true;
        }
        let free = self.state.clusters.available() as u64;
        self.end_job(ticket, Error::NoClusters { needed, free });
        self.step_job(ticket);
        true
    }

    /// As far as the job knows nothing is left to be moved.
    pub(super) fn settle_growth(&mut self, ticket: Ticket, md_pages: u32) {
        let left = self.state.clusters.left_behind_fence();
        if left == 0 {
            let layout = &self.state.layout;
            let end = |pages| layout.md_page_offset(MdPageIdx(pages));
            let clearing = end(layout.md_len)..end(md_pages);
            if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
                job.clearing = clearing;
                job.phase = Phase::End;
            }
            return self.clear_next(ticket);
        }
        let way = self.way_of(md_pages);
        let used = self.used_within(&way);
        if used > 0 && !self.is_releasing() && !self.verb_is_running() {
            return self.set_phase(ticket, Phase::Plan);
        }
        if used == 0 && left == self.journal_within(&way) {
            let layout = &self.state.layout;
            return self.begin_change(ticket, layout.size_bytes, layout.md_len);
        }
        self.want_space();
    }

    /// How many of some clusters the journal has.
    fn journal_within(&self, way: &Range<u32>) -> usize {
        let area = self.journal.area.map(|area| taken_by(&self.state.layout, area));
        match area {
            Some(Taken::Clusters(taken)) => (taken.start.max(way.start)..taken.end.min(way.end)).len(),
            Some(Taken::Md(_)) | None => 0,
        }
    }

    /// Zeroes what the md region is about to take, a piece at a time; then the md region takes it.
    fn clear_next(&mut self, ticket: Ticket) {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        let Work::Grow { size_bytes, md_pages } = job.work else { return };
        if job.clearing.is_empty() {
            return self.begin_change(ticket, size_bytes, md_pages);
        }
        let offset = DeviceOffset(job.clearing.start);
        let len = DISCARD_BYTES.min(job.clearing.end - job.clearing.start);
        job.clearing.start += len;
        job.under_way += 1;
        let op = DeviceOp::WriteZeroes { offset, len, may_unmap: true };
        self.emit(Target::Store, OpOwner::Clearing { job: ticket }, op);
    }

    /// A piece has been zeroed.
    pub(in crate::engine) fn clearing_done(&mut self, ticket: Ticket, result: Result<(), DeviceError>) {
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        job.under_way -= 1;
        match result {
            Err(error) => self.end_job(ticket, Error::Device(error)),
            Ok(()) if job.error.is_none() => self.clear_next(ticket),
            Ok(()) => {}
        }
        if self.jobs.jobs.get(&ticket).is_some_and(|job| job.error.is_some()) {
            self.step_job(ticket);
        }
    }

    /// The super block is to change: to this size, to so many md pages, or to another place of the journal.
    fn begin_change(&mut self, ticket: Ticket, size_bytes: u64, md_pages: u32) {
        let layout = match self.state.grown(size_bytes, md_pages) {
            Ok(layout) => layout,
            Err(error) => {
                self.end_job(ticket, error);
                return self.step_job(ticket);
            }
        };
        if let Some(job) = self.jobs.jobs.get_mut(&ticket) {
            job.phase = Phase::End;
            job.under_way += 1;
        }
        self.transition.growing = Some(Growing { ticket, layout, area: None });
        self.append();
    }

    /// It has changed, or will not.
    pub(in crate::engine) fn change_done(&mut self, ticket: Ticket, result: Result<(), Error>) {
        let layout = &self.state.layout;
        let present = (layout.size_bytes, layout.md_len);
        let Some(job) = self.jobs.jobs.get_mut(&ticket) else { return };
        job.under_way -= 1;
        job.settled += 1;
        job.phase = Phase::Plan;
        match result {
            Err(error) => self.end_job(ticket, error),
            // Also when it was to be ended meanwhile: it is done.
            Ok(()) if matches!(job.work, Work::Grow { size_bytes, md_pages } if present == (size_bytes, md_pages)) =>
            {
                job.error = None;
            }
            Ok(()) => {}
        }
        self.step_job(ticket);
    }
}
