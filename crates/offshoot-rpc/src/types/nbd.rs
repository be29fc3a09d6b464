//! Parameters and results of NBD exports: over sockets, and as devices of the kernel's as with SPDK.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Parameters of `nbd_start_disk`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartDisk {
    /// The bdev.
    pub bdev_name: String,
    /// The device of the kernel's; absent: the first that is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbd_device: Option<String>,
}

/// Parameters of `nbd_stop_disk`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopDisk {
    /// The device of the kernel's.
    pub nbd_device: String,
}

/// Parameters of `nbd_get_disks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetDisks {
    /// One device; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbd_device: Option<String>,
}

/// An element of the result of `nbd_get_disks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The device of the kernel's.
    pub nbd_device: String,
    /// The bdev that it shows.
    pub bdev_name: String,
}

/// Parameters of `nbd_export` and `nbd_unexport`. Not in SPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportLvol {
    /// The lvol: UUID or alias.
    pub bdev_name: String,
}

/// Parameters of `nbd_allow`. Not in SPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowClients {
    /// The lvol: UUID or alias.
    pub bdev_name: String,
    /// Who may open it; absent: those whom the server was started with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<String>>,
}

/// Parameters of `nbd_get_exports`. Not in SPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetExports {
    /// One lvol; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bdev_name: Option<String>,
}

/// The result of `nbd_export`, and an element of that of `nbd_get_exports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The lvol.
    pub bdev_name: Uuid,
    /// What NBD clients call it.
    pub name: String,
    /// Where they find it: an NBD URI for each place that the server listens on.
    pub uris: Vec<String>,
    /// How many are connected.
    pub connections: u64,
    /// Who may open it, where that was said of it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Vec<String>>,
}
