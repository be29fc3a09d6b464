//! The manifests of golden stores, as SPDK's answers were written down. Every key is known here: one that is not
//! is an error, so that nothing SPDK said goes unread by accident.

use serde::Deserialize;
use serde_json::Value;

/// `manifest.json` of a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) description: String,
    /// The version of SPDK that made the store.
    pub(crate) spdk: String,
    pub(crate) image_bytes: u64,
    /// The logical block of the device.
    pub(crate) base_block_size: u32,
    /// How SPDK ended: `clean (SIGTERM)` or a kill.
    pub(crate) shutdown: String,
    pub(crate) super_block: SuperBlock,
    /// What SPDK said while the store was in use.
    pub(crate) live_before_stop: State,
    /// What SPDK said after loading the store again.
    pub(crate) after_reload: Option<State>,
    pub(crate) reload_error: Option<String>,
    /// By lvol: the content as read through SPDK from a copy of the store.
    pub(crate) sha256_via_spdk_dd_on_copy: std::collections::BTreeMap<String, String>,
    pub(crate) esnap_bdev: Option<ExternalDevice>,
    pub(crate) operations: Vec<Operation>,
}

/// The manifest of a store whose SPDK was killed in the middle of an operation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CutManifest {
    pub(crate) operation: String,
    /// Counted from 1, an index into `all_writes_of_op`.
    pub(crate) killed_before_write: u32,
    /// How much of that write reached the disk.
    pub(crate) torn_bytes_written: u32,
    pub(crate) write_target: String,
    pub(crate) all_writes_of_op: Vec<DeviceWrite>,
    pub(crate) op_result: String,
    pub(crate) state_before: State,
    pub(crate) state_if_completed: State,
    /// What SPDK made of it; `None` where SPDK did not survive loading it.
    pub(crate) after_reload: Option<State>,
    pub(crate) reload_error: Option<String>,
    /// `pre`, `post`, `other`, or `?` where there is no `after_reload`.
    pub(crate) verdict: String,
    pub(crate) super_block: SuperBlock,
}

/// A write to the device below the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceWrite {
    #[serde(rename = "n")]
    pub(crate) number: u32,
    /// In bytes.
    #[serde(rename = "off")]
    pub(crate) offset: u64,
    /// In bytes.
    #[serde(rename = "len")]
    pub(crate) length: u64,
    pub(crate) what: String,
}

/// The super block as it stands in the image (`spdk_bs_super_block`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuperBlock {
    pub(crate) signature: String,
    pub(crate) version: u32,
    pub(crate) length: u32,
    pub(crate) clean: u32,
    pub(crate) super_blob: u64,
    pub(crate) cluster_size: u32,
    pub(crate) used_page_mask_start: u32,
    pub(crate) used_page_mask_len: u32,
    pub(crate) used_cluster_mask_start: u32,
    pub(crate) used_cluster_mask_len: u32,
    pub(crate) md_start: u32,
    pub(crate) md_len: u32,
    pub(crate) bstype: String,
    pub(crate) used_blobid_mask_start: u32,
    pub(crate) used_blobid_mask_len: u32,
    pub(crate) size: u64,
    pub(crate) io_unit_size: u32,
    pub(crate) md_page_size: u32,
    pub(crate) crc: u32,
}

/// SPDK's answers to `bdev_lvol_get_lvstores` and `bdev_lvol_get_lvols`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) lvstores: Vec<Lvstore>,
    pub(crate) lvols: Vec<Lvol>,
}

/// An lvstore as SPDK reports it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lvstore {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) base_bdev: String,
    pub(crate) total_data_clusters: u64,
    pub(crate) free_clusters: u64,
    pub(crate) block_size: u32,
    pub(crate) cluster_size: u32,
    pub(crate) max_growable_size: u64,
}

/// An lvol as SPDK reports it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lvol {
    /// `LVSTORE/NAME`.
    pub(crate) alias: String,
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) is_thin_provisioned: bool,
    pub(crate) is_snapshot: bool,
    pub(crate) is_clone: bool,
    pub(crate) is_esnap_clone: bool,
    pub(crate) is_degraded: bool,
    /// Clusters that the lvol itself holds.
    pub(crate) num_allocated_clusters: u64,
    pub(crate) block_size: u32,
    pub(crate) num_blocks: u64,
    pub(crate) size_bytes: u64,
    /// The name of the parent, if it has one in this store.
    pub(crate) base_snapshot: Option<String>,
    /// The names of the clones.
    #[serde(default)]
    pub(crate) clones: Vec<String>,
    /// The parent's id, if the parent is an external snapshot.
    pub(crate) external_snapshot_name: Option<String>,
    /// Of the whole content.
    pub(crate) sha256: Option<String>,
}

/// The device that serves as external snapshot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExternalDevice {
    pub(crate) filename: String,
    pub(crate) name: String,
    pub(crate) block_size: u32,
    pub(crate) uuid: String,
}

/// One step of how a store was made.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Operation {
    Rpc(Rpc),
    Write { nvme_write: Write },
}

/// An RPC and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rpc {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) result: Value,
}

/// A write to an lvol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    pub(crate) lvol: String,
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) length: u64,
    /// `SHAKE128('SEED')`.
    pub(crate) data: String,
}
