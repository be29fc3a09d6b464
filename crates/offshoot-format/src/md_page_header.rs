//! The fixed part of an md page, and its place in the 4096 bytes.

use crate::checksum::checked_page;
use crate::{DESCRIPTORS_BYTES, Damage, Fault, MD_STRUCT_BYTES, MdPageIdx, PageImage};
use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the descriptors of an md page start.
pub(crate) const DESCRIPTORS_OFFSET: usize = offset_of!(RawMdPage, descriptors);

/// The fixed part of an md page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MdPageHeader {
    /// See [`crate::MdPage::id`].
    pub id: u64,
    /// See [`crate::MdPage::sequence`].
    pub sequence: u32,
    /// See [`crate::MdPage::next`].
    pub next: Option<MdPageIdx>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawMdPage {
    id: U64,
    sequence: U32,
    reserved0: U32,
    pub(crate) descriptors: [u8; DESCRIPTORS_BYTES],
    pub(crate) next: U32,
    crc: U32,
}

const _: () = {
    assert!(size_of::<RawMdPage>() == MD_STRUCT_BYTES);
    assert!(offset_of!(RawMdPage, sequence) == 0x008);
    assert!(offset_of!(RawMdPage, descriptors) == 0x010);
    assert!(offset_of!(RawMdPage, next) == 0xff8);
    assert!(offset_of!(RawMdPage, crc) == 0xffc);
};

impl MdPageHeader {
    /// The fixed part of the md page at `at`.
    ///
    /// # Errors
    /// Too few bytes or a bad checksum.
    pub fn decode(at: MdPageIdx, bytes: &[u8]) -> Result<Self, Damage> {
        checked(bytes).map(RawMdPage::header).map_err(|what| Damage::in_md_page(at, what))
    }
}

/// Writes the fixed part of a page, without the checksum.
pub(crate) fn write_header(page: &mut PageImage, header: MdPageHeader) {
    let raw: &mut RawMdPage = zerocopy::transmute_mut!(page);
    raw.id = header.id.into();
    raw.sequence = header.sequence.into();
    raw.next = MdPageIdx::to_link(header.next).into();
}

/// The page in these bytes, its checksum held against them.
pub(crate) fn checked(bytes: &[u8]) -> Result<&RawMdPage, Fault> {
    checked_page(bytes).map(|page| zerocopy::transmute_ref!(page))
}

impl RawMdPage {
    pub(crate) fn header(&self) -> MdPageHeader {
        MdPageHeader {
            id: self.id.get(),
            sequence: self.sequence.get(),
            next: MdPageIdx::from_link(self.next.get()),
        }
    }
}
