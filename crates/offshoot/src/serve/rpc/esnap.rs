//! Methods of external snapshots: lvols over a bdev that is no lvol of their store.
//!
//! What a bdev is known by on disk is its UUID. While a store reads through it nobody writes to it: its file is open for
//! reading then. A file that comes, or comes back, under the UUID that an lvol asks for is taken at once.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::answers::{Answer, Asker, Then};
use super::bases::{Bare, Base, Holds, Kind};
use super::desk::Desk;
use super::resolve;
use crate::commands::identity;
use offshoot_rpc::types::lvol::{CloneBdev, SetParent};
use offshoot_rpc::types::selector::{LvolSelector, LvstoreSelector};
use offshoot_rpc::{Errno, Method, RpcError};
use offshoot_store::{Blob, State, Underlay, Verb};
use tracing::warn;
use uuid::Uuid;

/// A bdev that a store reads through.
struct Snapshot {
    uuid: Uuid,
    size_bytes: u64,
}

impl Desk {
    pub(super) fn clone_bdev(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &CloneBdev,
    ) -> Answer {
        let store = resolve::lvstore(stores, LvstoreSelector::Name(&params.lvs_name));
        let store = store.map_err(|_| RpcError::CLONE_BDEV_LVSTORE)?;
        if self.bases.find(&params.bdev).is_none() {
            match resolve::find(stores, params.snapshot()) {
                Some(found) if found.store == store => return Err(RpcError::CLONE_BDEV_SAME_LVSTORE),
                Some(_) => {}
                None => return Err(RpcError::CLONE_BDEV_BDEV),
            }
        }
        let state = stores.state(store).ok_or(RpcError::INTERNAL)?;
        if state.lvol_by_name(params.clone_name.as_bytes()).is_some() {
            return Err(method.failed(Errno::Exist));
        }
        let Snapshot { uuid, size_bytes } = self.snapshot(stores, store, method, &params.bdev)?;
        let verb = Verb::CloneExternal {
            identity: identity(&params.clone_name),
            size_bytes,
            external: uuid,
            external_bytes: size_bytes,
            copy_on_read: false,
        };
        self.start(stores, asker, store, verb, Then::Made(method))
    }

    pub(super) fn set_parent_bdev(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &SetParent,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, lvol, is_thin) = (found.store, found.lvol.id, found.lvol.is_thin());
        if self.bases.find(&params.parent_name).is_none() {
            match resolve::find(stores, params.parent()) {
                Some(found) if found.store == store => return Err(method.failed(Errno::Inval)),
                Some(_) => {}
                None => return Err(method.failed(Errno::NoDev)),
            }
        }
        if !is_thin {
            return Err(method.failed(Errno::Inval));
        }
        let Snapshot { uuid, .. } = self.snapshot(stores, store, method, &params.parent_name)?;
        let verb = Verb::SetParent { lvol, underlay: Underlay::External(uuid) };
        self.start(stores, asker, store, verb, Then::True(method))
    }

    /// Has a store read through a bdev, if it does not yet.
    fn snapshot(
        &mut self,
        stores: &mut StoreBackend,
        store: StoreId,
        method: &'static Method,
        name: &str,
    ) -> Result<Snapshot, RpcError> {
        let cluster = stores.state(store).map_or(1, |state| state.units.cluster);
        let is_whole = |size_bytes: u64| match size_bytes.is_multiple_of(cluster) {
            true => Ok(size_bytes),
            false => Err(method.failed(Errno::Inval)),
        };
        if self.bases.find(name).is_none() {
            let found = resolve::lvol(stores, LvolSelector::new(name))?;
            let uuid = found.lvol.uuid().ok_or(method.failed(Errno::NoDev))?;
            let size_bytes = is_whole(stores.state(found.store).map_or(0, |state| state.bytes(found.lvol)))?;
            let lvol = found.export();
            read_lvol(stores, store, lvol).map_err(|errno| method.failed(errno))?;
            return Ok(Snapshot { uuid, size_bytes });
        }
        let base = self.bases.find_mut(name).ok_or(method.failed(Errno::NoDev))?;
        if !base.is_there() {
            return Err(method.failed(Errno::NoDev));
        }
        let size_bytes = is_whole(base.size_bytes)?;
        read_through(stores, store, base).map_err(|errno| method.failed(errno))?;
        Ok(Snapshot { uuid: base.uuid, size_bytes })
    }

    /// Has stores read through what has come for them.
    pub(super) fn attach_missing(&mut self, stores: &mut StoreBackend) {
        let missing = |(id, store): (StoreId, &super::super::served::Served)| {
            let engine = store.engine();
            let names = names_of(engine.state()).filter(|name| !engine.has_external(name));
            names.map(|name| (id, name)).collect::<Vec<_>>()
        };
        let missing: Vec<(StoreId, String)> = stores.stores().flat_map(missing).collect();
        for (store, name) in missing {
            let base = self.bases.find(&name).filter(|base| base.uuid.to_string() == name);
            let read = match base.map(|base| base.name.clone()).and_then(|base| self.bases.find_mut(&base)) {
                Some(base) => read_through(stores, store, base),
                None => match resolve::find(stores, LvolSelector::new(&name)) {
                    Some(found) if found.store != store => {
                        let lvol = found.export();
                        read_lvol(stores, store, lvol)
                    }
                    _ => Ok(()),
                },
            };
            if let Err(errno) = read {
                warn!(name, ?errno, "an external snapshot is not read");
            }
        }
    }
}

