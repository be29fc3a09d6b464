//! Reading: one device operation per contiguous run, all in parallel.

use super::{Engine, OpOwner, Reply, Target, Task, TaskId, Ticket, check_range};
use crate::error::Error;
use crate::io::{Epoch, Origin, Segment, cut_externals};
use crate::record::Record;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_block::{Buffer, DeviceError, DeviceOffset, DeviceOp};
use offshoot_format::BlobId;

/// A device that an external snapshot lies on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attached {
    pub(super) number: u32,
    pub(super) size_bytes: u64,
    /// Smallest unit of I/O in bytes.
    pub(super) sector: u64,
}

#[derive(Debug)]
pub(super) struct ReadTask {
    ticket: Ticket,
    lvol: BlobId,
    range: Range<u64>,
    /// Away while the whole read is one device operation.
    buffer: Option<Buffer>,
    pending: usize,
    error: Option<Error>,
    /// Whether some of it comes from the external snapshot.
    is_external: bool,
    /// Whether what it looks at may be another lvol's by now, which writes to it: it has to look again.
    stale: bool,
    /// Whether its lvol is gone. Its id may be another one's by now.
    gone: bool,
    epoch: Epoch,
}

impl Engine {
    pub(super) fn start_read(&mut self, ticket: Ticket, lvol: BlobId, offset: u64, mut buffer: Buffer) {
        // The list is kept between reads: resolving allocates nothing.
        let mut segments = core::mem::take(&mut self.segments);
        if let Err(error) = self.resolve_read(lvol, offset, buffer.len() as u64, &mut segments) {
            self.segments = segments;
            return self.reply(ticket, Err(error));
        }
        let epoch = self.commit.epochs.begin();
        let task = TaskId(self.tasks.insert(Task::Read(ReadTask {
            ticket,
            lvol,
            range: offset..offset + buffer.len() as u64,
            buffer: None,
            pending: segments.len(),
            error: None,
            is_external: segments.iter().any(|segment| matches!(segment.origin, Origin::External(_))),
            stale: false,
            gone: false,
            epoch,
        })));
        if let [only] = segments[..]
            && let Some((target, at)) = self.locate(lvol, only.origin)
            && self.is_aligned(target, at, only.len)
        {
            self.segments = segments;
            return self.emit(target, OpOwner::WholeRead { task }, DeviceOp::Read { offset: at, buffer });
        }
        for segment in &segments {
            if segment.origin == Origin::Zeros {
                let start = index(segment.start - offset);
                buffer.as_mut_slice()[start..start + index(segment.len)].fill(0);
            }
        }
        self.with_read(task, |read| read.buffer = Some(buffer));
        for segment in segments.drain(..) {
            match self.locate(lvol, segment.origin) {
                None => self.segment_done(task, 0, None, Ok(())),
                Some((target, at)) => {
                    let (aligned, skip, padded) = self.pad(target, at, segment.len);
                    let (at, len) = (index(segment.start - offset), index(segment.len));
                    let owner = OpOwner::Segment { task, at, len, skip };
                    let op = DeviceOp::Read { offset: aligned, buffer: Buffer::zeroed(padded) };
                    self.emit(target, owner, op);
                }
            }
        }
        self.segments = segments;
        self.finish_read_if_done(task);
    }

    pub(super) fn whole_read_done(
        &mut self,
        task: TaskId,
        buffer: Option<Buffer>,
        result: Result<(), DeviceError>,
    ) {
        self.with_read(task, |read| {
            read.buffer = buffer;
            read.pending -= 1;
            read.error = read.error.take().or(result.err().map(Error::Device));
        });
        self.finish_read_if_done(task);
    }

    pub(super) fn segment_done(
        &mut self,
        task: TaskId,
        at: usize,
        bytes: Option<&[u8]>,
        result: Result<(), DeviceError>,
    ) {
        self.with_read(task, |read| {
            read.pending -= 1;
            if let (Some(bytes), Some(buffer)) = (bytes, &mut read.buffer) {
                buffer.as_mut_slice()[at..at + bytes.len()].copy_from_slice(bytes);
            }
            if let Err(error) = result {
                read.error = Some(Error::Device(error));
            }
        });
        self.finish_read_if_done(task);
    }

    /// Device and position of a segment; `None` for zeros.
    pub(super) fn locate(&self, lvol: BlobId, origin: Origin) -> Option<(Target, DeviceOffset)> {
        match origin {
            Origin::Zeros | Origin::Unknown => None,
            Origin::Store(offset) => Some((Target::Store, offset)),
            Origin::External(offset) => Some((Target::External(self.external_of(lvol)?.number), offset)),
        }
    }

    fn external_of(&self, lvol: BlobId) -> Option<Attached> {
        let external = self.state.blob(lvol)?.external.as_ref()?;
        self.externals.get(&external.name()).copied()
    }

    /// Smallest unit of I/O of a device in bytes.
    fn sector_of(&self, target: Target) -> u64 {
        match target {
            Target::Store => self.sector,
            Target::External(number) => {
                let external = self.externals.values().find(|external| external.number == number);
                external.map_or(self.sector, |external| external.sector)
            }
        }
    }

