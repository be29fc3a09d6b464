//! The server: sockets around protocol machines, one thread, one `epoll_wait`.

mod client;
mod listener;
mod tls;

pub use listener::ListenError;
pub use tls::{Tls, TlsError};

use crate::backend::{Backend, Reply, RequestId};
use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, Limits};
use client::{Client, Hangup, SpareInputs, slots_of};
use listener::Listener;
use offshoot_reactor::{Interest, Poller, Ready, SlotTable};
use rustix::fd::BorrowedFd;
use rustix::io::Errno as OsError;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;
use tracing::{debug, info, warn};

/// The operating system refused something without which the server cannot go on.
#[derive(Debug, Error)]
#[error("cannot wait for sockets: {source}")]
pub struct ServerError {
    /// Its error.
    #[from]
    source: io::Error,
}

impl From<OsError> for ServerError {
    fn from(errno: OsError) -> Self {
        Self { source: errno.into() }
    }
}

/// An NBD server over one [`Backend`].
///
/// Everything happens on the thread that calls [`Server::run`]. In each turn it reads once from every socket that has
/// something, hands all requests to the backend, polls the backend once, and sends all replies of a client in one
/// system call. No client waits for another: one that does not read its replies is not read from either.
#[derive(Debug)]
pub struct Server<B> {
    backend: B,
    poller: Poller,
    listeners: Vec<Listener>,
    tls: Option<Tls>,
    limits: Limits,
    clients: SlotTable<Client>,
    serials: u64,
    /// Clients that got replies, bytes or an end in this turn.
    queue: Vec<u32>,
    replies: Vec<(RequestId, Reply)>,
    spares: SpareInputs,
    /// Whether the backend was given something since it was polled.
    unpolled: bool,
    /// Clients in order of arrival, each with the time by which it must have chosen an export.
    negotiating: VecDeque<(Instant, u32, u64)>,
    /// Whether a listener has a client to accept.
    arrivals: bool,
    /// When to accept again, if that was given up for a while.
    accept_again: Option<Instant>,
    /// When to cut the remaining clients. Set once the server is told to stop.
    drain_until: Option<Instant>,
}

/// Tokens of the poller. A client's token is its slot, which is below all of these.
const TOKEN_STOP: u64 = u64::MAX;
const TOKEN_WAKEUP: u64 = u64::MAX - 1;
const TOKEN_LISTENER: u64 = u64::MAX - 2;

impl<B: Backend> Server<B> {
    /// A server that listens nowhere yet.
    ///
    /// # Errors
    /// [`ServerError`] when there is no epoll instance to be had.
    pub fn new(backend: B) -> Result<Self, ServerError> {
        Ok(Self {
            backend,
            poller: Poller::new()?,
            listeners: Vec::new(),
            tls: None,
            limits: Limits::default(),
            clients: SlotTable::default(),
            serials: 0,
            queue: Vec::new(),
            replies: Vec::new(),
            spares: Vec::new(),
            unpolled: false,
            negotiating: VecDeque::new(),
            arrivals: false,
            accept_again: None,
            drain_until: None,
        })
    }

    /// Sets bounds on what clients may take, from the next connection on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Has clients speak TLS: those on Unix sockets if they ask for it, all others before anything else. To be called before
    /// listening.
    pub fn set_tls(&mut self, tls: Tls) {
        self.tls = Some(tls);
    }

    /// Listens on a Unix socket with mode 0600. A file left there by a server that died is replaced. The file is removed
    /// when the server stops. Clients can connect from now on and are served by [`Server::run`].
    ///
    /// # Errors
    /// [`ListenError`], among others when another server listens there.
    pub fn listen_unix(&mut self, path: &Path) -> Result<(), ListenError> {
        self.listeners.push(Listener::unix(path)?);
        info!(path = %path.display(), "listening");
        Ok(())
    }

