//! NATIVE_BLOB (descriptor type 0x80): what a blob has that SPDK's metadata cannot say.

use crate::{DescriptorKind, EXTENT_PAGES_MAX, ExtentOrdinal, Fault, MdPageIdx, NO_PAGE};
use alloc::vec::Vec;
use core::mem::size_of;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the payload before the first layer page.
pub(crate) const NATIVE_BLOB_HEADER_BYTES: usize = size_of::<RawHeader>();

const DYING: u32 = 1 << 0;
const OUTDATED: u32 = 1 << 1;

/// The native part of a blob. Spread over several descriptors when it does not fit one md page; each repeats the
/// scalars and continues the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeBlob {
    /// The blob has been removed and its clusters are being released.
    pub dying: bool,
    /// The map is that of an earlier time: changes to it were lost with the journal that held them.
    pub outdated: bool,
    /// Clusters of the parent that show through, from the blob's start. Beyond, what is absent reads as zeros.
    pub inherit_len: u64,
    /// The layer pages, ordinals ascending. One ordinal may have several; they are read in this order.
    pub layer_pages: Vec<(ExtentOrdinal, MdPageIdx)>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    flags: U32,
    count: U32,
    inherit_len: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    ordinal: U32,
    page: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 16 && size_of::<RawEntry>() == 8);

impl NativeBlob {
    /// Bytes of one layer page in the payload.
    pub(crate) const ENTRY_BYTES: usize = size_of::<RawEntry>();

    /// One descriptor's payload.
    pub(crate) fn decode_part(payload: &[u8]) -> Result<Self, Fault> {
        let wrong_length =
            || Fault::DescriptorLength { kind: DescriptorKind::NATIVE_BLOB, length: payload.len() };
        let (header, entries) = RawHeader::ref_from_prefix(payload).map_err(|_| wrong_length())?;
        let entries = <[RawEntry]>::ref_from_bytes(entries).map_err(|_| wrong_length())?;
        if header.count.get() as usize != entries.len() {
            return Err(wrong_length());
        }
        let flags = header.flags.get();
        if flags & !(DYING | OUTDATED) != 0 {
            return Err(Fault::NativeBlobFlags { stored: flags });
        }
        let mut part = Self {
            dying: flags & DYING != 0,
            outdated: flags & OUTDATED != 0,
            inherit_len: header.inherit_len.get(),
            layer_pages: Vec::new(),
        };
        for entry in entries {
            part.push(ExtentOrdinal(entry.ordinal.get()), MdPageIdx(entry.page.get()))?;
        }
        Ok(part)
    }

    /// Appends the descriptor that follows in the chain.
    pub(crate) fn join(&mut self, next: Self) -> Result<(), Fault> {
        if (next.flags(), next.inherit_len) != (self.flags(), self.inherit_len) {
            return Err(Fault::NativeBlobMismatch);
        }
        next.layer_pages.into_iter().try_for_each(|(ordinal, page)| self.push(ordinal, page))
    }

    /// The flag word.
    pub(crate) fn flags(&self) -> u32 {
        let dying = if self.dying { DYING } else { 0 };
        dying | if self.outdated { OUTDATED } else { 0 }
    }

    fn push(&mut self, ordinal: ExtentOrdinal, page: MdPageIdx) -> Result<(), Fault> {
        let ascends = self.layer_pages.last().is_none_or(|(last, _)| *last <= ordinal);
        if !ascends || ordinal.0 >= EXTENT_PAGES_MAX || page.0 == 0 || page.0 == NO_PAGE {
            return Err(Fault::LayerPageEntry { ordinal: ordinal.0, page: page.0 });
        }
        self.layer_pages.push((ordinal, page));
        Ok(())
    }
}

/// Hands out the bytes of a payload that lists these layer pages.
pub(crate) fn write_part(
    flags: u32,
    inherit_len: u64,
    layer_pages: &[(ExtentOrdinal, MdPageIdx)],
    mut put: impl FnMut(&[u8]),
) {
    let Ok(count) = u32::try_from(layer_pages.len()) else { panic!("{} layer pages", layer_pages.len()) };
    put(RawHeader { flags: flags.into(), count: count.into(), inherit_len: inherit_len.into() }.as_bytes());
    for (ordinal, page) in layer_pages {
        put(RawEntry { ordinal: ordinal.0.into(), page: page.0.into() }.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(part: &NativeBlob) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_part(part.flags(), part.inherit_len, &part.layer_pages, |chunk| {
            bytes.extend_from_slice(chunk);
        });
        bytes
    }

    fn part(entries: &[(u32, u32)]) -> NativeBlob {
        let layer_pages = entries.iter().map(|(o, p)| (ExtentOrdinal(*o), MdPageIdx(*p))).collect();
        NativeBlob { dying: true, outdated: true, inherit_len: 77, layer_pages }
    }

    #[test]
    fn round_trips_and_joins() {
        let all = part(&[(0, 9), (0, 4), (3, 5)]);
        assert_eq!(NativeBlob::decode_part(&payload(&all)), Ok(all.clone()));
        let mut joined = part(&[(0, 9), (0, 4)]);
        assert_eq!(joined.join(part(&[(3, 5)])), Ok(()));
        assert_eq!(joined, all);
        assert_eq!(joined.join(part(&[(2, 8)])), Err(Fault::LayerPageEntry { ordinal: 2, page: 8 }));
        let other = NativeBlob { inherit_len: 78, ..part(&[]) };
        assert_eq!(joined.join(other), Err(Fault::NativeBlobMismatch));
        let other = NativeBlob { outdated: false, ..part(&[]) };
        assert_eq!(joined.join(other), Err(Fault::NativeBlobMismatch));
    }

    #[test]
    fn refuses() {
        let odd = |edit: fn(&mut Vec<u8>)| {
            let mut bytes = payload(&part(&[(1, 9)]));
            edit(&mut bytes);
            NativeBlob::decode_part(&bytes)
        };
        let length = |length| Err(Fault::DescriptorLength { kind: DescriptorKind::NATIVE_BLOB, length });
        assert_eq!(odd(|bytes| bytes.truncate(15)), length(15));
        assert_eq!(odd(|bytes| bytes.truncate(23)), length(23));
        assert_eq!(odd(|bytes| bytes.truncate(16)), length(16));
        assert_eq!(odd(|bytes| bytes[0] = 5), Err(Fault::NativeBlobFlags { stored: 5 }));
        assert_eq!(odd(|bytes| bytes[20] = 0), Err(Fault::LayerPageEntry { ordinal: 1, page: 0 }));
        assert_eq!(odd(|bytes| bytes[18] = 0x80), Err(Fault::LayerPageEntry { ordinal: 0x80_0001, page: 9 }));
        assert_eq!(
            NativeBlob::decode_part(&[]),
            Err(Fault::DescriptorLength { kind: DescriptorKind::NATIVE_BLOB, length: 0 })
        );
    }
}
