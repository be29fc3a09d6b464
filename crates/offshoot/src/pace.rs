//! How fast work that moves data may go.

use std::time::{Duration, Instant};

/// Bytes that a job is allowed, by the time that passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    bytes_per_second: u64,
    /// Up to when all has been handed out.
    spent: Instant,
}

impl Budget {
    /// Nothing is earned as yet.
    pub(crate) fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self { bytes_per_second, spent: now }
    }

    /// What has been earned since this was asked last: a second's worth at most.
    pub(crate) fn earn(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.spent).min(Duration::from_secs(1));
        let earned = u128::from(self.bytes_per_second) * passed.as_micros() / 1_000_000;
        if earned > 0 {
            self.spent = now;
        }
        u64::try_from(earned).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_budget_follows_the_clock() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut budget = Budget::new(10 * MIB, start);
        assert_eq!(budget.earn(at(0)), 0);
        assert_eq!(budget.earn(at(500)), 5 * MIB);
        assert_eq!(budget.earn(at(600)), MIB);
        // Nobody was there to take it: one second's worth is all that comes.
        assert_eq!(budget.earn(at(60_000)), 10 * MIB);
    }

    #[test]
    fn slow_rates_are_not_lost_in_short_ticks() {
        let start = Instant::now();
        let mut budget = Budget::new(2, start);
        let all: u64 = (1..=5000).map(|millis| budget.earn(start + Duration::from_millis(millis))).sum();
        assert_eq!(all, 10);
    }
}
