//! Bdevs below stores: files, memory, and lvols of other stores.

use super::super::openings::StoreId;
use super::super::served::Device;
use crate::open;
use offshoot_block::{BlockDevice as _, Buffer, Completion, DeviceError, DeviceGeometry, DeviceOp, OpId};
use offshoot_device::{EngineChoice, Faults, FileDevice, Latencies, OpenError, OpenOptions};
use offshoot_rpc::types::bdev::AioSpecific;
use offshoot_rpc::types::selector::parse_uuid;
use offshoot_rpc::types::vbdev::CreateNull;
use offshoot_store::{Session, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// An open device without a store.
pub(super) struct Bare {
    pub(super) device: Device,
    /// Under which power it runs.
    pub(super) session: Option<Session>,
}

impl Bare {
    /// Opens a file under an exclusive lock.
    pub(super) fn open(file: &FileBdev, block: u32) -> Result<Self, OpenError> {
        file.open(block).map(Self::of)
    }

    /// A file that is open.
    pub(super) fn of(file: FileDevice) -> Self {
        let session = open::opening(&file, false).session;
        Self { device: Box::new(file), session }
    }
}

/// A file or block device as a bdev.
#[derive(Clone, Debug)]
pub(super) struct FileBdev {
    pub(super) aio: AioSpecific,
    /// Whether it must go through io_uring, and is one of `bdev_uring_create`'s.
    pub(super) is_uring: bool,
}

impl FileBdev {
    pub(super) fn path(&self) -> &Path {
        self.aio.filename.as_ref()
    }

    /// Opens the file. `block` is 0 or the bytes of a block.
    ///
    /// # Errors
    /// It cannot be opened, or not like that.
    pub(super) fn open(&self, block: u32) -> Result<FileDevice, OpenError> {
        // Larger blocks are the bdev's own business.
        let logical_block = Some(block).filter(|block| *block == 512);
        let engine = if self.is_uring { EngineChoice::Uring } else { EngineChoice::Auto };
        let options =
            OpenOptions { logical_block, engine, read_only: self.aio.readonly, ..OpenOptions::writable() };
        FileDevice::open(self.path(), &options)
    }
}

/// What a bdev is made of.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A file or block device.
    File(FileBdev),
    /// Memory.
    Malloc,
    /// Nothing. As it was asked for.
    Null(Box<CreateNull>),
    /// The bdev of that name, with faults.
    Error(String, Faults),
    /// The bdev of that name, more slowly.
    Delay(String, Arc<Latencies>),
    /// An lvol, by its alias, as long as a store is on it.
    Lvol(String),
}

/// What is on a bdev.
pub(super) enum Holds {
    /// No store. A file is open, and locked.
    Nothing(Bare),
    /// A store that is served.
    Store(StoreId),
    /// No store, but stores read through it. Memory stays here, and they read copies of it.
    Snapshot(Option<Bare>),
    /// Nothing: the device belongs to a bdev over this one.
    Below,
    /// A thread is at work on it.
    Busy,
}

impl Kind {
    /// The bdev that it is over.
    pub(super) fn base(&self) -> Option<&str> {
        match self {
            Self::Error(base, _) | Self::Delay(base, _) => Some(base),
            Self::File(_) | Self::Malloc | Self::Null(_) | Self::Lvol(_) => None,
        }
    }
}

/// What a work leaves of a bdev.
pub(super) enum Ground {
    /// A device without a store.
    Nothing(Bare),
    /// A store.
    Store(PathBuf, Box<Store<Device>>),
    /// The bdev is gone, and its device with it.
    Gone,
    /// The bdev is gone. The one that it was over has its device again.
    Deleted(Bare),
}

/// A device whose store is closed.
pub(super) fn bare(device: Device, kind: &Kind, block: u32) -> Ground {
    match kind {
        Kind::File(file) => {
            // Opened anew: only a file can tell under which power it runs.
            drop(device);
            Bare::open(file, block).map_or(Ground::Gone, Ground::Nothing)
        }
        Kind::Malloc | Kind::Null(_) | Kind::Error(..) | Kind::Delay(..) => {
            Ground::Nothing(Bare { device, session: None })
        }
        // It is an lvol like any other again.
        Kind::Lvol(_) => Ground::Gone,
    }
}

