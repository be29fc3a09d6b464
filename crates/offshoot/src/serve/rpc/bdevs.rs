//! Methods of bdevs of any kind, of memory and of nothing, and lvols as bdevs.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::answers::{Answer, Asker, Awaited, now};
use super::bases::{Bare, Base, FileBdev, Ground, Holds, Kind};
use super::desk::Desk;
use super::esnap::is_read;
use super::lvols::is_clone;
use super::qos::rate_limits;
use super::resolve;
use super::site::Place;
use offshoot_device::{HostDevice as _, Latencies, Latency, MemDevice, NullDevice};
use offshoot_rpc::types::bdev::{
    Bdev, BdevName, ClaimType, CreateMalloc, DriverSpecific, ErrorSpecific, GetBdevs, IoTypes, LvolSpecific,
    RateLimits, UringSpecific,
};
use offshoot_rpc::types::selector::{LvolSelector, alias};
use offshoot_rpc::types::vbdev::{CreateDelay, CreateNull, ResizeNull};
use offshoot_rpc::{Errno, ResultText, RpcError};
use offshoot_store::{Blob, State};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tracing::warn;
use uuid::Uuid;

/// Methods.
impl Desk {
    pub(super) fn get_bdevs(
        &mut self,
        stores: &StoreBackend,
        asker: Asker,
        params: Option<GetBdevs>,
    ) -> Answer {
        let Some(GetBdevs { name: Some(name), timeout }) = params else {
            let bases = self.bases.iter().filter(|base| base.is_there()).map(describe_base);
            let lvols = stores.lvols().filter_map(|(store, lvol)| self.describe_lvol(stores, store, lvol));
            return now(&bases.chain(lvols).collect::<Vec<_>>());
        };
        let timeout = timeout.filter(|timeout| *timeout > 0).map(Duration::from_millis);
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match (self.find_bdev(stores, &name), until) {
            (Some(bdev), _) => now(&[bdev]),
            (None, Some(until)) => {
                self.awaited.push(Awaited { asker, name, until });
                Ok(None)
            }
            (None, None) => Err(RpcError::refused(Errno::NoDev)),
        }
    }

    /// Answers those who waited long enough.
    pub(super) fn answer_awaited(&mut self, stores: &StoreBackend) {
        if self.awaited.is_empty() {
            return;
        }
        let now = Instant::now();
        for awaited in std::mem::take(&mut self.awaited) {
            match self.find_bdev(stores, &awaited.name) {
                Some(bdev) => self.answer(awaited.asker, ResultText::of(&[bdev])),
                None if now >= awaited.until => {
                    self.answer(awaited.asker, Err(RpcError::refused(Errno::NoDev)));
                }
                None => self.awaited.push(awaited),
            }
        }
    }

    /// Looks once more for a store on a bdev, which is done when one is created, too.
    pub(super) fn examine_bdev(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        params: &BdevName,
    ) -> Answer {
        let Some(base) = self.bases.find_mut(&params.name) else {
            return self.examine_lvol(stores, asker, &params.name);
        };
        let (name, block) = (base.name.clone(), base.block);
        match (&base.kind, &base.holds) {
            (_, Holds::Busy) => Err(RpcError::refused(Errno::Busy)),
            (Kind::File(file), Holds::Nothing(_)) => {
                let file = file.clone();
                self.examine_file(Some(asker), &name, file, block)
            }
            (Kind::Error(..) | Kind::Delay(..), Holds::Nothing(_)) => {
                self.examine(stores, Some(asker), Place::Base(name), ResultText::of(&true))
            }
            _ => now(&true),
        }
    }

    pub(super) fn create_malloc(&mut self, stores: &mut StoreBackend, params: CreateMalloc) -> Answer {
        let name = params.name.unwrap_or_else(|| self.bases.fresh_name("Malloc"));
        if self.is_taken(&name) {
            return Err(RpcError::refused(Errno::Exist));
        }
        let size_bytes = params.num_blocks.checked_mul(params.block_size.into());
        let (512 | 4096, Some(size_bytes @ 1..)) = (params.block_size, size_bytes) else {
            return Err(RpcError::refused(Errno::Inval));
        };
        let device = Box::new(MemDevice::new(size_bytes, params.block_size));
        self.bases.add(Base {
            name: name.clone(),
            uuid: params.uuid.unwrap_or_else(Uuid::new_v4),
            kind: Kind::Malloc,
            block: params.block_size,
            size_bytes,
            holds: Holds::Nothing(Bare { device, session: None }),
        });
        self.created(stores);
        now(&name)
    }

    /// A bdev is there.
    fn created(&mut self, stores: &mut StoreBackend) {
        self.bdevs_changed = true;
        self.create_deferred(stores);
    }

