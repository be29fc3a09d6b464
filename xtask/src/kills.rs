//! `cargo xtask kills`: the test binary `kills` of the `offshoot` crate with more kills than the gate has time for, on
//! a file and on a loop device. The last line of the output is the sum of both.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::counts::Counts;

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Servers that are killed under load, on each medium.
    count: u64,
    /// `None`: another one each time.
    seed: Option<u64>,
}

const COUNT_DEFAULT: u64 = 200;

impl Options {
    /// Parses `[--count N] [--seed N]`; `None` for anything else.
    pub(crate) fn parse(args: &[&str]) -> Option<Self> {
        let mut options = Self { count: COUNT_DEFAULT, seed: None };
        for pair in args.chunks(2) {
            let [name, value] = pair else { return None };
            match *name {
                "--count" => options.count = value.parse().ok()?,
                "--seed" => options.seed = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Runs the campaign for the workspace at `root`. The exit code is a failure after a violation, and when nothing could
/// be killed.
pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let seed = options.seed.unwrap_or_else(fresh_seed);
    println!("seed={seed} count={}", options.count);
    let mut child = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
        .current_dir(root)
        .args(["test", "--package", "offshoot", "--test", "kills", "--", "--nocapture"])
        .env("OFFSHOOT_KILLS_COUNT", options.count.to_string())
        .env("OFFSHOOT_KILLS_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let Some(stdout) = child.stdout.take() else { bail!("cargo test has no output") };
    let mut sum = counts();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read the output of cargo test")?;
        println!("{line}");
        sum.add(&line);
    }
    let passed = child.wait().context("cannot wait for cargo test")?.success();
    println!("{sum}");
    Ok(if passed && sum.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Milliseconds since 1970: short enough to be typed again.
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(0)
}

/// The line in which a campaign sums itself up.
fn counts() -> Counts {
    Counts::new(["kills", "acknowledged", "flushed", "verbs", "violations"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed() {
        let options = |count, seed| Some(Options { count, seed });
        for (args, expected) in [
            (&[][..], options(200, None)),
            (&["--count", "7"], options(7, None)),
            (&["--seed", "9", "--count", "7"], options(7, Some(9))),
            (&["--count"], None),
            (&["--count", "many"], None),
            (&["7"], None),
            (&["--kills", "7"], None),
        ] {
            assert_eq!(Options::parse(args), expected, "{args:?}");
        }
    }
}
