//! NBD clients and RPC clients on one thread: what the NBD server takes for its backend.

use super::backend::StoreBackend;
use super::rpc::Rpc;
use super::wakeup::Wakeup;
use anyhow::{Context as _, Result};
use offshoot_block::Buffer;
use offshoot_nbd::{Backend, Command, ExportId, ExportInfo, OpenError, Reply, RequestId};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// The stores, and the RPC socket if there is one. Whenever the NBD server moves the stores along, the socket may take
/// its turn too.
pub(super) struct Daemon<'s> {
    stores: &'s mut StoreBackend,
    rpc: Option<Attached>,
}

/// An RPC socket, and what wakes for it as well as for the stores.
struct Attached {
    rpc: Rpc,
    wakeup: Wakeup,
}

impl<'s> Daemon<'s> {
    /// # Errors
    /// The socket cannot be waited for.
    pub(super) fn new(stores: &'s mut StoreBackend, rpc: Option<Rpc>) -> Result<Self> {
        let attach = |rpc: Rpc| {
            let wakeup = Wakeup::new()?;
            wakeup.watch_descriptor(stores.descriptor())?;
            rpc.watch(&wakeup)?;
            rustix::io::Result::Ok(Attached { rpc, wakeup })
        };
        let rpc = rpc.map(attach).transpose().context("cannot wait for RPC")?;
        Ok(Self { stores, rpc })
    }

    /// The stores.
    pub(super) fn stores(&self) -> &StoreBackend {
        self.stores
    }

    /// The RPC socket.
    pub(super) fn rpc(&mut self) -> Option<&mut Rpc> {
        self.rpc.as_mut().map(|attached| &mut attached.rpc)
    }

    /// Answers what RPC clients have asked. `stop` is readable.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub(super) fn drain(self, stop: BorrowedFd<'_>) -> Result<()> {
        self.rpc.map_or(Ok(()), |attached| attached.rpc.drain(self.stores, stop))
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
        self.stores.poll(replies);
        if let Some(Attached { rpc, .. }) = &mut self.rpc {
            rpc.turn(self.stores);
        }
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        let both = self.rpc.as_ref().map(|attached| attached.wakeup.descriptor());
        Some(both.unwrap_or_else(|| self.stores.descriptor()))
    }

    fn busy(&self) -> bool {
        self.stores.must_be_polled() || self.rpc.as_ref().is_some_and(|attached| attached.rpc.busy())
    }

    fn deadline(&self) -> Option<Instant> {
        let rpc = self.rpc.as_ref().and_then(|attached| attached.rpc.deadline());
        [self.stores.next_deadline(), rpc].into_iter().flatten().min()
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.stores.buffer(len)
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.stores.recycle(buffer);
    }
}
