//! `serve --slow-io`: a word in the log about each request that takes long, but not about each of a flood of them.

use std::time::{Duration, Instant};

/// How many are told of in a second.
const TOLD_PER_SECOND_MAX: u32 = 10;

/// Which requests are worth a word.
#[derive(Clone, Debug)]
pub(super) struct SlowLog {
    threshold: Duration,
    /// The second that is counted.
    second: Option<Instant>,
    /// Told of in it.
    told: u32,
    /// Not told of since the last that was.
    left_out: u64,
}

impl SlowLog {
    /// Those that take that long.
    pub(super) fn new(threshold: Duration) -> Self {
        Self { threshold, second: None, told: 0, left_out: 0 }
    }

    /// Whether a request that took so long is told of, and then how many were not before it.
    pub(super) fn tell(&mut self, took: Duration, now: Instant) -> Option<u64> {
        if took < self.threshold {
            return None;
        }
        if self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.told) = (Some(now), 0);
        }
        if self.told == TOLD_PER_SECOND_MAX {
            self.left_out += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_are_told_and_the_others_are_counted() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let long = Duration::from_millis(100);
        let mut log = SlowLog::new(long);
        assert_eq!(log.tell(long - Duration::from_nanos(1), start), None);
        let told: Vec<_> = (0..15).map(|millis| log.tell(long, at(millis))).collect();
        assert_eq!((&told[..10], &told[10..]), (&[Some(0); 10][..], &[None; 5][..]));
        assert_eq!(log.tell(long, at(999)), None);
        assert_eq!(log.tell(long, at(1000)), Some(6));
        assert_eq!(log.tell(long, at(1001)), Some(0));
    }
}
