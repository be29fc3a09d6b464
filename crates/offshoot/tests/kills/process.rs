//! Running `offshoot`, and killing it.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::PATIENCE;
use crate::ground::Ground;

const OFFSHOOT: &str = env!("CARGO_BIN_EXE_offshoot");

const SIGKILL: i32 = 9;

/// How a command ended that was to be killed.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Before the kill.
    Finished(Output),
    Killed,
}

/// Runs `offshoot COMMAND STORE ARGS` to its end.
pub(crate) fn run(ground: &Ground, command: &str, args: &[String]) -> Result<Output> {
    // One that hangs is killed, and then its status tells.
    let output = Command::new("timeout")
        .args(["--signal=KILL", &PATIENCE.as_secs().to_string(), OFFSHOOT, command])
        .arg(&ground.store)
        .args(args)
        .output();
    output.with_context(|| format!("cannot run {command}"))
}

/// Runs `offshoot COMMAND STORE ARGS`, which must succeed, and returns what it wrote to standard output.
pub(crate) fn succeed(ground: &Ground, command: &str, args: &[&str]) -> Result<Vec<u8>> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let output = run(ground, command, &args)?;
    ensure!(output.status.success(), "{command} {args:?}: {}", ending(&output));
    Ok(output.stdout)
}

/// Runs `offshoot COMMAND STORE ARGS` and kills it some time after it was started.
pub(crate) fn run_and_kill(
    ground: &Ground,
    command: &str,
    args: &[String],
    after: Duration,
) -> Result<Ending> {
    let mut child = Command::new(OFFSHOOT)
        .arg(command)
        .arg(&ground.store)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command}"))?;
    sleep(after);
    child.kill().context("cannot kill")?;
    let output = child.wait_with_output()?;
    let is_killed = output.status.signal() == Some(SIGKILL);
    Ok(if is_killed { Ending::Killed } else { Ending::Finished(output) })
}

/// In one line, how a command ended and what it said about it.
pub(crate) fn ending(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
}

/// An `offshoot serve`, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stdout: ChildStdout,
    log: PathBuf,
}

impl Server {
    /// Starts to serve the store.
    pub(crate) fn spawn(ground: &Ground) -> Result<Self> {
        let mut child = Command::new(OFFSHOOT)
            .arg("serve")
            .arg(&ground.store)
            .arg("--nbd")
            .arg(format!("unix:{}", ground.socket.display()))
            .env("OFFSHOOT_LOG", "error")
            .stdout(Stdio::piped())
            .stderr(File::create(&ground.log)?)
            .spawn()
            .context("cannot run serve")?;
        let stdout = child.stdout.take().context("it was piped")?;
        Ok(Self { child, stdout, log: ground.log.clone() })
    }

    /// Serves the store, and returns once clients can come.
    pub(crate) fn start(ground: &Ground) -> Result<Self> {
        let mut server = Self::spawn(ground)?;
        let timeout = Timespec::try_from(PATIENCE)?;
        let mut told = Vec::new();
        loop {
            let mut fds = [PollFd::new(&server.stdout, PollFlags::IN)];
            ensure!(poll(&mut fds, Some(&timeout))? > 0, "the server is not ready after {PATIENCE:?}");
            let mut bytes = [0; 4096];
            let len = server.stdout.read(&mut bytes)?;
            if len == 0 {
                let status = server.child.wait()?;
                bail!("the server ended before it was ready, with {status}: {}", server.complaint());
            }
            told.extend(&bytes[..len]);
            if told.ends_with(b"\nready\n") || told == b"ready\n" {
                return Ok(server);
            }
        }
    }

    /// Kills it with SIGKILL. It must have been alive.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        let status = self.child.wait()?;
        ensure!(status.signal() == Some(SIGKILL), "the server ended with {status}: {}", self.complaint());
        Ok(())
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot end the server")?;
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begin.elapsed() < PATIENCE, "the server has not ended after {PATIENCE:?}");
            sleep(Duration::from_millis(1));
        };
        ensure!(status.success(), "the server ended with {status}: {}", self.complaint());
        Ok(())
    }

    /// What it wrote to standard error.
    pub(crate) fn complaint(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