    fn is_aligned(&self, target: Target, at: DeviceOffset, len: u64) -> bool {
        let sector = self.sector_of(target);
        at.0.is_multiple_of(sector) && len.is_multiple_of(sector)
    }

    /// A device range widened to whole sectors: its start, where the wanted bytes begin in it, and its length.
    pub(super) fn pad(&self, target: Target, at: DeviceOffset, len: u64) -> (DeviceOffset, usize, usize) {
        let sector = self.sector_of(target);
        let start = at.0 / sector * sector;
        let end = (at.0 + len).next_multiple_of(sector);
        (DeviceOffset(start), index(at.0 - start), index(end - start))
    }

    /// The segments of a range, after all checks that a read of it needs.
    pub(super) fn resolve_read(
        &self,
        lvol: BlobId,
        offset: u64,
        len: u64,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Error> {
        let blob = self.state.blob(lvol).filter(|blob| !blob.dying).ok_or(Error::UnknownBlob(lvol))?;
        let range = offset..offset.saturating_add(len);
        check_range(&range, self.state.bytes(blob))?;
        self.state.resolve(blob, range, segments);
        if let Some(unknown) = segments.iter().find(|segment| segment.origin == Origin::Unknown) {
            let (name, offset, len) = (blob.display_name(), unknown.start, unknown.len);
            return Err(Error::UnknownPart { name, offset, len });
        }
        if let Some(lost) = segments.iter().find(|segment| self.may_be_lost(segment)) {
            let (name, offset, len) = (blob.display_name(), lost.start, lost.len);
            return Err(Error::MayBeLost { name, offset, len });
        }
        if segments.iter().any(|segment| matches!(segment.origin, Origin::External(_))) {
            let external = self.external_of(lvol).ok_or_else(|| Error::Degraded(blob.display_name()))?;
            cut_externals(segments, external.size_bytes);
        }
        Ok(())
    }

    /// Whether a sync that failed may have left something else there than what was written.
    fn may_be_lost(&self, segment: &Segment) -> bool {
        match segment.origin {
            Origin::Store(at) => self.commit.uncovered.may_have_lost(&(at.0..at.0 + segment.len)),
            Origin::Zeros | Origin::Unknown | Origin::External(_) => false,
        }
    }

    /// What was on its way when a sync failed is looked at again.
    fn check_lost(&self, read: &ReadTask) -> Result<(), Error> {
        match self.commit.uncovered.has_lost() {
            true => self.resolve_read(
                read.lvol,
                read.range.start,
                read.range.end - read.range.start,
                &mut Vec::new(),
            ),
            false => Ok(()),
        }
    }

    fn with_read(&mut self, task: TaskId, change: impl FnOnce(&mut ReadTask)) {
        if let Some(Task::Read(read)) = self.tasks.get_mut(task.0) {
            change(read);
        }
    }

    /// A record was applied that may take away what a read looks at. When a snapshot goes into another lvol, that one
    /// writes to what was the snapshot's, at which others may be looking as well: those of an lvol that read from the
    /// snapshot, or was its origin, when they began.
    pub(super) fn divert_reads(&mut self, record: &Record) {
        let (gone, heir) = match record {
            Record::MarkDying { blob } => (*blob, None),
            Record::Adopt { snapshot, clone } => (*snapshot, Some(*clone)),
            _ => return,
        };
        for task in self.tasks.values_mut() {
            if let Task::Read(read) = task {
                read.gone |= read.lvol == gone;
                read.stale |= heir.is_some_and(|heir| heir != read.lvol);
            }
        }
    }

    fn finish_read_if_done(&mut self, task: TaskId) {
        match self.tasks.get(task.0) {
            Some(Task::Read(read)) if read.pending == 0 => {}
            _ => return,
        }
        if let Some(Task::Read(read)) = self.tasks.remove(task.0) {
            self.commit.epochs.end(read.epoch);
            if read.stale && read.gone {
                return self.reply(read.ticket, Err(Error::UnknownBlob(read.lvol)));
            }
            if let (true, None, Some(_)) = (read.stale, &read.error, &read.buffer) {
                let (lvol, offset) = (read.lvol, read.range.start);
                return self.start_read(read.ticket, lvol, offset, read.buffer.unwrap_or_default());
            }
            let lost = self.check_lost(&read);
            if read.is_external && read.error.is_none() && !read.gone {
                self.keep_read(read.lvol, &read.range);
            }
            let result = match (read.error, read.buffer) {
                (Some(error), _) => Err(error),
                (None, buffer) => lost.map(|()| Reply::Buffer(buffer.unwrap_or_default())),
            };
            self.reply(read.ticket, result);
        }
    }
}

/// A length or distance within a buffer. Buffers are in memory, so it fits.
#[expect(clippy::cast_possible_truncation, reason = "bounded by the length of a buffer")]
pub(super) fn index(bytes: u64) -> usize {
    bytes as usize
}
