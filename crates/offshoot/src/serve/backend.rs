//! The stores as the NBD server sees them.

use super::access::{Access, Who};
use super::exports::{self, Naming};
use super::histogram::Histogram;
use super::lvol_device::{self, LvolDevice, Port};
use super::openings::{Export, Openings, StoreId};
use super::qos::Limits;
use super::served::{Device, Finished, Served};
use super::slow::SlowLog;
use super::stats::Reset;
use super::transfers::Transfers;
use super::wakeup::Wakeup;
use crate::deed::{Growth, Job};
use crate::lookup;
use crate::open;
use anyhow::{Context as _, Result, anyhow, bail};
use offshoot_block::Buffer;
use offshoot_device::HostDevice;
use offshoot_nbd::{
    Adopted, BufferPool, Command, Errno, ExportId, ExportInfo, OpenError, Peer, Reply, RequestId,
};
use offshoot_store::{Blob, Error, State, Store, Ticket, Verb, Work};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tracing::{error, info};
use uuid::Uuid;

/// How long one waits for what may not be told of.
const PACE: Duration = Duration::from_millis(10);

/// All stores that are served, and what connections have open of them.
///
/// It outlives the server that runs on it (`&mut StoreBackend` is the backend), so that the stores are closed in one
/// place, however serving ends.
pub(super) struct StoreBackend {
    pub(super) stores: BTreeMap<StoreId, Served>,
    /// How many stores there have been.
    added: usize,
    naming: Naming,
    pub(super) openings: Openings,
    /// Who may open what.
    access: Access,
    /// Bytes of one request.
    pub(super) request_bytes: u32,
    /// Lvols that NBD clients are not offered.
    withdrawn: HashSet<Uuid>,
    /// Snapshots that are about to go, and where to. Nobody can open them any more.
    going: HashMap<Export, String>,
    /// Lvols whose content commands move.
    pub(super) transfers: Transfers,
    /// Lvols that are used as devices.
    ports: Vec<Port>,
    wakeup: Wakeup,
    pool: BufferPool,
    /// Connections that wait for the NBD server.
    adoptions: Vec<Adopted>,
    /// Replies that were there at once, until the next poll.
    answered: Vec<(RequestId, Reply)>,
    /// From where on the log tells of requests.
    slow: Option<Duration>,
}

impl StoreBackend {
    /// A backend without stores.
    ///
    /// # Errors
    /// There is no epoll instance to be had.
    pub(super) fn new(access: Access, request_bytes: u32) -> Result<Self> {
        Ok(Self {
            stores: BTreeMap::new(),
            added: 0,
            naming: Naming::default(),
            openings: Openings::default(),
            access,
            request_bytes,
            withdrawn: HashSet::new(),
            going: HashMap::new(),
            transfers: Transfers::default(),
            ports: Vec::new(),
            wakeup: Wakeup::new().context("cannot wait for devices")?,
            pool: BufferPool::new(),
            adoptions: Vec::new(),
            answered: Vec::new(),
            slow: None,
        })
    }

    /// Has the log tell of requests that take that long, of stores that are added from now on.
    pub(super) fn set_slow_io(&mut self, threshold: Option<Duration>) {
        self.slow = threshold;
    }

    /// Adds a store, which is closed by [`StoreBackend::close`] whatever is returned here.
    ///
    /// # Errors
    /// One of that name is served already, or its devices cannot be waited for.
    pub(super) fn add(&mut self, mut store: Served) -> Result<StoreId> {
        store.set_slow_log(self.slow.map(SlowLog::new));
        let watched = store.devices().try_for_each(|device| self.wakeup.watch(device));
        let id = StoreId(self.added);
        self.added += 1;
        self.stores.insert(id, store);
        watched.context("cannot wait for a device")?;
        self.rename()?;
        Ok(id)
    }

    /// Takes a store out, if no client has anything of it open.
    pub(super) fn take(&mut self, id: StoreId) -> Option<Served> {
        if self.is_in_use(id) {
            return None;
        }
        self.take_out(id)
    }

