//! A socket and its protocol machine.

use super::backend::{Backend, RequestId};
use crate::connection::Connection;
use offshoot_reactor::Interest;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SendFlags;

/// One client, from accept until its last request is answered.
#[derive(Debug)]
pub(super) struct Client {
    /// `None` once the connection was cut: what remains waits for the backend.
    pub(super) socket: Option<OwnedFd>,
    pub(super) connection: Connection,
    /// What the poller watches the socket for.
    pub(super) interest: Interest,
    /// Whether it is in the queue of clients to settle.
    pub(super) queued: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket: Some(socket), connection: Connection::new(), interest: Interest::INPUT, queued: false }
    }

    /// Reads once, by way of `buffer`.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Errno> {
        let Some(socket) = self.socket.as_ref().filter(|_| self.connection.wants_input()) else {
            return Ok(());
        };
        match rustix::io::read(socket, &mut *buffer) {
            Ok(0) => self.connection.handle_end(),
            Ok(count) => self.connection.handle_input(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Hands requests to the backend. Returns whether there were any.
    pub(super) fn pump<B: Backend>(&mut self, slot: u32, backend: &mut B) -> bool {
        let mut submitted = false;
        while let Some((request_slot, request)) = self.connection.poll_request() {
            backend.submit(request_id(slot, request_slot), request);
            submitted = true;
        }
        submitted
    }

    /// Sends responses until there are none, or the socket takes no more. Returns whether it took all.
    pub(super) fn send(&mut self) -> Result<bool, Errno> {
        let Some(socket) = &self.socket else {
            return Ok(true);
        };
        while !self.connection.output().is_empty() {
            match rustix::net::send(socket, self.connection.output(), SendFlags::NOSIGNAL) {
                Ok(sent) => self.connection.advance_output(sent),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Cuts the connection. What is under way stays so until the backend has answered it.
    pub(super) fn cut(&mut self) {
        self.socket = None;
        self.connection.abandon();
    }

    /// What the socket should be watched for.
    pub(super) fn wanted(&self) -> Interest {
        Interest { input: self.connection.wants_input(), output: !self.connection.output().is_empty() }
    }
}

/// The client's slot and the request's slot within it, side by side.
fn request_id(client: u32, request: u32) -> RequestId {
    RequestId(u64::from(client) << 32 | u64::from(request))
}

/// The two slots of a request.
pub(super) fn slots_of(id: RequestId) -> (u32, u32) {
    let [high, low] = [id.0 >> 32, id.0 & u64::from(u32::MAX)];
    // Both halves fit, by construction.
    (u32::try_from(high).unwrap_or(u32::MAX), u32::try_from(low).unwrap_or(u32::MAX))
}
