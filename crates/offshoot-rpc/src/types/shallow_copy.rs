//! Parameters and results of shallow copies.

use super::operation::OperationState;
use super::selector::LvolSelector;
use serde::{Deserialize, Serialize};

/// Parameters of `bdev_lvol_start_shallow_copy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartShallowCopy {
    /// The lvol whose own clusters are copied.
    pub src_lvol_name: String,
    /// The bdev that they are copied to.
    pub dst_bdev_name: String,
}

impl StartShallowCopy {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.src_lvol_name)
    }
}

/// Parameters of `bdev_lvol_check_shallow_copy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckShallowCopy {
    /// What [`ShallowCopyStarted`] told.
    pub operation_id: u32,
}

/// The result of `bdev_lvol_start_shallow_copy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShallowCopyStarted {
    /// Names the copy; counted from 1.
    pub operation_id: u32,
}

/// The result of `bdev_lvol_check_shallow_copy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShallowCopyProgress {
    /// Clusters done.
    pub copied_clusters: u64,
    /// Clusters to do.
    pub total_clusters: u64,
    /// Where it is.
    pub state: OperationState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