    /// Takes a store out that has lost its device, unless a verb is under way in it. What clients have open of it is gone, and
    /// their requests fail.
    pub(super) fn take_lost(&mut self, id: StoreId) -> Option<Store<Device>> {
        self.store(id).filter(|store| store.can_be_abandoned())?;
        let (store, waiting) = self.take_out(id)?.abandon();
        self.openings.revoke_store(id);
        self.answered.extend(waiting.into_iter().map(|id| (id, Reply::Error(Errno::Shutdown))));
        Some(store)
    }

    fn take_out(&mut self, id: StoreId) -> Option<Served> {
        let store = self.stores.remove(&id)?;
        for device in store.devices() {
            // One that is watched by mistake costs a wakeup too many, until it is closed.
            let _ = self.wakeup.unwatch(device);
        }
        // Fewer names are not less unique.
        let _ = self.rename();
        Some(store)
    }

    /// Takes note of what the stores are called now.
    ///
    /// # Errors
    /// Two have the same name.
    pub(super) fn rename(&mut self) -> Result<()> {
        let names = self.stores.iter().map(|(id, store)| (*id, store.engine().state().name()));
        self.naming = Naming::of(names.collect())?;
        Ok(())
    }

    /// The stores.
    pub(super) fn stores(&self) -> impl Iterator<Item = (StoreId, &Served)> {
        self.stores.iter().map(|(id, store)| (*id, store))
    }

    /// A store.
    pub(super) fn store(&self, id: StoreId) -> Option<&Served> {
        self.stores.get(&id)
    }

    /// The State of a store.
    pub(super) fn state(&self, id: StoreId) -> Option<&State> {
        self.store(id).map(|store| store.engine().state())
    }

    /// Begins to count anew what clients ask of an lvol, or of all, for those who ask for what is recent.
    pub(super) fn reset_stats(&mut self, lvol: Option<Export>, what: Reset) {
        let stores = self.stores.iter_mut().filter(|(id, _)| lvol.is_none_or(|lvol| lvol.store == **id));
        stores.for_each(|(_, store)| store.reset_stats(lvol.map(|lvol| lvol.lvol), what));
    }

    /// Counts latencies of an lvol from now on, or does not any more.
    pub(super) fn set_histogram(&mut self, lvol: Export, histogram: Option<Histogram>) {
        if let Some(store) = self.stores.get_mut(&lvol.store) {
            store.set_histogram(lvol.lvol, histogram);
        }
    }

    /// Limits what clients may ask of an lvol, or does not any more.
    pub(super) fn set_limits(&mut self, lvol: Export, limits: Limits) {
        if let Some(store) = self.stores.get_mut(&lvol.store) {
            store.set_limits(lvol.lvol, limits);
        }
    }

    /// An lvol as a device, read-only if the lvol is. As long as there is the device, nobody removes, shrinks or reverts the
    /// lvol.
    ///
    /// # Errors
    /// There is no such lvol, or it cannot be waited for.
    pub(super) fn lvol_device(&mut self, export: Export) -> Result<LvolDevice> {
        let state = self.state(export.store).context("the store is not served any more")?;
        let lvol = state.blob(export.lvol).context("there is no such lvol")?;
        let (size_bytes, read_only) = (state.bytes(lvol), lvol.is_read_only());
        if !read_only && self.transfers.concern(export) {
            bail!("the lvol is being exported");
        }
        let block = u32::try_from(state.units.block).context("blocks that large")?;
        let hold = self.openings.open(export);
        let connected = lvol_device::connect(export, hold, size_bytes, block, read_only).and_then(|ends| {
            self.wakeup.watch_descriptor(ends.1.descriptor())?;
            Ok(ends)
        });
        if connected.is_err() {
            self.openings.close(hold);
        }
        let (device, port) = connected.context("cannot wait for an lvol")?;
        self.ports.push(port);
        Ok(device)
    }

    /// Whether an lvol is used as a device: `true` if that can be written.
    pub(super) fn device_use(&self, export: Export) -> Option<bool> {
        let ports = self.ports.iter().filter(|port| port.export() == export);
        ports.map(Port::is_writable).max()
    }

    /// Has a store read the external snapshot of this id from an lvol of another one.
    ///
    /// # Errors
    /// As [`StoreBackend::lvol_device`].
    pub(super) fn attach_lvol(&mut self, id: StoreId, external: &str, lvol: Export) -> Result<()> {
        let device = self.lvol_device(lvol)?;
        self.watch(&device).context("cannot wait for a device")?;
        self.attach_device(id, external, device.into());
        Ok(())
    }

