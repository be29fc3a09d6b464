//! The content of a disk, and disks that differ from it a little.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use offshoot_block::{BlockDevice, Completion, DeviceError, DeviceGeometry, DeviceOffset, DeviceOp, OpId};

use super::pattern::SECTOR_BYTES;

const PAGE: usize = 4096;

/// Copies of pages by their index.
type Pages = HashMap<usize, Box<[u8; PAGE]>, BuildHasherDefault<Spread>>;

/// A disk that shares what it does not change with an image in memory, and whose operations complete when it is
/// polled, in the order of their submission.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    base: &'a [u8],
    pages: Pages,
    completed: Vec<Completion>,
    /// Whether anything was ever asked to change it as a device.
    changed: bool,
}

impl<'a> Overlay<'a> {
    /// A disk with the content of an image.
    pub(super) fn over(base: &'a [u8]) -> Self {
        Self { base, pages: Pages::default(), completed: Vec::new(), changed: false }
    }

    /// Whether the device was asked to change anything, which [`Overlay::put`] does not count as.
    pub(super) fn was_changed(&self) -> bool {
        self.changed
    }

    /// Changes content from outside. The range lies within the disk.
    pub(super) fn put(&mut self, offset: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (index, within) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let len = (PAGE - within).min(bytes.len() - done);
            self.page_mut(index)[within..within + len].copy_from_slice(&bytes[done..done + len]);
            done += len;
        }
    }

    fn fetch(&self, offset: usize, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (index, within) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let len = (PAGE - within).min(bytes.len() - done);
            let target = &mut bytes[done..done + len];
            match self.pages.get(&index) {
                Some(page) => target.copy_from_slice(&page[within..within + len]),
                None => target.copy_from_slice(&self.base[offset + done..offset + done + len]),
            }
            done += len;
        }
    }

    fn page_mut(&mut self, index: usize) -> &mut [u8; PAGE] {
        let base = self.base;
        self.pages.entry(index).or_insert_with(|| {
            let mut page = Box::new([0; PAGE]);
            let from = &base[index * PAGE..base.len().min((index + 1) * PAGE)];
            page[..from.len()].copy_from_slice(from);
            page
        })
    }

    /// Where a range lies, if it lies within the disk.
    fn locate(&self, offset: DeviceOffset, len: u64) -> Result<(usize, usize), DeviceError> {
        let outside = DeviceError::OutOfRange { offset, len };
        let sector = SECTOR_BYTES as u64;
        if !offset.0.is_multiple_of(sector) || !len.is_multiple_of(sector) {
            return Err(DeviceError::Misaligned { offset, len });
        }
        let (start, len) = usize::try_from(offset.0).ok().zip(usize::try_from(len).ok()).ok_or(outside)?;
        let end = start.checked_add(len).ok_or(outside)?;
        if end <= self.base.len() { Ok((start, len)) } else { Err(outside) }
    }

    fn zero(&mut self, offset: DeviceOffset, len: u64) -> Result<(), DeviceError> {
        let (start, len) = self.locate(offset, len)?;
        self.changed = true;
        self.put(start, &vec![0; len]);
        Ok(())
    }
}

impl BlockDevice for Overlay<'_> {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            size_bytes: self.base.len() as u64,
            logical_block: 512,
            physical_block: 512,
            volatile_cache: true,
            read_only: false,
        }
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        let (buffer, result) = match op {
            DeviceOp::Read { offset, mut buffer } => {
                let place = self.locate(offset, buffer.len() as u64);
                let result = place.map(|(start, _)| self.fetch(start, buffer.as_mut_slice()));
                (Some(buffer), result)
            }
            DeviceOp::Write { offset, buffer } => {
                let place = self.locate(offset, buffer.len() as u64);
                self.changed = true;
                let result = place.map(|(start, _)| self.put(start, buffer.as_slice()));
                (Some(buffer), result)
            }
            DeviceOp::WriteZeroes { offset, len, .. } | DeviceOp::Unmap { offset, len } => {
                (None, self.zero(offset, len))
            }
            DeviceOp::Sync => (None, Ok(())),
        };
        self.completed.push(Completion { id, buffer, result });
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.completed);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.completed.len()
    }
}

/// Hashes page indices, of which there are many per state, faster than the standard library's hasher.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        // The table takes its place from the low bits and its tag from the high ones.
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_block::Buffer;

    fn run(disk: &mut Overlay<'_>, op: DeviceOp) -> Completion {
        let mut completions = Vec::new();
        disk.submit(OpId(1), op);
        assert_eq!(disk.outstanding(), 1);
        disk.wait(&mut completions);
        assert_eq!((disk.outstanding(), completions.len()), (0, 1));
        completions.remove(0)
    }

    fn read(disk: &mut Overlay<'_>, offset: u64, len: usize) -> Vec<u8> {
        let op = DeviceOp::Read { offset: DeviceOffset(offset), buffer: Buffer::zeroed(len) };
        run(disk, op).buffer.unwrap().as_slice().to_vec()
    }

    #[test]
    fn changes_stay_in_the_overlay() {
        let base = vec![1; 5 * PAGE + 512];
        let mut disk = Overlay::over(&base);
        let offset = DeviceOffset(PAGE as u64 - 512);
        assert!(!disk.was_changed());
        run(&mut disk, DeviceOp::Write { offset, buffer: Buffer::copy_of(&[2; 1024]) });
        run(&mut disk, DeviceOp::Unmap { offset: DeviceOffset(5 * PAGE as u64), len: 512 });
        assert!(disk.was_changed());
        disk.put(10, &[3; 2]);
        let mut expected = base.clone();
        expected[PAGE - 512..PAGE + 512].fill(2);
        expected[5 * PAGE..].fill(0);
        expected[10..12].fill(3);
        assert_eq!(read(&mut disk, 0, base.len()), expected);
        assert_eq!(base, [1; 5 * PAGE + 512]);
    }

    #[test]
    fn ranges_that_do_not_exist_are_refused() {
        let base = [0; PAGE];
        let mut disk = Overlay::over(&base);
        for (offset, len) in [(1, 512), (0, 8192), (4096, 512), (u64::MAX - 511, 512)] {
            let op = DeviceOp::WriteZeroes { offset: DeviceOffset(offset), len, may_unmap: true };
            assert!(run(&mut disk, op).result.is_err(), "{offset}+{len}");
        }
        assert!(run(&mut disk, DeviceOp::Sync).result.is_ok());
    }
}
