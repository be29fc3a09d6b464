//! Owned, page-aligned memory for I/O.

use alloc::vec::Vec;
use core::fmt;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Alignment and allocation unit of a [`Buffer`], in bytes: what `O_DIRECT` asks for on any device.
pub const PAGE_BYTES: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// Page-aligned memory that a device operation owns while it is under way.
///
/// The memory starts at a multiple of [`PAGE_BYTES`], whatever the length. Dropping a buffer frees
/// it; a caller that moves many of them keeps a pool.
#[derive(Clone, Default)]
pub struct Buffer {
    pages: Vec<Page>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let count = len.div_ceil(PAGE_BYTES);
        // The only error is a capacity overflow or no memory, which is what `vec!` panics on too.
        let pages = Page::new_vec_zeroed(count).unwrap_or_else(|_| panic!("no memory for {len} bytes"));
        Self { pages, len }
    }

    /// A buffer that holds a copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.as_mut_slice().copy_from_slice(bytes);
        buffer
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How long the buffer may become by [`Buffer::set_len`] without a new allocation, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    /// Changes the length within the capacity. Bytes that come into view hold whatever they held before.
    ///
    /// # Panics
    /// When `len` is above [`Buffer::capacity`].
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "length {len} above the capacity {}", self.capacity());
        self.len = len;
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.pages.as_bytes()[..self.len]
    }

    /// The bytes, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.pages.as_mut_bytes()[..self.len]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_and_zero() {
        for len in [1, 512, 4096, 4097, 1 << 20] {
            let buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_slice().as_ptr() as usize % PAGE_BYTES, 0);
            assert!(buffer.as_slice().iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn changes_length_within_capacity() {
        let mut buffer = Buffer::copy_of(b"abc");
        assert_eq!(buffer.capacity(), PAGE_BYTES);
        buffer.set_len(2);
        assert_eq!(buffer.as_slice(), b"ab");
    }
}
