//! Writing, zeroing and unmapping: lock, plan, fill gaps, move data, commit, reply.
//!
//! A write to blocks that the lvol owns goes in place. A first write to a block goes to the lvol's own layer of
//! that cluster, which is allocated with the first block: 4 KiB cost 4 KiB, not a cluster. What a write leaves
//! uncovered of its first and last block is read from below and written along with it.

mod fill;
mod parts;
mod plan;

pub(super) use fill::Fill;

use super::journal::After;
use super::{Engine, OpOwner, Reply, Target, Task, TaskId, Ticket, check_range, read::index};
use crate::error::Error;
use crate::io::{Epoch, Mode};
use crate::record::Record;
use crate::rules::Clause;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_block::{Buffer, DeviceError, DeviceOffset, DeviceOp};
use offshoot_format::{BlobCluster, BlobId, ClusterIdx};

/// What is to be written.
#[derive(Debug)]
enum Kind {
    /// These bytes. Away while the whole write is one device operation.
    Data(Option<Buffer>),
    /// Zeros; `allocate` keeps or takes the space.
    Zeroes { allocate: bool },
    /// Whatever costs least.
    Unmap,
    /// What is there already, for a job.
    Fill(Fill),
}

/// One device operation of a write.
#[derive(Debug)]
struct Run {
    /// Bytes of the lvol that the operation covers.
    covers: Range<u64>,
    /// The part of them that the request wrote. The rest is filled from what was there.
    wanted: Range<u64>,
    /// Position of the first covered byte.
    device: DeviceOffset,
    /// What is written, once assembled; not for runs that are zeroed by the device or take the request's buffer.
    buffer: Option<Buffer>,
}

/// Blocks that become the lvol's own, and the cluster chosen for them.
#[derive(Clone, Debug)]
struct Choice {
    at: BlobCluster,
    cluster: ClusterIdx,
    blocks: Range<u32>,
    /// Whether it is shared with other writers of the cluster, so that it has to be given up.
    shared: bool,
}

#[derive(Debug)]
pub(super) struct WriteTask {
    ticket: Ticket,
    lvol: BlobId,
    range: Range<u64>,
    kind: Kind,
    fua: bool,
    /// How the range is held or waited for.
    lock: Option<Mode>,
    /// What it holds or waits for are whole units of so many bytes.
    unit: u64,
    epoch: Option<Epoch>,
    runs: Vec<Run>,
    choices: Vec<Choice>,
    /// Records of what is zeroed without writing.
    zeroing: Vec<Record>,
    /// Md pages kept back for all of these.
    md_reserved: usize,
    pending: usize,
    /// Whether its data is in place, so that records are all that is missing.
    written: bool,
    /// Transactions on their way, and how many of them may take a layer away.
    committing: usize,
    taking_away: usize,
    error: Option<Error>,
}

impl WriteTask {
    fn new(ticket: Ticket, lvol: BlobId, range: Range<u64>, kind: Kind, fua: bool) -> Self {
        Self {
            ticket,
            lvol,
            range,
            kind,
            fua,
            lock: None,
            unit: 0,
            epoch: None,
            runs: Vec::new(),
            choices: Vec::new(),
            zeroing: Vec::new(),
            md_reserved: 0,
            pending: 0,
            written: false,
            committing: 0,
            taking_away: 0,
            error: None,
        }
    }

    pub(super) fn data(ticket: Ticket, lvol: BlobId, range: Range<u64>, data: Buffer, fua: bool) -> Self {
        Self::new(ticket, lvol, range, Kind::Data(Some(data)), fua)
    }

    pub(super) fn zeroes(ticket: Ticket, lvol: BlobId, range: Range<u64>, allocate: bool, fua: bool) -> Self {
        Self::new(ticket, lvol, range, Kind::Zeroes { allocate }, fua)
    }

    pub(super) fn unmap(ticket: Ticket, lvol: BlobId, range: Range<u64>, fua: bool) -> Self {
        Self::new(ticket, lvol, range, Kind::Unmap, fua)
    }
}

impl Engine {
    pub(super) fn start_write(&mut self, write: WriteTask) {
        let task = TaskId(self.tasks.insert(Task::Write(write)));
        self.admit_write(task);
    }

    /// The task has got its range, or what it waited for before it asked for one.
    pub(super) fn write_granted(&mut self, task: TaskId) {
        match self.write_task(task).map(|write| (write.written, write.lock)) {
            Some((true, _)) => self.commit_write(task),
            Some((false, None)) => self.admit_write(task),
            Some((false, Some(_))) => self.proceed_write(task),
            None => {}
        }
    }

