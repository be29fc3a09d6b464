//! The engine: requests in, device operations out, replies back. It does no I/O itself.
//!
//! Four kinds of method. *Commands from above*: [`Engine::submit`], [`Engine::execute`], [`Engine::close`].
//! *Events from below*: [`Engine::handle_completion`]. *What to do next*: [`Engine::poll_device`] first, then
//! [`Engine::poll_reply`], and [`Engine::advance`] whenever both have run dry. *Getters*: plain `&self`.
//!
//! Everything that changes State goes through one commit point (`commit.rs`). A request is a task: it waits
//! for its range (R8), resolves it, moves data, commits against the State of that moment (R3) and replies.

mod barrier;
mod checkpoint;
mod commit;
mod counters;
mod grow;
mod job;
mod journal;
mod life;
mod read;
mod reclaim;
mod slab;
mod uncovered;
mod verbs;
mod write;

use crate::error::{Error, Failure, ReadOnlyCause};
use crate::io::{Extent, Mode, RangeLocks, Segment};
use crate::journal::{self as ring, Ring};
use crate::options::OpenOptions;
use crate::rules::Rules;
use crate::state::State;
use crate::verb::Verb;
use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};
use barrier::Barrier;
use checkpoint::Checkpoint;
use commit::Commit;
use core::ops::Range;
pub use counters::{Counters, JournalFill};
use job::Jobs;
pub use job::{Progress, Work};
use journal::Journal;
use life::{Life, Transition};
use offshoot_block::{Buffer, DeviceError, DeviceGeometry, DeviceOp, OpId};
use offshoot_format::{BlobId, MdPageIdx, SuperBlock};
use read::{Attached, ReadTask};
use reclaim::Space;
use slab::Slab;
use verbs::{VerbQueue, VerbTask};
use write::WriteTask;

/// Names a request between its submission and its reply. The engine chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Which device an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The device that the store lies on.
    Store,
    /// An external snapshot, by the number under which it was attached.
    External(u32),
}

/// A request for the data of an lvol. Offsets and lengths are in bytes and need no alignment.
#[derive(Debug)]
pub enum IoRequest {
    /// Bytes out.
    Read {
        /// The lvol.
        lvol: BlobId,
        /// First byte.
        offset: u64,
        /// Filled to its length and handed back.
        buffer: Buffer,
    },
    /// Bytes in.
    Write {
        /// The lvol.
        lvol: BlobId,
        /// First byte.
        offset: u64,
        /// What to write. Handed back with the reply.
        data: Buffer,
        /// Whether the reply waits until the data is durable.
        fua: bool,
    },
    /// A range reads zeros from now on.
    WriteZeroes {
        /// The lvol.
        lvol: BlobId,
        /// The bytes.
        range: Range<u64>,
        /// Whether the space must be kept or allocated, so that a later write there does not need any.
        allocate: bool,
        /// Whether the reply waits until this is durable.
        fua: bool,
    },
    /// A range is not needed any more. What can be given back is, and reads zeros; the rest keeps its content.
    Unmap {
        /// The lvol.
        lvol: BlobId,
        /// The bytes.
        range: Range<u64>,
        /// Whether the reply waits until this is durable.
        fua: bool,
    },
    /// Everything that was replied to before is durable with the reply, on all lvols of the store.
    Flush,
}

