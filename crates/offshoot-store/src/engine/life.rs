//! The life of a store: its journal comes into use with the first record, recovery brings a store back that was not
//! closed, and closing it leaves everything in the md pages.
//!
//! Each change is a sequence of steps with syncs between them. Whatever step a crash finds, the super block is whole
//! (every transition changes one sector of it), and what it says is true.

use super::{Engine, OpOwner, Reply, Target, Ticket};
use crate::checkpoint::{self, Opening, runs, write_pages, write_super_block, zero_pages};
use crate::error::{During, Error, Failure};
use crate::journal::{Ring, live_masks};
use crate::load::Recovery;
use crate::record::Lsn;
use crate::rules::Clause;
use alloc::{collections::VecDeque, vec::Vec};
use offshoot_block::{Buffer, DeviceError, DeviceOffset, DeviceOp};
use offshoot_format::{JournalArea, Layout, MaskKind, MdPageIdx, NativeFlags, SuperBlock};

/// Whether the journal of a store is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// No: the md pages and masks say everything.
    Closed,
    /// A sequence of steps is changing that.
    Changing,
    /// Yes.
    Open,
}

/// Part of a sequence. A step begins when the one before it has completed.
#[derive(Debug)]
pub(super) enum Step {
    Sync,
    Write(Vec<DeviceOp>),
}

/// What a sequence comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Opened,
    Recovered,
    Grown,
    Closed,
}

#[derive(Debug)]
struct Sequence {
    steps: VecDeque<Step>,
    pending: usize,
    super_block: SuperBlock,
    outcome: Outcome,
}

/// A store on its way to another size.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) ticket: Ticket,
    pub(super) layout: Layout,
    /// Where the journal is to lie, once that is known.
    pub(super) area: Option<JournalArea>,
}

/// What changes the life of a store.
#[derive(Debug, Default)]
pub(super) struct Transition {
    sequence: Option<Sequence>,
    closing: Option<Ticket>,
    recovering: Option<Ticket>,
    /// What the store is to become.
    pub(super) growing: Option<Growing>,
    /// Whether the note that a device operation failed is being written, or has to be.
    pub(super) marking: bool,
    pub(super) mark_is_due: bool,
    /// Whether this opening had to recover the store.
    was_recovered: bool,
    /// Whether what lies behind the last barrier is worthless after a crash: every reply waits for a barrier.
    pub(super) tail_worthless: bool,
}

impl Transition {
    pub(super) fn is_busy(&self) -> bool {
        self.sequence.is_some() || self.recovering.is_some() || self.growing.is_some()
    }

    pub(super) fn is_growing(&self) -> bool {
        self.growing.is_some()
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.recovering.is_some()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.closing.is_some()
    }
}

impl Engine {
    /// The journal comes into use: the live masks are written, then the super block says so, here and in its copy.
    pub(super) fn open_journal(&mut self) {
        let Some(area) = self.journal.area else { return };
        let opening = Opening {
            epoch: self.journal.epoch,
            session: self.journal.session,
            area,
            start_lsn: self.journal.last.next().0,
            previous: None,
        };
        let used = [self.state.md.used(), self.state.clusters.used()];
        let masks = live_masks(&self.state.layout, used, area, None);
        self.state.md.take_changed();
        self.state.clusters.take_changed();
        let opened = checkpoint::opened(&self.super_block, &opening);
        let mut steps = VecDeque::from([Step::Write(write_pages(&self.state.layout, &masks))]);
        if !self.super_block.is_clean() {
            // More than one sector of it changes: should they be torn, the copy is whole.
            steps.push_back(self.write_copy(&opened));
        }
        steps.extend([
            Step::Sync,
            Step::Write(alloc::vec![write_super_block(&opened, 0)]),
            Step::Sync,
            self.write_copy(&opened),
        ]);
        self.begin(steps, opened, Outcome::Opened);
    }

    /// Whether the md pages are to be brought into order before anything is served: SPDK did not close the store, or
    /// was in the midst of something.
    #[must_use]
    pub fn needs_settling(&self) -> bool {
        let left_dirty = !self.super_block.is_native() && !self.super_block.is_clean();
        let is_changed = !self.state.dirty.is_empty() || !self.freed_md.is_empty();
        !self.read_only && self.life == Life::Closed && (left_dirty || is_changed)
    }