    /// Checks a write, makes it wait for a barrier where one must come first, and asks for its range.
    fn admit_write(&mut self, task: TaskId) {
        let Some(write) = self.write_task(task) else {
            return;
        };
        let (lvol, range) = (write.lvol, write.range.clone());
        if let Err(error) = self.check_write(task, lvol, &range) {
            return self.finish_write(task, Err(error));
        }
        if range.is_empty() {
            return self.finish_write(task, Ok(()));
        }
        if self.must_wait_for_hand_over(lvol) {
            return self.retry_after_barrier(task);
        }
        let mode = self.lock_mode(task);
        let unit = self.copy_unit();
        if let Some(write) = self.write_task_mut(task) {
            write.lock = Some(mode);
            write.unit = unit;
        }
        let held = self.whole_units(&range);
        if self.acquire(lvol, task, held, mode) {
            self.proceed_write(task);
        }
    }

    /// Holds its range: plans, and starts what the plan needs first.
    fn proceed_write(&mut self, task: TaskId) {
        let Some(write) = self.write_task(task) else {
            return;
        };
        let (lvol, range, lock, unit) = (write.lvol, write.range.clone(), write.lock, write.unit);
        if let Err(error) = self.check_write(task, lvol, &range) {
            return self.finish_write(task, Err(error));
        }
        // While it waited the blocks may have changed so that sharing is not enough, or clusters may have
        // been handed over, or native states may not arise any more: begin again, at the end of the queue.
        let must_wait = self.must_wait_for_hand_over(lvol) || unit < self.copy_unit();
        if must_wait || (lock == Some(Mode::Shared) && self.lock_mode(task) == Mode::Exclusive) {
            self.unlock_write(task);
            return self.admit_write(task);
        }
        match self.plan_write(task) {
            Ok(()) => self.fill_gaps(task),
            Err(error)
                if (matches!(error, Error::NoClusters { .. } | Error::ClustersWithheld { .. })
                    && self.may_reclaim())
                    || (matches!(error, Error::NoMdPages { .. }) && self.may_reclaim_md()) =>
            {
                self.abandon_plan(task);
                self.unlock_write(task);
                self.retry_after_space(task);
            }
            Err(error) => self.finish_write(task, Err(error)),
        }
    }

    /// Reads what surrounds the write in its first and last blocks.
    fn fill_gaps(&mut self, task: TaskId) {
        let Some(write) = self.write_task(task) else {
            return;
        };
        let lvol = write.lvol;
        let mut gaps = Vec::new();
        for (number, run) in write.runs.iter().enumerate() {
            for gap in [run.covers.start..run.wanted.start, run.wanted.end..run.covers.end] {
                if !gap.is_empty() {
                    gaps.push((number, run.covers.start, gap));
                }
            }
        }
        let mut reads = Vec::new();
        for (number, base, gap) in gaps {
            let mut segments = Vec::new();
            if let Err(error) = self.resolve_read(lvol, gap.start, gap.end - gap.start, &mut segments) {
                return self.finish_write(task, Err(error));
            }
            for segment in segments {
                if let Some((target, at)) = self.locate(lvol, segment.origin) {
                    let (aligned, skip, padded) = self.pad(target, at, segment.len);
                    let (at, len) = (index(segment.start - base), index(segment.len));
                    reads.push((target, OpOwner::Gap { task, run: number, at, len, skip }, aligned, padded));
                }
            }
        }
        if reads.is_empty() {
            return self.write_runs(task);
        }
        if let Some(write) = self.write_task_mut(task) {
            write.pending = reads.len();
        }
        for (target, owner, offset, len) in reads {
            self.emit(target, owner, DeviceOp::Read { offset, buffer: Buffer::zeroed(len) });
        }
    }

