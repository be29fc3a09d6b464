//! The protocol machine of one connection.

mod outbox;

use crate::error::RpcError;
use crate::json::{Document, Limits, Scanner, SyntaxError};
use crate::limits::{IN_FLIGHT_REQUESTS_MAX, OUTPUT_BYTES_HIGH, OUTPUT_BYTES_MAX, RESULT_BYTES_SHORT};
use crate::request::{self, Id, Reply, Request};
use offshoot_reactor::SlotTable;
use outbox::{Outbox, encode};
use std::sync::Arc;
use tracing::debug;

/// The server's side of one connection, without a socket.
///
/// The caller goes round these steps:
/// 1. While [`Connection::wants_input`], it reads the socket and hands over what came: [`Connection::handle_input`].
/// 2. It drains [`Connection::poll_request`]. Each request is answered by [`Connection::handle_reply`] whenever that is, in
///    any order.
/// 3. While [`Connection::output`] is not empty, it writes it to the socket and tells [`Connection::advance_output`] how much
///    went. Afterwards there may be new requests in what was already received.
/// 4. When [`Connection::is_finished`], it closes the socket.
///
/// A client that does not read its responses is not read from either. What is held for it stays below the sum of
/// what [`crate::limits`] names.
#[derive(Debug)]
pub struct Connection {
    scanner: Scanner,
    /// Bytes that were received and not yet looked at.
    input: Vec<u8>,
    input_taken: usize,
    /// The batch whose requests are being handed out.
    batch: Option<Cursor>,
    requests: SlotTable<Pending>,
    batches: SlotTable<Batch>,
    outbox: Outbox,
    /// Bytes of the responses in `batches`.
    batched_bytes: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is read; what is under way is answered, then the connection ends.
    Closing,
    /// Nobody is there to take a response.
    Abandoned,
}

static TOO_LARGE: RpcError = RpcError::RESULT_TOO_LARGE;

/// A request under way.
#[derive(Debug)]
struct Pending {
    id: Id,
    batch: Option<u32>,
}

/// Where in a batch the next request stands.
#[derive(Debug)]
struct Cursor {
    document: Arc<Document>,
    next: Option<usize>,
    batch: u32,
}

/// A batch until its last response is there.
#[derive(Debug, Default)]
struct Batch {
    /// The responses so far, separated by commas.
    responses: Vec<u8>,
    in_flight: usize,
    /// Whether every request of it was handed out.
    complete: bool,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new() -> Self {
        Self {
            scanner: Scanner::new(Limits::REQUEST),
            input: Vec::new(),
            input_taken: 0,
            batch: None,
            requests: SlotTable::default(),
            batches: SlotTable::default(),
            outbox: Outbox::default(),
            batched_bytes: 0,
            phase: Phase::Open,
        }
    }

