//! Statistics of bdevs.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a reset forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResetMode {
    /// Everything.
    All,
    /// The longest and shortest latencies.
    Maxmin,
    /// Errors.
    Error,
    /// Nothing.
    None,
}

/// Parameters of `bdev_get_iostat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetIostat {
    /// Bdevs; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Whether each channel is told by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_channel: Option<bool>,
    /// What is forgotten once it is told; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_mode: Option<ResetMode>,
}

/// Parameters of `bdev_reset_iostat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetIostat {
    /// One bdev; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is forgotten; absent: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ResetMode>,
}

/// The result of `bdev_get_iostat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iostat {
    /// Ticks of a second.
    pub tick_rate: u64,
    /// Now.
    pub ticks: u64,
    /// The bdevs.
    pub bdevs: Vec<BdevIostat>,
}

/// The result of `bdev_get_iostat` with `per_channel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelsIostat {
    /// Ticks of a second.
    pub tick_rate: u64,
    /// Now.
    pub ticks: u64,
    /// The bdev.
    pub name: String,
    /// Its channels.
    pub channels: Vec<ChannelIostat>,
}

/// A channel of [`ChannelsIostat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelIostat {
    /// Its thread.
    pub thread_id: u64,
    /// What was asked over it.
    #[serde(flatten)]
    pub counts: IoCounts,
}

/// A bdev of an [`Iostat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BdevIostat {
    /// Its name; of an lvol its UUID.
    pub name: String,
    /// What was asked of it.
    #[serde(flatten)]
    pub counts: IoCounts,
}

/// What was asked of a bdev.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoCounts {
    /// Bytes read.
    pub bytes_read: u64,
    /// Reads.
    pub num_read_ops: u64,
    /// Bytes written, zeros included.
    pub bytes_written: u64,
    /// Writes, those of zeros included.
    pub num_write_ops: u64,
    /// Bytes unmapped.
    pub bytes_unmapped: u64,
    /// Unmaps.
    pub num_unmap_ops: u64,
    /// Bytes copied.
    pub bytes_copied: u64,
    /// Copies.
    pub num_copy_ops: u64,
    /// Ticks that reads took together.
    pub read_latency_ticks: u64,
    /// The longest.
    pub max_read_latency_ticks: u64,
    /// The shortest.
    pub min_read_latency_ticks: u64,
    /// Ticks that writes took together.
    pub write_latency_ticks: u64,
    /// The longest.
    pub max_write_latency_ticks: u64,
    /// The shortest.
    pub min_write_latency_ticks: u64,
    /// Ticks that unmaps took together.
    pub unmap_latency_ticks: u64,
    /// The longest.
    pub max_unmap_latency_ticks: u64,
    /// The shortest.
    pub min_unmap_latency_ticks: u64,
    /// Ticks that copies took together.
    pub copy_latency_ticks: u64,
    /// The longest.
    pub max_copy_latency_ticks: u64,
    /// The shortest.
    pub min_copy_latency_ticks: u64,
    /// Failures by their kind.
    pub io_error: BTreeMap<String, u64>,
}

/// Parameters of `bdev_enable_histogram`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnableHistogram {
    /// The bdev.
    pub name: String,
    /// Whether latencies are counted from now on; what was counted before is forgotten.
    pub enable: bool,
    /// Only requests of that kind; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opc: Option<String>,
    /// Bits of a bucket's place in its range; absent: 7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<u8>,
    /// The shortest latency that is to be told apart, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_nsec: Option<u64>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_nsec: Option<u64>,
}

/// The result of `bdev_get_histogram`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BdevHistogram {
    /// Counts of 64 bits, little-endian, range by range, in base64.
    pub histogram: String,
    /// Bits of a bucket's place in its range.
    pub granularity: u32,
    /// The first range.
    pub min_range: u32,
    /// The last range.
    pub max_range: u32,
    /// Ticks of a second.
    pub tsc_rate: u64,
}
