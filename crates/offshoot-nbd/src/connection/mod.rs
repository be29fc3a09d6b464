//! The protocol machine of one connection.

mod input;
mod negotiation;
mod output;
mod requests;
mod serving;

pub use input::InputBuffer;

use crate::backend::{Command, ExportInfo, OpenError, Reply};
use crate::limits::{DIRECT_PAYLOAD_BYTES_MIN, Limits, NEGOTIATION_OUTPUT_BYTES_MAX, OPTION_BYTES_MAX};
use crate::proto::handshake;
use crate::proto::transmission::{REQUEST_BYTES, Terms};
use negotiation::Negotiation;
use offshoot_block::Buffer;
use output::Outbox;
use requests::RequestTable;
use serving::{Drain, Receiving};
use std::io::IoSlice;
use thiserror::Error;

/// The server's side of one NBD connection, without a socket.
///
/// The caller goes round these steps, in this order:
/// 1. While [`Connection::wants_input`], it reads the socket into [`Connection::input_slices`] and tells
///    [`Connection::advance_input`] how much came.
/// 2. It drains [`Connection::poll_event`] and acts on each event at once. A [`Event::Request`] is answered by
///    [`Connection::handle_reply`] whenever that is, all others before the next poll.
/// 3. While [`Connection::wants_output`], it writes [`Connection::output_slices`] to the socket and tells
///    [`Connection::advance_output`] how much went. Afterwards there may be new events in what was already received.
/// 4. When [`Connection::is_finished`], it closes the socket.
///
/// The input buffer is an argument, always the same one as long as it is not empty.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    negotiation: Negotiation,
    /// Set when an export was chosen.
    terms: Terms,
    requests: RequestTable,
    outbox: Outbox,
}

/// What the machine expects next.
#[derive(Debug)]
enum Phase {
    /// The client's flags, 32 bits.
    ClientFlags,
    /// The head of an option.
    OptionHead,
    /// The data of an option.
    OptionData { option: u32, len: usize },
    /// The rest of an option that was too big to look at.
    OptionDrain { option: u32, left: u64 },
    /// The caller's answer to an event of the negotiation.
    Answer(negotiation::Question),
    /// A request.
    Request,
    /// The caller's buffer for the payload of a write.
    AwaitBuffer(Receiving),
    /// The rest of that payload.
    Payload { write: Receiving, buffer: Buffer, filled: usize },
    /// The rest of the payload of a write that was refused.
    PayloadDrain(Drain),
    /// Nothing: replies are under way, then the connection ends.
    Finishing,
    /// Nothing, and nobody is there to take a reply.
    Abandoned,
}

/// What becomes of STARTTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// It is refused.
    #[default]
    Unavailable,
    /// It is granted (the protocol's `SELECTIVETLS`, for all exports).
    Offered,
    /// It comes before everything else (the protocol's `FORCEDTLS`).
    Required,
}

/// What the caller of a [`Connection`] has to do.
#[derive(Debug)]
pub enum Event {
    /// Once all output is sent, everything goes through TLS: what the client sends from now on, and what it is sent. Input
    /// that has been received already was sent too early, and the connection has to end.
    StartTls,
    /// Call [`Connection::handle_exports`].
    ListExports,
    /// Look an export up without opening it, then call [`Connection::handle_export`].
    LookUp {
        /// Its name, or the empty name for the default.
        name: String,
    },
    /// Open an export, then call [`Connection::handle_export`].
    Open {
        /// Its name, or the empty name for the default.
        name: String,
    },
    /// Call [`Connection::handle_buffer`] with a buffer of this length.
    Payload {
        /// Length in bytes.
        len: usize,
    },
    /// Carry out a command, then call [`Connection::handle_reply`] with the same slot.
    Request {
        /// Names the request among those under way. Less than [`Limits::requests`].
        slot: u32,
        /// What to do.
        command: Command,
    },
}

