//! Where the demonstration takes place, and how it shows what it does.

use crate::report::Outcome;
use anyhow::{Context as _, Result, ensure};
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What runs a command of this program: its words, the program's name first.
pub(crate) type Runner = fn(&[&str]) -> Result<Outcome>;

/// A shell, as it were, in a folder.
#[derive(Debug)]
pub(super) struct Session {
    runner: Runner,
    /// Where the process was before.
    home: PathBuf,
    /// Goes away with the session.
    _temporary: Option<TempDir>,
}

impl Session {
    /// Goes to a folder, which is made if need be and must be empty, or to a temporary one.
    pub(super) fn begin(dir: Option<&Path>, runner: Runner) -> Result<Self> {
        let home = env::current_dir().context("cannot tell the current folder")?;
        let temporary = match dir {
            Some(dir) => {
                fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
                let mut entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
                ensure!(entries.next().is_none(), "{}: is not empty", dir.display());
                None
            }
            None => Some(TempDir::with_prefix("offshoot-demo-").context("cannot make a temporary folder")?),
        };
        if let Some(place) = temporary.as_ref().map(TempDir::path).or(dir) {
            // So that file names are as short as a user would type them.
            env::set_current_dir(place).with_context(|| place.display().to_string())?;
        }
        let session = Self { runner, home, _temporary: temporary };
        session.show(&format!("cd {}", env::current_dir()?.display()));
        Ok(session)
    }

    /// Shows a command of this program and does it.
    pub(super) fn run(&self, args: &[&str]) -> Result<()> {
        let line = [&["offshoot"], args].concat();
        self.show(&line.join(" "));
        let outcome = (self.runner)(&line)?;
        ensure!(outcome == Outcome::Done, "{} found damage", args.join(" "));
        Ok(())
    }

    /// Shows a command line.
    pub(super) fn show(&self, command: &str) {
        self.say(&format!("$ {command}"));
    }

    /// Shows what comes next.
    pub(super) fn title(&self, title: &str) {
        self.say(&format!("\n# {title}"));
    }

    /// Shows a line. The demonstration goes on if nobody looks.
    pub(super) fn say(&self, line: &str) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

impl Drop for Session {
    /// Leaves the folder before it goes away.
    fn drop(&mut self) {
        let _ = env::set_current_dir(&self.home);
    }
}