    pub(super) fn gap_done(
        &mut self,
        task: TaskId,
        run: usize,
        at: usize,
        bytes: Option<&[u8]>,
        result: Result<(), DeviceError>,
    ) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        write.pending -= 1;
        if let Err(error) = result {
            write.error = Some(Error::Device(error));
        } else if let (Some(bytes), Some(buffer)) = (bytes, &mut write.runs[run].buffer) {
            buffer.as_mut_slice()[at..at + bytes.len()].copy_from_slice(bytes);
        }
        if write.pending == 0 {
            match write.error.take() {
                Some(error) => self.finish_write(task, Err(error)),
                None => self.write_runs(task),
            }
        }
    }

    /// Everything to write is at hand.
    fn write_runs(&mut self, task: TaskId) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        write.pending = write.runs.len();
        if write.pending == 0 {
            return self.commit_write(task);
        }
        let may_unmap = match &write.kind {
            Kind::Zeroes { allocate } => !allocate,
            Kind::Fill(fill) => !fill.keeps_space,
            Kind::Data(_) | Kind::Unmap => true,
        };
        let mut ops = Vec::new();
        for run in &mut write.runs {
            let offset = run.device;
            let op = match (run.buffer.take(), &mut write.kind) {
                (Some(buffer), _) => DeviceOp::Write { offset, buffer },
                (None, Kind::Data(data)) => {
                    DeviceOp::Write { offset, buffer: data.take().unwrap_or_default() }
                }
                (None, _) => {
                    DeviceOp::WriteZeroes { offset, len: run.covers.end - run.covers.start, may_unmap }
                }
            };
            ops.push(op);
        }
        let waits = self.rules.hold(Clause::DataBeforeRecord);
        let owner = if waits { OpOwner::Run { task } } else { OpOwner::Mark };
        for op in ops {
            self.emit(Target::Store, owner, op);
        }
        if !waits {
            self.commit_write(task);
        }
    }

    pub(super) fn run_done(&mut self, task: TaskId, buffer: Option<Buffer>, result: Result<(), DeviceError>) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        write.pending -= 1;
        if let (Kind::Data(data @ None), Some(buffer)) = (&mut write.kind, buffer) {
            *data = Some(buffer);
        }
        if let Err(error) = result {
            write.error = Some(Error::Device(error));
        }
        if write.pending == 0 {
            match write.error.take() {
                Some(error) => self.finish_write(task, Err(error)),
                None => self.commit_write(task),
            }
        }
    }

    /// R2.
    fn must_wait_for_hand_over(&self, lvol: BlobId) -> bool {
        self.commit.is_handed_over(lvol) && self.rules.hold(Clause::HandOverBehindBarrier)
    }

    /// The data is in place: make it the lvol's, against the State of now (R3).
    fn commit_write(&mut self, task: TaskId) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        write.written = true;
        let (lvol, range) = (write.lvol, write.range.clone());
        let choices = write.choices.clone();
        let zeroing = write.zeroing.clone();
        if let Err(error) = self.check_write(task, lvol, &range) {
            return self.finish_write(task, Err(error));
        }
        if !choices.is_empty() && self.commit.is_zeroing(lvol) {
            // A record on its way may take away the layer that a block is about to enter: look again after it.
            self.after_zeroing.push(task);
            return;
        }
        let holds = choices.iter().all(|choice| match choice.shared {
            true => self.choice_holds(lvol, choice.at, choice.cluster),
            false => self.state.owns_cluster(lvol, choice.at, choice.cluster),
        });
        if !holds && self.rules.hold(Clause::CommitAgainstPresent) {
            self.abandon_plan(task);
            return self.proceed_write(task);
        }
        let fills = self.is_fill(task);
        if fills && !self.may_commit_fill(task) {
            return;
        }
        // Data first: zeroing the last data of a layer gives its cluster back, which a block may be about to enter.
        let takes_away =
            choices.iter().filter(|choice| fills && self.takes_layers_away(lvol, choice)).count();
        let taking_away = takes_away + zeroing.len();
        (0..taking_away).for_each(|_| self.commit.begin_zeroing(lvol));
        let mut records = self.mapping(task);
        let is_blocks = |record: &Record| matches!(record, Record::ZeroBlocks { .. });
        let (blocks, clusters): (Vec<_>, Vec<_>) = zeroing.into_iter().partition(is_blocks);
        records.extend(blocks);
        let clusters = clusters.into_iter().map(|record| alloc::vec![record]);
        let transactions = core::iter::once(records).chain(clusters).filter(|records| !records.is_empty());
        let transactions: Vec<Vec<Record>> = match fills {
            true => transactions.collect(),
            // Each block stands for itself: they go in parts that the journal can take.
            false => transactions.flat_map(|records| self.parts(records)).collect(),
        };
        if transactions.is_empty() {
            return self.finish_write(task, Ok(()));
        }
        if let Some(write) = self.write_task_mut(task) {
            write.committing = transactions.len();
            write.taking_away = taking_away;
        }
        for records in transactions {
            if let Err(error) = self.commit(records, After::Write(task)) {
                self.write_committed(task, Err(error));
            }
        }
    }

    /// The records of a write have been applied, or never will be.
    pub(super) fn write_committed(&mut self, task: TaskId, result: Result<(), Error>) {
        let Some(write) = self.write_task_mut(task) else { return };
        write.committing -= 1;
        if let Err(error) = result {
            write.error = Some(error);
        }
        if write.committing > 0 {
            return;
        }
        let (lvol, zeroed) = (write.lvol, core::mem::take(&mut write.taking_away));
        let result = write.error.take().map_or(Ok(()), Err);
        if result.is_ok() && matches!(write.kind, Kind::Data(_)) {
            self.count_first_write(lvol);
        }
        (0..zeroed).for_each(|_| self.commit.end_zeroing(lvol));
        if zeroed > 0 {
            for task in core::mem::take(&mut self.after_zeroing) {
                self.resume(task);
            }
        }
        self.finish_write(task, result);
    }

    fn finish_write(&mut self, task: TaskId, result: Result<(), Error>) {
        self.abandon_plan(task);
        self.unlock_write(task);
        let Some(Task::Write(write)) = self.tasks.remove(task.0) else {
            return;
        };
        let reply = match write.kind {
            Kind::Fill(fill) => return self.fill_done(write.ticket, &fill, result),
            Kind::Data(data) => Reply::Buffer(data.unwrap_or_default()),
            Kind::Zeroes { .. } | Kind::Unmap => Reply::Done,
        };
        // Where what lies behind the last barrier is worthless after a crash, D1 takes a barrier: also for bytes that
        // went where an uncovered record says.
        let uncovered = self.journal.last_records > self.commit.covered;
        let worthless = self.transition.tail_worthless && uncovered;
        if result.is_ok() {
            self.count_write();
        }
        match result {
            Ok(()) if write.fua || worthless => self.reply_after_barrier(write.ticket, reply),
            Ok(()) => self.reply(write.ticket, Ok(reply)),
            Err(error) => self.reply(write.ticket, Err(error)),
        }
    }

    /// Lets go of the clusters that a plan chose and of what it resolved to.
    fn abandon_plan(&mut self, task: TaskId) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        let lvol = write.lvol;
        let mut choices = core::mem::take(&mut write.choices);
        choices.retain(|choice| choice.shared);
        let epoch = write.epoch.take();
        let md_reserved = core::mem::take(&mut write.md_reserved);
        write.written = false;
        write.runs.clear();
        write.zeroing.clear();
        for choice in choices {
            self.drop_choice(lvol, choice.at);
        }
        self.state.md_reserved -= md_reserved;
        self.forget_sync(task);
        self.put_back(task);
        if let Some(epoch) = epoch {
            self.commit.epochs.end(epoch);
        }
    }

    fn unlock_write(&mut self, task: TaskId) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        let lvol = write.lvol;
        if write.lock.take().is_some() {
            self.release_lock(lvol, task);
        }
    }

    /// Whether an lvol takes this write at all.
    fn check_write(&self, task: TaskId, lvol: BlobId, range: &Range<u64>) -> Result<(), Error> {
        let blob = self.state.blob(lvol).filter(|blob| !blob.dying).ok_or(Error::UnknownBlob(lvol))?;
        self.check_writable()?;
        // A loaded store may have clones of a writable lvol: what they read must not change under them.
        let keeps_content = self.is_fill(task);
        if !keeps_content && (blob.is_read_only() || !blob.clones.is_empty()) {
            return Err(Error::ReadOnlyLvol(blob.display_name()));
        }
        if blob.damage.is_some() {
            return Err(Error::Damaged(blob.display_name()));
        }
        check_range(range, self.state.bytes(blob))
    }

    /// A range widened to what is copied at once. Blocks are counted from the start of their cluster, which need
    /// not be a multiple of them.
    fn whole_units(&self, range: &Range<u64>) -> Range<u64> {
        let (unit, cluster) = (self.copy_unit(), self.state.units.cluster);
        let first = range.start / cluster * cluster;
        let last = (range.end - 1) / cluster * cluster;
        let start = first + (range.start - first) / unit * unit;
        let end = last + (range.end - last).next_multiple_of(unit).min(cluster);
        start..end
    }

    /// What a first write makes the lvol's own at once, in bytes: a block, or a whole cluster where native states
    /// may not arise.
    fn copy_unit(&self) -> u64 {
        if self.state.native_allowed { self.state.units.block } else { self.state.units.cluster }
    }

    fn write_task(&self, task: TaskId) -> Option<&WriteTask> {
        match self.tasks.get(task.0) {
            Some(Task::Write(write)) => Some(write),
            _ => None,
        }
    }

    fn write_task_mut(&mut self, task: TaskId) -> Option<&mut WriteTask> {
        match self.tasks.get_mut(task.0) {
            Some(Task::Write(write)) => Some(write),
            _ => None,
        }
    }
}
