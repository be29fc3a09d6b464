//! Requests at a queue depth.

use anyhow::Result;
use offshoot_block::{BlockDevice, Buffer};
use offshoot_store::{IoRequest, Reply, Store};
use std::time::{Duration, Instant};

/// A closed loop: the next request goes out when one of `depth` is back.
pub(crate) struct Load {
    pub(crate) depth: usize,
    pub(crate) requests: u64,
    /// A barrier after so many requests, beside them. `None`: no barrier at all.
    pub(crate) flush_every: Option<u64>,
}

impl Load {
    /// Without barriers.
    pub(crate) fn new(depth: usize, requests: u64) -> Self {
        Self { depth, requests, flush_every: None }
    }

    /// Runs it with requests of 4 KiB, made from their number and a buffer. Returns how long it took.
    pub(crate) fn run<D: BlockDevice>(
        &self,
        store: &mut Store<D>,
        mut request: impl FnMut(u64, Buffer) -> IoRequest,
    ) -> Result<Duration> {
        let mut buffers: Vec<Buffer> = (0..self.depth).map(|_| Buffer::zeroed(4096)).collect();
        let (mut submitted, mut done, mut flushes) = (0, 0, 0_u64);
        let mut replies = Vec::new();
        let start = Instant::now();
        while done < self.requests || flushes > 0 {
            while submitted < self.requests
                && let Some(buffer) = buffers.pop()
            {
                store.submit(request(submitted, buffer));
                submitted += 1;
                if self.flush_every.is_some_and(|every| submitted % every == 0) {
                    store.submit(IoRequest::Flush);
                    flushes += 1;
                }
            }
            store.wait(&mut replies);
            for (_, reply) in replies.drain(..) {
                match reply? {
                    Reply::Buffer(buffer) => {
                        buffers.push(buffer);
                        done += 1;
                    }
                    _ => flushes -= 1,
                }
            }
        }
        Ok(start.elapsed())
    }
}
