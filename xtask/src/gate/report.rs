//! What the gate found: the steps with their times, what failed, what was skipped, and the counts.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::libtest::Results;

/// How one step ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// The step could not run; the reason why.
    Skipped(String),
}

impl Outcome {
    pub(crate) fn from_success(success: bool) -> Self {
        if success { Self::Passed } else { Self::Failed }
    }
}

/// The account of one run of the gate. A step other than the tests counts as one check. Its `Display` is the
/// summary that closes a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<(&'static str, Duration)>,
    passed: usize,
    failed: usize,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Report {
    /// Runs and accounts for a step that is one check. An error fails the step and not the gate, so that the
    /// steps after it still run.
    pub(crate) fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<Outcome>) {
        let outcome = self.timed(name, run);
        self.account(name, outcome);
    }

    /// Runs and accounts for the tests, each of which is a check.
    pub(crate) fn tests(&mut self, run: impl FnOnce() -> Result<Results>) {
        match self.timed("tests", run) {
            Ok(results) => self.account_tests(&results),
            Err(error) => self.account("tests", Err(error)),
        }
    }

    /// Whether the run may be called good. Where nothing may be left out (`strict`), a skip is a failure.
    pub(crate) fn is_acceptable(&self, strict: bool) -> bool {
        self.failed == 0 && (!strict || self.skips.is_empty())
    }

    fn timed<T>(&mut self, name: &'static str, run: impl FnOnce() -> T) -> T {
        println!("==> {name}");
        let start = Instant::now();
        let value = run();
        self.steps.push((name, start.elapsed()));
        value
    }

    fn account(&mut self, name: &str, outcome: Result<Outcome>) {
        match outcome {
            Ok(Outcome::Passed) => self.passed += 1,
            Ok(Outcome::Failed) => self.fail(name.to_owned()),
            Ok(Outcome::Skipped(reason)) => self.skips.push(format!("{name}: {reason}")),
            Err(error) => self.fail(format!("{name}: {error:#}")),
        }
    }

    fn account_tests(&mut self, results: &Results) {
        self.passed += results.passed();
        self.failed += results.failed();
        self.failures.extend(results.failures().iter().cloned());
        self.skips.extend(results.skips().map(|(test, reason)| format!("{test}: {reason}")));
    }

    fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (name, took) in &self.steps {
            writeln!(f, "{name:<14}{:>8.1} s", took.as_secs_f64())?;
        }
        for skip in &self.skips {
            writeln!(f, "skipped: {skip}")?;
        }
        for failure in &self.failures {
            writeln!(f, "failed: {failure}")?;
        }
        writeln!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.len())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn report(outcomes: Vec<Result<Outcome>>) -> Report {
        let mut report = Report::default();
        for outcome in outcomes {
            report.account("step", outcome);
        }
        report
    }

    #[test]
    fn the_last_line_is_the_counts() {
        let report = report(vec![Ok(Outcome::Passed), Ok(Outcome::Failed), Ok(Outcome::Skipped("x".into()))]);
        assert_eq!(report.to_string().lines().last(), Some("1 passed, 1 failed, 1 skipped"));
    }

    #[test]
    fn skips_and_failures_are_named() {
        let failing = || -> Result<Outcome> { bail!("cannot run cargo") };
        let text = report(vec![failing(), Ok(Outcome::Skipped("not installed".into()))]).to_string();
        assert!(text.contains("failed: step: cannot run cargo\n"), "{text}");
        assert!(text.contains("skipped: step: not installed\n"), "{text}");
    }

    #[test]
    fn a_skip_is_acceptable_except_where_nothing_may_be_left_out() {
        let skipping = report(vec![Ok(Outcome::Passed), Ok(Outcome::Skipped("x".into()))]);
        assert!(skipping.is_acceptable(false));
        assert!(!skipping.is_acceptable(true));
        assert!(!report(vec![Ok(Outcome::Failed)]).is_acceptable(false));
    }
}
