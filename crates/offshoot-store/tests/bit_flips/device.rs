//! A device in memory that costs nothing to copy: what is written lies over an image that all copies share.

use offshoot_block::{BlockDevice, Completion, DeviceGeometry, DeviceOp, OpId};
use std::collections::BTreeMap;
use std::rc::Rc;

const PAGE: usize = 4096;

/// Operations after which a device gives up: a store of a few md pages takes some hundred to open, change and close.
const OPS_MAX: usize = 5000;

/// An image, and what was written over it since.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    base: Rc<[u8]>,
    written: BTreeMap<usize, Box<[u8; PAGE]>>,
    queue: Vec<(OpId, DeviceOp)>,
    ops: usize,
}

impl Overlay {
    pub(crate) fn new(base: Rc<[u8]>) -> Self {
        assert!(base.len().is_multiple_of(PAGE));
        Self { base, written: BTreeMap::new(), queue: Vec::new(), ops: 0 }
    }

    /// Inverts one bit.
    pub(crate) fn flip(&mut self, at: usize, bit: u8) {
        self.page_mut(at / PAGE)[at % PAGE] ^= 1 << bit;
    }

    /// The pages that may differ from the image, by number, with what the image has there.
    pub(crate) fn written(&self) -> impl Iterator<Item = (usize, &[u8], &[u8])> {
        self.written
            .iter()
            .map(|(page, bytes)| (*page, bytes.as_slice(), &self.base[page * PAGE..(page + 1) * PAGE]))
    }

    fn page(&self, page: usize) -> &[u8] {
        match self.written.get(&page) {
            Some(bytes) => bytes.as_slice(),
            None => &self.base[page * PAGE..(page + 1) * PAGE],
        }
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE] {
        let base = &self.base[page * PAGE..(page + 1) * PAGE];
        self.written.entry(page).or_insert_with(|| Box::new(base.try_into().unwrap()))
    }

    fn read(&self, at: usize, target: &mut [u8]) {
        for (page, from, to) in pieces(at, target.len()) {
            let len = to.len();
            target[to].copy_from_slice(&self.page(page)[from..from + len]);
        }
    }

    fn write(&mut self, at: usize, len: usize, source: impl Fn(std::ops::Range<usize>, &mut [u8])) {
        for (page, from, to) in pieces(at, len) {
            let len = to.len();
            source(to, &mut self.page_mut(page)[from..from + len]);
        }
    }

    fn apply(&mut self, op: &mut DeviceOp) {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        match op {
            DeviceOp::Read { offset, buffer } => self.read(at(offset.0), buffer.as_mut_slice()),
            DeviceOp::Write { offset, buffer } => {
                let bytes = buffer.as_slice();
                self.write(at(offset.0), bytes.len(), |range, target| target.copy_from_slice(&bytes[range]));
            }
            DeviceOp::WriteZeroes { offset, len, .. } => {
                self.write(at(offset.0), at(*len), |_, target| target.fill(0));
            }
            // What was discarded may hold anything, and here it holds what it held.
            DeviceOp::Unmap { .. } | DeviceOp::Sync => {}
        }
    }
}

/// The pages of a range, the part of each, and which part of the range that is.
fn pieces(at: usize, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let from = (at + done) % PAGE;
        let part = (PAGE - from).min(len - done);
        let piece = (part > 0).then_some(((at + done) / PAGE, from, done..done + part));
        done += part;
        piece
    })
}

impl BlockDevice for Overlay {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            size_bytes: self.base.len() as u64,
            logical_block: 512,
            physical_block: 4096,
            volatile_cache: false,
            read_only: false,
        }
    }

    fn submit(&mut self, id: OpId, op: DeviceOp) {
        self.ops += 1;
        assert!(self.ops <= OPS_MAX, "more than {OPS_MAX} device operations");
        self.queue.push((id, op));
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        for (id, mut op) in std::mem::take(&mut self.queue) {
            self.apply(&mut op);
            let buffer = match op {
                DeviceOp::Read { buffer, .. } | DeviceOp::Write { buffer, .. } => Some(buffer),
                _ => None,
            };
            completions.push(Completion { id, buffer, result: Ok(()) });
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn outstanding(&self) -> usize {
        self.queue.len()
    }
}
