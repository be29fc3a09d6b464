//! NBD clients and RPC clients on one thread: what the NBD server takes for its backend.

use super::backend::StoreBackend;
use super::metrics::Metrics;
use super::rpc::Rpc;
use super::signals::ReloadSignal;
use super::systemd::ServiceManager;
use super::wakeup::Wakeup;
use anyhow::{Context as _, Result};
use offshoot_block::Buffer;
use offshoot_nbd::{Adopted, Backend, Command, ExportId, ExportInfo, OpenError, Peer, Reply, RequestId};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;
use tracing::{info, warn};

/// What a server does besides serving.
pub(super) struct Upkeep {
    /// What is read again when SIGHUP arrives.
    pub(super) config: Option<PathBuf>,
    pub(super) reload: ReloadSignal,
    pub(super) manager: ServiceManager,
}

/// The stores, and the RPC sockets. Whenever the NBD server moves the stores along, the sockets may take their turn too.
pub(super) struct Daemon<'s> {
    stores: &'s mut StoreBackend,
    rpc: Rpc,
    metrics: Option<Metrics>,
    upkeep: Upkeep,
    /// Whether the configuration is being loaded again.
    reloading: bool,
    /// Wakes for the sockets as well as for the stores.
    wakeup: Wakeup,
}

impl<'s> Daemon<'s> {
    /// # Errors
    /// The sockets cannot be waited for.
    pub(super) fn new(
        stores: &'s mut StoreBackend,
        rpc: Rpc,
        metrics: Option<Metrics>,
        upkeep: Upkeep,
    ) -> Result<Self> {
        let attach = || {
            let wakeup = Wakeup::new()?;
            wakeup.watch_descriptor(stores.descriptor())?;
            rpc.watch(&wakeup)?;
            metrics.iter().try_for_each(|metrics| wakeup.watch_descriptor(metrics.as_fd()))?;
            wakeup.watch_descriptor(upkeep.reload.as_fd())?;
            rustix::io::Result::Ok(wakeup)
        };
        let wakeup = attach().context("cannot wait for RPC")?;
        Ok(Self { stores, rpc, metrics, upkeep, reloading: false, wakeup })
    }

    /// The stores.
    pub(super) fn stores(&self) -> &StoreBackend {
        self.stores
    }

    /// The RPC sockets.
    pub(super) fn rpc(&mut self) -> &mut Rpc {
        &mut self.rpc
    }

    /// Tells the service manager that clients can come.
    pub(super) fn tell_ready(&self) {
        let stores = self.stores.stores().count();
        let plural = if stores == 1 { "" } else { "s" };
        self.upkeep.manager.ready(&format!("serving {stores} store{plural}"));
    }

    /// What is done now and then.
    fn keep_up(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.turn(self.stores);
        }
        self.upkeep.manager.turn(Instant::now());
        if self.upkeep.reload.take() {
            match &self.upkeep.config {
                Some(config) => {
                    info!(config = %config.display(), "read again");
                    self.upkeep.manager.reloading();
                    self.rpc.reconfigure(config);
                    self.reloading = true;
                }
                None => warn!("SIGHUP, but there is no --config to read again"),
            }
        } else if self.reloading && self.rpc.is_configured() {
            self.reloading = false;
            self.tell_ready();
        }
    }

    /// Answers what RPC clients have asked. `stop` is readable. Threads at work on stores have until `deadline`.
    ///
    /// # Errors
    /// The sockets cannot be waited for.
    pub(super) fn drain(self, stop: BorrowedFd<'_>, deadline: Instant) -> Result<()> {
        self.rpc.drain(self.stores, stop, deadline)
    }
}

impl Backend for Daemon<'_> {
    fn exports(&self, peer: &Peer) -> Vec<ExportInfo> {
        self.stores.exports(peer)
    }

    fn open(&mut self, name: &str, peer: &Peer) -> Result<(ExportId, ExportInfo), OpenError> {
        self.stores.open(name, peer)
    }

    fn info(&mut self, name: &str, peer: &Peer) -> Result<ExportInfo, OpenError> {
        self.stores.info(name, peer)
    }

    fn close(&mut self, export: ExportId) {
        self.stores.close_export(export);
    }

    fn submit(&mut self, id: RequestId, export: ExportId, command: Command) {
        self.stores.submit(id, export, command);
    }

    fn adopted(&mut self) -> Option<Adopted> {
        self.stores.adopted()
    }

    fn parted(&mut self, tag: u64) {
        self.rpc.disk_parted(tag);
    }

    fn abandon(&mut self, connection: u64) {
        self.stores.abandon(connection);
    }

    fn stopping(&mut self) {
        self.upkeep.manager.stopping();
        self.rpc.detach_disks();
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        // First, since it moves the stores along too: what they have answered by then is taken below.
        if self.rpc.turn(self.stores) {
            self.keep_up();
        }
        self.stores.poll(replies);
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wakeup.descriptor())
    }

    fn busy(&self) -> bool {
        self.stores.has_answers()
            || self.stores.must_be_polled()
            || self.stores.has_finished()
            || self.rpc.busy()
    }

    fn deadline(&self) -> Option<Instant> {
        [self.stores.next_deadline(), self.rpc.deadline(), self.upkeep.manager.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.stores.buffer(len)
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.stores.recycle(buffer);
    }
}
