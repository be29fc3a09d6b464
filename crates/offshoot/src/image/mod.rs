//! Disk images outside of a store: what an import reads and an export writes.

mod new_file;
mod qcow2;
mod raw;
mod stream;

use crate::interrupt::Interrupt;
use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

pub(crate) use new_file::NewFile;

/// How an image is laid out in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The bytes of the disk, as they are
    Raw,
    /// QEMU's format, versions 2 and 3
    Qcow2,
}

/// A piece of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) len: usize,
}

/// An image that is read from its start to its end.
pub(crate) trait Source {
    /// Size in bytes, unless only reading will tell.
    fn size_bytes(&self) -> Option<u64>;

    /// Puts the next piece that may hold something else than zeros into `buffer`, which has the same length each time.
    /// Pieces are ascending and do not cross a multiple of that length. `None`: there are only zeros up to the end.
    ///
    /// # Errors
    /// The image cannot be read, or makes no sense.
    fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>>;
}

/// An image that is written from its start to its end.
pub(crate) trait Sink {
    /// Writes bytes. Offsets ascend; what is left out reads zeros.
    ///
    /// # Errors
    /// The image cannot be written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Writes what was held back. The image is complete and durable when this returns, where that means anything.
    ///
    /// # Errors
    /// The image cannot be written.
    fn finish(&mut self) -> Result<()>;
}

/// What a path means that stands for standard input or output.
pub(crate) const STANDARD_STREAM: &str = "-";

/// Opens an image for reading. A format that is not given is told by its first bytes. Other files that the image
/// names are followed only with `allow_backing`.
///
/// # Errors
/// It cannot be opened, is not of this format, or depends on other files without leave to follow them.
pub(crate) fn open(
    path: &Path,
    format: Option<Format>,
    allow_backing: bool,
    interrupt: &Interrupt,
) -> Result<Box<dyn Source>> {
    if path == Path::new(STANDARD_STREAM) {
        let input = io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
        return stream(input.into(), "standard input", format, interrupt);
    }
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| name.clone())?;
    let file_type = file.metadata().with_context(|| name.clone())?.file_type();
    if file_type.is_dir() {
        bail!("{name}: is a directory");
    }
    if !file_type.is_file() && !file_type.is_block_device() {
        return stream(file, &name, format, interrupt);
    }
    match format {
        Some(format) => open_as(format, file, path, allow_backing),
        None => {
            let mut start = [0; qcow2::MAGIC.len()];
            let is_qcow2 = (&file).read_exact(&mut start).is_ok() && start == qcow2::MAGIC;
            let format = if is_qcow2 { Format::Qcow2 } else { Format::Raw };
            open_as(format, file, path, allow_backing)
        }
    }
    .with_context(|| name)
}

fn open_as(format: Format, file: File, path: &Path, allow_backing: bool) -> Result<Box<dyn Source>> {
    Ok(match format {
        Format::Raw => Box::new(raw::RawSource::new(file)?),
        Format::Qcow2 => Box::new(qcow2::Qcow2Source::open(path, allow_backing)?),
    })
}

fn stream(input: File, name: &str, format: Option<Format>, interrupt: &Interrupt) -> Result<Box<dyn Source>> {
    if format == Some(Format::Qcow2) {
        bail!("{name}: qcow2 cannot be read from a stream: give a file");
    }
    Ok(Box::new(stream::StreamSource::new(input, name, format.is_some(), interrupt.clone())))
}

/// Begins an image of `size_bytes` in a new file, or on standard output.
///
/// # Errors
/// It cannot be written there.
pub(crate) fn create(file: Option<&NewFile>, format: Format, size_bytes: u64) -> Result<Box<dyn Sink>> {
    match (file, format) {
        (Some(file), Format::Raw) => Ok(Box::new(raw::RawSink::new(file.reopen()?, size_bytes)?)),
        (Some(file), Format::Qcow2) => Ok(Box::new(qcow2::Qcow2Sink::new(file.reopen()?, size_bytes)?)),
        (None, Format::Raw) if io::stdout().is_terminal() => {
            bail!("standard output is a terminal: redirect it")
        }
        (None, Format::Raw) => Ok(Box::new(stream::StreamSink::new(size_bytes)?)),
        (None, Format::Qcow2) => bail!("qcow2 cannot be written to standard output: give a file"),
    }
}
