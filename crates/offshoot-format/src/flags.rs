//! The three flag words of a blob (SPDK's FLAGS descriptor).

use bitflags::bitflags;

bitflags! {
    /// Flags that change what the metadata means. A blob with one that the reader does not know must not be opened.
    /// Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct InvalidFlags: u64 {
        /// Clusters may be unallocated.
        const THIN_PROV = 1 << 0;
        /// There are internal xattrs. Advisory: they are read without it, too.
        const INTERNAL_XATTR = 1 << 1;
        /// The map is an EXTENT_TABLE. Advisory: which map stands there decides.
        const EXTENT_TABLE = 1 << 2;
        /// The parent is an external device, named by the `EXTSNAP` xattr.
        const EXTERNAL_SNAPSHOT = 1 << 3;
    }

    /// Flags that a writer of data must know. A blob with one that the reader does not know is read-only, data and
    /// metadata. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DataRoFlags: u64 {
        /// Data and metadata are read-only: a snapshot, or an lvol that was made so.
        const READ_ONLY = 1 << 0;
    }
}

impl InvalidFlags {
    /// The bits that have no name here.
    #[must_use]
    pub const fn unknown(self) -> u64 {
        self.bits() & !Self::all().bits()
    }
}

impl DataRoFlags {
    /// The bits that have no name here.
    #[must_use]
    pub const fn unknown(self) -> u64 {
        self.bits() & !Self::all().bits()
    }
}

/// How SPDK clears the clusters that a blob gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClearMethod {
    /// As the store does it: unmap.
    #[default]
    Default = 0,
    /// Not at all.
    None = 1,
    /// Unmap.
    Unmap = 2,
    /// Zeros are written.
    WriteZeroes = 3,
}

/// The flag words of a blob, verbatim. A blob of a version 1 or 2 store has none: they read as zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// What a reader must know.
    pub invalid: InvalidFlags,
    /// What a writer of data must know.
    pub data_ro: DataRoFlags,
    /// What a writer of metadata must know: the clear method in bits 0 and 1.
    pub md_ro: u64,
}

impl Flags {
    const CLEAR_METHOD: u64 = 3;

    /// Whether clusters may be unallocated.
    #[must_use]
    pub const fn is_thin(self) -> bool {
        self.invalid.contains(InvalidFlags::THIN_PROV)
    }

    /// Whether the blob was made read-only. Unknown bits make it so as well: see [`DataRoFlags::unknown`].
    #[must_use]
    pub const fn is_read_only(self) -> bool {
        self.data_ro.contains(DataRoFlags::READ_ONLY)
    }

    /// How the blob's clusters are cleared.
    #[must_use]
    pub const fn clear_method(self) -> ClearMethod {
        match self.md_ro & Self::CLEAR_METHOD {
            0 => ClearMethod::Default,
            1 => ClearMethod::None,
            2 => ClearMethod::Unmap,
            _ => ClearMethod::WriteZeroes,
        }
    }

    /// These flags with another clear method. (SPDK only ever adds the bits, so there the two methods merge.)
    #[must_use]
    pub const fn with_clear_method(self, method: ClearMethod) -> Self {
        Self { md_ro: self.md_ro & !Self::CLEAR_METHOD | method as u64, ..self }
    }

    /// The bits of `md_ro` that have no name here.
    #[must_use]
    pub const fn unknown_md_ro(self) -> u64 {
        self.md_ro & !Self::CLEAR_METHOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_are_kept() {
        let mut invalid = InvalidFlags::from_bits_retain(0x8000_0000_0000_0012);
        assert_eq!(invalid.unknown(), 0x8000_0000_0000_0010);
        invalid |= InvalidFlags::THIN_PROV;
        invalid.remove(InvalidFlags::INTERNAL_XATTR);
        assert_eq!(invalid.bits(), 0x8000_0000_0000_0011);
    }

    #[test]
    fn clear_methods() {
        use ClearMethod::{Default, None, Unmap, WriteZeroes};
        for (bits, method) in [(0, Default), (1, None), (2, Unmap), (3, WriteZeroes)] {
            let flags = Flags { md_ro: 0x10 | bits, ..Flags::default() };
            assert_eq!(flags.clear_method(), method);
            assert_eq!(flags.unknown_md_ro(), 0x10);
            assert_eq!(flags.with_clear_method(Unmap).md_ro, 0x12);
        }
    }
}
