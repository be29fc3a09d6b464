//! `cargo xtask load`: the test `load` of the `offshoot` crate with as many clients and exports as a node of a cluster has.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    seconds: u64,
    clients: u64,
    exports: u64,
    seed: u64,
}

impl Options {
    /// Parses `[--seconds N] [--clients N] [--exports N] [--seed N]`; `None` for anything else.
    pub(crate) fn parse(args: &[&str]) -> Option<Self> {
        let mut options = Self { seconds: 60, clients: 50, exports: 20, seed: 1 };
        for pair in args.chunks(2) {
            let [name, value] = pair else { return None };
            let value = value.parse().ok()?;
            match *name {
                "--seconds" => options.seconds = value,
                "--clients" => options.clients = value,
                "--exports" => options.exports = value,
                "--seed" => options.seed = value,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Runs it for the workspace at `root`.
pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let Options { seconds, clients, exports, seed } = options;
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root);
    command.args([
        "test",
        "--release",
        "--package",
        "offshoot",
        "--test",
        "serve",
        "--",
        "--nocapture",
        "load::",
    ]);
    for (name, value) in [("SECONDS", seconds), ("CLIENTS", clients), ("EXPORTS", exports), ("SEED", seed)] {
        command.env(format!("OFFSHOOT_LOAD_{name}"), value.to_string());
    }
    let passed = command.status().context("cannot run cargo test")?.success();
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed() {
        let parse = |text: &str| Options::parse(&text.split_whitespace().collect::<Vec<_>>());
        let default = Options { seconds: 60, clients: 50, exports: 20, seed: 1 };
        assert_eq!(parse("--seed 7 --exports 3"), Some(Options { exports: 3, seed: 7, ..default }));
        for bad in ["--seed", "--seed x", "--count 1", "9"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
