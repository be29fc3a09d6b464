//! `serve --rpc`: SPDK's methods on the stores that are served.
//!
//! A socket is a [`Server`], which knows framing; the [`Desk`] knows what methods do. There are two: one for SPDK's methods, if
//! it was asked for, and a private one for commands that find their store in use. A call is answered at once where
//! memory knows the answer, later where a verb has to become durable, and by a thread of its own where a store is made,
//! opened or closed. The sockets have no thread: they take a turn between two turns of the NBD server.

mod answers;
mod away;
mod base64;
mod bases;
mod bdevs;
mod commands;
mod config;
mod copies;
mod desk;
mod disks;
mod errors;
mod esnap;
mod files;
mod iostat;
mod jobs;
mod kernel_disks;
mod lvols;
mod lvstores;
mod makings;
mod nbd;
mod operations;
mod qos;
mod reactor;
mod replay;
mod resolve;
mod returns;
mod scheduling;
mod server;
mod shallow_copy;
mod site;
mod stacked;
mod transfers;
mod works;

use super::backend::StoreBackend;
use super::listen::Address;
use super::logging::Logging;
use super::openings::StoreId;
use super::served::Served;
use super::wakeup::Wakeup;
use answers::{Asker, Door};
use anyhow::{Context as _, Result};
use desk::Desk;
use offshoot_rpc::{Backend, Reply, Request, RequestId, Server};
use offshoot_store::Work;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::{error, warn};
pub(super) use transfers::listen as listen_for_transfers;

/// How long the socket may wait for its turn while NBD clients keep the server busy. Looking at it costs a system call.
const PACE: Duration = Duration::from_millis(1);

/// The sockets and the desk behind them.
pub(super) struct Rpc {
    doors: Vec<(Door, Server)>,
    desk: Desk,
    last_turn: Option<Instant>,
}

impl Rpc {
    /// Listens for commands, and, if there is a path, for so many of SPDK's clients on a Unix socket with mode 0600. `externals` are
    /// the external snapshots of stores that clients open.
    ///
    /// # Errors
    /// The path cannot be listened on.
    pub(super) fn bind(
        path: Option<&Path>,
        connections: usize,
        externals: Vec<(String, PathBuf)>,
        logging: Logging,
    ) -> Result<Self> {
        let mut public = path.map(Server::bind).transpose()?.map(|server| (Door::Public, server));
        if let Some((_, server)) = &mut public {
            server.set_connections_max(connections);
        }
        let private = commands::listen().map(|server| (Door::Private, server));
        let desk = Desk::new(externals, logging).context("cannot wait for threads")?;
        Ok(Self { doors: public.into_iter().chain(private).collect(), desk, last_turn: None })
    }

    /// A store that is served from the start is on a bdev called like its file.
    pub(super) fn adopt(&mut self, path: &Path, store: StoreId, stores: &mut StoreBackend) {
        self.desk.adopt(path, store, stores);
        if let Some(job) = stores.store(store).and_then(Served::sealing) {
            self.desk.adopt_job(store, job, Work::Seal);
        }
    }

    /// Makes the calls of a configuration file and waits for them, or until `stop` is readable.
    ///
    /// # Errors
    /// It cannot be read, or the first call that failed.
    pub(super) fn configure(
        &mut self,
        path: &Path,
        stores: &mut StoreBackend,
        stop: BorrowedFd<'_>,
    ) -> Result<()> {
        self.desk.replay.load(replay::read(path)?, None);
        loop {
            stores.advance();
            self.desk.turn_replay(stores);
            if self.desk.replay.is_idle() {
                return self.desk.configured().with_context(|| path.display().to_string());
            }
            let mut watched = [stop, stores.descriptor(), self.desk.as_fd()]
                .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
            let pace = if stores.must_be_polled() { Duration::ZERO } else { PACE };
            poll(&mut watched, Some(&Timespec::try_from(pace)?)).or_else(|cause| match cause {
                Errno::INTR => Ok(0),
                cause => Err(cause),
            })?;
            if !watched[0].revents().is_empty() {
                return Ok(());
            }
        }
    }

