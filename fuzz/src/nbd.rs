//! One connection of the NBD server, from any bytes.
//!
//! The first byte says how the others are cut, how requests are answered and in which order; the others are what a client
//! sends.

use offshoot_block::Buffer;
use offshoot_nbd::{
    Command, Connection, Errno, Event, ExportInfo, Extent, InputBuffer, Limits, OpenError, ProtocolError,
    Reply, TlsPolicy, limits,
};
use std::io::IoSlice;

/// Size of the export, in bytes.
const SIZE: u64 = 1 << 20;

/// Bytes of replies that are compared: a few large reads come to more.
const SENT_BYTES_MAX: usize = 4 << 20;

/// Talks to a client twice, cut and whole, with the same outcome; and once out of order, with no more under way than is
/// allowed.
pub fn run(bytes: &[u8]) {
    let Some((how, stream)) = bytes.split_first() else { return };
    let whole = converse(*how, std::iter::once(stream));
    let cut = converse(*how, stream.chunks(usize::from(*how).max(1)));
    assert!(cut == whole, "cut elsewhere it goes otherwise");
    out_of_order(*how, stream);
}

fn export() -> ExportInfo {
    ExportInfo {
        name: "vol".into(),
        description: "an export".into(),
        size_bytes: SIZE,
        read_only: false,
        min_block: 1,
        preferred_block: 4096,
        max_block: limits::PAYLOAD_BYTES_MAX,
    }
}

/// A server's side of a connection, as far as it needs no socket.
struct Talk {
    connection: Connection,
    input: InputBuffer,
    /// What was sent first.
    sent: Vec<u8>,
    sent_bytes: usize,
}

impl Talk {
    /// Two bits of `how` say what becomes of STARTTLS.
    fn new(how: u8) -> Self {
        let policy = match how >> 6 {
            0 | 1 => TlsPolicy::Unavailable,
            2 => TlsPolicy::Offered,
            _ => TlsPolicy::Required,
        };
        Self {
            connection: Connection::with(policy, Limits::default()),
            input: InputBuffer::new(),
            sent: Vec::new(),
            sent_bytes: 0,
        }
    }

    /// Hands over a part of what is left, if some is wanted.
    fn feed<'b>(&mut self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        if bytes.is_empty() || !self.connection.wants_input() {
            return None;
        }
        let [first, second] = self.connection.input_slices(&mut self.input);
        let (direct, rest) = bytes.split_at(first.len().min(bytes.len()));
        let (buffered, rest) = rest.split_at(second.len().min(rest.len()));
        first[..direct.len()].copy_from_slice(direct);
        second[..buffered.len()].copy_from_slice(buffered);
        assert!(direct.len() + buffered.len() > 0, "input is wanted and there is no room for it");
        self.connection.advance_input(&mut self.input, direct.len() + buffered.len());
        Some(rest)
    }

    /// The next request, everything else being dealt with.
    fn next(&mut self) -> Result<Option<(u32, Command)>, ProtocolError> {
        while let Some(event) = self.connection.poll_event(&mut self.input)? {
            match event {
                // From here on it would be records: nothing more of this stream counts.
                Event::StartTls => {
                    self.connection.handle_end();
                    self.input.clear();
                }
                Event::ListExports => self.connection.handle_exports(&[export()]),
                Event::LookUp { name } | Event::Open { name } => {
                    let found = if name.is_empty() || name == "vol" {
                        Ok(export())
                    } else {
                        Err(OpenError::NotFound)
                    };
                    self.connection.handle_export(found.as_ref())?;
                }
                Event::Payload { len } => {
                    assert!(len <= limits::PAYLOAD_BYTES_MAX as usize);
                    self.connection.handle_buffer(Buffer::zeroed(len));
                }
                Event::Request { slot, command } => return Ok(Some((slot, command))),
            }
        }
        Ok(None)
    }

    fn send(&mut self) {
        while self.connection.wants_output() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = self.connection.output_slices(&mut slices);
            let len: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            assert!(len > 0, "output is wanted and there is none");
            for slice in &slices[..count] {
                let kept = slice.len().min(SENT_BYTES_MAX - self.sent.len());
                self.sent.extend_from_slice(&slice[..kept]);
            }
            self.sent_bytes += len;
            self.connection.advance_output(len, drop);
        }
    }
}

