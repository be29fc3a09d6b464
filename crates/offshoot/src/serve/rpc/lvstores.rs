//! Methods of lvstores.

use super::super::backend::StoreBackend;
use super::super::openings::StoreId;
use super::super::served::Device;
use super::answers::{Answer, Asker, Then, now};
use super::bases::{Bare, Base, Ground, Kind, bare, complete};
use super::desk::Desk;
use super::errors::{errno, lacks_room};
use super::makings::Watched;
use super::resolve;
use super::site::Taken;
use crate::deed::Growth;
use offshoot_block::{DeviceOffset, DeviceOp};
use offshoot_rpc::types::lvstore::{
    CreateLvstore, DeleteLvstore, GetLvstores, GrowLvstore, Lvstore, LvstoreClear, RenameLvstore,
};
use offshoot_rpc::{Errno, Method, Reply, ResultText, RpcError};
use offshoot_store::{ClearMethod, CreateError, Error, InitOptions, OpenOptions, Store, Verb, check_name};
use std::path::PathBuf;
use std::sync::Arc;
use tracing::warn;
use uuid::Uuid;

/// Bytes of a cluster that no one named: SPDK's.
const CLUSTER_BYTES: u32 = 4 << 20;

/// Bytes of an md page: the least, and the most that SPDK takes.
const MD_PAGE_BYTES: (u32, u32) = (4096, 65_536);

impl Desk {
    pub(super) fn create_lvstore(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &CreateLvstore,
    ) -> Answer {
        let refused = |errno| Err(RpcError::refused(errno));
        let Some(site) = self.site(stores, &params.bdev_name) else {
            return refused(Errno::NoDev);
        };
        let options = options(site.block, params)?;
        let is_taken = stores.stores().any(|(_, store)| store.engine().state().name() == params.lvs_name);
        if is_taken {
            return refused(Errno::Exist);
        }
        if !site.is_free {
            return refused(Errno::Perm);
        }
        match offshoot_store::init(site.size_bytes, &options) {
            Ok(_) => {}
            Err(error) if lacks_room(&error) => return Err(method.failed(Errno::NoMem)),
            Err(_) => return refused(Errno::Inval),
        }
        let Some(Taken { name, path, bare }) = self.take(stores, site.place) else {
            return refused(Errno::Perm);
        };
        // The others take no time.
        let watched = match options.clear_method {
            ClearMethod::WriteZeroes => {
                let id = self.operations.next();
                self.makings.add(id, &name, &options.name, options.cluster_size)
            }
            _ => Arc::default(),
        };
        let kind = self.bases.find_mut(&name).map(|base| (base.kind.clone(), base.block));
        self.work(Some(asker), &name, move || make(bare, path, kind, &options, &watched, method))
    }

    pub(super) fn delete_lvstore(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &DeleteLvstore,
    ) -> Answer {
        let id = resolve::lvstore(stores, params.lvstore()?)?;
        let base = self.bases.of_store(id).ok_or(RpcError::INTERNAL)?;
        let (name, kind, block) = (base.name.clone(), base.kind.clone(), base.block);
        let store = stores.take(id).ok_or_else(|| method.failed(Errno::Busy))?;
        let store = store.into_store();
        self.work(Some(asker), &name, move || wipe(store, &kind, block, method))
    }

    pub(super) fn rename_lvstore(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: RenameLvstore,
    ) -> Answer {
        let named = |name: &str| {
            stores.stores().find(|(_, store)| store.engine().state().name() == name).map(|(id, _)| id)
        };
        let store = named(&params.old_name).ok_or_else(|| RpcError::lvstore_not_found(&params.old_name))?;
        if params.old_name == params.new_name {
            return now(&true);
        }
        if named(&params.new_name).is_some() {
            return Err(method.failed(Errno::Exist));
        }
        self.start(stores, asker, store, Verb::RenameStore { name: params.new_name }, Then::True(method))
    }

    /// Its bdev is measured first, as by `bdev_aio_rescan`.
    pub(super) fn grow_lvstore(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &GrowLvstore,
    ) -> Answer {
        let id = resolve::lvstore(stores, params.lvstore()?)?;
        let path = self.bases.of_store(id).map(Base::path).unwrap_or_default();
        let growth = Growth { path, size: None, md_pages: None, rate: None };
        let prepared = stores.prepare_growth(id, &growth);
        let job = prepared.map_err(|cause| {
            warn!(%cause, "not grown");
            method.failed(cause.downcast_ref::<Error>().map_or(Errno::Io, errno))
        })?;
        self.start_job(stores, id, (job.work, None), Some(asker), Then::True(method)).map(|_| None)
    }

