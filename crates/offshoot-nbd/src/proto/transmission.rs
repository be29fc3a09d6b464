//! Requests of the transmission phase, and what makes one acceptable.

use crate::backend::{Command, Errno};
use crate::proto::wire::{REQUEST_MAGIC, Reader, command, command_flag};

/// Bytes of a request without its payload.
pub(crate) const REQUEST_BYTES: usize = 28;

/// A request as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawRequest {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl RawRequest {
    /// `None` when the magic is wrong.
    pub(crate) fn decode(bytes: &[u8; REQUEST_BYTES]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: reader.u16()?,
            command: reader.u16()?,
            cookie: reader.u64()?,
            offset: reader.u64()?,
            len: reader.u32()?,
        })
    }

    /// Whether the reply to it carries data.
    pub(crate) fn is_read(&self) -> bool {
        self.command == command::READ
    }

    /// Bytes of payload that follow, whether or not the request is acceptable.
    pub(crate) fn payload_bytes(&self) -> u32 {
        if self.command == command::WRITE { self.len } else { 0 }
    }
}

/// What was agreed for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) size_bytes: u64,
    /// Largest payload of one READ or WRITE.
    pub(crate) payload_bytes: u32,
    pub(crate) read_only: bool,
    pub(crate) structured: bool,
    /// Whether `base:allocation` was selected.
    pub(crate) allocation: bool,
}

/// What an acceptable request asks for.
#[derive(Debug)]
pub(crate) enum Intent {
    /// A command without payload.
    Command(Command),
    /// A write; its payload follows.
    Write {
        /// Whether it must be durable before the reply.
        fua: bool,
    },
    /// A range of length zero: success, nothing to do.
    Nothing,
    /// The client takes its leave. There is no reply.
    Disconnect,
}

impl Terms {
    /// Decides on a request.
    ///
    /// # Errors
    /// The error to reply with. The payload of a write follows all the same.
    pub(crate) fn admit(&self, raw: &RawRequest) -> Result<Intent, Errno> {
        let RawRequest { flags, offset, len, .. } = *raw;
        if raw.command == command::DISC {
            return Ok(Intent::Disconnect);
        }
        if flags & !self.flags_of(raw.command)? != 0 {
            return Err(Errno::Inval);
        }
        if raw.command == command::FLUSH {
            return if offset == 0 && len == 0 {
                Ok(Intent::Command(Command::Flush))
            } else {
                Err(Errno::Inval)
            };
        }
        self.check_range(raw)?;
        if len == 0 {
            return Ok(Intent::Nothing);
        }
        let fua = flags & command_flag::FUA != 0;
        let long = u64::from(len);
        Ok(match raw.command {
            command::READ => Intent::Command(Command::Read { offset, len }),
            command::WRITE => Intent::Write { fua },
            command::TRIM => Intent::Command(Command::Trim { offset, len: long, fua }),
            command::CACHE => Intent::Command(Command::Cache { offset, len: long }),
            command::WRITE_ZEROES => Intent::Command(Command::WriteZeroes {
                offset,
                len: long,
                fua,
                no_hole: flags & command_flag::NO_HOLE != 0,
                fast: flags & command_flag::FAST_ZERO != 0,
            }),
            _ => Intent::Command(Command::BlockStatus {
                offset,
                len: long,
                one: flags & command_flag::REQ_ONE != 0,
            }),
        })
    }

    /// The flags that a command may carry. FUA is allowed on all of them (and means nothing where nothing is
    /// written), because the protocol says so and clients do it.
    fn flags_of(&self, command: u16) -> Result<u16, Errno> {
        let own = match command {
            command::READ if self.structured => command_flag::DF,
            command::READ | command::WRITE | command::FLUSH | command::TRIM | command::CACHE => 0,
            command::WRITE_ZEROES => command_flag::NO_HOLE | command_flag::FAST_ZERO,
            command::BLOCK_STATUS if self.allocation => command_flag::REQ_ONE,
            _ => return Err(Errno::Inval),
        };
        Ok(own | command_flag::FUA)
    }