/// An answer that follows from the command alone; now and then one that does not fit it.
fn answer(how: u8, command: &Command) -> Reply {
    let range = match command {
        Command::Flush => 0..0,
        Command::Read { offset, len } => *offset..*offset + u64::from(*len),
        Command::Write { offset, data, .. } => *offset..*offset + data.len() as u64,
        Command::Trim { offset, len, .. }
        | Command::WriteZeroes { offset, len, .. }
        | Command::BlockStatus { offset, len, .. }
        | Command::Cache { offset, len } => *offset..*offset + *len,
    };
    assert!(range.end <= SIZE, "{range:?} is beyond the end");
    let len = range.end - range.start;
    match (command, how % 5) {
        (_, 0) if range.start % 3 == 1 => Reply::Error(Errno::NoSpc),
        (_, 1) if range.start % 5 == 1 => Reply::Zeroes,
        (Command::Read { .. }, _) if range.start % 2 == 1 => Reply::Zeroes,
        (Command::Read { .. }, _) => Reply::Data(Buffer::zeroed(usize::try_from(len).unwrap_or(0))),
        (Command::BlockStatus { .. }, _) => {
            let halves = [(len.div_ceil(2), true), (len / 2, false)];
            let halves = halves.into_iter().filter(|(len, _)| *len > 0);
            Reply::Status(
                halves.map(|(len, allocated)| Extent { len, allocated, zero: !allocated }).collect(),
            )
        }
        _ => Reply::Done,
    }
}

/// What is said when everything is answered at once, and how it ends: with an error, or with the connection finished.
fn converse<'s>(
    how: u8,
    pieces: impl Iterator<Item = &'s [u8]>,
) -> (Vec<u8>, usize, Result<bool, ProtocolError>) {
    let mut talk = Talk::new(how);
    let result = pieces.map(Some).chain([None]).try_for_each(|piece| {
        let mut rest = piece;
        loop {
            while let Some((slot, command)) = talk.next()? {
                talk.connection.handle_reply(slot, answer(how, &command));
                talk.send();
            }
            talk.send();
            rest = match rest.and_then(|rest| talk.feed(rest)) {
                Some(rest) => Some(rest),
                None => return Ok(()),
            };
        }
    });
    // What was said before an error counts, however late the error was found.
    talk.send();
    let finished = talk.connection.is_finished();
    (talk.sent, talk.sent_bytes, result.map(|()| finished))
}

/// Keeps requests until no more are handed out, answers the latest first, and leaves in the middle.
fn out_of_order(how: u8, stream: &[u8]) {
    let mut talk = Talk::new(how);
    let mut waiting = Vec::new();
    let mut rest = stream;
    loop {
        let mut is_over = false;
        loop {
            match talk.next() {
                Ok(Some(request)) => waiting.push(request),
                Ok(None) => break,
                Err(_) => {
                    is_over = true;
                    break;
                }
            }
        }
        assert_eq!(talk.connection.in_flight(), waiting.len());
        assert!(waiting.len() <= Limits::default().requests);
        if is_over {
            break;
        }
        if talk.connection.is_negotiating() {
            talk.send();
        }
        match talk.feed(rest) {
            Some(left) => rest = left,
            None if waiting.len() > usize::from(how % 4) => {
                let (slot, command) = waiting.swap_remove(usize::from(how) % waiting.len());
                drop(talk.connection.handle_reply(slot, answer(how, &command)));
                talk.send();
            }
            None => break,
        }
    }
    // The client is gone; replies that come later belong to nobody.
    drop(talk.connection.handle_end());
    talk.connection.abandon(drop);
    for (slot, command) in waiting {
        drop(talk.connection.handle_reply(slot, answer(how, &command)));
    }
    assert_eq!(talk.connection.in_flight(), 0);
}
