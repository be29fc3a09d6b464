//! `cargo xtask campaign`: everything that takes longer than the gate may, one step after the other. A step that fails
//! does not keep the next from running; the last line says how many failed.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::sim;

/// A step: what it is called, what it does, and the exit status that counts as success.
struct Step {
    name: &'static str,
    run: fn(&Path) -> Result<u8>,
    expected: u8,
}

/// What a simulator exits with that was told to break a rule and found out.
const FOUND_OUT: u8 = 1;

const STEPS: &[Step] = &[
    Step { name: "enumerations", run: |root| sim::status(root, &["--thorough"]), expected: 0 },
    Step { name: "crash states", run: |root| sim::status(root, &["--states", "5000000"]), expected: 0 },
    Step { name: "damage", run: |root| sim::status(root, &["--damage", "--minutes", "30"]), expected: 0 },
    Step { name: "random sequences", run: random_sequences, expected: 0 },
    Step { name: "load", run: |root| again(root, &["load"]), expected: 0 },
    Step { name: "kills", run: |root| again(root, &["kills", "--count", "200"]), expected: 0 },
    Step { name: "power cuts", run: |root| again(root, &["powercut"]), expected: 0 },
    Step { name: "kernel disks", run: |root| again(root, &["kernel-disks"]), expected: 0 },
    Step { name: "bit flips", run: |root| again(root, &["bitflips"]), expected: 0 },
    Step { name: "fuzz targets", run: |root| again(root, &["fuzz", "--seconds", "3600"]), expected: 0 },
    Step { name: "without R1", run: |root| sim::status(root, &["--break", "R1"]), expected: FOUND_OUT },
    Step { name: "without R2", run: |root| sim::status(root, &["--break", "R2"]), expected: FOUND_OUT },
    Step { name: "without R3", run: |root| sim::status(root, &["--break", "R3"]), expected: FOUND_OUT },
    Step { name: "without R4", run: |root| sim::status(root, &["--break", "R4"]), expected: FOUND_OUT },
    Step { name: "without R5", run: |root| sim::status(root, &["--break", "R5"]), expected: FOUND_OUT },
    Step { name: "without R6", run: |root| sim::status(root, &["--break", "R6"]), expected: FOUND_OUT },
    Step { name: "without R7", run: |root| sim::status(root, &["--break", "R7"]), expected: FOUND_OUT },
    Step { name: "without R8", run: |root| sim::status(root, &["--break", "R8"]), expected: FOUND_OUT },
];

/// Runs of random verbs and requests against a model: a hundred thousand steps of each kind, all space counted anew after
/// each of them.
fn random_sequences(root: &Path) -> Result<u8> {
    let args =
        ["test", "--package", "offshoot-store", "--test", "model", "--test", "space", "--test", "shortage"];
    let mut tests = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tests.current_dir(root).args(args).env("PROPTEST_CASES", "5000");
    let status = tests.status().context("cannot run cargo")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Another of these commands, in a process of its own: its exit status is what counts.
fn again(root: &Path, args: &[&str]) -> Result<u8> {
    let own = std::env::current_exe().context("cannot tell what program this is")?;
    let status = Command::new(own).current_dir(root).args(args).status().context("cannot run it again")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Runs every step over the workspace at `root`.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let mut failed = 0;
    for Step { name, run, expected } in STEPS {
        println!("== {name}");
        let start = Instant::now();
        let code = run(root)?;
        let verdict = if code == *expected { "ok" } else { "FAILED" };
        failed += usize::from(code != *expected);
        println!("== {name}: {verdict}, exit status {code}, {} s", start.elapsed().as_secs());
    }
    println!("{} steps, {failed} failed", STEPS.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
