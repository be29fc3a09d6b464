//! The three masks: which md pages, clusters and blob ids are in use.
//!
//! A mask region is a header of five bytes (`u8 type; u32 length`, SPDK's `spdk_bs_md_mask`), the bits, and zeros. It
//! carries no checksum and means something only while the super block says that the store is clean.

use crate::{Bitmap, Damage, Fault, Place};
use alloc::{vec, vec::Vec};
use core::fmt;

/// Bytes before the bits of a mask.
pub const MASK_HEADER_BYTES: usize = 5;

/// Which mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MaskKind {
    /// Used md pages: roots, chain pages, extent pages. One bit for each md page.
    MdPages = 0,
    /// Used clusters: those of the metadata and those that blobs own. One bit for each cluster.
    Clusters = 1,
    /// Used blob ids: roots only. One bit for each md page.
    BlobIds = 2,
}

impl MaskKind {
    /// All three, in the order of their types on disk.
    pub const ALL: [Self; 3] = [Self::MdPages, Self::Clusters, Self::BlobIds];

    /// The `type` on disk.
    const fn to_disk(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for MaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MdPages => "used md page mask",
            Self::Clusters => "used cluster mask",
            Self::BlobIds => "used blob id mask",
        })
    }
}

/// The first `bits` bits of the mask that starts at `region`.
///
/// `region` needs to hold the bits, not the whole region. A cluster mask may be longer than `bits`: an interrupted
/// offline grow of SPDK's leaves one behind.
///
/// # Errors
/// A wrong type, a wrong length, or a region too short for `bits`.
pub fn decode_mask(kind: MaskKind, region: &[u8], bits: usize) -> Result<Bitmap, Damage> {
    let damaged = |what| Damage { at: Place::Mask(kind), what };
    let needed = MASK_HEADER_BYTES + bits.div_ceil(8);
    let (Some((header, mask)), true) =
        (region.split_first_chunk::<MASK_HEADER_BYTES>(), region.len() >= needed)
    else {
        return Err(damaged(Fault::Short { len: region.len(), needed }));
    };
    let [stored, length @ ..] = *header;
    if stored != kind.to_disk() {
        return Err(damaged(Fault::MaskType { stored, expected: kind.to_disk() }));
    }
    let length = u32::from_le_bytes(length);
    let fits = match kind {
        MaskKind::Clusters => u64::from(length) >= bits as u64,
        MaskKind::MdPages | MaskKind::BlobIds => u64::from(length) == bits as u64,
    };
    if !fits {
        return Err(damaged(Fault::MaskLength { stored: length, expected: bits as u64 }));
    }
    Ok(Bitmap::from_bytes(mask, bits))
}

/// A whole mask region of `region_bytes` bytes.
///
/// # Panics
/// When the region is too short for the bits, or the bits are more than 32 bits can count: a [`crate::Layout`] makes
/// neither.
#[must_use]
pub fn encode_mask(kind: MaskKind, bitmap: &Bitmap, region_bytes: usize) -> Vec<u8> {
    let Ok(length) = u32::try_from(bitmap.len()) else { panic!("a mask of {} bits", bitmap.len()) };
    let bits = bitmap.to_bytes();
    let mut region = vec![0; region_bytes];
    region[0] = kind.to_disk();
    region[1..MASK_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    region[MASK_HEADER_BYTES..MASK_HEADER_BYTES + bits.len()].copy_from_slice(&bits);
    region
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(len: usize, ones: &[usize]) -> Bitmap {
        let mut bitmap = Bitmap::new(len);
        ones.iter().for_each(|index| bitmap.set(*index, true));
        bitmap
    }

    #[test]
    fn starts_like_the_published_dump() {
        let region = encode_mask(MaskKind::MdPages, &bitmap(381_546, &[0]), 12 * 4096);
        assert_eq!(region[..7], [0x00, 0x6a, 0xd2, 0x05, 0x00, 0x01, 0x00]);
        assert_eq!(region.len(), 12 * 4096);
    }

    #[test]
    fn round_trips() {
        for kind in MaskKind::ALL {
            let mask = bitmap(77, &[0, 7, 8, 64, 76]);
            assert_eq!(decode_mask(kind, &encode_mask(kind, &mask, 4096), 77), Ok(mask));
        }
    }

    #[test]
    fn only_a_cluster_mask_may_be_longer() {
        let mask = bitmap(77, &[0, 70]);
        let truncated = decode_mask(MaskKind::Clusters, &encode_mask(MaskKind::Clusters, &mask, 64), 33);
        assert_eq!(truncated, Ok(bitmap(33, &[0])));
        for kind in [MaskKind::MdPages, MaskKind::BlobIds] {
            let what = decode_mask(kind, &encode_mask(kind, &mask, 64), 33).map_err(|damage| damage.what);
            assert_eq!(what, Err(Fault::MaskLength { stored: 77, expected: 33 }));
        }
    }

    #[test]
    fn refuses() {
        let region = encode_mask(MaskKind::Clusters, &bitmap(77, &[]), 64);
        let cases: [(MaskKind, &[u8], usize, Fault); 4] = [
            (MaskKind::MdPages, &region, 77, Fault::MaskType { stored: 1, expected: 0 }),
            (MaskKind::Clusters, &region, 78, Fault::MaskLength { stored: 77, expected: 78 }),
            (MaskKind::Clusters, &region[..14], 77, Fault::Short { len: 14, needed: 15 }),
            (MaskKind::Clusters, &[], 0, Fault::Short { len: 0, needed: 5 }),
        ];
        for (kind, region, bits, what) in cases {
            assert_eq!(decode_mask(kind, region, bits), Err(Damage { at: Place::Mask(kind), what }));
        }
    }
}
