//! Bdevs without a medium of their own, for tests and measurements: none, one that fails, one that is slow.

use super::selector::uuid_text;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Parameters of `bdev_null_create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateNull {
    /// Its name.
    pub name: String,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Its UUID; absent: one is drawn.
    #[serde(default, deserialize_with = "uuid_text", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Bytes of a physical block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_block_size: Option<u32>,
    /// Bytes of metadata of each block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md_size: Option<u32>,
    /// Kind of protection information; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dif_type: Option<i32>,
    /// Its format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dif_pi_format: Option<u32>,
    /// Whether it stands before the other metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dif_is_head_of_md: Option<bool>,
    /// Blocks, told as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_write_granularity: Option<u32>,
    /// Blocks, told as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_write_alignment: Option<u32>,
    /// Blocks, told as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimal_write_size: Option<u32>,
    /// Blocks, told as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_unmap_granularity: Option<u32>,
    /// Blocks, told as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_unmap_alignment: Option<u32>,
}

/// Parameters of `bdev_null_resize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeNull {
    /// The bdev.
    pub name: String,
    /// MiB.
    pub new_size: u64,
}

/// Parameters of `bdev_error_create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateError {
    /// The bdev behind. It is called `EE_` and that name.
    pub base_name: String,
    /// Its UUID; absent: one is drawn.
    #[serde(default, deserialize_with = "uuid_text", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}

/// Which operations a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultyIo {
    /// None any more.
    Clear,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Unmaps.
    Unmap,
    /// Flushes.
    Flush,
    /// All of them.
    All,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultType {
    /// The operation fails.
    Failure,
    /// It does not end.
    Pending,
    /// A byte is another one.
    CorruptData,
    /// There is no memory for it.
    Nomem,
    /// It fails with an error of NVMe's.
    NvmeFailure,
}

/// Parameters of `bdev_error_inject_error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectError {
    /// The bdev.
    pub name: String,
    /// What is struck.
    pub io_type: FaultyIo,
    /// How.
    pub error_type: FaultType,
    /// Status code type of an NVMe error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvme_sct: Option<u32>,
    /// Status code of an NVMe error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvme_sc: Option<u32>,
    /// How often; absent: once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num: Option<u32>,
    /// Operations that must be under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u64>,
    /// Which byte of the operation is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt_offset: Option<u64>,
    /// Which of its bits are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt_value: Option<u8>,
}

/// Parameters of `bdev_delay_create`, and what `bdev_get_bdevs` tells of such a bdev.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateDelay {
    /// Its name.
    pub name: String,
    /// The bdev behind.
    pub base_bdev_name: String,
    /// Microseconds of most reads.
    pub avg_read_latency: u64,
    /// Microseconds of one read in a hundred.
    pub p99_read_latency: u64,
    /// Microseconds of most writes.
    pub avg_write_latency: u64,
    /// Microseconds of one write in a hundred.
    pub p99_write_latency: u64,
    /// Its UUID; absent: one is drawn.
    #[serde(default, deserialize_with = "uuid_text", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}

/// Parameters of `bdev_delay_update_latency`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateLatency {
    /// The bdev.
    pub delay_bdev_name: String,
    /// `avg_read`, `p99_read`, `avg_write` or `p99_write`.
    pub latency_type: String,
    /// Microseconds.
    pub latency_us: u64,
}