    /// Whether the socket should be read.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.phase == Phase::Open && self.batch.is_none() && self.input.is_empty() && self.has_room()
    }

    /// Takes what was read from the socket.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Open {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next request and its slot, which is less than [`IN_FLIGHT_REQUESTS_MAX`] and names it among those under way.
    /// `None`: nothing before more input, output or replies. What is no request is answered on the way.
    pub fn poll_request(&mut self) -> Option<(u32, Request)> {
        while self.has_room() {
            if let Some(cursor) = &mut self.batch {
                let document = Arc::clone(&cursor.document);
                let (batch, next) = (cursor.batch, cursor.next);
                cursor.next = next
                    .and_then(|index| document.value(index).next_element())
                    .map(crate::json::Value::index);
                match next {
                    Some(index) => {
                        if let Some(request) = self.take_request(&document, index, Some(batch)) {
                            return Some(request);
                        }
                    }
                    None => self.end_batch(),
                }
            } else {
                let document = Arc::new(self.next_text()?);
                let root = document.root();
                match root.first_element() {
                    Some(first) => self.begin_batch(&document, first.index()),
                    // No object is no request; an empty batch neither.
                    None => {
                        if let Some(request) = self.take_request(&document, root.index(), None) {
                            return Some(request);
                        }
                    }
                }
            }
        }
        None
    }

    /// Answers a request, in any order.
    pub fn handle_reply(&mut self, slot: u32, reply: &Reply) {
        let pending = self.requests.remove(slot);
        debug_assert!(pending.is_some(), "slot {slot} was answered twice or never handed out");
        if let Some(Pending { id, batch }) = pending {
            if let Some(batch) = batch.and_then(|batch| self.batches.get_mut(batch)) {
                batch.in_flight -= 1;
            }
            self.respond(&id, batch, reply);
        }
    }

    /// What is to be sent next.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.outbox.unsent()
    }

    /// Takes note that the first `count` bytes of [`Connection::output`] were sent.
    ///
    /// # Panics
    /// When there were not so many.
    pub fn advance_output(&mut self, count: usize) {
        self.outbox.advance(count);
    }

    /// Takes no more requests: the client closed its end, or the server is about to stop. What is under way is still
    /// answered.
    pub fn handle_end(&mut self) {
        if self.phase == Phase::Open {
            self.close();
        }
    }

    /// The client is gone. What is under way has to be answered all the same.
    pub fn abandon(&mut self) {
        self.close();
        self.phase = Phase::Abandoned;
        self.batch = None;
        self.batches = SlotTable::default();
        self.batched_bytes = 0;
        self.outbox = Outbox::default();
    }

    /// Whether everything is answered and sent and nothing more will be read.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.phase != Phase::Open
            && self.batch.is_none()
            && self.requests.is_empty()
            && self.outbox.unsent().is_empty()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    fn has_room(&self) -> bool {
        self.requests.len() < IN_FLIGHT_REQUESTS_MAX && self.outbox.unsent().len() < OUTPUT_BYTES_HIGH
    }

    fn close(&mut self) {
        self.phase = Phase::Closing;
        (self.input, self.input_taken) = (Vec::new(), 0);
        self.scanner = Scanner::new(Limits::REQUEST);
    }

    /// The next text of the input.
    fn next_text(&mut self) -> Option<Document> {
        match self.scanner.scan(&self.input[self.input_taken..]) {
            Ok((taken, document)) => {
                self.input_taken += taken;
                if self.input_taken == self.input.len() {
                    (self.input_taken, self.input) = (0, Vec::new());
                }
                document
            }
            Err(error) => {
                self.refuse_stream(&error);
                None
            }
        }
    }

    /// There is no telling where the next text would begin.
    fn refuse_stream(&mut self, error: &SyntaxError) {
        debug!(%error, "not JSON");
        self.respond(&None, None, &Err(RpcError::PARSE));
        self.close();
    }

    /// Hands a value out as a request, or answers that it is none.
    fn take_request(
        &mut self,
        document: &Arc<Document>,
        index: usize,
        batch: Option<u32>,
    ) -> Option<(u32, Request)> {
        let (id, request) = request::open(document, index);
        match request {
            Ok(request) => {
                if let Some(batch) = batch.and_then(|batch| self.batches.get_mut(batch)) {
                    batch.in_flight += 1;
                }
                Some((self.requests.insert(Pending { id, batch }), request))
            }
            Err(error) => {
                self.respond(&id, batch, &Err(error));
                None
            }
        }
    }

    fn begin_batch(&mut self, document: &Arc<Document>, first: usize) {
        let batch = self.batches.insert(Batch::default());
        self.batch = Some(Cursor { document: Arc::clone(document), next: Some(first), batch });
    }

    /// Every request of the batch was handed out.
    fn end_batch(&mut self) {
        if let Some(Cursor { batch: slot, .. }) = self.batch.take()
            && let Some(batch) = self.batches.get_mut(slot)
        {
            batch.complete = true;
            self.flush_batch(slot);
        }
    }

    /// Sends a batch off if its last response is there. One of notifications only has none.
    fn flush_batch(&mut self, slot: u32) {
        let done = self.batches.get_mut(slot).is_some_and(|batch| batch.complete && batch.in_flight == 0);
        if done && let Some(Batch { responses, .. }) = self.batches.remove(slot) {
            self.batched_bytes -= responses.len();
            if !responses.is_empty() {
                self.outbox.push(&[b"[", &responses, b"]\n"]);
            }
        }
    }

    /// Queues a response.
    fn respond(&mut self, id: &Id, batch: Option<u32>, reply: &Reply) {
        if self.phase == Phase::Abandoned {
            return;
        }
        // A notification is told only what went wrong.
        if id.is_some() || reply.is_err() {
            let response = encode(id.as_deref(), self.fitting(reply));
            match batch.and_then(|batch| self.batches.get_mut(batch)) {
                Some(batch) => {
                    let separator: &[u8] = if batch.responses.is_empty() { b"" } else { b"," };
                    batch.responses.extend_from_slice(separator);
                    batch.responses.extend_from_slice(&response);
                    self.batched_bytes += separator.len() + response.len();
                }
                None => self.outbox.push(&[&response, b"\n"]),
            }
        }
        if let Some(batch) = batch {
            self.flush_batch(batch);
        }
    }

    /// The reply, or an error where its result has no room.
    fn fitting<'r>(&self, reply: &'r Reply) -> Result<&'r str, &'r RpcError> {
        let result = reply.as_ref()?.as_str();
        let held = self.outbox.unsent().len() + self.batched_bytes;
        if result.len() > RESULT_BYTES_SHORT && held + result.len() > OUTPUT_BYTES_MAX {
            return Err(&TOO_LARGE);
        }
        Ok(result)
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}