/// A client broke the protocol so that nothing it sends can be trusted to mean what it seems. Close the socket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Flags that the server did not offer.
    #[error("unknown client flags {flags:#x}")]
    ClientFlags {
        /// What the client sent.
        flags: u32,
    },
    /// An option that does not start as one.
    #[error("an option starts with a wrong magic number")]
    OptionMagic,
    /// An option of fixed newstyle from a client that did not agree to it.
    #[error("option {option} without fixed newstyle negotiation")]
    NotFixedNewstyle {
        /// The option.
        option: u32,
    },
    /// EXPORT_NAME, which knows no error reply, could not be granted.
    #[error("the export asked for by EXPORT_NAME cannot be used: {reason}")]
    ExportName {
        /// Why.
        reason: String,
    },
    /// More options than [`crate::limits::OPTIONS_MAX`].
    #[error("more than {max} options and no export chosen")]
    TooManyOptions {
        /// The limit.
        max: u32,
    },
    /// A request that does not start as one.
    #[error("a request starts with a wrong magic number")]
    RequestMagic,
}

impl Connection {
    /// A connection that was just accepted. The greeting waits in the output.
    #[must_use]
    pub fn new() -> Self {
        Self::with(TlsPolicy::Unavailable, Limits::default())
    }

    /// One whose client may, or must, ask for TLS, within other limits.
    #[must_use]
    pub fn with(policy: TlsPolicy, limits: Limits) -> Self {
        let mut connection = Self::silent(policy, limits);
        connection.outbox.inline(handshake::encode_greeting);
        connection
    }

    /// One on which everything is agreed already: the transmission of an export begins, with simple replies.
    #[must_use]
    pub fn agreed(export: &ExportInfo, limits: Limits) -> Self {
        let mut connection = Self::silent(TlsPolicy::Unavailable, limits);
        connection.begin_transmission(export);
        connection
    }

    fn silent(policy: TlsPolicy, limits: Limits) -> Self {
        Self {
            phase: Phase::ClientFlags,
            negotiation: Negotiation::new(policy),
            terms: Terms {
                size_bytes: 0,
                payload_bytes: 0,
                read_only: true,
                structured: false,
                allocation: false,
            },
            requests: RequestTable::new(limits),
            outbox: Outbox::default(),
        }
    }