    /// Lets go of lvols that a store had as external snapshots and does not read any more.
    pub(super) fn detach_lvols(&mut self, id: StoreId) {
        let read = self.ports.iter().filter(|port| !port.is_writable()).map(Port::export);
        let uuid = |lvol: Export| self.state(lvol.store)?.blob(lvol.lvol)?.uuid();
        let names: Vec<String> = read.filter_map(uuid).map(|uuid| uuid.to_string()).collect();
        if let Some(store) = self.stores.get_mut(&id) {
            names.iter().for_each(|name| store.detach_external(name));
        }
    }

    /// Wakes for a device that is no store's, as long as it lives or until it is let go.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(super) fn watch(&self, device: &impl HostDevice) -> rustix::io::Result<()> {
        self.wakeup.watch(device)
    }

    /// Does not wake for it any more.
    pub(super) fn unwatch(&self, device: &impl HostDevice) {
        // One that is watched by mistake costs a wakeup too many, until it is closed.
        let _ = self.wakeup.unwatch(device);
    }

    /// Starts a job in a store. What comes of it is told by [`StoreBackend::finished`].
    pub(super) fn start_job(
        &mut self,
        id: StoreId,
        work: Work,
        bytes_per_second: Option<u64>,
    ) -> Option<Ticket> {
        Some(self.stores.get_mut(&id)?.start_job(work, bytes_per_second))
    }

    /// Ends a job in a store.
    pub(super) fn cancel(&mut self, id: StoreId, job: Ticket) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.cancel(job);
        }
    }

    /// Starts a verb in a store. What comes of it is told by [`StoreBackend::finished`].
    pub(super) fn start(&mut self, id: StoreId, verb: Verb) -> Option<Ticket> {
        Some(self.stores.get_mut(&id)?.start(verb))
    }

    /// Has a store read the external snapshot of this id from a file, unless it does.
    ///
    /// # Errors
    /// The file cannot be opened or waited for.
    pub(super) fn attach_external(&mut self, id: StoreId, external: &str, file: &Path) -> Result<()> {
        let store = self.stores.get_mut(&id).context("the store is not served any more")?;
        if store.engine().has_external(external) {
            return Ok(());
        }
        let device = open::external_device(file)?;
        self.wakeup.watch(&device).context("cannot wait for a device")?;
        store.attach_external(external, Box::new(device));
        Ok(())
    }

    /// Has a store read the external snapshot of this id from a device that needs nobody to wait for it.
    pub(super) fn attach_device(&mut self, id: StoreId, external: &str, device: Device) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.attach_external(external, device);
        }
    }

    /// Makes what a store is on as large as it is to be, and says what is left to do.
    ///
    /// # Errors
    /// Why it cannot grow.
    pub(super) fn prepare_growth(&mut self, id: StoreId, growth: &Growth) -> Result<Job> {
        self.stores.get_mut(&id).context("the store is not served any more")?.prepare_growth(growth)
    }

    /// What a store is on.
    pub(super) fn device_mut(&mut self, id: StoreId) -> Option<&mut Device> {
        self.stores.get_mut(&id).map(Served::device_mut)
    }

    /// Whether something has ended that nobody was told about.
    pub(super) fn has_finished(&self) -> bool {
        self.stores.values().any(Served::has_finished)
    }

    /// Verbs and jobs that have ended since this was asked last.
    pub(super) fn finished(&mut self) -> Vec<(StoreId, Finished)> {
        let stores = self.stores.iter_mut();
        stores.flat_map(|(id, store)| store.finished().map(|finished| (*id, finished))).collect()
    }

    /// Whether a client is connected to an lvol.
    pub(super) fn is_open(&self, export: Export) -> bool {
        self.openings.count(export) > 0
    }

    /// Connections to an lvol.
    pub(super) fn connections(&self, export: Export) -> usize {
        self.openings.count(export)
    }

    /// Whether a client is connected to an lvol of a store, or something is under way in it.
    pub(super) fn is_in_use(&self, id: StoreId) -> bool {
        self.openings.has_open(id) || self.store(id).is_some_and(Served::is_in_use)
    }

    /// An lvol is gone. Its id may come to stand for another one, which its clients must not reach.
    pub(super) fn forget(&mut self, export: Export, uuid: Option<Uuid>) {
        self.openings.revoke(export);
        if let Some(store) = self.stores.get_mut(&export.store) {
            let waiting = store.forget(export.lvol).into_iter();
            self.answered.extend(waiting.map(|id| (id, Reply::Error(Errno::Shutdown))));
        }
        if let Some(uuid) = uuid {
            self.withdrawn.remove(&uuid);
            self.access.set(uuid, None);
        }
    }

    /// Whether an lvol was withdrawn from NBD clients.
    pub(super) fn is_withdrawn(&self, lvol: Uuid) -> bool {
        self.withdrawn.contains(&lvol)
    }

    /// Offers an lvol to NBD clients, which is so from the start, or does not any more. Connections are not touched.
    pub(super) fn offer(&mut self, lvol: Uuid, offered: bool) {
        if offered {
            self.withdrawn.remove(&lvol);
        } else {
            self.withdrawn.insert(lvol);
        }
    }

    /// Who may open an lvol, where that was said of it alone.
    pub(super) fn allowed(&self, lvol: Uuid) -> Option<&[Who]> {
        self.access.of_lvol(lvol)
    }

    /// Says who may open an lvol. `None`: those that the server's rules name. Connections are not touched.
    pub(super) fn allow(&mut self, lvol: Uuid, clients: Option<Vec<Who>>) {
        self.access.set(lvol, clients);
    }

    fn allows(&self, peer: &Peer, store: StoreId, lvol: &Blob) -> bool {
        let name = self.naming.name(store, &lvol.display_name());
        self.access.allows(peer, &name, lvol.uuid())
    }

    /// A snapshot is about to go into an lvol of that name: from now on nobody can open it.
    pub(super) fn reserve(&mut self, export: Export, into: &str) {
        self.going.insert(export, into.to_owned());
    }

    /// A snapshot stays, or is gone.
    pub(super) fn release(&mut self, export: Export) {
        self.going.remove(&export);
    }

    /// What a snapshot is about to go into.
    pub(super) fn going_into(&self, export: Export) -> Option<&str> {
        self.going.get(&export).map(String::as_str)
    }

    /// Whether NBD clients can open an lvol.
    pub(super) fn is_offered(&self, id: StoreId, lvol: &Blob) -> bool {
        self.refusal(id, lvol).is_none()
    }

    /// Readable when [`StoreBackend::advance`] may have something to do.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wakeup.descriptor()
    }

    /// When to advance at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.stores.values().filter_map(Served::deadline).min()
    }

    /// Whether to advance again instead of sleeping.
    pub(super) fn must_be_polled(&self) -> bool {
        self.stores.values().any(Served::must_be_polled)
    }

    /// Moves every store along without waiting. What is answered to NBD clients is kept for their server.
    pub(super) fn advance(&mut self) {
        for port in &mut self.ports {
            port.pass_on(self.stores.get_mut(&port.export().store));
        }
        for (id, store) in &mut self.stores {
            store.poll(&mut self.pool, &mut self.answered);
            for (ticket, result) in store.own_done() {
                let mut result = Some(result);
                for port in self.ports.iter_mut().filter(|port| port.export().store == *id) {
                    let Some(taken) = result.take() else { break };
                    result = port.answer(ticket, taken);
                }
            }
        }
        for port in self.ports.extract_if(.., |port| port.is_done()) {
            self.openings.close(port.hold());
        }
    }

    /// Waits until a device or one of others has something new, or for a moment.
    pub(super) fn sleep(&self, others: &[BorrowedFd<'_>]) {
        let watched = iter::once(self.descriptor()).chain(others.iter().copied());
        let mut watched: Vec<_> = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let pace = if self.must_be_polled() { Duration::ZERO } else { PACE };
        // Whatever ends it, the caller looks again.
        let _ = Timespec::try_from(pace).map(|pace| poll(&mut watched, Some(&pace)));
    }

    /// What the exports are called.
    pub(super) fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Finishes what is under way in the stores, makes it durable and lets go of them: of each one, whatever becomes
    /// of the others. Those on lvols go before those that they are on. What is not closed at `deadline` is left as by a crash.
    ///
    /// # Errors
    /// The first store that could not be closed in order, or in time.
    pub(super) fn close(mut self, deadline: Instant) -> Result<()> {
        let mut result = Ok(());
        let mut tell = |path: &str, closed: Result<()>| match (closed, &result) {
            (Ok(()), _) => info!(store = path, "closed"),
            (Err(cause), Ok(())) => {
                result = Err(cause).with_context(|| format!("{path}: not closed in order"));
            }
            // Only one can be returned.
            (Err(cause), Err(_)) => error!(store = path, cause = format!("{cause:#}"), "not closed in order"),
        };
        let mut closing: Vec<(String, JoinHandle<Result<(), Error>>)> = Vec::new();
        loop {
            while let Some(store) = self.next_to_close(closing.is_empty()) {
                let path = store.path().display().to_string();
                let thread = thread::Builder::new().name("close".to_owned()).spawn(move || store.close());
                match thread {
                    Ok(thread) => closing.push((path, thread)),
                    // The store is gone with it.
                    Err(cause) => tell(&path, Err(cause.into())),
                }
            }
            self.advance();
            for (path, thread) in closing.extract_if(.., |(_, thread)| thread.is_finished()) {
                let closed = thread.join().unwrap_or(Err(Error::Cancelled));
                tell(&path, closed.map_err(Into::into));
            }
            if closing.is_empty() && self.stores.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                let left = self.stores.values().map(|store| store.path().display().to_string());
                for path in closing.into_iter().map(|(path, _)| path).chain(left) {
                    tell(&path, Err(anyhow!("it takes too long; the next to open it recovers it")));
                }
                // Dropping them would wait for their devices. They go with the process.
                std::mem::forget(std::mem::take(&mut self.stores));
                break;
            }
            self.sleep(&[]);
        }
        result
    }

    /// A store of which nobody uses an lvol as a device; one that somebody does only if nothing else can go on.
    fn next_to_close(&mut self, is_stuck: bool) -> Option<Served> {
        let is_below = |id: &StoreId| self.ports.iter().any(|port| port.export().store == *id);
        let free = self.stores.keys().find(|id| !is_below(id)).copied();
        let any = || self.stores.keys().next().copied().filter(|_| is_stuck);
        self.stores.remove(&free.or_else(any)?)
    }

    /// The lvol of an export name.
    fn find(&self, name: &str) -> Option<(StoreId, &Blob)> {
        if name.is_empty() {
            let mut lvols = self.lvols();
            return lvols.next().filter(|_| lvols.next().is_none());
        }
        self.naming
            .candidates(name)
            .find_map(|(id, lvol)| Some((id, lookup::lvol(self.state(id)?, lvol).ok()?)))
    }

    /// Every lvol of every store.
    pub(super) fn lvols(&self) -> impl Iterator<Item = (StoreId, &Blob)> {
        self.stores().flat_map(|(id, store)| store.engine().state().lvols().map(move |lvol| (id, lvol)))
    }

    /// Opens an lvol for a device of the kernel's. Lists of clients do not matter to who may say so.
    ///
    /// # Errors
    /// Why it cannot be opened now.
    pub(super) fn open_disk(&mut self, export: Export) -> Result<(ExportId, ExportInfo), String> {
        let lvol = self.state(export.store).and_then(|state| state.blob(export.lvol));
        let info = lvol.and_then(|lvol| Some((lvol, self.info_of(export.store, lvol)?)));
        let (lvol, info) = info.ok_or_else(|| "it is gone".to_owned())?;
        match self.obstacle(export.store, lvol) {
            Some(reason) => Err(reason),
            None => Ok((self.openings.open(export), info)),
        }
    }

    /// The block of a store's lvols in bytes.
    pub(super) fn block_bytes(&self, id: StoreId) -> u32 {
        self.state(id).and_then(|state| u32::try_from(state.units.block).ok()).unwrap_or(4096)
    }

    /// Hands a connection to the NBD server.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        self.adoptions.push(adopted);
    }

    fn info_of(&self, id: StoreId, lvol: &Blob) -> Option<ExportInfo> {
        let name = self.naming.name(id, &lvol.display_name());
        Some(exports::info(self.store(id)?.engine(), lvol, name, self.request_bytes))
    }

    /// Why an lvol may not be opened, if so.
    fn refusal(&self, id: StoreId, lvol: &Blob) -> Option<String> {
        if lvol.uuid().is_some_and(|uuid| self.withdrawn.contains(&uuid)) {
            return Some("not exported".to_owned());
        }
        self.obstacle(id, lvol)
    }

    /// Why nobody may open an lvol, whoever it is.
    fn obstacle(&self, id: StoreId, lvol: &Blob) -> Option<String> {
        if !lvol.is_read_only() && self.transfers.concern(Export { store: id, lvol: lvol.id }) {
            return Some("being exported by a command".to_owned());
        }
        if let Some(into) = self.going_into(Export { store: id, lvol: lvol.id }) {
            return Some(format!("being merged into \"{into}\""));
        }
        if self.device_use(Export { store: id, lvol: lvol.id }) == Some(true) {
            return Some("in use as a device".to_owned());
        }
        exports::refusal(self.store(id)?.engine(), lvol)
    }

    /// The export of a name, unless there is a reason not to open it.
    fn look_up(&self, name: &str, peer: &Peer) -> Result<(Export, ExportInfo), OpenError> {
        let (store, lvol) = self.find(name).ok_or(OpenError::NotFound)?;
        // To others it is not there, whatever is wrong with it.
        if !self.allows(peer, store, lvol) {
            return Err(OpenError::NotFound);
        }
        if let Some(reason) = self.refusal(store, lvol) {
            return Err(OpenError::Refused { reason });
        }
        let info = self.info_of(store, lvol).ok_or(OpenError::NotFound)?;
        Ok((Export { store, lvol: lvol.id }, info))
    }
}

