//! Long operations: what moves data inside a store while its lvols are in use, and watching and ending all that takes long.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::super::served::Finished;
use super::answers::{Answer, Asker, Then, now};
use super::desk::Desk;
use super::errors::{errno, refused};
use super::operations::{Operation, Outcome};
use super::resolve;
use crate::errand::remote;
use crate::lookup;
use offshoot_format::BlobId;
use offshoot_rpc::types::lvol::{DecoupleParent, InflateLvol, MergeSnapshots, Unallocated};
use offshoot_rpc::types::operation::{CancelOperation, OperationKind};
use offshoot_rpc::types::selector::LvolSelector;
use offshoot_rpc::{Errno, Method, RpcError};
use offshoot_store::{Blob, Error, Progress, State, Ticket, Work};
use std::borrow::Cow;
use std::iter;
use uuid::Uuid;

impl Desk {
    pub(super) fn inflate_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &InflateLvol,
    ) -> Answer {
        let pace = pace(params.bytes_per_sec)?;
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, work) = (found.store, Work::Inflate { lvol: found.lvol.id });
        self.start_job(stores, store, (work, pace), Some(asker), Then::True(method)).map(|_| None)
    }

    pub(super) fn decouple_parent(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &DecoupleParent,
    ) -> Answer {
        let pace = pace(params.bytes_per_sec)?;
        if params.unallocated == Some(Unallocated::Zero) {
            return self.detach_parent(stores, asker, method, params.lvol());
        }
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, work) = (found.store, Work::Decouple { lvol: found.lvol.id });
        self.start_job(stores, store, (work, pace), Some(asker), Then::True(method)).map(|_| None)
    }

    pub(super) fn merge_snapshots(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &MergeSnapshots,
    ) -> Answer {
        let pace = pace(params.bytes_per_sec)?;
        let named = params.snapshots.iter().map(|name| snapshot(stores, name));
        let named: Vec<(StoreId, String)> = named.collect::<Result<_, _>>()?;
        let (stores_named, names): (Vec<StoreId>, Vec<String>) = named.into_iter().unzip();
        let store = *stores_named.first().ok_or(RpcError::refused(Errno::Inval))?;
        if stores_named.iter().any(|other| *other != store) {
            return Err(RpcError::refused(Errno::Inval));
        }
        let state = stores.state(store).ok_or(RpcError::INTERNAL)?;
        let run = lookup::merge(state, &names);
        let (oldest, into) = run.map_err(|error| {
            // What is no error of the engine's is about snapshots that do not belong together.
            let cause = error.downcast_ref::<Error>();
            cause.map_or(RpcError::refused(Errno::Inval), |cause| method.failed(errno(cause)))
        })?;
        let work = Work::Merge { oldest, into };
        self.start_job(stores, store, (work, pace), Some(asker), Then::Made(method)).map(|_| None)
    }
}

/// Jobs under way, and other operations.
impl Desk {
    /// Starts a job, and tells its number. Who waits for it is answered when it is done.
    ///
    /// # Errors
    /// A client is connected to what would be gone. What the engine has against it comes later.
    pub(super) fn start_job(
        &mut self,
        stores: &mut StoreBackend,
        store: StoreId,
        (work, bytes_per_second): (Work, Option<u64>),
        asker: Option<Asker>,
        then: Then,
    ) -> Result<u32, RpcError> {
        let state = stores.state(store).ok_or(RpcError::INTERNAL)?;
        let into = lvol_of(work);
        let going = going(state, store, work);
        if let Some((export, _)) = going.iter().find(|(export, _)| stores.is_open(*export)) {
            let snapshot = state.blob(export.lvol).map(Blob::display_name).unwrap_or_default();
            return Err(is_open(&snapshot, &stores.naming().name(store, &snapshot), &then));
        }
        // It may be done before anybody looks how far it is.
        let cost =
            stores.store(store).and_then(|served| served.engine().work_cost(work).ok()).unwrap_or_default();
        let progress = Progress { bytes: cost.bytes, clusters: cost.filled, ..Progress::default() };
        let left = into.and_then(|lvol| state.blob(state.blob(lvol)?.parent?)).and_then(Blob::uuid);
        let name = into.and_then(|lvol| state.blob(lvol)).map(Blob::display_name);
        let uuid = into.and_then(|lvol| state.blob(lvol)).and_then(Blob::uuid);
        self.snapshots.extend(left);
        for (export, _) in &going {
            stores.reserve(*export, name.as_deref().unwrap_or_default());
        }
        let job = stores.start_job(store, work, bytes_per_second).ok_or(RpcError::INTERNAL)?;
        let id = self.operations.next();
        self.operations.list.push(Operation {
            lvol: into,
            name,
            uuid,
            going,
            progress,
            asker,
            then: Some(then),
            ..Operation::new(id, store, job, kind_of(work))
        });
        Ok(id)
    }

    /// Takes note of a job that runs since the server was started.
    pub(super) fn adopt_job(&mut self, store: StoreId, job: Ticket, work: Work) {
        let id = self.operations.next();
        self.operations.list.push(Operation::new(id, store, job, kind_of(work)));
    }

