//! Md pages: the 4096 bytes of which blobs' metadata is made (SPDK's `spdk_blob_md_page`).
//!
//! Larger md pages carry the same structure in their first 4096 bytes, and nothing behind it.

use crate::descriptor::RawDescriptors;
use crate::md_page_header::checked;
use crate::piece::write_page;
use crate::{Damage, Descriptor, DescriptorKind, Fault, MdPageHeader, MdPageIdx, PageImage};
use alloc::vec::Vec;

/// An md page of any kind, its descriptors decoded one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MdPage {
    /// The owner; on extent pages and layer pages the blob that wrote the page last.
    pub id: u64,
    /// 0 on roots, extent pages and layer pages; 1, 2, ... along a chain.
    pub sequence: u32,
    /// The next page of the chain.
    pub next: Option<MdPageIdx>,
    /// What the page holds, without padding.
    pub descriptors: Vec<Descriptor>,
}

impl MdPage {
    /// The md page at `at`, whose bytes are the first 4096 of `bytes`.
    ///
    /// # Errors
    /// Too few bytes, a bad checksum, and descriptors that do not fit the page or whose payload has no meaning. Whether
    /// the page belongs where it stands is not checked here.
    pub fn decode(at: MdPageIdx, bytes: &[u8]) -> Result<Self, Damage> {
        let decode = || {
            let raw = checked(bytes)?;
            let MdPageHeader { id, sequence, next } = raw.header();
            let descriptors = RawDescriptors::new(&raw.descriptors)
                .map(|descriptor| descriptor.and_then(|(kind, payload)| Descriptor::decode(kind, payload)))
                .collect::<Result<_, _>>()?;
            Ok(Self { id, sequence, next, descriptors })
        };
        decode().map_err(|what| Damage::in_md_page(at, what))
    }

    /// The page's bytes: the descriptors without padding, zeros behind them, the checksum.
    ///
    /// # Panics
    /// When the descriptors do not fit the page, or say what cannot be written (a run of no clusters, an extent page at
    /// md page 0).
    #[must_use]
    pub fn encode(&self) -> PageImage {
        let header = MdPageHeader { id: self.id, sequence: self.sequence, next: self.next };
        write_page(header, self.descriptors.iter().map(Descriptor::as_piece))
    }
}