    pub(super) fn create_null(&mut self, stores: &mut StoreBackend, params: CreateNull) -> Answer {
        if self.is_taken(&params.name) {
            return Err(RpcError::refused(Errno::Exist));
        }
        let protected = params.md_size.unwrap_or(0) > 0 || params.dif_type.unwrap_or(0) != 0;
        let size_bytes = params.num_blocks.checked_mul(params.block_size.into());
        match (params.block_size, size_bytes) {
            (_, Some(0)) if params.num_blocks == 0 => Err(RpcError::NO_BLOCKS),
            (512 | 4096, Some(size_bytes)) if !protected => {
                let device = Box::new(NullDevice::new(size_bytes, params.block_size));
                let (name, uuid) = (params.name.clone(), params.uuid.unwrap_or_else(Uuid::new_v4));
                self.bases.add(Base {
                    name: name.clone(),
                    uuid,
                    block: params.block_size,
                    kind: Kind::Null(Box::new(CreateNull { uuid: Some(uuid), ..params })),
                    size_bytes,
                    holds: Holds::Nothing(Bare { device, session: None }),
                });
                self.created(stores);
                now(&name)
            }
            _ => Err(RpcError::refused(Errno::Inval)),
        }
    }

    pub(super) fn resize_null(&mut self, stores: &mut StoreBackend, params: &ResizeNull) -> Answer {
        let refused = |errno| Err(RpcError::refused(errno));
        let base = self.bases.find_mut(&params.name);
        let Some(Base { kind: Kind::Null(null), block, size_bytes, holds, .. }) = base else {
            return refused(Errno::NoDev);
        };
        let Some(new) = params.new_size.checked_mul(1 << 20).filter(|new| *new > 0) else {
            return refused(Errno::Inval);
        };
        match holds {
            Holds::Nothing(bare) => bare.device = Box::new(NullDevice::new(new, *block)),
            Holds::Store(id) if new >= *size_bytes => {
                let device = stores.device_mut(*id).ok_or(RpcError::refused(Errno::NoDev))?;
                device.grow(new).map_err(|_| RpcError::refused(Errno::Io))?;
            }
            _ => return refused(Errno::Busy),
        }
        (*size_bytes, null.num_blocks) = (new, new / u64::from(*block));
        now(&true)
    }

    /// Deletes a bdev, if it is of a kind.
    pub(super) fn delete_base(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        name: &str,
        is_meant: impl Fn(&Kind) -> bool,
    ) -> Answer {
        let base = self.bases.find(name).filter(|base| is_meant(&base.kind));
        let Some(base) = base else {
            return if self.forget_away(name) { now(&true) } else { self.delete_deferred(name) };
        };
        let (name, is_over) = (base.name.clone(), base.kind.base().is_some());
        match base.holds {
            Holds::Below | Holds::Busy => Err(RpcError::refused(Errno::Busy)),
            Holds::Snapshot(_) if is_read(stores, base.uuid) => Err(RpcError::refused(Errno::Busy)),
            Holds::Nothing(_) | Holds::Snapshot(_) => {
                self.delete_over(&name);
                self.bdevs_changed = true;
                now(&true)
            }
            Holds::Store(id) => {
                let store = stores.take(id).ok_or(RpcError::refused(Errno::Busy))?.into_store();
                self.work(Some(asker), &name, move || {
                    let (device, closed) = store.close();
                    let reply = match closed {
                        Ok(()) => ResultText::of(&true),
                        Err(cause) => {
                            warn!(%cause, "not closed in order");
                            Err(RpcError::refused(Errno::Io))
                        }
                    };
                    let bare = Bare { device, session: None };
                    (if is_over { Ground::Deleted(bare) } else { Ground::Gone }, reply)
                })
            }
        }
    }
}

/// Descriptions.
impl Desk {
    fn find_bdev(&self, stores: &StoreBackend, name: &str) -> Option<Bdev> {
        let base = self.bases.find(name).filter(|base| base.is_there());
        base.map(describe_base).or_else(|| {
            let found = resolve::find(stores, LvolSelector::new(name))?;
            self.describe_lvol(stores, found.store, found.lvol)
        })
    }

    fn describe_lvol(&self, stores: &StoreBackend, store: StoreId, lvol: &Blob) -> Option<Bdev> {
        let served = stores.store(store)?;
        let engine = served.engine();
        let state = engine.state();
        let uuid = lvol.uuid().unwrap_or_default();
        let writable = !(lvol.is_read_only() || engine.is_read_only());
        let block = state.layout.io_unit_size;
        let io_types = IoTypes {
            read: true,
            write: writable,
            unmap: writable,
            write_zeroes: writable,
            flush: true,
            reset: true,
            seek_hole: true,
            seek_data: true,
            ..IoTypes::default()
        };
        let claim_type =
            stores.device_use(Export { store, lvol: lvol.id }).map(|is_written| match is_written {
                true => ClaimType::ExclusiveWrite,
                false => ClaimType::ReadManyWriteNone,
            });
        Some(Bdev {
            claimed: claim_type.is_some(),
            claim_type,
            aliases: vec![alias(&state.name(), &lvol.display_name())],
            assigned_rate_limits: rate_limits(served.limits(lvol.id)),
            supported_io_types: io_types,
            driver_specific: DriverSpecific::Lvol(self.lvol_specific(store, state, lvol)),
            ..bdev(uuid.to_string(), uuid, "Logical Volume", block, state.bytes(lvol))
        })
    }

