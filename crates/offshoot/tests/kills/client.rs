//! An NBD client with many requests under way. It shares nothing with the server's code.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const INFO_EXPORT: [u8; 2] = [0, 0];
const FLAG_READ_ONLY: u16 = 1 << 1;

pub(crate) const CMD_READ: u16 = 0;
pub(crate) const CMD_WRITE: u16 = 1;
pub(crate) const CMD_FLUSH: u16 = 3;
pub(crate) const CMD_TRIM: u16 = 4;
pub(crate) const CMD_WRITE_ZEROES: u16 = 6;

pub(crate) const CMD_FLAG_FUA: u16 = 1;
pub(crate) const CMD_FLAG_NO_HOLE: u16 = 1 << 1;

/// Time in which a server does something, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A connection in transmission, with simple replies.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    pub(crate) size_bytes: u64,
    pub(crate) read_only: bool,
    /// Received and not yet understood.
    input: Vec<u8>,
}

/// A reply to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    /// 0 for success.
    pub(crate) error: u32,
    /// Of a read.
    pub(crate) data: Vec<u8>,
}

impl Connection {
    /// Connects and chooses an export.
    pub(crate) fn open(socket: &Path, export: &str) -> io::Result<Self> {
        let mut socket = UnixStream::connect(socket)?;
        // A server that does not answer fails the test instead of stopping it.
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        if &read::<18>(&mut socket)?[..16] != b"NBDMAGICIHAVEOPT" {
            return Err(io::Error::other("no NBD server"));
        }
        let name_bytes = u32::try_from(export.len()).map_err(io::Error::other)?;
        // Fixed newstyle without padding, then the one option.
        let mut hello = 3_u32.to_be_bytes().to_vec();
        hello.extend(b"IHAVEOPT");
        hello.extend(OPT_GO.to_be_bytes());
        hello.extend((4 + name_bytes + 2).to_be_bytes());
        hello.extend(name_bytes.to_be_bytes());
        hello.extend(export.as_bytes());
        hello.extend([0, 0]);
        socket.write_all(&hello)?;
        let mut connection = Self { socket, size_bytes: 0, read_only: false, input: Vec::new() };
        connection.read_option_replies()?;
        Ok(connection)
    }

    fn read_option_replies(&mut self) -> io::Result<()> {
        loop {
            let header: [u8; 20] = read(&mut self.socket)?;
            let mut data = vec![0; word(&header, 16) as usize];
            self.socket.read_exact(&mut data)?;
            match word(&header, 12) {
                REP_ACK => return Ok(()),
                REP_INFO if data.len() == 12 && data[..2] == INFO_EXPORT => {
                    self.size_bytes = long(&data, 2);
                    self.read_only = u16::from_be_bytes([data[10], data[11]]) & FLAG_READ_ONLY != 0;
                }
                REP_INFO => {}
                _ => return Err(io::Error::other(String::from_utf8_lossy(&data).into_owned())),
            }
        }
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &Request<'_>) -> io::Result<()> {
        let Request { cookie, command, flags, offset, len, payload } = *request;
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(payload);
        self.socket.write_all(&bytes)
    }

    /// Waits until something has arrived and takes it in. False at the end of the stream: a server that dies with
    /// requests unread resets it, once all that it had sent is read.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 << 10];
        match self.socket.read(&mut bytes) {
            Ok(len) => {
                self.input.extend(&bytes[..len]);
                Ok(len > 0)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next reply that has arrived as a whole. `data_len` tells how many bytes a successful request of a cookie
    /// reads.
    pub(crate) fn reply(&mut self, data_len: impl Fn(u64) -> usize) -> io::Result<Option<Reply>> {
        const HEADER: usize = 16;
        if self.input.len() < HEADER {
            return Ok(None);
        }
        if word(&self.input, 0) != 0x6744_6698 {
            return Err(io::Error::other("no reply where one should begin"));
        }
        let (error, cookie) = (word(&self.input, 4), long(&self.input, 8));
        let end = HEADER + if error == 0 { data_len(cookie) } else { 0 };
        if self.input.len() < end {
            return Ok(None);
        }
        let data = self.input.drain(..end).skip(HEADER).collect();
        Ok(Some(Reply { cookie, error, data }))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A request on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'p> {
    pub(crate) cookie: u64,
    pub(crate) command: u16,
    pub(crate) flags: u16,
    /// In bytes.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) len: u32,
    pub(crate) payload: &'p [u8],
}

fn read<const N: usize>(socket: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
