//! What the server needs from whoever carries out methods.

use crate::request::{Reply, Request};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Names one request between [`Backend::submit`] and its reply. The server chooses it and uses the same value again once
/// the request has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The connection that it came over, for telling those that there are at one time apart.
    #[must_use]
    pub const fn connection(self) -> u64 {
        self.0 >> 32
    }
}

/// Carries out requests.
///
/// The server calls it from one thread, and no method may block. Requests may be answered in any order.
pub trait Backend {
    /// Takes a request, which is answered exactly once, by [`Backend::poll`].
    fn submit(&mut self, id: RequestId, request: Request);

    /// A connection is gone, see [`RequestId::connection`], and all its requests have been answered.
    fn closed(&mut self, _connection: u64) {}

    /// Makes progress and appends what has been answered. Also clears the readiness of [`Backend::wakeup`].
    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>);

    /// A descriptor that is readable when [`Backend::poll`] may have something new; the same one for the backend's whole
    /// life. `None` when all work happens inside `poll`. Only [`crate::Server::run`] asks.
    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether `poll` should be called again at once instead of sleeping. Only [`crate::Server::run`] asks.
    fn busy(&self) -> bool {
        false
    }

    /// When `poll` is to be called at the latest. Only [`crate::Server::run`] asks.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
