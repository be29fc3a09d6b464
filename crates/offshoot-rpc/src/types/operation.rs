//! Long operations: what they are, how far they are. Not in SPDK.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Parameters of `bdev_lvol_cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelOperation {
    /// The operation.
    pub operation_id: u32,
}

/// What a long operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// An lvol comes to hold all that it reads.
    Inflate,
    /// A clone comes to hold what its parent holds.
    Decouple,
    /// Snapshots go into what lies on them.
    Merge,
    /// A store becomes one that SPDK can open.
    Seal,
    /// A store is made.
    CreateLvstore,
    /// A store becomes larger, or gets more md pages.
    Grow,
    /// A thick lvol is made.
    Create,
    /// An lvol gets more clusters.
    Resize,
    /// What an lvol holds is put onto a bdev.
    ShallowCopy,
    /// Something that this version has no word for.
    #[serde(other)]
    Other,
}

/// Where a long operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationState {
    /// Under way.
    #[serde(rename = "in progress")]
    InProgress,
    /// Done.
    #[serde(rename = "complete")]
    Complete,
    /// Failed, or ended before it was done.
    #[serde(rename = "error")]
    Error,
}

/// An element of the result of `bdev_lvol_get_operations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Names it as long as the server runs.
    pub operation_id: u32,
    /// What it does.
    pub kind: OperationKind,
    /// The lvol that it is about; absent: the whole lvstore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvol_uuid: Option<Uuid>,
    /// The same as `LVSTORE/LVOL`, as it was when the operation began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvol_name: Option<String>,
    /// The lvstore.
    pub lvs_name: String,
    /// Where it is.
    pub state: OperationState,
    /// Bytes copied or zeroed.
    pub bytes_done: u64,
    /// Bytes to copy or zero, as far as that is known: lvols are in use meanwhile.
    pub total_bytes: u64,
    /// Clusters done.
    pub clusters_done: u64,
    /// Clusters to do.
    pub total_clusters: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