    /// Opens the journal of a store that SPDK left in disorder, and writes a checkpoint of what loading made of it. The
    /// reply comes when both are durable.
    ///
    /// Until the super block says that a journal is in use, nothing has changed that SPDK's recovery, or another
    /// opening of ours, would look at: live masks lie in free pages. From then on loading does what it did before, to
    /// the same end, since the md pages are the same. The checkpoint replaces all of them at once.
    pub fn settle_load(&mut self) -> Ticket {
        let ticket = self.next_ticket();
        self.transition.recovering = Some(ticket);
        self.checkpoint.wanted = true;
        self.append();
        ticket
    }

    /// Brings back a store that was not closed: what was replayed becomes durable, a fresh epoch begins that names
    /// exactly what it goes on from, images of an unfinished checkpoint are written again, and a checkpoint of its
    /// own ends the old epoch (R6). The reply comes when all of that is done.
    pub fn recover(&mut self, recovery: Recovery) -> Ticket {
        let ticket = self.next_ticket();
        let last = Lsn(recovery.previous.last_lsn);
        let (len, block) = (self.journal.ring.len(), self.journal.ring.block() as u64);
        let journal = &mut self.journal;
        journal.ring = Ring::resume(len, block, recovery.live.iter().copied());
        // The opening itself counts as a frame: a checkpoint with this number is one of the new epoch.
        journal.last = last.next();
        journal.last_records = last.next();
        journal.facts.covered = last.next();
        journal.facts.tail = last.next().next();
        self.commit.cover(last.next());
        self.collect_freed(last);
        let opening = Opening {
            epoch: if self.rules.hold(Clause::FreshEpoch) {
                self.journal.epoch
            } else {
                recovery.previous.epoch
            },
            session: self.journal.session,
            area: recovery.area,
            start_lsn: last.next().next().0,
            previous: Some(recovery.previous),
        };
        self.journal.epoch = opening.epoch;
        let opened = checkpoint::opened(&self.super_block, &opening);
        let layout = &self.state.layout;
        let mut redo = write_pages(layout, &recovery.images);
        redo.extend(zero_pages(layout, &recovery.zeroed));
        let mut steps = VecDeque::new();
        if self.rules.hold(Clause::RecoveryBarrier) {
            steps.push_back(Step::Sync);
        }
        steps.extend([
            Step::Write(alloc::vec![write_super_block(&opened, 0)]),
            Step::Sync,
            self.write_copy(&opened),
            Step::Write(redo),
        ]);
        self.transition.recovering = Some(ticket);
        self.transition.was_recovered = true;
        self.begin(steps, opened, Outcome::Recovered);
        ticket
    }

    /// Begins a repair: what State says that the device does not will be written by [`Engine::close`], and all that goes
    /// with it, the super block and the masks, even if there is nothing. Called after [`Engine::recover`] has been
    /// replied to, where that is due.
    pub fn repair(&mut self) {
        if self.life == Life::Closed && !self.read_only {
            self.open_journal();
        }
    }

    /// Ends the store's service: everything becomes durable, and the store is sealed when nothing native is left in
    /// it. The caller has waited for all other replies.
    pub fn close(&mut self) -> Ticket {
        let ticket = self.next_ticket();
        self.transition.closing = Some(ticket);
        self.close_step();
        self.run_ready();
        ticket
    }

    /// Goes on with closing: a last checkpoint, then the masks and the super block.
    fn close_step(&mut self) {
        let Some(ticket) = self.transition.closing else { return };
        if self.transition.sequence.is_some() || self.checkpoint.is_running() {
            return;
        }
        if let Some(failure) = self.failed {
            self.transition.closing = None;
            return self.reply(ticket, Err(Error::Stopped(failure)));
        }
        let at_rest = self.super_block.is_clean();
        if self.read_only || (self.life == Life::Closed && at_rest) {
            self.transition.closing = None;
            return self.reply_after_barrier(ticket, Reply::Done);
        }
        if self.life == Life::Open && !self.state.has_native_states() {
            self.state.touch_stale_native();
        }
        if self.life == Life::Open && !self.is_settled() {
            self.checkpoint.wanted = true;
            return self.append();
        }
        self.seal();
    }

