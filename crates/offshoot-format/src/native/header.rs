//! The native header, in the reserved bytes of the super block.
//!
//! It lies within the first 512 bytes of the super block, so that no torn write separates it from the version that
//! says it is there. SPDK keeps the reserved bytes when it rewrites a super block; we zero them when we seal a store.

use crate::{Fault, MdPageIdx, crc32c};
use bitflags::bitflags;
use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where in the super block the native header starts, in bytes.
pub const NATIVE_HEADER_OFFSET: usize = 0x60;

/// Bytes of the native header.
pub const NATIVE_HEADER_BYTES: usize = size_of::<RawNativeHeader>();

const MAGIC: [u8; 8] = *b"OFFSHOOT";
const HEADER_VERSION: u32 = 1;

/// What offshoot keeps in the super block of a store that is open for writing, or that SPDK could not express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeHeader {
    /// The version of SPDK's that sealing restores: 1 to 3.
    pub base_version: u32,
    /// What state the store is in.
    pub flags: NativeFlags,
    /// Random, new with each writable open: journal blocks of another epoch are dead.
    pub epoch: [u8; 16],
    /// The first LSN of this epoch.
    pub start_lsn: u64,
    /// Where the journal is.
    pub journal: Option<JournalArea>,
    /// Replay starts after this LSN.
    pub checkpoint_lsn: u64,
    /// Grows with every write of the super block; of two good copies the higher one counts.
    pub sequence: u64,
    /// CRC-32C of the three masks, in the order of [`crate::MaskKind::ALL`].
    pub mask_crcs: [u32; 3],
}

bitflags! {
    /// The state of a store under offshoot's version. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct NativeFlags: u32 {
        /// The last close was orderly: the journal is empty and the masks are exact.
        const CLEAN_CLOSE = 1 << 0;
        /// Some md pages hold native descriptors.
        const NATIVE_STATES = 1 << 1;
    }
}

/// The md pages of the journal ring.
///
/// Counted like md pages, from the start of the md region and in units of the md page. A ring in clusters has a start
/// behind the md region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JournalArea {
    /// First md page.
    pub start: MdPageIdx,
    /// How many, at least one.
    pub len: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawNativeHeader {
    magic: [u8; 8],
    header_version: U32,
    base_version: U32,
    flags: U32,
    journal_start: U32,
    journal_len: U32,
    mask_crcs: [U32; 3],
    epoch: [u8; 16],
    start_lsn: U64,
    checkpoint_lsn: U64,
    sequence: U64,
    crc: U32,
}

const _: () = {
    assert!(size_of::<RawNativeHeader>() == 0x54);
    assert!(offset_of!(RawNativeHeader, mask_crcs) == 0x1c);
    assert!(offset_of!(RawNativeHeader, epoch) == 0x28);
    assert!(offset_of!(RawNativeHeader, sequence) == 0x48);
    assert!(offset_of!(RawNativeHeader, crc) == 0x50);
    assert!(NATIVE_HEADER_OFFSET + NATIVE_HEADER_BYTES <= 512);
};

impl NativeHeader {
    /// The header at the start of the reserved bytes, `None` when they do not start with its magic.
    pub(crate) fn decode(reserved: &[u8]) -> Result<Option<Self>, Fault> {
        let Ok((raw, _)) = RawNativeHeader::ref_from_prefix(reserved) else {
            return Err(Fault::Short { len: reserved.len(), needed: NATIVE_HEADER_BYTES });
        };
        if raw.magic != MAGIC {
            return Ok(None);
        }
        // A later version may be longer, so its checksum is not where ours is.
        if raw.header_version != HEADER_VERSION {
            return Err(Fault::NativeHeaderVersion { stored: raw.header_version.get() });
        }
        let (stored, computed) = (raw.crc.get(), raw.computed_crc());
        if stored != computed {
            return Err(Fault::NativeHeaderCrc { stored, computed });
        }
        if !(1..=3).contains(&raw.base_version.get()) {
            return Err(Fault::BaseVersion { stored: raw.base_version.get() });
        }
        let len = raw.journal_len.get();
        Ok(Some(Self {
            base_version: raw.base_version.get(),
            flags: NativeFlags::from_bits_retain(raw.flags.get()),
            epoch: raw.epoch,
            start_lsn: raw.start_lsn.get(),
            journal: (len != 0).then_some(JournalArea { start: MdPageIdx(raw.journal_start.get()), len }),
            checkpoint_lsn: raw.checkpoint_lsn.get(),
            sequence: raw.sequence.get(),
            mask_crcs: raw.mask_crcs.map(U32::get),
        }))
    }

    /// The bytes that stand at [`NATIVE_HEADER_OFFSET`].
    pub(crate) fn encode(&self) -> [u8; NATIVE_HEADER_BYTES] {
        let (journal_start, journal_len) = self.journal.map_or((0, 0), |area| (area.start.0, area.len));
        let mut raw = RawNativeHeader {
            magic: MAGIC,
            header_version: HEADER_VERSION.into(),
            base_version: self.base_version.into(),
            flags: self.flags.bits().into(),
            journal_start: journal_start.into(),
            journal_len: journal_len.into(),
            mask_crcs: self.mask_crcs.map(U32::from),
            epoch: self.epoch,
            start_lsn: self.start_lsn.into(),
            checkpoint_lsn: self.checkpoint_lsn.into(),
            sequence: self.sequence.into(),
            crc: 0.into(),
        };
        raw.crc = raw.computed_crc().into();
        zerocopy::transmute!(raw)
    }
}

impl RawNativeHeader {
    fn computed_crc(&self) -> u32 {
        crc32c(&self.as_bytes()[..offset_of!(Self, crc)])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> NativeHeader {
        NativeHeader {
            base_version: 3,
            flags: NativeFlags::CLEAN_CLOSE | NativeFlags::from_bits_retain(0x8000_0000),
            epoch: *b"0123456789abcdef",
            start_lsn: 1 << 40,
            journal: Some(JournalArea { start: MdPageIdx(100), len: 1024 }),
            checkpoint_lsn: (1 << 40) + 7,
            sequence: 3,
            mask_crcs: [1, 2, 3],
        }
    }

    #[test]
    fn round_trips() {
        let no_journal = NativeHeader { journal: None, ..sample() };
        for header in [sample(), no_journal] {
            assert_eq!(NativeHeader::decode(&header.encode()), Ok(Some(header)));
        }
    }

    #[test]
    fn refuses() {
        let with = |at: usize, value: u8| {
            let mut bytes = sample().encode();
            bytes[at] = value;
            NativeHeader::decode(&bytes)
        };
        assert_eq!(with(0, b'o'), Ok(None));
        assert_eq!(with(8, 2), Err(Fault::NativeHeaderVersion { stored: 2 }));
        assert!(matches!(with(0x28, 0), Err(Fault::NativeHeaderCrc { .. })));
        assert!(matches!(NativeHeader::decode(&[0; 8]), Err(Fault::Short { len: 8, .. })));
        let odd = NativeHeader { base_version: 4, ..sample() };
        assert_eq!(NativeHeader::decode(&odd.encode()), Err(Fault::BaseVersion { stored: 4 }));
    }
}
