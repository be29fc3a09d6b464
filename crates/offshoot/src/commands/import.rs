//! `offshoot import`: a disk image becomes an lvol.

use super::identity;
use crate::errand::transfer::Holder;
use crate::image::{self, Format, Source};
use crate::interrupt::Interrupt;
use crate::open::{Store, StoreArgs};
use crate::pipeline::{Writer, request_bytes};
use crate::progress::Progress;
use crate::report;
use crate::size::Bytes;
use crate::volume::{Imported, StoreVolume, Volume, VolumeError};
use crate::zeros::{BLOCK_BYTES, data_runs};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use offshoot_block::Buffer;
use offshoot_format::BlobId;
use offshoot_store::{Verb, escape};
use std::path::PathBuf;

/// Make an lvol from a disk image
///
/// The lvol is thin. Holes of the image and blocks that are all zeros take no space. It appears when it is complete. If that
/// fails, is interrupted or killed, no lvol remains.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Name of the lvol
    name: String,
    /// The image, or - for standard input
    file: PathBuf,
    /// Format of the image [default: what its first bytes say]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Read the other files that a qcow2 image names, whichever they are
    #[arg(long)]
    allow_backing: bool,
}

/// Imports the image.
///
/// # Errors
/// Why not; then there is no such lvol.
pub(crate) fn run(args: &ImportArgs) -> Result<()> {
    offshoot_store::check_name(&args.name)?;
    let interrupt = Interrupt::install()?;
    let mut source = image::open(&args.file, args.format, args.allow_backing, &interrupt)?;
    if source.size_bytes() == Some(0) {
        bail!("{}: is empty", args.file.display());
    }
    let here = args.store.change(|store| {
        let lvol = begin(store, &args.name, source.size_bytes())?;
        let mut volume = StoreVolume::new(store, lvol);
        let filled = fill(&mut volume, source.as_mut(), &interrupt);
        let finish = Verb::Finish { lvol, name: args.name.clone() };
        let finished = filled.and_then(|()| Ok(store.execute(finish).map(drop)?));
        if let Err(error) = finished {
            return Err(take_back(store, lvol, error));
        }
        Imported::of(store.state(), lvol).context("the lvol is gone")
    });
    let Imported { size_bytes, own_bytes } = match here {
        Ok(imported) => imported,
        Err(error) => {
            let holder = Holder::of(&args.store, &error).ok_or(error)?;
            let mut volume = holder.begin(&args.store, &args.name, source.size_bytes())?;
            match fill(&mut volume, source.as_mut(), &interrupt) {
                Ok(()) => volume.finish()?,
                Err(error) => {
                    volume.give_up();
                    return Err(error);
                }
            }
        }
    };
    report::done(format_args!(
        "imported {} as lvol \"{}\": {} ({size_bytes} bytes), {} of it stored",
        report::plain(&args.file.display().to_string()),
        escape(args.name.as_bytes()),
        Bytes(size_bytes),
        Bytes(own_bytes),
    ));
    Ok(())
}

/// A thin lvol of the size of the image, as far as that is known, out of sight until it is finished.
fn begin(store: &mut Store, name: &str, size_bytes: Option<u64>) -> Result<BlobId> {
    let begin = Verb::Begin { identity: identity(name), size_bytes: size_bytes.unwrap_or(0) };
    let made = store.execute(begin)?;
    made.first().copied().context("no lvol was made")
}

/// Removes the lvol that was begun. Returns why it had to go, and that it has not where that failed too.
fn take_back(store: &mut Store, lvol: BlobId, reason: anyhow::Error) -> anyhow::Error {
    match store.execute(Verb::Remove { lvol }) {
        Ok(_) => reason,
        Err(error) => reason.context(format!("the unfinished lvol is still there ({error})")),
    }
}

/// Writes the content of the image to the lvol and makes it durable.
fn fill(volume: &mut dyn Volume, source: &mut dyn Source, interrupt: &Interrupt) -> Result<()> {
    let cluster = volume.cluster_bytes();
    let len = request_bytes(cluster);
    let mut size_bytes = source.size_bytes().unwrap_or(0);
    let mut end = 0;
    let mut progress = Progress::new("import", source.size_bytes());
    let mut writer = Writer::new(volume);
    loop {
        interrupt.check()?;
        let mut buffer = writer.buffer(len);
        let Some(piece) = source.next(buffer.as_mut_slice())? else {
            break;
        };
        end = piece.offset + piece.len as u64;
        if source.size_bytes().is_none() && end > size_bytes {
            size_bytes = grow(&mut writer, size_bytes, end.next_multiple_of(cluster))?;
        }
        // A last block that is cut short is stored whole. The lvol has room for it.
        let padded = piece.len.next_multiple_of(BLOCK_BYTES);
        buffer.set_len(padded.min(buffer.capacity()));
        buffer.as_mut_slice()[piece.len..].fill(0);
        write(&mut writer, piece.offset, buffer)?;
        progress.reach(end);
    }
    writer.finish()?;
    if source.size_bytes().is_none() {
        writer.resize(end)?;
    }
    Ok(volume.flush()?)
}

/// Writes what is not zeros.
fn write(writer: &mut Writer<'_>, offset: u64, buffer: Buffer) -> Result<(), VolumeError> {
    let runs = data_runs(buffer.as_slice());
    if runs.first().is_some_and(|run| run.len() == buffer.len()) {
        return writer.write(offset, buffer);
    }
    for run in runs {
        let mut part = writer.buffer(run.len());
        part.as_mut_slice().copy_from_slice(&buffer.as_slice()[run.clone()]);
        writer.write(offset + run.start as u64, part)?;
    }
    writer.recycle(buffer);
    Ok(())
}

/// Makes room in an lvol whose final size is not known yet: twice as much as there was, so that it is seldom needed, but
/// only `needed` where that is beyond the limits.
fn grow(writer: &mut Writer<'_>, size_bytes: u64, needed: u64) -> Result<u64, VolumeError> {
    // What is wrong with earlier writes is no reason to try again.
    writer.finish()?;
    let ample = needed.max(size_bytes.saturating_mul(2));
    match writer.resize(ample) {
        Err(_) if ample > needed => writer.resize(needed).map(|()| needed),
        resized => resized.map(|()| ample),
    }
}
