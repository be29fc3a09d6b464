//! The smallest NBD client that moves bytes: fixed newstyle, simple replies, as many requests at a time as the caller
//! likes. Names of constants are those of the NBD project's `doc/proto.md`.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const NBD_FLAG_C_FIXED_NEWSTYLE: u32 = 1;
const NBD_FLAG_C_NO_ZEROES: u32 = 2;
const NBD_OPT_EXPORT_NAME: u32 = 1;
const NBD_REQUEST_MAGIC: u32 = 0x2560_9513;
const NBD_SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
}

/// A connection to an export.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    /// Numbers the requests.
    cookie: u64,
}

impl Connection {
    /// Opens an export.
    ///
    /// # Errors
    /// The server does not have it, or is none.
    pub(crate) fn open(stream: UnixStream, export: &str) -> Result<Self> {
        let mut client = Self { stream, cookie: 0 };
        ensure!(client.take_u64()? == NBDMAGIC, "the server does not speak NBD");
        ensure!(client.take_u64()? == IHAVEOPT, "the server speaks an old dialect of NBD");
        let [..] = client.take::<2>()?;
        let mut option = (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES).to_be_bytes().to_vec();
        option.extend(IHAVEOPT.to_be_bytes());
        option.extend(NBD_OPT_EXPORT_NAME.to_be_bytes());
        option.extend(u32::try_from(export.len())?.to_be_bytes());
        option.extend(export.as_bytes());
        client.stream.write_all(&option)?;
        // Size and flags of the export. A server that does not have it hangs up instead.
        let [..] = client.take::<10>().with_context(|| format!("export {export}"))?;
        Ok(client)
    }

    /// Sends a request about `len` bytes, with those of a write. Returns its cookie.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn send(&mut self, command: Command, offset: u64, len: usize, data: &[u8]) -> io::Result<u64> {
        self.cookie += 1;
        let mut request = Vec::with_capacity(28);
        request.extend(NBD_REQUEST_MAGIC.to_be_bytes());
        request.extend([0; 2]);
        request.extend((command as u16).to_be_bytes());
        request.extend(self.cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(u32::try_from(len).map_err(io::Error::other)?.to_be_bytes());
        self.stream.write_all(&request)?;
        self.stream.write_all(data)?;
        Ok(self.cookie)
    }

    /// Takes the next reply: the cookie of its request, and the server's error or 0. The bytes of a read that has none
    /// come next.
    ///
    /// # Errors
    /// The server is gone, or sent something else.
    pub(crate) fn receive(&mut self) -> Result<(u64, u32)> {
        let [magic, error] = [self.take_u32()?, self.take_u32()?];
        let cookie = self.take_u64()?;
        if magic != NBD_SIMPLE_REPLY_MAGIC {
            bail!("the server sent something that is no reply");
        }
        Ok((cookie, error))
    }

    /// Takes the bytes of a read.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn receive_data(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(bytes)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn take_u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn take_u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.take()?))
    }
}
