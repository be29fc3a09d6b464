//! The device that remembers.

use super::file::{UndoLog, index};
use super::ranges::Ranges;
use super::{PIECE_BYTES, UndoError};
use crate::LoggedOp;
use crate::check::{check, completion};
use offshoot_block::{
    BlockDevice, Buffer, Completion, DeviceError, DeviceGeometry, DeviceOffset, DeviceOp, OpId,
};
use std::collections::{BTreeMap, VecDeque};
use std::io;

/// Reads of old content under way at the same time.
const READS_IN_FLIGHT: usize = 8;

/// What an error of the undo file is to whoever writes to the device, where it has no number of its own.
const EIO: i32 = 5;

/// A device of which an undo file remembers the content.
///
/// Operations that change something are held back until the file says what they will destroy and what they will bring.
/// A write to the file blocks, so this is for work that nobody waits for meanwhile. What is discarded is kept instead:
/// a device need not do anything about it. Once the undo file cannot be written nothing reaches the device any more.
#[derive(Debug)]
pub struct UndoDevice<D> {
    inner: D,
    log: UndoLog,
    /// What has been written since the file was begun.
    saved: Ranges,
    /// Operations that change something, not looked at yet.
    held: VecDeque<(OpId, DeviceOp)>,
    /// Those whose old content is being saved.
    saving: Vec<(OpId, DeviceOp)>,
    /// Old content to read: offset and length in bytes.
    reads: VecDeque<(u64, u64)>,
    /// Operations of the device below, by the numbers that it knows them by.
    running: BTreeMap<OpId, Running>,
    next: u64,
    done: Vec<Completion>,
    /// Why the undo file cannot be written.
    failure: Option<io::Error>,
}

#[derive(Clone, Copy, Debug)]
enum Running {
    /// Somebody else's, under this number.
    Of(OpId),
    /// A read of old content.
    Before { offset: u64, len: u64 },
}

impl<D: BlockDevice> UndoDevice<D> {
    /// Remembers what the device holds from now on.
    #[must_use]
    pub fn new(inner: D, log: UndoLog) -> Self {
        Self {
            inner,
            log,
            saved: Ranges::default(),
            held: VecDeque::new(),
            saving: Vec::new(),
            reads: VecDeque::new(),
            running: BTreeMap::new(),
            next: 0,
            done: Vec::new(),
            failure: None,
        }
    }

    /// The device itself.
    #[must_use]
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The undo file.
    #[must_use]
    pub fn log(&self) -> &UndoLog {
        &self.log
    }

    /// Ends the undo file and gives the device back. Everything has completed.
    ///
    /// # Errors
    /// Why the undo file cannot be written, now or earlier.
    pub fn finish(self) -> (D, Result<(), UndoError>) {
        let finished = match self.failure {
            Some(source) => Err(UndoError::Io { path: self.log.path().into(), source }),
            None => self.log.complete(),
        };
        (self.inner, finished)
    }

    fn below(&mut self, running: Running, op: DeviceOp) {
        let id = OpId(self.next);
        self.next += 1;
        self.running.insert(id, running);
        self.inner.submit(id, op);
    }

    /// Goes on with what can go on.
    fn advance(&mut self) {
        if self.saving.is_empty() && !self.held.is_empty() {
            self.saving = self.held.drain(..).collect();
            for (_, op) in &self.saving {
                let LoggedOp { offset, len, .. } = LoggedOp::of(op);
                for gap in self.saved.add(offset.0..offset.0 + len) {
                    let pieces = gap.clone().step_by(index(PIECE_BYTES));
                    self.reads.extend(pieces.map(|start| (start, PIECE_BYTES.min(gap.end - start))));
                }
            }
        }
        if self.failure.is_some() {
            self.reads.clear();
        }
        while self.reads_running() < READS_IN_FLIGHT
            && let Some((offset, len)) = self.reads.pop_front()
        {
            let op = DeviceOp::Read { offset: DeviceOffset(offset), buffer: Buffer::zeroed(index(len)) };
            self.below(Running::Before { offset, len }, op);
        }
        if !self.saving.is_empty() && self.reads_running() == 0 {
            self.let_go();
        }
    }

    fn reads_running(&self) -> usize {
        self.running.values().filter(|running| matches!(running, Running::Before { .. })).count()
    }

    /// Old content is in the file: says what is about to be written, makes both durable, and begins.
    fn let_go(&mut self) {
        let ops = std::mem::take(&mut self.saving);
        if self.failure.is_none()
            && let Err(error) = announce(&mut self.log, &ops)
        {
            self.failure = Some(error);
        }
        for (id, op) in ops {
            match &self.failure {
                None => self.below(Running::Of(id), op),
                Some(error) => {
                    let errno = error.raw_os_error().unwrap_or(EIO);
                    self.done.push(completion(id, op, Err(DeviceError::Io { errno })));
                }
            }
        }
    }

    /// Old content has been read, or cannot be.
    fn save(&mut self, offset: u64, len: u64, completion: Completion) {
        let block = u64::from(self.inner.geometry().logical_block);
        let saved = match (completion.result, completion.buffer) {
            (Ok(()), Some(buffer)) => self.log.before(offset, buffer.as_slice()),
            // A bad block costs no more than itself.
            _ if len > block => {
                let blocks = (offset..offset + len).step_by(index(block));
                self.reads.extend(blocks.map(|start| (start, block)));
                Ok(())
            }
            _ => self.log.before_unreadable(offset, len),
        };
        if let Err(error) = saved {
            self.failure.get_or_insert(error);
        }
    }

    fn take(&mut self, below: Vec<Completion>, completions: &mut Vec<Completion>) {
        for completion in below {
            match self.running.remove(&completion.id) {
                Some(Running::Of(id)) => completions.push(Completion { id, ..completion }),
                Some(Running::Before { offset, len }) => self.save(offset, len, completion),
                None => {}
            }
        }
        self.advance();
        completions.append(&mut self.done);
    }
}

/// Says what operations will bring, durably.
fn announce(log: &mut UndoLog, ops: &[(OpId, DeviceOp)]) -> io::Result<()> {
    for (_, op) in ops {
        match op {
            DeviceOp::Write { offset, buffer } => log.writes(offset.0, buffer.as_slice())?,
            DeviceOp::WriteZeroes { offset, len, .. } => log.writes_zeros(offset.0, *len)?,
            DeviceOp::Read { .. } | DeviceOp::Unmap { .. } | DeviceOp::Sync => {}
        }
    }
    log.commit()
}

impl<D: BlockDevice> BlockDevice for UndoDevice<D> {
    fn geometry(&self) -> DeviceGeometry {
        self.inner.geometry()
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        match (check(&self.inner.geometry(), &op), &op) {
            (Ok(()), DeviceOp::Write { .. } | DeviceOp::WriteZeroes { .. }) => self.held.push_back((id, op)),
            (Ok(()), DeviceOp::Read { .. } | DeviceOp::Sync) => self.below(Running::Of(id), op),
            (result, _) => self.done.push(completion(id, op, result)),
        }
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        self.advance();
        let mut below = Vec::new();
        self.inner.poll(&mut below);
        self.take(below, completions);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        let before = completions.len();
        while completions.len() == before && self.outstanding() > 0 {
            self.advance();
            let mut below = Vec::new();
            if self.done.is_empty() {
                self.inner.wait(&mut below);
            }
            self.take(below, completions);
        }
    }

    fn outstanding(&self) -> usize {
        let others = self.running.values().filter(|running| matches!(running, Running::Of(_))).count();
        self.held.len() + self.saving.len() + others + self.done.len()
    }
}
