//! What clients have asked of each lvol, and how long that took.

use std::time::Duration;

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write,
    /// Space that is not needed any more.
    Unmap,
    Zeroes,
    Flush,
}

impl Op {
    pub(super) const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Unmap, Self::Zeroes, Self::Flush];

    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Unmap => "unmap",
            Self::Zeroes => "write_zeroes",
            Self::Flush => "flush",
        }
    }
}

/// Upper bounds of the buckets of latencies, in microseconds. One more bucket has what took longer.
pub(super) const LATENCY_BOUNDS_US: [u64; 10] =
    [16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];

/// Requests of one kind. All but the extremes only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpStats {
    /// Those that were done.
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Those that failed.
    pub(super) errors: u64,
    /// Of those that were done, in nanoseconds, together.
    pub(super) latency_ns: u64,
    /// How many took so long, bucket by bucket.
    pub(super) buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// The extremes, in nanoseconds. None: there was none since they were reset.
    pub(super) fastest_ns: Option<u64>,
    pub(super) slowest_ns: Option<u64>,
}

impl OpStats {
    fn done(&mut self, bytes: u64, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count += 1;
        self.bytes += bytes;
        self.latency_ns = self.latency_ns.saturating_add(ns);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| bound * 1000 < ns);
        self.buckets[bucket] += 1;
        self.fastest_ns = Some(self.fastest_ns.map_or(ns, |fastest| fastest.min(ns)));
        self.slowest_ns = Some(self.slowest_ns.map_or(ns, |slowest| slowest.max(ns)));
    }

    /// What has come since `base`; the extremes are those of now.
    fn since(&self, base: &Self) -> Self {
        Self {
            count: self.count - base.count,
            bytes: self.bytes - base.bytes,
            errors: self.errors - base.errors,
            latency_ns: self.latency_ns - base.latency_ns,
            ..*self
        }
    }
}

/// What is forgotten by a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    /// Everything.
    All,
    /// The extremes.
    Extremes,
    /// Errors.
    Errors,
}

/// Requests to one lvol.
#[derive(Clone, Debug, Default)]
pub(super) struct LvolStats {
    ops: [OpStats; Op::ALL.len()],
    /// As it was at the last reset.
    base: [OpStats; Op::ALL.len()],
}

impl LvolStats {
    /// A request is done.
    pub(super) fn done(&mut self, op: Op, bytes: u64, took: Duration) {
        self.ops[op as usize].done(bytes, took);
    }

    /// A request has failed.
    pub(super) fn failed(&mut self, op: Op) {
        self.ops[op as usize].errors += 1;
    }

    /// Requests of one kind, since the lvol is served.
    pub(super) fn of(&self, op: Op) -> &OpStats {
        &self.ops[op as usize]
    }

    /// Requests of one kind, since the last reset.
    pub(super) fn recent(&self, op: Op) -> OpStats {
        self.ops[op as usize].since(&self.base[op as usize])
    }

    /// Begins to count anew, for [`LvolStats::recent`] only.
    pub(super) fn reset(&mut self, what: Reset) {
        for (now, base) in self.ops.iter_mut().zip(&mut self.base) {
            match what {
                Reset::All => {
                    *base = *now;
                    (now.fastest_ns, now.slowest_ns) = (None, None);
                }
                Reset::Extremes => (now.fastest_ns, now.slowest_ns) = (None, None),
                Reset::Errors => base.errors = now.errors,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let mut stats = LvolStats::default();
        for micros in [0, 16, 17, 4_194_304, 4_194_305] {
            stats.done(Op::Read, 512, Duration::from_micros(micros));
        }
        let read = stats.of(Op::Read);
        assert_eq!((read.count, read.bytes), (5, 2560));
        assert_eq!(read.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((read.fastest_ns, read.slowest_ns), (Some(0), Some(4_194_305_000)));
    }

    #[test]
    fn a_reset_is_seen_only_by_those_who_ask_for_it() {
        let mut stats = LvolStats::default();
        stats.done(Op::Write, 4096, Duration::from_micros(5));
        stats.failed(Op::Write);
        stats.reset(Reset::Errors);
        assert_eq!((stats.recent(Op::Write).count, stats.recent(Op::Write).errors), (1, 0));
        stats.reset(Reset::Extremes);
        assert_eq!(stats.recent(Op::Write).slowest_ns, None);
        stats.reset(Reset::All);
        assert_eq!((stats.recent(Op::Write).count, stats.of(Op::Write).count), (0, 1));
    }
}