/// The fixed part and the payload of a page whose only descriptor is of `kind`.
pub(crate) fn sole_descriptor(
    at: MdPageIdx,
    bytes: &[u8],
    kind: DescriptorKind,
) -> Result<(MdPageHeader, &[u8]), Damage> {
    let decode = || {
        let raw = checked(bytes)?;
        let header = raw.header();
        if header.sequence != 0 {
            return Err(Fault::Sequence { stored: header.sequence, expected: 0 });
        }
        if header.next.is_some() {
            return Err(Fault::Link { stored: raw.next.get(), expected: MdPageIdx::to_link(None) });
        }
        let mut descriptors = RawDescriptors::new(&raw.descriptors);
        let payload = match descriptors.next().transpose()? {
            Some((found, payload)) if found == kind => payload,
            _ => return Err(Fault::NoDescriptor { kind }),
        };
        match descriptors.next().transpose()? {
            None => Ok((header, payload)),
            Some((kind, _)) => Err(Fault::Misplaced { kind }),
        }
    };
    decode().map_err(|what| Damage::in_md_page(at, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DESCRIPTORS_BYTES;
    use crate::checksum::seal_page;
    use crate::md_page_header::DESCRIPTORS_OFFSET;
    use crate::{Flags, Run, Xattr};
    use alloc::vec;

    const AT: MdPageIdx = MdPageIdx(12);

    fn page(descriptors: Vec<Descriptor>) -> MdPage {
        MdPage { id: 0x1_0000_000c, sequence: 0, next: None, descriptors }
    }

    /// Decodes a page whose descriptor area starts with `area`.
    fn decode_area(area: &[u8]) -> Result<Vec<Descriptor>, Fault> {
        let mut image = page(vec![]).encode();
        image[DESCRIPTORS_OFFSET..][..area.len()].copy_from_slice(area);
        seal_page(&mut image);
        MdPage::decode(AT, &image).map(|page| page.descriptors).map_err(|damage| damage.what)
    }

    fn descriptor(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        [[kind].as_slice(), &length.to_le_bytes(), payload].concat()
    }

    #[test]
    fn round_trips() {
        let sample = MdPage {
            sequence: 3,
            next: Some(MdPageIdx(99)),
            ..page(vec![
                Descriptor::Flags(Flags { md_ro: 2, ..Flags::default() }),
                Descriptor::Xattr(Xattr::new(*b"name", *b"x\0")),
                Descriptor::XattrInternal(Xattr::new([], [])),
                Descriptor::ExtentRle(vec![Run { cluster: None, length: 3 }]),
                Descriptor::Unknown { kind: 0x77, payload: vec![1, 2, 3] },
            ])
        };
        let image = sample.encode();
        assert_eq!(MdPage::decode(AT, &image), Ok(sample));
        assert_eq!(image[0xff8..0xffc], 99_u32.to_le_bytes());
        let header = MdPageHeader { id: 0x1_0000_000c, sequence: 3, next: Some(MdPageIdx(99)) };
        assert_eq!(MdPageHeader::decode(AT, &image), Ok(header));
    }

    #[test]
    fn larger_pages_count_to_4096() {
        let sample = page(vec![Descriptor::Flags(Flags::default())]);
        let large = [sample.encode().as_slice(), &[0xee; 4096]].concat();
        assert_eq!(MdPage::decode(AT, &large), Ok(sample));
    }

    #[test]
    fn stops_at_the_end_and_skips_padding() {
        let unknown = |byte| Descriptor::Unknown { kind: 0x90, payload: vec![byte] };
        let one = descriptor(0x90, &[1]);
        let two = descriptor(0x90, &[2]);
        let padding = descriptor(0, &[9; 5]);
        let end = descriptor(0, &[]);
        assert_eq!(
            decode_area(&[one.clone(), padding, two.clone()].concat()),
            Ok(vec![unknown(1), unknown(2)])
        );
        assert_eq!(decode_area(&[one, end, two].concat()), Ok(vec![unknown(1)]));
        // Four bytes are left, which cannot be a header.
        let full = descriptor(0x90, &[7; DESCRIPTORS_BYTES - 5 - 4]);
        let garbage = [full.as_slice(), &[0xff; 4]].concat();
        assert_eq!(decode_area(&garbage).map(|all| all.len()), Ok(1));
    }

    #[test]
    fn refuses_payloads() {
        let length = |kind, length| Fault::DescriptorLength { kind, length };
        let xattr = |length, name, value| Fault::XattrLengths { length, name, value };
        let rle = DescriptorKind::EXTENT_RLE;
        let table = DescriptorKind::EXTENT_TABLE;
        let cases: [(u8, &[u8], Fault); 16] = [
            (3, &[0; 23], length(DescriptorKind::FLAGS, 23)),
            (3, &[0; 25], length(DescriptorKind::FLAGS, 25)),
            (2, &[0; 3], length(DescriptorKind::XATTR, 3)),
            (2, &[1, 0, 1, 0, 7], xattr(5, 1, 1)),
            (4, &[1, 0, 1, 0, 7, 7, 7], xattr(7, 1, 1)),
            (4, &[9, 0, 0, 0], xattr(4, 9, 0)),
            (1, &[], length(rle, 0)),
            (1, &[0; 7], length(rle, 7)),
            (1, &[1, 0, 0, 0, 0, 0, 0, 0], Fault::Run { cluster: 1, length: 0 }),
            (1, &[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0], Fault::Run { cluster: u32::MAX, length: 1 }),
            (5, &[0; 7], length(table, 7)),
            (5, &[0; 12], length(table, 12)),
            (5, &[0; 16], Fault::TableEntry { page: 0, count: 0 }),
            (5, &[0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0], Fault::TableEntry { page: 5, count: 2 }),
            (6, &[], length(DescriptorKind::EXTENT_PAGE, 0)),
            (6, &[0; 6], length(DescriptorKind::EXTENT_PAGE, 6)),
        ];
        for (kind, payload, fault) in cases {
            assert_eq!(decode_area(&descriptor(kind, payload)), Err(fault));
        }
    }

    #[test]
    fn refuses_descriptors_that_leave_the_page() {
        let kind = DescriptorKind(0x90);
        for (length, fits) in [(4067, true), (4068, false), (u32::MAX, false)] {
            let header = [[0x90].as_slice(), &length.to_le_bytes()].concat();
            let overrun = Fault::DescriptorOverrun { kind, offset: 0, length, room: 4067 };
            let expected = if fits { Ok(1) } else { Err(overrun) };
            assert_eq!(decode_area(&header).map(|all| all.len()), expected);
        }
    }

    #[test]
    #[should_panic(expected = "mid > len")]
    fn does_not_write_more_than_a_page() {
        let _ = page(vec![Descriptor::Unknown { kind: 0x90, payload: vec![0; 4068] }]).encode();
    }
}
