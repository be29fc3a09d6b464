//! The server: a Unix socket, protocol machines around its connections, one thread.

mod backend;
mod client;

pub use backend::{Backend, RequestId};

use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, CONNECTIONS_DEFAULT, DRAIN_TIME_MAX, INPUT_BYTES};
use crate::request::Reply;
use client::{Client, slots_of};
use offshoot_reactor::{Interest, ListenError, Poller, Ready, SlotTable, UnixListener};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;
use tracing::{debug, info, warn};

/// The operating system refused something without which the server cannot go on.
#[derive(Debug, Error)]
#[error("cannot use sockets: {source}")]
pub struct ServerError {
    /// Its error.
    #[from]
    source: io::Error,
}

impl From<Errno> for ServerError {
    fn from(errno: Errno) -> Self {
        Self { source: errno.into() }
    }
}

/// A JSON-RPC server on one Unix socket.
///
/// It works in turns ([`Server::turn`]), none of which blocks. In each it reads once from every socket that has
/// something, hands all requests to the backend, polls that once and sends what was answered.
///
/// A server that has a thread to itself sleeps between its turns by [`Server::run`]. One that shares a reactor is a descriptor
/// that the reactor watches: readable when a turn is due. The reactor also takes a turn when [`Server::busy`] or
/// [`Server::deadline`] say so, and whenever the backend may have something to answer.
#[derive(Debug)]
pub struct Server {
    poller: Poller,
    /// `None` once the server was told to stop.
    listener: Option<UnixListener>,
    clients: SlotTable<Client>,
    /// Clients that got replies, bytes or an end in this turn.
    queue: Vec<u32>,
    /// Clients that are gone, and the backend does not know it yet.
    gone: Vec<u32>,
    replies: Vec<(RequestId, Reply)>,
    buffer: Box<[u8]>,
    /// Whether the backend was given something since it was polled.
    unpolled: bool,
    /// Whether the listener is not watched, because there are too many clients or no descriptors.
    accepting: Accepting,
    connections_max: usize,
    /// When the remaining clients are cut. Set once the server is told to stop.
    drain_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Watched,
    /// Until a client leaves.
    Full,
    /// The process has no descriptors.
    Paused(Instant),
}

/// Tokens of the poller. A client's token is its slot, which is below all of these.
const TOKEN_LISTENER: u64 = u64::MAX;
const TOKEN_STOP: u64 = u64::MAX - 1;
const TOKEN_WAKEUP: u64 = u64::MAX - 2;

