//! Parameters and results of lvols.

use super::selector::{LvolSelector, LvstoreSelector, bytes_of_mib};
use crate::error::RpcError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Parameters of `bdev_lvol_create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateLvol {
    /// Its name.
    pub lvol_name: String,
    /// Its size in MiB, which is rounded up to clusters.
    pub size_in_mib: u64,
    /// Whether clusters are allocated when they are written; absent: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thin_provision: Option<bool>,
    /// UUID of the lvstore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Name of the lvstore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvs_name: Option<String>,
    /// What becomes of its clusters when it lets go of them; absent: default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_method: Option<LvolClear>,
    /// Whether what it may need for being overwritten is kept for it; absent: no. Not in SPDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<bool>,
}

impl CreateLvol {
    /// The lvstore.
    ///
    /// # Errors
    /// As [`LvstoreSelector::of`].
    pub fn lvstore(&self) -> Result<LvstoreSelector<'_>, RpcError> {
        LvstoreSelector::of(self.uuid.as_deref(), self.lvs_name.as_deref())
    }

    /// The size in bytes.
    ///
    /// # Errors
    /// As [`bytes_of_mib`].
    pub fn size_bytes(&self) -> Result<u64, RpcError> {
        bytes_of_mib(self.size_in_mib)
    }
}

/// Parameters of `bdev_lvol_snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotLvol {
    /// The lvol.
    pub lvol_name: String,
    /// The name of its snapshot.
    pub snapshot_name: String,
}

impl SnapshotLvol {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.lvol_name)
    }
}

/// Parameters of `bdev_lvol_clone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneLvol {
    /// The snapshot.
    pub snapshot_name: String,
    /// The name of its clone.
    pub clone_name: String,
}

impl CloneLvol {
    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.snapshot_name)
    }
}

/// Parameters of `bdev_lvol_clone_bdev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneBdev {
    /// The external snapshot: name, alias or UUID of a bdev.
    pub bdev: String,
    /// The lvstore.
    pub lvs_name: String,
    /// The name of the clone.
    pub clone_name: String,
}

impl CloneBdev {
    /// The external snapshot.
    #[must_use]
    pub fn snapshot(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.bdev)
    }
}

/// Parameters of `bdev_lvol_rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameLvol {
    /// The lvol.
    pub old_name: String,
    /// Its new name, without the lvstore.
    pub new_name: String,
}

impl RenameLvol {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.old_name)
    }
}

/// Parameters of `bdev_lvol_resize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeLvol {
    /// The lvol.
    pub name: String,
    /// Its new size in MiB, which is rounded up to clusters.
    pub size_in_mib: u64,
}

impl ResizeLvol {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.name)
    }

    /// The size in bytes.
    ///
    /// # Errors
    /// As [`bytes_of_mib`].
    pub fn size_bytes(&self) -> Result<u64, RpcError> {
        bytes_of_mib(self.size_in_mib)
    }
}

/// Parameters of the methods that take an lvol and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LvolName {
    /// The lvol.
    pub name: String,
}

/// Parameters of `bdev_lvol_delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteLvol {
    /// The lvol: UUID or alias.
    pub name: String,
    /// Whether a snapshot with several clones goes out of sight now and goes when one is left; absent: it is refused. Not in SPDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deferred: Option<bool>,
}

impl DeleteLvol {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.name)
    }
}

impl LvolName {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.name)
    }
}

/// Parameters of `bdev_lvol_inflate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InflateLvol {
    /// The lvol.
    pub name: String,
    /// Bytes that may be copied in a second; absent: as many as clients leave room for. Not in SPDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_sec: Option<u64>,
}

impl InflateLvol {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.name)
    }
}

/// Parameters of `bdev_lvol_merge`. Not in SPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeSnapshots {
    /// One snapshot, which goes into its only clone, or several that lie on each other, which go into the newest.
    pub snapshots: Vec<String>,
    /// Bytes that may be copied in a second; absent: as many as clients leave room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_sec: Option<u64>,
}

