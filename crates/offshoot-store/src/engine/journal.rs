//! Appending: what is committed goes to the journal, in order, and becomes true once it is there (R4).
//!
//! One append is under way at a time; what is committed meanwhile goes out together with the next one. A record is
//! applied when its append has completed: memory never leads the disk. A transaction is admitted only while a
//! checkpoint of everything dirty still fits the ring beside it (R7); otherwise it waits for the checkpoint that its
//! waiting brings about.

use super::{Engine, Life, OpOwner, Target, TaskId, Ticket};
use crate::checkpoint::{SET_BYTES, images_per_set};
use crate::error::{During, Error};
use crate::journal::{self, Ring, Slot};
use crate::options::Session;
use crate::record::{Lsn, Record};
use crate::rules::Clause;
use alloc::{collections::VecDeque, vec::Vec};
use offshoot_block::{Buffer, DeviceError, DeviceOffset, DeviceOp};
use offshoot_format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, ImageSet, JournalArea, MD_STRUCT_BYTES, encode_frame,
    live_mask_pages,
};

/// Pages of the live masks that the records of one frame may change beyond those that have changed.
const MASK_PAGES_MORE: usize = 4;

/// Who goes on once a transaction is applied.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    Write(TaskId),
    Verb(TaskId),
    Release,
    Job(Ticket),
}

#[derive(Debug)]
struct Transaction {
    records: Vec<Record>,
    /// Bytes of its records.
    len: usize,
    after: After,
}

#[derive(Debug)]
struct InFlight {
    lsn: Lsn,
    slot: Slot,
    transactions: Vec<Transaction>,
    /// Whether a barrier waits for this frame.
    barrier: bool,
    is_image: bool,
}

/// What every frame says of the journal as a whole: what is known to be durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub covered: Lsn,
    pub checkpoint: Lsn,
    pub image_frames: u32,
    pub in_place: bool,
    pub tail: Lsn,
}

/// The journal of an engine.
#[derive(Debug)]
pub(super) struct Journal {
    pub area: Option<JournalArea>,
    pub epoch: [u8; 16],
    pub session: Option<Session>,
    pub ring: Ring,
    /// The last frame that has completed. Everything in it and before it is applied.
    pub last: Lsn,
    /// The last of those that held records.
    pub last_records: Lsn,
    pub facts: Facts,
    pending: VecDeque<Transaction>,
    /// The encoded records of `pending`, one behind the other.
    encoded: VecDeque<u8>,
    in_flight: Option<InFlight>,
    /// Whether a frame must go out even if there are no records for it.
    barrier: bool,
    /// Whether the last frame held images: records and images take turns.
    was_image: bool,
    /// Whether the oldest transaction that waits does not fit before a checkpoint.
    starved: bool,
}

impl Journal {
    pub(super) fn new(
        area: Option<JournalArea>,
        ring: Ring,
        epoch: [u8; 16],
        session: Option<Session>,
    ) -> Self {
        Self {
            area,
            epoch,
            session,
            ring,
            last: Lsn(0),
            last_records: Lsn(0),
            facts: Facts { in_place: true, tail: Lsn(1), ..Facts::default() },
            pending: VecDeque::new(),
            encoded: VecDeque::new(),
            in_flight: None,
            barrier: false,
            was_image: false,
            starved: false,
        }
    }

    /// Begins another epoch behind a frame up to which the md pages say everything.
    pub(super) fn begin_epoch(&mut self, epoch: [u8; 16], last: Lsn, ring: Ring) {
        self.epoch = epoch;
        self.ring = ring;
        self.last = last;
        self.last_records = last;
        self.facts =
            Facts { covered: last, checkpoint: last, image_frames: 0, in_place: true, tail: last.next() };
        self.room_was_made();
    }

    /// Whether records are in the journal that no barrier covers.
    pub(super) fn has_uncovered(&self) -> bool {
        self.last_records > self.facts.covered
    }

