//! Methods of lvols.

use super::super::backend::StoreBackend;
use super::super::openings::StoreId;
use super::answers::{Answer, Asker, Then, now};
use super::desk::Desk;
use super::errors::errno;
use super::resolve;
use crate::commands::identity;
use offshoot_rpc::types::lvol::{
    CloneLvol, CreateLvol, DeleteLvol, DiffLvols, DiffRange, GetLvols, GroupSnapshot, Lvol, LvolClear,
    LvolDiff, LvolName, LvstoreRef, RenameLvol, ResizeLvol, RevertLvol, SetParent, SnapshotLvol,
};
use offshoot_rpc::types::selector::{LvolSelector, alias};
use offshoot_rpc::{Errno, Method, RpcError};
use offshoot_store::{Blob, Change, ClearMethod, CreateOptions, State, Underlay, Verb, check_name};

/// Ranges of a diff that are told at once, unless otherwise asked, and at most.
const DIFF_RANGES: u32 = 4096;
const DIFF_RANGES_MAX: u32 = 65_536;

impl Desk {
    pub(super) fn create_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: CreateLvol,
    ) -> Answer {
        let size_bytes = params.size_bytes()?;
        let store = resolve::lvstore(stores, params.lvstore()?)?;
        check_name(&params.lvol_name).map_err(|error| RpcError::refused(errno(&error)))?;
        let state = stores.state(store);
        if state.is_some_and(|state| state.lvol_by_name(params.lvol_name.as_bytes()).is_some()) {
            return Err(RpcError::refused(Errno::Exist));
        }
        let thick = !params.thin_provision.unwrap_or(false);
        let clear_method = match params.clear_method {
            None | Some(LvolClear::Default) => ClearMethod::Default,
            Some(LvolClear::None) => ClearMethod::None,
            Some(LvolClear::Unmap) => ClearMethod::Unmap,
            Some(LvolClear::WriteZeroes) => ClearMethod::WriteZeroes,
        };
        let options = CreateOptions { thick, reserve: params.reserve.unwrap_or(false), clear_method };
        let verb = Verb::Create { identity: identity(&params.lvol_name), size_bytes, options };
        self.start(stores, asker, store, verb, Then::Made(method))
    }

    pub(super) fn snapshot_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &SnapshotLvol,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, items) = (found.store, vec![(found.lvol.id, identity(&params.snapshot_name))]);
        self.start(stores, asker, store, Verb::Snapshot { items }, Then::Made(method))
    }

    pub(super) fn group_snapshot(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &GroupSnapshot,
    ) -> Answer {
        let mut group = None;
        let mut items = Vec::new();
        for item in &params.lvols {
            let found = resolve::lvol(stores, item.lvol())?;
            if *group.get_or_insert(found.store) != found.store {
                // There is no one point in time in two stores.
                return Err(RpcError::refused(Errno::Inval));
            }
            items.push((found.lvol.id, identity(&item.snapshot_name)));
        }
        let store = group.ok_or(RpcError::refused(Errno::Inval))?;
        self.start(stores, asker, store, Verb::Snapshot { items }, Then::AllMade(method))
    }

    pub(super) fn clone_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &CloneLvol,
    ) -> Answer {
        let found = resolve::lvol(stores, params.snapshot())?;
        let verb = Verb::Clone { parent: found.lvol.id, identity: identity(&params.clone_name) };
        let store = found.store;
        self.start(stores, asker, store, verb, Then::Made(method))
    }

    pub(super) fn rename_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: RenameLvol,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        if found.lvol.name() == params.new_name.as_bytes() {
            // It is taken, by this one too.
            return Err(method.failed(Errno::Exist));
        }
        let (store, lvol) = (found.store, found.lvol.id);
        self.start(stores, asker, store, Verb::Rename { lvol, name: params.new_name }, Then::True(method))
    }

    pub(super) fn resize_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &ResizeLvol,
    ) -> Answer {
        let size_bytes = params.size_bytes()?;
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, lvol) = (found.store, found.lvol.id);
        self.start(stores, asker, store, Verb::Resize { lvol, size_bytes }, Then::True(method))
    }

    pub(super) fn set_read_only(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &LvolName,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, lvol) = (found.store, found.lvol.id);
        self.start(stores, asker, store, Verb::SetReadOnly { lvol }, Then::True(method))
    }

    pub(super) fn delete_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &DeleteLvol,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        let (store, lvol) = (found.store, found.lvol.id);
        let deferred = params.deferred.unwrap_or(false);
        let verb = if deferred { Verb::RemoveDeferred { lvol } } else { Verb::Remove { lvol } };
        self.start(stores, asker, store, verb, Then::True(method))
    }

    pub(super) fn detach_parent(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        selector: LvolSelector<'_>,
    ) -> Answer {
        let found = resolve::lvol(stores, selector)?;
        if !has_parent(found.lvol) {
            return Err(method.failed(Errno::Inval));
        }
        let (store, lvol) = (found.store, found.lvol.id);
        let verb = Verb::SetParent { lvol, underlay: Underlay::Nothing };
        self.start(stores, asker, store, verb, Then::True(method))
    }

    pub(super) fn set_parent(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &SetParent,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        let parent = resolve::lvol(stores, params.parent())?;
        if parent.store != found.store {
            return Err(method.failed(Errno::Inval));
        }
        let (store, lvol) = (found.store, found.lvol.id);
        let verb = Verb::SetParent { lvol, underlay: Underlay::Snapshot(parent.lvol.id) };
        self.start(stores, asker, store, verb, Then::True(method))
    }

    pub(super) fn revert_lvol(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        method: &'static Method,
        params: &RevertLvol,
    ) -> Answer {
        let found = resolve::lvol(stores, params.lvol())?;
        let snapshot = resolve::lvol(stores, params.snapshot())?;
        if snapshot.store != found.store {
            return Err(method.failed(Errno::Inval));
        }
        let (store, lvol) = (found.store, found.lvol.id);
        let verb = Verb::Revert { lvol, snapshot: snapshot.lvol.id };
        self.start(stores, asker, store, verb, Then::True(method))
    }

    pub(super) fn diff_lvols(stores: &StoreBackend, params: &DiffLvols) -> Answer {
        let (from, to) = (resolve::lvol(stores, params.from())?, resolve::lvol(stores, params.to())?);
        if from.store != to.store {
            return Err(RpcError::refused(Errno::Inval));
        }
        let state = stores.state(to.store).ok_or(RpcError::INTERNAL)?;
        let changes = state.diff(from.lvol.id, to.lvol.id);
        let changes = changes.map_err(|error| RpcError::refused(errno(&error)))?;
        let start = params.offset.unwrap_or(0);
        let most = params.max_ranges.unwrap_or(DIFF_RANGES).clamp(1, DIFF_RANGES_MAX) as usize;
        let mut changes = changes.filter(|change| change.start >= start);
        let ranges: Vec<DiffRange> = changes.by_ref().take(most).map(diff_range).collect();
        now(&LvolDiff {
            from_size: state.bytes(from.lvol),
            to_size: state.bytes(to.lvol),
            ranges,
            next_offset: changes.next().map(|change| change.start),
        })
    }

    pub(super) fn get_lvols(&self, stores: &StoreBackend, params: Option<&GetLvols>) -> Answer {
        let only = params.map(|params| resolve::lvstore(stores, params.lvstore()?)).transpose()?;
        let lvols = stores.lvols().filter(|(store, _)| only.is_none_or(|only| only == *store));
        let described: Vec<Lvol> =
            lvols.filter_map(|(store, lvol)| self.describe(stores, store, lvol)).collect();
        now(&described)
    }

    fn describe(&self, stores: &StoreBackend, store: StoreId, lvol: &Blob) -> Option<Lvol> {
        let engine = stores.store(store)?.engine();
        let state = engine.state();
        let (store_name, name) = (state.name(), lvol.display_name());
        Some(Lvol {
            alias: alias(&store_name, &name),
            uuid: lvol.uuid().unwrap_or_default(),
            name,
            is_thin_provisioned: lvol.is_thin(),
            is_snapshot: self.is_snapshot(state, lvol),
            is_clone: is_clone(state, lvol),
            is_esnap_clone: lvol.external_is_parent,
            is_degraded: engine.is_degraded(lvol.id),
            num_allocated_clusters: lvol.own_clusters,
            lvs: LvstoreRef { name: store_name, uuid: state.uuid().unwrap_or_default() },
        })
    }

    /// What SPDK calls a snapshot: has a clone, or had one while it was served here.
    pub(super) fn is_snapshot(&self, state: &State, lvol: &Blob) -> bool {
        let mut clones = lvol.clones.iter().filter_map(|id| state.blob(*id));
        clones.any(|clone| !clone.dying) || lvol.uuid().is_some_and(|uuid| self.snapshots.contains(&uuid))
    }
}

fn diff_range(change: Change) -> DiffRange {
    DiffRange { offset: change.start, length: change.len, zero: change.zero }
}

fn has_parent(lvol: &Blob) -> bool {
    lvol.parent.is_some() || lvol.external_is_parent
}

/// Whether the parent of an lvol is a snapshot of its store.
pub(super) fn is_clone(state: &State, lvol: &Blob) -> bool {
    lvol.parent.and_then(|id| state.blob(id)).is_some_and(|parent| !parent.dying)
}
