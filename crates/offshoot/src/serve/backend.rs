//! The stores as the NBD server sees them.

use super::exports::{self, Naming};
use super::openings::{Export, Openings};
use super::served::Served;
use super::wakeup::Wakeup;
use crate::lookup;
use anyhow::{Context as _, Result};
use offshoot_block::Buffer;
use offshoot_nbd::{Backend, BufferPool, Command, Errno, ExportId, ExportInfo, OpenError, Reply, RequestId};
use offshoot_store::Blob;
use std::os::fd::BorrowedFd;
use std::time::Instant;
use tracing::{error, info};

/// All stores that are served, and what connections have open of them.
///
/// It outlives the server that runs on it (`&mut StoreBackend` is the backend), so that the stores are closed in one
/// place, however serving ends.
pub(super) struct StoreBackend {
    stores: Vec<Served>,
    naming: Naming,
    openings: Openings,
    wakeup: Wakeup,
    pool: BufferPool,
    /// Replies that were there at once, until the next poll.
    answered: Vec<(RequestId, Reply)>,
}

impl StoreBackend {
    /// A backend without stores.
    ///
    /// # Errors
    /// There is no epoll instance to be had.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            stores: Vec::new(),
            naming: Naming::default(),
            openings: Openings::default(),
            wakeup: Wakeup::new().context("cannot wait for devices")?,
            pool: BufferPool::new(),
            answered: Vec::new(),
        })
    }

    /// Adds a store, which is closed by [`StoreBackend::close`] whatever is returned here.
    ///
    /// # Errors
    /// One of that name is served already, or its devices cannot be waited for.
    pub(super) fn add(&mut self, store: Served) -> Result<()> {
        let watched = store.devices().try_for_each(|device| self.wakeup.watch(device));
        self.stores.push(store);
        watched.context("cannot wait for a device")?;
        let names: Vec<String> = self.stores.iter().map(|store| store.engine().state().name()).collect();
        self.naming = Naming::of(&names)?;
        Ok(())
    }

    /// The stores.
    pub(super) fn stores(&self) -> &[Served] {
        &self.stores
    }

    /// What the exports are called.
    pub(super) fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Finishes what is under way in the stores, makes it durable and lets go of them: of each one, whatever becomes
    /// of the others.
    ///
    /// # Errors
    /// The first store that could not be closed in order.
    pub(super) fn close(self) -> Result<()> {
        let mut result = Ok(());
        for store in self.stores {
            let path = store.path().display().to_string();
            match (store.close(), &result) {
                (Ok(()), _) => info!(store = path, "closed"),
                (Err(cause), Ok(())) => {
                    result = Err(cause).with_context(|| format!("{path}: not closed in order"));
                }
                // Only one can be returned.
                (Err(cause), Err(_)) => error!(store = path, %cause, "not closed in order"),
            }
        }
        result
    }

    /// The lvol of an export name.
    fn find(&self, name: &str) -> Option<(usize, &Blob)> {
        if name.is_empty() {
            let mut lvols = self.lvols();
            return lvols.next().filter(|_| lvols.next().is_none());
        }
        self.naming.candidates(name).find_map(|(number, lvol)| {
            let state = self.stores.get(number)?.engine().state();
            Some((number, lookup::lvol(state, lvol).ok()?))
        })
    }

    /// Every lvol of every store.
    fn lvols(&self) -> impl Iterator<Item = (usize, &Blob)> {
        self.stores.iter().enumerate().flat_map(|(number, store)| {
            let lvols = store.engine().state().lvols();
            lvols.map(move |lvol| (number, lvol))
        })
    }

    fn info_of(&self, number: usize, lvol: &Blob) -> ExportInfo {
        let name = self.naming.name(number, &lvol.display_name());
        exports::info(self.stores[number].engine(), lvol, name)
    }

    /// The export of a name, unless there is a reason not to open it.
    fn look_up(&self, name: &str) -> Result<(Export, ExportInfo), OpenError> {
        let (store, lvol) = self.find(name).ok_or(OpenError::NotFound)?;
        match exports::refusal(self.stores[store].engine(), lvol) {
            Some(reason) => Err(OpenError::Refused { reason }),
            None => Ok((Export { store, lvol: lvol.id }, self.info_of(store, lvol))),
        }
    }
}

impl Backend for &mut StoreBackend {
    /// What can be opened. Clients that list exports look at each, and give up at the first that is refused.
    fn exports(&self) -> Vec<ExportInfo> {
        let sound = self
            .lvols()
            .filter(|(number, lvol)| exports::refusal(self.stores[*number].engine(), lvol).is_none());
        sound.map(|(number, lvol)| self.info_of(number, lvol)).collect()
    }

    fn open(&mut self, name: &str) -> Result<(ExportId, ExportInfo), OpenError> {
        let (export, info) = self.look_up(name)?;
        Ok((self.openings.open(export), info))
    }

    fn info(&mut self, name: &str) -> Result<ExportInfo, OpenError> {
        self.look_up(name).map(|(_, info)| info)
    }

    fn close(&mut self, export: ExportId) {
        self.openings.close(export);
    }

    fn submit(&mut self, id: RequestId, export: ExportId, command: Command) {
        let export = self.openings.find(export);
        let reply = match export.and_then(|export| Some((self.stores.get_mut(export.store)?, export.lvol))) {
            Some((store, lvol)) => store.submit(id, lvol, command, &mut self.pool),
            None => Some(Reply::Error(Errno::Shutdown)),
        };
        self.answered.extend(reply.map(|reply| (id, reply)));
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        replies.append(&mut self.answered);
        for store in &mut self.stores {
            store.poll(&mut self.pool, replies);
        }
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wakeup.descriptor())
    }

    fn deadline(&self) -> Option<Instant> {
        self.stores.iter().filter_map(Served::deadline).min()
    }

    fn busy(&self) -> bool {
        self.stores.iter().any(Served::must_be_polled)
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.pool.take(len)
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.pool.give(buffer);
    }
}
