//! NBD clients and RPC clients on one thread: what the NBD server takes for its backend.

use super::backend::StoreBackend;
use super::metrics::Metrics;
use super::rpc::Rpc;
use super::wakeup::Wakeup;
use anyhow::{Context as _, Result};
use offshoot_block::Buffer;
use offshoot_nbd::{Backend, Command, ExportId, ExportInfo, OpenError, Reply, RequestId};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

/// The stores, and the RPC sockets. Whenever the NBD server moves the stores along, the sockets may take their turn too.
pub(super) struct Daemon<'s> {
    stores: &'s mut StoreBackend,
    rpc: Rpc,
    metrics: Option<Metrics>,
    /// Wakes for the sockets as well as for the stores.
    wakeup: Wakeup,
}

impl<'s> Daemon<'s> {
    /// # Errors
    /// The sockets cannot be waited for.
    pub(super) fn new(stores: &'s mut StoreBackend, rpc: Rpc, metrics: Option<Metrics>) -> Result<Self> {
        let attach = || {
            let wakeup = Wakeup::new()?;
            wakeup.watch_descriptor(stores.descriptor())?;
            rpc.watch(&wakeup)?;
            metrics.iter().try_for_each(|metrics| wakeup.watch_descriptor(metrics.as_fd()))?;
            rustix::io::Result::Ok(wakeup)
        };
        let wakeup = attach().context("cannot wait for RPC")?;
        Ok(Self { stores, rpc, metrics, wakeup })
    }

    /// The stores.
    pub(super) fn stores(&self) -> &StoreBackend {
        self.stores
    }

    /// The RPC sockets.
    pub(super) fn rpc(&mut self) -> &mut Rpc {
        &mut self.rpc
    }

    /// Answers what RPC clients have asked. `stop` is readable.
    ///
    /// # Errors
    /// The sockets cannot be waited for.
    pub(super) fn drain(self, stop: BorrowedFd<'_>) -> Result<()> {
        self.rpc.drain(self.stores, stop)
    }
}

impl Backend for Daemon<'_> {
    fn exports(&self) -> Vec<ExportInfo> {
        self.stores.exports()
    }

    fn open(&mut self, name: &str) -> Result<(ExportId, ExportInfo), OpenError> {
        self.stores.open(name)
    }

    fn info(&mut self, name: &str) -> Result<ExportInfo, OpenError> {
        self.stores.info(name)
    }

    fn close(&mut self, export: ExportId) {
        self.stores.close_export(export);
    }

    fn submit(&mut self, id: RequestId, export: ExportId, command: Command) {
        self.stores.submit(id, export, command);
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        // First, since it moves the stores along too: what they have answered by then is taken below.
        if self.rpc.turn(self.stores)
            && let Some(metrics) = &self.metrics
        {
            metrics.turn(self.stores);
        }
        self.stores.poll(replies);
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wakeup.descriptor())
    }

    fn busy(&self) -> bool {
        self.stores.must_be_polled() || self.stores.has_finished() || self.rpc.busy()
    }

    fn deadline(&self) -> Option<Instant> {
        [self.stores.next_deadline(), self.rpc.deadline()].into_iter().flatten().min()
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.stores.buffer(len)
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.stores.recycle(buffer);
    }
}