    pub(super) fn get_lvstores(&self, stores: &StoreBackend, params: Option<&GetLvstores>) -> Answer {
        let only = params.map(|params| resolve::lvstore(stores, params.lvstore()?)).transpose()?;
        let found = stores.stores().filter(|(id, _)| only.is_none_or(|only| only == *id));
        let described: Vec<Lvstore> = found.filter_map(|(id, _)| self.describe_lvstore(stores, id)).collect();
        now(&described)
    }

    fn describe_lvstore(&self, stores: &StoreBackend, id: StoreId) -> Option<Lvstore> {
        let engine = stores.store(id)?.engine();
        let state = engine.state();
        Some(Lvstore {
            uuid: state.uuid().unwrap_or_default(),
            name: state.name(),
            base_bdev: self.base_name(id),
            total_data_clusters: state.layout.total_data_clusters().into(),
            // What lvols that are gone have yet to let go is as good as free.
            free_clusters: engine.free_clusters() + state.dying_clusters(),
            block_size: state.layout.io_unit_size.into(),
            cluster_size: state.layout.cluster_size.into(),
            max_growable_size: state.layout.max_growable_bytes(),
        })
    }

    /// The name of the bdev that a store is on.
    pub(super) fn base_name(&self, store: StoreId) -> String {
        self.bases.of_store(store).map_or_else(String::new, |base| base.name.clone())
    }
}

/// What a new store is like.
///
/// # Errors
/// EINVAL for a name that is none, or sizes that SPDK refuses at once.
fn options(block: u32, params: &CreateLvstore) -> Result<InitOptions, RpcError> {
    check_name(&params.lvs_name).map_err(|error| RpcError::refused(errno(&error)))?;
    let md_page_size = params.md_page_size.filter(|bytes| *bytes != 0).unwrap_or(MD_PAGE_BYTES.0);
    if !(MD_PAGE_BYTES.0..=MD_PAGE_BYTES.1).contains(&md_page_size) {
        return Err(RpcError::refused(Errno::Inval));
    }
    Ok(InitOptions {
        name: params.lvs_name.clone(),
        uuid: Uuid::new_v4(),
        cluster_size: params.cluster_sz.filter(|bytes| *bytes != 0).unwrap_or(CLUSTER_BYTES),
        block_size: block,
        md_page_size,
        journal_bytes: None,
        native: true,
        clear_method: match params.clear_method {
            None => ClearMethod::Default,
            Some(LvstoreClear::Unmap) => ClearMethod::Unmap,
            Some(LvstoreClear::WriteZeroes) => ClearMethod::WriteZeroes,
            Some(LvstoreClear::None) => ClearMethod::None,
        },
    })
}

/// Makes a store. A device that fails takes its bdev with it.
fn make(
    bare: Bare,
    path: PathBuf,
    kind: Option<(Kind, u32)>,
    options: &InitOptions,
    watched: &Watched,
    method: &Method,
) -> (Ground, Reply) {
    let uuid = options.uuid;
    let opening = OpenOptions::writable(Uuid::new_v4().into_bytes(), bare.session);
    match Store::init_watched(bare.device, options, &opening, |done, total| watched.reach(done, total)) {
        Ok(store) => (Ground::Store(path, Box::new(store)), ResultText::of(&uuid)),
        Err(CreateError::Cancelled) => {
            let file = kind.and_then(|(kind, block)| match kind {
                Kind::File(file) => Bare::open(&file, block).ok(),
                _ => None,
            });
            (file.map_or(Ground::Gone, Ground::Nothing), Err(method.failed(Errno::Canceled)))
        }
        Err(cause) => {
            warn!(path = %path.display(), %cause, "no store was made");
            (Ground::Gone, Err(method.failed(Errno::Io)))
        }
    }
}

/// Closes a store and wipes its metadata.
fn wipe(store: Store<Device>, kind: &Kind, block: u32, method: &Method) -> (Ground, Reply) {
    let layout = &store.state().layout;
    let bytes = u64::from(layout.metadata_clusters()) * u64::from(layout.cluster_size);
    // How the closing went does not matter: nothing of it is left.
    let (mut device, _) = store.close();
    let zero = DeviceOp::WriteZeroes { offset: DeviceOffset(0), len: bytes, may_unmap: true };
    let wiped = [zero, DeviceOp::Sync].into_iter().try_for_each(|op| complete(&mut device, op).map(drop));
    let reply = match wiped {
        Ok(()) => ResultText::of(&true),
        Err(cause) => {
            warn!(%cause, "the store is not wiped");
            Err(method.failed(Errno::Io))
        }
    };
    (bare(device, kind, block), reply)
}
