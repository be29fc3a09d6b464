use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn limiter(limits: Limits, start: Instant) -> Limiter<u32> {
    Limiter::new(limits, start)
}

/// Those that may pass at a time.
fn released(limiter: &mut Limiter<u32>, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| limiter.release(now)).collect()
}

#[test]
fn without_limits_nothing_waits() {
    let now = Instant::now();
    let mut limiter = limiter(Limits::default(), now);
    for op in Op::ALL {
        assert_eq!(limiter.admit(op, u64::MAX, 7, now), Some(7));
    }
    assert_eq!((limiter.deadline(), limiter.held()), (None, 0));
}

#[test]
fn operations_pass_in_their_time_and_order() {
    let start = Instant::now();
    let at = |micros| start + Duration::from_micros(micros);
    let mut limiter = limiter(Limits { ops: 1000, ..Limits::default() }, start);
    assert_eq!(limiter.admit(Op::Write, 4096, 0, start), Some(0));
    for (number, op) in [(1, Op::Read), (2, Op::Unmap), (3, Op::Zeroes), (4, Op::Read)] {
        assert_eq!(limiter.admit(op, 4096, number, start), None);
    }
    // A flush is never limited, and passes by what waits.
    assert_eq!(limiter.admit(Op::Flush, 0, 9, start), Some(9));
    assert_eq!(limiter.deadline(), Some(at(1000)));
    assert!(released(&mut limiter, at(999)).is_empty());
    assert_eq!(released(&mut limiter, at(1000)), [1]);
    // Two are due by then, and with what time they take the next is.
    assert_eq!(released(&mut limiter, at(3000)), [2, 3]);
    assert_eq!(released(&mut limiter, at(4000)), [4]);
    assert_eq!((limiter.deadline(), limiter.held()), (None, 4));
}

#[test]
fn a_limit_on_writes_holds_up_no_read() {
    let start = Instant::now();
    let mut limiter = limiter(Limits { bytes_written: MIB, ..Limits::default() }, start);
    assert_eq!(limiter.admit(Op::Write, 32 * MIB, 0, start), Some(0));
    assert_eq!(limiter.admit(Op::Write, 1, 1, start), None);
    assert_eq!(limiter.admit(Op::Read, 32 * MIB, 2, start), Some(2));
    // The large one is paid for before anything else is written.
    assert_eq!(limiter.deadline(), Some(start + Duration::from_secs(32)));
}

#[test]
fn the_strictest_limit_holds() {
    let start = Instant::now();
    let limits = Limits { ops: 1000, bytes: 2 * MIB, bytes_read: MIB, ..Limits::default() };
    for (op, bytes, millis) in
        [(Op::Read, MIB, 1000), (Op::Write, MIB, 500), (Op::Read, 1, 1), (Op::Unmap, 9 * MIB, 1)]
    {
        let mut limiter = limiter(limits, start);
        assert!(limiter.admit(op, bytes, 0, start).is_some());
        assert!(limiter.admit(op, 1, 1, start).is_none());
        assert_eq!(limiter.deadline(), Some(start + Duration::from_millis(millis)), "{op:?} {bytes}");
    }
}

#[test]
fn limits_that_go_let_everything_pass() {
    let start = Instant::now();
    let mut limiter = limiter(Limits { ops: 1000, ..Limits::default() }, start);
    for number in 0..4 {
        limiter.admit(Op::Read, 1, number, start);
    }
    limiter.set(Limits::default(), start);
    assert_eq!(limiter.deadline(), Some(start));
    assert_eq!(released(&mut limiter, start), [1, 2, 3]);
}

/// Time until the next request comes, what it is, and how large.
fn arrivals() -> impl Strategy<Value = Vec<(u64, usize, u64)>> {
    prop::collection::vec((0..20_000u64, 0..Op::ALL.len(), 0..=4 * MIB), 1..200)
}

proptest! {
    /// In any stretch of time no more passes than is earned in it and in the burst before it, and the one request
    /// that makes the debt; and a limiter with something to do is never idle.
    #[test]
    fn a_rate_is_kept_and_used(
        arrivals in arrivals(),
        ops in prop_oneof![Just(0), 1000..5000u64],
        bytes in prop_oneof![Just(0), MIB..64 * MIB],
        bytes_written in prop_oneof![Just(0), MIB..64 * MIB],
    ) {
        let start = Instant::now();
        let limits = Limits { ops, bytes, bytes_written, ..Limits::default() };
        let mut limiter: Limiter<(Op, u64)> = Limiter::new(limits, start);
        let mut passed: Vec<(Instant, Op, u64)> = Vec::new();
        let mut now = start;
        let count = arrivals.len();
        for (micros, op, bytes) in arrivals {
            let arrival = now + Duration::from_micros(micros);
            while let Some(due) = limiter.deadline().filter(|due| *due <= arrival) {
                now = now.max(due);
                let request = limiter.release(now);
                prop_assert!(request.is_some(), "nothing passes although it is due");
                passed.extend(request.map(|(op, bytes)| (now, op, bytes)));
            }
            now = arrival;
            let op = Op::ALL[op];
            passed.extend(limiter.admit(op, bytes, (op, bytes), now).map(|(op, bytes)| (now, op, bytes)));
        }
        while let Some(due) = limiter.deadline() {
            now = now.max(due);
            let request = limiter.release(now);
            prop_assert!(request.is_some(), "nothing passes although it is due");
            passed.extend(request.map(|(op, bytes)| (now, op, bytes)));
        }
        prop_assert_eq!(passed.len(), count);
        for (limit, rate) in limits.rates().into_iter().enumerate().filter(|(_, rate)| *rate > 0) {
            for first in 0..passed.len() {
                let mut units = 0u128;
                for (at, op, bytes) in &passed[first..] {
                    let took = at.duration_since(passed[first].0) + limits.burst;
                    // What was spent before this one is paid for by the time it passes.
                    let earned = u128::from(rate) * took.as_nanos() / 1_000_000_000;
                    let units_now = u128::from(cost(*op, *bytes)[limit]);
                    prop_assert!(units_now == 0 || units <= earned + 1, "{units} > {earned}");
                    units += units_now;
                }
            }
        }
    }
}
