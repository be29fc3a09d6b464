//! Buffers kept for reuse.

use crate::limits::POOL_BYTES_MAX;
use offshoot_block::{Buffer, PAGE_BYTES};

/// Buffers at rest, by size class: whole pages, rounded up to a power of two.
///
/// A fresh buffer costs the allocator and the zeroing of every page; one from here costs neither.
/// At most [`POOL_BYTES_MAX`] bytes are kept. When they are reached, larger buffers give way to smaller ones, so that
/// a few huge requests do not take the pool away from the many small ones after them.
#[derive(Debug, Default)]
pub struct BufferPool {
    classes: [Vec<Buffer>; CLASSES],
    held_bytes: usize,
}

/// Classes of 1, 2, 4 ... pages, up to 32 MiB.
const CLASSES: usize = 14;

impl BufferPool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of `len` bytes that hold anything.
    #[must_use]
    pub fn take(&mut self, len: usize) -> Buffer {
        let pages = len.div_ceil(PAGE_BYTES).max(1).next_power_of_two();
        let pooled = self.classes.get_mut(class_of(pages)).and_then(Vec::pop);
        let mut buffer = match pooled {
            Some(buffer) => {
                self.held_bytes -= buffer.capacity();
                buffer
            }
            None => Buffer::zeroed(pages * PAGE_BYTES),
        };
        buffer.set_len(len);
        buffer
    }

    /// Keeps a buffer for reuse, wherever it came from, or frees it when there is no room or its size is odd.
    pub fn give(&mut self, buffer: Buffer) {
        let capacity = buffer.capacity();
        let pages = capacity / PAGE_BYTES;
        let index = class_of(pages);
        if !pages.is_power_of_two() || index >= CLASSES {
            return;
        }
        self.free_larger(index, capacity);
        if self.held_bytes + capacity <= POOL_BYTES_MAX {
            self.classes[index].push(buffer);
            self.held_bytes += capacity;
        }
    }

    /// Frees buffers of the classes above `index`, the largest first, until `needed` bytes fit in.
    fn free_larger(&mut self, index: usize, needed: usize) {
        for class in self.classes[index + 1..].iter_mut().rev() {
            while self.held_bytes + needed > POOL_BYTES_MAX
                && let Some(freed) = class.pop()
            {
                self.held_bytes -= freed.capacity();
            }
        }
    }
}

/// The class of buffers with `pages` pages, a power of two.
fn class_of(pages: usize) -> usize {
    pages.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuses_what_fits() {
        let mut pool = BufferPool::new();
        let mut first = pool.take(5000);
        first.as_mut_slice().fill(7);
        let address = first.as_slice().as_ptr();
        pool.give(first);
        let again = pool.take(8192);
        assert_eq!((again.as_slice().as_ptr(), again.len()), (address, 8192));
        assert_ne!(pool.take(8192).as_slice().as_ptr(), address, "handed out once");
    }

    #[test]
    fn takes_any_length() {
        let mut pool = BufferPool::new();
        for len in [0, 1, 4095, 4096, 4097, 1 << 20, (32 << 20) + 1] {
            let buffer = pool.take(len);
            assert_eq!(buffer.len(), len);
            pool.give(buffer);
        }
    }

    #[test]
    fn keeps_a_bounded_amount() {
        let mut pool = BufferPool::new();
        for _ in 0..40 {
            pool.give(Buffer::zeroed(1 << 20));
        }
        assert_eq!(pool.held_bytes, POOL_BYTES_MAX);
        pool.give(Buffer::zeroed(3 * PAGE_BYTES));
        assert_eq!(pool.held_bytes, POOL_BYTES_MAX, "odd sizes are not kept");
    }

    #[test]
    fn large_buffers_give_way_to_small_ones() {
        let mut pool = BufferPool::new();
        pool.give(Buffer::zeroed(POOL_BYTES_MAX));
        assert_eq!(pool.held_bytes, POOL_BYTES_MAX);
        pool.give(Buffer::zeroed(PAGE_BYTES));
        assert_eq!(pool.held_bytes, PAGE_BYTES);
        pool.give(Buffer::zeroed(POOL_BYTES_MAX));
        assert_eq!(pool.held_bytes, PAGE_BYTES, "but not the other way round");
    }
}
