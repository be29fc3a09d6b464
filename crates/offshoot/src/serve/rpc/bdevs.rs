//! Methods of bdevs: files and memory that stores are on, and lvols as bdevs.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::super::served::load_from;
use super::answers::{Answer, Asker, Awaited, now};
use super::bases::{Bare, Base, Ground, Holds, Kind, open_file};
use super::desk::Desk;
use super::errors::errno_of_open;
use super::esnap::is_read;
use super::lvols::is_clone;
use super::qos::rate_limits;
use super::resolve;
use offshoot_block::{BlockDevice as _, DeviceGeometry};
use offshoot_device::{HostDevice as _, MemDevice};
use offshoot_rpc::types::bdev::{
    AioSpecific, Bdev, BdevName, ClaimType, CreateAio, CreateMalloc, DriverSpecific, GetBdevs, IoTypes,
    LvolSpecific, RateLimits,
};
use offshoot_rpc::types::selector::{LvolSelector, alias};
use offshoot_rpc::{Errno, Reply, ResultText, RpcError};
use offshoot_store::{Blob, State, signature};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
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

    pub(super) fn create_aio(&mut self, asker: Asker, params: CreateAio) -> Answer {
        if self.bases.find(&params.name).is_some() {
            return Err(RpcError::refused(Errno::Exist));
        }
        let block = params.block_size.unwrap_or(0);
        if block != 0 && !(block.is_power_of_two() && block >= 512) {
            return Err(RpcError::refused(Errno::Inval));
        }
        let aio = AioSpecific {
            filename: params.filename,
            block_size_override: block != 0,
            readonly: params.readonly.unwrap_or(false),
            fallocate: params.fallocate.unwrap_or(false),
            nowait: params.nowait.unwrap_or(false),
        };
        // Opened on a thread: the lock may have to be waited for.
        self.bases.add(Base {
            name: params.name.clone(),
            uuid: params.uuid.unwrap_or_else(Uuid::new_v4),
            kind: Kind::Aio(aio.clone()),
            block,
            size_bytes: 0,
            holds: Holds::Busy,
        });
        let (name, externals) = (params.name.clone(), self.externals.clone());
        self.work(asker, &params.name, move || examine(&name, &aio, block, &externals))
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
            (Kind::Aio(aio), Holds::Nothing(_)) => {
                let (aio, externals) = (aio.clone(), self.externals.clone());
                // Its lock would keep the one who looks out.
                base.holds = Holds::Busy;
                self.work(asker, &name.clone(), move || {
                    let (ground, reply) = examine(&name, &aio, block, &externals);
                    (ground, reply.and_then(|_| ResultText::of(&true)))
                })
            }
            (_, Holds::Nothing(_) | Holds::Store(_) | Holds::Snapshot(_)) => now(&true),
        }
    }

    pub(super) fn delete_aio(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        params: &BdevName,
    ) -> Answer {
        let is_aio = |base: &&Base| matches!(base.kind, Kind::Aio(_));
        let base = self.bases.find(&params.name).filter(is_aio).map(|base| base.name.clone());
        self.delete_base(stores, asker, base)
    }

    /// Takes over the size that the file of a bdev has by now. A store on it is left alone until it is told to grow.
    pub(super) fn rescan_aio(&mut self, stores: &mut StoreBackend, params: &BdevName) -> Answer {
        let is_aio = |base: &&mut Base| matches!(base.kind, Kind::Aio(_));
        let base = self.bases.find_mut(&params.name).filter(is_aio).ok_or(RpcError::refused(Errno::NoDev))?;
        let device = match &mut base.holds {
            Holds::Nothing(bare) => &mut bare.device,
            Holds::Store(id) => stores.device_mut(*id).ok_or(RpcError::refused(Errno::NoDev))?,
            Holds::Snapshot(_) | Holds::Busy => return Err(RpcError::refused(Errno::Busy)),
        };
        device.grow(0).map_err(|cause| {
            warn!(%cause, "not measured");
            RpcError::refused(Errno::Inval)
        })?;
        let geometry = device.geometry();
        base.measure(geometry);
        now(&true)
    }

    pub(super) fn create_malloc(&mut self, params: CreateMalloc) -> Answer {
        let name = params.name.unwrap_or_else(|| self.bases.fresh_name("Malloc"));
        if self.bases.find(&name).is_some() {
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
        now(&name)
    }

    pub(super) fn delete_malloc(
        &mut self,
        stores: &mut StoreBackend,
        asker: Asker,
        params: &BdevName,
    ) -> Answer {
        let is_malloc = |base: &&Base| matches!(base.kind, Kind::Malloc);
        let base = self.bases.find(&params.name).filter(is_malloc).map(|base| base.name.clone());
        self.delete_base(stores, asker, base)
    }

    /// A store that the server was started with.
    pub(super) fn adopt(&mut self, path: &Path, store: StoreId, stores: &mut StoreBackend) {
        let Some(served) = stores.store(store) else { return };
        let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let taken = file.is_empty() || self.bases.find(&file).is_some();
        let full = path.display().to_string();
        let layout = &served.engine().state().layout;
        self.bases.add(Base {
            name: if taken { full.clone() } else { file },
            uuid: Uuid::new_v4(),
            kind: Kind::Aio(AioSpecific {
                filename: full,
                block_size_override: false,
                readonly: false,
                fallocate: true,
                nowait: false,
            }),
            block: layout.io_unit_size,
            size_bytes: served.devices().next().map_or(0, |device| device.geometry().size_bytes),
            holds: Holds::Store(store),
        });
        // It may have what others read, or the other way round.
        self.attach_missing(stores);
    }

    fn delete_base(&mut self, stores: &mut StoreBackend, asker: Asker, name: Option<String>) -> Answer {
        let name = name.ok_or(RpcError::refused(Errno::NoDev))?;
        let base = self.bases.find(&name).ok_or(RpcError::refused(Errno::NoDev))?;
        match base.holds {
            Holds::Busy => Err(RpcError::refused(Errno::Busy)),
            Holds::Snapshot(_) if is_read(stores, base.uuid) => Err(RpcError::refused(Errno::Busy)),
            Holds::Nothing(_) | Holds::Snapshot(_) => {
                self.bases.remove(&name);
                now(&true)
            }
            Holds::Store(id) => {
                let store = stores.take(id).ok_or(RpcError::refused(Errno::Busy))?;
                self.work(asker, &name, move || {
                    let reply = match store.close() {
                        Ok(()) => ResultText::of(&true),
                        Err(cause) => {
                            warn!(%cause, "not closed in order");
                            Err(RpcError::refused(Errno::Io))
                        }
                    };
                    (Ground::Gone, reply)
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
        Holds::Store(_) => Some(ClaimType::ExclusiveWrite),
        Holds::Snapshot(_) => Some(ClaimType::ReadManyWriteNone),
        Holds::Nothing(_) | Holds::Busy => None,
    };
    let (product, unmap, writable, driver_specific) = match &base.kind {
        Kind::Aio(aio) => ("AIO disk", aio.fallocate, !aio.readonly, DriverSpecific::Aio(aio.clone())),
        Kind::Malloc => ("Malloc disk", true, true, DriverSpecific::Other(BTreeMap::new())),
        Kind::Lvol(_) => ("Logical Volume", true, true, DriverSpecific::Other(BTreeMap::new())),
    };
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
        ..bdev(base.name.clone(), base.uuid, product, base.block, base.size_bytes)
    }
}

/// Whether the size and the blocks of a file are what was asked for.
fn fits(path: &Path, geometry: &DeviceGeometry, block: u32) -> bool {
    let length = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
    let unit = if block == 0 { geometry.logical_block } else { block };
    let whole = length.unwrap_or(geometry.size_bytes).is_multiple_of(unit.into());
    whole && geometry.size_bytes > 0 && unit >= geometry.logical_block
}

/// Opens a file, and the store on it if there is one.
fn examine(name: &str, aio: &AioSpecific, block: u32, externals: &[(String, PathBuf)]) -> (Ground, Reply) {
    let path = Path::new(&aio.filename);
    let file = match open_file(path, aio, block) {
        Ok(file) if fits(path, &file.geometry(), block) => file,
        Ok(_) => return (Ground::Gone, Err(RpcError::refused(Errno::Inval))),
        Err(cause) => return (Ground::Gone, Err(RpcError::refused(errno_of_open(&cause)))),
    };
    let reply = ResultText::of(&name);
    if aio.readonly || !holds_store(path) {
        return (Ground::Nothing(Bare::of(file)), reply);
    }
    match load_from(file, path, externals) {
        Ok(store) => (Ground::Store(path.to_owned(), Box::new(store)), reply),
        Err(cause) => {
            warn!(path = %path.display(), "not served: {cause:#}");
            (Bare::open(path, aio, block).map_or(Ground::Gone, Ground::Nothing), reply)
        }
    }
}

/// Whether a file begins like a store.
fn holds_store(path: &Path) -> bool {
    let mut start = [0; 4096];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && signature::name(&start) == Some("an lvstore")
}