    /// Listens under a name in the abstract namespace of Unix sockets. Connections of other users than the owner of the
    /// process and root are closed at once; those of these two are taken however many there are.
    ///
    /// # Errors
    /// [`ServerError`], among others when the name is taken.
    pub fn listen_abstract(&mut self, name: &[u8]) -> Result<(), ServerError> {
        self.listeners.push(Listener::abstract_unix(name)?);
        Ok(())
    }

    /// Listens on an address. Port 0 takes a free one. Returns the address in use.
    ///
    /// # Errors
    /// [`ListenError`], among others for any address that is not loopback, without [`Server::set_tls`].
    pub fn listen_tcp(&mut self, addr: SocketAddr) -> Result<SocketAddr, ListenError> {
        let (listener, bound) = Listener::tcp(addr, self.tls.is_some())?;
        self.listeners.push(listener);
        info!(addr = %bound, "listening");
        Ok(bound)
    }

    /// The backend.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Serves until `stop` is readable. Then nothing more is accepted or read, what is under way is finished and
    /// its replies are sent, for at most [`Limits::drain`], and the backend is handed back. If the time did not
    /// suffice, requests are still under way in it, and the exports of those are not closed.
    ///
    /// # Errors
    /// [`ServerError`] when waiting fails, which does not happen in the ordinary course of things.
    pub fn run(mut self, stop: BorrowedFd<'_>) -> Result<B, ServerError> {
        self.poller.add(stop, TOKEN_STOP, Interest::INPUT)?;
        if let Some(wakeup) = self.backend.wakeup() {
            self.poller.add(wakeup, TOKEN_WAKEUP, Interest::INPUT)?;
        }
        for listener in &self.listeners {
            self.poller.add(listener, TOKEN_LISTENER, Interest::INPUT)?;
        }
        while !self.is_drained() {
            let timeout = self.timeout();
            self.poller.wait(timeout)?;
            for index in 0..self.poller.ready_count() {
                let ready = self.poller.ready(index);
                match ready.token {
                    TOKEN_STOP => self.begin_stop(stop)?,
                    TOKEN_WAKEUP => {}
                    TOKEN_LISTENER => self.arrivals = true,
                    slot => self.handle_ready(u32::try_from(slot).unwrap_or(u32::MAX), ready),
                }
            }
            // Slots of clients that ended above may be used again from here on, when no event names them any more.
            self.handle_deadlines()?;
            if std::mem::take(&mut self.arrivals) {
                self.accept()?;
            }
            self.collect_replies();
            self.adopt();
            self.settle_queue();
        }
        self.cut_remaining();
        Ok(self.backend)
    }

    /// How long to wait for events. `None`: until there is one.
    fn timeout(&self) -> Option<Duration> {
        if self.unpolled || self.backend.busy() {
            return Some(Duration::ZERO);
        }
        let negotiation = self.negotiating.front().map(|(until, ..)| *until);
        let deadlines = [self.backend.deadline(), self.drain_until, self.accept_again, negotiation];
        let earliest = deadlines.into_iter().flatten().min()?;
        Some(earliest.saturating_duration_since(Instant::now()))
    }

