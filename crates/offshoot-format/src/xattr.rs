//! Extended attributes of a blob.

use alloc::vec::Vec;

/// Most bytes of name and value together: the descriptor must fit one md page.
pub const XATTR_BYTES_MAX: usize = 4063;

/// A named value of a blob: the user's (SPDK's XATTR) or the store's own (XATTR_INTERNAL).
///
/// Both are bytes: names are stored without a NUL, values as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Xattr {
    /// The name.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

impl Xattr {
    /// A named value. Nothing checks here that it fits: see [`Xattr::fits`].
    #[must_use]
    pub fn new(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    /// Whether an md page can hold it.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.name.len() + self.value.len() <= XATTR_BYTES_MAX
    }
}
