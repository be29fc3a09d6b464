//! A server's configuration: the calls that bring it about, as `save_config` of SPDK's `rpc.py` writes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A configuration: the parameters of `load_config` and the result of `save_config`, neither in SPDK, where both are the
/// client's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its parts, in the order in which they are loaded.
    pub subsystems: Vec<Subsystem>,
}

impl Config {
    /// All calls, in their order.
    pub fn into_calls(self) -> impl Iterator<Item = ConfigCall> {
        self.subsystems.into_iter().flat_map(|subsystem| subsystem.config.unwrap_or_default())
    }
}

/// A part of a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subsystem {
    /// Its name.
    pub subsystem: String,
    /// Its calls.
    pub config: Option<Vec<ConfigCall>>,
}

/// A call in a [`Config`], and in the result of `framework_get_config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigCall {
    /// The method.
    pub method: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
}

/// Parameters of `framework_get_config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetConfig {
    /// The subsystem.
    pub name: String,
    /// Whether calls may come as batches. Changes nothing: none of these do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_batches: Option<bool>,
}

/// One of `framework_get_subsystems`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubsystemInfo {
    /// Its name.
    pub subsystem: String,
    /// Those that come before it.
    pub depends_on: Vec<String>,
}
