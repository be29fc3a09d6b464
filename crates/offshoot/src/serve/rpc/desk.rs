//! Where calls come in and answers go out.

use super::super::backend::StoreBackend;
use super::super::listen::Address;
use super::super::logging::Logging;
use super::super::notices::Notices;
use super::super::openings::{Export, StoreId};
use super::super::served::{Device, Finished, Served};
use super::answers::{Answer, Asker, Awaited, Door, Then, now};
use super::away::{Away, Retry};
use super::bases::{Bases, Deferred, Ground, Holds, Kind, bare};
use super::copies::Copies;
use super::disks::Disks;
use super::makings::Makings;
use super::operations::{Operations, Zeroing};
use super::replay::Replay;
use super::scheduling::Scheduling;
use super::works::{Done, Outcome, Works};
use offshoot_block::BlockDevice as _;
use offshoot_format::BlobId;
use offshoot_rpc::types::framework::Version;
use offshoot_rpc::{Call, Dispatch, Errno, Method, Reply, Request, RequestId, ResultText, RpcError};
use offshoot_store::{Blob, Error, State, Store, Ticket, Verb};
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

/// What else a verb has changed when it is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    Nothing,
    /// An lvol is gone.
    Gone(Export, Option<Uuid>),
    /// A store has another name.
    Renamed,
    /// An lvol was filled. If it cannot become one like any other, it goes.
    Filled(Export),
}

struct Waiting {
    /// `None`: nobody waits.
    asker: Option<Asker>,
    /// The lvol that reads something else when it is done.
    disturbs: Option<BlobId>,
    then: Then,
    effect: Effect,
}

/// The methods and what they know besides the stores.
pub(super) struct Desk {
    dispatch: Dispatch,
    pub(super) bases: Bases,
    pub(super) works: Works,
    /// Lvols as devices of the kernel's.
    pub(super) disks: Disks,
    /// External snapshots of stores that are opened later: id and file.
    pub(super) externals: Vec<(String, PathBuf)>,
    /// Where NBD clients connect.
    pub(super) addresses: Vec<Address>,
    /// Lvols that had a clone while they were served here: they stay snapshots, as with SPDK.
    pub(super) snapshots: HashSet<Uuid>,
    verbs: HashMap<(StoreId, Ticket), Waiting>,
    pub(super) operations: Operations,
    pub(super) copies: Copies,
    pub(super) makings: Makings,
    /// When the server began: what ticks are counted from.
    pub(super) started: Instant,
    /// Bdevs over others that there are not yet.
    pub(super) deferred: Vec<Deferred>,
    /// Who waits for bdevs that there are not yet.
    pub(super) awaited: Vec<Awaited>,
    /// Who waits until no bdev is being looked at.
    examined: Vec<Asker>,
    /// A configuration that is being loaded.
    pub(super) replay: Replay,
    /// Bdevs that are to come back.
    pub(super) away: Vec<Away>,
    /// When to see whether the devices of stores that have failed can be read.
    pub(super) probes: HashMap<StoreId, Retry>,
    /// Stores whose file has no name any more.
    pub(super) unlinked: HashSet<StoreId>,
    pub(super) logging: Logging,
    pub(super) scheduling: Scheduling,
    pub(super) notices: Notices,
    /// Whether bdevs may have come or gone since [`Desk::take_note`] looked.
    pub(super) bdevs_changed: bool,
    /// When it looked.
    pub(super) looked: Option<Instant>,
    /// When it is to look again, if something has happened since.
    pub(super) look_again: Option<Instant>,
    pub(super) answered: Vec<(Asker, Reply)>,
}

