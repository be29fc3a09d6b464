//! Commands that other processes have this one run, because it holds their store.

use super::super::backend::StoreBackend;
use super::super::openings::StoreId;
use super::desk::{Answer, Asker, Desk, Then, now};
use crate::errand::{Deed, Errand, METHOD, Planned, SOCKET_NAMES, socket_name};
use crate::open::{External, file_identity};
use anyhow::bail;
use offshoot_rpc::{Request, RpcError, Server};
use offshoot_store::Verb;
use std::borrow::Cow;
use std::fmt::Display;
use std::path::Path;
use tracing::warn;

/// The code of every error here: it is the text that counts.
const REFUSED: i32 = 1;

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

/// An error as a command prints it.
pub(super) fn refused(cause: &impl Display) -> RpcError {
    RpcError { code: REFUSED, message: Cow::Owned(cause.to_string()) }
}

impl Desk {
    /// Takes a command, which is answered with what it prints.
    pub(super) fn run_command(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        request: &Request,
    ) -> Answer {
        let params = request.params.as_ref().filter(|_| request.method == METHOD);
        let text = params.ok_or(RpcError::METHOD)?.value().raw();
        // One of another version may know more.
        let errand: Errand = serde_json::from_str(text).map_err(|error| {
            refused(&format_args!("the server that holds the store does not know this command: {error}"))
        })?;
        let path = &errand.store().path;
        let id = served(stores, path).ok_or_else(|| {
            refused(&format_args!("{} is held by a server that does not serve it", path.display()))
        })?;
        let store = stores.store(id).ok_or(RpcError::INTERNAL)?;
        match errand.deed() {
            Deed::Look(look) => now(&look.text(store.engine()).map_err(|cause| refused(&cause))?),
            Deed::Change(change) => {
                let planned = change.plan(store.engine().state());
                let planned = planned.map_err(|cause| refused(&format!("{cause:#}")))?;
                let Planned { verb, external, said } = planned;
                if let Some(external) = external {
                    self.attach_external(stores, id, external)
                        .map_err(|cause| refused(&format!("{cause:#}")))?;
                }
                if let Verb::RenameStore { name } = &verb {
                    check_store_name(stores, id, name)?;
                }
                self.start(stores, asker, id, verb, Then::Said(said))
            }
            Deed::Grow(args) => {
                let (ticket, said) = stores.grow(id, args).map_err(|cause| refused(&format!("{cause:#}")))?;
                self.wait_for(asker, id, ticket, Then::Said(said));
                Ok(None)
            }
        }
    }

    /// Has a store read an external snapshot from its file, unless it does.
    ///
    /// # Errors
    /// The file cannot be opened, or clones have known another file by that id.
    pub(super) fn attach_external(
        &mut self,
        stores: &mut StoreBackend,
        store: StoreId,
        external: External,
    ) -> anyhow::Result<()> {
        let External { id, file } = external;
        let known = self.externals.iter().find(|(known, _)| *known == id);
        if let Some((_, other)) = known.filter(|(_, known)| file_identity(known) != file_identity(&file)) {
            bail!("external snapshot {id} is {} here, not {}", other.display(), file.display());
        }
        stores.attach_external(store, &id, &file)?;
        if known.is_none() {
            self.externals.push((id, file));
        }
        Ok(())
    }
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
fn served(stores: &StoreBackend, path: &Path) -> Option<StoreId> {
    let wanted = file_identity(path)?;
    stores.stores().find(|(_, store)| file_identity(store.path()) == Some(wanted)).map(|(id, _)| id)
}