    /// Whether anything is about to be appended or being appended.
    pub(super) fn is_busy(&self) -> bool {
        !self.pending.is_empty() || self.in_flight.is_some()
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whoever did not fit is to be looked at once more.
    pub(super) fn room_was_made(&mut self) {
        self.starved = false;
    }

    /// Whether a frame must go out even if there are no records for it.
    pub(super) fn wants_barrier_frame(&self) -> bool {
        self.barrier
    }

    /// Asks for a frame that carries the facts of now.
    pub(super) fn want_barrier_frame(&mut self) {
        self.barrier = true;
    }
}

impl Engine {
    /// Hands one transaction to the journal. Once it is applied `after` goes on.
    ///
    /// # Errors
    /// The transaction is larger than the journal can take, or the store takes no writes any more.
    pub(super) fn commit(&mut self, records: Vec<Record>, after: After) -> Result<(), Error> {
        self.check_writable()?;
        let mut encoded = Vec::new();
        records.iter().for_each(|record| journal::encode(record, &mut encoded));
        let room = self.journal.ring.frame_max().saturating_sub(FRAME_HEADER_BYTES as u64);
        if encoded.len() as u64 > room {
            return Err(Error::JournalRoom { needed: encoded.len() as u64, room });
        }
        self.journal.encoded.extend(&encoded);
        self.journal.pending.push_back(Transaction { records, len: encoded.len(), after });
        self.append();
        Ok(())
    }

    /// Appends the next frame, if there is anything to append and nothing under way.
    pub(super) fn append(&mut self) {
        if self.journal.in_flight.is_some() || self.failed.is_some() {
            return;
        }
        let wanted = self.journal.barrier
            || !self.journal.pending.is_empty()
            || self.checkpoint.wants_frames()
            || self.transition.is_growing();
        match self.life {
            Life::Closed if wanted => return self.open_journal(),
            Life::Closed | Life::Changing => return,
            Life::Open => {}
        }
        if self.grow_step() {
            return;
        }
        // Nothing is under way: what is appended is applied, so this is a moment to capture.
        self.start_checkpoint_if_due();
        let turn = !self.journal.was_image || self.journal.pending.is_empty() && !self.journal.barrier;
        if turn && let Some((set, index)) = self.checkpoint.next_images() {
            return self.append_images(&set, index);
        }
        let count = self.admitted();
        if count > 0 || self.journal.barrier {
            return self.append_records(count);
        }
        if let Some((set, index)) = self.checkpoint.next_images() {
            return self.append_images(&set, index);
        }
        if self.journal.starved {
            self.start_round();
        }
    }

    /// How many of the waiting transactions fit the next frame: none while the store is about to grow.
    fn admitted(&mut self) -> usize {
        if self.transition.is_growing() {
            return 0;
        }
        let frame_max = self.journal.ring.frame_max();
        let (mut bytes, mut images, mut roots, mut count) = (FRAME_HEADER_BYTES as u64, 0, 0, 0);
        for transaction in &self.journal.pending {
            bytes += transaction.len as u64;
            // Against the State of now: what was dirty when it was committed may have been captured since.
            let (more_images, more_roots) = self.state.images_of_all(&transaction.records);
            images += more_images;
            roots += more_roots;
            if bytes > frame_max || !self.fits_ring(bytes, images, roots) {
                break;
            }
            count += 1;
        }
        self.journal.starved = count == 0 && !self.journal.pending.is_empty();
        if self.journal.starved && self.is_checkpoint_vain() {
            self.refuse_first();
        }
        count
    }

    /// Whether a frame of `bytes` may be appended whose records make a checkpoint write over `images` more pages, of
    /// which up to `roots` are roots: the images of everything that will be dirty then must still find room.
    fn fits_ring(&self, bytes: u64, images: usize, roots: usize) -> bool {
        if !self.rules.hold(Clause::BoundDirty) {
            return true;
        }
        let images = self.state.image_pages + images;
        // Pages other than roots can move to free md pages when a checkpoint finds no room for their images.
        let movable = images.saturating_sub(self.state.dirty.len() + roots);
        let images = images - movable.min(self.state.md_spare());
        let masks = self.masks_at_most(self.state.md.changed() + self.state.clusters.changed());
        let Some(span) = self.journal.ring.span(bytes) else { return false };
        self.taken() + span + 2 * (images + masks) as u64 * self.image_bytes() <= self.journal.ring.len()
    }

