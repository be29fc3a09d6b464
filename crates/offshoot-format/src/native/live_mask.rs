//! The live masks: the masks as the last checkpoint left them, while a store is open.
//!
//! The masks of SPDK stand in the format of SPDK, a region as a whole without a checksum, and are stale while a store is
//! open. The live masks are pages that are written one by one, each with its checksum, so that a checkpoint writes only
//! those that changed, and one that is damaged costs no other. Blob ids have none: the roots are the md pages that
//! hold one.

use crate::{Bitmap, Damage, Fault, MD_STRUCT_BYTES, MaskKind, PageImage, Place, crc32c};
use core::mem::{offset_of, size_of};
use core::ops::Range;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bits on one page of a live mask.
pub const LIVE_MASK_BITS: u32 = 32_512;

const BYTES: usize = LIVE_MASK_BITS as usize / 8;

const MAGIC: [u8; 8] = *b"OSLVMASK";

/// A page of a live mask: reads and writes its part of a [`Bitmap`].
#[derive(Clone, Copy, Debug)]
pub struct LiveMaskPage;

/// The checksum is not where an md page has its own, so that neither is taken for the other.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawLiveMaskPage {
    magic: [u8; 8],
    crc: U32,
    kind: u8,
    reserved: [u8; 3],
    index: U32,
    more_reserved: [u8; 12],
    bits: [u8; BYTES],
}

const _: () = {
    assert!(size_of::<RawLiveMaskPage>() == MD_STRUCT_BYTES);
    assert!(offset_of!(RawLiveMaskPage, kind) == 0x0c);
    assert!(offset_of!(RawLiveMaskPage, index) == 0x10);
    assert!(offset_of!(RawLiveMaskPage, bits) == 0x20);
};

/// How many pages a live mask of `bits` bits has.
#[must_use]
pub const fn live_mask_pages(bits: u32) -> u32 {
    bits.div_ceil(LIVE_MASK_BITS)
}

impl LiveMaskPage {
    /// Page `index` of the live mask of `kind`: bits [`LIVE_MASK_BITS`]` * index` and on. Those that `bitmap` does not
    /// have are zero.
    ///
    /// # Panics
    /// On a kind that has no live mask.
    #[must_use]
    pub fn encode(kind: MaskKind, index: u32, bitmap: &Bitmap) -> PageImage {
        assert!(kind != MaskKind::BlobIds, "no live {kind}");
        let mut raw = RawLiveMaskPage {
            magic: MAGIC,
            crc: 0.into(),
            kind: kind as u8,
            reserved: [0; 3],
            index: index.into(),
            more_reserved: [0; 12],
            bits: [0; BYTES],
        };
        bitmap.copy_to_bytes(Self::first_bit(index), &mut raw.bits);
        raw.crc = raw.computed_crc().into();
        zerocopy::transmute!(raw)
    }

    /// Takes the bits of page `index` over into `bitmap`: those that both have. On an error `bitmap` is as it was.
    ///
    /// # Errors
    /// A bad checksum, and a page that is none of a live mask, of another mask or of another part of it.
    pub fn decode(bytes: &[u8], kind: MaskKind, index: u32, bitmap: &mut Bitmap) -> Result<(), Damage> {
        let raw = RawLiveMaskPage::checked(bytes, kind, index)
            .map_err(|what| Damage { at: Place::LiveMask { kind, index }, what })?;
        bitmap.copy_from_bytes(Self::first_bit(index), &raw.bits);
        Ok(())
    }

    /// Which page holds bit `bit`.
    #[must_use]
    pub const fn of(bit: u32) -> u32 {
        bit / LIVE_MASK_BITS
    }

    /// The bits of page `index`, of which a mask may not have the last ones.
    #[must_use]
    pub fn bits(index: u32) -> Range<u64> {
        let start = u64::from(index) * u64::from(LIVE_MASK_BITS);
        start..start + u64::from(LIVE_MASK_BITS)
    }

    /// No bitmap is as long as the largest number.
    fn first_bit(index: u32) -> usize {
        usize::try_from(Self::bits(index).start).unwrap_or(usize::MAX)
    }
}

