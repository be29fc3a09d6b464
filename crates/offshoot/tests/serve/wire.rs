//! The smallest NBD client that can ask what the tests need to know. It shares nothing with the server's code, and it
//! sends what well-behaved clients refuse to send.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_FLAG_ERROR: u32 = 1 << 31;

pub(crate) const FLAG_READ_ONLY: u16 = 1 << 1;

pub(crate) const CMD_READ: u16 = 0;
pub(crate) const CMD_WRITE: u16 = 1;
pub(crate) const CMD_DISC: u16 = 2;
pub(crate) const CMD_FLUSH: u16 = 3;
pub(crate) const CMD_TRIM: u16 = 4;
pub(crate) const CMD_WRITE_ZEROES: u16 = 6;

pub(crate) const CMD_FLAG_FUA: u16 = 1;
pub(crate) const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
pub(crate) const CMD_FLAG_FAST_ZERO: u16 = 1 << 4;

pub(crate) const EPERM: u32 = 1;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const ENOTSUP: u32 = 95;

/// A connection in transmission, with simple replies.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    pub(crate) size_bytes: u64,
    pub(crate) flags: u16,
}

impl Connection {
    /// Connects and chooses an export. An error of the server's is an [`io::Error`] with its message.
    pub(crate) fn open(socket: &Path, export: &str) -> io::Result<Self> {
        let mut socket = UnixStream::connect(socket)?;
        // A server that does not answer fails the test instead of stopping it.
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let greeting: [u8; 18] = read(&mut socket)?;
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        // Fixed newstyle, no padding.
        socket.write_all(&3_u32.to_be_bytes())?;
        let name_bytes = u32::try_from(export.len()).unwrap();
        let mut option = b"IHAVEOPT".to_vec();
        option.extend(OPT_GO.to_be_bytes());
        option.extend((4 + name_bytes + 2).to_be_bytes());
        option.extend(name_bytes.to_be_bytes());
        option.extend(export.as_bytes());
        option.extend([0, 0]);
        socket.write_all(&option)?;
        let mut connection = Self { socket, size_bytes: 0, flags: 0 };
        connection.read_option_replies()?;
        Ok(connection)
    }

    fn read_option_replies(&mut self) -> io::Result<()> {
        loop {
            let header: [u8; 20] = read(&mut self.socket)?;
            let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
            let mut data = vec![0; word(16) as usize];
            self.socket.read_exact(&mut data)?;
            match word(12) {
                REP_ACK => return Ok(()),
                // NBD_INFO_EXPORT
                REP_INFO if data[..2] == [0, 0] => {
                    self.size_bytes = u64::from_be_bytes(data[2..10].try_into().unwrap());
                    self.flags = u16::from_be_bytes(data[10..12].try_into().unwrap());
                }
                REP_INFO => {}
                error => {
                    assert!(error & REP_FLAG_ERROR != 0, "reply {error:#x}");
                    return Err(io::Error::other(String::from_utf8_lossy(&data).into_owned()));
                }
            }
        }
    }

    /// Sends a request without waiting for its reply. Its cookie is its offset.
    pub(crate) fn send(&mut self, command: u16, flags: u16, offset: u64, len: usize, payload: &[u8]) {
        let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
        request.extend(flags.to_be_bytes());
        request.extend(command.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(u32::try_from(len).unwrap().to_be_bytes());
        request.extend(payload);
        self.socket.write_all(&request).unwrap();
    }

    /// Takes a simple reply without payload: its cookie, and success or the error.
    pub(crate) fn receive(&mut self) -> (u64, Result<(), u32>) {
        let reply: [u8; 16] = read(&mut self.socket).unwrap();
        assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes());
        let cookie = u64::from_be_bytes(reply[8..].try_into().unwrap());
        match u32::from_be_bytes(reply[4..8].try_into().unwrap()) {
            0 => (cookie, Ok(())),
            error => (cookie, Err(error)),
        }
    }

    /// One request without payload, and its reply.
    pub(crate) fn request(&mut self, command: u16, flags: u16, offset: u64, len: usize) -> Result<(), u32> {
        self.send(command, flags, offset, len, &[]);
        self.receive_for(offset)
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8], flags: u16) -> Result<(), u32> {
        self.send(CMD_WRITE, flags, offset, data.len(), data);
        self.receive_for(offset)
    }

    pub(crate) fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, u32> {
        self.request(CMD_READ, 0, offset, len)?;
        let mut data = vec![0; len];
        self.socket.read_exact(&mut data).unwrap();
        Ok(data)
    }

    pub(crate) fn flush(&mut self) -> Result<(), u32> {
        self.request(CMD_FLUSH, 0, 0, 0)
    }

    fn receive_for(&mut self, offset: u64) -> Result<(), u32> {
        let (cookie, result) = self.receive();
        assert_eq!(cookie, offset);
        result
    }

    /// Says goodbye.
    pub(crate) fn disconnect(mut self) {
        self.send(CMD_DISC, 0, 0, 0, &[]);
        self.wait_for_end();
    }

    /// Takes simple replies up to the end of the stream. All are of writes, and none is an error.
    pub(crate) fn receive_all(&mut self) -> Vec<u64> {
        let mut replies = Vec::new();
        // Requests that the server did not read any more make the end an error.
        let _ = self.socket.read_to_end(&mut replies);
        let cookie = |reply: &[u8]| {
            assert_eq!(reply[4..8], [0; 4]);
            u64::from_be_bytes(reply[8..].try_into().unwrap())
        };
        replies.chunks(16).map(cookie).collect()
    }

    /// Reads to the end of the stream, in which nothing more may come.
    pub(crate) fn wait_for_end(&mut self) {
        let mut rest = Vec::new();
        let end = self.socket.read_to_end(&mut rest);
        assert!(end.is_ok() && rest.is_empty(), "{end:?}, {} bytes", rest.len());
    }
}

fn read<const N: usize>(socket: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}
