//! Methods of jobs: what moves data inside a store while its lvols are in use.

use super::super::backend::StoreBackend;
use super::super::openings::StoreId;
use super::answers::{Answer, Asker, Then};
use super::desk::Desk;
use super::errors::errno;
use super::resolve;
use crate::lookup;
use offshoot_rpc::types::lvol::{DecoupleParent, InflateLvol, MergeSnapshots, Unallocated};
use offshoot_rpc::types::selector::LvolSelector;
use offshoot_rpc::{Errno, Method, RpcError};
use offshoot_store::{Error, Work};

impl Desk {
    pub(super) fn inflate_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &InflateLvol,
    ) -> Answer {
        let pace = pace(params.bytes_per_sec)?;
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, work) = (found.store, Work::Inflate { lvol: found.lvol.id });
        self.start_job(stores, store, (work, pace), Some(asker), Then::True(method)).map(|_| None)
    }

    pub(super) fn decouple_parent(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &DecoupleParent,
    ) -> Answer {
        let pace = pace(params.bytes_per_sec)?;
        if params.unallocated == Some(Unallocated::Zero) {
            return self.detach_parent(stores, asker, method, params.lvol());
        }
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, work) = (found.store, Work::Decouple { lvol: found.lvol.id });
        self.start_job(stores, store, (work, pace), Some(asker), Then::True(method)).map(|_| None)
    }

    pub(super) fn merge_snapshots(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &MergeSnapshots,
    ) -> Answer {
        let pace = pace(params.bytes_per_sec)?;
        let named = params.snapshots.iter().map(|name| snapshot(stores, name));
        let named: Vec<(StoreId, String)> = named.collect::<Result<_, _>>()?;
        let (stores_named, names): (Vec<StoreId>, Vec<String>) = named.into_iter().unzip();
        let store = *stores_named.first().ok_or(RpcError::refused(Errno::Inval))?;
        if stores_named.iter().any(|other| *other != store) {
            return Err(RpcError::refused(Errno::Inval));
        }
        let state = stores.state(store).ok_or(RpcError::INTERNAL)?;
        let run = lookup::merge(state, &names);
        let (oldest, into) = run.map_err(|error| {
            // What is no error of the engine's is about snapshots that do not belong together.
            let cause = error.downcast_ref::<Error>();
            cause.map_or(RpcError::refused(Errno::Inval), |cause| method.failed(errno(cause)))
        })?;
        let work = Work::Merge { oldest, into };
        self.start_job(stores, store, (work, pace), Some(asker), Then::Made(method)).map(|_| None)
    }
}

/// Where a snapshot is and what it is called there. It may be gone, and something be taking it up.
fn snapshot(stores: &StoreBackend, name: &str) -> Result<(StoreId, String), RpcError> {
    let selector = LvolSelector::new(name);
    if let Some(found) = resolve::find(stores, selector) {
        return Ok((found.store, format!("blob-{}", found.lvol.id)));
    }
    let merging = selector.aliases().find_map(|(store_name, name)| {
        let mut named = stores.stores().filter(|(_, store)| store.engine().state().name() == store_name);
        let (store, _) =
            named.find(|(_, store)| store.engine().state().merging(name.as_bytes()).is_some())?;
        Some((store, name.to_owned()))
    });
    merging.ok_or(RpcError::refused(Errno::NoDev))
}

/// The pace of a job, in bytes a second.
fn pace(bytes_per_sec: Option<u64>) -> Result<Option<u64>, RpcError> {
    match bytes_per_sec {
        // It would never end.
        Some(0) => Err(RpcError::refused(Errno::Inval)),
        pace => Ok(pace),
    }
}
