//! Many requests in flight at once: what makes an import or export as fast as the device.

use crate::open::Store;
use offshoot_block::{Buffer, DeviceError};
use offshoot_format::BlobId;
use offshoot_store::{Error, IoRequest, Reply, Ticket, Verb};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Requests in flight.
const DEPTH: usize = 16;

/// Bytes of one request, about.
const REQUEST_BYTES: u64 = 1 << 20;

/// Largest cluster that is moved as one request, in bytes.
const CLUSTER_BYTES_MAX: u64 = 4 << 20;

/// Extents of an lvol that are looked up at a time.
const EXTENTS_AT_ONCE: usize = 1024;

/// Bytes of what is read again by itself after a read failed.
const SALVAGE_BYTES: usize = 4096;

const EIO: i32 = 5;

/// How many bytes one request moves in a store of this cluster size: whole clusters, unless they are very large.
pub(crate) fn request_bytes(cluster_bytes: u64) -> usize {
    let bytes = match cluster_bytes {
        0 => REQUEST_BYTES,
        large if large > CLUSTER_BYTES_MAX => CLUSTER_BYTES_MAX,
        cluster => cluster * (REQUEST_BYTES / cluster).max(1),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Writes to an lvol, in no order. Dropping it leaves the requests in flight to the store, which finishes them before
/// any verb on the lvol and before it closes.
pub(crate) struct Writer<'s> {
    store: &'s mut Store,
    lvol: BlobId,
    in_flight: usize,
    spare: Vec<Buffer>,
    replies: Vec<(Ticket, Result<Reply, Error>)>,
}

impl<'s> Writer<'s> {
    /// Writes to `lvol` from now on.
    pub(crate) fn new(store: &'s mut Store, lvol: BlobId) -> Self {
        Self { store, lvol, in_flight: 0, spare: Vec::new(), replies: Vec::new() }
    }

    /// Gives the lvol another size, in bytes, once all writes are done.
    ///
    /// # Errors
    /// An earlier write failed, or the verb did.
    pub(crate) fn resize(&mut self, size_bytes: u64) -> Result<(), Error> {
        self.finish()?;
        let verb = Verb::Resize { lvol: self.lvol, size_bytes };
        self.store.execute(verb).map(drop)
    }

    /// Memory for the next write, with any content. A spare one is reused if it is large enough.
    pub(crate) fn buffer(&mut self, len: usize) -> Buffer {
        match self.spare.pop() {
            Some(mut spare) if spare.capacity() >= len => {
                spare.set_len(len);
                spare
            }
            _ => Buffer::zeroed(len),
        }
    }

    /// Gives memory back that was not needed.
    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        if self.spare.len() < DEPTH {
            self.spare.push(buffer);
        }
    }

    /// Writes at `offset`, in bytes. Waits for others when many are in flight.
    ///
    /// # Errors
    /// An earlier write failed.
    pub(crate) fn write(&mut self, offset: u64, data: Buffer) -> Result<(), Error> {
        while self.in_flight >= DEPTH {
            self.wait()?;
        }
        self.store.submit(IoRequest::Write { lvol: self.lvol, offset, data, fua: false });
        self.in_flight += 1;
        Ok(())
    }

    /// Waits until every write is done.
    ///
    /// # Errors
    /// One of them failed.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        while self.in_flight > 0 {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Error> {
        wait(self.store, &mut self.replies)?;
        let mut outcome = Ok(());
        for (_, result) in std::mem::take(&mut self.replies) {
            self.in_flight -= 1;
            match result {
                Ok(Reply::Buffer(buffer)) => self.recycle(buffer),
                Ok(_) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }
}

/// A part of an lvol that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// Why.
    pub(crate) why: String,
}

/// Reads what is stored of an lvol, in order, holes left out. What cannot be read is left out as well, and told.
pub(crate) struct Reader<'s> {
    store: &'s mut Store,
    lvol: BlobId,
    /// Where the search for more data goes on, and where it ends, in bytes.
    rest: Range<u64>,
    request_bytes: u64,
    /// Ranges that hold data and have not been asked for.
    ahead: VecDeque<Range<u64>>,
    /// In flight or done, in order.
    asked: VecDeque<(Ticket, u64, usize)>,
    done: BTreeMap<Ticket, Result<Reply, Error>>,
    spare: Vec<Buffer>,
    replies: Vec<(Ticket, Result<Reply, Error>)>,
    lost: Vec<Lost>,
}

