//! Running checkpoints (R7).
//!
//! *Images*: the images of what is dirty go to the journal, among the records of life; pages that nothing durable
//! refers to are written where they belong. *Seal*: one barrier makes both durable and says that replay starts behind
//! the capture. *In place*: the pages are written over. *Complete*: one more barrier says so, and only then the ring
//! space of what came before is used again, and md pages that were let go are handed out again.

use super::{Engine, Life, OpOwner, Target};
use crate::checkpoint::{Capture, write_pages, zero_pages};
use crate::error::During;
use crate::record::Lsn;
use crate::rules::Clause;
use alloc::{collections::VecDeque, vec::Vec};
use offshoot_block::{DeviceError, DeviceOp};
use offshoot_format::{FRAME_HEADER_BYTES, ImageSet, MdPageIdx};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Images,
    Seal,
    InPlace,
    Complete,
}

#[derive(Debug)]
struct Running {
    stage: Stage,
    capture_lsn: Lsn,
    capture: Capture,
    /// Image sets that have not been appended.
    sets: VecDeque<Queued>,
    frames: u32,
    /// Bytes of the ring that all of them take, and those that have not been appended.
    bytes: u64,
    bytes_left: u64,
    appended: u32,
    /// Writes of pages under way.
    pending: usize,
    /// Zeroed by this checkpoint, to be given back after it.
    freed: Vec<MdPageIdx>,
    /// The first frame with records after the capture.
    first_records: Option<Lsn>,
}

/// An image set on its way to the ring.
#[derive(Debug)]
struct Queued {
    set: ImageSet,
    /// What its frame takes of the ring, at most.
    bytes: u64,
}

/// The checkpoint that is running, if any.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    running: Option<Running>,
    /// Whether one must run even if the ring has room.
    pub(super) wanted: bool,
}

/// What a barrier does for the checkpoint that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Seal,
    Complete,
}

impl Checkpoint {
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn wants_frames(&self) -> bool {
        self.wanted || self.running.as_ref().is_some_and(|running| !running.sets.is_empty())
    }

    pub(super) fn capture_lsn(&self) -> Lsn {
        self.running.as_ref().map_or(Lsn(0), |running| running.capture_lsn)
    }

    /// The next image set to append, and its number.
    pub(super) fn next_images(&mut self) -> Option<(ImageSet, u32)> {
        let running = self.running.as_mut()?;
        let Queued { set, bytes } = running.sets.pop_front()?;
        running.bytes_left -= bytes;
        let left = u32::try_from(running.sets.len()).unwrap_or(u32::MAX);
        Some((set, running.frames - left - 1))
    }

    /// Bytes of the ring that the checkpoint that is running will take: what it has not appended, and, until it is
    /// sealed, what recovery would append of it once more.
    pub(super) fn bytes_spoken_for(&self) -> u64 {
        let Some(running) = &self.running else { return 0 };
        match running.stage {
            Stage::Images | Stage::Seal => running.bytes_left + running.bytes,
            Stage::InPlace | Stage::Complete => running.bytes_left,
        }
    }

    /// A frame with records has been appended.
    pub(super) fn records_after(&mut self, lsn: Lsn) {
        if let Some(running) = &mut self.running {
            running.first_records.get_or_insert(lsn);
        }
    }

    /// What the next barrier has to do.
    pub(super) fn part(&self) -> Option<Part> {
        match self.running.as_ref()?.stage {
            Stage::Seal => Some(Part::Seal),
            Stage::Complete => Some(Part::Complete),
            Stage::Images | Stage::InPlace => None,
        }
    }
}

impl Engine {
    /// Whether a checkpoint would make no room: nothing is dirty, and nothing in the ring could go.
    pub(super) fn is_checkpoint_vain(&self) -> bool {
        !self.checkpoint.is_running() && self.is_settled()
    }

    /// Whether a checkpoint can begin.
    pub(super) fn is_checkpoint_possible(&self) -> bool {
        !self.checkpoint.is_running() && !self.checkpoint.wanted && self.life == Life::Open
    }

    /// Whether the md pages say everything.
    pub(super) fn is_settled(&self) -> bool {
        self.state.dirty.is_empty()
            && self.freed_md.is_empty()
            && self.journal.last_records <= self.journal.facts.checkpoint
            && self.journal.facts.in_place
    }