impl Desk {
    pub(super) fn new(externals: Vec<(String, PathBuf)>, logging: Logging) -> io::Result<Self> {
        Ok(Self {
            dispatch: Dispatch::new(|_| true),
            bases: Bases::default(),
            works: Works::new()?,
            disks: Disks::default(),
            externals,
            addresses: Vec::new(),
            snapshots: HashSet::new(),
            verbs: HashMap::new(),
            operations: Operations::default(),
            copies: Copies::default(),
            makings: Makings::default(),
            started: Instant::now(),
            deferred: Vec::new(),
            awaited: Vec::new(),
            examined: Vec::new(),
            replay: Replay::default(),
            away: Vec::new(),
            probes: HashMap::new(),
            unlinked: HashSet::new(),
            logging,
            scheduling: Scheduling::default(),
            notices: Notices::default(),
            bdevs_changed: true,
            looked: None,
            look_again: None,
            answered: Vec::new(),
        })
    }

    /// Takes note of where NBD clients connect.
    pub(super) fn add_address(&mut self, address: Address) {
        self.addresses.push(address);
    }

    /// Takes a request. It is answered by [`Desk::poll`].
    pub(super) fn submit(&mut self, stores: &mut StoreBackend, asker: Asker, request: &Request) {
        let answer = match asker.door {
            Door::Public | Door::Config => self.dispatch.call(request).and_then(|(method, call)| {
                debug!(method = method.name, "called");
                self.call(stores, asker, method, call)
            }),
            Door::Private => self.run_command(stores, asker, request),
        };
        if let Some(reply) = answer.transpose() {
            self.answered.push((asker, reply));
        }
    }

    /// Appends what has been answered to those at a door.
    pub(super) fn poll(
        &mut self,
        stores: &mut StoreBackend,
        door: Door,
        replies: &mut Vec<(RequestId, Reply)>,
    ) {
        for (store, finished) in stores.finished() {
            self.bdevs_changed = true;
            self.verb_done(stores, store, finished);
            // A verb under way may be about to need what nothing reads yet.
            if self.verbs.keys().all(|(other, _)| *other != store) {
                stores.detach_lvols(store);
            }
        }
        while let Some(done) = self.works.poll() {
            self.bdevs_changed = true;
            self.work_done(stores, done);
        }
        self.step_copies(stores);
        self.answer_awaited(stores);
        self.take_note(stores);
        self.watch_switches();
        let here = self.answered.extract_if(.., |(asker, _)| asker.door == door);
        replies.extend(here.map(|(asker, reply)| (asker.id, reply)));
    }

    /// Whether somebody at a door has an answer that he did not get.
    pub(super) fn has_answers(&self, door: Door) -> bool {
        self.answered.iter().any(|(asker, _)| asker.door == door)
    }

    /// Whether something goes on of which nothing tells but polling.
    pub(super) fn must_be_polled(&self) -> bool {
        self.copies.must_be_polled()
    }

