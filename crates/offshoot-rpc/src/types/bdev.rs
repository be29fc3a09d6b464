//! The part of the bdev layer that clients of lvols use.

use super::selector::uuid_text;
use super::vbdev::CreateDelay;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Parameters of `bdev_get_bdevs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetBdevs {
    /// One bdev, by name or alias; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Milliseconds to wait for it to appear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// Parameters of the methods that take a bdev and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BdevName {
    /// The bdev.
    pub name: String,
}

/// Parameters of `bdev_aio_create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateAio {
    /// Its name.
    pub name: String,
    /// The file or block device.
    pub filename: String,
    /// Bytes of a block; 0 or absent: that of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// Whether writes are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// Whether holes are punched for unmap and write zeroes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallocate: Option<bool>,
    /// Its UUID; absent: one is drawn.
    #[serde(default, deserialize_with = "uuid_text", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Whether I/O that would block fails instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nowait: Option<bool>,
}

/// Parameters of `bdev_uring_create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUring {
    /// Its name.
    pub name: String,
    /// The file or block device.
    pub filename: String,
    /// Bytes of a block; 0 or absent: that of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u32>,
    /// Its UUID; absent: one is drawn.
    #[serde(default, deserialize_with = "uuid_text", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}

/// Parameters of `bdev_malloc_create`, without protection information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateMalloc {
    /// Its name; absent: `Malloc` and a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Its UUID; absent: one is drawn.
    #[serde(default, deserialize_with = "uuid_text", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Blocks that one I/O had better not cross.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimal_io_boundary: Option<u32>,
    /// Bytes of a physical block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_block_size: Option<u32>,
}

/// An element of the result of `bdev_get_bdevs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bdev {
    /// Name; of an lvol its UUID.
    pub name: String,
    /// Other names; of an lvol `LVSTORE/LVOL`.
    pub aliases: Vec<String>,
    /// Kind, for humans.
    pub product_name: String,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Blocks.
    pub preferred_write_alignment: u32,
    /// Blocks.
    pub preferred_write_granularity: u32,
    /// Blocks.
    pub optimal_write_size: u32,
    /// Blocks.
    pub preferred_unmap_alignment: u32,
    /// Blocks.
    pub preferred_unmap_granularity: u32,
    /// UUID.
    pub uuid: Uuid,
    /// NUMA node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_id: Option<i32>,
    /// Limits in force.
    pub assigned_rate_limits: RateLimits,
    /// Whether something has it.
    pub claimed: bool,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_type: Option<ClaimType>,
    /// Whether it has zones.
    pub zoned: bool,
    /// What it can do.
    pub supported_io_types: IoTypes,
    /// What only its kind has.
    pub driver_specific: DriverSpecific,
}

/// How something has a bdev.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimType {
    /// Nothing else writes.
    ExclusiveWrite,
    /// One writes, others read.
    ReadManyWriteOne,
    /// Nothing writes.
    ReadManyWriteNone,
    /// Those who share a key write.
    ReadManyWriteShared,
}

/// Limits; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimits {
    /// I/Os.
    pub rw_ios_per_sec: u64,
    /// MiB.
    pub rw_mbytes_per_sec: u64,
    /// MiB read.
    pub r_mbytes_per_sec: u64,
    /// MiB written.
    pub w_mbytes_per_sec: u64,
}

/// What a bdev can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoTypes {
    /// `read`.
    pub read: bool,
    /// `write`.
    pub write: bool,
    /// `unmap`.
    pub unmap: bool,
    /// `flush`.
    pub flush: bool,
    /// `reset`.
    pub reset: bool,
    /// `nvme_admin`.
    pub nvme_admin: bool,
    /// `nvme_io`.
    pub nvme_io: bool,
    /// `nvme_io_md`.
    pub nvme_io_md: bool,
    /// `write_zeroes`.
    pub write_zeroes: bool,
    /// `zcopy`.
    pub zcopy: bool,
    /// `get_zone_info`.
    pub get_zone_info: bool,
    /// `zone_management`.
    pub zone_management: bool,
    /// `zone_append`.
    pub zone_append: bool,
    /// `compare`.
    pub compare: bool,
    /// `compare_and_write`.
    pub compare_and_write: bool,
    /// `abort`.
    pub abort: bool,
    /// `seek_hole`.
    pub seek_hole: bool,
    /// `seek_data`.
    pub seek_data: bool,
    /// `copy`.
    pub copy: bool,
    /// `nvme_iov_md`.
    pub nvme_iov_md: bool,
    /// `nvme_nssr`.
    pub nvme_nssr: bool,
    /// `write_uncorrectable`.
    pub write_uncorrectable: bool,
}

/// What only one kind of bdev has: an object with one member, named after the kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverSpecific {
    /// Of an lvol.
    Lvol(LvolSpecific),
    /// Of a file.
    Aio(AioSpecific),
    /// Of a file through io_uring.
    Uring(UringSpecific),
    /// Of a bdev that fails.
    ErrorDisk(ErrorSpecific),
    /// Of a bdev that is slow.
    Delay(CreateDelay),
    /// Of any other kind.
    #[serde(untagged)]
    Other(BTreeMap<String, serde_json::Value>),
}

/// What only lvols have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LvolSpecific {
    /// Its lvstore.
    pub lvol_store_uuid: Uuid,
    /// The bdev that the lvstore is on.
    pub base_bdev: String,
    /// Whether clusters are allocated when they are written.
    pub thin_provision: bool,
    /// Clusters of its own.
    pub num_allocated_clusters: u64,
    /// Whether it is a snapshot.
    pub snapshot: bool,
    /// Whether its parent is a snapshot.
    pub clone: bool,
    /// The name of that snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_snapshot: Option<String>,
    /// The names of its clones, if it is a snapshot and has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clones: Option<Vec<String>>,
    /// Whether its parent is an external snapshot.
    pub esnap_clone: bool,
    /// The UUID of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_snapshot_name: Option<String>,
}

/// What only files through io_uring have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UringSpecific {
    /// The file.
    pub filename: String,
}

/// What only bdevs that fail have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSpecific {
    /// The bdev behind.
    pub base_bdev: String,
}

/// What only files have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AioSpecific {
    /// The file.
    pub filename: String,
    /// Whether its block size was given.
    pub block_size_override: bool,
    /// Whether writes are refused.
    pub readonly: bool,
    /// Whether holes are punched.
    pub fallocate: bool,
    /// Whether I/O that would block fails instead.
    pub nowait: bool,
}
