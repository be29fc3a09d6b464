//! How fast work may go: what time earns, and what has been spent of it.

use std::time::{Duration, Instant};

/// How much jobs that move data may save up.
const JOB_BURST: Duration = Duration::from_secs(1);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Units (bytes, operations) that the time that passes earns, up to a burst of them, and that are spent.
///
/// What is spent may be more than there is: it is a debt then, and time pays it first. So requests of any size get
/// through, and the rate holds in the long run to the unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    per_second: u64,
    burst: Duration,
    /// Up to when everything that time earns has been spent, in the future if there is a debt.
    spent: Instant,
    /// What is spent beyond that, in units of a nanosecond's part of `per_second`.
    rest: u64,
}

impl Budget {
    /// Of a job. Nothing is earned as yet.
    pub(crate) fn new(per_second: u64, now: Instant) -> Self {
        Self::with_burst(per_second, JOB_BURST, now)
    }

    /// One that saves up what time earns in `burst`. Nothing is earned as yet.
    pub(crate) fn with_burst(per_second: u64, burst: Duration, now: Instant) -> Self {
        Self { per_second, burst, spent: now, rest: 0 }
    }

    /// What has been earned and not been spent, which is spent by this.
    pub(crate) fn earn(&mut self, now: Instant) -> u64 {
        self.forfeit(now);
        let passed = now.saturating_duration_since(self.spent).as_nanos();
        let credit = (u128::from(self.per_second) * passed).saturating_sub(self.rest.into());
        let earned = u64::try_from(credit / NANOS_PER_SECOND).unwrap_or(u64::MAX);
        self.spend(earned, now);
        earned
    }

    /// When there is no debt any more.
    pub(crate) fn clear_at(&self) -> Instant {
        self.spent
    }

    /// Spends units, more than there are if it has to be.
    pub(crate) fn spend(&mut self, units: u64, now: Instant) {
        self.forfeit(now);
        let total = u128::from(units) * NANOS_PER_SECOND + u128::from(self.rest);
        let per_second = u128::from(self.per_second.max(1));
        let nanos = u64::try_from(total / per_second).unwrap_or(u64::MAX);
        self.spent = self.spent.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.spent);
        self.rest = u64::try_from(total % per_second).unwrap_or(0);
    }

    /// Lets go of what was saved up beyond the burst.
    fn forfeit(&mut self, now: Instant) {
        if let Some(oldest) = now.checked_sub(self.burst)
            && self.spent < oldest
        {
            (self.spent, self.rest) = (oldest, 0);
        }
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

    #[test]
    fn a_debt_is_paid_by_time_to_the_unit() {
        let start = Instant::now();
        let mut budget = Budget::with_burst(3000, Duration::from_millis(10), start);
        // A third of a millisecond each, which no number of nanoseconds is.
        (0..3000).for_each(|_| budget.spend(1, start));
        assert_eq!(budget.clear_at(), start + Duration::from_secs(1));
        assert_eq!(budget.earn(start + Duration::from_millis(500)), 0);
        assert_eq!(budget.earn(start + Duration::from_millis(1002)), 6);
        // The burst is what is saved up at most.
        assert_eq!(budget.earn(start + Duration::from_secs(9)), 30);
    }

    #[test]
    fn a_rate_of_nothing_earns_nothing() {
        let start = Instant::now();
        assert_eq!(Budget::new(0, start).earn(start + Duration::from_secs(9)), 0);
    }
}
