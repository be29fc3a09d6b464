//! The methods about the server itself.

use serde::{Deserialize, Serialize};

/// Parameters of `rpc_get_methods`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetMethods {
    /// Only what can be called now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<bool>,
    /// Deprecated names too. There are none in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_aliases: Option<bool>,
}

/// A signal to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// Ends it in order.
    #[serde(rename = "SIGINT")]
    Int,
    /// Ends it in order.
    #[serde(rename = "SIGTERM")]
    Term,
    /// Kills it, with a core file.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// Has it read its configuration again, if it has one.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// Kills it.
    #[serde(rename = "SIGKILL")]
    Kill,
    /// Kills it.
    #[serde(rename = "SIGUSR1")]
    Usr1,
}

/// Parameters of `spdk_kill_instance`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillInstance {
    /// The signal that the server sends itself.
    pub sig_name: Signal,
}

/// The result of `spdk_get_version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// A line for humans.
    pub version: String,
    /// The same in parts.
    pub fields: VersionFields,
}

impl Version {
    /// The SPDK that clients shall take this server for, whose methods it follows, and its own version behind that.
    #[must_use]
    pub fn compatible(own: &str) -> Self {
        let suffix = format!("-pre (offshoot {own})");
        let (major, minor, patch) = (26, 9, 0);
        let version = format!("SPDK v{major}.{minor:02}{suffix}");
        Self { version, fields: VersionFields { major, minor, patch, suffix, commit: None } }
    }
}

/// The parts of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionFields {
    /// Year.
    pub major: u32,
    /// Month.
    pub minor: u32,
    /// Maintenance release.
    pub patch: u32,
    /// What follows.
    pub suffix: String,
    /// The commit it was built from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}
