//! What a server is at. Not in SPDK.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The result of `framework_dump_state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Milliseconds since it was started.
    pub uptime_ms: u64,
    /// Calls over RPC that wait for a verb or a job.
    pub waiting_calls: usize,
    /// Threads that make, open or close stores.
    pub threads: usize,
    /// Calls that wait for a bdev to appear.
    pub waiting_for_bdevs: usize,
    /// Connections that have an lvol open, by the lvol's UUID, where there are any.
    pub connections: BTreeMap<String, usize>,
    /// Each store.
    pub stores: Vec<StoreState>,
}

/// One store in a [`ServerState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreState {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub path: String,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// Why it takes none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Requests of clients that are not answered yet, those that limits hold up left out.
    pub requests: usize,
    /// Requests that limits hold up.
    pub held_requests: usize,
    /// How long the oldest of both has been there, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_request_ms: Option<u64>,
    /// Requests by connection, where there are any.
    pub requests_by_connection: BTreeMap<u64, u64>,
    /// Verbs and jobs that somebody waits for.
    pub verbs: usize,
    /// Jobs.
    pub jobs: usize,
    /// Requests of the server's own, as for shallow copies.
    pub own_requests: usize,
    /// Operations that the device has not completed.
    pub device_operations: usize,
    /// Whether something is acknowledged that no barrier covers yet.
    pub uncovered: bool,
    /// Clusters of what was removed that are coming free.
    pub dying_clusters: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of it that a crash would replay.
    pub journal_used_bytes: u64,
    /// Appends to it, since the store is open.
    pub journal_frames: u64,
    /// Checkpoints, since the store is open.
    pub checkpoints: u64,
    /// Barriers, since the store is open.
    pub barriers: u64,
}
