//! Points in time as seconds since 1970, and as text in UTC.

use std::fmt;
use std::time::SystemTime;

const SECONDS_PER_DAY: u64 = 86_400;

/// Last second of the year 9999. What lies beyond has no text in RFC 3339.
const LAST: u64 = 253_402_300_799;

/// Seconds since 1970. 0 on a machine whose clock stands before that.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// A date and time of day in UTC, shown as RFC 3339 has it: `2026-11-22T15:04:05Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Utc {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
}

impl Utc {
    /// The date of a number of seconds since 1970. `None` beyond the year 9999, which only a damaged store names.
    pub(crate) fn of(seconds: u64) -> Option<Self> {
        if seconds > LAST {
            return None;
        }
        // Days are counted in years that begin in March, so that the leap day is the last one, and in eras of 400
        // years, all of which have the same number of days.
        const DAYS_PER_ERA: u64 = 146_097;
        const DAYS_BEFORE_1970: u64 = 719_468;
        let days = seconds / SECONDS_PER_DAY + DAYS_BEFORE_1970;
        let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
        let leap_days = day_of_era / 1460 + day_of_era / 146_096 - day_of_era / 36_524;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months_since_march = (5 * day_of_year + 2) / 153;
        let month = (months_since_march + 2) % 12 + 1;
        Some(Self {
            year: 400 * era + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * months_since_march + 2) / 5 + 1,
            second_of_day: seconds % SECONDS_PER_DAY,
        })
    }

    /// The same without punctuation, for names: `20261122T150405Z`.
    pub(crate) fn compact(self) -> String {
        self.to_string().replace(['-', ':'], "")
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) =
            (self.second_of_day / 3600, self.second_of_day / 60 % 60, self.second_of_day % 60);
        let Self { year, month, day, .. } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Utc::of(seconds).unwrap().to_string(), expected);
        }
        assert_eq!(Utc::of(LAST + 1), None);
        assert_eq!(Utc::of(951_782_399).unwrap().compact(), "20000228T235959Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut date = Utc::of(0).unwrap();
        for day in 1..146_097 {
            let next = Utc::of(day * SECONDS_PER_DAY).unwrap();
            let follows = if next.day == 1 {
                date.day >= 28 && (next.month == date.month + 1 || (next.month, date.month) == (1, 12))
            } else {
                next.day == date.day + 1 && next.month == date.month
            };
            assert!(follows, "{date} {next}");
            date = next;
        }
        assert_eq!(date.to_string(), "2369-12-31T00:00:00Z");
    }
}
