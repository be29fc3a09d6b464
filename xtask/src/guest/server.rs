//! Programs that run in a guest: the server, and those that do one thing.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Runs a program to its end. What it says is only shown when it fails.
///
/// # Errors
/// It cannot be run, or fails.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    let output = command.args(args).stdin(Stdio::null()).output().with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}: {said}", args.join(" "), output.status);
    Ok(())
}

/// `offshoot serve`.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    /// Kept open: a server may say more.
    _output: BufReader<ChildStdout>,
}

/// Where NBD clients find it.
pub(crate) const SOCKET: &str = "/run/nbd";

impl Server {
    /// Starts it, and waits until clients can come.
    pub(crate) fn start(args: &[&str]) -> Result<Self> {
        let mut command = Command::new("offshoot");
        command.arg("serve").args(args).args(["--nbd", &format!("unix:{SOCKET}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().context("offshoot serve")?;
        let output = process.stdout.take().context("the server has no output")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while line != "ready\n" {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                bail!("the server ended before it was ready: {}", process.wait()?);
            }
        }
        Ok(Self { process, _output: output })
    }

    /// Asks it to end in order, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        run("kill", &["-TERM", &self.process.id().to_string()])?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Kills it.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}
