//! Shallow copies: what a snapshot holds itself goes onto a device or another lvol while the server serves its clients.
//!
//! A copy is a machine without I/O of its own: it reads through the store that is served, and writes to a device that
//! nothing else uses, or to a store that is served. It never waits.

use super::backend::StoreBackend;
use super::openings::Export;
use super::served::Device;
use offshoot_block::{BlockDevice as _, Buffer, Completion, DeviceOffset, DeviceOp, OpId};
use offshoot_device::HostDevice as _;
use offshoot_store::{Change, Error, IoRequest, Reply, Ticket};
use std::collections::{HashMap, VecDeque};

/// Requests in flight, reads and writes together.
const DEPTH: usize = 8;

/// Bytes that are zeroed by one request.
const ZERO_BYTES: u64 = 64 << 20;

/// Where it goes.
pub(super) enum Destination {
    /// A device that is nobody else's.
    Device(Device),
    /// An lvol.
    Lvol(Export),
}

/// A copy under way.
pub(super) struct Copying {
    source: Export,
    destination: Destination,
    /// What has not been begun.
    rest: VecDeque<Change>,
    /// Bytes of one request.
    request_bytes: u64,
    /// Where they began, in bytes.
    reads: HashMap<Ticket, u64>,
    /// How long they are, in bytes.
    writes: HashMap<Id, u64>,
    ids: u64,
    stage: Stage,
    failure: Option<Error>,
    /// Bytes that are done.
    pub(super) bytes_done: u64,
    completions: Vec<Completion>,
}

/// A write, of a store or a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Id {
    Store(Ticket),
    Device(OpId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Copy,
    /// Everything is written, and being made durable.
    Sync,
    Done,
}

impl Copying {
    /// Copies ranges of an lvol, ascending, by requests of so many bytes.
    pub(super) fn new(
        source: Export,
        destination: Destination,
        ranges: Vec<Change>,
        request_bytes: u64,
    ) -> Self {
        Self {
            source,
            destination,
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

    /// What it read from, and where it wrote to.
    pub(super) fn into_parts(self) -> (Export, Destination) {
        (self.source, self.destination)
    }

    /// Whether only polling tells how far its device is.
    pub(super) fn must_be_polled(&self) -> bool {
        match &self.destination {
            Destination::Device(device) => device.outstanding() > 0 && device.completion_fd().is_none(),
            Destination::Lvol(_) => false,
        }
    }

    /// Takes the answer to a request of its own. Hands one that is not back.
    pub(super) fn answer(
        &mut self,
        stores: &mut StoreBackend,
        ticket: Ticket,
        result: Result<Reply, Error>,
    ) -> Option<Result<Reply, Error>> {
        if let Some(len) = self.writes.remove(&Id::Store(ticket)) {
            self.written(len, result.map(drop));
            return None;
        }
        let Some(offset) = self.reads.remove(&ticket) else { return Some(result) };
        match result {
            Ok(Reply::Buffer(data)) if self.failure.is_none() => self.write(stores, offset, data),
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
        None
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn step(&mut self, stores: &mut StoreBackend) {
        self.poll_device();
        while self.failure.is_none() && self.reads.len() + self.writes.len() < DEPTH {
            let Some(piece) = self.next_piece() else { break };
            if piece.zero {
                self.zero(stores, piece);
            } else {
                self.read(stores, piece);
            }
        }
        let is_idle = self.reads.is_empty() && self.writes.is_empty();
        if self.failure.is_none() && is_idle && self.rest.is_empty() {
            match self.stage {
                Stage::Copy => {
                    self.stage = Stage::Sync;
                    self.submit(stores, 0, DeviceOp::Sync, |_| IoRequest::Flush);
                }
                Stage::Sync => self.stage = Stage::Done,
                Stage::Done => {}
            }
        }
        // A device may hold back what it was given until it is polled.
        self.poll_device();
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

    fn read(&mut self, stores: &mut StoreBackend, piece: Change) {
        let buffer = Buffer::zeroed(usize::try_from(piece.len).unwrap_or(usize::MAX));
        let request = IoRequest::Read { lvol: self.source.lvol, offset: piece.start, buffer };
        match stores.submit_own(self.source.store, request) {
            Some(ticket) => {
                self.reads.insert(ticket, piece.start);
            }
            None => self.fail(Error::Cancelled),
        }
    }

    fn write(&mut self, stores: &mut StoreBackend, offset: u64, data: Buffer) {
        let len = data.len() as u64;
        match &self.destination {
            Destination::Device(_) => {
                let op = DeviceOp::Write { offset: DeviceOffset(offset), buffer: data };
                self.submit_to_device(len, op);
            }
            Destination::Lvol(to) => {
                let request = IoRequest::Write { lvol: to.lvol, offset, data, fua: false };
                self.submit_to_lvol(stores, *to, len, request);
            }
        }
    }

    fn zero(&mut self, stores: &mut StoreBackend, Change { start, len, .. }: Change) {
        let op = DeviceOp::WriteZeroes { offset: DeviceOffset(start), len, may_unmap: true };
        self.submit(stores, len, op, |to| IoRequest::WriteZeroes {
            lvol: to.lvol,
            range: start..start + len,
            allocate: false,
            fua: false,
        });
    }

    /// Submits the one or the other, whichever the destination is.
    fn submit(
        &mut self,
        stores: &mut StoreBackend,
        len: u64,
        op: DeviceOp,
        request: impl FnOnce(Export) -> IoRequest,
    ) {
        match &self.destination {
            Destination::Device(_) => self.submit_to_device(len, op),
            Destination::Lvol(to) => self.submit_to_lvol(stores, *to, len, request(*to)),
        }
    }

    fn submit_to_device(&mut self, len: u64, op: DeviceOp) {
        if let Destination::Device(device) = &mut self.destination {
            self.ids += 1;
            let id = OpId(self.ids);
            device.submit(id, op);
            self.writes.insert(Id::Device(id), len);
        }
    }

    fn submit_to_lvol(&mut self, stores: &mut StoreBackend, to: Export, len: u64, request: IoRequest) {
        match stores.submit_own(to.store, request) {
            Some(ticket) => {
                self.writes.insert(Id::Store(ticket), len);
            }
            None => self.fail(Error::Cancelled),
        }
    }

    fn poll_device(&mut self) {
        let Destination::Device(device) = &mut self.destination else { return };
        // First, so that a completion that arrives from here on wakes the loop again.
        device.clear_wakeup();
        let mut completions = std::mem::take(&mut self.completions);
        device.poll(&mut completions);
        for Completion { id, result, .. } in completions.drain(..) {
            let len = self.writes.remove(&Id::Device(id)).unwrap_or(0);
            self.written(len, result.map_err(Error::Device));
        }
        self.completions = completions;
    }

    fn written(&mut self, len: u64, result: Result<(), Error>) {
        match result {
            Ok(()) => self.bytes_done += len,
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}
