//! Exports in memory. Replies come at once, or when a gate is opened.

use offshoot_block::Buffer;
use offshoot_nbd::{
    Adopted, Backend, BufferPool, Command, Errno, ExportId, ExportInfo, Extent, OpenError, Peer, Reply,
    RequestId,
};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Unit of allocation.
pub const BLOCK: usize = 4096;

/// One export.
pub struct MemoryExport {
    pub info: ExportInfo,
    data: Vec<u8>,
    allocated: Vec<bool>,
}

/// What a test sees and steers from outside.
#[derive(Default)]
pub struct Control {
    /// While set, requests are held.
    shut: AtomicBool,
    /// While set, requests take several polls and nothing announces that they are done.
    pub sluggish: AtomicBool,
    bell: Mutex<Option<PipeWriter>>,
    pub submitted: AtomicUsize,
    pub flushes: AtomicUsize,
    pub durable_writes: AtomicUsize,
    pub opened: AtomicUsize,
    pub closed: AtomicUsize,
    /// Connections to take over.
    adoptions: Mutex<Vec<Adopted>>,
    /// Those that have ended.
    pub parted: Mutex<Vec<u64>>,
}

impl Control {
    /// Holds requests from now on.
    pub fn shut_gate(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    /// Answers what was held.
    pub fn open_gate(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.ring();
    }

    /// Has the server take over a connection.
    pub fn adopt(&self, adopted: Adopted) {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.adoptions.lock().unwrap().push(adopted);
        self.ring();
    }

    fn ring(&self) {
        let bell = self.bell.lock().unwrap();
        bell.as_ref().unwrap().write_all(&[1]).unwrap();
    }
}

pub struct MemoryBackend {
    exports: Vec<MemoryExport>,
    pool: BufferPool,
    held: Vec<(RequestId, ExportId, Command)>,
    replies: Vec<(RequestId, Reply)>,
    polls: u32,
    bell: PipeReader,
    pub control: Arc<Control>,
}

pub fn export(name: &str, size_bytes: u64, read_only: bool) -> ExportInfo {
    ExportInfo {
        name: name.to_owned(),
        description: format!("test export {name}"),
        size_bytes,
        read_only,
        min_block: 1,
        preferred_block: 4096,
        max_block: 32 << 20,
    }
}

impl MemoryBackend {
    pub fn new(exports: Vec<ExportInfo>) -> Self {
        let (bell, ringer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&bell, true).unwrap();
        let control = Control { bell: Mutex::new(Some(ringer)), ..Control::default() };
        let exports = exports.into_iter().map(|info| {
            let size = usize::try_from(info.size_bytes).unwrap();
            MemoryExport { info, data: vec![0; size], allocated: vec![false; size.div_ceil(BLOCK)] }
        });
        Self {
            exports: exports.collect(),
            pool: BufferPool::new(),
            held: Vec::new(),
            replies: Vec::new(),
            polls: 0,
            bell,
            control: Arc::new(control),
        }
    }

    fn find(&self, name: &str) -> Result<usize, OpenError> {
        if name == "refused" {
            return Err(OpenError::Refused { reason: "it is being resized".to_owned() });
        }
        if name.is_empty() && self.exports.len() == 1 {
            return Ok(0);
        }
        self.exports.iter().position(|export| export.info.name == name).ok_or(OpenError::NotFound)
    }

    fn execute(&mut self, export: ExportId, command: Command) -> Reply {
        let target = &mut self.exports[usize::try_from(export.0).unwrap()];
        match command {
            Command::Read { offset, len } => target.read(offset, len, &mut self.pool),
            Command::Write { offset, data, fua } => {
                self.control.durable_writes.fetch_add(usize::from(fua), Ordering::SeqCst);
                target.write(offset, data.as_slice());
                self.pool.give(data);
                Reply::Done
            }
            Command::Flush => {
                self.control.flushes.fetch_add(1, Ordering::SeqCst);
                Reply::Done
            }
            Command::Trim { offset, len, .. } => {
                target.zero(offset, len, true);
                Reply::Done
            }
            Command::WriteZeroes { fast: true, no_hole: true, .. } => Reply::Error(Errno::NotSup),
            Command::WriteZeroes { offset, len, no_hole, .. } => {
                target.zero(offset, len, !no_hole);
                Reply::Done
            }
            Command::BlockStatus { offset, len, .. } => Reply::Status(target.status(offset, len)),
            Command::Cache { .. } => Reply::Done,
        }
    }
}

impl MemoryExport {
    fn range(offset: u64, len: u64) -> std::ops::Range<usize> {
        usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap()
    }

