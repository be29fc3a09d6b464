//! Content of lvols for commands of other processes: what is said about it. The bytes themselves go over NBD.

use super::super::backend::StoreBackend;
use super::super::daemon::Daemon;
use super::answers::{Answer, Asker, now};
use super::commands::served_store;
use super::desk::Desk;
use super::errors::refused;
use crate::errand::remote::SOCKET_NAMES;
use crate::errand::transfer::{Open, Opened, Part, Purpose, Stretch, data_socket_name};
use crate::volume;
use offshoot_nbd::Server;
use offshoot_rpc::RpcError;
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
        let export = super::super::openings::Export { store: id, lvol: blob.id };
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
        let (cluster_bytes, damage) = (state.units.cluster, blob.damage.clone().unwrap_or_default());
        let transfer = stores.begin_transfer(export, subject.size_bytes, asker.id.connection());
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
        let ranges = ranges.skip_while(|range| range.start < part.start);
        now(&ranges.take(part.limit.min(STRETCHES_MAX)).map(Stretch::from).collect::<Vec<_>>())
    }

    /// Why the last request to an open lvol that failed did.
    pub(super) fn why(stores: &mut StoreBackend, transfer: &str) -> Answer {
        let export = stores.transfer(transfer).ok_or_else(over)?.export;
        now(&stores.take_failure(export))
    }

    /// A connection to the private socket is gone, and with it what was open for it.
    pub(super) fn end_transfers(stores: &mut StoreBackend, connection: u64) {
        stores.end_transfers(connection);
    }
}

/// A transfer that nobody knows.
fn over() -> RpcError {
    refused(&"the lvol is not open any more")
}