    /// Pages of the live masks that will have changed with the records of one more frame, at most.
    fn masks_at_most(&self, changed: usize) -> usize {
        let layout = &self.state.layout;
        let all = live_mask_pages(layout.md_len) + live_mask_pages(layout.total_clusters);
        (changed + MASK_PAGES_MORE).min(all as usize)
    }

    /// Whether a frame of these records fits a ring in which nothing is needed any more.
    pub(super) fn fits_empty_ring(&self, records: &[Record]) -> bool {
        let mut encoded = Vec::new();
        records.iter().for_each(|record| journal::encode(record, &mut encoded));
        let ring = &self.journal.ring;
        let frame = (FRAME_HEADER_BYTES + encoded.len()).next_multiple_of(ring.block()) as u64;
        let (images, _) = self.state.images_of_all(records);
        let images = 2 * (images + self.masks_at_most(0)) as u64 * self.image_bytes();
        // As much again may be skipped at the end of a lap.
        frame <= ring.frame_max() && self.slack() + 2 * frame + images <= ring.len()
    }

    /// Bytes that an image takes in the ring, with its share of the frame around it.
    fn image_bytes(&self) -> u64 {
        let ring = &self.journal.ring;
        let at_once = images_per_set(ring.image_frame_max()) as u64;
        let frame = (FRAME_HEADER_BYTES + SET_BYTES) as u64 + at_once * (MD_STRUCT_BYTES as u64 + 4);
        frame.next_multiple_of(ring.block() as u64).div_ceil(at_once)
    }

    /// Bytes of the ring that are in use or spoken for: by frames, images on their way, what a lap skips at its end,
    /// and the frames of barriers.
    ///
    /// The images of a checkpoint count twice until it is sealed: after a crash before that, recovery takes what is
    /// dirty once more, beside what is there of them.
    fn taken(&self) -> u64 {
        self.journal.ring.used() + self.checkpoint.bytes_spoken_for() + self.slack()
    }

    fn slack(&self) -> u64 {
        let ring = &self.journal.ring;
        ring.image_frame_max() * 2 + 16 * ring.block() as u64
    }

    /// How many md pages the next checkpoint may write over: as many images as find room now.
    pub(super) fn image_room(&self) -> usize {
        let masks = self.state.md.changed() + self.state.clusters.changed();
        let share = if self.transition.is_recovering() { 1 } else { 2 };
        let room = self.journal.ring.len().saturating_sub(self.taken()) / (share * self.image_bytes());
        usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(masks)
    }

    /// Bytes that a checkpoint of what is dirty now would take.
    pub(super) fn dirty_bytes(&self) -> u64 {
        let masks = self.state.md.changed() + self.state.clusters.changed();
        (self.state.image_pages + masks) as u64 * self.image_bytes()
    }

    /// The oldest transaction does not fit even an empty ring.
    fn refuse_first(&mut self) {
        let Some(transaction) = self.journal.pending.pop_front() else { return };
        self.journal.encoded.drain(..transaction.len);
        self.journal.starved = false;
        let (images, _) = self.state.images_of_all(&transaction.records);
        let needed = transaction.len as u64 + images as u64 * self.image_bytes();
        self.go_on(transaction.after, Err(Error::JournalRoom { needed, room: self.journal.ring.len() }));
    }

    fn append_records(&mut self, count: usize) {
        let transactions: Vec<Transaction> = self.journal.pending.drain(..count).collect();
        let len: usize = transactions.iter().map(|transaction| transaction.len).sum();
        let payload: Vec<u8> = self.journal.encoded.drain(..len).collect();
        self.journal.was_image = false;
        let header = FrameHeader { kind: FrameKind::Records, ..FrameHeader::default() };
        self.emit_frame(header, &payload, transactions);
    }

    fn append_images(&mut self, set: &ImageSet, index: u32) {
        self.journal.was_image = true;
        let header = FrameHeader {
            kind: FrameKind::Images,
            capture: self.checkpoint.capture_lsn().0,
            image_index: index,
            ..FrameHeader::default()
        };
        self.emit_frame(header, &set.encode(), Vec::new());
    }

