//! Copy on read as small jobs that nobody has asked for and nobody waits for: behind a read of an external snapshot what
//! was read is filled into the lvol. Where there is no space, or too much is being kept already, it is not.

use super::Work;
use crate::blob::XATTR_COPY_ON_READ;
use crate::engine::Engine;
use crate::limits::KEPT_AT_ONCE;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId};

impl Engine {
    /// A range of an lvol was read, and some of it came from its external snapshot.
    pub(in crate::engine) fn keep_read(&mut self, lvol: BlobId, range: &Range<u64>) {
        let is_wanted = self.state.blob(lvol).is_some_and(|blob| blob.xattr(XATTR_COPY_ON_READ).is_some());
        if !is_wanted || self.transition.is_ending() || self.check_writable().is_err() || range.is_empty() {
            return;
        }
        let units = self.state.units;
        for at in range.start / units.cluster..range.end.div_ceil(units.cluster) {
            let base = at * units.cluster;
            let bytes = range.start.max(base) - base..range.end.min(base + units.cluster) - base;
            let block = |number: u64| u32::try_from(number).unwrap_or(units.blocks).min(units.blocks);
            let (first, end) = (block(bytes.start / units.block), block(bytes.end.div_ceil(units.block)));
            let at = BlobCluster(at);
            let work = Work::Keep { lvol, at, first, end };
            if self.kept_now() >= KEPT_AT_ONCE {
                return;
            }
            let blob = self.state.blob(lvol);
            let is_needed = blob.is_some_and(|blob| self.state.keep_need(blob, at, &(first..end)).is_some());
            if is_needed && !self.is_excluded(work) {
                let ticket = self.next_ticket();
                self.begin_job(ticket, work, None, false);
            }
        }
    }

    fn kept_now(&self) -> usize {
        self.jobs.jobs.values().filter(|job| !job.is_asked_for).count()
    }
}
