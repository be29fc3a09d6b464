//! Devices of the kernel's that lvols are attached to.

use offshoot_nbd::kernel::{KernelDisk, KernelError};
use offshoot_nbd::{ExportId, ExportInfo};
use offshoot_rpc::types::nbd::Disk as DiskEntry;
use std::os::fd::OwnedFd;
use uuid::Uuid;

/// The devices that lvols are attached to.
#[derive(Debug, Default)]
pub(super) struct Disks {
    pub(super) attached: Vec<Disk>,
    /// How many there have been.
    pub(super) counted: u64,
    /// Whether no more come.
    pub(super) ending: bool,
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) tag: u64,
    pub(super) device: KernelDisk,
    pub(super) lvol: Uuid,
    /// What the kernel calls this server.
    pub(super) backend: String,
    /// Whether it is being disconnected.
    pub(super) going: bool,
    /// Whether its connection has ended while that was so.
    pub(super) parted: bool,
}

/// What has become of a call to the kernel.
pub(super) enum DiskDone {
    Attached(Attaching, Result<(KernelDisk, OwnedFd), KernelError>),
    /// The device with this tag.
    Detached(u64, Result<(), KernelError>),
    /// One whose connection had ended before.
    Disconnected(KernelDisk, Result<(), KernelError>),
}

/// An lvol that is about to have a device.
pub(super) struct Attaching {
    pub(super) lvol: Uuid,
    pub(super) export: ExportId,
    pub(super) info: ExportInfo,
    pub(super) backend: String,
    /// Where else it can be reached.
    pub(super) uri: Option<String>,
}

impl Disks {
    pub(super) fn find(&mut self, path: &str) -> Option<&mut Disk> {
        let device = KernelDisk::parse(path)?;
        self.attached.iter_mut().find(|disk| disk.device == device)
    }

    /// The devices, and their lvols.
    pub(super) fn entries(&self) -> impl Iterator<Item = DiskEntry> {
        self.attached.iter().map(|disk| DiskEntry {
            nbd_device: disk.device.path().display().to_string(),
            bdev_name: disk.lvol.to_string(),
        })
    }
}
