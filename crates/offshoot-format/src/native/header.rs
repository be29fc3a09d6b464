//! The native header, in the reserved bytes of the super block.
//!
//! It lies within the first 512 bytes of the super block, so that no torn write separates it from the version that
//! says it is there. SPDK keeps the reserved bytes when it rewrites a super block; we zero them when we seal a store.
//!
//! Four bytes behind the header belong to the super block: they balance its checksum, so that opening and sealing a
//! store change nothing outside the first 512 bytes. [`crate::SuperBlock::encode`] makes them.

use crate::{Fault, MdPageIdx, crc32c};
use bitflags::bitflags;
use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where in the super block the native header starts, in bytes.
pub const NATIVE_HEADER_OFFSET: usize = 0x60;

/// Bytes of the native header, without the word behind it that balances the checksum of the super block.
pub const NATIVE_HEADER_BYTES: usize = size_of::<RawNativeHeader>();

const MAGIC: [u8; 8] = *b"OFFSHOOT";
const HEADER_VERSION: u32 = 2;

/// Bits of `parts`.
const PART_SESSION: u32 = 1 << 0;
const PART_PREVIOUS: u32 = 1 << 1;

/// What offshoot keeps in the super block of a store that is open for writing, or that SPDK could not express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeHeader {
    /// The version of SPDK's that sealing restores: 1 to 3.
    pub base_version: u32,
    /// What state the store is in.
    pub flags: NativeFlags,
    /// Random, new with each writable open: frames of another epoch are dead, but for those of `previous`.
    pub epoch: [u8; 16],
    /// The first LSN of this epoch.
    pub start_lsn: u64,
    /// Where the journal is.
    pub journal: Option<JournalArea>,
    /// Grows with every write of the super block; of two good copies the higher one counts.
    pub sequence: u64,
    /// CRC-32C of the three masks, in the order of [`crate::MaskKind::ALL`].
    pub mask_crcs: [u32; 3],
    /// Under which power the store was opened. `None` when nobody could tell.
    pub session: Option<SessionId>,
    /// The epoch that was being recovered when this one began. It counts until this one has a checkpoint of its own.
    pub previous: Option<PreviousEpoch>,
}

bitflags! {
    /// The state of a store under offshoot's version. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct NativeFlags: u32 {
        /// The last close was orderly: the journal is empty and the masks are exact.
        const CLEAN_CLOSE = 1 << 0;
        /// Some md pages hold native descriptors.
        const NATIVE_STATES = 1 << 1;
        /// A device operation failed in this epoch: the journal behind the last barrier may name data that never
        /// reached the medium.
        const DEVICE_ERROR = 1 << 2;
        /// Of the second super block only: it is about to be written over the first one, in more than one sector, so that
        /// the first one may be torn.
        const REPLACES_FIRST = 1 << 3;
    }
}

/// The pages of the journal: the ring, and right behind it the live masks.
///
/// Counted like md pages, from the start of the md region and in units of the md page. An area in clusters has a start
/// behind the md region. It lies in one of the two as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JournalArea {
    /// First page of the ring.
    pub start: MdPageIdx,
    /// Pages of the ring, at least one.
    pub len: u32,
    /// Pages behind the ring that hold the live masks: see [`crate::LiveMaskPage`].
    pub masks: u32,
}

/// A time in which neither the machine nor the device lost power: what was written then is at least in their caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Names one boot of the machine.
    pub boot_id: [u8; 16],
    /// Changes whenever the device is attached anew.
    pub device_generation: u64,
}

/// An epoch whose journal is still needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PreviousEpoch {
    /// Its random name.
    pub epoch: [u8; 16],
    /// It is replayed up to exactly this LSN: what lies behind was not taken over, and must not come back.
    pub last_lsn: u64,
    /// Its replay starts after this LSN.
    pub checkpoint: u64,
    /// The LSN of its oldest frame that is still needed.
    pub tail: u64,
    /// Image frames of that checkpoint that must be written in place once more; 0 when they are in place.
    pub image_frames: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawNativeHeader {
    magic: [u8; 8],
    header_version: U32,
    base_version: U32,
    flags: U32,
    parts: U32,
    journal_start: U32,
    journal_len: U32,
    journal_masks: U32,
    mask_crcs: [U32; 3],
    epoch: [u8; 16],
    start_lsn: U64,
    sequence: U64,
    session_boot_id: [u8; 16],
    session_device_generation: U64,
    previous_epoch: [u8; 16],
    previous_last_lsn: U64,
    previous_checkpoint: U64,
    previous_tail: U64,
    previous_image_frames: U32,
    crc: U32,
}

const _: () = {
    assert!(size_of::<RawNativeHeader>() == 0x98);
    assert!(offset_of!(RawNativeHeader, mask_crcs) == 0x24);
    assert!(offset_of!(RawNativeHeader, epoch) == 0x30);
    assert!(offset_of!(RawNativeHeader, session_boot_id) == 0x50);
    assert!(offset_of!(RawNativeHeader, previous_epoch) == 0x68);
    assert!(offset_of!(RawNativeHeader, crc) == 0x94);
};

