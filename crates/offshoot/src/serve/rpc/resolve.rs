//! From what a client wrote to a store or an lvol.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use offshoot_rpc::types::selector::{LvolSelector, LvstoreSelector};
use offshoot_rpc::{Errno, RpcError};
use offshoot_store::Blob;

/// An lvol and where it is.
#[derive(Clone, Copy)]
pub(super) struct Found<'s> {
    pub(super) store: StoreId,
    pub(super) lvol: &'s Blob,
}

impl Found<'_> {
    pub(super) fn export(self) -> Export {
        Export { store: self.store, lvol: self.lvol.id }
    }
}

/// The store that is meant.
///
/// # Errors
/// ENODEV: there is none.
pub(super) fn lvstore(stores: &StoreBackend, selector: LvstoreSelector<'_>) -> Result<StoreId, RpcError> {
    let found = stores.stores().find(|(_, store)| {
        let state = store.engine().state();
        match selector {
            LvstoreSelector::Uuid(uuid) => state.uuid() == Some(uuid),
            LvstoreSelector::Name(name) => state.name() == name,
        }
    });
    found.map(|(id, _)| id).ok_or(RpcError::refused(Errno::NoDev))
}

/// The lvol that is meant, if it is one.
pub(super) fn find<'s>(stores: &'s StoreBackend, selector: LvolSelector<'_>) -> Option<Found<'s>> {
    let states = || stores.stores().map(|(id, store)| (id, store.engine().state()));
    if let Some(uuid) = selector.uuid()
        && let Some(found) =
            states().find_map(|(store, state)| state.lvol_by_uuid(uuid).map(|lvol| Found { store, lvol }))
    {
        return Some(found);
    }
    selector.aliases().find_map(|(store_name, name)| {
        let (store, state) = states().find(|(_, state)| state.name() == store_name)?;
        let shown = || state.lvols().find(|lvol| lvol.display_name() == name);
        let lvol = state.lvol_by_name(name.as_bytes()).or_else(shown)?;
        Some(Found { store, lvol })
    })
}

/// The lvol that is meant.
///
/// # Errors
/// ENODEV: there is none.
pub(super) fn lvol<'s>(stores: &'s StoreBackend, selector: LvolSelector<'_>) -> Result<Found<'s>, RpcError> {
    find(stores, selector).ok_or(RpcError::refused(Errno::NoDev))
}