impl RawLiveMaskPage {
    fn checked(bytes: &[u8], kind: MaskKind, index: u32) -> Result<&Self, Fault> {
        let Ok((raw, _)) = Self::ref_from_prefix(bytes) else {
            return Err(Fault::Short { len: bytes.len(), needed: MD_STRUCT_BYTES });
        };
        if raw.magic != MAGIC {
            return Err(Fault::LiveMaskMagic { stored: raw.magic });
        }
        let (stored, computed) = (raw.crc.get(), raw.computed_crc());
        if stored != computed {
            return Err(Fault::Crc { stored, computed });
        }
        if raw.kind != kind as u8 {
            return Err(Fault::MaskType { stored: raw.kind, expected: kind as u8 });
        }
        if raw.index.get() != index {
            return Err(Fault::LiveMaskIndex { stored: raw.index.get(), expected: index });
        }
        Ok(raw)
    }

    fn computed_crc(&self) -> u32 {
        crc32c(&self.as_bytes()[offset_of!(Self, kind)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [MaskKind; 2] = [MaskKind::MdPages, MaskKind::Clusters];

    fn sample(len: usize, every: usize) -> Bitmap {
        let mut bitmap = Bitmap::new(len);
        (0..len).step_by(every).for_each(|bit| bitmap.set(bit, true));
        bitmap
    }

    fn refused(page: &[u8]) -> Fault {
        let before = sample(100, 3);
        let mut bitmap = before.clone();
        let damage = LiveMaskPage::decode(page, MaskKind::Clusters, 1, &mut bitmap).unwrap_err();
        assert_eq!(damage.at, Place::LiveMask { kind: MaskKind::Clusters, index: 1 });
        assert_eq!(bitmap, before);
        damage.what
    }

    #[test]
    fn page_counts() {
        let table = [(0, 0), (1, 1), (32_512, 1), (32_513, 2), (u32::MAX, 132_105)];
        for (bits, pages) in table {
            assert_eq!(live_mask_pages(bits), pages);
        }
        assert_eq!((LiveMaskPage::of(32_511), LiveMaskPage::of(32_512)), (0, 1));
        assert_eq!(LiveMaskPage::bits(1), 32_512..65_024);
    }

    #[test]
    fn round_trips() {
        for len in [0, 1, 63, 64, 32_512, 32_513, 100_000] {
            for kind in KINDS {
                let mask = sample(len, 7);
                let mut read = sample(len, 2);
                for index in 0..live_mask_pages(u32::try_from(len).unwrap()) {
                    let page = LiveMaskPage::encode(kind, index, &mask);
                    assert_eq!(LiveMaskPage::decode(&page, kind, index, &mut read), Ok(()));
                }
                assert_eq!(read, mask, "{len}");
            }
        }
    }

    /// Bits that the bitmap does not have are zero, and stay unread.
    #[test]
    fn masks_of_another_length() {
        let page = LiveMaskPage::encode(MaskKind::Clusters, 0, &sample(32_512, 1));
        let mut short = Bitmap::new(77);
        assert_eq!(LiveMaskPage::decode(&page, MaskKind::Clusters, 0, &mut short), Ok(()));
        assert_eq!(short, sample(77, 1));
        short.resize(200);
        assert_eq!(short.count_ones(), 77);
        let behind = LiveMaskPage::encode(MaskKind::Clusters, u32::MAX, &short);
        assert_eq!(LiveMaskPage::decode(&behind, MaskKind::Clusters, u32::MAX, &mut short), Ok(()));
        assert_eq!(short.count_ones(), 77);
    }

    #[test]
    fn refuses() {
        let mask = sample(40_000, 5);
        let good = LiveMaskPage::encode(MaskKind::Clusters, 1, &mask);
        let mut other = good;
        other[0] = b'o';
        assert_eq!(refused(&other), Fault::LiveMaskMagic { stored: *b"oSLVMASK" });
        let mut torn = good;
        torn[4095] ^= 1;
        assert!(matches!(refused(&torn), Fault::Crc { .. }));
        let other = LiveMaskPage::encode(MaskKind::MdPages, 1, &mask);
        assert_eq!(refused(&other), Fault::MaskType { stored: 0, expected: 1 });
        let other = LiveMaskPage::encode(MaskKind::Clusters, 2, &mask);
        assert_eq!(refused(&other), Fault::LiveMaskIndex { stored: 2, expected: 1 });
        assert_eq!(refused(&good[..4095]), Fault::Short { len: 4095, needed: 4096 });
    }

    #[test]
    fn is_no_md_page() {
        let page = LiveMaskPage::encode(MaskKind::MdPages, 0, &sample(40_000, 5));
        assert!(!crate::page_crc_ok(&page));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut page = LiveMaskPage::encode(MaskKind::Clusters, 1, &sample(40_000, 5));
        for bit in 0..MD_STRUCT_BYTES * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            refused(&page);
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
