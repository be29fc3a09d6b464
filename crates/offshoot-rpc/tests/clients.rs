//! A client of another make: Python's, which reads responses as SPDK's `rpc.py` does.
#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod common;

use common::running::Running;
use std::process::Command;

const SCRIPT: &str = include_str!("client.py");

#[test]
fn python() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("SKIPPED: python3 is not installed");
        return;
    }
    let running = Running::start();
    let output = Command::new("python3").args(["-c", SCRIPT]).arg(running.socket()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout == "done\n", "{stdout}{stderr}");
}
