//! `cargo xtask bitflips`: the test binary `bit_flips` of the `offshoot-store` crate over every bit of the metadata of
//! its stores, optimised. The last line of the output is the sum over all of them.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::counts::Counts;

/// Runs the campaign for the workspace at `root`. The exit code is a failure after a violation, and when nothing was
/// flipped.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let mut child = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
        .current_dir(root)
        .args([
            "test",
            "--release",
            "--package",
            "offshoot-store",
            "--test",
            "bit_flips",
            "--",
            "--nocapture",
        ])
        .env("OFFSHOOT_FLIP_ALL_BITS", "1")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let Some(stdout) = child.stdout.take() else { bail!("cargo test has no output") };
    let mut sum = Counts::new(["flips", "detected", "repaired", "harmless", "violations"]);
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read the output of cargo test")?;
        println!("{line}");
        sum.add(&line);
    }
    let passed = child.wait().context("cannot wait for cargo test")?.success();
    println!("{sum}");
    Ok(if passed && sum.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