    /// The md pages say everything: the journal is emptied, the masks are written, the super block is sealed.
    fn seal(&mut self) {
        let emptied = match self.journal.area.filter(|_| self.life == Life::Open) {
            None => self.super_block.clone(),
            Some(area) => {
                // No frame has this epoch: what is left of the ring means nothing while it is erased.
                let epoch = self.journal.epoch.map(|byte| !byte);
                let start_lsn = self.journal.last.next().0;
                let opening = Opening { epoch, session: None, area, start_lsn, previous: None };
                checkpoint::opened(&self.super_block, &opening)
            }
        };
        let masks = checkpoint::masks(&self.state);
        let sealed = checkpoint::sealed(&self.state, &emptied, &masks);
        let mut writes = self.erase_ring();
        // They overwrite the copy of the super block.
        writes.extend(checkpoint::write_masks(&self.state, &masks));
        let mut steps = VecDeque::new();
        let leftovers = self.erase_leftovers();
        if !leftovers.is_empty() {
            steps.extend([Step::Write(leftovers), Step::Sync]);
        }
        steps.extend([
            Step::Write(alloc::vec![write_super_block(&emptied, 0)]),
            Step::Sync,
            Step::Write(writes),
            Step::Sync,
            Step::Write(alloc::vec![write_super_block(&sealed, 0)]),
            Step::Sync,
            // Until here a crash would have needed them.
            Step::Write(self.erase_live_masks()),
            Step::Sync,
        ]);
        self.begin(steps, sealed, Outcome::Closed);
    }

    /// Zeroes what the journal has written, and a copy of the super block that no mask overwrites.
    pub(super) fn erase_ring(&self) -> Vec<DeviceOp> {
        let layout = &self.state.layout;
        let mut ops = Vec::new();
        if let Some(area) = self.journal.area.filter(|_| self.life == Life::Open) {
            let touched = self.journal.ring.touched().next_multiple_of(u64::from(layout.md_page_size));
            ops.extend((touched > 0).then(|| zero(layout.md_page_offset(area.start), touched)));
        }
        let copy = layout.super_block_copy();
        if let Some(copy) = copy.filter(|copy| *copy < layout.mask_offset(MaskKind::MdPages)) {
            ops.push(DeviceOp::Write { offset: DeviceOffset(copy), buffer: Buffer::zeroed(4096) });
        }
        ops
    }

    pub(super) fn erase_live_masks(&self) -> Vec<DeviceOp> {
        let layout = &self.state.layout;
        let area = self.journal.area.filter(|area| self.life == Life::Open && area.masks > 0);
        let len = |pages: u32| u64::from(pages) * u64::from(layout.md_page_size);
        area.map(|area| zero(layout.md_page_offset(area.masks_start()), len(area.masks)))
            .into_iter()
            .collect()
    }

    /// After a recovery free md pages may hold what a checkpoint began to write before the crash: roots of blobs that
    /// do not exist, which SPDK would bring to life.
    fn erase_leftovers(&self) -> Vec<DeviceOp> {
        if !self.transition.was_recovered {
            return Vec::new();
        }
        let area = self.journal.area;
        let in_area = |page: u32| {
            area.is_some_and(|area| (u64::from(area.start.0)..area.end()).contains(&u64::from(page)))
        };
        let is_free = |page: &MdPageIdx| !self.state.md.is_used(page.0) && !in_area(page.0);
        let free: Vec<MdPageIdx> = (0..self.state.layout.md_len).map(MdPageIdx).filter(is_free).collect();
        zero_pages(&self.state.layout, &runs(&free))
    }

    pub(super) fn write_copy(&self, super_block: &SuperBlock) -> Step {
        let copy = self.state.layout.super_block_copy();
        Step::Write(copy.iter().map(|offset| write_super_block(super_block, *offset)).collect())
    }

    pub(super) fn begin(&mut self, steps: VecDeque<Step>, super_block: SuperBlock, outcome: Outcome) {
        self.life = Life::Changing;
        self.transition.sequence = Some(Sequence { steps, pending: 0, super_block, outcome });
        self.next_step();
    }