/// What a request or verb came to.
#[derive(Debug)]
pub enum Reply {
    /// The buffer of a read, filled, or of a write.
    Buffer(Buffer),
    /// Done.
    Done,
    /// A verb is done and made these lvols.
    Made(Vec<BlobId>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(usize);

#[derive(Debug)]
enum Task {
    Read(ReadTask),
    Write(WriteTask),
    Verb(VerbTask),
}

/// Which part of a task a device operation belongs to.
#[derive(Clone, Copy, Debug)]
enum OpOwner {
    /// A segment of a read. Its bytes from `skip` on go to `at` in the task's buffer.
    Segment { task: TaskId, at: usize, len: usize, skip: usize },
    /// The whole read, straight into the task's buffer.
    WholeRead { task: TaskId },
    /// What surrounds a write that is smaller than a block. Its bytes from `skip` on go to `at` in the run's buffer.
    Gap { task: TaskId, run: usize, at: usize, len: usize, skip: usize },
    /// A run of a write.
    Run { task: TaskId },
    /// Zeroing for a verb.
    VerbZero { task: TaskId, bytes: u64 },
    /// A frame of the journal.
    Frame,
    /// A sync of a barrier.
    Barrier,
    /// An md page of a checkpoint.
    Checkpoint,
    /// Part of opening, recovering or closing the store.
    Transition,
    /// The note in the super block that a device operation failed.
    Mark,
    /// A discard of freed clusters.
    Discard { first: u32, count: u32 },
    /// Zeros over what the md region is about to take.
    Clearing { job: Ticket },
}

/// The engine of one open store.
#[derive(Debug)]
pub struct Engine {
    state: State,
    super_block: SuperBlock,
    read_only: bool,
    read_only_cause: ReadOnlyCause,
    rules: Rules,
    /// Logical block of the device in bytes: what operations are aligned to.
    sector: u64,
    externals: BTreeMap<String, Attached>,
    commit: Commit,
    life: Life,
    transition: Transition,
    journal: Journal,
    barrier: Barrier,
    checkpoint: Checkpoint,
    space: Space,
    /// Md pages that records have let go since the last checkpoint.
    freed_md: Vec<MdPageIdx>,
    verbs: VerbQueue,
    jobs: Jobs,
    locks: BTreeMap<BlobId, RangeLocks<TaskId>>,
    tasks: Slab<Task>,
    tickets: u64,
    /// Tasks that can go on.
    ready: VecDeque<TaskId>,
    /// Writes that look at their cluster again once a record that zeroes is applied.
    after_zeroing: Vec<TaskId>,
    ops: Slab<OpOwner>,
    device: VecDeque<(Target, OpId, DeviceOp)>,
    replies: VecDeque<(Ticket, Result<Reply, Error>)>,
    /// Where a read is resolved to, kept for the next one.
    segments: Vec<Segment>,
    counters: Counters,
    /// Set once metadata could not be written: reads go on, nothing else does.
    failed: Option<Failure>,
}

impl Engine {
    /// An engine over a loaded State. `sector` is the device's logical block in bytes. A store that was not closed
    /// must be recovered before anything else: [`Engine::recover`].
    #[must_use]
    pub fn new(mut state: State, super_block: SuperBlock, sector: u32, options: &OpenOptions) -> Self {
        let in_use = super_block.native.as_ref().and_then(|native| native.journal);
        let area = match (options.read_only, in_use.filter(|_| !super_block.is_clean())) {
            (true, _) => None,
            // Held since before its records were replayed.
            (false, Some(area)) => Some(area),
            (false, None) => {
                let chosen = ring::choose_area(&ring::Ground::of(&state), sector.into());
                chosen.inspect(|area| ring::hold_area(&mut state, *area))
            }
        };
        let ring_bytes = area.map_or(0, |area| u64::from(area.len) * u64::from(state.layout.md_page_size));
        let ring = Ring::new(ring_bytes, u64::from(sector));
        let no_room = area.is_none() && !options.read_only;
        state.settle_reserves();
        let freed_md = core::mem::take(&mut state.freed_md);
        Self {
            state,
            super_block,
            read_only: options.read_only || no_room,
            read_only_cause: if no_room { ReadOnlyCause::NoRoomForJournal } else { ReadOnlyCause::Asked },
            rules: options.rules,
            sector: u64::from(sector),
            externals: BTreeMap::new(),
            commit: Commit::default(),
            life: Life::Closed,
            transition: Transition::default(),
            journal: Journal::new(area, ring, options.epoch, options.session),
            barrier: Barrier::default(),
            checkpoint: Checkpoint::default(),
            space: Space::default(),
            freed_md,
            verbs: VerbQueue::default(),
            jobs: Jobs::default(),
            locks: BTreeMap::new(),
            tasks: Slab::default(),
            tickets: 0,
            ready: VecDeque::new(),
            after_zeroing: Vec::new(),
            ops: Slab::default(),
            device: VecDeque::new(),
            replies: VecDeque::new(),
            segments: Vec::new(),
            counters: Counters::default(),
            failed: None,
        }
    }

    /// Says that the external snapshot of this id (a UUID as text) is the external device `number`. Behind its end it
    /// reads zeros.
    pub fn attach_external(&mut self, id: &str, number: u32, geometry: DeviceGeometry) {
        let (size_bytes, sector) = (geometry.size_bytes, geometry.logical_block.into());
        self.externals.insert(id.into(), Attached { number, size_bytes, sector });
    }

    /// The number of the device of an external snapshot.
    pub(crate) fn external(&self, id: &str) -> Option<u32> {
        self.externals.get(id).map(|external| external.number)
    }

    /// The external snapshot of this id cannot be read from now on.
    pub fn detach_external(&mut self, id: &str) {
        self.externals.remove(id);
    }

    /// Whether the external snapshot of this id can be read.
    #[must_use]
    pub fn has_external(&self, id: &str) -> bool {
        self.externals.contains_key(id)
    }

    /// The store.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The super block as it was loaded or last written.
    #[must_use]
    pub fn super_block(&self) -> &SuperBlock {
        &self.super_block
    }

    /// From now on nothing is written. Called before anything else.
    pub fn refuse_writes(&mut self, cause: ReadOnlyCause) {
        self.read_only = true;
        self.read_only_cause = cause;
    }

    /// Why the store takes no writes any more, when metadata could not be written.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failed
    }

    /// Whether an lvol cannot be read where nothing of its chain is stored, because its external snapshot is missing.
    #[must_use]
    pub fn is_degraded(&self, lvol: BlobId) -> bool {
        let external = self.state.blob(lvol).and_then(|blob| blob.external.as_ref());
        external.is_some_and(|external| !self.externals.contains_key(&external.name()))
    }

    /// Whether the store takes no changes, because it was opened like that or cannot take any.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Why the store takes no changes, if so.
    #[must_use]
    pub fn read_only_cause(&self) -> Option<ReadOnlyCause> {
        self.read_only.then_some(self.read_only_cause)
    }

    /// Clusters that are free or will be once a barrier has passed.
    #[must_use]
    pub fn free_clusters(&self) -> u64 {
        self.state.clusters.free() as u64
    }

    /// What of a range is data, what is a hole, and, in a damaged lvol, what is unknown. See [`State::extents`].
    ///
    /// # Errors
    /// When the lvol does not exist, or the range is not in it.
    pub fn extents(&self, lvol: BlobId, range: Range<u64>, limit: usize) -> Result<Vec<Extent>, Error> {
        let blob = self.state.blob(lvol).filter(|blob| !blob.dying).ok_or(Error::UnknownBlob(lvol))?;
        check_range(&range, self.state.bytes(blob))?;
        Ok(self.state.extents(blob, range, limit))
    }

    /// Takes a request for data. The reply comes through [`Engine::poll_reply`], also when it is refused.
    pub fn submit(&mut self, request: IoRequest) -> Ticket {
        let ticket = self.next_ticket();
        match request {
            IoRequest::Read { lvol, offset, buffer } => self.start_read(ticket, lvol, offset, buffer),
            IoRequest::Write { lvol, offset, data, fua } => {
                let range = offset..offset.saturating_add(data.len() as u64);
                self.start_write(WriteTask::data(ticket, lvol, range, data, fua));
            }
            IoRequest::WriteZeroes { lvol, range, allocate, fua } => {
                self.start_write(WriteTask::zeroes(ticket, lvol, range, allocate, fua));
            }
            IoRequest::Unmap { lvol, range, fua } => {
                self.start_write(WriteTask::unmap(ticket, lvol, range, fua));
            }
            IoRequest::Flush => self.reply_after_barrier(ticket, Reply::Done),
        }
        self.run_ready();
        ticket
    }

    /// Starts a verb. Its reply says that it is durable.
    pub fn execute(&mut self, verb: Verb) -> Ticket {
        let ticket = self.next_ticket();
        self.start_verb(ticket, verb);
        self.run_ready();
        ticket
    }

    /// The next operation to hand to a device.
    pub fn poll_device(&mut self) -> Option<(Target, OpId, DeviceOp)> {
        self.device.pop_front()
    }

    /// The next request that is done.
    pub fn poll_reply(&mut self) -> Option<(Ticket, Result<Reply, Error>)> {
        self.replies.pop_front()
    }

    /// A device operation has completed.
    pub fn handle_completion(&mut self, id: OpId, buffer: Option<Buffer>, result: Result<(), DeviceError>) {
        let Some(owner) = usize::try_from(id.0).ok().and_then(|id| self.ops.remove(id)) else {
            return;
        };
        if let Err(error) = result {
            self.note_error(owner, error);
        }
        match owner {
            OpOwner::WholeRead { task } => self.whole_read_done(task, buffer, result),
            OpOwner::Segment { task, at, len, skip } => {
                self.segment_done(task, at, buffer.as_ref().map(|b| &b.as_slice()[skip..skip + len]), result);
            }
            OpOwner::Gap { task, run, at, len, skip } => {
                self.gap_done(
                    task,
                    run,
                    at,
                    buffer.as_ref().map(|b| &b.as_slice()[skip..skip + len]),
                    result,
                );
            }
            OpOwner::Run { task } => self.run_done(task, buffer, result),
            OpOwner::VerbZero { task, bytes } => self.verb_zero_done(task, bytes, result),
            OpOwner::Frame => self.frame_done(result),
            OpOwner::Barrier => self.barrier_sync_done(result),
            OpOwner::Checkpoint => self.checkpoint_op_done(result),
            OpOwner::Transition => self.transition_op_done(result),
            OpOwner::Mark => self.mark_written(),
            OpOwner::Discard { first, count } => self.discard_done(first, count),
            OpOwner::Clearing { job } => self.clearing_done(job, result),
        }
        self.run_ready();
    }

    /// Does one bounded step of what nobody waits for: releasing the clusters of dying blobs, giving freed
    /// clusters back, jobs. Says whether there may be more to do without waiting for a device.
    pub fn advance(&mut self) -> bool {
        let released = self.release_step();
        self.step_jobs();
        self.settle();
        released
    }

    /// Starts whatever can start without waiting for a device: reuse of what came free, barriers, tasks in line.
    pub(crate) fn settle(&mut self) {
        self.reclaim();
        self.append();
        self.start_round();
        self.run_ready();
    }

    /// Whether any request, verb, barrier, release or discard is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is_releasing()
            || self.has_jobs()
            || !self.tasks.is_empty()
            || !self.ops.is_empty()
            || self.barrier.is_busy()
            || self.journal.is_busy()
            || self.checkpoint.is_running()
            || self.transition.is_busy()
            || self.space.is_busy()
            || !self.device.is_empty()
    }

    fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn reply(&mut self, ticket: Ticket, result: Result<Reply, Error>) {
        self.replies.push_back((ticket, result));
    }

    fn emit(&mut self, target: Target, owner: OpOwner, op: DeviceOp) {
        let id = OpId(self.ops.insert(owner) as u64);
        self.device.push_back((target, id, op));
    }

    /// Why nothing may be written now, if so.
    fn check_writable(&self) -> Result<(), Error> {
        match self.failed {
            Some(failure) => Err(Error::Stopped(failure)),
            None if self.read_only => Err(Error::ReadOnlyStore(self.read_only_cause)),
            None => Ok(()),
        }
    }

    fn acquire(&mut self, lvol: BlobId, task: TaskId, range: Range<u64>, mode: Mode) -> bool {
        self.locks.entry(lvol).or_default().acquire(task, range, mode)
    }

    /// Lets go of what a task holds of an lvol and lets those go on who waited for it.
    fn release_lock(&mut self, lvol: BlobId, task: TaskId) {
        let mut granted = Vec::new();
        if let Some(locks) = self.locks.get_mut(&lvol) {
            locks.release(task, &mut granted);
            if locks.is_idle() {
                self.locks.remove(&lvol);
            }
        }
        for task in granted {
            self.resume(task);
        }
    }