    /// Whether the socket should be read: more bytes are of use now, and there is room for what they may ask.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Finishing | Phase::Abandoned | Phase::Answer(_) | Phase::AwaitBuffer(_) => false,
            Phase::Payload { .. } | Phase::PayloadDrain(_) => true,
            _ => self.has_room(),
        }
    }

    /// Where to put what the socket has: the rest of a payload, then the input buffer. The first may be empty.
    pub fn input_slices<'a>(&'a mut self, input: &'a mut InputBuffer) -> [&'a mut [u8]; 2] {
        let payload = match &mut self.phase {
            Phase::Payload { buffer, filled, .. } if input.is_empty() => {
                &mut buffer.as_mut_slice()[*filled..]
            }
            _ => &mut [],
        };
        let spare = input.spare_mut();
        if payload.len() < DIRECT_PAYLOAD_BYTES_MIN {
            return [payload, spare];
        }
        [payload, &mut spare[..REQUEST_BYTES]]
    }

    /// Takes note that `count` bytes were put into [`Connection::input_slices`].
    ///
    /// # Panics
    /// When they cannot have fitted.
    pub fn advance_input(&mut self, input: &mut InputBuffer, count: usize) {
        let direct = match &mut self.phase {
            Phase::Payload { buffer, filled, .. } if input.is_empty() => {
                let direct = count.min(buffer.len() - *filled);
                *filled += direct;
                direct
            }
            _ => 0,
        };
        input.filled(count - direct);
    }

    /// What to do next about the bytes received. `None`: nothing before more input, output or replies.
    ///
    /// # Errors
    /// [`ProtocolError`]. The connection must not be polled again.
    pub fn poll_event(&mut self, input: &mut InputBuffer) -> Result<Option<Event>, ProtocolError> {
        loop {
            let step = match self.phase {
                Phase::ClientFlags
                | Phase::OptionHead
                | Phase::OptionData { .. }
                | Phase::OptionDrain { .. }
                | Phase::Answer(_) => self.step_negotiation(input)?,
                _ => self.step_serving(input)?,
            };
            match step {
                Step::Event(event) => return Ok(Some(event)),
                Step::Stuck => return Ok(None),
                Step::Again => {}
            }
        }
    }

    /// Answers [`Event::ListExports`].
    pub fn handle_exports(&mut self, exports: &[ExportInfo]) {
        self.answer_exports(exports);
    }

    /// Answers [`Event::LookUp`] or [`Event::Open`]. A granted [`Event::Open`] starts the transmission.
    ///
    /// # Errors
    /// [`ProtocolError::ExportName`]: the client cannot be told but by closing the socket.
    pub fn handle_export(&mut self, export: Result<&ExportInfo, &OpenError>) -> Result<(), ProtocolError> {
        self.answer_export(export)
    }

    /// Answers [`Event::Payload`].
    ///
    /// # Panics
    /// When the buffer has another length.
    pub fn handle_buffer(&mut self, buffer: Buffer) {
        self.answer_buffer(buffer);
    }

    /// Answers [`Event::Request`], in any order. Returns the buffer of a reply that cannot be sent.
    pub fn handle_reply(&mut self, slot: u32, reply: Reply) -> Option<Buffer> {
        self.answer_request(slot, reply)
    }

    /// Takes no more requests: the client closed its end, or the server is about to stop. What is under way is still
    /// answered. A write whose payload is not complete was not begun; its buffer is returned.
    pub fn handle_end(&mut self) -> Option<Buffer> {
        self.enter_last_phase(Phase::Finishing)
    }

    /// Drops everything unsent: the socket is gone. Later replies are taken and dropped.
    pub fn abandon(&mut self, mut recycle: impl FnMut(Buffer)) {
        if let Some(buffer) = self.enter_last_phase(Phase::Abandoned) {
            recycle(buffer);
        }
        self.outbox.clear(recycle);
    }

    fn enter_last_phase(&mut self, last: Phase) -> Option<Buffer> {
        match std::mem::replace(&mut self.phase, last) {
            Phase::Payload { buffer, .. } => Some(buffer),
            Phase::Abandoned => {
                self.phase = Phase::Abandoned;
                None
            }
            _ => None,
        }
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn wants_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Fills `slices` with what to send next. Returns how many were filled.
    pub fn output_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outbox.gather(slices)
    }

    /// Takes note that the first `count` bytes of [`Connection::output_slices`] were sent. Hands back each payload that
    /// has been sent to its end.
    pub fn advance_output(&mut self, count: usize, recycle: impl FnMut(Buffer)) {
        self.outbox.sent(count, recycle);
    }

    /// Requests that were handed out and not yet answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Whether no export has been chosen yet.
    #[must_use]
    pub fn is_negotiating(&self) -> bool {
        matches!(
            self.phase,
            Phase::ClientFlags
                | Phase::OptionHead
                | Phase::OptionData { .. }
                | Phase::OptionDrain { .. }
                | Phase::Answer(_)
        )
    }

    /// Whether no more requests are taken.
    #[must_use]
    pub fn is_finishing(&self) -> bool {
        matches!(self.phase, Phase::Finishing | Phase::Abandoned)
    }

    /// Whether everything is answered and sent and no more will come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finishing() && self.in_flight() == 0 && self.outbox.is_empty()
    }

    /// Whether the next option or request may be looked at.
    fn has_room(&self) -> bool {
        if self.is_negotiating() {
            self.outbox.pending_bytes() < NEGOTIATION_OUTPUT_BYTES_MAX
        } else {
            self.requests.has_room(self.outbox.pending_bytes())
        }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

/// How far one step came.
#[derive(Debug)]
enum Step {
    /// Something for the caller.
    Event(Event),
    /// Something was understood; look at the rest.
    Again,
    /// Nothing can be done now.
    Stuck,
}

// A whole option must fit the input buffer, and so must a request.
const _: () = assert!(OPTION_BYTES_MAX + handshake::OPTION_HEAD_BYTES < crate::limits::INPUT_BYTES);
