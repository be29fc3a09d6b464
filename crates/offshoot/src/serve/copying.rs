//! Shallow copies: what a snapshot holds itself goes onto a bdev or another lvol while the server serves its clients.
//!
//! A copy is a machine that reads from one device and writes to another one, and never waits. Nothing else uses what it
//! writes to.

use super::served::Device;
use offshoot_block::{BlockDevice as _, Buffer, Completion, DeviceError, DeviceOffset, DeviceOp, OpId};
use offshoot_device::HostDevice as _;
use offshoot_store::{Change, Error};
use std::collections::{HashMap, VecDeque};

/// Requests in flight, reads and writes together.
const DEPTH: usize = 8;

/// Bytes that are zeroed by one request.
const ZERO_BYTES: u64 = 64 << 20;

/// A copy under way.
pub(super) struct Copying {
    source: Device,
    target: Device,
    /// What has not been begun.
    rest: VecDeque<Change>,
    /// Bytes of one request.
    request_bytes: u64,
    /// Where they began.
    reads: HashMap<OpId, DeviceOffset>,
    /// How long they are, in bytes.
    writes: HashMap<OpId, u64>,
    ids: u64,
    stage: Stage,
    failure: Option<Error>,
    /// Bytes that are done.
    pub(super) bytes_done: u64,
    completions: Vec<Completion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Copy,
    /// Everything is written, and being made durable.
    Sync,
    Done,
}

impl Copying {
    /// Copies ranges, ascending, by requests of so many bytes.
    pub(super) fn new(source: Device, target: Device, ranges: Vec<Change>, request_bytes: u64) -> Self {
        Self {
            source,
            target,
            rest: ranges.into(),
            request_bytes,
            reads: HashMap::new(),
            writes: HashMap::new(),
            ids: 0,
            stage: Stage::Copy,
            failure: None,
            bytes_done: 0,
            completions: Vec::new(),
        }
    }

    /// Ends it: nothing else is begun.
    pub(super) fn cancel(&mut self) {
        self.failure.get_or_insert(Error::Cancelled);
    }

    /// Whether it has ended: how, once nothing is in flight any more.
    pub(super) fn outcome(&self) -> Option<Result<(), Error>> {
        let is_idle = self.reads.is_empty() && self.writes.is_empty();
        match &self.failure {
            Some(failure) => is_idle.then(|| Err(failure.clone())),
            None => (self.stage == Stage::Done).then_some(Ok(())),
        }
    }

    /// What it wrote to.
    pub(super) fn into_target(self) -> Device {
        self.target
    }

    /// Whether only polling tells how far its devices are.
    pub(super) fn must_be_polled(&self) -> bool {
        let is_mute = |device: &Device| device.outstanding() > 0 && device.completion_fd().is_none();
        is_mute(&self.source) || is_mute(&self.target)
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn step(&mut self) {
        self.poll();
        while self.failure.is_none() && self.reads.len() + self.writes.len() < DEPTH {
            let Some(piece) = self.next_piece() else { break };
            let offset = DeviceOffset(piece.start);
            if piece.zero {
                self.write(piece.len, DeviceOp::WriteZeroes { offset, len: piece.len, may_unmap: true });
            } else {
                self.read(offset, piece.len);
            }
        }
        let is_idle = self.reads.is_empty() && self.writes.is_empty();
        if self.failure.is_none() && is_idle && self.rest.is_empty() {
            match self.stage {
                Stage::Copy => {
                    self.stage = Stage::Sync;
                    self.write(0, DeviceOp::Sync);
                }
                Stage::Sync => self.stage = Stage::Done,
                Stage::Done => {}
            }
        }
        // A device may hold back what it was given until it is polled.
        self.poll();
    }

    /// The next range that one request does.
    fn next_piece(&mut self) -> Option<Change> {
        let range = self.rest.front_mut()?;
        let most = if range.zero { ZERO_BYTES } else { self.request_bytes };
        let piece = Change { len: range.len.min(most), ..*range };
        (range.start, range.len) = (range.start + piece.len, range.len - piece.len);
        if range.len == 0 {
            self.rest.pop_front();
        }
        Some(piece)
    }

    fn read(&mut self, offset: DeviceOffset, len: u64) {
        let buffer = Buffer::zeroed(usize::try_from(len).unwrap_or(usize::MAX));
        let id = self.next_id();
        self.source.submit(id, DeviceOp::Read { offset, buffer });
        self.reads.insert(id, offset);
    }

    fn write(&mut self, len: u64, op: DeviceOp) {
        let id = self.next_id();
        self.target.submit(id, op);
        self.writes.insert(id, len);
    }

    fn next_id(&mut self) -> OpId {
        self.ids += 1;
        OpId(self.ids)
    }

    fn poll(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        for device in [&mut self.source, &mut self.target] {
            // First, so that a completion that arrives from here on wakes the loop again.
            device.clear_wakeup();
            device.poll(&mut completions);
        }
        for Completion { id, buffer, result } in completions.drain(..) {
            match self.reads.remove(&id) {
                Some(offset) => self.has_read(offset, buffer, result),
                None => self.has_written(id, result),
            }
        }
        self.completions = completions;
    }

    fn has_read(&mut self, offset: DeviceOffset, data: Option<Buffer>, result: Result<(), DeviceError>) {
        match (result, data) {
            (Ok(()), Some(buffer)) if self.failure.is_none() => {
                self.write(buffer.len() as u64, DeviceOp::Write { offset, buffer });
            }
            (Ok(()), _) => {}
            (Err(error), _) => self.fail(Error::Device(error)),
        }
    }

    fn has_written(&mut self, id: OpId, result: Result<(), DeviceError>) {
        let len = self.writes.remove(&id).unwrap_or(0);
        match result {
            Ok(()) => self.bytes_done += len,
            Err(error) => self.fail(Error::Device(error)),
        }
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}
