//! The lines in which campaigns sum themselves up: `NAME=NUMBER`, five times. The first number says how much was done,
//! the last one how much of it went wrong.

use std::fmt;
use std::iter;

const LEN: usize = 5;

/// The sum of such lines.
#[derive(Debug)]
pub(crate) struct Counts {
    names: [&'static str; LEN],
    sums: [u64; LEN],
}

impl Counts {
    /// Nothing yet, under these names.
    pub(crate) fn new(names: [&'static str; LEN]) -> Self {
        Self { names, sums: [0; LEN] }
    }

    /// Takes in a line of output, which is a line of counts or of something else. libtest may print the name of a test
    /// before it.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(start) = line.find(&format!("{}=", self.names[0])) else {
            return;
        };
        let parse = |(word, name): (&str, &str)| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        let counts: Option<Vec<u64>> = line[start..].split_whitespace().zip(self.names).map(parse).collect();
        for (sum, count) in
            self.sums.iter_mut().zip(counts.filter(|counts| counts.len() == LEN).into_iter().flatten())
        {
            *sum += count;
        }
    }

    /// Whether something was done and nothing was wrong.
    pub(crate) fn is_good(&self) -> bool {
        let [done, .., violations] = self.sums;
        done > 0 && violations == 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spaces = iter::once("").chain(iter::repeat(" "));
        let mut parts = spaces.zip(self.names.iter().zip(self.sums));
        parts.try_for_each(|(space, (name, count))| write!(f, "{space}{name}={count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_and_violations_spoil_them() {
        let mut sum = Counts::new(["kills", "acknowledged", "flushed", "verbs", "violations"]);
        assert!(!sum.is_good(), "nothing was killed");
        for line in [
            "running 2 tests",
            "kills=3 acknowledged=10 flushed=4 verbs=2 violations=0",
            "test a ... kills=1 acknowledged=20 flushed=0 verbs=3 violations=0",
            "kills=9 acknowledged=many",
        ] {
            sum.add(line);
        }
        assert_eq!(sum.to_string(), "kills=4 acknowledged=30 flushed=4 verbs=5 violations=0");
        assert!(sum.is_good());
        sum.add("kills=1 acknowledged=0 flushed=0 verbs=0 violations=1");
        assert!(!sum.is_good());
    }
}