    /// Captures a checkpoint when the ring is half full, a transaction does not fit, or somebody wants one. Called
    /// while no append is under way.
    pub(super) fn start_checkpoint_if_due(&mut self) {
        if self.checkpoint.is_running() {
            return;
        }
        let used = self.journal.ring.used() + self.dirty_bytes();
        let due = used > self.journal.ring.len() / 2 || self.journal.is_starved();
        if !self.checkpoint.wanted && (!due || self.is_settled()) {
            return;
        }
        self.checkpoint.wanted = false;
        let mut freed = core::mem::take(&mut self.freed_md);
        let images_max = self.image_room();
        let capture = Capture::take(&mut self.state, &mut freed, self.journal.area, images_max);
        let around = (FRAME_HEADER_BYTES + self.journal.ring.block()) as u64;
        let sets = capture.image_sets(self.journal.ring.image_frame_max()).into_iter();
        let sets: VecDeque<Queued> =
            sets.map(|set| Queued { bytes: set.encoded_len() as u64 + around, set }).collect();
        let mut writes = write_pages(&self.state.layout, &capture.fresh);
        if !self.rules.hold(Clause::SealBeforeInPlace) {
            writes.extend(write_pages(&self.state.layout, &capture.images));
        }
        let bytes = sets.iter().map(|queued| queued.bytes).sum();
        self.checkpoint.running = Some(Running {
            stage: Stage::Images,
            capture_lsn: self.journal.last,
            capture,
            frames: u32::try_from(sets.len()).unwrap_or(u32::MAX),
            sets,
            bytes,
            bytes_left: bytes,
            appended: 0,
            pending: 0,
            freed,
            first_records: None,
        });
        self.emit_pages(writes);
        self.next_stage();
    }

    fn emit_pages(&mut self, writes: Vec<DeviceOp>) {
        if let Some(running) = &mut self.checkpoint.running {
            running.pending += writes.len();
        }
        for op in writes {
            self.emit(Target::Store, OpOwner::Checkpoint, op);
        }
    }

    pub(super) fn images_appended(&mut self) {
        if let Some(running) = &mut self.checkpoint.running {
            running.appended += 1;
        }
        self.next_stage();
    }

    pub(super) fn checkpoint_op_done(&mut self, result: Result<(), DeviceError>) {
        let Some(running) = &mut self.checkpoint.running else { return };
        running.pending -= 1;
        match result {
            Ok(()) => self.next_stage(),
            Err(error) => self.fail(During::Checkpoint, error),
        }
    }

    /// Goes on once all writes of a stage are done: what follows is a barrier.
    fn next_stage(&mut self) {
        let Some(running) = &mut self.checkpoint.running else { return };
        running.stage = match running.stage {
            Stage::Images if running.pending == 0 && running.appended == running.frames => Stage::Seal,
            Stage::InPlace if running.pending == 0 => Stage::Complete,
            _ => return,
        };
        self.start_round();
    }

    /// The sync of a barrier that seals or completes has completed: its frame will say so.
    pub(super) fn publish(&mut self, part: Part) {
        let Some(running) = &self.checkpoint.running else { return };
        let facts = &mut self.journal.facts;
        match part {
            Part::Seal => {
                facts.checkpoint = running.capture_lsn;
                facts.image_frames = running.frames;
                facts.in_place = running.frames == 0;
                facts.tail = running.capture_lsn.next();
            }
            Part::Complete => {
                facts.in_place = true;
                facts.tail = running.first_records.unwrap_or(Lsn(u64::MAX));
            }
        }
    }

    /// A barrier that sealed or completed is durable.
    pub(super) fn part_done(&mut self, part: Part, frame: Lsn) {
        match part {
            Part::Seal => self.write_in_place(),
            Part::Complete => self.complete_checkpoint(frame),
        }
    }

    fn write_in_place(&mut self) {
        if !self.rules.hold(Clause::TailBeforeReuse) {
            let tail = self.journal.last;
            self.journal.ring.advance(tail);
        }
        let layout = self.state.layout.clone();
        let Some(running) = &mut self.checkpoint.running else { return };
        running.stage = Stage::InPlace;
        let mut writes = write_pages(&layout, &running.capture.images);
        writes.extend(zero_pages(&layout, &running.capture.zeroed));
        self.emit_pages(writes);
        self.next_stage();
    }

    fn complete_checkpoint(&mut self, frame: Lsn) {
        let Some(running) = self.checkpoint.running.take() else { return };
        // The frame that says so is needed until the next one does.
        let tail = running.first_records.map_or(frame, |first| first.min(frame));
        self.journal.facts.tail = tail;
        self.journal.ring.advance(tail);
        self.journal.room_was_made();
        self.counters.checkpoints += 1;
        for page in &running.freed {
            self.state.md.release(page.0);
        }
        if !running.freed.is_empty() {
            self.resume_for_space();
        }
        self.checkpoint_completed();
        self.append();
    }

    /// Forgets the checkpoint that is running: the store has failed.
    pub(super) fn drop_checkpoint(&mut self) {
        self.checkpoint = Checkpoint::default();
    }
}
