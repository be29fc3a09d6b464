//! Latencies in the buckets that SPDK's clients take apart (SPDK: `spdk_histogram_data`).
//!
//! Buckets stand in ranges of 2^granularity. Those of the first two ranges hold one value each, those of each further one
//! twice as many as those of the range before it: the error is below 2^-granularity everywhere.

use super::stats::Op;

/// Bits of a bucket's place in its range.
pub(super) const GRANULARITY: std::ops::RangeInclusive<u32> = 1..=10;

/// SPDK's default of that.
pub(super) const GRANULARITY_DEFAULT: u32 = 7;

/// Latencies of the requests to one lvol, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    granularity: u32,
    /// Requests of other kinds are not counted. `None`: all are.
    only: Option<Op>,
    buckets: Vec<u64>,
}

impl Histogram {
    /// Nothing was counted yet. `granularity` is one of [`GRANULARITY`].
    pub(super) fn new(granularity: u32, only: Option<Op>) -> Self {
        let ranges = 64 - granularity as usize + 1;
        Self { granularity, only, buckets: vec![0; ranges << granularity] }
    }

    /// Counts a request.
    pub(super) fn count(&mut self, op: Op, ns: u64) {
        if self.only.is_none_or(|only| only == op) {
            let bucket = self.bucket(ns);
            self.buckets[bucket] += 1;
        }
    }

    fn bucket(&self, value: u64) -> usize {
        let range = (64 - self.granularity).saturating_sub(value.leading_zeros());
        let mask = (1 << self.granularity) - 1;
        let within = (value >> range.saturating_sub(1)) & mask;
        ((range as usize) << self.granularity) + usize::try_from(within).unwrap_or(0)
    }

    pub(super) fn granularity(&self) -> u32 {
        self.granularity
    }

    /// The number of the last range; the first is 0.
    pub(super) fn last_range(&self) -> u32 {
        64 - self.granularity
    }

    /// All counts, as little-endian numbers of 64 bits.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.buckets.iter().flat_map(|count| count.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_where_spdk_puts_them() {
        let histogram = Histogram::new(7, None);
        assert_eq!(histogram.buckets.len(), 58 * 128);
        for (value, range, within) in [
            (0, 0, 0),
            (127, 0, 127),
            (128, 1, 0),
            (255, 1, 127),
            (256, 2, 0),
            (257, 2, 0),
            (258, 2, 1),
            (511, 2, 127),
            (1 << 63, 57, 0),
            (u64::MAX, 57, 127),
        ] {
            assert_eq!(histogram.bucket(value), range * 128 + within, "{value}");
        }
        for granularity in GRANULARITY {
            let histogram = Histogram::new(granularity, None);
            assert_eq!(histogram.bucket(u64::MAX), histogram.buckets.len() - 1);
        }
    }

    #[test]
    fn one_kind_of_request_can_be_counted_alone() {
        let mut histogram = Histogram::new(1, Some(Op::Read));
        histogram.count(Op::Write, 0);
        histogram.count(Op::Read, 1);
        assert_eq!(histogram.buckets[..3], [0, 1, 0]);
        assert_eq!(histogram.bytes()[..16], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
