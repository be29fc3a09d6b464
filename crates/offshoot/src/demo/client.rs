//! An export as a block device, one request at a time.

use crate::nbd::{Command, Connection};
use anyhow::{Context as _, Result, bail, ensure};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to an export.
#[derive(Debug)]
pub(super) struct Client {
    connection: Connection,
}

impl Client {
    /// Opens an export.
    pub(super) fn connect(socket: &Path, export: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        Ok(Self { connection: Connection::open(stream, export)? })
    }

    /// Reads bytes.
    pub(super) fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.request(Command::Read, offset, len, &[])?;
        let mut bytes = vec![0; len];
        self.connection.receive_data(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes bytes.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.request(Command::Write, offset, bytes.len(), bytes)
    }

    /// Makes what was written durable.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.request(Command::Flush, 0, 0, &[])
    }

    /// Ends the connection in order.
    pub(super) fn disconnect(mut self) -> Result<()> {
        self.connection.send(Command::Disconnect, 0, 0, &[])?;
        Ok(())
    }

    fn request(&mut self, command: Command, offset: u64, len: usize, data: &[u8]) -> Result<()> {
        let asked = self.connection.send(command, offset, len, data)?;
        let (answered, error) = self.connection.receive()?;
        if answered != asked {
            bail!("the server answers another question");
        }
        ensure!(error == 0, "the server answers with error {error}");
        Ok(())
    }
}
