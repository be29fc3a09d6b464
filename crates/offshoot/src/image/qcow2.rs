//! qcow2 images, through the crate `imago`.
//!
//! A qcow2 image names other files: one that shows through where it holds nothing itself (the backing file), and one
//! that its data is in. Whoever made the image chose these names, so they are not followed without the user's leave.

use super::raw::piece;
use super::{Piece, Sink, Source};
use crate::zeros::is_zero;
use anyhow::{Context as _, Result, bail};
use imago::file::File;
use imago::format::gate::ImplicitOpenGate;
use imago::format::{Format, PreallocateMode};
use imago::qcow2::Qcow2;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder as _, FormatDriverBuilder, Mapping, Storage as _,
    StorageOpenOptions,
};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The first bytes of a qcow2 image.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Longest chain of backing files.
const CHAIN_MAX: usize = 64;

/// Unit in which an exported image is allocated, in bytes.
const CLUSTER_BYTES: usize = 65_536;

/// Position of the encryption method in the header: a number of four bytes, most significant first, 0 for none.
const CRYPT_METHOD_OFFSET: u64 = 32;

/// A qcow2 image that is read.
pub(super) struct Qcow2Source {
    image: FormatAccess<File>,
    /// All before this is done with, in bytes.
    at: u64,
}

impl Qcow2Source {
    pub(super) fn open(path: &Path, allow_backing: bool) -> Result<Self> {
        refuse_encrypted(path)?;
        let file = File::open(StorageOpenOptions::new().filename(path))?;
        let mut image = Qcow2::<File>::open_image(file, false)?;
        let others =
            [("backing", image.implicit_backing_file()), ("data", image.implicit_external_data_file())];
        for (kind, name) in others {
            if let Some(name) = name.filter(|_| !allow_backing) {
                bail!("has the {kind} file \"{name}\": give --allow-backing if that may be read");
            }
        }
        image.open_implicit_dependencies_gated(Chain { left: CHAIN_MAX })?;
        Ok(Self { image: FormatAccess::new(image), at: 0 })
    }
}

impl Source for Qcow2Source {
    fn size_bytes(&self) -> Option<u64> {
        Some(self.image.size())
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>> {
        let size_bytes = self.image.size();
        while self.at < size_bytes {
            let (mapping, len) = self.image.get_mapping(self.at, size_bytes - self.at)?;
            match mapping {
                _ if len == 0 => bail!("its map ends at {} of {size_bytes}", self.at),
                Mapping::Zero { .. } => self.at += len,
                _ => {
                    let piece = piece(self.at, size_bytes, buffer.len());
                    self.image
                        .read(&mut buffer[..piece.len], piece.offset)
                        .with_context(|| format!("cannot read {} bytes at {}", piece.len, piece.offset))?;
                    self.at = piece.offset + piece.len as u64;
                    return Ok(Some(piece));
                }
            }
        }
        Ok(None)
    }
}

/// Opens what images name, for reading, and their chain only so far: one that names itself has no end.
struct Chain {
    left: usize,
}

impl ImplicitOpenGate<File> for Chain {
    fn open_format<F: FormatDriverBuilder<File>>(&mut self, builder: F) -> io::Result<FormatAccess<File>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(io::Error::other(format!("more than {CHAIN_MAX} backing files")));
        };
        if F::FORMAT == Format::Qcow2
            && let Some(path) = builder.get_image_path()
        {
            refuse_encrypted(&path)?;
        }
        builder.open(Self { left }).map(FormatAccess::new)
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<File> {
        File::open(options.write(false))
    }
}

/// Without the key an encrypted image reads as noise, and nobody would say so.
fn refuse_encrypted(path: &Path) -> io::Result<()> {
    let mut method = [0; 4];
    match std::fs::File::open(path)?.read_exact_at(&mut method, CRYPT_METHOD_OFFSET) {
        Ok(()) if method != [0; 4] => Err(io::Error::other("is encrypted, which is not supported")),
        // Too short to be an image: for the decoder to say.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(()),
    }
}

/// A qcow2 image that is written.
pub(super) struct Qcow2Sink {
    image: FormatAccess<File>,
}

impl Qcow2Sink {
    pub(super) fn new(file: std::fs::File, size_bytes: u64) -> Result<Self> {
        let image = Qcow2::<File>::create_builder(File::try_from(file)?)
            .size(size_bytes)
            .cluster_size(CLUSTER_BYTES)
            .preallocate(PreallocateMode::None)
            .create_open(DenyImplicitOpenGate::default(), |file| {
                Ok(Qcow2::<File>::builder(file).backing(None).write(true))
            })?;
        Ok(Self { image: FormatAccess::new(image) })
    }
}

impl Sink for Qcow2Sink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        // Cut where clusters of the image begin, so that zeros of a whole one are found.
        let head = usize::try_from(offset.next_multiple_of(CLUSTER_BYTES as u64) - offset)
            .unwrap_or(CLUSTER_BYTES)
            .min(bytes.len());
        let (head, rest) = bytes.split_at(head);
        let mut at = offset;
        for chunk in std::iter::once(head).chain(rest.chunks(CLUSTER_BYTES)) {
            if !is_zero(chunk) {
                self.image.write(chunk, at)?;
            }
            at += chunk.len() as u64;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.image.flush()?;
        Ok(self.image.sync()?)
    }
}