/// Parameters of `bdev_lvol_decouple_parent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoupleParent {
    /// The lvol.
    pub name: String,
    /// What becomes of what its parent holds for it; absent: keep, as with SPDK, which does not know this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unallocated: Option<Unallocated>,
    /// Bytes that may be copied in a second; absent: as many as clients leave room for. Not in SPDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_sec: Option<u64>,
}

impl DecoupleParent {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.name)
    }
}

/// Parameters of `bdev_lvol_get_lvols`: of which lvstore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetLvols {
    /// Its UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvs_uuid: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvs_name: Option<String>,
}

impl GetLvols {
    /// The lvstore.
    ///
    /// # Errors
    /// As [`LvstoreSelector::of`].
    pub fn lvstore(&self) -> Result<LvstoreSelector<'_>, RpcError> {
        LvstoreSelector::of(self.lvs_uuid.as_deref(), self.lvs_name.as_deref())
    }
}

/// Parameters of `bdev_lvol_set_parent` and `bdev_lvol_set_parent_bdev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetParent {
    /// The lvol.
    pub lvol_name: String,
    /// Its new parent.
    pub parent_name: String,
}

impl SetParent {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.lvol_name)
    }

    /// Its new parent.
    #[must_use]
    pub fn parent(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.parent_name)
    }
}

/// Parameters of `bdev_lvol_revert`. Not in SPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertLvol {
    /// The lvol.
    pub lvol_name: String,
    /// The snapshot, of its family, that it reads from then on.
    pub snapshot_name: String,
}

impl RevertLvol {
    /// The lvol.
    #[must_use]
    pub fn lvol(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.lvol_name)
    }

    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.snapshot_name)
    }
}

/// Parameters of `bdev_lvol_group_snapshot`. Not in SPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSnapshot {
    /// Lvols of one lvstore, and the names of their snapshots.
    pub lvols: Vec<SnapshotLvol>,
}

/// Parameters of `bdev_lvol_diff`. Not in SPDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffLvols {
    /// The lvol that is known already.
    pub from_name: String,
    /// The lvol, of its family, whose ranges are told.
    pub to_name: String,
    /// Ranges that begin before this byte are left out; absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many ranges to tell; absent: 4096.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ranges: Option<u32>,
}

impl DiffLvols {
    /// The lvol that is known already.
    #[must_use]
    pub fn from(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.from_name)
    }

    /// The lvol whose ranges are told.
    #[must_use]
    pub fn to(&self) -> LvolSelector<'_> {
        LvolSelector::new(&self.to_name)
    }
}

/// The result of `bdev_lvol_diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LvolDiff {
    /// Size in bytes.
    pub from_size: u64,
    /// Size in bytes.
    pub to_size: u64,
    /// Ascending.
    pub ranges: Vec<DiffRange>,
    /// `offset` for those that follow; absent: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
}

/// A range of an [`LvolDiff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRange {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Whether it reads zeros that are not stored.
    pub zero: bool,
}

/// What becomes of the clusters of an lvol when it lets go of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LvolClear {
    /// What the lvstore does.
    Default,
    /// They stay as they are.
    None,
    /// They are unmapped.
    Unmap,
    /// Zeros are written.
    WriteZeroes,
}

/// What becomes of what the parent of a decoupled lvol holds for it. Not in SPDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unallocated {
    /// It is copied.
    Keep,
    /// It reads zeros.
    Zero,
}

/// An element of the result of `bdev_lvol_get_lvols`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lvol {
    /// `LVSTORE/LVOL`.
    pub alias: String,
    /// UUID.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// Whether clusters are allocated when they are written.
    pub is_thin_provisioned: bool,
    /// Whether it is a snapshot.
    pub is_snapshot: bool,
    /// Whether its parent is a snapshot.
    pub is_clone: bool,
    /// Whether its parent is an external snapshot.
    pub is_esnap_clone: bool,
    /// Whether its external snapshot, or that of an ancestor, is missing.
    pub is_degraded: bool,
    /// Clusters of its own.
    pub num_allocated_clusters: u64,
    /// Its lvstore.
    pub lvs: LvstoreRef,
}

/// The lvstore of an [`Lvol`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LvstoreRef {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: Uuid,
}
