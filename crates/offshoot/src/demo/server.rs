//! `offshoot serve` as a process of its own.

use super::session::Session;
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A server that runs. Killed when it is dropped without having been stopped.
#[derive(Debug)]
pub(super) struct Server {
    process: Child,
}

impl Server {
    /// Starts this program with `args`, and waits until it says that it is ready.
    pub(super) fn start(args: &[&str], session: &Session) -> Result<Self> {
        let program = env::current_exe().context("cannot tell where this program is")?;
        let process = Command::new(program)
            .args(args)
            .env(crate::serve::LOG_VARIABLE, "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server cannot be started")?;
        let mut server = Self { process };
        let output = server.process.stdout.take().context("the server has no output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            session.say(&line);
            if line == "ready" {
                return Ok(server);
            }
        }
        anyhow::bail!("the server ended before it was ready")
    }

    /// Asks it to end in order, and waits for that.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("the server has no process id")?, Signal::TERM)?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended, as it should have.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