    /// A job has ended.
    pub(super) fn job_done(&mut self, stores: &mut StoreBackend, store: StoreId, (job, result): Finished) {
        let mut list = self.operations.list.iter_mut();
        let found = list.find(|operation| (operation.store, operation.job) == (store, job));
        let Some(operation) = found else {
            debug_assert!(false, "{job:?} is nobody's");
            return;
        };
        for (export, uuid) in operation.going.drain(..) {
            stores.release(export);
            let now = stores.state(store).and_then(|state| state.blob(export.lvol)).and_then(Blob::uuid);
            if now.is_none() || now != uuid {
                stores.forget(export, uuid);
                uuid.map(|uuid| self.snapshots.remove(&uuid));
            }
        }
        let error = result.as_ref().err().map(ToString::to_string);
        if error.is_none() {
            let Progress { bytes, clusters, .. } = operation.progress;
            (operation.progress.bytes_done, operation.progress.clusters_done) = (bytes, clusters);
        }
        let made: Vec<BlobId> = operation.lvol.into_iter().collect();
        let mut reply = operation.then.take().map(|then| match result {
            Ok(_) => then.reply(stores.state(store), &made),
            Err(cause) => Err(then.failed(&cause)),
        });
        if let Some(asker) = operation.asker
            && let Some(reply) = reply.take()
        {
            self.answered.push((asker, reply));
        }
        operation.outcome = Some(Outcome { error, reply });
        self.operations.tidy();
    }

    /// Ends all jobs: what they have done stays done.
    pub(super) fn cancel_jobs(&mut self, stores: &mut StoreBackend) {
        for operation in self.operations.list.iter().filter(|operation| operation.outcome.is_none()) {
            stores.cancel(operation.store, operation.job);
        }
    }

    /// How far jobs are, as long as that is known.
    fn look_at_jobs(&mut self, stores: &StoreBackend) {
        self.operations.list.retain(|operation| stores.store(operation.store).is_some());
        for operation in self.operations.list.iter_mut().filter(|operation| operation.outcome.is_none()) {
            let engine = stores.store(operation.store).map(super::super::served::Served::engine);
            if let Some(progress) = engine.and_then(|engine| engine.progress(operation.job)) {
                operation.progress = progress;
            }
        }
    }

    /// Answers who has begun a job over the private socket.
    pub(super) fn job_progress(&mut self, stores: &StoreBackend, id: u32) -> Answer {
        self.look_at_jobs(stores);
        let operation = self.operations.find(id);
        let operation = operation.ok_or_else(|| refused(&format_args!("there is no operation {id}")))?;
        match &mut operation.outcome {
            None => now(&remote::Answer::Running { bytes: operation.progress.bytes_done }),
            Some(outcome) => {
                let told = || refused(&format_args!("what operation {id} came to was told already"));
                outcome.reply.take().ok_or_else(told)?.map(Some)
            }
        }
    }

    pub(super) fn cancel_operation(&mut self, stores: &mut StoreBackend, params: CancelOperation) -> Answer {
        if self.cancel_copy(params.operation_id) || self.makings.cancel(Some(params.operation_id)) {
            return now(&true);
        }
        let running =
            self.operations.find(params.operation_id).filter(|operation| operation.outcome.is_none());
        let Operation { store, job, .. } = running.ok_or(RpcError::refused(Errno::NoDev))?;
        stores.cancel(*store, *job);
        now(&true)
    }

    pub(super) fn get_operations(&mut self, stores: &StoreBackend) -> Answer {
        self.look_at_jobs(stores);
        let described = self.operations.list.iter().map(|operation| operation.describe(stores));
        now(&described.chain(self.makings.list()).chain(self.list_copies()).collect::<Vec<_>>())
    }
}

/// Where a snapshot is and what it is called there. It may be gone, and something be taking it up.
fn snapshot(stores: &StoreBackend, name: &str) -> Result<(StoreId, String), RpcError> {
    let selector = LvolSelector::new(name);
    if let Some(found) = resolve::find(stores, selector) {
        return Ok((found.store, format!("blob-{}", found.lvol.id)));
    }
    let merging = selector.aliases().find_map(|(store_name, name)| {
        let mut named = stores.stores().filter(|(_, store)| store.engine().state().name() == store_name);
        let (store, _) =
            named.find(|(_, store)| store.engine().state().merging(name.as_bytes()).is_some())?;
        Some((store, name.to_owned()))
    });
    merging.ok_or(RpcError::refused(Errno::NoDev))
}

/// The pace of a job, in bytes a second.
fn pace(bytes_per_sec: Option<u64>) -> Result<Option<u64>, RpcError> {
    match bytes_per_sec {
        // It would never end.
        Some(0) => Err(RpcError::refused(Errno::Inval)),
        pace => Ok(pace),
    }
}

fn kind_of(work: Work) -> OperationKind {
    match work {
        Work::Seal => OperationKind::Seal,
        Work::Inflate { .. } => OperationKind::Inflate,
        Work::Decouple { .. } => OperationKind::Decouple,
        Work::Merge { .. } => OperationKind::Merge,
        Work::Grow { .. } => OperationKind::Grow,
        _ => OperationKind::Other,
    }
}

fn lvol_of(work: Work) -> Option<BlobId> {
    match work {
        Work::Inflate { lvol } | Work::Decouple { lvol } | Work::Merge { into: lvol, .. } => Some(lvol),
        _ => None,
    }
}

/// The snapshots that a job makes go away.
fn going(state: &State, store: StoreId, work: Work) -> Vec<(Export, Option<Uuid>)> {
    let Work::Merge { oldest, into } = work else { return Vec::new() };
    let parent = |lvol: &BlobId| state.blob(*lvol).filter(|blob| blob.id != oldest)?.parent;
    let run = iter::successors(Some(into), parent).skip(1);
    run.map(|lvol| (Export { store, lvol }, state.blob(lvol).and_then(Blob::uuid))).collect()
}

/// A client reads a snapshot that a job would make go away.
fn is_open(snapshot: &str, export: &str, then: &Then) -> RpcError {
    let text = format!(
        "snapshot \"{snapshot}\" cannot be merged away: a client is connected to the export \"{export}\""
    );
    match then {
        Then::Said(_) => refused(&text),
        _ => RpcError { code: -Errno::Busy.number(), message: Cow::Owned(text) },
    }
}
