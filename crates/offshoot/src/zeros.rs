//! Finding out what of a piece of data is worth storing.

use std::ops::Range;

/// Unit in which zeros are left out, in bytes: a block of the engine's copy-on-write.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// The runs of blocks that are not all zeros, as ranges of bytes, ascending, as long as possible. A last block that is
/// cut short counts as one.
pub(crate) fn data_runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (block, start) in bytes.chunks(BLOCK_BYTES).zip((0..).step_by(BLOCK_BYTES)) {
        if is_zero(block) {
            continue;
        }
        let end = start + block.len();
        match runs.last_mut() {
            Some(run) if run.end == start => run.end = end,
            _ => runs.push(start..end),
        }
    }
    runs
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Sixteen at a time: the compiler makes this a loop over vectors, which it does not of a search that stops early.
    let (head, words, tail) = (bytes.len() / 16 * 16, bytes.chunks_exact(16), bytes);
    let whole = words.fold(0_u128, |any, word| any | u128::from_le_bytes(word.try_into().unwrap_or([1; 16])));
    whole == 0 && tail[head..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found() {
        const B: usize = BLOCK_BYTES;
        let mut bytes = vec![0; 5 * B + 10];
        assert!(data_runs(&bytes).is_empty());
        assert!(data_runs(&[]).is_empty());
        bytes[B] = 1;
        bytes[3 * B - 1] = 1;
        bytes[5 * B + 9] = 1;
        assert_eq!(data_runs(&bytes), [B..3 * B, 5 * B..5 * B + 10]);
        bytes.fill(1);
        assert_eq!(data_runs(&bytes), [Range { start: 0, end: bytes.len() }]);
    }

    #[test]
    fn every_byte_counts() {
        for len in 0..70 {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes), "{len}");
            for at in 0..len {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{len}: {at}");
                bytes[at] = 0;
            }
        }
    }
}
