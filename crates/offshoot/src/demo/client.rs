//! The smallest NBD client that can read, write and flush: fixed newstyle, simple replies, one request at a time.
//! Names of constants are those of the NBD project's `doc/proto.md`.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const NBD_FLAG_C_FIXED_NEWSTYLE: u32 = 1;
const NBD_FLAG_C_NO_ZEROES: u32 = 2;
const NBD_OPT_EXPORT_NAME: u32 = 1;
const NBD_REQUEST_MAGIC: u32 = 0x2560_9513;
const NBD_SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
}

/// A connection to an export.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    /// Numbers the requests.
    cookie: u64,
}

impl Client {
    /// Opens an export.
    pub(super) fn connect(socket: &Path, export: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        let mut client = Self { stream, cookie: 0 };
        ensure!(client.take_u64()? == NBDMAGIC, "the server does not speak NBD");
        ensure!(client.take_u64()? == IHAVEOPT, "the server speaks an old dialect of NBD");
        let [..] = client.take::<2>()?;
        client.put(&(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES).to_be_bytes())?;
        client.put(&IHAVEOPT.to_be_bytes())?;
        client.put(&NBD_OPT_EXPORT_NAME.to_be_bytes())?;
        client.put(&u32::try_from(export.len())?.to_be_bytes())?;
        client.put(export.as_bytes())?;
        // Size and flags of the export. A server that does not have it hangs up instead.
        let [..] = client.take::<10>().with_context(|| format!("export {export}"))?;
        Ok(client)
    }

    /// Reads bytes.
    pub(super) fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.request(Command::Read, offset, len)?;
        self.reply()?;
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes bytes.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.request(Command::Write, offset, bytes.len())?;
        self.put(bytes)?;
        self.reply()
    }

    /// Makes what was written durable.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.request(Command::Flush, 0, 0)?;
        self.reply()
    }

    /// Ends the connection in order.
    pub(super) fn disconnect(mut self) -> Result<()> {
        self.request(Command::Disconnect, 0, 0)
    }

    fn request(&mut self, command: Command, offset: u64, len: usize) -> Result<()> {
        self.cookie += 1;
        let mut request = Vec::new();
        request.extend(NBD_REQUEST_MAGIC.to_be_bytes());
        request.extend([0; 2]);
        request.extend((command as u16).to_be_bytes());
        request.extend(self.cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(u32::try_from(len)?.to_be_bytes());
        self.put(&request)
    }

    fn reply(&mut self) -> Result<()> {
        let magic = self.take_u32()?;
        let error = self.take_u32()?;
        let cookie = self.take_u64()?;
        if magic != NBD_SIMPLE_REPLY_MAGIC || cookie != self.cookie {
            bail!("the server answers another question");
        }
        ensure!(error == 0, "the server answers with error {error}");
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn take_u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn take_u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take()?))
    }
}