    /// Makes the calls of a configuration file that were not made yet, while everything else goes on.
    pub(super) fn reconfigure(&mut self, path: &Path) {
        if !self.desk.replay.is_idle() {
            return warn!(path = %path.display(), "a configuration is being loaded: not read again");
        }
        match replay::read(path) {
            Ok(config) => self.desk.replay.load(config, None),
            Err(cause) => warn!("{cause:#}: the configuration stays as it is"),
        }
    }

    /// Whether no configuration is being loaded.
    pub(super) fn is_configured(&self) -> bool {
        self.desk.replay.is_idle()
    }

    /// The connection of a device of the kernel's has ended.
    pub(super) fn disk_parted(&mut self, tag: u64) {
        self.desk.disk_parted(tag);
    }

    /// The server ends: no device of the kernel's stays behind.
    pub(super) fn detach_disks(&mut self) {
        self.desk.detach_disks();
    }

    /// NBD clients are served there too.
    pub(super) fn add_address(&mut self, address: Address) {
        self.desk.add_address(address);
    }

    /// Takes part in waiting: readable when a turn may be due.
    pub(super) fn watch(&self, wakeup: &Wakeup) -> rustix::io::Result<()> {
        self.doors.iter().try_for_each(|(_, server)| wakeup.watch_descriptor(server.as_fd()))?;
        wakeup.watch_descriptor(self.desk.as_fd())
    }

    /// Does what there is to do, without waiting, if it is time for that. Says whether it was.
    pub(super) fn turn(&mut self, stores: &mut StoreBackend) -> bool {
        let now = Instant::now();
        let is_due = self.last_turn.is_none_or(|last| now >= last + PACE);
        if !is_due && !self.busy() && !stores.has_finished() {
            return false;
        }
        self.last_turn = Some(now);
        self.desk.turn_replay(stores);
        for (door, server) in &mut self.doors {
            let mut counter = Counter { desk: &mut self.desk, stores, door: *door };
            if let Err(cause) = server.turn(&mut counter) {
                error!(%cause, "RPC");
            }
        }
        true
    }

    /// Whether a turn is due although nothing is readable.
    pub(super) fn busy(&self) -> bool {
        self.doors.iter().any(|(door, server)| server.busy() || self.desk.has_answers(*door))
            || self.desk.must_be_polled()
            || self.desk.replay.can_go_on()
    }

    /// When a turn is due at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let doors = self.doors.iter().filter_map(|(_, server)| server.deadline());
        doors.chain(self.desk.deadline()).min()
    }

    /// Answers what is under way and nothing more. `stop` is readable. Threads have until `deadline`.
    ///
    /// # Errors
    /// Waiting fails.
    pub(super) fn drain(
        self,
        stores: &mut StoreBackend,
        stop: BorrowedFd<'_>,
        deadline: Instant,
    ) -> Result<()> {
        let Self { doors, mut desk, .. } = self;
        // Nobody waits for hours here: who asked for a job is told that it ended before it was done.
        desk.cancel_jobs(stores);
        desk.makings.cancel(None);
        desk.abandon_replay();
        let drained = doors
            .into_iter()
            .try_for_each(|(door, server)| server.run(&mut Counter { desk: &mut desk, stores, door }, stop));
        desk.end_transfers(stores, None);
        desk.settle(stores, deadline);
        Ok(drained?)
    }
}

/// Where a server hands requests over.
struct Counter<'r> {
    desk: &'r mut Desk,
    stores: &'r mut StoreBackend,
    door: Door,
}

impl Backend for Counter<'_> {
    fn submit(&mut self, id: RequestId, request: Request) {
        self.desk.submit(self.stores, Asker { door: self.door, id }, &request);
    }

    fn closed(&mut self, connection: u64) {
        if self.door == Door::Private {
            self.desk.end_transfers(self.stores, Some(connection));
        }
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        self.stores.advance();
        self.desk.poll(self.stores, self.door, replies);
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
