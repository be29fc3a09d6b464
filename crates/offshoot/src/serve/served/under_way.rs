//! What is under way in a store.

use super::super::qos::Limiter;
use super::Served;
use offshoot_block::BlockDevice as _;
use offshoot_rpc::types::state::StoreState;
use std::time::Instant;

impl Served {
    /// What the store is at.
    pub(in super::super) fn under_way(&self, now: Instant) -> StoreState {
        let (engine, state) = (self.engine(), self.engine().state());
        let (fill, counters) = (engine.journal_fill(), engine.counters());
        let held = || self.limiters.values().flat_map(Limiter::waiting).map(|limited| limited.since);
        let oldest = self.pending.values().map(|pending| pending.since).chain(held()).min();
        let millis = |since| u64::try_from(now.saturating_duration_since(since).as_millis());
        StoreState {
            name: state.name(),
            path: self.path.display().to_string(),
            read_only: engine.is_read_only() || engine.failure().is_some(),
            failure: engine.failure().map(|cause| cause.to_string()),
            requests: self.pending.len(),
            held_requests: held().count(),
            oldest_request_ms: oldest.map(|since| millis(since).unwrap_or(u64::MAX)),
            requests_by_connection: self.in_flight(),
            verbs: self.verbs.len(),
            jobs: self.jobs.count(),
            own_requests: self.own.len(),
            device_operations: self.devices().map(|device| device.outstanding()).sum(),
            uncovered: engine.needs_tick(),
            dying_clusters: state.space().pending_free,
            journal_bytes: fill.size,
            journal_used_bytes: fill.used,
            journal_frames: counters.frames,
            checkpoints: counters.checkpoints,
            barriers: counters.barriers,
        }
    }
}