    /// When to poll at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.awaited
            .iter()
            .map(|awaited| awaited.until)
            .chain(self.next_look())
            .chain(self.next_return())
            .chain(self.look_again)
            .min()
    }

    /// Whether a verb is under way after which one of these lvols reads something else.
    pub(super) fn disturbs_any(&self, store: StoreId, mut lvols: impl Iterator<Item = BlobId>) -> bool {
        let verbs = self.verbs.iter().filter(|((other, _), _)| *other == store);
        let disturbed: Vec<BlobId> = verbs.filter_map(|(_, waiting)| waiting.disturbs).collect();
        !disturbed.is_empty() && lvols.any(|lvol| disturbed.contains(&lvol))
    }

    /// Calls that wait for a verb or a job.
    pub(super) fn waiting_calls(&self) -> usize {
        self.verbs.len()
    }

    /// Whether a thread is at work.
    pub(super) fn has_works(&self) -> bool {
        self.works.running() > 0
    }

    /// Waits for all threads until `deadline`, so that every store that there is gets closed. They may be at work on lvols, so the
    /// stores go on meanwhile.
    pub(super) fn settle(&mut self, stores: &mut StoreBackend, deadline: Instant) {
        while self.has_works() && Instant::now() < deadline {
            stores.advance();
            match self.works.poll() {
                Some(done) => self.work_done(stores, done),
                None => stores.sleep(&[self.works.as_fd()]),
            }
        }
    }

    /// Answers.
    pub(super) fn answer(&mut self, asker: Asker, reply: Reply) {
        self.answered.push((asker, reply));
    }

    /// Starts a verb, which is answered when it is done.
    pub(super) fn start(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        store: StoreId,
        verb: Verb,
        then: Then,
    ) -> Answer {
        let zeroing = stores.state(store).and_then(|state| Zeroing::of(state, &verb));
        let ticket = self.begin_verb(stores, Some(asker), store, verb, then)?;
        if let Some(zeroing) = zeroing {
            self.operations.add_zeroing(store, ticket, zeroing);
        }
        Ok(None)
    }

    /// Starts a verb. Without anybody who waits it is to become an operation, which keeps what there is to answer.
    pub(super) fn begin_verb(
        &mut self,
        stores: &mut StoreBackend,
        asker: Option<Asker>,
        store: StoreId,
        verb: Verb,
        then: Then,
    ) -> Result<Ticket, RpcError> {
        let state = stores.state(store).ok_or(RpcError::INTERNAL)?;
        if let Some(lvol) = disturbed(state, &verb)
            && stores.is_open(Export { store, lvol: lvol.id })
        {
            return Err(then.failed(&Error::InUse(lvol.display_name())));
        }
        if let Verb::SetParent { lvol, .. } = &verb
            && stores.is_read_through(store, *lvol)
        {
            let name = state.blob(*lvol).map(Blob::display_name).unwrap_or_default();
            return Err(then.failed(&Error::InUse(name)));
        }
        let effect = match &verb {
            Verb::Remove { lvol } | Verb::RemoveDeferred { lvol } if goes(state, &verb) => {
                let uuid = state.blob(*lvol).and_then(Blob::uuid);
                Effect::Gone(Export { store, lvol: *lvol }, uuid)
            }
            Verb::RenameStore { .. } => Effect::Renamed,
            _ => Effect::Nothing,
        };
        self.snapshots.extend(parent_left(state, &verb).and_then(Blob::uuid));
        self.launch(stores, asker, store, verb, (then, effect))
    }

    /// Starts a verb that nobody can have anything against.
    pub(super) fn launch(
        &mut self,
        stores: &mut StoreBackend,
        asker: Option<Asker>,
        store: StoreId,
        verb: Verb,
        (then, effect): (Then, Effect),
    ) -> Result<Ticket, RpcError> {
        let disturbs = match &verb {
            Verb::SetParent { lvol, .. } => Some(*lvol),
            verb => stores.state(store).and_then(|state| disturbed(state, verb)).map(|lvol| lvol.id),
        };
        let ticket = stores.start(store, verb).ok_or(RpcError::INTERNAL)?;
        self.verbs.insert((store, ticket), Waiting { asker, disturbs, then, effect });
        Ok(ticket)
    }

    /// Starts a work on a bdev, which is busy until it is done.
    pub(super) fn work(
        &mut self,
        asker: Option<Asker>,
        base: &str,
        work: impl FnOnce() -> (Ground, Reply) + Send + 'static,
    ) -> Answer {
        if let Some(base) = self.bases.find_mut(base) {
            base.holds = Holds::Busy;
        }
        let name = base.to_owned();
        let work = move || {
            let (ground, reply) = work();
            Outcome::Base(name, ground, reply)
        };
        if let Err(cause) = self.works.start(asker, work) {
            warn!(base, %cause, "no thread: the bdev is gone");
            self.lose(base);
            return Err(RpcError::refused(Errno::NoMem));
        }
        Ok(None)
    }

    fn verb_done(&mut self, stores: &mut StoreBackend, store: StoreId, (ticket, result): Finished) {
        let Some(Waiting { asker, then, effect, .. }) = self.verbs.remove(&(store, ticket)) else {
            return self.job_done(stores, store, (ticket, result));
        };
        let reply = match result {
            Ok(made) => {
                self.take_effect(stores, effect);
                match then {
                    Then::Begun(name, size_bytes) => {
                        Self::begun(stores, asker, (store, &made), name, size_bytes)
                    }
                    then => then.reply(stores.state(store), &made),
                }
            }
            Err(cause) => {
                debug!(%cause, "failed");
                if let Effect::Filled(export) = effect {
                    self.remove_unfinished(stores, export);
                }
                Err(then.undone(&cause))
            }
        };
        let unclaimed = self.operations.end_zeroing((store, ticket), asker.is_none(), reply);
        self.answered.extend(asker.zip(unclaimed));
    }

    fn take_effect(&mut self, stores: &mut StoreBackend, effect: Effect) {
        match effect {
            Effect::Nothing | Effect::Filled(_) => {}
            Effect::Gone(export, uuid) => {
                stores.forget(export, uuid);
                uuid.map(|uuid| self.snapshots.remove(&uuid));
            }
            Effect::Renamed => {
                // Where two have the same name now, the names that were stay good.
                if let Err(cause) = stores.rename() {
                    warn!(%cause, "exports keep their names");
                }
            }
        }
    }

    fn work_done(&mut self, stores: &mut StoreBackend, done: Done) {
        let Done { asker, outcome } = done;
        let (base, ground, reply) = match outcome {
            Outcome::Base(base, ground, reply) => (base, ground, reply),
            Outcome::Disk(done) => return self.disk_done(stores, asker, done),
            Outcome::Probed(store, is_lost) => return self.probed(stores, store, is_lost),
        };
        self.makings.end(&base, reply.as_ref().err().map(ToString::to_string));
        let geometry = match &ground {
            Ground::Gone | Ground::Deleted(_) => None,
            Ground::Nothing(bare) => Some(bare.device.geometry()),
            Ground::Store(_, store) => Some(store.device().geometry()),
        };
        if let (Some(base), Some(geometry)) = (self.bases.find_mut(&base), geometry) {
            base.measure(geometry);
        }
        match ground {
            Ground::Gone => self.lose(&base),
            Ground::Deleted(bare) => {
                let below = self.bases.remove(&base);
                if let Some(below) = below.as_ref().and_then(|base| base.kind.base()) {
                    self.give_back(below, bare);
                }
            }
            Ground::Nothing(device) => self.hold(&base, Holds::Nothing(device)),
            Ground::Store(path, store) => {
                let name = store.state().name();
                if stores.stores().any(|(_, other)| other.engine().state().name() == name) {
                    warn!(base, "not served: another store is called \"{name}\"");
                    return self.close_unserved(asker, &base, *store, reply);
                }
                match stores.add(Served::new(path, *store)) {
                    Ok(id) => {
                        self.hold(&base, Holds::Store(id));
                        self.returned(stores, &base, id);
                    }
                    Err(cause) => {
                        warn!(base, %cause, "not served");
                        self.lose(&base);
                    }
                }
            }
        }
        self.attach_missing(stores);
        self.answered.extend(asker.map(|asker| (asker, reply)));
        self.create_deferred(stores);
        if !self.bases.any_busy() {
            let examined = self.examined.drain(..).map(|asker| (asker, ResultText::of(&true)));
            self.answered.extend(examined);
        }
    }

    /// Lets go of a store that cannot be served, and answers then.
    fn close_unserved(&mut self, asker: Option<Asker>, base: &str, store: Store<Device>, reply: Reply) {
        let Some((kind, block)) = self.bases.find(base).map(|base| (base.kind.clone(), base.block)) else {
            return self.answered.extend(asker.map(|asker| (asker, reply)));
        };
        let close = move || (bare(store.close().0, &kind, block), reply);
        if let Err(error) = self.work(asker, base, close) {
            self.answered.extend(asker.map(|asker| (asker, Err(error))));
        }
    }

    fn hold(&mut self, base: &str, holds: Holds) {
        if let Some(base) = self.bases.find_mut(base) {
            base.holds = holds;
        }
    }

    fn call(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        call: Call,
    ) -> Answer {
        match call {
            Call::CreateLvstore(params) => self.create_lvstore(stores, asker, method, &params),
            Call::DeleteLvstore(params) => self.delete_lvstore(stores, asker, method, &params),
            Call::GetLvstores(params) => self.get_lvstores(stores, params.as_ref()),
            Call::GrowLvstore(params) => self.grow_lvstore(stores, asker, method, &params),
            Call::RenameLvstore(params) => self.rename_lvstore(stores, asker, method, params),
            Call::CreateLvol(params) => self.create_lvol(stores, asker, method, params),
            Call::SnapshotLvol(params) => self.snapshot_lvol(stores, asker, method, &params),
            Call::GroupSnapshot(params) => self.group_snapshot(stores, asker, method, &params),
            Call::CloneBdev(params) => self.clone_bdev(stores, asker, method, &params),
            Call::SetParentBdev(params) => self.set_parent_bdev(stores, asker, method, &params),
            Call::CloneLvol(params) => self.clone_lvol(stores, asker, method, &params),
            Call::RenameLvol(params) => self.rename_lvol(stores, asker, method, params),
            Call::ResizeLvol(params) => self.resize_lvol(stores, asker, method, &params),
            Call::SetReadOnly(params) => self.set_read_only(stores, asker, method, &params),
            Call::DeleteLvol(params) => self.delete_lvol(stores, asker, method, &params),
            Call::InflateLvol(params) => self.inflate_lvol(stores, asker, method, &params),
            Call::DecoupleParent(params) => self.decouple_parent(stores, asker, method, &params),
            Call::DetachParent(params) => self.detach_parent(stores, asker, method, params.lvol()),
            Call::MergeSnapshots(params) => self.merge_snapshots(stores, asker, method, &params),
            Call::DiffLvols(params) => Self::diff_lvols(stores, &params),
            Call::StartShallowCopy(params) => self.start_shallow_copy(stores, method, &params),
            Call::CheckShallowCopy(params) => self.check_shallow_copy(&params),
            Call::GetOperations => self.get_operations(stores),
            Call::CancelOperation(params) => self.cancel_operation(stores, params),
            Call::SetParent(params) => self.set_parent(stores, asker, method, &params),
            Call::RevertLvol(params) => self.revert_lvol(stores, asker, method, &params),
            Call::GetLvols(params) => self.get_lvols(stores, params.as_ref()),
            Call::GetBdevs(params) => self.get_bdevs(stores, asker, params),
            Call::CreateAio(params) => self.create_aio(asker, params),
            Call::RescanAio(params) => self.rescan_file(stores, &params, false),
            Call::CreateUring(params) => self.create_uring(asker, params),
            Call::RescanUring(params) => self.rescan_file(stores, &params, true),
            Call::CreateMalloc(params) => self.create_malloc(stores, params),
            Call::CreateNull(params) => self.create_null(stores, params),
            Call::ResizeNull(params) => self.resize_null(stores, &params),
            Call::CreateError(params) => self.create_error(stores, asker, params),
            Call::InjectError(params) => self.inject_error(&params),
            Call::CreateDelay(params) => self.create_delay(stores, asker, params),
            Call::UpdateLatency(params) => self.update_latency(&params),
            Call::DeleteAio(params) => self.delete_base(stores, asker, &params.name, is_aio),
            Call::DeleteUring(params) => self.delete_base(stores, asker, &params.name, is_uring),
            Call::DeleteMalloc(params) => {
                self.delete_base(stores, asker, &params.name, |kind| matches!(kind, Kind::Malloc))
            }
            Call::DeleteNull(params) => {
                self.delete_base(stores, asker, &params.name, |kind| matches!(kind, Kind::Null(_)))
            }
            Call::DeleteError(params) => {
                self.delete_base(stores, asker, &params.name, |kind| matches!(kind, Kind::Error(..)))
            }
            Call::DeleteDelay(params) => {
                self.delete_base(stores, asker, &params.name, |kind| matches!(kind, Kind::Delay(..)))
            }
            Call::GetIostat(params) => self.get_iostat(stores, params),
            Call::ResetIostat(params) => self.reset_iostat(stores, params.as_ref()),
            Call::EnableHistogram(params) => Self::enable_histogram(stores, &params),
            Call::GetHistogram(params) => Self::get_histogram(stores, &params),
            Call::SetQosLimit(params) => self.set_qos_limit(stores, &params),
            Call::WaitForExamine if self.bases.any_busy() => {
                self.examined.push(asker);
                Ok(None)
            }
            Call::WaitForExamine | Call::WaitInit => now(&true),
            Call::StartDisk(params) => self.start_disk(stores, asker, &params),
            Call::StopDisk(params) => self.stop_disk(asker, &params),
            Call::GetDisks(params) => self.get_disks(params.as_ref()),
            Call::ExportLvol(params) => self.export_lvol(stores, &params),
            Call::AllowClients(params) => Self::allow_clients(stores, &params),
            Call::UnexportLvol(params) => Self::unexport_lvol(stores, &params),
            Call::GetExports(params) => self.get_exports(stores, params.as_ref()),
            Call::GetMethods(params) => now(&self.dispatch.names(params.as_ref())),
            Call::GetVersion => now(&Version::compatible(env!("CARGO_PKG_VERSION"))),
            Call::GetReactors => self.get_reactors(),
            Call::GetScheduler => self.get_scheduler(),
            Call::SetScheduler(params) => self.set_scheduler(method, &params),
            Call::MonitorContextSwitch(params) => self.monitor_context_switch(params.as_ref()),
            Call::GetSubsystems => Self::get_subsystems(),
            Call::GetConfig(params) => self.get_config(stores, &params),
            Call::SaveConfig => self.save_config(stores),
            Call::LoadConfig(config) => self.load_config(asker, config),
            Call::KillInstance(params) => Self::kill_instance(&params),
            Call::DumpState => self.dump_state(stores),
            Call::GetLogLevel | Call::GetPrintLevel => self.log_level(),
            Call::SetLogLevel(params) | Call::SetPrintLevel(params) => self.set_log_level(&params),
            Call::GetLogFlags => self.log_flags(),
            Call::SetLogFlag(params) => self.set_log_flag(&params, true),
            Call::ClearLogFlag(params) => self.set_log_flag(&params, false),
            Call::GetNotificationTypes => Self::notification_types(),
            Call::GetNotifications(params) => self.notifications(stores, params.as_ref()),
            Call::ExamineBdev(params) => self.examine_bdev(stores, asker, &params),
            // One that the table has come to know, and nothing here.
            _ => Err(RpcError::METHOD),
        }
    }
}

