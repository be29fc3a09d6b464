//! Serves one export from memory: the smallest backend there is, and a yardstick for the server itself.
//!
//! `serve_memory SOCKET MIB` serves until its standard input is readable or closed.

use offshoot_block::Buffer;
use offshoot_nbd::{
    Backend, BufferPool, Command, ExportId, ExportInfo, Extent, OpenError, Peer, Reply, RequestId, Server,
};
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

struct Memory {
    bytes: Vec<u8>,
    pool: BufferPool,
    replies: Vec<(RequestId, Reply)>,
}

impl Memory {
    /// A range that the server has checked.
    fn slice(&mut self, offset: u64, len: u64) -> &mut [u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        &mut self.bytes[start..start + len]
    }

    fn execute(&mut self, command: Command) -> Reply {
        match command {
            Command::Read { offset, len } => {
                let mut buffer = self.pool.take(len as usize);
                buffer.as_mut_slice().copy_from_slice(self.slice(offset, len.into()));
                return Reply::Data(buffer);
            }
            Command::Write { offset, data, .. } => {
                self.slice(offset, data.len() as u64).copy_from_slice(data.as_slice());
                self.pool.give(data);
            }
            Command::Trim { offset, len, .. } | Command::WriteZeroes { offset, len, .. } => {
                self.slice(offset, len).fill(0);
            }
            Command::BlockStatus { len, .. } => {
                return Reply::Status(vec![Extent { len, allocated: true, zero: false }]);
            }
            Command::Flush | Command::Cache { .. } => {}
        }
        Reply::Done
    }
}

impl Backend for Memory {
    fn exports(&self, _peer: &Peer) -> Vec<ExportInfo> {
        vec![ExportInfo {
            name: "memory".to_owned(),
            description: String::new(),
            size_bytes: self.bytes.len() as u64,
            read_only: false,
            min_block: 1,
            preferred_block: 4096,
            max_block: 32 << 20,
        }]
    }

    fn open(&mut self, name: &str, peer: &Peer) -> Result<(ExportId, ExportInfo), OpenError> {
        let export = self.exports(peer).into_iter().find(|export| name.is_empty() || name == export.name);
        export.map(|info| (ExportId(0), info)).ok_or(OpenError::NotFound)
    }

    fn close(&mut self, _export: ExportId) {}

    fn submit(&mut self, id: RequestId, _export: ExportId, command: Command) {
        let reply = self.execute(command);
        self.replies.push((id, reply));
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        replies.append(&mut self.replies);
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.pool.take(len)
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.pool.give(buffer);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(socket), Some(mib)) = (args.next(), args.next()) else {
        return Err("usage: serve_memory SOCKET MIB".into());
    };
    let bytes = vec![0; mib.parse::<usize>()? << 20];
    let mut server = Server::new(Memory { bytes, pool: BufferPool::new(), replies: Vec::new() })?;
    server.listen_unix(Path::new(&socket))?;
    server.run(std::io::stdin().as_fd())?;
    Ok(())
}
