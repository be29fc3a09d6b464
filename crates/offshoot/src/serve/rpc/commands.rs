//! Commands that other processes have this one run, because it holds their store.

use super::super::backend::StoreBackend;
use super::super::openings::StoreId;
use super::answers::{Answer, Asker, Then, now};
use super::desk::Desk;
use super::errors::refused;
use super::operations::Zeroing;
use crate::deed::{Deed, Job, Planned};
use crate::errand::Errand;
use crate::errand::remote::{self, Operation, SOCKET_NAMES, socket_name};
use crate::errand::transfer::{self, Transfer};
use crate::external::{External, file_identity};
use crate::job;
use offshoot_rpc::types::operation::CancelOperation;
use offshoot_rpc::{Request, RpcError, Server};
use offshoot_store::Verb;
use serde::de::DeserializeOwned;
use std::path::Path;
use tracing::warn;

/// Listens where commands look for the holder of their store. Without that they say who holds it.
pub(super) fn listen() -> Option<Server> {
    let mut failure = None;
    for attempt in 0..SOCKET_NAMES {
        match Server::bind_abstract(socket_name(std::process::id(), attempt).as_bytes()) {
            Ok(server) => return Some(server),
            Err(cause) => failure = Some(cause),
        }
    }
    if let Some(cause) = failure {
        warn!(%cause, "commands will not find this server");
    }
    None
}

impl Desk {
    /// Takes what a command asks.
    pub(super) fn run_command(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        request: &Request,
    ) -> Answer {
        match &*request.method {
            remote::RUN => self.run_errand(stores, asker, &params(request)?),
            remote::PROGRESS => {
                let Operation { operation } = params(request)?;
                self.job_progress(stores, operation)
            }
            remote::CANCEL => {
                let Operation { operation: operation_id } = params(request)?;
                // It may have ended just now, and that is told to who asks how far it is.
                let _ = self.cancel_operation(stores, CancelOperation { operation_id });
                now(&true)
            }
            transfer::OPEN => self.open_lvol(stores, asker, &params(request)?),
            transfer::BEGIN => self.begin_lvol(stores, asker, params(request)?),
            transfer::RESIZE => self.resize_begun(stores, asker, &params(request)?),
            transfer::FINISH => {
                let Transfer { transfer } = params(request)?;
                self.finish_lvol(stores, asker, &transfer)
            }
            transfer::GIVE_UP => {
                let Transfer { transfer } = params(request)?;
                self.give_up_lvol(stores, asker, &transfer)
            }
            transfer::EXTENTS => Self::extents(stores, &params(request)?),
            transfer::RANGES => Self::copy_ranges(stores, &params(request)?),
            transfer::WHY => Self::why(stores, &params(request)?),
            _ => Err(RpcError::METHOD),
        }
    }

    /// Runs a command, or begins to.
    fn run_errand(&mut self, stores: &mut StoreBackend, asker: Asker, errand: &Errand) -> Answer {
        let id = served_store(stores, &errand.store().path)?;
        if !matches!(errand.deed(), Deed::Look(_)) {
            for external in &errand.store().externals {
                self.attach_external(stores, id, external)?;
            }
        }
        let store = stores.store(id).ok_or(RpcError::INTERNAL)?;
        match errand.deed() {
            Deed::Look(look) => {
                now(&remote::Answer::Shown(look.show(&store.view()).map_err(|cause| refused(&cause))?))
            }
            Deed::Change(change) => {
                let planned = change.plan(store.engine().state());
                let planned = planned.map_err(|cause| refused(&format_args!("{cause:#}")))?;
                let Planned { verb, external, said } = planned;
                if let Some(external) = external {
                    self.attach_external(stores, id, &external)?;
                }
                if let Verb::RenameStore { name } = &verb {
                    check_store_name(stores, id, name)?;
                }
                let zeroing = stores.state(id).and_then(|state| Zeroing::of(state, &verb));
                let Some(zeroing) = zeroing else {
                    return self.start(stores, asker, id, verb, Then::Said(said));
                };
                let (what, bytes) = (job::zeroing(&verb).to_owned(), zeroing.bytes);
                let ticket = self.begin_verb(stores, None, id, verb, Then::Said(said))?;
                let operation = self.operations.add_zeroing(id, ticket, zeroing);
                now(&remote::Answer::Begun(remote::Begun { operation, what, takes: String::new(), bytes }))
            }
            Deed::Grow(growth) => {
                let job = stores.prepare_growth(id, &growth);
                self.begin(stores, id, job.map_err(|cause| refused(&format_args!("{cause:#}")))?)
            }
            Deed::Toil(toil) => {
                let job = toil.plan(store.engine()).map_err(|cause| refused(&cause))?;
                self.begin(stores, id, job)
            }
        }
    }

    /// Starts a job of a command, which asks on how far it is.
    fn begin(&mut self, stores: &mut StoreBackend, id: StoreId, job: Job) -> Answer {
        let store = stores.store(id).ok_or(RpcError::INTERNAL)?;
        let bytes = store.engine().work_cost(job.work).map_err(|cause| refused(&cause))?.bytes;
        let work = (job.work, job.bytes_per_second);
        let operation = self.start_job(stores, id, work, None, Then::Said(job.said))?;
        let what = job.what.to_owned();
        now(&remote::Answer::Begun(remote::Begun { operation, what, takes: job.takes, bytes }))
    }

    /// Has a store read an external snapshot from its file, unless it does.
    ///
    /// # Errors
    /// The file cannot be opened, or is not the one that is known by that id here.
    pub(super) fn attach_external(
        &mut self,
        stores: &mut StoreBackend,
        store: StoreId,
        external: &External,
    ) -> Result<(), RpcError> {
        let External { id, file } = external;
        let known = self.externals.iter().find(|(known, _)| known == id);
        if let Some((_, other)) = known.filter(|(_, known)| file_identity(known) != file_identity(file)) {
            let (other, file) = (other.display(), file.display());
            return Err(refused(&format_args!("external snapshot {id} is {other} here, not {file}")));
        }
        let attached = stores.attach_external(store, id, file);
        attached.map_err(|cause| refused(&format_args!("{cause:#}")))?;
        if known.is_none() {
            self.externals.push((id.clone(), file.clone()));
        }
        Ok(())
    }
}

/// What a command sent.
///
/// # Errors
/// One of another version may know more.
fn params<T: DeserializeOwned>(request: &Request) -> Result<T, RpcError> {
    let text = request.params.as_ref().ok_or(RpcError::PARAMS)?.value().raw();
    serde_json::from_str(text).map_err(|error| {
        refused(&format_args!("the server that holds the store does not know this command: {error}"))
    })
}

/// No two stores of one server have the same name.
fn check_store_name(stores: &StoreBackend, id: StoreId, name: &str) -> Result<(), RpcError> {
    let mut others = stores.stores().filter(|(other, _)| *other != id);
    match others.any(|(_, store)| store.engine().state().name() == name) {
        true => Err(refused(&format_args!("another store that is served is called \"{name}\""))),
        false => Ok(()),
    }
}

/// The store in a file or on a block device.
///
/// # Errors
/// It has the file, and not as a store.
pub(super) fn served_store(stores: &StoreBackend, path: &Path) -> Result<StoreId, RpcError> {
    served(stores, path).ok_or_else(|| {
        refused(&format_args!("{} is held by a server that does not serve it", path.display()))
    })
}

fn served(stores: &StoreBackend, path: &Path) -> Option<StoreId> {
    let wanted = file_identity(path)?;
    stores.stores().find(|(_, store)| file_identity(store.path()) == Some(wanted)).map(|(id, _)| id)
}