    /// Checks permission and range.
    fn check_range(&self, raw: &RawRequest) -> Result<(), Errno> {
        let changes = matches!(raw.command, command::WRITE | command::TRIM | command::WRITE_ZEROES);
        if changes && self.read_only {
            return Err(Errno::Perm);
        }
        match raw.command {
            command::READ if raw.len > self.payload_bytes => return Err(Errno::Overflow),
            command::WRITE if raw.len > self.payload_bytes => return Err(Errno::Inval),
            // An extent has at least one byte, so there is no answer to this one.
            command::BLOCK_STATUS if raw.len == 0 => return Err(Errno::Inval),
            _ => {}
        }
        let end = raw.offset.checked_add(u64::from(raw.len));
        match end {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ if matches!(raw.command, command::WRITE | command::WRITE_ZEROES) => Err(Errno::NoSpc),
            _ => Err(Errno::Inval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PAYLOAD_BYTES_MAX;

    const MIB: u64 = 1 << 20;
    const OPEN: Terms = Terms {
        size_bytes: 64 * MIB,
        payload_bytes: PAYLOAD_BYTES_MAX,
        read_only: false,
        structured: true,
        allocation: true,
    };

    fn raw(command: u16, flags: u16, offset: u64, len: u32) -> RawRequest {
        RawRequest { flags, command, cookie: 1, offset, len }
    }

    #[test]
    fn refuses_with_the_error_that_the_protocol_names() {
        use crate::proto::wire::{command::*, command_flag::*};
        let sealed = Terms { read_only: true, ..OPEN };
        let plain = Terms { structured: false, allocation: false, ..OPEN };
        let huge = PAYLOAD_BYTES_MAX + 1;
        let table = [
            (OPEN, raw(READ, 0, 64 * MIB, 1), Errno::Inval),
            (OPEN, raw(READ, 0, u64::MAX, 2), Errno::Inval),
            (OPEN, raw(READ, 0, 0, huge), Errno::Overflow),
            (OPEN, raw(READ, REQ_ONE, 0, 1), Errno::Inval),
            (plain, raw(READ, DF, 0, 1), Errno::Inval),
            (OPEN, raw(WRITE, 0, 64 * MIB - 1, 2), Errno::NoSpc),
            (OPEN, raw(WRITE, 0, u64::MAX, 2), Errno::NoSpc),
            (OPEN, raw(WRITE, 0, 0, huge), Errno::Inval),
            (OPEN, raw(WRITE, NO_HOLE, 0, 1), Errno::Inval),
            (OPEN, raw(WRITE, 1 << 5, 0, 1), Errno::Inval),
            (sealed, raw(WRITE, 0, 0, 1), Errno::Perm),
            (OPEN, raw(FLUSH, 0, 1, 0), Errno::Inval),
            (OPEN, raw(FLUSH, 0, 0, 1), Errno::Inval),
            (OPEN, raw(TRIM, 0, 64 * MIB, 1), Errno::Inval),
            (OPEN, raw(TRIM, NO_HOLE, 0, 1), Errno::Inval),
            (sealed, raw(TRIM, 0, 0, 1), Errno::Perm),
            (OPEN, raw(CACHE, 0, 64 * MIB, 1), Errno::Inval),
            (OPEN, raw(CACHE, DF, 0, 1), Errno::Inval),
            (OPEN, raw(WRITE_ZEROES, 0, 64 * MIB, 1), Errno::NoSpc),
            (OPEN, raw(WRITE_ZEROES, DF, 0, 1), Errno::Inval),
            (sealed, raw(WRITE_ZEROES, 0, 0, 1), Errno::Perm),
            (OPEN, raw(BLOCK_STATUS, 0, 64 * MIB, 1), Errno::Inval),
            (OPEN, raw(BLOCK_STATUS, 0, 0, 0), Errno::Inval),
            (OPEN, raw(BLOCK_STATUS, FAST_ZERO, 0, 1), Errno::Inval),
            (plain, raw(BLOCK_STATUS, 0, 0, 1), Errno::Inval),
            (OPEN, raw(8, 0, 0, 0), Errno::Inval),
            (OPEN, raw(u16::MAX, 0, 0, 0), Errno::Inval),
        ];
        for (terms, request, want) in table {
            match terms.admit(&request) {
                Err(errno) => assert_eq!(errno, want, "{request:?}"),
                Ok(intent) => panic!("{request:?} was taken as {intent:?}"),
            }
        }
    }

    #[test]
    fn accepts_what_is_in_range() {
        use crate::proto::wire::{command::*, command_flag::*};
        let end = 64 * MIB;
        let table = [
            raw(READ, DF | FUA, end - 1, 1),
            raw(READ, 0, 0, PAYLOAD_BYTES_MAX),
            raw(WRITE, FUA, 32 * MIB, PAYLOAD_BYTES_MAX),
            raw(FLUSH, FUA, 0, 0),
            raw(TRIM, FUA, 0, 64 << 20),
            raw(CACHE, 0, 0, 64 << 20),
            raw(WRITE_ZEROES, FUA | NO_HOLE | FAST_ZERO, 0, 64 << 20),
            raw(BLOCK_STATUS, REQ_ONE, 1, 1),
            raw(DISC, 0, 0, 0),
        ];
        for request in table {
            OPEN.admit(&request).unwrap_or_else(|errno| panic!("{request:?}: {errno:?}"));
        }
        assert!(matches!(OPEN.admit(&raw(READ, 0, end, 0)), Ok(Intent::Nothing)));
    }
}
