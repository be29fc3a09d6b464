//! The smallest NBD client that can keep several requests under way: fixed newstyle, simple replies, taken by a thread
//! of each connection. Names of constants are those of the NBD project's `doc/proto.md`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::super::pattern::OpNumber;

const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const NBD_FLAG_C_FIXED_NEWSTYLE: u32 = 1;
const NBD_FLAG_C_NO_ZEROES: u32 = 2;
const NBD_OPT_EXPORT_NAME: u32 = 1;
const NBD_REQUEST_MAGIC: u32 = 0x2560_9513;
const NBD_SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const NBD_CMD_FLAG_FUA: u16 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    WriteZeroes = 6,
}

/// An answer: the request, and the error, 0 for none.
pub(super) type Answer = (OpNumber, u32);

/// A connection to an export.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Opens an export. The answers go to `answers` until the connection ends.
    pub(super) fn open(socket: &Path, export: &str, answers: Sender<Answer>) -> Result<Self> {
        let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        ensure!(greeting[..16] == [NBDMAGIC, IHAVEOPT].map(u64::to_be_bytes).concat(), "no server of NBD");
        let mut hello = (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES).to_be_bytes().to_vec();
        hello.extend(IHAVEOPT.to_be_bytes());
        hello.extend(NBD_OPT_EXPORT_NAME.to_be_bytes());
        hello.extend(u32::try_from(export.len())?.to_be_bytes());
        hello.extend(export.as_bytes());
        stream.write_all(&hello)?;
        // Size and flags of the export. A server that does not have it hangs up instead.
        stream.read_exact(&mut [0; 10]).with_context(|| format!("export {export}"))?;
        let receiver = stream.try_clone()?;
        let name = format!("answers of {export}");
        thread::Builder::new().name(name).spawn(move || receive(receiver, &answers))?;
        Ok(Self { stream })
    }

    /// Sends a request. Fails when the server is gone.
    pub(super) fn send(
        &mut self,
        op: OpNumber,
        command: Command,
        fua: bool,
        offset: u64,
        len: usize,
        payload: &[u8],
    ) -> Result<()> {
        let flags = if fua { NBD_CMD_FLAG_FUA } else { 0 };
        let mut request = NBD_REQUEST_MAGIC.to_be_bytes().to_vec();
        request.extend(flags.to_be_bytes());
        request.extend((command as u16).to_be_bytes());
        request.extend(u64::from(op).to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(u32::try_from(len)?.to_be_bytes());
        request.extend(payload);
        self.stream.write_all(&request).context("the server takes no request")
    }

    /// Says goodbye.
    pub(super) fn disconnect(mut self) -> Result<()> {
        self.send(0, Command::Disconnect, false, 0, 0, &[])
    }
}

/// Hands on answers until the connection ends or nobody wants them. One that cannot be understood is error
/// `u32::MAX` of request 0.
fn receive(mut stream: UnixStream, answers: &Sender<Answer>) {
    let mut reply = [0; 16];
    while stream.read_exact(&mut reply).is_ok() {
        let number = |at: usize| reply[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        // The upper half of the cookie is never used.
        let sound = number(0) == NBD_SIMPLE_REPLY_MAGIC && number(8) == 0;
        let answer = if sound { (number(12), number(4)) } else { (0, u32::MAX) };
        if answers.send(answer).is_err() || !sound {
            return;
        }
    }
}
