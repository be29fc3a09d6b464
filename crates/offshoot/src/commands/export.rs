//! `offshoot export`: an lvol becomes a disk image.

use crate::errand::transfer::{Holder, Purpose};
use crate::image::{self, Format, NewFile, STANDARD_STREAM, Sink};
use crate::interrupt::Interrupt;
use crate::open::StoreArgs;
use crate::pipeline::{Lost, Reader};
use crate::progress::Progress;
use crate::report;
use crate::size::Bytes;
use crate::volume::{self, StoreVolume, Subject, Volume};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Write the content of an lvol to a disk image
///
/// Blocks that hold nothing or zeros become holes. The file appears when it is complete. If it fails or is interrupted,
/// no file remains. Of a damaged lvol everything is written that can be read; the rest becomes holes and is listed, and
/// the exit status is 1; no file that exists is replaced then. A device that gives nothing any more is a failure.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The lvol
    name: String,
    /// The image, or - for standard output
    file: PathBuf,
    /// Format of the image
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
}

/// Exports the lvol.
///
/// # Errors
/// Why not; then there is no such file.
pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    match args.store.look() {
        Ok(mut store) => {
            let (blob, subject) = volume::subject(store.state(), &args.name)?;
            let lvol = blob.id;
            export(args, &mut StoreVolume::new(&mut store, lvol), subject)
        }
        Err(error) => {
            let holder = Holder::of(&args.store, &error).ok_or(error)?;
            let mut volume = holder.open(&args.store, &args.name, Purpose::Export)?;
            let subject = volume.subject().clone();
            export(args, &mut volume, subject)
        }
    }
}

fn export(args: &ExportArgs, volume: &mut dyn Volume, subject: Subject) -> Result<()> {
    let Subject { name, size_bytes } = subject;
    if args.file == Path::new(STANDARD_STREAM) {
        let mut sink = image::create(None, args.format, size_bytes)?;
        let lost = copy(volume, size_bytes, sink.as_mut(), None)?;
        return tell(&name, size_bytes, &lost);
    }
    let interrupt = Interrupt::install()?;
    let file = NewFile::begin(&args.file, args.force, &args.store.path)?;
    let failed = || report::plain(&args.file.display().to_string());
    let mut sink = image::create(Some(&file), args.format, size_bytes).with_context(failed)?;
    let lost = copy(volume, size_bytes, sink.as_mut(), Some(&interrupt))?;
    drop(sink);
    if lost.is_empty() {
        file.complete()?;
    } else {
        let completed = file.complete_in_part();
        let told = tell(&name, size_bytes, &lost);
        return completed.and(told);
    }
    report::done(format_args!(
        "exported lvol \"{name}\" to {}: {} ({size_bytes} bytes)",
        failed(),
        Bytes(size_bytes)
    ));
    Ok(())
}

/// Lists what could not be read.
///
/// # Errors
/// There is something: the image is not all of the lvol.
fn tell(name: &str, size_bytes: u64, lost: &[Lost]) -> Result<()> {
    let total: u64 = lost.iter().map(|lost| lost.len).sum();
    for Lost { offset, len, why } in lost {
        writeln!(io::stderr(), "{offset}+{len}: {}", report::plain(why))?;
    }
    if total > 0 {
        bail!(
            "lvol \"{name}\" is damaged: {total} of {size_bytes} bytes cannot be read, in {} parts, which are holes in \
             the image",
            lost.len()
        );
    }
    Ok(())
}

/// Writes what can be read of the lvol to an image. Returns what cannot be.
fn copy(
    volume: &mut dyn Volume,
    size_bytes: u64,
    sink: &mut dyn Sink,
    interrupt: Option<&Interrupt>,
) -> Result<Vec<Lost>> {
    let mut progress = Progress::new("export", Some(size_bytes));
    let mut reader = Reader::new(volume, size_bytes);
    while let Some((offset, buffer)) = reader.next()? {
        interrupt.map_or(Ok(()), Interrupt::check)?;
        sink.write(offset, buffer.as_slice())?;
        progress.reach(offset + buffer.len() as u64);
        reader.recycle(buffer);
    }
    let lost = reader.into_lost();
    sink.finish()?;
    Ok(lost)
}
