//! `offshoot copy`: what a snapshot holds itself, put onto another device.

use crate::errand::transfer::{Holder, Purpose};
use crate::interrupt::Interrupt;
use crate::open::{StoreArgs, device};
use crate::pipeline::{Reader, Target};
use crate::progress::Progress;
use crate::report;
use crate::size::Bytes;
use crate::volume::{self, StoreVolume, Subject, Volume};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use offshoot_block::BlockDevice as _;
use offshoot_device::{FileDevice, OpenOptions};
use offshoot_store::Change;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Put what a snapshot holds itself onto a file or device (shallow copy)
///
/// Only the blocks that it says something about, data or zeros, are written, each at its place; what it reads from its
/// parent is left out, and the rest of the destination stays what it was. Copies of a chain of snapshots onto one
/// destination, the oldest first, make a copy of the last. The lvol must be read-only: of a writable one, take a
/// snapshot and copy that. A destination that does not exist is made, sparse, and removed again if the copy fails; one
/// that exists is as large as the lvol at least, and keeps what was written until then.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The snapshot or read-only lvol
    name: String,
    /// File or block device to write to
    #[arg(value_name = "DEST")]
    destination: PathBuf,
}

/// Copies.
///
/// # Errors
/// Why not, or why not all of it.
pub(crate) fn run(args: &CopyArgs) -> Result<()> {
    match args.store.look() {
        Ok(mut store) => {
            let state = store.state();
            let (blob, subject) = volume::subject(state, &args.name)?;
            let lvol = blob.id;
            let ranges: Vec<Change> = state.shallow_copy(lvol)?.collect();
            copy(args, &mut StoreVolume::new(&mut store, lvol), subject, &ranges)
        }
        Err(error) => {
            let holder = Holder::of(&args.store, &error).ok_or(error)?;
            let mut volume = holder.open(&args.store, &args.name, Purpose::Copy)?;
            let ranges = volume.copy_ranges()?;
            let subject = volume.subject().clone();
            copy(args, &mut volume, subject, &ranges)
        }
    }
}

fn copy(args: &CopyArgs, volume: &mut dyn Volume, subject: Subject, ranges: &[Change]) -> Result<()> {
    let Subject { name, size_bytes } = subject;
    let interrupt = Interrupt::install()?;
    let path = &args.destination;
    let (opened, is_new) = destination(args, size_bytes)?;
    let copied = check(&opened, path, size_bytes).and_then(|()| {
        let mut target = Target::new(opened);
        let failed = || path.display().to_string();
        let mut reader = Reader::of_ranges(volume, ranges);
        let mut progress = Progress::new("copy", Some(ranges.iter().map(|range| range.len).sum()));
        let mut done = 0;
        for range in ranges.iter().filter(|range| range.zero) {
            interrupt.check()?;
            target.zero(range.start, range.len).with_context(failed)?;
            done += range.len;
            progress.reach(done);
        }
        while let Some((offset, buffer)) = reader.next()? {
            interrupt.check()?;
            if reader.lost_any() {
                bail!("lvol \"{name}\" cannot be read at {offset}+{}", buffer.len());
            }
            done += buffer.len() as u64;
            if let Some(spare) = target.write(offset, buffer).with_context(failed)? {
                reader.recycle(spare);
            }
            progress.reach(done);
        }
        target.finish().with_context(failed)?;
        Ok(done)
    });
    if copied.is_err() && is_new {
        // Why the copy failed is the reason to tell.
        let _ = fs::remove_file(path);
    }
    let done = copied?;
    report::done(format_args!(
        "copied {} ({done} bytes) of \"{name}\" to {}",
        Bytes(done),
        report::plain(&path.display().to_string())
    ));
    Ok(())
}

/// Opens what is to be written to, under a lock like that of a store. Says whether it was made for this.
fn destination(args: &CopyArgs, size_bytes: u64) -> Result<(FileDevice, bool)> {
    let path = &args.destination;
    let failed = || path.display().to_string();
    match fs::metadata(path) {
        Ok(there) => {
            let used = [&args.store.path].into_iter().chain(args.store.externals.iter().map(|one| &one.file));
            for used in used {
                if is_same(&there, &fs::metadata(used).with_context(|| used.display().to_string())?) {
                    bail!("{}: is what is copied from", path.display());
                }
            }
            Ok((device(path, &OpenOptions::writable())?, false))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok((FileDevice::create(path, size_bytes, &OpenOptions::writable())?, true))
        }
        Err(error) => Err(error).with_context(failed),
    }
}

/// Whether two paths lead to one file, or to one block device.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let are_devices = one.file_type().is_block_device() && other.file_type().is_block_device();
    (one.dev(), one.ino()) == (other.dev(), other.ino()) || (are_devices && one.rdev() == other.rdev())
}

fn check(device: &FileDevice, path: &Path, size_bytes: u64) -> Result<()> {
    let there = device.geometry().size_bytes;
    if there < size_bytes {
        bail!("{}: has {there} bytes, {size_bytes} are needed", path.display());
    }
    Ok(())
}