/// What [`super::daemon::Daemon`] hands on: the methods of the NBD server's backend.
impl StoreBackend {
    /// What can be opened. Clients that list exports look at each, and give up at the first that is refused.
    pub(super) fn exports(&self, peer: &Peer) -> Vec<ExportInfo> {
        let sound = self.lvols().filter(|(id, lvol)| self.is_offered(*id, lvol));
        let allowed = sound.filter(|(id, lvol)| self.allows(peer, *id, lvol));
        allowed.filter_map(|(id, lvol)| self.info_of(id, lvol)).collect()
    }

    pub(super) fn open(&mut self, name: &str, peer: &Peer) -> Result<(ExportId, ExportInfo), OpenError> {
        if let Some(opened) = self.open_transfer(name) {
            return Ok(opened);
        }
        let (export, info) = self.look_up(name, peer)?;
        Ok((self.openings.open(export), info))
    }

    pub(super) fn info(&mut self, name: &str, peer: &Peer) -> Result<ExportInfo, OpenError> {
        self.look_up(name, peer).map(|(_, info)| info)
    }

    pub(super) fn close_export(&mut self, export: ExportId) {
        self.openings.close(export);
    }

    pub(super) fn submit(&mut self, id: RequestId, export: ExportId, command: Command) {
        let export = self.openings.find(export);
        let reply = match export.and_then(|export| Some((self.stores.get_mut(&export.store)?, export.lvol))) {
            Some((store, lvol)) => store.submit(id, lvol, command, &mut self.pool),
            None => Some(Reply::Error(Errno::Shutdown)),
        };
        self.answered.extend(reply.map(|reply| (id, reply)));
    }

    pub(super) fn abandon(&mut self, connection: u64) {
        let waiting = self.stores.values_mut().flat_map(|store| store.abandon_limited(connection));
        self.answered.extend(waiting.map(|id| (id, Reply::Error(Errno::Shutdown))));
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answered.is_empty() || !self.adoptions.is_empty()
    }

    pub(super) fn adopted(&mut self) -> Option<Adopted> {
        self.adoptions.pop()
    }

    pub(super) fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        self.advance();
        replies.append(&mut self.answered);
    }

    pub(super) fn buffer(&mut self, len: usize) -> Buffer {
        self.pool.take(len)
    }

    pub(super) fn recycle(&mut self, buffer: Buffer) {
        self.pool.give(buffer);
    }
}
