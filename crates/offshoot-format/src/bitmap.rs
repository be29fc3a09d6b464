//! A set of small integers, in the bit order of the masks.

use alloc::{vec, vec::Vec};
use core::ops::Range;

const BITS: usize = 64;

/// A fixed number of bits. On disk bit *i* is bit `i % 8` of byte `i / 8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Bits at and above `len` are zero.
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// `len` zero bits.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(BITS)], len }
    }

    /// The first `len` bits of `bytes`; bits that the bytes do not have are zero.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], len: usize) -> Self {
        let mut bitmap = Self::new(len);
        for (word, chunk) in bitmap.words.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(padded);
        }
        bitmap.clear_behind_the_end();
        bitmap
    }

    /// The bits in their order on disk, in as few bytes as hold them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.words.len() * 8);
        bytes.extend(self.words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.truncate(self.len.div_ceil(8));
        bytes
    }

    /// Fills `bytes` with the bits at and above `from`; bits behind the last one are zero.
    ///
    /// # Panics
    /// When `from` (below the length) or the number of bits in `bytes` is no multiple of 64.
    pub(crate) fn copy_to_bytes(&self, from: usize, bytes: &mut [u8]) {
        let (chunks, rest) = bytes.as_chunks_mut::<8>();
        assert!(rest.is_empty(), "bits of a part of a word");
        let words = self.words_from(from);
        for (chunk, word) in chunks.iter_mut().zip(words.iter().copied().chain(core::iter::repeat(0))) {
            *chunk = word.to_le_bytes();
        }
    }

    /// Takes the bits at and above `from` from `bytes`, as many as both have.
    ///
    /// # Panics
    /// When `from` (below the length) or the number of bits in `bytes` is no multiple of 64.
    pub(crate) fn copy_from_bytes(&mut self, from: usize, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty(), "bits of a part of a word");
        let start = self.words.len() - self.words_from(from).len();
        for (word, chunk) in self.words[start..].iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        self.clear_behind_the_end();
    }

    /// The words from bit `from` on, none when that lies behind the last one.
    fn words_from(&self, from: usize) -> &[u64] {
        if from >= self.len {
            return &[];
        }
        assert!(from.is_multiple_of(BITS), "bits from {from}");
        &self.words[from / BITS..]
    }

    /// Number of bits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bits at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Changes the number of bits; new ones are zero.
    pub fn resize(&mut self, len: usize) {
        if len < self.len {
            *self = Self::from_bytes(&self.to_bytes(), len);
        } else {
            self.words.resize(len.div_ceil(BITS), 0);
            self.len = len;
        }
    }

    /// Bit `index`.
    ///
    /// # Panics
    /// When `index` is not below the length.
    #[must_use]
    pub fn get(&self, index: usize) -> bool {
        assert!(index < self.len, "bit {index} of {}", self.len);
        self.words[index / BITS] >> (index % BITS) & 1 == 1
    }

    /// Changes bit `index`.
    ///
    /// # Panics
    /// When `index` is not below the length.
    pub fn set(&mut self, index: usize, value: bool) {
        assert!(index < self.len, "bit {index} of {}", self.len);
        let bit = 1 << (index % BITS);
        if value {
            self.words[index / BITS] |= bit;
        } else {
            self.words[index / BITS] &= !bit;
        }
    }

    /// How many bits are one.
    #[must_use]
    pub fn count_ones(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The indices of the bits that are one, ascending.
    pub fn iter_ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            core::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(index * BITS + bit)
            })
        })
    }

    /// The first one at or above `from`.
    #[must_use]
    pub fn first_one_from(&self, from: usize) -> Option<usize> {
        self.first_from(from, |word| word)
    }

    /// The first zero at or above `from`.
    #[must_use]
    pub fn first_zero_from(&self, from: usize) -> Option<usize> {
        self.first_from(from, |word| !word)
    }

    /// The maximal runs of zeros, ascending.
    pub fn zero_runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let start = self.first_zero_from(from)?;
            from = self.first_one_from(start).unwrap_or(self.len);
            Some(start..from)
        })
    }

    fn clear_behind_the_end(&mut self) {
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(BITS)
        {
            *last &= (1 << (self.len % BITS)) - 1;
        }
    }

    /// The first bit at or above `from` that is one in the words as `view` shows them.
    fn first_from(&self, from: usize, view: impl Fn(u64) -> u64) -> Option<usize> {
        if from >= self.len {
            return None;
        }
        let mut index = from / BITS;
        let mut word = view(self.words[index]) & (u64::MAX << (from % BITS));
        loop {
            if word != 0 {
                let bit = index * BITS + word.trailing_zeros() as usize;
                // The bits above the length are zero, which an inverted view shows as ones.
                return (bit < self.len).then_some(bit);
            }
            index += 1;
            word = view(*self.words.get(index)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_on_disk() {
        let mut bitmap = Bitmap::new(12);
        bitmap.set(0, true);
        bitmap.set(9, true);
        assert_eq!(bitmap.to_bytes(), [0b1, 0b10]);
        assert_eq!(Bitmap::from_bytes(&[0b1, 0b1111_0010], 12), bitmap);
    }

    proptest! {
        #[test]
        fn equals_a_plain_vector(plain in proptest::collection::vec(any::<bool>(), 0..300), from in 0_usize..310) {
            let mut bitmap = Bitmap::new(plain.len());
            for (index, bit) in plain.iter().enumerate() {
                bitmap.set(index, !bit);
                bitmap.set(index, *bit);
            }
            for (index, bit) in plain.iter().enumerate() {
                prop_assert_eq!(bitmap.get(index), *bit);
            }
            let ones: Vec<usize> = (0..plain.len()).filter(|index| plain[*index]).collect();
            prop_assert_eq!(bitmap.count_ones(), ones.len());
            prop_assert_eq!(bitmap.iter_ones().collect::<Vec<_>>(), ones);
            prop_assert_eq!(bitmap.first_zero_from(from), (from..plain.len()).find(|index| !plain[*index]));
            prop_assert_eq!(bitmap.first_one_from(from), (from..plain.len()).find(|index| plain[*index]));
            let zeros: Vec<usize> = (0..plain.len()).filter(|index| !plain[*index]).collect();
            prop_assert_eq!(bitmap.zero_runs().flatten().collect::<Vec<_>>(), zeros);
            prop_assert_eq!(&Bitmap::from_bytes(&bitmap.to_bytes(), plain.len()), &bitmap);
            let mut resized = bitmap.clone();
            resized.resize(from);
            for index in 0..from {
                prop_assert_eq!(resized.get(index), plain.get(index).copied().unwrap_or(false));
            }
        }
    }
}
