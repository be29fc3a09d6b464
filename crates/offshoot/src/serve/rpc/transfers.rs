//! Content of lvols for commands of other processes: what is said about it. The bytes themselves go over NBD.

use super::super::backend::StoreBackend;
use super::super::daemon::Daemon;
use super::super::openings::{Export, StoreId};
use super::super::transfers::Transfer;
use super::answers::{Answer, Asker, Then, now};
use super::commands::served_store;
use super::desk::{Desk, Effect};
use super::errors::refused;
use crate::commands::identity;
use crate::errand::remote::SOCKET_NAMES;
use crate::errand::transfer::{
    Begin, Failed, Open, Opened, Part, Purpose, Resize, Stretch, data_socket_name,
};
use crate::volume::{self, Subject};
use offshoot_format::BlobId;
use offshoot_nbd::Server;
use offshoot_rpc::{Reply, ResultText, RpcError};
use offshoot_store::limits::LVOL_BYTES_MAX;
use offshoot_store::{Blob, Verb};
use std::iter;
use tracing::warn;

/// Stretches that are told at a time, at most.
const STRETCHES_MAX: usize = 4096;

/// Listens where commands move content. Without that they say that they cannot.
pub(crate) fn listen(server: &mut Server<Daemon<'_>>) {
    let mut failure = None;
    for attempt in 0..SOCKET_NAMES {
        match server.listen_abstract(data_socket_name(std::process::id(), attempt).as_bytes()) {
            Ok(()) => return,
            Err(cause) => failure = Some(cause),
        }
    }
    if let Some(cause) = failure {
        warn!(%cause, "commands cannot move content");
    }
}

impl Desk {
    /// Opens an lvol for reading. Until that ends, its content stays what it is.
    pub(super) fn open_lvol(&mut self, stores: &mut StoreBackend, asker: Asker, open: &Open) -> Answer {
        let id = served_store(stores, &open.store.path)?;
        for external in &open.store.externals {
            self.attach_external(stores, id, external)?;
        }
        let state = stores.state(id).ok_or(RpcError::INTERNAL)?;
        let (blob, subject) = volume::subject(state, &open.lvol).map_err(|cause| refused(&cause))?;
        let export = Export { store: id, lvol: blob.id };
        match open.purpose {
            Purpose::Copy => drop(state.shallow_copy(blob.id).map_err(|cause| refused(&cause))?),
            Purpose::Export if !blob.is_read_only() && stores.has_clients(export) => {
                let name = &subject.name;
                return Err(refused(&format_args!(
                    "\"{name}\" is in use, and would change meanwhile: take a snapshot and export that"
                )));
            }
            Purpose::Export => {}
        }
        let parent = |lvol: &BlobId| state.blob(*lvol)?.parent;
        if let Some(into) = stores.going_into(export) {
            return Err(refused(&format_args!("\"{}\" is being merged into \"{into}\"", subject.name)));
        }
        if self.disturbs_any(id, iter::successors(Some(blob.id), parent)) {
            return Err(refused(&format_args!("\"{}\" is about to be changed: try again", subject.name)));
        }
        let (cluster_bytes, damage) = (state.units.cluster, blob.damage.clone().unwrap_or_default());
        let transfer = stores.begin_transfer(export, subject.size_bytes, asker.id.connection(), None);
        now(&Opened { transfer, subject, cluster_bytes, damage })
    }

    /// What is stored of a part of an open lvol.
    pub(super) fn extents(stores: &StoreBackend, part: &Part) -> Answer {
        let export = stores.transfer(&part.transfer).ok_or_else(over)?.export;
        let store = stores.store(export.store).ok_or(RpcError::INTERNAL)?;
        let limit = part.limit.min(STRETCHES_MAX);
        let extents = store.engine().extents(export.lvol, part.start..part.end, limit);
        let extents = extents.map_err(|cause| refused(&cause))?;
        now(&extents.into_iter().map(Stretch::from).collect::<Vec<_>>())
    }

    /// What a shallow copy of an open lvol consists of, from a byte on.
    pub(super) fn copy_ranges(stores: &StoreBackend, part: &Part) -> Answer {
        let export = stores.transfer(&part.transfer).ok_or_else(over)?.export;
        let state = stores.state(export.store).ok_or(RpcError::INTERNAL)?;
        let ranges = state.shallow_copy(export.lvol).map_err(|cause| refused(&cause))?;
        let ranges = ranges.starting_near(part.start).skip_while(|range| range.start < part.start);
        now(&ranges.take(part.limit.min(STRETCHES_MAX)).map(Stretch::from).collect::<Vec<_>>())
    }

    /// Why the last request to a part of an open lvol failed.
    pub(super) fn why(stores: &StoreBackend, failed: &Failed) -> Answer {
        let export = stores.transfer(&failed.transfer).ok_or_else(over)?.export;
        now(&stores.failure(export, failed.offset))
    }

