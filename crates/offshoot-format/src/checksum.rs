//! CRC-32C, and the one at the end of super blocks and md pages.

use crate::{Fault, MD_STRUCT_BYTES, PageImage};

/// Bytes of a super block or md page that its CRC covers: all but the CRC itself.
pub(crate) const CRC_COVERS_BYTES: usize = MD_STRUCT_BYTES - 4;

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// CRC-32C (Castagnoli): reflected, register and result inverted.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// Whether the first 4096 bytes of an md page or super block carry their own CRC.
///
/// False for fewer bytes, and for zeros: that is how an erased md page is told from a used one.
#[must_use]
pub fn page_crc_ok(bytes: &[u8]) -> bool {
    checked_page(bytes).is_ok()
}

/// The first 4096 bytes of `bytes`, if they carry their own CRC.
pub(crate) fn checked_page(bytes: &[u8]) -> Result<&[u8; MD_STRUCT_BYTES], Fault> {
    let Some(page) = bytes.first_chunk::<MD_STRUCT_BYTES>() else {
        return Err(Fault::Short { len: bytes.len(), needed: MD_STRUCT_BYTES });
    };
    let (covered, tail) = page.split_at(CRC_COVERS_BYTES);
    let stored = tail.first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc));
    let computed = crc32c(covered);
    if stored == computed { Ok(page) } else { Err(Fault::Crc { stored, computed }) }
}

/// Writes the CRC of a super block or md page into its last four bytes.
pub(crate) fn seal_page(page: &mut [u8; MD_STRUCT_BYTES]) {
    let crc = crc32c(&page[..CRC_COVERS_BYTES]);
    page[CRC_COVERS_BYTES..].copy_from_slice(&crc.to_le_bytes());
}

/// The page with one bit put right, if that gives it the CRC that it carries. It is the only bit that does, and no two
/// wrong bits look like a wrong one: in pages of this size the CRC tells all of these apart.
#[must_use]
pub fn mend_page(bytes: &[u8]) -> Option<PageImage> {
    let mut page = *bytes.first_chunk::<MD_STRUCT_BYTES>()?;
    let Err(Fault::Crc { stored, computed }) = checked_page(&page) else {
        return None;
    };
    let difference = stored ^ computed;
    if difference.is_power_of_two() {
        seal_page(&mut page);
        return Some(page);
    }
    // A CRC is linear: what a wrong bit adds to it depends on where it is, and on nothing else.
    let step = |register: u32| {
        (0..8).fold(register, |register: u32, _| {
            (register >> 1) ^ if register & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    };
    let mut added: [u32; 8] = core::array::from_fn(|bit| 1 << bit);
    for byte in page[..CRC_COVERS_BYTES].iter_mut().rev() {
        added = added.map(step);
        if let Some(bit) = added.iter().position(|added| *added == difference) {
            *byte ^= 1 << bit;
            return Some(page);
        }
    }
    None
}

/// The four bytes that turn the CRC `before` of what precedes them into the CRC `after`.
///
/// Each step of the register can be undone, so we run it back from `after` over four zero bytes; what the word must add
/// is the difference (exclusive or) between that register and the one of `before`.
pub(crate) fn balancing_word(before: u32, after: u32) -> [u8; 4] {
    // The top bit of the polynomial is set, so the top bit of a register tells whether it was added.
    let undo = |register: u32, _| match register >> 31 {
        0 => register << 1,
        _ => (register ^ POLYNOMIAL) << 1 | 1,
    };
    ((0..32).fold(!after, undo) ^ !before).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_values() {
        let vectors: [(&[u8], u32); 3] =
            [(b"123456789", 0xe306_9283), (b"Hello world!", 0x7b98_e751), (&[0; 4092], 0xa732_586e)];
        for (bytes, crc) in vectors {
            assert_eq!(crc32c(bytes), crc);
        }
    }

    proptest! {
        #[test]
        fn a_word_leads_to_any_checksum(mut bytes: [u8; 20], after: u32) {
            let word = balancing_word(crc32c(&bytes[..16]), after);
            bytes[16..].copy_from_slice(&word);
            prop_assert_eq!(crc32c(&bytes), after);
        }
    }

    proptest! {
        #[test]
        fn one_wrong_bit_is_put_right(seed: u64, at in 0..8 * MD_STRUCT_BYTES, more in 0..8 * MD_STRUCT_BYTES) {
            let mut page = [0; MD_STRUCT_BYTES];
            let mut word = seed | 1;
            for bytes in page.chunks_mut(8) {
                word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            seal_page(&mut page);
            prop_assert_eq!(mend_page(&page), None, "nothing is wrong");
            let mut wrong = page;
            wrong[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(mend_page(&wrong), Some(page));
            prop_assume!(more != at);
            wrong[more / 8] ^= 1 << (more % 8);
            prop_assert_eq!(mend_page(&wrong), None, "two wrong bits");
        }
    }

    #[test]
    fn an_erased_page_is_invalid() {
        assert!(!page_crc_ok(&[0; MD_STRUCT_BYTES]));
        assert!(!page_crc_ok(&[]));
        let mut page = [7; MD_STRUCT_BYTES];
        seal_page(&mut page);
        assert!(page_crc_ok(&page));
        page[17] ^= 1;
        assert!(!page_crc_ok(&page));
    }
}
