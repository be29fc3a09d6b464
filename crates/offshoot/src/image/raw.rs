//! Raw images: files and block devices. Holes stay holes.

use super::{Piece, Sink, Source};
use crate::zeros::data_runs;
use anyhow::{Context as _, Result};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io::Seek as _;
use std::os::unix::fs::FileExt as _;

/// A raw image that is read.
pub(super) struct RawSource {
    file: File,
    size_bytes: u64,
    /// All before this is done with, in bytes.
    at: u64,
}

impl RawSource {
    pub(super) fn new(mut file: File) -> Result<Self> {
        // The length in the metadata of a block device is 0.
        let size_bytes = file.seek(std::io::SeekFrom::End(0))?;
        Ok(Self { file, size_bytes, at: 0 })
    }

    /// First byte from `at` on that is not in a hole; `None` when all the rest is one.
    fn next_data(&self) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            // No holes are known here, as on a block device.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(self.at)),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Source for RawSource {
    fn size_bytes(&self) -> Option<u64> {
        Some(self.size_bytes)
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>> {
        if self.at >= self.size_bytes {
            return Ok(None);
        }
        let Some(data) = self.next_data()? else {
            self.at = self.size_bytes;
            return Ok(None);
        };
        let piece = piece(self.at.max(data), self.size_bytes, buffer.len());
        self.file
            .read_exact_at(&mut buffer[..piece.len], piece.offset)
            .with_context(|| format!("cannot read {} bytes at {}", piece.len, piece.offset))?;
        self.at = piece.offset + piece.len as u64;
        Ok(Some(piece))
    }
}

/// The piece of an image in which the byte `at` lies, when pieces begin at the multiples of `len`.
pub(super) fn piece(at: u64, size_bytes: u64, len: usize) -> Piece {
    let offset = at - at % len as u64;
    let rest = usize::try_from(size_bytes - offset).unwrap_or(usize::MAX);
    Piece { offset, len: rest.min(len) }
}

/// A raw image that is written.
pub(super) struct RawSink {
    file: File,
}

impl RawSink {
    pub(super) fn new(file: File, size_bytes: u64) -> Result<Self> {
        file.set_len(size_bytes)?;
        Ok(Self { file })
    }
}

impl Sink for RawSink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        for run in data_runs(bytes) {
            self.file.write_all_at(&bytes[run.clone()], offset + run.start as u64)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.file.sync_all()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_multiples_and_at_the_end() {
        for (at, size_bytes, expected) in [
            (0, 100, (0, 64)),
            (63, 100, (0, 64)),
            (64, 100, (64, 36)),
            (99, 100, (64, 36)),
            (0, 10, (0, 10)),
        ] {
            let piece = piece(at, size_bytes, 64);
            assert_eq!((piece.offset, piece.len), expected, "{at} of {size_bytes}");
        }
    }

    #[test]
    fn holes_are_left_out_and_left() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(16 * MIB + 5).unwrap();
        file.write_all_at(b"data", 5 * MIB + 4096).unwrap();
        file.write_all_at(b"end", 16 * MIB + 2).unwrap();
        let copy = tempfile::tempfile().unwrap();

        let mut source = RawSource::new(file.try_clone().unwrap()).unwrap();
        let mut sink = RawSink::new(copy.try_clone().unwrap(), 16 * MIB + 5).unwrap();
        let mut buffer = vec![1; 1 << 20];
        let mut pieces = Vec::new();
        while let Some(piece) = source.next(&mut buffer).unwrap() {
            sink.write(piece.offset, &buffer[..piece.len]).unwrap();
            pieces.push((piece.offset, piece.len));
        }
        sink.finish().unwrap();
        assert_eq!(pieces, [(5 * MIB, 1 << 20), (16 * MIB, 5)]);

        let content = |file: &File| {
            let mut content = vec![0; 16 * (1 << 20) + 5];
            file.read_exact_at(&mut content, 0).unwrap();
            content
        };
        assert!(content(&file) == content(&copy));
        let holes = rustix::fs::seek(&copy, SeekFrom::Data(0)).unwrap();
        assert_eq!(holes, 5 * MIB + 4096);
    }
}