impl JournalArea {
    /// First page of the live masks. Saturates, as a good super block never makes it.
    #[must_use]
    pub const fn masks_start(&self) -> MdPageIdx {
        MdPageIdx(self.start.0.saturating_add(self.len))
    }

    /// The page behind the last one, live masks included.
    #[must_use]
    pub fn end(&self) -> u64 {
        u64::from(self.start.0) + u64::from(self.len) + u64::from(self.masks)
    }
}

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
        let parts = raw.parts.get();
        if parts & !(PART_SESSION | PART_PREVIOUS) != 0 {
            return Err(Fault::NativeHeaderParts { stored: parts });
        }
        Ok(Some(Self {
            base_version: raw.base_version.get(),
            flags: NativeFlags::from_bits_retain(raw.flags.get()),
            epoch: raw.epoch,
            start_lsn: raw.start_lsn.get(),
            journal: raw.journal(),
            sequence: raw.sequence.get(),
            mask_crcs: raw.mask_crcs.map(U32::get),
            session: (parts & PART_SESSION != 0).then(|| SessionId {
                boot_id: raw.session_boot_id,
                device_generation: raw.session_device_generation.get(),
            }),
            previous: (parts & PART_PREVIOUS != 0).then(|| raw.previous()),
        }))
    }

    /// The bytes that stand at [`NATIVE_HEADER_OFFSET`].
    pub(crate) fn encode(&self) -> [u8; NATIVE_HEADER_BYTES] {
        let session = self.session.map(|session| (session.boot_id, session.device_generation));
        let part = |present, bit| if present { bit } else { 0 };
        let parts = part(session.is_some(), PART_SESSION) | part(self.previous.is_some(), PART_PREVIOUS);
        let (session_boot_id, session_device_generation) = session.unwrap_or_default();
        let previous = self.previous.unwrap_or_default();
        let journal = self.journal.map_or([0; 3], |area| [area.start.0, area.len, area.masks]);
        let [journal_start, journal_len, journal_masks] = journal.map(U32::from);
        let mut raw = RawNativeHeader {
            magic: MAGIC,
            header_version: HEADER_VERSION.into(),
            base_version: self.base_version.into(),
            flags: self.flags.bits().into(),
            parts: parts.into(),
            journal_start,
            journal_len,
            journal_masks,
            mask_crcs: self.mask_crcs.map(U32::from),
            epoch: self.epoch,
            start_lsn: self.start_lsn.into(),
            sequence: self.sequence.into(),
            session_boot_id,
            session_device_generation: session_device_generation.into(),
            previous_epoch: previous.epoch,
            previous_last_lsn: previous.last_lsn.into(),
            previous_checkpoint: previous.checkpoint.into(),
            previous_tail: previous.tail.into(),
            previous_image_frames: previous.image_frames.into(),
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

    fn previous(&self) -> PreviousEpoch {
        PreviousEpoch {
            epoch: self.previous_epoch,
            last_lsn: self.previous_last_lsn.get(),
            checkpoint: self.previous_checkpoint.get(),
            tail: self.previous_tail.get(),
            image_frames: self.previous_image_frames.get(),
        }
    }

    /// A length of 0 says that there is none.
    fn journal(&self) -> Option<JournalArea> {
        let (start, len, masks) =
            (self.journal_start.get(), self.journal_len.get(), self.journal_masks.get());
        (len != 0).then_some(JournalArea { start: MdPageIdx(start), len, masks })
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
            journal: Some(JournalArea { start: MdPageIdx(100), len: 1024, masks: 2 }),
            sequence: 3,
            mask_crcs: [1, 2, 3],
            session: Some(SessionId { boot_id: *b"boot of a machin", device_generation: 9 }),
            previous: Some(PreviousEpoch {
                epoch: *b"fedcba9876543210",
                last_lsn: (1 << 40) - 1,
                checkpoint: (1 << 40) - 9,
                tail: (1 << 40) - 8,
                image_frames: 2,
            }),
        }
    }

    #[test]
    fn round_trips() {
        let table = [
            sample(),
            NativeHeader { journal: None, ..sample() },
            NativeHeader { session: None, ..sample() },
            NativeHeader { previous: None, ..sample() },
            // A session of zeros is one.
            NativeHeader { session: Some(SessionId { boot_id: [0; 16], device_generation: 0 }), ..sample() },
        ];
        for header in table {
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
        assert_eq!(with(8, 1), Err(Fault::NativeHeaderVersion { stored: 1 }));
        assert!(matches!(with(0x30, 0), Err(Fault::NativeHeaderCrc { .. })));
        assert!(matches!(NativeHeader::decode(&[0; 8]), Err(Fault::Short { len: 8, .. })));
        let odd = NativeHeader { base_version: 4, ..sample() };
        assert_eq!(NativeHeader::decode(&odd.encode()), Err(Fault::BaseVersion { stored: 4 }));
        let mut raw: RawNativeHeader = zerocopy::transmute!(sample().encode());
        raw.parts = 7.into();
        raw.crc = raw.computed_crc().into();
        assert_eq!(NativeHeader::decode(raw.as_bytes()), Err(Fault::NativeHeaderParts { stored: 7 }));
    }
}
