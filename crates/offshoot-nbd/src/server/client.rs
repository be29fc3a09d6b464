//! A socket, its protocol machine, and the export that it opened.

use crate::backend::{Backend, Errno, ExportId, Reply, RequestId};
use crate::connection::{Connection, Event, InputBuffer, ProtocolError};
use crate::limits::OUTPUT_SEGMENTS_MAX;
use offshoot_reactor::Interest;
use rustix::fd::OwnedFd;
use rustix::io::Errno as OsError;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::io::{IoSlice, IoSliceMut};
use thiserror::Error;
use tracing::debug;

/// Input buffers kept for the next client that has something to say.
const SPARE_INPUTS_MAX: usize = 4;

/// Why a connection ends before its time.
#[derive(Debug, Error)]
pub(super) enum Hangup {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("the client is gone: {0}")]
    Socket(#[from] OsError),
}

/// One client, from accept until its last request is answered.
#[derive(Debug)]
pub(super) struct Client {
    /// `None` once the connection was cut: what remains waits for the backend.
    pub(super) socket: Option<OwnedFd>,
    pub(super) connection: Connection,
    /// Present while bytes wait to be looked at.
    input: Option<InputBuffer>,
    export: Option<ExportId>,
    /// What the poller watches the socket for.
    pub(super) interest: Interest,
    /// Tells this client from an earlier one in the same slot.
    pub(super) serial: u64,
    /// Whether it is in the queue of clients to settle.
    pub(super) queued: bool,
}

/// Input buffers that no client holds.
pub(super) type SpareInputs = Vec<InputBuffer>;

impl Client {
    pub(super) fn new(socket: OwnedFd, serial: u64) -> Self {
        Self {
            socket: Some(socket),
            connection: Connection::new(),
            input: None,
            export: None,
            interest: Interest::INPUT,
            serial,
            queued: false,
        }
    }

    /// Reads once.
    pub(super) fn receive<B: Backend>(
        &mut self,
        backend: &mut B,
        spares: &mut SpareInputs,
    ) -> Result<(), Hangup> {
        let Some(socket) = self.socket.as_ref().filter(|_| self.connection.wants_input()) else {
            return Ok(());
        };
        let input = self.input.get_or_insert_with(|| spares.pop().unwrap_or_default());
        let mut slices = self.connection.input_slices(input).map(IoSliceMut::new);
        let skip = usize::from(slices[0].is_empty());
        match rustix::io::readv(socket, &mut slices[skip..]) {
            Ok(0) => {
                if let Some(buffer) = self.connection.handle_end() {
                    backend.recycle(buffer);
                }
            }
            Ok(count) => self.connection.advance_input(input, count),
            Err(OsError::AGAIN | OsError::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Acts on what was received. Returns whether the backend got something to do.
    pub(super) fn pump<B: Backend>(
        &mut self,
        slot: u32,
        backend: &mut B,
        spares: &mut SpareInputs,
    ) -> Result<bool, Hangup> {
        let mut submitted = false;
        let Some(input) = &mut self.input else {
            return Ok(false);
        };
        while let Some(event) = self.connection.poll_event(input)? {
            match event {
                Event::Request { slot: request, command } => match self.export {
                    Some(export) => {
                        backend.submit(request_id(slot, request), export, command);
                        submitted = true;
                    }
                    None => drop(self.connection.handle_reply(request, Reply::Error(Errno::Inval))),
                },
                Event::Payload { len } => self.connection.handle_buffer(backend.buffer(len)),
                Event::ListExports => self.connection.handle_exports(&backend.exports()),
                Event::LookUp { name } => self.connection.handle_export(backend.info(&name).as_ref())?,
                Event::Open { name } => {
                    let opened = backend.open(&name);
                    if let Ok((export, info)) = &opened {
                        debug!(slot, name = info.name, size_bytes = info.size_bytes, "export opened");
                        self.export = Some(*export);
                    }
                    self.connection.handle_export(opened.as_ref().map(|(_, info)| info))?;
                }
            }
        }
        if input.is_empty() || self.connection.is_finishing() {
            self.return_input(spares);
        }
        Ok(submitted)
    }

    /// Sends replies until there are none, or the socket takes no more. Returns whether it took all.
    pub(super) fn send<B: Backend>(&mut self, backend: &mut B) -> Result<bool, Hangup> {
        let Some(socket) = &self.socket else {
            return Ok(true);
        };
        while self.connection.wants_output() {
            let mut slices = [IoSlice::new(&[]); OUTPUT_SEGMENTS_MAX];
            let count = self.connection.output_slices(&mut slices);
            let slices = &slices[..count];
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let mut control = SendAncillaryBuffer::default();
            let sent = match rustix::net::sendmsg(socket, slices, &mut control, SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(OsError::AGAIN) => return Ok(false),
                Err(OsError::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.connection.advance_output(sent, |buffer| backend.recycle(buffer));
            if sent < offered {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Cuts the connection. What is under way stays so until the backend has answered it.
    pub(super) fn cut<B: Backend>(&mut self, backend: &mut B, spares: &mut SpareInputs) {
        self.socket = None;
        self.connection.abandon(|buffer| backend.recycle(buffer));
        self.return_input(spares);
    }

    /// Ends the use of the export. To be called when nothing is under way.
    pub(super) fn close_export<B: Backend>(&mut self, backend: &mut B) {
        if let Some(export) = self.export.take() {
            backend.close(export);
        }
    }

    fn return_input(&mut self, spares: &mut SpareInputs) {
        if let Some(mut input) = self.input.take()
            && spares.len() < SPARE_INPUTS_MAX
        {
            input.clear();
            spares.push(input);
        }
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