    fn blocks(offset: u64, len: u64) -> std::ops::Range<usize> {
        let range = Self::range(offset, len);
        range.start / BLOCK..range.end.div_ceil(BLOCK)
    }

    fn read(&self, offset: u64, len: u32, pool: &mut BufferPool) -> Reply {
        if !self.allocated[Self::blocks(offset, len.into())].contains(&true) {
            return Reply::Zeroes;
        }
        let mut buffer = pool.take(len as usize);
        buffer.as_mut_slice().copy_from_slice(&self.data[Self::range(offset, len.into())]);
        Reply::Data(buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let len = bytes.len() as u64;
        self.data[Self::range(offset, len)].copy_from_slice(bytes);
        self.allocated[Self::blocks(offset, len)].fill(true);
    }

    fn zero(&mut self, offset: u64, len: u64, punch: bool) {
        self.data[Self::range(offset, len)].fill(0);
        if punch {
            let inner =
                usize::try_from(offset).unwrap().div_ceil(BLOCK)..Self::range(offset, len).end / BLOCK;
            self.allocated[inner.start..inner.end.max(inner.start)].fill(false);
        } else {
            self.allocated[Self::blocks(offset, len)].fill(true);
        }
    }

    fn status(&self, offset: u64, len: u64) -> Vec<Extent> {
        let mut skip = offset % BLOCK as u64;
        let blocks = &self.allocated[Self::blocks(offset, len)];
        blocks
            .iter()
            .map(|&allocated| {
                let len = BLOCK as u64 - std::mem::take(&mut skip);
                Extent { len, allocated, zero: !allocated }
            })
            .collect()
    }
}

impl Backend for MemoryBackend {
    fn exports(&self, _peer: &Peer) -> Vec<ExportInfo> {
        self.exports.iter().map(|export| export.info.clone()).collect()
    }

    fn open(&mut self, name: &str, _peer: &Peer) -> Result<(ExportId, ExportInfo), OpenError> {
        let index = self.find(name)?;
        self.control.opened.fetch_add(1, Ordering::SeqCst);
        Ok((ExportId(index as u64), self.exports[index].info.clone()))
    }

    fn close(&mut self, _export: ExportId) {
        self.control.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn adopted(&mut self) -> Option<Adopted> {
        self.control.adoptions.lock().unwrap().pop()
    }

    fn parted(&mut self, tag: u64) {
        self.control.parted.lock().unwrap().push(tag);
    }

    fn submit(&mut self, id: RequestId, export: ExportId, command: Command) {
        self.control.submitted.fetch_add(1, Ordering::SeqCst);
        if self.control.shut.load(Ordering::SeqCst) || self.control.sluggish.load(Ordering::SeqCst) {
            self.held.push((id, export, command));
        } else {
            let reply = self.execute(export, command);
            self.replies.push((id, reply));
        }
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        // Before looking at the gate, so that a ring in between is not lost.
        let _ = self.bell.read(&mut [0; 64]);
        replies.append(&mut self.replies);
        self.polls = self.polls.wrapping_add(1);
        let held_back = self.busy() && !self.polls.is_multiple_of(5);
        if held_back || self.control.shut.load(Ordering::SeqCst) {
            return;
        }
        for (id, export, command) in std::mem::take(&mut self.held) {
            let reply = self.execute(export, command);
            replies.push((id, reply));
        }
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }

    fn busy(&self) -> bool {
        self.control.sluggish.load(Ordering::SeqCst) && !self.held.is_empty()
    }

    fn buffer(&mut self, len: usize) -> Buffer {
        self.pool.take(len)
    }

    fn recycle(&mut self, buffer: Buffer) {
        self.pool.give(buffer);
    }
}
