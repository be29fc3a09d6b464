//! `cargo xtask sim`: the simulator of `offshoot-sim`, built optimised. Its exit status is handed on.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, str};

use anyhow::{Context as _, Result};

/// Runs the simulator with the arguments given, which it explains itself when they make no sense.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<ExitCode> {
    let code = status(root, args)?;
    if code == 1
        && let Some(commit) = commit(root)
    {
        eprintln!("at commit {commit}");
    }
    Ok(ExitCode::from(code))
}

/// The exit status of the simulator, 255 when it has none.
pub(crate) fn status(root: &Path, args: &[&str]) -> Result<u8> {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let simulator = ["run", "--quiet", "--release", "--package", "offshoot-sim", "--bin", "sim", "--"];
    let status = Command::new(program).current_dir(root).args(simulator).args(args).status();
    let code = status.context("cannot run the simulator")?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// What a seed belongs to: the same seed of another commit is another run. `None` outside of a repository.
fn commit(root: &Path) -> Option<String> {
    let output =
        Command::new("git").current_dir(root).args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let commit = str::from_utf8(&output.stdout).ok()?.trim();
    (output.status.success() && !commit.is_empty()).then(|| commit.to_owned())
}
