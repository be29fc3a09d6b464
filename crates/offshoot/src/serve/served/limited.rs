//! Requests to lvols with limits, until those let them pass.

use super::super::qos::{Limiter, Limits};
use super::{Served, asked};
use offshoot_format::BlobId;
use offshoot_nbd::{BufferPool, Command, Reply, RequestId};
use std::time::Instant;

/// A command that came at that time.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) id: RequestId,
    pub(super) command: Command,
    pub(super) since: Instant,
}

impl Served {
    /// Limits what clients may ask of an lvol from now on, or does not any more.
    pub(in super::super) fn set_limits(&mut self, lvol: BlobId, limits: Limits) {
        let now = Instant::now();
        match self.limiters.get_mut(&lvol) {
            Some(limiter) => limiter.set(limits, now),
            None if limits.any() => {
                self.limiters.insert(lvol, Limiter::new(limits, now));
            }
            None => {}
        }
    }

    /// What clients may ask of an lvol.
    pub(in super::super) fn limits(&self, lvol: BlobId) -> Limits {
        self.limiters.get(&lvol).map(Limiter::limits).unwrap_or_default()
    }

    /// Requests to an lvol that its limits held up, ever. `None`: it never had any limits.
    pub(in super::super) fn held_up(&self, lvol: BlobId) -> Option<u64> {
        self.limiters.get(&lvol).map(Limiter::held)
    }

    /// Hands a request back that may pass at once. Another waits.
    pub(super) fn limit(&mut self, lvol: BlobId, limited: Limited) -> Option<Limited> {
        let Some(limiter) = self.limiters.get_mut(&lvol) else {
            return Some(limited);
        };
        let (op, bytes) = asked(&limited.command);
        let now = limited.since;
        limiter.admit(op, bytes, limited, now)
    }

    /// Passes on what waited long enough. Some of it is answered at once.
    pub(super) fn release_limited(&mut self, pool: &mut BufferPool, replies: &mut Vec<(RequestId, Reply)>) {
        if self.limiters.is_empty() {
            return;
        }
        let now = Instant::now();
        let limited = self.limiters.iter_mut().flat_map(|(lvol, limiter)| {
            std::iter::from_fn(move || limiter.release(now)).map(|limited| (*lvol, limited))
        });
        for (lvol, limited) in limited.collect::<Vec<_>>() {
            let id = limited.id;
            replies.extend(self.pass_on(lvol, limited, pool).map(|reply| (id, reply)));
        }
    }

    /// Takes out the requests of a connection that is gone. Nobody waits for what they would have done.
    pub(in super::super) fn abandon_limited(&mut self, connection: u64) -> Vec<RequestId> {
        let is_unwanted = |limited: &Limited| limited.id.connection() == connection;
        let limiters = self.limiters.values_mut();
        let taken = limiters.flat_map(|limiter| limiter.take_out(is_unwanted));
        taken.map(|limited| limited.id).collect()
    }

    /// When the next request that waits may pass.
    pub(super) fn limits_deadline(&self) -> Option<Instant> {
        self.limiters.values().filter_map(Limiter::deadline).min()
    }
}