    fn next_step(&mut self) {
        loop {
            let Some(sequence) = &mut self.transition.sequence else { return };
            let Some(step) = sequence.steps.pop_front() else { break };
            let ops = match step {
                Step::Sync => alloc::vec![DeviceOp::Sync],
                Step::Write(ops) => ops,
            };
            if ops.is_empty() {
                continue;
            }
            sequence.pending = ops.len();
            for op in ops {
                self.emit(Target::Store, OpOwner::Transition, op);
            }
            return;
        }
        let Some(sequence) = self.transition.sequence.take() else { return };
        self.super_block = sequence.super_block;
        match sequence.outcome {
            Outcome::Opened => {
                self.transition.tail_worthless = self.journal.session.is_none();
                self.life = Life::Open;
                self.append();
            }
            Outcome::Recovered => {
                self.transition.tail_worthless = self.journal.session.is_none();
                self.life = Life::Open;
                self.checkpoint.wanted = true;
                self.append();
            }
            Outcome::Grown => self.grown(),
            Outcome::Closed => {
                self.life = Life::Closed;
                if let Some(ticket) = self.transition.closing.take() {
                    self.reply(ticket, Ok(Reply::Done));
                }
            }
        }
    }

    pub(super) fn transition_op_done(&mut self, result: Result<(), DeviceError>) {
        let Some(sequence) = &mut self.transition.sequence else { return };
        sequence.pending -= 1;
        match result {
            Err(error) => self.fail(During::SuperBlock, error),
            Ok(()) if sequence.pending == 0 => self.next_step(),
            Ok(()) => {}
        }
    }

    /// A checkpoint has completed: recovery ends with one, closing goes on behind one.
    pub(super) fn checkpoint_completed(&mut self) {
        if let Some(ticket) = self.transition.recovering.take() {
            self.reply(ticket, Ok(Reply::Done));
        }
        self.close_step();
    }

    /// A device operation on the store failed. What lies behind the last barrier may name data that a device lost with
    /// it: the super block says so, and from now on every reply waits for a barrier.
    pub(super) fn note_device_error(&mut self, error: DeviceError) {
        let lost_nothing = matches!(error, DeviceError::NoSpace | DeviceError::ReadOnly);
        if lost_nothing || self.transition.tail_worthless {
            return;
        }
        match self.life {
            Life::Open => self.mark_device_error(),
            // The super block is being written.
            Life::Changing => self.transition.mark_is_due = self.transition.is_growing(),
            Life::Closed => {}
        }
    }

    pub(super) fn mark_device_error(&mut self) {
        self.transition.tail_worthless = true;
        self.transition.marking = true;
        if let Some(native) = &mut self.super_block.native {
            native.flags.insert(NativeFlags::DEVICE_ERROR);
            native.sequence += 1;
        }
        let mark = write_super_block(&self.super_block, 0);
        self.emit(Target::Store, OpOwner::Mark, mark);
        // What was acknowledged before is at risk until then.
        self.want_barrier();
    }

    /// The note that a device operation failed has been written, or has failed as well.
    pub(super) fn mark_written(&mut self) {
        self.transition.marking = false;
        self.append();
    }

    /// Metadata could not be written: the store takes no writes any more, and whoever waits is told why.
    pub(super) fn fail(&mut self, during: During, error: DeviceError) {
        if self.failed.is_some() {
            return;
        }
        let failure = Failure { during, error };
        self.failed = Some(failure);
        if during == During::Sync {
            self.commit.uncovered.lose();
        }
        self.transition.sequence = None;
        self.drop_checkpoint();
        let stopped = Error::Stopped(failure);
        if let Some(growing) = self.transition.growing.take() {
            self.change_done(growing.ticket, Err(stopped.clone()));
        }
        let (closing, recovering) = (self.transition.closing.take(), self.transition.recovering.take());
        for ticket in [closing, recovering].into_iter().flatten() {
            self.reply(ticket, Err(stopped.clone()));
        }
        self.fail_appends(&stopped);
        self.fail_barriers(&stopped);
    }
}

fn zero(offset: u64, len: u64) -> DeviceOp {
    DeviceOp::WriteZeroes { offset: DeviceOffset(offset), len, may_unmap: true }
}