    /// Reads from a client.
    fn handle_ready(&mut self, slot: u32, ready: Ready) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        let mut outcome = Ok(false);
        if client.interest.input && (ready.input || ready.hangup) {
            outcome = client
                .receive(&mut self.backend, &mut self.spares)
                .and_then(|()| client.pump(slot, &mut self.backend, &mut self.spares));
        } else if ready.hangup {
            outcome = Err(Hangup::Socket(OsError::PIPE));
        }
        match outcome {
            Ok(submitted) => self.unpolled |= submitted,
            Err(hangup) => Self::cut(slot, client, &hangup, &mut self.backend, &mut self.spares),
        }
        Self::enqueue(&mut self.queue, slot, client);
    }

    /// Takes what the backend has answered.
    fn collect_replies(&mut self) {
        self.unpolled = false;
        self.backend.poll(&mut self.replies);
        for (id, reply) in self.replies.drain(..) {
            let (slot, request) = slots_of(id);
            let Some(client) = self.clients.get_mut(slot) else {
                debug_assert!(false, "{id:?} was answered twice or never submitted");
                continue;
            };
            if let Some(buffer) = client.connection.handle_reply(request, reply) {
                self.backend.recycle(buffer);
            }
            Self::enqueue(&mut self.queue, slot, client);
        }
    }

    /// Sends replies, goes on with what was received, and lets go of clients that are done.
    fn settle_queue(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        for slot in queue.drain(..) {
            self.settle(slot);
        }
        // Nothing is enqueued meanwhile; the memory is kept for the next turn.
        self.queue = queue;
    }

    fn settle(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        client.queued = false;
        match Self::exchange(slot, client, &mut self.backend, &mut self.spares) {
            Ok(submitted) => self.unpolled |= submitted,
            Err(hangup) => Self::cut(slot, client, &hangup, &mut self.backend, &mut self.spares),
        }
        if client.is_finished() {
            client.say_goodbye();
            client.close_export(&mut self.backend);
            self.clients.remove(slot);
            debug!(slot, "connection closed");
            return;
        }
        let interest = Interest { input: client.connection.wants_input(), output: client.wants_output() };
        if interest == client.interest {
            return;
        }
        if let Some(socket) = &client.socket
            && let Err(errno) = self.poller.modify(socket, u64::from(slot), interest)
        {
            Self::cut(slot, client, &errno.into(), &mut self.backend, &mut self.spares);
        }
        client.interest = interest;
    }

    /// Sends, and takes up again what waited for room, in turns until neither gets further. Returns whether the
    /// backend got something to do.
    fn exchange(
        slot: u32,
        client: &mut Client,
        backend: &mut B,
        spares: &mut SpareInputs,
    ) -> Result<bool, Hangup> {
        let mut submitted = false;
        loop {
            let sent_all = client.send(backend)?;
            let has_unread = client.has_unread();
            if has_unread {
                client.receive(backend, spares)?;
            }
            submitted |= client.pump(slot, backend, spares)?;
            if !sent_all || !(has_unread || client.wants_output()) {
                return Ok(submitted);
            }
        }
    }

    fn cut(slot: u32, client: &mut Client, hangup: &Hangup, backend: &mut B, spares: &mut SpareInputs) {
        match hangup {
            Hangup::Protocol(_) | Hangup::Tls(_) | Hangup::TooEarly => {
                warn!(slot, error = %hangup, "connection cut");
            }
            Hangup::Socket(errno) => debug!(slot, %errno, "connection lost"),
        }
        client.cut(backend, spares);
        backend.abandon(slot.into());
    }

    fn enqueue(queue: &mut Vec<u32>, slot: u32, client: &mut Client) {
        if !std::mem::replace(&mut client.queued, true) {
            queue.push(slot);
        }
    }

    /// Accepts those who wait, up to a number.
    fn accept(&mut self) -> Result<(), ServerError> {
        let mut accepted = 0;
        let mut is_full = false;
        for index in 0..self.listeners.len() {
            while accepted < ACCEPTS_PER_TURN_MAX {
                if self.listeners[index].is_limited() && self.clients.len() >= self.limits.connections {
                    is_full = true;
                    break;
                }
                match self.listeners[index].accept() {
                    Ok((socket, peer)) => {
                        accepted += 1;
                        let policy = self.listeners[index].tls_policy();
                        let tls = self.tls.clone().map(|tls| (tls, policy));
                        self.welcome(Client::new(socket, self.serials, peer, tls, self.limits));
                    }
                    Err(OsError::AGAIN) => break,
                    Err(OsError::INTR | OsError::CONNABORTED) => accepted += 1,
                    Err(errno) => {
                        warn!(%errno, "cannot accept a connection");
                        return self.pause_accepting(|_| true);
                    }
                }
            }
        }
        if is_full {
            warn!(max = self.limits.connections, "too many connections");
            self.pause_accepting(Listener::is_limited)?;
        }
        Ok(())
    }

    /// Takes over the connections that the backend has made, as long as anything is taken.
    fn adopt(&mut self) {
        while self.drain_until.is_none()
            && let Some(adopted) = self.backend.adopted()
        {
            self.welcome(Client::adopted(adopted, self.serials, self.limits));
        }
    }

    fn welcome(&mut self, client: Client) {
        let serial = client.serial;
        self.serials += 1;
        let is_negotiating = client.connection.is_negotiating();
        let slot = self.clients.insert(client);
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        if let Some(socket) = &client.socket
            && let Err(errno) = self.poller.add(socket, u64::from(slot), client.interest)
        {
            Self::cut(slot, client, &errno.into(), &mut self.backend, &mut self.spares);
        }
        debug!(slot, "connection accepted");
        if is_negotiating {
            self.negotiating.push_back((Instant::now() + self.limits.negotiation, slot, serial));
        }
        Self::enqueue(&mut self.queue, slot, client);
    }

    /// Leaves those who wait at some listeners to wait: the process has no descriptor for them, or enough clients.
    fn pause_accepting(&mut self, pauses: fn(&Listener) -> bool) -> Result<(), ServerError> {
        for listener in self.listeners.iter().filter(|listener| pauses(listener)) {
            self.poller.modify(listener, TOKEN_LISTENER, Interest::NONE)?;
        }
        self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
        Ok(())
    }

    /// Does what was to be done by now.
    fn handle_deadlines(&mut self) -> Result<(), ServerError> {
        if self.negotiating.is_empty() && self.accept_again.is_none() {
            return Ok(());
        }
        let now = Instant::now();
        while let Some((until, slot, serial)) = self.negotiating.front().copied() {
            let client = self.clients.get_mut(slot).filter(|client| client.serial == serial);
            match client.filter(|client| client.connection.is_negotiating()) {
                Some(_) if until > now => break,
                Some(client) => {
                    Self::cut(slot, client, &OsError::TIMEDOUT.into(), &mut self.backend, &mut self.spares);
                    Self::enqueue(&mut self.queue, slot, client);
                }
                None => {}
            }
            self.negotiating.pop_front();
        }
        if self.accept_again.is_some_and(|until| until <= now) {
            self.accept_again = None;
            for listener in &self.listeners {
                self.poller.modify(listener, TOKEN_LISTENER, Interest::INPUT)?;
            }
        }
        Ok(())
    }

    /// Closes the doors.
    fn begin_stop(&mut self, stop: BorrowedFd<'_>) -> Result<(), ServerError> {
        self.poller.remove(stop)?;
        self.listeners.clear();
        self.arrivals = false;
        self.accept_again = None;
        self.drain_until = Some(Instant::now() + self.limits.drain);
        self.backend.stopping();
        info!(connections = self.clients.len(), "stopping");
        for slot in self.clients.occupied() {
            let Some(client) = self.clients.get_mut(slot) else {
                continue;
            };
            if let Some(buffer) = client.connection.handle_end() {
                self.backend.recycle(buffer);
            }
            Self::enqueue(&mut self.queue, slot, client);
        }
        Ok(())
    }

    /// Whether the server was told to stop and has nothing left to do, or no time to do it.
    fn is_drained(&self) -> bool {
        let Some(until) = self.drain_until else {
            return false;
        };
        let late = Instant::now() >= until;
        if late && !self.clients.is_empty() {
            warn!(connections = self.clients.len(), "stopped before everything was answered");
        }
        late || self.clients.is_empty()
    }

    /// Lets go of the clients that did not finish in time. An export with requests under way stays open.
    fn cut_remaining(&mut self) {
        for slot in self.clients.occupied() {
            let Some(mut client) = self.clients.remove(slot) else {
                continue;
            };
            client.cut(&mut self.backend, &mut self.spares);
            if client.connection.in_flight() == 0 {
                client.close_export(&mut self.backend);
            }
        }
    }
}