impl<'s> Reader<'s> {
    /// Reads all of `lvol`, which is `size_bytes` long.
    pub(crate) fn new(store: &'s mut Store, lvol: BlobId, size_bytes: u64) -> Self {
        let request_bytes = request_bytes(store.state().units.cluster) as u64;
        Self {
            store,
            lvol,
            rest: 0..size_bytes,
            request_bytes,
            ahead: VecDeque::new(),
            asked: VecDeque::new(),
            done: BTreeMap::new(),
            spare: Vec::new(),
            replies: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// The next piece: its offset in bytes and its content. `None` when there are only holes up to the end. Zeros stand
    /// for what cannot be read.
    ///
    /// # Errors
    /// A read failed for another reason than what lies there.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Buffer)>, Error> {
        self.ask()?;
        let Some((ticket, offset, len)) = self.asked.pop_front() else {
            return Ok(None);
        };
        match self.reply(ticket) {
            Ok(buffer) => Ok(Some((offset, buffer))),
            Err(error) if is_about_content(&error) => Ok(Some((offset, self.salvage(offset, len)?))),
            Err(error) => Err(error),
        }
    }

    /// What could not be read, in order, what touches in one.
    pub(crate) fn into_lost(mut self) -> Vec<Lost> {
        self.lost.sort_by_key(|lost| lost.offset);
        self.lost.dedup_by(|next, last| {
            let goes_on = last.offset + last.len == next.offset && last.why == next.why;
            last.len += if goes_on { next.len } else { 0 };
            goes_on
        });
        self.lost
    }

    /// Waits for the reply to one read.
    fn reply(&mut self, ticket: Ticket) -> Result<Buffer, Error> {
        loop {
            if let Some(result) = self.done.remove(&ticket) {
                return result.map(|reply| match reply {
                    Reply::Buffer(buffer) => buffer,
                    Reply::Done | Reply::Made(_) => Buffer::default(),
                });
            }
            wait(self.store, &mut self.replies)?;
            self.done.extend(self.replies.drain(..));
        }
    }

    /// Reads once more what could not be read as a whole, in small pieces: a bad one costs no other.
    fn salvage(&mut self, offset: u64, len: usize) -> Result<Buffer, Error> {
        let mut whole = Buffer::zeroed(len);
        for (piece, at) in
            whole.as_mut_slice().chunks_mut(SALVAGE_BYTES).zip((offset..).step_by(SALVAGE_BYTES))
        {
            let buffer = Buffer::zeroed(piece.len());
            let ticket = self.store.submit(IoRequest::Read { lvol: self.lvol, offset: at, buffer });
            match self.reply(ticket) {
                Ok(buffer) => piece.copy_from_slice(buffer.as_slice()),
                Err(error) if is_about_content(&error) => {
                    self.lost.push(Lost { offset: at, len: piece.len() as u64, why: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(whole)
    }

    /// Gives memory back for later reads.
    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        self.spare.push(buffer);
    }

    /// Keeps as many reads in flight as are allowed.
    fn ask(&mut self) -> Result<(), Error> {
        while self.asked.len() < DEPTH {
            let Some(range) = self.next_range()? else { break };
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let buffer = match self.spare.pop() {
                Some(mut spare) if spare.capacity() >= len => {
                    spare.set_len(len);
                    spare
                }
                _ => Buffer::zeroed(len),
            };
            let ticket = self.store.submit(IoRequest::Read { lvol: self.lvol, offset: range.start, buffer });
            self.asked.push_back((ticket, range.start, len));
        }
        Ok(())
    }

    /// The next range of data that is not longer than a request.
    fn next_range(&mut self) -> Result<Option<Range<u64>>, Error> {
        while self.ahead.is_empty() && !self.rest.is_empty() {
            let extents = self.store.extents(self.lvol, self.rest.clone(), EXTENTS_AT_ONCE)?;
            let Some(last) = extents.last() else { break };
            self.rest.start = last.start + last.len;
            let unknown = extents.iter().filter(|extent| extent.unknown);
            let why =
                self.store.state().blob(self.lvol).and_then(|blob| blob.damage.clone()).unwrap_or_default();
            let lost = unknown.map(|extent| Lost { offset: extent.start, len: extent.len, why: why.clone() });
            self.lost.extend(lost);
            let data = extents.iter().filter(|extent| !extent.hole && !extent.unknown);
            self.ahead.extend(data.map(|extent| extent.start..extent.start + extent.len));
        }
        let Some(range) = self.ahead.front_mut() else {
            return Ok(None);
        };
        // Up to a multiple of a request's length: then whole clusters are read, wherever the data began.
        let cut = (range.start / self.request_bytes + 1) * self.request_bytes;
        let end = range.end.min(cut);
        let next = range.start..end;
        range.start = end;
        if range.is_empty() {
            self.ahead.pop_front();
        }
        Ok(Some(next))
    }
}

/// Whether a read failed because of what lies there, and others need not.
fn is_about_content(error: &Error) -> bool {
    matches!(error, Error::Device(_) | Error::UnknownPart { .. })
}

/// Waits for replies to what is in flight.
fn wait(store: &mut Store, replies: &mut Vec<(Ticket, Result<Reply, Error>)>) -> Result<(), Error> {
    store.wait(replies);
    // The engine answers every request. If it ever did not, an error is better than waiting for it without an end.
    if replies.is_empty() {
        return Err(Error::Device(DeviceError::Io { errno: EIO }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_move_whole_clusters() {
        for (cluster, expected) in [
            (4096, 1 << 20),
            (256 << 10, 1 << 20),
            (12 << 10, (12 << 10) * 85),
            (1 << 20, 1 << 20),
            (4 << 20, 4 << 20),
            (1 << 30, 4 << 20),
        ] {
            assert_eq!(request_bytes(cluster), expected, "{cluster}");
        }
    }
}
