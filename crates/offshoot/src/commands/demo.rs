//! `offshoot demo`: the whole main job on an image of its own making.

use crate::demo::{self, Runner};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Show the main job: import an image, snapshot it, clone it, use the clones as block devices, get the bytes back
///
/// Needs no root, no other program, and 400 MiB of disk for less than a minute.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder to work in, made if need be, whose files are kept [default: one that is removed in the end]
    dir: Option<PathBuf>,
}

/// Runs the demonstration, whose commands `runner` runs.
///
/// # Errors
/// Some step of it failed.
pub(crate) fn run(args: &DemoArgs, runner: Runner) -> Result<()> {
    demo::run(args.dir.as_deref(), runner)
}
