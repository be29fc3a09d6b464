//! Methods of files and block devices as bdevs: what `bdev_aio_create` makes, and `bdev_uring_create`.

use super::super::backend::StoreBackend;
use super::super::openings::StoreId;
use super::super::served::load_from;
use super::answers::{Answer, Asker, now};
use super::bases::{Bare, Base, FileBdev, Ground, Holds, Kind};
use super::desk::Desk;
use super::errors::errno_of_open;
use offshoot_block::{BlockDevice as _, DeviceGeometry};
use offshoot_device::HostDevice as _;
use offshoot_rpc::types::bdev::{AioSpecific, BdevName, CreateAio, CreateUring};
use offshoot_rpc::{Errno, Reply, ResultText, RpcError};
use offshoot_store::signature;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tracing::warn;
use uuid::Uuid;

impl Desk {
    pub(super) fn create_aio(&mut self, asker: Asker, params: CreateAio) -> Answer {
        let block = params.block_size.unwrap_or(0);
        let aio = AioSpecific {
            filename: params.filename,
            block_size_override: block != 0,
            readonly: params.readonly.unwrap_or(false),
            fallocate: params.fallocate.unwrap_or(false),
            nowait: params.nowait.unwrap_or(false),
        };
        let file = FileBdev { aio, is_uring: false };
        self.create_file(Some(asker), params.name, params.uuid, file, block)
    }

    pub(super) fn create_uring(&mut self, asker: Asker, params: CreateUring) -> Answer {
        let block = params.block_size.unwrap_or(0);
        let aio = AioSpecific {
            filename: params.filename,
            block_size_override: block != 0,
            readonly: false,
            fallocate: true,
            nowait: false,
        };
        let file = FileBdev { aio, is_uring: true };
        let created = self.create_file(Some(asker), params.name, params.uuid, file, block);
        created.map_err(|_| RpcError::CREATE_URING)
    }

    /// Makes a bdev of a file, and looks for a store on it.
    pub(super) fn create_file(
        &mut self,
        asker: Option<Asker>,
        name: String,
        uuid: Option<Uuid>,
        file: FileBdev,
        block: u32,
    ) -> Answer {
        if self.is_taken(&name) {
            return Err(RpcError::refused(Errno::Exist));
        }
        if block != 0 && !(block.is_power_of_two() && block >= 512) {
            return Err(RpcError::refused(Errno::Inval));
        }
        // Opened on a thread: the lock may have to be waited for.
        self.bases.add(Base {
            name: name.clone(),
            uuid: uuid.unwrap_or_else(Uuid::new_v4),
            kind: Kind::File(file.clone()),
            block,
            size_bytes: 0,
            holds: Holds::Busy,
        });
        let looks = !self.is_waited_for(&name);
        let (base, externals) = (name.clone(), self.externals.clone());
        self.work(asker, &name, move || {
            let (ground, reply) = open(&base, &file, block, looks.then_some(&externals));
            let is_uring = file.is_uring;
            (ground, reply.map_err(|error| if is_uring { RpcError::CREATE_URING } else { error }))
        })
    }

    /// Looks once more for a store on a file that has none.
    pub(super) fn examine_file(
        &mut self,
        asker: Option<Asker>,
        name: &str,
        file: FileBdev,
        block: u32,
    ) -> Answer {
        let (base, externals) = (name.to_owned(), self.externals.clone());
        // Its lock would keep the one who looks out.
        if let Some(base) = self.bases.find_mut(name) {
            base.holds = Holds::Busy;
        }
        self.work(asker, name, move || {
            let (ground, reply) = open(&base, &file, block, Some(&externals));
            (ground, reply.and_then(|_| ResultText::of(&true)))
        })
    }

    /// Takes over the size that the file of a bdev has by now. A store on it is left alone until it is told to grow.
    pub(super) fn rescan_file(
        &mut self,
        stores: &mut StoreBackend,
        params: &BdevName,
        is_uring: bool,
    ) -> Answer {
        let is_like = |base: &&mut Base| matches!(&base.kind, Kind::File(file) if file.is_uring == is_uring);
        let base = self.bases.find_mut(&params.name).filter(is_like);
        let base = base.ok_or(RpcError::refused(Errno::NoDev))?;
        let device = match &mut base.holds {
            Holds::Nothing(bare) => &mut bare.device,
            Holds::Store(id) => stores.device_mut(*id).ok_or(RpcError::refused(Errno::NoDev))?,
            Holds::Snapshot(_) | Holds::Below | Holds::Busy => return Err(RpcError::refused(Errno::Busy)),
        };
        device.grow(0).map_err(|cause| {
            warn!(%cause, "not measured");
            RpcError::refused(Errno::Inval)
        })?;
        let geometry = device.geometry();
        base.measure(geometry);
        now(&true)
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
            kind: Kind::File(FileBdev {
                aio: AioSpecific {
                    filename: full,
                    block_size_override: false,
                    readonly: false,
                    fallocate: true,
                    nowait: false,
                },
                is_uring: false,
            }),
            block: layout.io_unit_size,
            size_bytes: served.devices().next().map_or(0, |device| device.geometry().size_bytes),
            holds: Holds::Store(store),
        });
        // It may have what others read, or the other way round.
        self.attach_missing(stores);
    }
}

/// Whether the size and the blocks of a file are what was asked for.
fn fits(path: &Path, geometry: &DeviceGeometry, block: u32) -> bool {
    let length = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
    let unit = if block == 0 { geometry.logical_block } else { block };
    let whole = length.unwrap_or(geometry.size_bytes).is_multiple_of(unit.into());
    whole && geometry.size_bytes > 0 && unit >= geometry.logical_block
}

/// Opens a file, and, with the external snapshots that there are, the store on it if there is one.
pub(super) fn open(
    name: &str,
    file: &FileBdev,
    block: u32,
    externals: Option<&Vec<(String, PathBuf)>>,
) -> (Ground, Reply) {
    let path = file.path();
    let device = match file.open(block) {
        Ok(device) if fits(path, &device.geometry(), block) => device,
        Ok(_) => return (Ground::Gone, Err(RpcError::refused(Errno::Inval))),
        Err(cause) => {
            warn!(path = %path.display(), %cause, "not opened");
            return (Ground::Gone, Err(RpcError::refused(errno_of_open(&cause))));
        }
    };
    let reply = ResultText::of(&name);
    let Some(externals) = externals.filter(|_| !file.aio.readonly && holds_store(path)) else {
        return (Ground::Nothing(Bare::of(device)), reply);
    };
    match load_from(device, path, externals) {
        Ok(store) => (Ground::Store(path.to_owned(), Box::new(store)), reply),
        Err(cause) => {
            warn!(path = %path.display(), "not served: {cause:#}");
            (Bare::open(file, block).map_or(Ground::Gone, Ground::Nothing), reply)
        }
    }
}

/// Whether a file begins like a store.
fn holds_store(path: &Path) -> bool {
    let mut start = [0; 4096];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && signature::name(&start) == Some("an lvstore")
}