/// Whether an lvol of any store reads from a bdev.
pub(super) fn is_read(stores: &StoreBackend, uuid: Uuid) -> bool {
    let wanted = uuid.to_string();
    stores.stores().any(|(_, store)| names_of(store.engine().state()).any(|name| name == wanted))
}

/// The external snapshots that the lvols of a store want.
fn names_of(state: &State) -> impl Iterator<Item = String> {
    let direct = |blob: &&Blob| blob.external_is_parent;
    state.blobs().filter(direct).filter_map(|blob| blob.external.as_ref()).map(offshoot_store::External::name)
}

/// Has a store read through a snapshot of another store.
///
/// # Errors
/// EPERM for an lvol that can be written, EIO for one that cannot be read.
fn read_lvol(stores: &mut StoreBackend, store: StoreId, snapshot: Export) -> Result<(), Errno> {
    let lvol =
        stores.state(snapshot.store).and_then(|state| state.blob(snapshot.lvol)).ok_or(Errno::NoDev)?;
    let id = lvol.uuid().ok_or(Errno::NoDev)?.to_string();
    if !lvol.is_read_only() {
        return Err(Errno::Perm);
    }
    if stores.store(store).is_some_and(|store| store.engine().has_external(&id)) {
        return Ok(());
    }
    stores.attach_lvol(store, &id, snapshot).map_err(|cause| {
        warn!("not read: {cause:#}");
        Errno::Io
    })
}

fn read_through(stores: &mut StoreBackend, store: StoreId, base: &mut Base) -> Result<(), Errno> {
    let id = base.uuid.to_string();
    if stores.store(store).is_some_and(|store| store.engine().has_external(&id)) {
        return Ok(());
    }
    match (&base.kind, std::mem::replace(&mut base.holds, Holds::Busy)) {
        (Kind::File(file_bdev), Holds::Nothing(bare)) => {
            // The lock of a writer would keep readers out.
            drop(bare);
            let file = file_bdev.path();
            let attached = stores.attach_external(store, &id, file);
            if let Err(cause) = attached {
                warn!(bdev = base.name, "not read: {cause:#}");
                // It was open a moment ago. If it cannot be any more, nobody can use it either.
                if let Ok(bare) = Bare::open(file_bdev, base.block) {
                    base.holds = Holds::Nothing(bare);
                }
                return Err(Errno::Io);
            }
            base.holds = Holds::Snapshot(None);
            Ok(())
        }
        (Kind::File(file), Holds::Snapshot(held)) => {
            base.holds = Holds::Snapshot(held);
            stores.attach_external(store, &id, file.path()).map_err(|cause| {
                warn!(bdev = base.name, "not read: {cause:#}");
                Errno::Io
            })
        }
        (Kind::Malloc, Holds::Nothing(bare) | Holds::Snapshot(Some(bare))) => {
            let device = bare.device.duplicate();
            base.holds = Holds::Snapshot(Some(bare));
            stores.attach_device(store, &id, device.ok_or(Errno::NotSup)?);
            Ok(())
        }
        (_, held) => {
            base.holds = held;
            Err(Errno::Busy)
        }
    }
}