fn is_aio(kind: &Kind) -> bool {
    matches!(kind, Kind::File(file) if !file.is_uring)
}

fn is_uring(kind: &Kind) -> bool {
    matches!(kind, Kind::File(file) if file.is_uring)
}

/// The lvol that a verb would change under a client's feet: what was read of it does not hold any more.
fn disturbed<'s>(state: &'s State, verb: &Verb) -> Option<&'s Blob> {
    match verb {
        Verb::Remove { lvol } | Verb::RemoveDeferred { lvol } | Verb::Revert { lvol, .. } => {
            state.blob(*lvol)
        }
        Verb::Resize { lvol, size_bytes } => state.blob(*lvol).filter(|lvol| *size_bytes < state.bytes(lvol)),
        _ => None,
    }
}

/// Whether a verb removes an lvol now, and does not put that off.
fn goes(state: &State, verb: &Verb) -> bool {
    match verb {
        Verb::RemoveDeferred { lvol } => state.blob(*lvol).is_none_or(|lvol| lvol.clones.len() < 2),
        verb => matches!(verb, Verb::Remove { .. }),
    }
}

/// The snapshot that loses a clone by a verb, it may be the last.
fn parent_left<'s>(state: &'s State, verb: &Verb) -> Option<&'s Blob> {
    match verb {
        Verb::RemoveDeferred { lvol } if goes(state, verb) => state.blob(state.blob(*lvol)?.parent?),
        Verb::Remove { lvol } | Verb::Revert { lvol, .. } | Verb::SetParent { lvol, .. } => {
            state.blob(state.blob(*lvol)?.parent?)
        }
        _ => None,
    }
}

/// Readable when a thread is done.
impl AsFd for Desk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.works.as_fd()
    }
}
