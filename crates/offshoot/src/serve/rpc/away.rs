//! Bdevs that are to come back with their stores.

use super::super::qos::Limits;
use super::bases::FileBdev;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// When to look for what is away, or whether it is: after that time at first, after twice as long each further time, at most
/// after that.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// When to do something again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub(super) pause: Duration,
    pub(super) next: Instant,
}

impl Retry {
    pub(super) fn new(now: Instant) -> Self {
        Self { pause: RETRY.0, next: now + RETRY.0 }
    }

    /// Whether it is time. If so the next time is later.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now;
        if is_due {
            self.pause = (self.pause * 2).min(RETRY.1);
            self.next = now + self.pause;
        }
        is_due
    }
}

/// A bdev that is to come back with its store.
pub(super) struct Away {
    pub(super) name: String,
    pub(super) uuid: Uuid,
    pub(super) file: FileBdev,
    pub(super) block: u32,
    /// Its lvols, and their limits.
    pub(super) limits: Vec<(Uuid, Limits)>,
    pub(super) retry: Retry,
}
