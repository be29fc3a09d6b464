//! Bytes received and not yet looked at.

use crate::limits::INPUT_BYTES;

/// Memory into which a socket is read. A [`crate::Connection`] needs one only while it holds bytes, so that a server
/// lends a few of them to many connections.
#[derive(Debug)]
pub struct InputBuffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl InputBuffer {
    /// An empty buffer of [`INPUT_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self { memory: vec![0; INPUT_BYTES].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Whether nothing is left to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets what was received.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Takes `N` bytes off the front, or none if there are fewer.
    pub(super) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes().first_chunk()?;
        self.consume(N);
        Some(array)
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Room for more. What is left of a request is moved to the front first; that is a few bytes, unless the
    /// connection is held up, and then it is not read.
    pub(super) fn spare_mut(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.memory[self.end..]
    }

    pub(super) fn filled(&mut self, count: usize) {
        assert!(count <= self.memory.len() - self.end, "{count} bytes do not fit");
        self.end += count;
    }
}

impl Default for InputBuffer {
    fn default() -> Self {
        Self::new()
    }
}