    fn emit_frame(&mut self, header: FrameHeader, payload: &[u8], transactions: Vec<Transaction>) {
        let journal = &mut self.journal;
        let Some(slot) = journal.ring.slot(FRAME_HEADER_BYTES + payload.len()) else {
            // Admission keeps room for every frame; going on would overwrite what is still needed.
            debug_assert!(false, "the journal ring is full");
            self.journal.pending.extend(transactions);
            return self.fail(During::JournalRing, DeviceError::NoSpace);
        };
        let lsn = journal.last.next();
        let is_image = header.kind == FrameKind::Images;
        let facts = journal.facts;
        let header = FrameHeader {
            epoch: journal.epoch,
            lsn: lsn.0,
            position: slot.position,
            covered: facts.covered.0,
            checkpoint: facts.checkpoint.0,
            image_frames: facts.image_frames,
            in_place: facts.in_place,
            // A frame that says something new about the journal is needed until another one does.
            tail: facts.tail.0.min(lsn.0),
            ..header
        };
        let frame = encode_frame(&header, payload, journal.ring.block());
        self.counters.frames += 1;
        self.counters.frame_bytes += frame.len() as u64;
        let barrier = !is_image && core::mem::take(&mut journal.barrier);
        let Some(area) = journal.area else { return };
        journal.in_flight = Some(InFlight { lsn, slot, transactions, barrier, is_image });
        let offset = DeviceOffset(self.state.layout.md_page_offset(area.start) + slot.position);
        self.emit(Target::Store, OpOwner::Frame, DeviceOp::Write { offset, buffer: Buffer::copy_of(&frame) });
        if !self.rules.hold(Clause::ReplyAfterAppend) {
            self.frame_written();
        }
    }

    /// The append under way has completed.
    pub(super) fn frame_done(&mut self, result: Result<(), DeviceError>) {
        match result {
            Ok(()) => self.frame_written(),
            Err(error) if self.rules.hold(Clause::StopAfterFailedAppend) => {
                self.fail(During::JournalWrite, error);
            }
            Err(error) => {
                let failed = self.journal.in_flight.take();
                for transaction in failed.into_iter().flat_map(|frame| frame.transactions) {
                    self.go_on(transaction.after, Err(Error::Device(error)));
                }
                self.append();
            }
        }
    }

    fn frame_written(&mut self) {
        let Some(frame) = self.journal.in_flight.take() else { return };
        self.journal.ring.push(frame.lsn, frame.slot);
        self.journal.last = frame.lsn;
        if !frame.transactions.is_empty() {
            self.journal.last_records = frame.lsn;
            self.checkpoint.records_after(frame.lsn);
        }
        for transaction in &frame.transactions {
            for record in &transaction.records {
                if let (After::Write(_), Some((lvol, at, cluster))) = (transaction.after, record.mapped()) {
                    self.choice_committed(lvol, at, cluster);
                }
                self.state.apply(record);
                self.divert_reads(record);
                for (cluster, blocks) in record.given() {
                    let range = self.state.device_range(cluster, blocks);
                    self.commit.uncovered.add(frame.lsn, range);
                }
            }
            self.collect_freed(frame.lsn);
        }
        // Not before all of it is applied: whoever goes on may start a checkpoint, which captures whole frames.
        for transaction in frame.transactions {
            self.go_on(transaction.after, Ok(()));
        }
        if frame.is_image {
            self.images_appended();
        }
        if frame.barrier {
            self.barrier_appended();
        }
        self.append();
    }

    fn go_on(&mut self, after: After, result: Result<(), Error>) {
        match after {
            After::Write(task) => self.write_committed(task, result),
            After::Verb(task) => self.verb_committed(task, result),
            After::Release => self.release_committed(&result),
            After::Job(job) => self.job_committed(job, result),
        }
    }

    /// Nothing will be appended any more: whoever waits for an append is told.
    pub(super) fn fail_appends(&mut self, error: &Error) {
        let in_flight = self.journal.in_flight.take();
        let pending = core::mem::take(&mut self.journal.pending);
        self.journal.encoded.clear();
        self.journal.barrier = false;
        for transaction in in_flight.into_iter().flat_map(|frame| frame.transactions).chain(pending) {
            self.go_on(transaction.after, Err(error.clone()));
        }
    }
}
