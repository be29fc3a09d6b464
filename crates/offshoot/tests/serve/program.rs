//! Running the programs of others.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::skip;

/// Seconds after which a program hangs rather than works.
const PATIENCE: &str = "60";

/// An installed program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
}

impl Program {
    /// Looks for a program. `None`, after a [`skip`], if it is not installed.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        // Where a user's `PATH` often does not lead, though the programs there run for anyone.
        let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let mut candidates = env::split_paths(&path).chain(system).map(|folder| folder.join(name));
        let found = candidates.find(|path| path.is_file());
        if found.is_none() {
            skip(name, "it is not installed");
        }
        found.map(|path| Self { path })
    }

    /// A command that does not outlive the patience of the tests.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", PATIENCE]).arg(&self.path);
        // Some write files into the folder where they run.
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        command
    }

    /// Runs the program, which must succeed, and returns what it wrote to standard output.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{self:?} {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("programs write text")
    }

    /// Runs the program, which must succeed, and may take so many seconds.
    pub(crate) fn run_for(&self, seconds: u64, args: &[&str]) {
        let output = Command::new("timeout")
            .args(["--kill-after=5", &seconds.to_string()])
            .arg(&self.path)
            .args(args)
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .output()
            .expect("timeout(1) is part of every system");
        assert!(output.status.success(), "{self:?} {args:?}: {output:?}");
    }

    /// Runs the program, which must fail, and returns all that it wrote.
    pub(crate) fn fail(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("programs write text");
        // 124 and above: killed, or not even started.
        assert!((1..124).contains(&output.status.code().unwrap_or(255)), "{self:?} {args:?}: {text}");
        text
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("timeout(1) is part of every system")
    }
}

/// Looks for several programs. `None`, after a skip for each missing one, unless all are installed.
pub(crate) fn find_all<const N: usize>(names: [&str; N]) -> Option<[Program; N]> {
    let found: Vec<Program> = names.into_iter().filter_map(Program::find).collect();
    found.try_into().ok()
}
