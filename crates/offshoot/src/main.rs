//! offshoot on the command line: make a store, look at it, change it, move images in and out, serve it.
//!
//! Each command is one file of `commands`, named after it. A command opens its store, asks the engine, and says in
//! one line what was done; a refusal is one line on standard error and leaves the store as it was.
//!
//! Will never do: interpret bytes of the format (that is `offshoot-format`), decide what a verb means (that is
//! `offshoot-store`), or change a store for a command that only looks.

mod clear;
mod cli;
mod commands;
mod deed;
mod demo;
mod errand;
mod external;
mod growth;
mod image;
mod interrupt;
mod job;
mod json;
mod listing;
mod lookup;
mod nbd;
mod open;
mod pace;
mod pipeline;
mod progress;
mod report;
mod serve;
mod size;
mod table;
mod time;
mod tree;
mod volume;
mod zeros;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(outcome) => outcome.into(),
        Err(error) => report::failure(&error),
    }
}
