//! Long work: operations that go on behind an answer, and can be watched and ended.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::super::served::Finished;
use super::answers::{Answer, Asker, Then, now};
use super::desk::Desk;
use super::errors::refused;
use crate::errand::remote;
use offshoot_format::BlobId;
use offshoot_rpc::types::operation::{self, CancelOperation, OperationKind, OperationState};
use offshoot_rpc::types::selector::alias;
use offshoot_rpc::{Errno, Reply, RpcError};
use offshoot_store::{Blob, Progress, State, Ticket, Verb, Work};
use std::borrow::Cow;
use std::iter;
use uuid::Uuid;

/// The number of the first job. Shallow copies have those from 1 on, as with SPDK.
const FIRST_JOB: u32 = 1 << 31;

/// Operations that have ended and are still listed.
const ENDED_MAX: usize = 32;

/// A job of a store, or a verb that zeroes.
struct Operation {
    id: u32,
    store: StoreId,
    job: Ticket,
    kind: OperationKind,
    /// The lvol that it is about. None: the whole store.
    lvol: Option<BlobId>,
    name: Option<String>,
    uuid: Option<Uuid>,
    /// Snapshots that will be gone.
    going: Vec<(Export, Option<Uuid>)>,
    /// As it was when it was looked at last.
    progress: Progress,
    asker: Option<Asker>,
    then: Option<Then>,
    outcome: Option<Outcome>,
}

/// What there is to know of a verb that zeroes, before it begins.
pub(super) struct Zeroing {
    kind: OperationKind,
    name: String,
    uuid: Option<Uuid>,
    pub(super) bytes: u64,
}

impl Zeroing {
    /// `None`: it does not.
    pub(super) fn of(state: &State, verb: &Verb) -> Option<Self> {
        let bytes = Some(verb.zeroed_bytes(state)).filter(|bytes| *bytes > 0)?;
        let (kind, name, uuid) = match verb {
            Verb::Create { identity, .. } => {
                (OperationKind::Create, identity.name.clone(), Some(identity.uuid))
            }
            Verb::Resize { lvol, .. } => {
                let lvol = state.blob(*lvol)?;
                (OperationKind::Resize, lvol.display_name(), lvol.uuid())
            }
            _ => return None,
        };
        Some(Self { kind, name, uuid, bytes })
    }
}

/// How it ended.
struct Outcome {
    error: Option<String>,
    /// What to answer who asks.
    reply: Option<Reply>,
}

/// All of them, in the order in which they were begun.
#[derive(Default)]
pub(super) struct Operations {
    begun: u32,
    list: Vec<Operation>,
}

impl Operations {
    /// A number that none has.
    pub(super) fn next(&mut self) -> u32 {
        let id = FIRST_JOB.wrapping_add(self.begun) | FIRST_JOB;
        self.begun = self.begun.wrapping_add(1);
        id
    }

    fn find(&mut self, id: u32) -> Option<&mut Operation> {
        self.list.iter_mut().find(|operation| operation.id == id)
    }

    /// A verb that zeroes is under way. Returns its number.
    pub(super) fn add_zeroing(&mut self, store: StoreId, verb: Ticket, zeroing: Zeroing) -> u32 {
        let Zeroing { kind, name, uuid, bytes } = zeroing;
        let id = self.next();
        self.list.push(Operation {
            id,
            store,
            job: verb,
            kind,
            lvol: None,
            name: Some(name),
            uuid,
            going: Vec::new(),
            progress: Progress { bytes, ..Progress::default() },
            asker: None,
            then: None,
            outcome: None,
        });
        id
    }

    /// A verb has ended, which may be one that zeroed. Keeps its reply, where that is wanted and it is one.
    pub(super) fn end_zeroing(
        &mut self,
        (store, verb): (StoreId, Ticket),
        keep: bool,
        reply: Reply,
    ) -> Option<Reply> {
        let mut list = self.list.iter_mut();
        let found = list.find(|operation| (operation.store, operation.job) == (store, verb));
        let Some(operation) = found else { return Some(reply) };
        let error = reply.as_ref().err().map(ToString::to_string);
        if error.is_none() {
            let Progress { bytes, clusters, .. } = operation.progress;
            (operation.progress.bytes_done, operation.progress.clusters_done) = (bytes, clusters);
        }
        let (kept, unclaimed) = if keep { (Some(reply), None) } else { (None, Some(reply)) };
        operation.outcome = Some(Outcome { error, reply: kept });
        self.tidy();
        unclaimed
    }

    /// Forgets those that ended first, when there are many.
    fn tidy(&mut self) {
        let ended = self.list.iter().filter(|operation| operation.outcome.is_some()).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        self.list.retain(|operation| {
            let goes = operation.outcome.is_some() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

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
            id,
            store,
            job,
            kind: kind_of(work),
            lvol: into,
            name,
            uuid,
            going,
            progress,
            asker,
            then: Some(then),
            outcome: None,
        });
        Ok(id)
    }

    /// Takes note of a job that runs since the server was started.
    pub(super) fn adopt_job(&mut self, store: StoreId, job: Ticket, work: Work) {
        let id = self.operations.next();
        self.operations.list.push(Operation {
            id,
            store,
            job,
            kind: kind_of(work),
            lvol: None,
            name: None,
            uuid: None,
            going: Vec::new(),
            progress: Progress::default(),
            asker: None,
            then: None,
            outcome: None,
        });
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
        if self.cancel_copy(params.operation_id) || self.cancel_making(Some(params.operation_id)) {
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
        now(&described.chain(self.list_makings()).chain(self.list_copies()).collect::<Vec<_>>())
    }
}

impl Operation {
    fn describe(&self, stores: &StoreBackend) -> operation::Operation {
        let lvs_name = stores.state(self.store).map(State::name).unwrap_or_default();
        let error = self.outcome.as_ref().and_then(|outcome| outcome.error.clone());
        operation::Operation {
            operation_id: self.id,
            kind: self.kind,
            lvol_uuid: self.uuid,
            lvol_name: self.name.as_ref().map(|name| alias(&lvs_name, name)),
            lvs_name,
            state: match &self.outcome {
                None => OperationState::InProgress,
                Some(_) if error.is_none() => OperationState::Complete,
                Some(_) => OperationState::Error,
            },
            bytes_done: self.progress.bytes_done,
            total_bytes: self.progress.bytes,
            clusters_done: self.progress.clusters_done,
            total_clusters: self.progress.clusters,
            error,
        }
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
