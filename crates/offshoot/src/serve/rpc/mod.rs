//! `serve --rpc`: SPDK's methods on the stores that are served.
//!
//! A socket is a [`Server`], which knows framing; the [`Desk`] knows what methods do. A call is answered at once where
//! memory knows the answer, later where a verb has to become durable, and by a thread of its own where a store is made,
//! opened or closed. The sockets have no thread: they take a turn between two turns of the NBD server.

mod bases;
mod bdevs;
mod desk;
mod errors;
mod lvols;
mod lvstores;
mod nbd;
mod resolve;
mod works;

use super::backend::StoreBackend;
use super::listen::Address;
use super::openings::StoreId;
use super::wakeup::Wakeup;
use anyhow::{Context as _, Result};
use desk::Desk;
use offshoot_rpc::{Backend, Reply, Request, RequestId, Server};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::error;

/// How long the socket may wait for its turn while NBD clients keep the server busy. Looking at it costs a system call.
const PACE: Duration = Duration::from_millis(1);

/// A socket and the desk behind it.
pub(super) struct Rpc {
    server: Server,
    desk: Desk,
    last_turn: Option<Instant>,
}

impl Rpc {
    /// Listens on a Unix socket with mode 0600. `externals` are the external snapshots of stores that clients open.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub(super) fn bind(path: &Path, externals: Vec<(String, PathBuf)>) -> Result<Self> {
        let server = Server::bind(path)?;
        let desk = Desk::new(externals).context("cannot wait for threads")?;
        Ok(Self { server, desk, last_turn: None })
    }

    /// A store that is served from the start is on a bdev called like its file.
    pub(super) fn adopt(&mut self, path: &Path, store: StoreId, stores: &StoreBackend) {
        self.desk.adopt(path, store, stores);
    }

    /// NBD clients are served there too.
    pub(super) fn add_address(&mut self, address: Address) {
        self.desk.add_address(address);
    }

    /// Takes part in waiting: readable when a turn may be due.
    pub(super) fn watch(&self, wakeup: &Wakeup) -> rustix::io::Result<()> {
        wakeup.watch_descriptor(self.server.as_fd())?;
        wakeup.watch_descriptor(self.desk.as_fd())
    }

    /// Does what there is to do, without waiting, if it is time for that.
    pub(super) fn turn(&mut self, stores: &mut StoreBackend) {
        let now = Instant::now();
        let is_due = self.last_turn.is_none_or(|last| now >= last + PACE);
        if !is_due && !self.server.busy() && !stores.has_finished() {
            return;
        }
        self.last_turn = Some(now);
        let mut counter = Counter { desk: &mut self.desk, stores };
        if let Err(cause) = self.server.turn(&mut counter) {
            error!(%cause, "RPC");
        }
    }

    /// Whether a turn is due although nothing is readable.
    pub(super) fn busy(&self) -> bool {
        self.server.busy()
    }

    /// When a turn is due at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.server.deadline(), self.desk.deadline()].into_iter().flatten().min()
    }

    /// Answers what is under way and nothing more. `stop` is readable.
    ///
    /// # Errors
    /// Waiting fails.
    pub(super) fn drain(self, stores: &mut StoreBackend, stop: BorrowedFd<'_>) -> Result<()> {
        let Self { server, mut desk, .. } = self;
        let drained = server.run(&mut Counter { desk: &mut desk, stores }, stop);
        desk.settle(stores);
        Ok(drained?)
    }
}

/// Where the server hands requests over.
struct Counter<'r> {
    desk: &'r mut Desk,
    stores: &'r mut StoreBackend,
}

impl Backend for Counter<'_> {
    fn submit(&mut self, id: RequestId, request: Request) {
        self.desk.submit(self.stores, id, &request);
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        self.stores.advance();
        self.desk.poll(self.stores, replies);
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stores.descriptor())
    }

    fn busy(&self) -> bool {
        self.stores.must_be_polled()
    }

    /// Threads have no descriptor that is watched here.
    fn deadline(&self) -> Option<Instant> {
        let soon = self.desk.has_works().then(|| Instant::now() + PACE);
        [self.stores.next_deadline(), self.desk.deadline(), soon].into_iter().flatten().min()
    }
}