    /// A connection to the private socket is gone, or all are, and with it what was open for it. What was not filled goes.
    pub(super) fn end_transfers(&mut self, stores: &mut StoreBackend, connection: Option<u64>) {
        for name in stores.transfers_of(connection) {
            if let Some(Transfer { export, fills: Some(_), .. }) = stores.end_transfer(&name) {
                self.remove_unfinished(stores, export);
            }
        }
    }
}

/// Lvols that are filled.
impl Desk {
    /// Begins an lvol. It is out of sight until it is finished.
    pub(super) fn begin_lvol(&mut self, stores: &mut StoreBackend, asker: Asker, begin: Begin) -> Answer {
        let Begin { store, name, size_bytes } = begin;
        let id = served_store(stores, &store.path)?;
        let verb = Verb::Begin { identity: identity(&name), size_bytes: size_bytes.unwrap_or(0) };
        let then = Then::Begun(name, size_bytes);
        self.launch(stores, Some(asker), id, verb, (then, Effect::Nothing)).map(|_| None)
    }

    /// It is there, and is opened for who asked for it.
    pub(super) fn begun(
        stores: &mut StoreBackend,
        asker: Option<Asker>,
        (store, made): (StoreId, &[BlobId]),
        name: String,
        size_bytes: Option<u64>,
    ) -> Reply {
        let (asker, lvol) = asker.zip(made.first().copied()).ok_or(RpcError::INTERNAL)?;
        let state = stores.state(store).ok_or(RpcError::INTERNAL)?;
        let blob = state.blob(lvol).ok_or(RpcError::INTERNAL)?;
        let subject = Subject { name: name.clone(), size_bytes: state.bytes(blob) };
        let cluster_bytes = state.units.cluster;
        // One that grows is not measured anew: what lies beyond it the engine refuses.
        let limit = size_bytes.map_or(LVOL_BYTES_MAX, |_| subject.size_bytes);
        let export = Export { store, lvol };
        let transfer = stores.begin_transfer(export, limit, asker.id.connection(), Some(name));
        ResultText::of(&Opened { transfer, subject, cluster_bytes, damage: String::new() })
    }

    /// Gives one that is being filled another size.
    pub(super) fn resize_begun(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        resize: &Resize,
    ) -> Answer {
        let Export { store, lvol } = filling(stores, &resize.transfer)?;
        let verb = Verb::Resize { lvol, size_bytes: resize.size_bytes };
        self.launch(stores, Some(asker), store, verb, (Then::Done, Effect::Nothing)).map(|_| None)
    }

    /// One is filled.
    pub(super) fn finish_lvol(&mut self, stores: &mut StoreBackend, asker: Asker, name: &str) -> Answer {
        filling(stores, name)?;
        let Some(Transfer { export, fills: Some(name), .. }) = stores.end_transfer(name) else {
            return Err(over());
        };
        let verb = Verb::Finish { lvol: export.lvol, name };
        let (then, effect) = (Then::Filled(export.lvol), Effect::Filled(export));
        self.launch(stores, Some(asker), export.store, verb, (then, effect)).map(|_| None)
    }

    /// One is not going to be filled.
    pub(super) fn give_up_lvol(&mut self, stores: &mut StoreBackend, asker: Asker, name: &str) -> Answer {
        let export = filling(stores, name)?;
        stores.end_transfer(name);
        let verb = Verb::Remove { lvol: export.lvol };
        let effect = (Then::Done, gone(stores, export));
        self.launch(stores, Some(asker), export.store, verb, effect).map(|_| None)
    }

    /// Removes what was not filled. If that fails, the next opening of the store does it.
    pub(super) fn remove_unfinished(&mut self, stores: &mut StoreBackend, export: Export) {
        let effect = (Then::Done, gone(stores, export));
        if self.launch(stores, None, export.store, Verb::Remove { lvol: export.lvol }, effect).is_err() {
            warn!(lvol = %export.lvol, "an unfinished lvol stays until its store is opened again");
        }
    }
}

/// The lvol of a transfer, if it is being filled.
fn filling(stores: &StoreBackend, transfer: &str) -> Result<Export, RpcError> {
    let transfer = stores.transfer(transfer).filter(|transfer| transfer.fills.is_some());
    transfer.map(|transfer| transfer.export).ok_or_else(over)
}

/// What it means that an lvol goes.
fn gone(stores: &StoreBackend, export: Export) -> Effect {
    let uuid = stores.state(export.store).and_then(|state| state.blob(export.lvol)).and_then(Blob::uuid);
    Effect::Gone(export, uuid)
}

/// A transfer that nobody knows.
fn over() -> RpcError {
    refused(&"the lvol is not open any more")
}
