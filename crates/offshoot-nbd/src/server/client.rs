//! A socket, its protocol machine, what is between them, and the export that it opened.

use super::tls::{Session, SessionError, Tls};
use crate::backend::{Adopted, Backend, Errno, ExportId, Peer, Reply, RequestId};
use crate::connection::{Connection, Event, InputBuffer, ProtocolError, TlsPolicy};
use crate::limits::{Limits, OUTPUT_SEGMENTS_MAX};
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
    #[error(transparent)]
    Tls(rustls::Error),
    #[error("it sent more before TLS was begun")]
    TooEarly,
}

impl From<SessionError> for Hangup {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Tls(error) => Self::Tls(error),
            SessionError::Socket(errno) => Self::Socket(errno),
        }
    }
}

/// One client, from accept until its last request is answered.
#[derive(Debug)]
pub(super) struct Client {
    /// `None` once the connection was cut: what remains waits for the backend.
    pub(super) socket: Option<OwnedFd>,
    pub(super) connection: Connection,
    security: Security,
    peer: Peer,
    /// Present while bytes wait to be looked at.
    input: Option<InputBuffer>,
    export: Option<ExportId>,
    /// What the backend calls it, if it is one that was taken over.
    tag: Option<u64>,
    /// What the poller watches the socket for.
    pub(super) interest: Interest,
    /// Tells this client from an earlier one in the same slot.
    pub(super) serial: u64,
    /// Whether it is in the queue of clients to settle.
    pub(super) queued: bool,
}

/// How far TLS is.
#[derive(Debug)]
enum Security {
    /// The client has not asked for it. What it may ask for.
    None(Option<Tls>),
    /// The last reply without it is on its way.
    Beginning(Session),
    /// Everything goes through it.
    Begun(Session),
}

/// Input buffers that no client holds.
pub(super) type SpareInputs = Vec<InputBuffer>;

impl Client {
    /// A client that may have TLS, or must.
    pub(super) fn new(
        socket: OwnedFd,
        serial: u64,
        peer: Peer,
        tls: Option<(Tls, TlsPolicy)>,
        limits: Limits,
    ) -> Self {
        let (tls, policy) = tls.unzip();
        Self {
            socket: Some(socket),
            connection: Connection::with(policy.unwrap_or_default(), limits),
            security: Security::None(tls),
            peer,
            input: None,
            export: None,
            tag: None,
            interest: Interest::INPUT,
            serial,
            queued: false,
        }
    }

    /// One with which everything is agreed already.
    pub(super) fn adopted(adopted: Adopted, serial: u64, limits: Limits) -> Self {
        let Adopted { tag, socket, export, info } = adopted;
        Self {
            connection: Connection::agreed(&info, limits),
            export: Some(export),
            tag: Some(tag),
            ..Self::new(socket, serial, Peer::default(), None, limits)
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
        let read = match &mut self.security {
            Security::None(_) => rustix::io::readv(socket, &mut slices[skip..]).map_err(Hangup::from),
            Security::Beginning(_) => return Ok(()),
            Security::Begun(session) => session.read(socket, &mut slices[skip..]).map_err(Hangup::from),
        };
        match read {
            Ok(0) => {
                if let Some(buffer) = self.connection.handle_end() {
                    backend.recycle(buffer);
                }
            }
            Ok(count) => self.connection.advance_input(input, count),
            Err(Hangup::Socket(OsError::AGAIN | OsError::INTR)) => {}
            Err(hangup) => return Err(hangup),
        }
        Ok(())
    }

    /// Whether there is something to read of which the socket does not tell.
    pub(super) fn has_unread(&self) -> bool {
        matches!(&self.security, Security::Begun(session) if session.has_unread())
            && self.connection.wants_input()
    }

    /// Whether there is something to send.
    pub(super) fn wants_output(&self) -> bool {
        let records = matches!(&self.security, Security::Begun(session) if session.wants_output());
        self.socket.is_some() && (records || self.connection.wants_output())
    }

    /// Whether everything is answered and sent and no more will come.
    pub(super) fn is_finished(&self) -> bool {
        self.connection.is_finished() && !self.wants_output()
    }

    /// Acts on what was received. Returns whether the backend got something to do.
    pub(super) fn pump<B: Backend>(
        &mut self,
        slot: u32,
        backend: &mut B,
        spares: &mut SpareInputs,
    ) -> Result<bool, Hangup> {
        let mut submitted = false;
        if self.connection.is_negotiating() {
            self.identify();
        }
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
                Event::StartTls => {
                    if !input.is_empty() {
                        return Err(Hangup::TooEarly);
                    }
                    self.security = match &self.security {
                        Security::None(Some(tls)) => Security::Beginning(Session::new(tls)?),
                        // The machine grants it once, and only where there is something to grant.
                        _ => return Err(Hangup::TooEarly),
                    };
                }
                Event::ListExports => self.connection.handle_exports(&backend.exports(&self.peer)),
                Event::LookUp { name } => {
                    self.connection.handle_export(backend.info(&name, &self.peer).as_ref())?;
                }
                Event::Open { name } => {
                    let opened = backend.open(&name, &self.peer);
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
        loop {
            if let Security::Begun(session) = &mut self.security
                && !session.flush(socket)?
            {
                return Ok(false);
            }
            if !self.connection.wants_output() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); OUTPUT_SEGMENTS_MAX];
            let count = self.connection.output_slices(&mut slices);
            let slices = &slices[..count];
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let mut control = SendAncillaryBuffer::default();
            let sent = match &mut self.security {
                Security::Begun(session) => session.write(slices),
                _ => match rustix::net::sendmsg(socket, slices, &mut control, SendFlags::NOSIGNAL) {
                    Ok(sent) if sent < offered => {
                        self.connection.advance_output(sent, |buffer| backend.recycle(buffer));
                        return Ok(false);
                    }
                    Ok(sent) => sent,
                    Err(OsError::AGAIN) => return Ok(false),
                    Err(OsError::INTR) => continue,
                    Err(errno) => return Err(errno.into()),
                },
            };
            self.connection.advance_output(sent, |buffer| backend.recycle(buffer));
        }
        self.security = match std::mem::replace(&mut self.security, Security::None(None)) {
            Security::Beginning(session) => Security::Begun(session),
            other => other,
        };
        Ok(true)
    }

    /// Takes note of who the client is, once TLS says so.
    fn identify(&mut self) {
        if let Security::Begun(session) = &self.security
            && self.peer.names.is_empty()
        {
            self.peer.names = session.names();
        }
    }

    /// Says that nothing more comes.
    pub(super) fn say_goodbye(&mut self) {
        if let (Security::Begun(session), Some(socket)) = (&mut self.security, &self.socket) {
            session.end(socket);
        }
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
        if let Some(tag) = self.tag.take() {
            backend.parted(tag);
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
