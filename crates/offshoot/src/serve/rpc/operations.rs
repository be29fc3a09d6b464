//! Long work: operations that go on behind an answer, and can be watched and ended.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::answers::{Asker, Then};
use offshoot_format::BlobId;
use offshoot_rpc::Reply;
use offshoot_rpc::types::operation::{self, OperationKind, OperationState};
use offshoot_rpc::types::selector::alias;
use offshoot_store::{Progress, State, Ticket, Verb};
use uuid::Uuid;

/// The number of the first job. Shallow copies have those from 1 on, as with SPDK.
const FIRST_JOB: u32 = 1 << 31;

/// Operations that have ended and are still listed.
const ENDED_MAX: usize = 32;

/// A job of a store, or a verb that zeroes.
pub(super) struct Operation {
    pub(super) id: u32,
    pub(super) store: StoreId,
    pub(super) job: Ticket,
    pub(super) kind: OperationKind,
    /// The lvol that it is about. None: the whole store.
    pub(super) lvol: Option<BlobId>,
    pub(super) name: Option<String>,
    pub(super) uuid: Option<Uuid>,
    /// Snapshots that will be gone.
    pub(super) going: Vec<(Export, Option<Uuid>)>,
    /// As it was when it was looked at last.
    pub(super) progress: Progress,
    pub(super) asker: Option<Asker>,
    pub(super) then: Option<Then>,
    pub(super) outcome: Option<Outcome>,
}

/// What there is to know of a verb that zeroes, before it begins.
pub(super) struct Zeroing {
    kind: OperationKind,
    name: String,
    uuid: Option<Uuid>,
    pub(super) bytes: u64,
    clusters: u64,
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
        Some(Self { kind, name, uuid, bytes, clusters: bytes / state.units.cluster })
    }
}

/// How it ended.
pub(super) struct Outcome {
    pub(super) error: Option<String>,
    /// What to answer who asks.
    pub(super) reply: Option<Reply>,
}

/// All of them, in the order in which they were begun.
#[derive(Default)]
pub(super) struct Operations {
    pub(super) begun: u32,
    pub(super) list: Vec<Operation>,
}

impl Operations {
    /// A number that none has.
    pub(super) fn next(&mut self) -> u32 {
        let id = FIRST_JOB.wrapping_add(self.begun) | FIRST_JOB;
        self.begun = self.begun.wrapping_add(1);
        id
    }

    pub(super) fn find(&mut self, id: u32) -> Option<&mut Operation> {
        self.list.iter_mut().find(|operation| operation.id == id)
    }

    /// A verb that zeroes is under way. Returns its number.
    pub(super) fn add_zeroing(&mut self, store: StoreId, verb: Ticket, zeroing: Zeroing) -> u32 {
        let Zeroing { kind, name, uuid, bytes, clusters } = zeroing;
        let id = self.next();
        self.list.push(Operation {
            name: Some(name),
            uuid,
            progress: Progress { bytes, clusters, ..Progress::default() },
            ..Operation::new(id, store, verb, kind)
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
    pub(super) fn tidy(&mut self) {
        let ended = self.list.iter().filter(|operation| operation.outcome.is_some()).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        self.list.retain(|operation| {
            let goes = operation.outcome.is_some() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Operation {
    /// One that is about a store as a whole, and that nobody waits for.
    pub(super) fn new(id: u32, store: StoreId, job: Ticket, kind: OperationKind) -> Self {
        Self {
            id,
            store,
            job,
            kind,
            lvol: None,
            name: None,
            uuid: None,
            going: Vec::new(),
            progress: Progress::default(),
            asker: None,
            then: None,
            outcome: None,
        }
    }

    pub(super) fn describe(&self, stores: &StoreBackend) -> operation::Operation {
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
