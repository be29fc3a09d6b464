//! Many requests in flight at once: what makes an import or export as fast as the device.

use crate::volume::{Done, Volume, VolumeError};
use offshoot_block::{BlockDevice as _, Buffer, Completion, DeviceError, DeviceOffset, DeviceOp, OpId};
use offshoot_device::FileDevice;
use offshoot_store::{Change, Ticket};
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

/// How much may be unreadable at a stretch, in pieces of that size, before the device counts as gone: 16 MiB.
const UNREADABLE_AT_A_STRETCH: u32 = 4096;

/// How many bytes one request moves in a store of this cluster size: whole clusters, unless they are very large.
pub(crate) fn request_bytes(cluster_bytes: u64) -> usize {
    let bytes = match cluster_bytes {
        0 => REQUEST_BYTES,
        large if large > CLUSTER_BYTES_MAX => CLUSTER_BYTES_MAX,
        cluster => cluster * (REQUEST_BYTES / cluster).max(1),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Writes to an lvol, in no order.
pub(crate) struct Writer<'v> {
    volume: &'v mut dyn Volume,
    in_flight: usize,
    spare: Vec<Buffer>,
    done: Vec<Done>,
}

impl<'v> Writer<'v> {
    /// Writes to `volume` from now on.
    pub(crate) fn new(volume: &'v mut dyn Volume) -> Self {
        Self { volume, in_flight: 0, spare: Vec::new(), done: Vec::new() }
    }

    /// Gives the lvol another size, in bytes, once all writes are done.
    ///
    /// # Errors
    /// An earlier write failed, or the verb did.
    pub(crate) fn resize(&mut self, size_bytes: u64) -> Result<(), VolumeError> {
        self.finish()?;
        self.volume.resize(size_bytes)
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
    pub(crate) fn write(&mut self, offset: u64, data: Buffer) -> Result<(), VolumeError> {
        while self.in_flight >= DEPTH {
            self.wait()?;
        }
        self.volume.write(offset, data)?;
        self.in_flight += 1;
        Ok(())
    }

    /// Waits until every write is done.
    ///
    /// # Errors
    /// One of them failed.
    pub(crate) fn finish(&mut self) -> Result<(), VolumeError> {
        while self.in_flight > 0 {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), VolumeError> {
        self.volume.wait(&mut self.done)?;
        let mut outcome = Ok(());
        for (_, result) in std::mem::take(&mut self.done) {
            self.in_flight -= 1;
            match result {
                Ok(buffer) => self.recycle(buffer),
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
pub(crate) struct Reader<'v> {
    volume: &'v mut dyn Volume,
    /// Where the search for more data goes on, and where it ends, in bytes.
    rest: Range<u64>,
    request_bytes: u64,
    /// Ranges that hold data and have not been asked for.
    ahead: VecDeque<Range<u64>>,
    /// In flight or done, in order.
    asked: VecDeque<(Ticket, u64, usize)>,
    done: BTreeMap<Ticket, Result<Buffer, VolumeError>>,
    spare: Vec<Buffer>,
    replies: Vec<Done>,
    lost: Vec<Lost>,
    device: Health,
}

/// Whether a device that fails has bad places only, or gives nothing any more.
#[derive(Debug, Default)]
struct Health {
    has_read: bool,
    /// How many pieces have failed since one could be read.
    failed: u32,
    last: Option<VolumeError>,
}

impl Health {
    fn good(&mut self) {
        (self.has_read, self.failed) = (true, 0);
    }

    /// # Errors
    /// The same, if so much has failed that nothing else is to be hoped for.
    fn bad(&mut self, error: VolumeError) -> Result<(), VolumeError> {
        self.failed += 1;
        if self.failed > UNREADABLE_AT_A_STRETCH {
            return Err(error);
        }
        self.last = Some(error);
        Ok(())
    }

    /// # Errors
    /// Nothing at all could be read.
    fn finish(&mut self) -> Result<(), VolumeError> {
        match self.last.take() {
            Some(error) if !self.has_read => Err(error),
            _ => Ok(()),
        }
    }
}

impl<'v> Reader<'v> {
    /// Reads all of an lvol that is `size_bytes` long.
    pub(crate) fn new(volume: &'v mut dyn Volume, size_bytes: u64) -> Self {
        let request_bytes = request_bytes(volume.cluster_bytes()) as u64;
        Self {
            volume,
            rest: 0..size_bytes,
            request_bytes,
            ahead: VecDeque::new(),
            asked: VecDeque::new(),
            done: BTreeMap::new(),
            spare: Vec::new(),
            replies: Vec::new(),
            lost: Vec::new(),
            device: Health::default(),
        }
    }

    /// Reads only what is data in some ranges of an lvol, ascending.
    pub(crate) fn of_ranges(volume: &'v mut dyn Volume, ranges: &[Change]) -> Self {
        let data = ranges.iter().filter(|range| !range.zero);
        let ahead = data.map(|range| range.start..range.start + range.len).collect();
        Self { ahead, ..Self::new(volume, 0) }
    }

    /// The next piece: its offset in bytes and its content. `None` when there are only holes up to the end. Zeros stand
    /// for what cannot be read.
    ///
    /// # Errors
    /// A read failed for another reason than what lies there: the device as a whole, when nothing can be read any more.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Buffer)>, VolumeError> {
        self.ask()?;
        let Some((ticket, offset, len)) = self.asked.pop_front() else {
            return self.device.finish().map(|()| None);
        };
        match self.reply(ticket) {
            Ok(buffer) => {
                self.device.good();
                Ok(Some((offset, buffer)))
            }
            Err(error) if is_about_content(&error) => Ok(Some((offset, self.salvage(offset, len)?))),
            Err(error) => Err(error),
        }
    }

    /// Whether something could not be read until now.
    pub(crate) fn lost_any(&self) -> bool {
        !self.lost.is_empty()
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
    fn reply(&mut self, ticket: Ticket) -> Result<Buffer, VolumeError> {
        loop {
            if let Some(result) = self.done.remove(&ticket) {
                return result;
            }
            self.volume.wait(&mut self.replies)?;
            self.done.extend(self.replies.drain(..));
        }
    }

    /// Reads once more what could not be read as a whole, in small pieces: a bad one costs no other.
    fn salvage(&mut self, offset: u64, len: usize) -> Result<Buffer, VolumeError> {
        let mut whole = Buffer::zeroed(len);
        for (piece, at) in
            whole.as_mut_slice().chunks_mut(SALVAGE_BYTES).zip((offset..).step_by(SALVAGE_BYTES))
        {
            let buffer = Buffer::zeroed(piece.len());
            let ticket = self.volume.read(at, buffer)?;
            match self.reply(ticket) {
                Ok(buffer) => {
                    self.device.good();
                    piece.copy_from_slice(buffer.as_slice());
                }
                Err(error) if is_about_content(&error) => {
                    self.lost.push(Lost { offset: at, len: piece.len() as u64, why: error.to_string() });
                    if matches!(error, VolumeError::Device(_)) {
                        self.device.bad(error)?;
                    }
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
    fn ask(&mut self) -> Result<(), VolumeError> {
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
            let ticket = self.volume.read(range.start, buffer)?;
            self.asked.push_back((ticket, range.start, len));
        }
        Ok(())
    }

    /// The next range of data that is not longer than a request.
    fn next_range(&mut self) -> Result<Option<Range<u64>>, VolumeError> {
        while self.ahead.is_empty() && !self.rest.is_empty() {
            let extents = self.volume.extents(self.rest.clone(), EXTENTS_AT_ONCE)?;
            let Some(last) = extents.last() else { break };
            self.rest.start = last.start + last.len;
            let unknown = extents.iter().filter(|extent| extent.unknown);
            let why = self.volume.damage();
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

/// Writes to a device outside of the store, in no order.
pub(crate) struct Target {
    device: FileDevice,
    ids: u64,
    completions: Vec<Completion>,
}

impl Target {
    /// Writes to `device` from now on.
    pub(crate) fn new(device: FileDevice) -> Self {
        Self { device, ids: 0, completions: Vec::new() }
    }

    /// Writes at `offset`, in bytes. Waits for others when many are in flight, and may hand back the memory of one.
    ///
    /// # Errors
    /// An earlier operation failed.
    pub(crate) fn write(&mut self, offset: u64, buffer: Buffer) -> Result<Option<Buffer>, DeviceError> {
        self.submit(DeviceOp::Write { offset: DeviceOffset(offset), buffer })
    }

    /// Makes a range read zeros.
    ///
    /// # Errors
    /// An earlier operation failed.
    pub(crate) fn zero(&mut self, offset: u64, len: u64) -> Result<(), DeviceError> {
        let op = DeviceOp::WriteZeroes { offset: DeviceOffset(offset), len, may_unmap: true };
        self.submit(op).map(drop)
    }

    /// Waits until everything is done and durable.
    ///
    /// # Errors
    /// Something failed.
    pub(crate) fn finish(&mut self) -> Result<(), DeviceError> {
        self.drain(0)?;
        self.submit(DeviceOp::Sync)?;
        self.drain(0).map(drop)
    }

    fn submit(&mut self, op: DeviceOp) -> Result<Option<Buffer>, DeviceError> {
        let spare = self.drain(DEPTH - 1)?;
        self.ids += 1;
        self.device.submit(OpId(self.ids), op);
        Ok(spare)
    }

    /// Waits until no more than so many are in flight.
    fn drain(&mut self, in_flight: usize) -> Result<Option<Buffer>, DeviceError> {
        let mut spare = None;
        while self.device.outstanding() > in_flight {
            self.device.wait(&mut self.completions);
            for Completion { buffer, result, .. } in self.completions.drain(..) {
                result?;
                spare = buffer.or(spare);
            }
        }
        Ok(spare)
    }
}

/// Whether a read failed because of what lies there, and others need not.
fn is_about_content(error: &VolumeError) -> bool {
    matches!(error, VolumeError::Device(_) | VolumeError::Unknown(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::StoreArgs;
    use crate::volume::StoreVolume;
    use offshoot_device::MemDevice;
    use offshoot_store::{CreateOptions, Error, Identity, InitOptions, OpenOptions, Verb};
    use std::fs::File;
    use uuid::Uuid;

    const LVOL_BYTES: u64 = 1 << 20;

    /// Where a part of a file comes to an end.
    fn export_of(cut_at: impl Fn(u64) -> u64) -> Result<Vec<Lost>, VolumeError> {
        let init = InitOptions {
            name: "lvs".into(),
            uuid: Uuid::from_u128(1),
            cluster_size: 65_536,
            block_size: 512,
            md_page_size: 4096,
            native: false,
            clear_method: offshoot_store::ClearMethod::Default,
            journal_bytes: None,
        };
        let writable = OpenOptions::writable([1; 16], None);
        let mut store = offshoot_store::Store::init(MemDevice::new(16 << 20, 512), &init, &writable).unwrap();
        let identity = Identity { name: "a".into(), uuid: Uuid::from_u128(2), created: 0 };
        let lvol = store
            .execute(Verb::Create {
                identity,
                size_bytes: LVOL_BYTES,
                options: CreateOptions::provisioned(true),
            })
            .unwrap()[0];
        let mut data = Buffer::zeroed(usize::try_from(LVOL_BYTES).unwrap());
        data.as_mut_slice().fill(7);
        store.write(lvol, 0, data).unwrap();
        let (device, closed) = store.close();
        closed.unwrap();
        let content = device.content();
        let data_at = content.windows(8).position(|bytes| bytes == [7; 8]).unwrap() as u64;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, content).unwrap();
        let mut store = StoreArgs { path: path.clone(), externals: Vec::new() }.look().unwrap();
        // Behind the back of the program: a file cannot vanish, but what is behind its end cannot be read.
        File::options().write(true).open(&path).unwrap().set_len(cut_at(data_at)).unwrap();
        let mut volume = StoreVolume::new(&mut store, lvol);
        let mut reader = Reader::new(&mut volume, LVOL_BYTES);
        while let Some((_, buffer)) = reader.next()? {
            reader.recycle(buffer);
        }
        Ok(reader.into_lost())
    }

    #[test]
    fn a_device_that_is_gone_is_a_failure() {
        let gone = export_of(|_| 0);
        assert!(matches!(gone, Err(VolumeError::Device(_))), "{gone:?}");
        let half = export_of(|data_at| data_at + LVOL_BYTES / 2).unwrap();
        let ranges: Vec<(u64, u64)> = half.iter().map(|lost| (lost.offset, lost.len)).collect();
        assert_eq!(ranges, [(LVOL_BYTES / 2, LVOL_BYTES / 2)]);
    }

    #[test]
    fn many_bad_places_are_not_the_end_but_a_long_stretch_is() {
        let error = || VolumeError::from(Error::Device(DeviceError::Io { errno: 5 }));
        let mut health = Health::default();
        for _ in 0..3 * UNREADABLE_AT_A_STRETCH {
            health.bad(error()).unwrap();
            health.good();
        }
        for _ in 0..UNREADABLE_AT_A_STRETCH {
            health.bad(error()).unwrap();
        }
        assert!(matches!(health.bad(error()), Err(VolumeError::Device(_))));
        assert!(health.finish().is_ok());
    }

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
