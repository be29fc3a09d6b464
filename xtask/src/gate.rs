//! The gate: `cargo xtask test`. Every step runs even when an earlier one failed, so that one run tells all;
//! the last line of the output is `N passed, N failed, N skipped`.

mod clients;
mod libtest;
mod report;

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::tidy;
use libtest::Results;
use report::{Outcome, Report};

/// Runs the gate over the workspace at `root`. The exit code is a failure when anything failed, and in CI
/// (`CI=true`) also when anything was skipped.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let mut report = Report::default();
    clients::provide();
    report.step("tidy", || tidy_step(root));
    report.step("format", || component(root, "fmt", &["--all", "--check"]));
    report.step("clippy", || {
        component(root, "clippy", &["--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    report.tests(|| run_tests(root));
    report.step("documentation", || {
        let mut doc = cargo(root, &["doc", "--no-deps", "--workspace"]);
        status(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    print!("{report}");
    let strict = env::var_os("CI").is_some_and(|value| value == "true");
    Ok(if report.is_acceptable(strict) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tidy_step(root: &Path) -> Result<Outcome> {
    let findings = tidy::check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    Ok(Outcome::from_success(findings.is_empty()))
}

/// Runs a cargo subcommand that comes as a toolchain component of its own and may not be installed.
fn component(root: &Path, name: &str, args: &[&str]) -> Result<Outcome> {
    let probe = cargo(root, &[name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.context("cannot run cargo")?.success() {
        return Ok(Outcome::Skipped(format!("cargo {name} is not installed")));
    }
    status(&mut cargo(root, &[&[name], args].concat()))
}

/// Runs every test of the workspace. libtest is asked to show the output of passed tests, because that is
/// where a test says what it skipped; this function keeps it from the terminal again.
fn run_tests(root: &Path) -> Result<Results> {
    let mut command = cargo(root, &["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let Some(stdout) = child.stdout.take() else { bail!("cargo test has no output") };
    let mut results = Results::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read the output of cargo test")?;
        let line = String::from_utf8_lossy(&line);
        if results.observe(&line) {
            println!("{line}");
        }
    }
    results.finish(child.wait().context("cannot wait for cargo test")?.success());
    Ok(results)
}

fn cargo(root: &Path, args: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned());
    let mut command = Command::new(program);
    command.current_dir(root).args(args);
    command
}

fn status(command: &mut Command) -> Result<Outcome> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    Ok(Outcome::from_success(status.success()))
}