    fn lvol_specific(&self, store: StoreId, state: &State, lvol: &Blob) -> LvolSpecific {
        let snapshot = self.is_snapshot(state, lvol);
        let clone = is_clone(state, lvol);
        let parent = lvol.parent.and_then(|id| state.blob(id)).filter(|_| clone);
        let clones = lvol.clones.iter().filter_map(|id| state.blob(*id)).filter(|clone| !clone.dying);
        let clones: Vec<String> = clones.map(Blob::display_name).collect();
        let external = lvol.external.as_ref().filter(|_| lvol.external_is_parent);
        LvolSpecific {
            lvol_store_uuid: state.uuid().unwrap_or_default(),
            base_bdev: self.base_name(store),
            thin_provision: lvol.is_thin(),
            num_allocated_clusters: lvol.own_clusters,
            snapshot,
            clone,
            base_snapshot: parent.map(Blob::display_name),
            clones: Some(clones).filter(|clones| !clones.is_empty()),
            esnap_clone: lvol.external_is_parent,
            external_snapshot_name: external.map(offshoot_store::External::name),
        }
    }
}

/// A bdev that can do nothing and is nobody's.
fn bdev(name: String, uuid: Uuid, product: &str, block: u32, size_bytes: u64) -> Bdev {
    Bdev {
        name,
        aliases: Vec::new(),
        product_name: product.to_owned(),
        block_size: block,
        num_blocks: size_bytes / u64::from(block.max(1)),
        preferred_write_alignment: 0,
        preferred_write_granularity: 0,
        optimal_write_size: 0,
        preferred_unmap_alignment: 0,
        preferred_unmap_granularity: 0,
        uuid,
        numa_id: None,
        assigned_rate_limits: RateLimits::default(),
        claimed: false,
        claim_type: None,
        zoned: false,
        supported_io_types: IoTypes::default(),
        driver_specific: DriverSpecific::Other(BTreeMap::new()),
    }
}

fn describe_base(base: &Base) -> Bdev {
    let claim_type = match base.holds {
        Holds::Store(_) | Holds::Below => Some(ClaimType::ExclusiveWrite),
        Holds::Snapshot(_) => Some(ClaimType::ReadManyWriteNone),
        Holds::Nothing(_) | Holds::Busy => None,
    };
    let other = || DriverSpecific::Other(BTreeMap::new());
    let (product, unmap, writable, driver_specific) = match &base.kind {
        Kind::File(FileBdev { aio, is_uring: true }) => {
            let filename = aio.filename.clone();
            ("URING bdev", true, true, DriverSpecific::Uring(UringSpecific { filename }))
        }
        Kind::File(FileBdev { aio, .. }) => {
            ("AIO disk", aio.fallocate, !aio.readonly, DriverSpecific::Aio(aio.clone()))
        }
        Kind::Malloc => ("Malloc disk", true, true, other()),
        Kind::Null(_) => ("Null disk", true, true, other()),
        Kind::Lvol(_) => ("Logical Volume", true, true, other()),
        Kind::Error(below, _) => {
            let specific = ErrorSpecific { base_bdev: below.clone() };
            ("Error Injection Disk", true, true, DriverSpecific::ErrorDisk(specific))
        }
        Kind::Delay(below, latencies) => {
            ("delay", true, true, DriverSpecific::Delay(delay(base, below, latencies)))
        }
    };
    let null = match &base.kind {
        Kind::Null(null) => Some(&**null),
        _ => None,
    };
    let told = |member: fn(&CreateNull) -> Option<u32>| null.and_then(member).unwrap_or(0);
    let uuid = base.uuid.to_string();
    Bdev {
        aliases: Some(uuid).filter(|uuid| *uuid != base.name).into_iter().collect(),
        claimed: claim_type.is_some(),
        claim_type,
        supported_io_types: IoTypes {
            read: true,
            write: writable,
            unmap: writable && unmap,
            write_zeroes: writable,
            flush: true,
            reset: true,
            ..IoTypes::default()
        },
        driver_specific,
        preferred_write_alignment: told(|null| null.preferred_write_alignment),
        preferred_write_granularity: told(|null| null.preferred_write_granularity),
        optimal_write_size: told(|null| null.optimal_write_size),
        preferred_unmap_alignment: told(|null| null.preferred_unmap_alignment),
        preferred_unmap_granularity: told(|null| null.preferred_unmap_granularity),
        ..bdev(base.name.clone(), base.uuid, product, base.block, base.size_bytes)
    }
}

/// A bdev that takes its time, as it was or would be asked for.
pub(super) fn delay(base: &Base, below: &str, latencies: &Latencies) -> CreateDelay {
    CreateDelay {
        name: base.name.clone(),
        base_bdev_name: below.to_owned(),
        avg_read_latency: latencies.get(Latency::AverageRead),
        p99_read_latency: latencies.get(Latency::P99Read),
        avg_write_latency: latencies.get(Latency::AverageWrite),
        p99_write_latency: latencies.get(Latency::P99Write),
        uuid: None,
    }
}