/// Why there is no server.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nothing can be waited for.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl Server {
    /// Listens on a Unix socket with mode 0600. A file left there by a server that died is replaced. The file is removed
    /// when the server stops. Clients can connect from now on and are served in turns.
    ///
    /// # Errors
    /// [`BindError`], among others when another server listens there.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let listener = UnixListener::bind(path)?;
        info!(path = %path.display(), "listening");
        Ok(Self::on(listener)?)
    }

    /// Listens under a name in the abstract namespace of Unix sockets. Connections of other users than the owner of the
    /// process and root are closed at once.
    ///
    /// # Errors
    /// [`ServerError`], among others when the name is taken.
    pub fn bind_abstract(name: &[u8]) -> Result<Self, ServerError> {
        Self::on(UnixListener::bind_abstract(name)?)
    }

    fn on(listener: UnixListener) -> Result<Self, ServerError> {
        let poller = Poller::new()?;
        poller.add(&listener, TOKEN_LISTENER, Interest::INPUT)?;
        Ok(Self {
            poller,
            listener: Some(listener),
            clients: SlotTable::default(),
            queue: Vec::new(),
            gone: Vec::new(),
            replies: Vec::new(),
            buffer: vec![0; INPUT_BYTES].into(),
            unpolled: false,
            accepting: Accepting::Watched,
            connections_max: CONNECTIONS_DEFAULT,
            drain_until: None,
        })
    }

    /// Sets how many connections there may be. Above it, no more are accepted until one closes.
    pub fn set_connections_max(&mut self, connections: usize) {
        self.connections_max = connections;
    }

    /// Does what there is to do, without waiting.
    ///
    /// # Errors
    /// [`ServerError`] when the sockets cannot be looked at, which does not happen in the ordinary course of things.
    pub fn turn<B: Backend>(&mut self, backend: &mut B) -> Result<(), ServerError> {
        self.turn_after(Some(Duration::ZERO), backend)?;
        Ok(())
    }

    /// Whether a turn is due although nothing is readable: the backend got requests after it was polled.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.unpolled
    }

    /// When a turn is due at the latest, though nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let accept = match self.accepting {
            Accepting::Paused(until) => Some(until),
            Accepting::Watched | Accepting::Full => None,
        };
        [accept, self.drain_until].into_iter().flatten().min()
    }

    /// Closes the door: nothing more is accepted or read. Turns go on until [`Server::is_drained`], for requests under way
    /// and their responses.
    pub fn begin_stop(&mut self) {
        if self.drain_until.is_some() {
            return;
        }
        self.listener = None;
        self.accepting = Accepting::Watched;
        self.drain_until = Some(Instant::now() + DRAIN_TIME_MAX);
        info!(connections = self.clients.len(), "stopping");
        for slot in self.clients.occupied() {
            if let Some(client) = self.clients.get_mut(slot) {
                client.connection.handle_end();
                Self::enqueue(&mut self.queue, slot, client);
            }
        }
        self.settle_ended();
    }

    /// Whether the server was told to stop and has nothing left to do, or had [`DRAIN_TIME_MAX`] to do it.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain_until.is_some_and(|until| self.clients.is_empty() || Instant::now() >= until)
    }

    /// Serves until `stop` is readable, then drains. Requests that are not answered by then are left to the backend.
    ///
    /// # Errors
    /// As [`Server::turn`].
    pub fn run<B: Backend>(mut self, backend: &mut B, stop: BorrowedFd<'_>) -> Result<(), ServerError> {
        self.poller.add(stop, TOKEN_STOP, Interest::INPUT)?;
        if let Some(wakeup) = backend.wakeup() {
            self.poller.add(wakeup, TOKEN_WAKEUP, Interest::INPUT)?;
        }
        while !self.is_drained() {
            let timeout = if self.busy() || backend.busy() {
                Some(Duration::ZERO)
            } else {
                let deadline = [self.deadline(), backend.deadline()].into_iter().flatten().min();
                deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
            };
            if self.turn_after(timeout, backend)? {
                self.poller.remove(stop)?;
                self.begin_stop();
            }
        }
        self.tell_gone(backend);
        Ok(())
    }

    /// A turn, once something is ready or the time is over. Returns whether to stop.
    fn turn_after<B: Backend>(
        &mut self,
        timeout: Option<Duration>,
        backend: &mut B,
    ) -> Result<bool, ServerError> {
        self.poller.wait(timeout)?;
        let (mut stop, mut arrivals) = (false, false);
        for index in 0..self.poller.ready_count() {
            let ready = self.poller.ready(index);
            match ready.token {
                TOKEN_LISTENER => arrivals = true,
                TOKEN_STOP => stop = true,
                TOKEN_WAKEUP => {}
                slot => self.handle_ready(u32::try_from(slot).unwrap_or(u32::MAX), ready, backend),
            }
        }
        self.tell_gone(backend);
        // Slots of clients that ended above may be used again from here on, when no event names them any more.
        if let Accepting::Paused(until) = self.accepting
            && until <= Instant::now()
        {
            self.watch_listener(Accepting::Watched)?;
        }
        if arrivals {
            self.accept()?;
        }
        self.collect_replies(backend);
        self.settle_queue(backend);
        self.tell_gone(backend);
        if self.accepting == Accepting::Full && self.clients.len() < self.connections_max {
            self.watch_listener(Accepting::Watched)?;
        }
        Ok(stop)
    }

    /// Reads from a client.
    fn handle_ready<B: Backend>(&mut self, slot: u32, ready: Ready, backend: &mut B) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        let mut outcome = Ok(());
        if client.interest.input && (ready.input || ready.hangup) {
            outcome = client.receive(&mut self.buffer);
        } else if ready.hangup {
            outcome = Err(Errno::PIPE);
        }
        match outcome {
            Ok(()) => self.unpolled |= client.pump(slot, backend),
            Err(errno) => Self::cut(slot, client, errno),
        }
        Self::enqueue(&mut self.queue, slot, client);
    }

    /// Takes what the backend has answered.
    fn collect_replies<B: Backend>(&mut self, backend: &mut B) {
        self.unpolled = false;
        backend.poll(&mut self.replies);
        for (id, reply) in self.replies.drain(..) {
            let (slot, request) = slots_of(id);
            let Some(client) = self.clients.get_mut(slot) else {
                debug_assert!(false, "{id:?} was answered twice or never submitted");
                continue;
            };
            client.connection.handle_reply(request, &reply);
            Self::enqueue(&mut self.queue, slot, client);
        }
    }

    /// Sends responses, goes on with what was received, and lets go of clients that are done.
    fn settle_queue<B: Backend>(&mut self, backend: &mut B) {
        let mut queue = std::mem::take(&mut self.queue);
        for slot in queue.drain(..) {
            if let Some(client) = self.clients.get_mut(slot) {
                client.queued = false;
                match Self::exchange(slot, client, backend) {
                    Ok(submitted) => self.unpolled |= submitted,
                    Err(errno) => Self::cut(slot, client, errno),
                }
                self.update(slot);
            }
        }
        // Nothing is enqueued meanwhile; the memory is kept for the next turn.
        self.queue = queue;
    }

    /// Sends, and takes up again what waited for room, in turns until neither gets further. Returns whether the backend
    /// got something to do.
    fn exchange<B: Backend>(slot: u32, client: &mut Client, backend: &mut B) -> Result<bool, Errno> {
        let mut submitted = false;
        loop {
            let sent_all = client.send()?;
            submitted |= client.pump(slot, backend);
            if !sent_all || client.connection.output().is_empty() {
                return Ok(submitted);
            }
        }
    }

    /// Lets go of a client that is done, or watches its socket for what it needs now.
    fn update(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        let interest = client.wanted();
        if !client.connection.is_finished()
            && interest != client.interest
            && let Some(socket) = &client.socket
        {
            if let Err(errno) = self.poller.modify(socket, u64::from(slot), interest) {
                Self::cut(slot, client, errno);
            }
            client.interest = interest;
        }
        if client.connection.is_finished() {
            self.clients.remove(slot);
            self.gone.push(slot);
            debug!(slot, "connection closed");
        }
    }

    /// Tells the backend which clients are gone, before their slots are used again.
    fn tell_gone<B: Backend>(&mut self, backend: &mut B) {
        self.gone.drain(..).for_each(|slot| backend.closed(slot.into()));
    }

    /// Lets go of the clients that have nothing under way.
    fn settle_ended(&mut self) {
        for slot in self.clients.occupied() {
            self.update(slot);
        }
    }

    fn cut(slot: u32, client: &mut Client, errno: Errno) {
        debug!(slot, %errno, "connection lost");
        client.cut();
    }

    fn enqueue(queue: &mut Vec<u32>, slot: u32, client: &mut Client) {
        if !std::mem::replace(&mut client.queued, true) {
            queue.push(slot);
        }
    }

    /// Accepts those who wait, up to a number.
    fn accept(&mut self) -> Result<(), ServerError> {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            let Some(listener) = &self.listener else {
                return Ok(());
            };
            if self.clients.len() >= self.connections_max {
                warn!(max = self.connections_max, "too many connections");
                return self.watch_listener(Accepting::Full);
            }
            match listener.accept() {
                Ok(socket) => {
                    let slot = self.clients.insert(Client::new(socket));
                    debug!(slot, "connection accepted");
                    if let Some(client) = self.clients.get_mut(slot)
                        && let Some(socket) = &client.socket
                        && let Err(errno) = self.poller.add(socket, u64::from(slot), client.interest)
                    {
                        Self::cut(slot, client, errno);
                        Self::enqueue(&mut self.queue, slot, client);
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    warn!(%errno, "cannot accept a connection");
                    return self.watch_listener(Accepting::Paused(Instant::now() + ACCEPT_PAUSE));
                }
            }
        }
        Ok(())
    }

    fn watch_listener(&mut self, accepting: Accepting) -> Result<(), ServerError> {
        if let Some(listener) = &self.listener {
            let watched = accepting == Accepting::Watched;
            let interest = if watched { Interest::INPUT } else { Interest::NONE };
            self.poller.modify(listener, TOKEN_LISTENER, interest)?;
        }
        self.accepting = accepting;
        Ok(())
    }
}

/// Readable when a turn is due.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
