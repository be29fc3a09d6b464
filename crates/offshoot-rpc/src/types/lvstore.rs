//! Parameters and results of lvstores.

use super::selector::LvstoreSelector;
use crate::error::RpcError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Parameters of `bdev_lvol_create_lvstore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateLvstore {
    /// The bdev to make it on.
    pub bdev_name: String,
    /// Its name.
    pub lvs_name: String,
    /// Bytes of a cluster; 0 or absent: 4 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_sz: Option<u32>,
    /// What becomes of the data region; absent: unmap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_method: Option<LvstoreClear>,
    /// Md pages per 100 clusters; 0 or absent: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_md_pages_per_cluster_ratio: Option<u32>,
    /// Bytes of an md page; 0 or absent: that of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md_page_size: Option<u32>,
}

/// Parameters of `bdev_lvol_delete_lvstore`: which lvstore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteLvstore {
    /// Its UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvs_name: Option<String>,
}

impl DeleteLvstore {
    /// The lvstore.
    ///
    /// # Errors
    /// As [`LvstoreSelector::of`].
    pub fn lvstore(&self) -> Result<LvstoreSelector<'_>, RpcError> {
        LvstoreSelector::of(self.uuid.as_deref(), self.lvs_name.as_deref())
    }
}

/// Parameters of `bdev_lvol_get_lvstores`: which lvstore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetLvstores {
    /// Its UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvs_name: Option<String>,
}

impl GetLvstores {
    /// The lvstore.
    ///
    /// # Errors
    /// As [`LvstoreSelector::of`].
    pub fn lvstore(&self) -> Result<LvstoreSelector<'_>, RpcError> {
        LvstoreSelector::of(self.uuid.as_deref(), self.lvs_name.as_deref())
    }
}

/// Parameters of `bdev_lvol_grow_lvstore`: which lvstore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowLvstore {
    /// Its UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lvs_name: Option<String>,
}

impl GrowLvstore {
    /// The lvstore.
    ///
    /// # Errors
    /// As [`LvstoreSelector::of`].
    pub fn lvstore(&self) -> Result<LvstoreSelector<'_>, RpcError> {
        LvstoreSelector::of(self.uuid.as_deref(), self.lvs_name.as_deref())
    }
}

/// Parameters of `bdev_lvol_rename_lvstore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameLvstore {
    /// The lvstore.
    pub old_name: String,
    /// Its new name.
    pub new_name: String,
}

/// What becomes of the data region of a new lvstore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LvstoreClear {
    /// It is unmapped.
    Unmap,
    /// Zeros are written.
    WriteZeroes,
    /// It stays as it is.
    None,
}

/// An element of the result of `bdev_lvol_get_lvstores`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lvstore {
    /// UUID.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// The bdev that it is on.
    pub base_bdev: String,
    /// Clusters that lvols can have.
    pub total_data_clusters: u64,
    /// Clusters that no lvol has.
    pub free_clusters: u64,
    /// Bytes of an io unit.
    pub block_size: u64,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Bytes up to which it can grow.
    pub max_growable_size: u64,
}