    /// A task has got what it waited for: its range, space, a barrier, or its turn. It goes on before the engine
    /// returns to its caller, but not from here: a long queue must not become a deep stack.
    fn resume(&mut self, task: TaskId) {
        self.ready.push_back(task);
    }

    fn run_ready(&mut self) {
        while let Some(task) = self.ready.pop_front() {
            match self.tasks.get(task.0) {
                Some(Task::Write(_)) => self.write_granted(task),
                Some(Task::Verb(_)) => self.verb_granted(task),
                Some(Task::Read(_)) | None => {}
            }
        }
    }

    /// A device operation failed: what it was decides whether that casts doubt on what the device holds.
    fn note_error(&mut self, owner: OpOwner, error: DeviceError) {
        match owner {
            OpOwner::Segment { .. } | OpOwner::WholeRead { .. } | OpOwner::Gap { .. } => {}
            OpOwner::Mark | OpOwner::Transition | OpOwner::Discard { .. } | OpOwner::Clearing { .. } => {}
            OpOwner::Run { .. }
            | OpOwner::VerbZero { .. }
            | OpOwner::Frame
            | OpOwner::Barrier
            | OpOwner::Checkpoint => self.note_device_error(error),
        }
    }
}

fn check_range(range: &Range<u64>, size: u64) -> Result<(), Error> {
    if range.start > range.end || range.end > size {
        let len = range.end.saturating_sub(range.start);
        return Err(Error::OutOfRange { offset: range.start, len, size });
    }
    Ok(())
}
