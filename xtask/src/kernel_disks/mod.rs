//! `cargo xtask kernel-disks`: lvols as devices of the kernel's, with a kernel that has them.
//!
//! A guest boots Debian's kernel, serves a store and attaches lvols to `/dev/nbdN` (`inside`): file systems are made and mounted
//! there, snapshots taken below them, servers ended and killed.

mod inside;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::guest::Guest;

/// The first program of the guest.
const INIT: &str = include_str!("init.sh");

const DISK_BYTES: u64 = 256 << 20;

/// About how long the guest has to do, in seconds.
const SECONDS: u64 = 120;

/// Boots the guest, and shows what it says.
///
/// # Errors
/// It cannot be booted.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let guest = Guest::new(root, "kernel-disks");
    guest.prepare(INIT)?;
    let disk = guest.file("disk.img");
    File::create(&disk)?.set_len(DISK_BYTES)?;
    let ended = guest.boot(&[], &[("disk", disk)], SECONDS)?;
    let is_good = ended.says("guest: the client ended with 0");
    for line in ended.console.lines().filter(|line| !is_good || line.starts_with("ok: ")) {
        println!("{}", line.trim_end());
    }
    println!("kernel-disks: {}", if is_good { "ok" } else { "FAILED" });
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The part inside of the guest.
///
/// # Errors
/// What went wrong first.
pub(crate) fn run_inside() -> Result<ExitCode> {
    inside::go().map(|()| ExitCode::SUCCESS)
}
