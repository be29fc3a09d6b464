//! Requests and replies.

use super::requests::{Kind, Pending};
use super::{Connection, Event, InputBuffer, Phase, ProtocolError, Step};
use crate::backend::{Command, Errno, Reply};
use crate::proto::chunks;
use crate::proto::transmission::{Intent, REQUEST_BYTES, RawRequest};
use offshoot_block::Buffer;

/// A write whose payload is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving {
    cookie: u64,
    offset: u64,
    len: u32,
    fua: bool,
}

/// A refused write whose payload has to be skipped before the reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    cookie: u64,
    errno: Errno,
    left: u32,
}

impl Connection {
    /// One step of the transmission.
    pub(super) fn step_serving(&mut self, input: &mut InputBuffer) -> Result<Step, ProtocolError> {
        if matches!(self.phase, Phase::Request) {
            return if self.has_room() { self.take_request(input) } else { Ok(Step::Stuck) };
        }
        match &mut self.phase {
            Phase::Payload { buffer, filled, .. } => {
                let target = &mut buffer.as_mut_slice()[*filled..];
                let count = target.len().min(input.bytes().len());
                target[..count].copy_from_slice(&input.bytes()[..count]);
                *filled += count;
                input.consume(count);
                Ok(self.finish_payload())
            }
            Phase::PayloadDrain(drain) => {
                let available = u32::try_from(input.bytes().len()).unwrap_or(u32::MAX);
                let count = drain.left.min(available);
                drain.left -= count;
                input.consume(count as usize);
                if drain.left > 0 {
                    return Ok(Step::Stuck);
                }
                let Drain { cookie, errno, .. } = *drain;
                self.phase = Phase::Request;
                self.reply_error(cookie, errno);
                Ok(Step::Again)
            }
            _ => Ok(Step::Stuck),
        }
    }

    fn take_request(&mut self, input: &mut InputBuffer) -> Result<Step, ProtocolError> {
        let Some(bytes) = input.take_array::<REQUEST_BYTES>() else {
            return Ok(Step::Stuck);
        };
        let raw = RawRequest::decode(&bytes).ok_or(ProtocolError::RequestMagic)?;
        let RawRequest { cookie, offset, len, .. } = raw;
        match self.terms.admit(&raw) {
            Ok(Intent::Command(command)) => {
                let slot = self.requests.insert(Pending { cookie, kind: kind_of(&command) });
                return Ok(Step::Event(Event::Request { slot, command }));
            }
            Ok(Intent::Write { fua }) => {
                self.phase = Phase::AwaitBuffer(Receiving { cookie, offset, len, fua });
                return Ok(Step::Event(Event::Payload { len: len as usize }));
            }
            Ok(Intent::Nothing) => self.reply_nothing(&raw),
            Ok(Intent::Disconnect) => self.phase = Phase::Finishing,
            Err(errno) if raw.payload_bytes() > 0 => {
                self.phase = Phase::PayloadDrain(Drain { cookie, errno, left: len });
            }
            Err(errno) => self.reply_error(cookie, errno),
        }
        Ok(Step::Again)
    }

    /// Hands the write out if its payload is complete.
    fn finish_payload(&mut self) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Request) {
            Phase::Payload { write, buffer, filled } if filled == buffer.len() => {
                let kind = Kind::Write { len: write.len };
                let slot = self.requests.insert(Pending { cookie: write.cookie, kind });
                let command = Command::Write { offset: write.offset, data: buffer, fua: write.fua };
                Step::Event(Event::Request { slot, command })
            }
            incomplete => {
                self.phase = incomplete;
                Step::Stuck
            }
        }
    }

    /// Takes the buffer for a payload.
    pub(super) fn answer_buffer(&mut self, buffer: Buffer) {
        if let Phase::AwaitBuffer(write) = self.phase {
            assert_eq!(buffer.len(), write.len as usize, "the buffer must be as long as the payload");
            self.phase = Phase::Payload { write, buffer, filled: 0 };
        }
    }

    /// Takes the reply to a request.
    pub(super) fn answer_request(&mut self, slot: u32, reply: Reply) -> Option<Buffer> {
        let pending = self.requests.remove(slot);
        debug_assert!(pending.is_some(), "slot {slot} was answered twice or never submitted");
        let Some(Pending { cookie, kind }) = pending else {
            return buffer_of(reply);
        };
        if matches!(self.phase, Phase::Abandoned) {
            return buffer_of(reply);
        }
        let structured = self.terms.structured;
        match (kind, reply) {
            (Kind::Read { offset, len }, Reply::Data(buffer)) if buffer.len() == len as usize => {
                self.outbox.inline(|out| {
                    if structured {
                        chunks::encode_data_head(out, cookie, offset, len);
                    } else {
                        chunks::encode_simple(out, cookie, None);
                    }
                });
                self.outbox.payload(buffer);
                None
            }
            (Kind::Read { offset, len }, Reply::Zeroes) if structured => {
                self.outbox.inline(|out| chunks::encode_hole(out, cookie, offset, len));
                None
            }
            (Kind::Read { len, .. }, Reply::Zeroes) => {
                self.outbox.inline(|out| chunks::encode_simple(out, cookie, None));
                self.outbox.zeroes(len as usize);
                None
            }
            (Kind::Status { len, one }, Reply::Status(extents)) => {
                let covered =
                    self.outbox.inline(|out| chunks::encode_status(out, cookie, len, one, &extents));
                if !covered {
                    self.reply_error(cookie, Errno::Io);
                }
                None
            }
            (Kind::Write { .. } | Kind::Other, Reply::Done) => {
                self.outbox.inline(|out| chunks::encode_simple(out, cookie, None));
                None
            }
            (_, Reply::Error(errno)) => {
                self.reply_error(cookie, errno);
                None
            }
            (_, unfit) => {
                self.reply_error(cookie, Errno::Io);
                buffer_of(unfit)
            }
        }
    }

    /// Success of a request whose range is empty.
    fn reply_nothing(&mut self, raw: &RawRequest) {
        // A read needs a structured reply where those were agreed, also without a byte of content.
        let structured = self.terms.structured && raw.is_read();
        self.outbox.inline(|out| {
            if structured {
                chunks::encode_none(out, raw.cookie);
            } else {
                chunks::encode_simple(out, raw.cookie, None);
            }
        });
    }

    fn reply_error(&mut self, cookie: u64, errno: Errno) {
        let structured = self.terms.structured;
        self.outbox.inline(|out| {
            if structured {
                chunks::encode_error(out, cookie, errno);
            } else {
                chunks::encode_simple(out, cookie, Some(errno));
            }
        });
    }
}

fn kind_of(command: &Command) -> Kind {
    match *command {
        Command::Read { offset, len } => Kind::Read { offset, len },
        Command::BlockStatus { len, one, .. } => Kind::Status { len, one },
        _ => Kind::Other,
    }
}

fn buffer_of(reply: Reply) -> Option<Buffer> {
    match reply {
        Reply::Data(buffer) => Some(buffer),
        _ => None,
    }
}
