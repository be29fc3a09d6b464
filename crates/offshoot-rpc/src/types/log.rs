//! What is logged.

use serde::{Deserialize, Serialize};

/// Levels of a log, the more important ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// What cannot be done.
    Error,
    /// What should be looked at.
    Warning,
    /// What is out of the ordinary.
    Notice,
    /// What happens.
    Info,
    /// Each step.
    Debug,
}

/// Parameters of `log_set_level` and `log_set_print_level`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLogLevel {
    /// Up to which level is logged.
    pub level: LogLevel,
}

/// Parameters of `log_set_flag` and `log_clear_flag`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFlag {
    /// A part of the server, or `all`.
    pub flag: String,
}
