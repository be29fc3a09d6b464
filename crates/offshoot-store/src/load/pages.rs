//! Md pages in memory, by number.

use alloc::vec::Vec;
use offshoot_block::Buffer;
use offshoot_format::{MD_STRUCT_BYTES, MdPageIdx};

/// The md pages that were read, in runs.
#[derive(Debug, Default)]
pub(super) struct MdPages {
    runs: Vec<(MdPageIdx, Buffer, usize)>,
}

impl MdPages {
    /// Adds a run of pages of `stride` bytes each. Runs come in ascending order.
    pub(super) fn add(&mut self, first: MdPageIdx, buffer: Buffer, stride: usize) {
        self.runs.push((first, buffer, stride));
    }

    /// The structure in a page: its first 4096 bytes. `None` when the page was not read.
    pub(super) fn page(&self, at: MdPageIdx) -> Option<&[u8]> {
        let run = self.runs.partition_point(|(first, ..)| *first <= at).checked_sub(1)?;
        let (first, buffer, stride) = &self.runs[run];
        let start = (at.0 - first.0) as usize * stride;
        buffer.as_slice().get(start..start + MD_STRUCT_BYTES)
    }

    /// Every page that was read.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MdPageIdx, &[u8])> {
        self.runs.iter().flat_map(|(first, buffer, stride)| {
            let pages = buffer.as_slice().chunks_exact(*stride);
            (first.0..).map(MdPageIdx).zip(pages.map(|page| &page[..MD_STRUCT_BYTES]))
        })
    }
}
