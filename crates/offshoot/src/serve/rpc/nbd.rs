//! Methods of NBD exports over sockets. Every sound lvol is exported from the start, wherever the server listens.

use super::super::backend::StoreBackend;
use super::super::listen::Address;
use super::answers::{Answer, now};
use super::desk::Desk;
use super::resolve::{self, Found};
use offshoot_rpc::types::nbd::{AllowClients, Export, ExportLvol, GetExports};
use offshoot_rpc::types::selector::LvolSelector;
use offshoot_rpc::{Errno, RpcError};
use std::borrow::Cow;
use uuid::Uuid;

impl Desk {
    pub(super) fn export_lvol(&self, stores: &mut StoreBackend, params: &ExportLvol) -> Answer {
        let found = resolve::lvol(stores, LvolSelector::new(&params.bdev_name))?;
        let uuid = found.lvol.uuid().ok_or(RpcError::refused(Errno::Inval))?;
        stores.offer(uuid, true);
        let found = resolve::lvol(stores, LvolSelector::new(&params.bdev_name))?;
        if !stores.is_offered(found.store, found.lvol) {
            // Damaged, or its external snapshot is missing.
            return Err(RpcError::refused(Errno::Io));
        }
        now(&self.export(stores, found))
    }

    pub(super) fn unexport_lvol(stores: &mut StoreBackend, params: &ExportLvol) -> Answer {
        let found = resolve::lvol(stores, LvolSelector::new(&params.bdev_name))?;
        let uuid = found.lvol.uuid().ok_or(RpcError::refused(Errno::Inval))?;
        if stores.is_open(found.export()) {
            return Err(RpcError::refused(Errno::Busy));
        }
        stores.offer(uuid, false);
        now(&true)
    }

    pub(super) fn allow_clients(stores: &mut StoreBackend, params: &AllowClients) -> Answer {
        let found = resolve::lvol(stores, LvolSelector::new(&params.bdev_name))?;
        let uuid = found.lvol.uuid().ok_or(RpcError::refused(Errno::Inval))?;
        let clients = params.clients.as_ref().map(|clients| clients.iter().map(|who| who.parse()).collect());
        let clients = clients.transpose().map_err(|cause: anyhow::Error| RpcError {
            code: -Errno::Inval.number(),
            message: Cow::Owned(cause.to_string()),
        })?;
        stores.allow(uuid, clients);
        now(&true)
    }

    pub(super) fn get_exports(&self, stores: &StoreBackend, params: Option<&GetExports>) -> Answer {
        let name = params.and_then(|params| params.bdev_name.as_deref());
        let only = name.map(|name| resolve::lvol(stores, LvolSelector::new(name))).transpose()?;
        let exports = stores.lvols().filter_map(|(store, lvol)| {
            let found = Found { store, lvol };
            let wanted = only.is_none_or(|only| only.export() == found.export());
            (wanted && stores.is_offered(store, lvol)).then(|| self.export(stores, found))
        });
        now(&exports.collect::<Vec<_>>())
    }

    fn export(&self, stores: &StoreBackend, found: Found<'_>) -> Export {
        let name = name(stores, found);
        Export {
            bdev_name: found.lvol.uuid().unwrap_or_default(),
            uris: self.addresses.iter().map(|address| address.uri(&name)).collect(),
            connections: stores.connections(found.export()) as u64,
            clients: found.lvol.uuid().and_then(|uuid| clients_of(stores, uuid)),
            name,
        }
    }
}

fn name(stores: &StoreBackend, found: Found<'_>) -> String {
    stores.naming().name(found.store, &found.lvol.display_name())
}

/// The first place where an lvol is served.
pub(super) fn place(addresses: &[Address], stores: &StoreBackend, found: Found<'_>) -> Option<String> {
    addresses.first().map(|address| address.uri(&name(stores, found)))
}

/// Who may open an lvol, where that was said of it alone.
pub(super) fn clients_of(stores: &StoreBackend, lvol: Uuid) -> Option<Vec<String>> {
    stores.allowed(lvol).map(|clients| clients.iter().map(ToString::to_string).collect())
}
