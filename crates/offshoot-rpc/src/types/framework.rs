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

/// The result of `framework_get_reactors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reactors {
    /// Ticks in a second.
    pub tick_rate: u64,
    /// The process.
    pub pid: u32,
    /// Its reactors.
    pub reactors: Vec<Reactor>,
}

/// A thread that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reactor {
    /// The core that it is on.
    pub lcore: usize,
    /// The thread.
    pub tid: i32,
    /// Ticks in which it did something, since the server began.
    pub busy: u64,
    /// All others.
    pub idle: u64,
    /// Whether it sleeps when there is nothing to do.
    pub in_interrupt: bool,
    /// What the core did for interrupts, in ticks of `/proc/stat`.
    pub irq: u64,
    /// What it did for the system, in the same.
    pub sys: u64,
    /// What runs on it.
    pub lw_threads: Vec<ReactorThread>,
}

/// What SPDK calls a thread: a part of a reactor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactorThread {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// The cores that it may be on, in hexadecimal.
    pub cpumask: String,
    /// Ticks since it began.
    pub elapsed: u64,
}

/// The result of `framework_get_scheduler`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// Its name.
    pub scheduler_name: String,
    /// How often it looks, in microseconds.
    pub scheduler_period: u64,
    /// Cores that it leaves alone, in hexadecimal.
    pub isolated_core_mask: String,
    /// The core that it is on.
    pub scheduling_core: usize,
}

/// Parameters of `framework_set_scheduler`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetScheduler {
    /// Its name.
    pub name: String,
    /// How often it looks, in microseconds; absent or 0: as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// A parameter of the dynamic scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_limit: Option<u8>,
    /// A parameter of the dynamic scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_limit: Option<u8>,
    /// A parameter of the dynamic scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_busy: Option<u8>,
    /// Which threads belong on which cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mappings: Option<String>,
}

/// Parameters and result of `framework_monitor_context_switch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextSwitchMonitor {
    /// Whether the log tells of switches.
    pub enabled: bool,
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
