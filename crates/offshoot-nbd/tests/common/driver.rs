//! The protocol machine over a backend in memory, without sockets.

use super::memory::{self, MemoryBackend};
use super::wire::{CLIENT_FLAGS, info, option};
use offshoot_nbd::{
    Backend, Connection, Event, ExportId, InputBuffer, Limits, Peer, ProtocolError, RequestId, TlsPolicy,
};
use std::io::IoSlice;

/// Size of the exports, in bytes.
pub const SIZE: u64 = 1 << 20;

/// A machine over a memory backend, driven as the server does it.
pub struct Driver {
    pub connection: Connection,
    /// Whether it was told to begin TLS.
    pub began_tls: bool,
    pub input: InputBuffer,
    pub backend: MemoryBackend,
    pub sent: Vec<u8>,
}

impl Driver {
    pub fn new() -> Self {
        Self::with_tls(TlsPolicy::Unavailable)
    }

    /// One whose client may, or must, ask for TLS. What comes then goes through nothing here.
    pub fn with_tls(policy: TlsPolicy) -> Self {
        Self::with(Connection::with(policy, Limits::default()))
    }

    /// One around a connection.
    pub fn with(connection: Connection) -> Self {
        let exports = vec![memory::export("vol", SIZE, false), memory::export("sealed", SIZE, true)];
        Self {
            connection,
            began_tls: false,
            input: InputBuffer::new(),
            backend: MemoryBackend::new(exports),
            sent: Vec::new(),
        }
    }

    /// Hands over as much of `bytes` as is wanted, in pieces of at most `piece`. Returns how much.
    pub fn feed(&mut self, bytes: &[u8], piece: usize) -> Result<usize, ProtocolError> {
        let mut fed = 0;
        self.run()?;
        while fed < bytes.len() && self.connection.wants_input() {
            let rest = &bytes[fed..bytes.len().min(fed.saturating_add(piece))];
            let [first, second] = self.connection.input_slices(&mut self.input);
            let direct = first.len().min(rest.len());
            first[..direct].copy_from_slice(&rest[..direct]);
            let buffered = second.len().min(rest.len() - direct);
            second[..buffered].copy_from_slice(&rest[direct..direct + buffered]);
            self.connection.advance_input(&mut self.input, direct + buffered);
            fed += direct + buffered;
            self.run()?;
        }
        Ok(fed)
    }

    /// Acts on events and sends output until neither brings anything new.
    pub fn run(&mut self) -> Result<(), ProtocolError> {
        let (export, peer) = (ExportId(0), Peer::default());
        loop {
            while let Some(event) = self.connection.poll_event(&mut self.input)? {
                match event {
                    Event::StartTls => self.began_tls = true,
                    Event::ListExports => self.connection.handle_exports(&self.backend.exports(&peer)),
                    Event::LookUp { name } => {
                        self.connection.handle_export(self.backend.info(&name, &peer).as_ref())?;
                    }
                    Event::Open { name } => {
                        let info = self.backend.open(&name, &peer).map(|(_, info)| info);
                        self.connection.handle_export(info.as_ref())?;
                    }
                    Event::Payload { len } => self.connection.handle_buffer(self.backend.buffer(len)),
                    Event::Request { slot, command } => {
                        self.backend.submit(RequestId(slot.into()), export, command);
                        // At once, so that errors found by the machine itself do not overtake it.
                        self.answer();
                    }
                }
            }
            self.answer();
            if !self.connection.wants_output() {
                return Ok(());
            }
            self.send_all();
        }
    }

    fn answer(&mut self) {
        let mut replies = Vec::new();
        self.backend.poll(&mut replies);
        for (id, reply) in replies {
            self.connection.handle_reply(u32::try_from(id.0).unwrap(), reply);
        }
    }

    pub fn send_all(&mut self) {
        while self.connection.wants_output() {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = self.connection.output_slices(&mut slices);
            let before = self.sent.len();
            slices[..count].iter().for_each(|slice| self.sent.extend_from_slice(slice));
            let sent = self.sent.len() - before;
            self.connection.advance_output(sent, drop);
        }
    }
}

/// What a server says to `bytes` in one piece.
pub fn converse(bytes: &[u8]) -> (Vec<u8>, Result<usize, ProtocolError>) {
    let mut driver = Driver::new();
    let fed = driver.feed(bytes, usize::MAX);
    (driver.sent, fed)
}

/// The machine in transmission, with what it said so far forgotten.
pub fn serving(options: &[Vec<u8>]) -> Driver {
    let mut driver = Driver::new();
    let bytes = [&CLIENT_FLAGS[..], &options.concat(), &option(7, &info("vol", &[]))].concat();
    driver.feed(&bytes, usize::MAX).unwrap();
    driver.sent.clear();
    driver
}