/// Runs one operation on a device that nothing else uses. Returns its buffer, if it has one.
///
/// # Errors
/// The device's.
pub(super) fn complete(device: &mut Device, op: DeviceOp) -> Result<Option<Buffer>, DeviceError> {
    device.submit(OpId(0), op);
    let mut completions = Vec::new();
    while completions.is_empty() {
        device.wait(&mut completions);
    }
    completions.pop().map_or(Ok(None), |Completion { result, buffer, .. }| result.map(|()| buffer))
}

/// A bdev.
pub(super) struct Base {
    pub(super) name: String,
    pub(super) uuid: Uuid,
    pub(super) kind: Kind,
    /// Bytes of a block. 0: not known yet.
    pub(super) block: u32,
    /// 0: not known yet.
    pub(super) size_bytes: u64,
    pub(super) holds: Holds,
}

impl Base {
    /// Whether it was looked at, so that it can be used.
    pub(super) fn is_there(&self) -> bool {
        self.size_bytes > 0
    }

    /// Takes note of what its device is like.
    pub(super) fn measure(&mut self, geometry: DeviceGeometry) {
        self.size_bytes = geometry.size_bytes;
        if self.block == 0 {
            self.block = geometry.logical_block;
        }
    }

    /// Where its stores are, for people.
    pub(super) fn path(&self) -> PathBuf {
        match &self.kind {
            Kind::File(file) => PathBuf::from(&file.aio.filename),
            Kind::Malloc | Kind::Null(_) | Kind::Error(..) | Kind::Delay(..) => PathBuf::from(&self.name),
            Kind::Lvol(alias) => PathBuf::from(alias),
        }
    }
}

/// A bdev over another one that is not there yet.
pub(super) struct Deferred {
    pub(super) name: String,
    pub(super) uuid: Option<Uuid>,
    pub(super) kind: Kind,
}

/// All of them, in the order in which they were made.
#[derive(Default)]
pub(super) struct Bases {
    bases: Vec<Base>,
    /// Lvols that stores are on, under their UUIDs. Clients know them as lvols.
    lvols: Vec<Base>,
}

impl Bases {
    /// All but lvols.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Base> {
        self.bases.iter()
    }

    /// Lvols that stores are on.
    pub(super) fn lvols(&self) -> impl Iterator<Item = &Base> {
        self.lvols.iter()
    }

    fn all(&self) -> impl Iterator<Item = &Base> {
        self.bases.iter().chain(&self.lvols)
    }

    /// By name, or by UUID. No lvols.
    pub(super) fn find(&self, name: &str) -> Option<&Base> {
        let uuid = parse_uuid(name);
        let by_name = self.bases.iter().find(|base| base.name == name);
        by_name.or_else(|| self.bases.iter().find(|base| Some(base.uuid) == uuid))
    }

    /// By name, or by UUID. Lvols too.
    pub(super) fn find_mut(&mut self, name: &str) -> Option<&mut Base> {
        let name = self.find(name).map_or(name, |base| &base.name).to_owned();
        self.bases.iter_mut().chain(&mut self.lvols).find(|base| base.name == name)
    }

    /// The bdev that a store is on.
    pub(super) fn of_store(&self, store: StoreId) -> Option<&Base> {
        self.all().find(|base| matches!(base.holds, Holds::Store(id) if id == store))
    }

    /// The bdev that has the device of another one.
    pub(super) fn over(&self, name: &str) -> Option<&Base> {
        self.bases.iter().find(|base| base.kind.base() == Some(name))
    }

    pub(super) fn add(&mut self, base: Base) {
        match base.kind {
            Kind::Lvol(_) => self.lvols.push(base),
            _ => self.bases.push(base),
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Base> {
        let mut found = None;
        for bases in [&mut self.bases, &mut self.lvols] {
            let index = bases.iter().position(|base| base.name == name);
            found = found.or(index.map(|index| bases.remove(index)));
        }
        found
    }

    /// Whether a thread is at work on any.
    pub(super) fn any_busy(&self) -> bool {
        self.all().any(|base| matches!(base.holds, Holds::Busy))
    }

    /// A name with a number that none has.
    pub(super) fn fresh_name(&self, prefix: &str) -> String {
        let mut number = 0_u64;
        loop {
            let name = format!("{prefix}{number}");
            if self.find(&name).is_none() {
                return name;
            }
            number += 1;
        }
    }
}
