//! What has happened, for those who ask.

use serde::{Deserialize, Serialize};

/// Parameters of `notify_get_notifications`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetNotifications {
    /// The first that is wanted; absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// How many at most; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// One that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// What happened, one of `notify_get_types`.
    #[serde(rename = "type")]
    pub kind: String,
    /// To what: the name of a bdev or a store.
    pub ctx: String,
    /// Its number, one more than that of the one before.
    pub id: u64,
}
