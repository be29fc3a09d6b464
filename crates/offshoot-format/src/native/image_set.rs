//! The payload of an image frame: md pages as a checkpoint has captured them.
//!
//! The images come first, at a distance from the start of the frame that is no multiple of a block: so no image in the
//! ring stands where an md page could, and a search of the md region does not take it for one.

use crate::{Damage, Fault, MD_STRUCT_BYTES, MdPageIdx, NO_PAGE, PageImage, Place};
use alloc::vec::Vec;
use core::mem::size_of;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What a checkpoint writes in place.
///
/// Page numbers may lie behind the md region: the live masks of a journal that lies in clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet {
    /// Pages, and the first 4096 bytes that they have from now on.
    pub images: Vec<(MdPageIdx, PageImage)>,
    /// Md pages that are free from now on, and become zeros.
    pub zeroed: Vec<MdPageRun>,
}

/// Consecutive md pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MdPageRun {
    /// First md page.
    pub start: MdPageIdx,
    /// How many, at least one.
    pub len: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawCounts {
    images: U32,
    zeroed: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRun {
    start: U32,
    len: U32,
}

const _: () = {
    assert!(size_of::<RawCounts>() == 8 && size_of::<RawRun>() == 8);
    assert!(!(crate::FRAME_HEADER_BYTES + size_of::<RawCounts>()).is_multiple_of(512));
};

impl ImageSet {
    /// The payload of the image frame `lsn`.
    ///
    /// # Errors
    /// Another length than its counts say, and pages that no md page number names.
    pub fn decode(lsn: u64, payload: &[u8]) -> Result<Self, Damage> {
        Self::checked(payload).map_err(|what| Damage { at: Place::Frame { lsn }, what })
    }

    fn checked(payload: &[u8]) -> Result<Self, Fault> {
        let Ok((counts, rest)) = RawCounts::ref_from_prefix(payload) else {
            return Err(Fault::Short { len: payload.len(), needed: size_of::<RawCounts>() });
        };
        let (images, zeroed) = (counts.images.get(), counts.zeroed.get());
        if encoded_len(images.into(), zeroed.into()) != payload.len() as u64 {
            return Err(Fault::ImageSetLength { len: payload.len(), images, zeroed });
        }
        // The length fits, so both counts are in proportion to it.
        let (images, numbers, runs) = split(rest, images as usize).ok_or(Fault::ImageSetLength {
            len: payload.len(),
            images,
            zeroed,
        })?;
        let images = numbers.iter().zip(images).map(|(page, image)| {
            checked_run(page.get(), 1)?;
            Ok((MdPageIdx(page.get()), *image))
        });
        let runs = runs.iter().map(|run| checked_run(run.start.get(), run.len.get()));
        Ok(Self { images: images.collect::<Result<_, _>>()?, zeroed: runs.collect::<Result<_, _>>()? })
    }

    /// The payload of an image frame.
    ///
    /// # Panics
    /// On pages that no md page number names, and on 2^32 images or runs: what this wrote, nothing could read.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = |what: &str, len: usize| match u32::try_from(len) {
            Ok(count) => U32::from(count),
            Err(_) => panic!("{len} {what}"),
        };
        let counts = RawCounts {
            images: count("images", self.images.len()),
            zeroed: count("runs of zeroed md pages", self.zeroed.len()),
        };
        let mut payload = Vec::with_capacity(self.encoded_len());
        payload.extend_from_slice(counts.as_bytes());
        for (_, image) in &self.images {
            payload.extend_from_slice(image);
        }
        let numbers = self.images.iter().map(|(page, _)| *page);
        for page in numbers.clone() {
            payload.extend_from_slice(&page.0.to_le_bytes());
        }
        for run in &self.zeroed {
            let raw = RawRun { start: run.start.0.into(), len: run.len.into() };
            payload.extend_from_slice(raw.as_bytes());
        }
        let named = numbers.map(|start| MdPageRun { start, len: 1 }).chain(self.zeroed.iter().copied());
        for run in named {
            assert!(checked_run(run.start.0, run.len).is_ok(), "{} md pages at {}", run.len, run.start);
        }
        payload
    }

    /// Bytes of the payload.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let each = MD_STRUCT_BYTES + size_of::<U32>();
        size_of::<RawCounts>() + self.images.len() * each + self.zeroed.len() * size_of::<RawRun>()
    }
}

