//! Bdevs below stores: files and memory.

use super::super::openings::StoreId;
use super::super::served::Device;
use crate::open;
use offshoot_block::DeviceGeometry;
use offshoot_device::{FileDevice, OpenError, OpenOptions};
use offshoot_rpc::types::bdev::AioSpecific;
use offshoot_rpc::types::selector::parse_uuid;
use offshoot_store::{Session, Store};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// An open device without a store.
pub(super) struct Bare {
    pub(super) device: Device,
    /// Under which power it runs.
    pub(super) session: Option<Session>,
}

impl Bare {
    /// Opens a file under an exclusive lock.
    pub(super) fn open(path: &Path, aio: &AioSpecific, block: u32) -> Result<Self, OpenError> {
        open_file(path, aio, block).map(Self::of)
    }

    /// A file that is open.
    pub(super) fn of(file: FileDevice) -> Self {
        let session = open::opening(&file, false).session;
        Self { device: Box::new(file), session }
    }
}

/// Opens the file of a bdev. `block` is 0 or the bytes of a block.
pub(super) fn open_file(path: &Path, aio: &AioSpecific, block: u32) -> Result<FileDevice, OpenError> {
    // Larger blocks are the bdev's own business.
    let logical_block = Some(block).filter(|block| *block == 512);
    let options = OpenOptions { logical_block, read_only: aio.readonly, ..OpenOptions::writable() };
    FileDevice::open(path, &options)
}

/// What a bdev is made of.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A file or block device.
    Aio(AioSpecific),
    /// Memory.
    Malloc,
}

/// What is on a bdev.
pub(super) enum Holds {
    /// No store. A file is open, and locked.
    Nothing(Bare),
    /// A store that is served.
    Store(StoreId),
    /// No store, but stores read through it.
    Snapshot,
    /// A thread is at work on it.
    Busy,
}

/// What a work leaves of a bdev.
pub(super) enum Ground {
    /// A device without a store.
    Nothing(Bare),
    /// A store.
    Store(PathBuf, Box<Store<Device>>),
    /// The bdev is gone.
    Gone,
}

/// A device whose store is closed.
pub(super) fn bare(device: Device, kind: &Kind, block: u32) -> Ground {
    let Kind::Aio(aio) = kind else {
        return Ground::Nothing(Bare { device, session: None });
    };
    // Opened anew: only a file can tell under which power it runs.
    drop(device);
    Bare::open(aio.filename.as_ref(), aio, block).map_or(Ground::Gone, Ground::Nothing)
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
            Kind::Aio(aio) => PathBuf::from(&aio.filename),
            Kind::Malloc => PathBuf::from(&self.name),
        }
    }
}

/// All of them, in the order in which they were made.
#[derive(Default)]
pub(super) struct Bases {
    bases: Vec<Base>,
}

impl Bases {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Base> {
        self.bases.iter()
    }

    /// By name, or by UUID.
    pub(super) fn find(&self, name: &str) -> Option<&Base> {
        let uuid = parse_uuid(name);
        let by_name = self.bases.iter().find(|base| base.name == name);
        by_name.or_else(|| self.bases.iter().find(|base| Some(base.uuid) == uuid))
    }

    pub(super) fn find_mut(&mut self, name: &str) -> Option<&mut Base> {
        let name = self.find(name)?.name.clone();
        self.bases.iter_mut().find(|base| base.name == name)
    }

    /// The bdev that a store is on.
    pub(super) fn of_store(&self, store: StoreId) -> Option<&Base> {
        self.bases.iter().find(|base| matches!(base.holds, Holds::Store(id) if id == store))
    }

    pub(super) fn add(&mut self, base: Base) {
        self.bases.push(base);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.bases.retain(|base| base.name != name);
    }

    /// Whether a thread is at work on any.
    pub(super) fn any_busy(&self) -> bool {
        self.bases.iter().any(|base| matches!(base.holds, Holds::Busy))
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
