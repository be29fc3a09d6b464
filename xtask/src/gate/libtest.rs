//! What libtest prints, line by line, turned into counts. The format is not stable by promise, but has been the
//! same for a decade; a change shows as a gate that counts nothing, which [`Results::finish`] makes a failure.

/// A test that says this at the start of a line, on stdout or stderr, did not check what follows.
const SKIPPED: &str = "SKIPPED: ";

/// The outcome of one run of `cargo test`, summed over its test binaries.
#[derive(Debug, Default)]
pub(crate) struct Results {
    passed: usize,
    failed: usize,
    binaries: usize,
    failures: Vec<String>,
    /// Test and reason of everything that was not checked.
    skips: Vec<(String, String)>,
    /// Where in `skips` those of the present test binary begin. Other binaries may have tests of the same name.
    own_skips: usize,
    /// How many passed tests skipped something. They count as skipped and not as passed.
    partial: usize,
    section: Section,
}

/// Where in the output of one test binary the next line stands.
#[derive(Debug, Default)]
enum Section {
    #[default]
    Progress,
    /// The captured output of passed tests; `test` is the one being shown.
    Successes {
        test: String,
        skipped: bool,
    },
    Failures,
}

impl Results {
    /// Takes in the next line of output. Returns whether it is of interest to a reader: the output of tests
    /// that passed is not.
    pub(crate) fn observe(&mut self, line: &str) -> bool {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.binary_ends(counts);
            return true;
        }
        match &mut self.section {
            Section::Progress => {
                self.observe_progress(line);
                !matches!(self.section, Section::Successes { .. })
            }
            Section::Successes { test, skipped } => {
                if line == "failures:" {
                    self.section = Section::Failures;
                    return true;
                }
                if let Some(name) = output_header(line) {
                    *test = name.to_owned();
                    *skipped = false;
                } else if let Some(reason) = line.strip_prefix(SKIPPED) {
                    self.partial += usize::from(!*skipped);
                    *skipped = true;
                    let skip = (test.clone(), reason.trim_end().to_owned());
                    // A check that is repeated for many inputs is missing once.
                    if !self.skips[self.own_skips..].contains(&skip) {
                        self.skips.push(skip);
                    }
                }
                false
            }
            Section::Failures => true,
        }
    }

    /// Closes the account; `success` is cargo's exit status. A run that failed without a failed test (it did
    /// not compile, a test binary was killed) or that ran nothing counts as one failure.
    pub(crate) fn finish(&mut self, success: bool) {
        if (!success && self.failed == 0) || self.binaries == 0 {
            self.failed += 1;
            self.failures.push("cargo test: a build or a test binary did not finish".to_owned());
        }
    }

    /// Tests that passed and checked all they are there for.
    pub(crate) fn passed(&self) -> usize {
        self.passed.saturating_sub(self.partial)
    }

    /// Tests that failed.
    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// Names of the failed tests.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// What was not checked, as (test, reason).
    pub(crate) fn skips(&self) -> impl Iterator<Item = (&str, &str)> {
        self.skips.iter().map(|(test, reason)| (test.as_str(), reason.as_str()))
    }

    fn observe_progress(&mut self, line: &str) {
        match line {
            "successes:" => self.section = Section::Successes { test: String::new(), skipped: false },
            "failures:" => self.section = Section::Failures,
            _ => {
                let Some((name, outcome)) =
                    line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
                else {
                    return;
                };
                if outcome == "FAILED" {
                    self.failures.push(name.to_owned());
                } else if let Some(reason) = outcome.strip_prefix("ignored") {
                    let reason = reason.trim_start_matches([',', ' ']);
                    let reason = if reason.is_empty() { "ignored" } else { reason };
                    self.skips.push((name.to_owned(), reason.to_owned()));
                }
            }
        }
    }

    /// Adds up the last line of a test binary, `ok. 5 passed; 0 failed; 1 ignored; ...`.
    fn binary_ends(&mut self, counts: &str) {
        self.binaries += 1;
        self.own_skips = self.skips.len();
        self.section = Section::Progress;
        let words: Vec<&str> = counts.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<usize>() else {
                continue;
            };
            match pair[1] {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                _ => {}
            }
        }
    }
}

/// The test whose output follows: `---- module::test stdout ----`.
fn output_header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_BINARIES: &str = "
running 4 tests
test map::lookup ... ok
test export::nbdcopy ... ok
test export::slow ... ignored, needs an hour
test map::insert ... FAILED

successes:

---- export::nbdcopy stdout ----
SKIPPED: nbdcopy is not installed
SKIPPED: nbdcopy is not installed
SKIPPED: fio is not installed

successes:
    export::nbdcopy
    map::lookup

failures:

---- map::insert stdout ----
assertion failed

failures:
    map::insert

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 1 test
test bits - should panic ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn observe(output: &str) -> (Results, Vec<&str>) {
        let mut results = Results::default();
        let shown = output.lines().filter(|line| results.observe(line)).collect();
        (results, shown)
    }

    #[test]
    fn counts_are_summed_over_binaries() {
        let (mut results, _) = observe(TWO_BINARIES);
        results.finish(false);
        assert_eq!((results.passed(), results.failed()), (2, 1));
        assert_eq!(results.failures(), ["map::insert"]);
    }

    #[test]
    fn skips_carry_test_and_reason() {
        let (results, _) = observe(TWO_BINARIES);
        let skips: Vec<_> = results.skips().collect();
        let expected = [
            ("export::slow", "needs an hour"),
            ("export::nbdcopy", "nbdcopy is not installed"),
            ("export::nbdcopy", "fio is not installed"),
        ];
        assert_eq!(skips, expected);
    }

    #[test]
    fn output_of_passed_tests_is_kept_back_and_that_of_failed_ones_shown() {
        let (_, shown) = observe(TWO_BINARIES);
        assert!(!shown.iter().any(|line| line.contains("SKIPPED")), "{shown:?}");
        assert!(shown.contains(&"assertion failed"), "{shown:?}");
        assert!(shown.contains(&"test bits - should panic ... ok"), "{shown:?}");
    }

    #[test]
    fn a_run_without_results_is_a_failure() {
        for (output, success) in [("", true), ("", false), ("error: could not compile", false)] {
            let (mut results, _) = observe(output);
            results.finish(success);
            assert_eq!(results.failed(), 1, "{output:?}");
        }
    }

    #[test]
    fn a_killed_binary_is_a_failure_even_when_the_others_pass() {
        let (mut results, _) = observe("running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored");
        results.finish(false);
        assert_eq!((results.passed(), results.failed()), (1, 1));
    }
}