impl MdPageRun {
    /// The page behind the last one.
    #[must_use]
    pub fn end(self) -> u64 {
        u64::from(self.start.0) + u64::from(self.len)
    }
}

/// Images, their page numbers, and the runs, if the lengths are those of `images` images and any number of runs.
fn split(bytes: &[u8], images: usize) -> Option<(&[PageImage], &[U32], &[RawRun])> {
    let (images, bytes) = <[PageImage]>::ref_from_prefix_with_elems(bytes, images).ok()?;
    let (numbers, bytes) = <[U32]>::ref_from_prefix_with_elems(bytes, images.len()).ok()?;
    Some((images, numbers, <[RawRun]>::ref_from_bytes(bytes).ok()?))
}

/// At most 2^45: nothing to overflow.
fn encoded_len(images: u64, zeroed: u64) -> u64 {
    let each = (MD_STRUCT_BYTES + size_of::<U32>()) as u64;
    size_of::<RawCounts>() as u64 + images * each + zeroed * size_of::<RawRun>() as u64
}

fn checked_run(start: u32, len: u32) -> Result<MdPageRun, Fault> {
    let run = MdPageRun { start: MdPageIdx(start), len };
    if len == 0 || run.end() > NO_PAGE.into() {
        return Err(Fault::MdPageRun { start, len });
    }
    Ok(run)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::vec;

    fn run(start: u32, len: u32) -> MdPageRun {
        MdPageRun { start: MdPageIdx(start), len }
    }

    pub(crate) fn sample() -> ImageSet {
        ImageSet {
            images: vec![(MdPageIdx(7), [1; 4096]), (MdPageIdx(NO_PAGE - 1), [2; 4096])],
            zeroed: vec![run(0, 3), run(9, NO_PAGE - 9)],
        }
    }

    fn decode(payload: &[u8]) -> Result<ImageSet, Fault> {
        ImageSet::decode(3, payload).map_err(|damage| {
            assert_eq!(damage.at, Place::Frame { lsn: 3 });
            damage.what
        })
    }

    #[test]
    fn round_trips() {
        let no_images = ImageSet { images: vec![], ..sample() };
        let no_runs = ImageSet { zeroed: vec![], ..sample() };
        for set in [sample(), no_images, no_runs, ImageSet::default()] {
            let payload = set.encode();
            assert_eq!(payload.len(), set.encoded_len());
            assert_eq!(payload.len() as u64, encoded_len(set.images.len() as u64, set.zeroed.len() as u64));
            assert_eq!(decode(&payload), Ok(set));
        }
    }

    #[test]
    fn refuses_other_lengths() {
        let payload = sample().encode();
        assert_eq!(decode(&payload[..7]), Err(Fault::Short { len: 7, needed: 8 }));
        for len in [8, payload.len() - 1] {
            let fault = Fault::ImageSetLength { len, images: 2, zeroed: 2 };
            assert_eq!(decode(&payload[..len]), Err(fault));
        }
        let most = Fault::ImageSetLength { len: 8, images: u32::MAX, zeroed: u32::MAX };
        assert_eq!(decode(&[0xff; 8]), Err(most));
    }

    #[test]
    fn refuses_pages_without_a_number() {
        let with = |at: usize, value: u32| {
            let mut payload = sample().encode();
            payload[at..at + 4].copy_from_slice(&value.to_le_bytes());
            decode(&payload)
        };
        let numbers = 8 + 2 * 4096;
        let runs = numbers + 2 * 4;
        assert_eq!(with(numbers, NO_PAGE), Err(Fault::MdPageRun { start: NO_PAGE, len: 1 }));
        assert_eq!(with(runs + 4, 0), Err(Fault::MdPageRun { start: 0, len: 0 }));
        assert_eq!(with(runs + 8, 10), Err(Fault::MdPageRun { start: 10, len: NO_PAGE - 9 }));
    }

    #[test]
    #[should_panic(expected = "0 md pages at 4")]
    fn does_not_write_empty_runs() {
        let _ = ImageSet { images: vec![], zeroed: vec![run(4, 0)] }.encode();
    }
}
