//! Limits on what clients may ask of one lvol (SPDK: `bdev_set_qos_limit`).
//!
//! What a limit does not let through yet waits in a queue of its lvol: reads in one, what changes the lvol in another, so that
//! a limit on the one does not hold up the other. Both are in order. The time is an argument.

use super::stats::Op;
use crate::pace::Budget;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a limit saves up what nobody uses, unless it was told: longer than the server may be late.
pub(super) const BURST_DEFAULT: Duration = Duration::from_millis(50);

/// Per second; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Requests of any kind but flushes.
    pub(super) ops: u64,
    /// Bytes that are read or written.
    pub(super) bytes: u64,
    /// Bytes that are read.
    pub(super) bytes_read: u64,
    /// Bytes that are written.
    pub(super) bytes_written: u64,
    /// How long each saves up what nobody uses.
    pub(super) burst: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ops: 0, bytes: 0, bytes_read: 0, bytes_written: 0, burst: BURST_DEFAULT }
    }
}

impl Limits {
    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        self.rates() != [0; 4]
    }

    fn rates(&self) -> [u64; 4] {
        [self.ops, self.bytes, self.bytes_read, self.bytes_written]
    }
}

/// What a request takes of each of [`Limits::rates`].
fn cost(op: Op, bytes: u64) -> [u64; 4] {
    match op {
        Op::Read => [1, bytes, bytes, 0],
        Op::Write => [1, bytes, 0, bytes],
        // These move no bytes.
        Op::Unmap | Op::Zeroes => [1, 0, 0, 0],
        Op::Flush => [0; 4],
    }
}

/// The limits of one lvol and the requests that they hold up.
#[derive(Debug)]
pub(super) struct Limiter<T> {
    limits: Limits,
    /// Since when.
    since: Instant,
    budgets: [Option<Budget>; 4],
    /// Reads, and what changes the lvol.
    queues: [VecDeque<Held<T>>; 2],
    /// Requests that were held up, ever.
    held: u64,
}

#[derive(Debug)]
struct Held<T> {
    cost: [u64; 4],
    /// Which one of all that were held up.
    number: u64,
    request: T,
}

impl<T> Limiter<T> {
    /// Limits from now on.
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        let queues = [VecDeque::new(), VecDeque::new()];
        Self { limits, since: now, budgets: budgets(limits, now), queues, held: 0 }
    }

    /// Other limits from now on, also for what waits.
    pub(super) fn set(&mut self, limits: Limits, now: Instant) {
        (self.limits, self.since, self.budgets) = (limits, now, budgets(limits, now));
    }

    /// The limits.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Requests that had to wait, ever.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// What waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.queues.iter().flatten().map(|held| &held.request)
    }

    /// Hands a request back that may pass now. Another waits.
    pub(super) fn admit(&mut self, op: Op, bytes: u64, request: T, now: Instant) -> Option<T> {
        let cost = cost(op, bytes);
        let queue = usize::from(op != Op::Read);
        if cost == [0; 4] || (self.queues[queue].is_empty() && self.clear_at(cost).is_none_or(|at| at <= now))
        {
            self.spend(cost, now);
            return Some(request);
        }
        self.queues[queue].push_back(Held { cost, number: self.held, request });
        self.held += 1;
        None
    }

    /// Takes out the next request that may pass now: the oldest of those at the heads of their queues.
    pub(super) fn release(&mut self, now: Instant) -> Option<T> {
        let is_clear = |held: &Held<T>| self.clear_at(held.cost).is_none_or(|at| at <= now);
        let heads = self.queues.iter().enumerate().filter_map(|(queue, held)| Some((queue, held.front()?)));
        let (queue, _) = heads.filter(|(_, held)| is_clear(held)).min_by_key(|(_, held)| held.number)?;
        let held = self.queues[queue].pop_front()?;
        self.spend(held.cost, now);
        Some(held.request)
    }

    /// Takes out what waits and need not wait any more.
    pub(super) fn take_out(&mut self, is_unwanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for queue in &mut self.queues {
            let (unwanted, kept): (VecDeque<_>, _) =
                std::mem::take(queue).into_iter().partition(|held| is_unwanted(&held.request));
            *queue = kept;
            taken.extend(unwanted.into_iter().map(|held| held.request));
        }
        taken
    }

    /// When the next one may pass, if any waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let heads = self.queues.iter().filter_map(VecDeque::front);
        heads.map(|held| self.clear_at(held.cost).unwrap_or(self.since)).min()
    }

    /// When none of the limits on such a request is in debt.
    fn clear_at(&self, cost: [u64; 4]) -> Option<Instant> {
        let limits = self.budgets.iter().zip(cost).filter(|(_, units)| *units > 0);
        limits.filter_map(|(budget, _)| budget.as_ref()).map(Budget::clear_at).max()
    }

    fn spend(&mut self, cost: [u64; 4], now: Instant) {
        for (budget, units) in self.budgets.iter_mut().zip(cost) {
            if let Some(budget) = budget {
                budget.spend(units, now);
            }
        }
    }
}

fn budgets(limits: Limits, now: Instant) -> [Option<Budget>; 4] {
    limits.rates().map(|rate| (rate > 0).then(|| Budget::with_burst(rate, limits.burst, now)))
}

#[cfg(test)]
mod tests;
