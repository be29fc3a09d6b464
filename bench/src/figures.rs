//! Numbers: drawing them, taking their middle, printing them beside their targets.

use std::time::Duration;

/// How often what takes time is measured.
pub(crate) const RUNS: usize = 3;

/// Xorshift: the same sequence on both sides of a comparison.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ value >> 31) % limit
    }

    /// The numbers below `count` in an order of chance, each once.
    pub(crate) fn shuffled(&mut self, count: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..count).collect();
        for last in (1..count).rev() {
            let (last, chosen) = (place(last), place(self.below(last + 1)));
            numbers.swap(last, chosen);
        }
        numbers
    }
}

/// A number of something that is in memory.
fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The one in the middle.
///
/// # Panics
/// When there is none.
pub(crate) fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// How many per second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Prints a rate and its ratio to another one.
pub(crate) fn report_rate(what: &str, rate: f64, base: f64, target: &str) {
    println!("  {what}: {rate:.0}/s, ratio {:.2}{}", rate / base, aim(target));
}

/// Prints a time.
pub(crate) fn report_time(what: &str, time: Duration, target: &str) {
    println!("  {what}: {:.3} ms{}", milliseconds(time), aim(target));
}

/// A target as it stands behind a figure; nothing when there is none.
pub(crate) fn aim(target: &str) -> String {
    if target.is_empty() { String::new() } else { format!(" (target {target})") }
}
