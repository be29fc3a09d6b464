//! Images through pipes: read without knowing their size, written with all their zeros.

use super::{Piece, Sink, Source, qcow2};
use crate::interrupt::Interrupt;
use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

/// How long to wait for input before looking whether the user still wants it.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// A raw image that comes in.
pub(super) struct StreamSource {
    input: File,
    name: String,
    /// Whether the user said that it is raw, whatever it looks like.
    is_raw: bool,
    interrupt: Interrupt,
    at: u64,
}

impl StreamSource {
    pub(super) fn new(input: File, name: &str, is_raw: bool, interrupt: Interrupt) -> Self {
        Self { input, name: name.to_owned(), is_raw, interrupt, at: 0 }
    }

    /// Reads until the buffer is full or the input ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            self.wait()?;
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| self.name.clone()),
            }
        }
        Ok(filled)
    }

    /// Waits for input. A read would wait for it too, but go on waiting after Ctrl-C.
    fn wait(&self) -> Result<()> {
        loop {
            self.interrupt.check()?;
            let mut input = [PollFd::from_borrowed_fd(self.input.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut input, Some(&PATIENCE)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno).with_context(|| self.name.clone()),
            }
        }
    }
}

impl Source for StreamSource {
    fn size_bytes(&self) -> Option<u64> {
        None
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>> {
        let offset = self.at;
        let len = self.fill(buffer)?;
        if offset == 0 && len == 0 {
            bail!("{}: is empty", self.name);
        }
        if offset == 0 && !self.is_raw && buffer[..len].starts_with(&qcow2::MAGIC) {
            bail!("{}: qcow2 cannot be read from a stream: give a file, or --format raw", self.name);
        }
        self.at += len as u64;
        Ok((len > 0).then_some(Piece { offset, len }))
    }
}

/// A raw image that goes out on standard output.
pub(super) struct StreamSink {
    output: File,
    at: u64,
    size_bytes: u64,
}

/// Zeros that are written at a time.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

impl StreamSink {
    pub(super) fn new(size_bytes: u64) -> Result<Self> {
        let output = io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
        Ok(Self { output: output.into(), at: 0, size_bytes })
    }

    fn fill_to(&mut self, end: u64) -> Result<()> {
        while self.at < end {
            let len = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.put(&ZEROS[..len])?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes).context("standard output")?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl Sink for StreamSink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.fill_to(offset)?;
        self.put(bytes)
    }

    fn finish(&mut self) -> Result<()> {
        self.fill_to(self.size_bytes)
    }
}
