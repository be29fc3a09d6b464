//! Replies of the transmission phase: simple ones, and the chunks of structured ones.

use crate::backend::{Errno, Extent};
use crate::limits::STATUS_EXTENTS_MAX;
use crate::proto::handshake::BASE_ALLOCATION_ID;
use crate::proto::wire::{SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk, state};

/// A simple reply; the payload of a read follows.
pub(crate) fn encode_simple(out: &mut Vec<u8>, cookie: u64, error: Option<Errno>) {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&error.map_or(0, wire_value).to_be_bytes());
    bytes[8..].copy_from_slice(&cookie.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// The chunk that says nothing but success.
pub(crate) fn encode_none(out: &mut Vec<u8>, cookie: u64) {
    encode_head(out, cookie, chunk::NONE, 0);
}

/// The head of a chunk of `len` bytes of data, which follow. `len` is not zero.
pub(crate) fn encode_data_head(out: &mut Vec<u8>, cookie: u64, offset: u64, len: u32) {
    encode_head(out, cookie, chunk::OFFSET_DATA, 8 + len);
    out.extend_from_slice(&offset.to_be_bytes());
}

/// The chunk that says that `len` bytes, not zero, are zeros.
pub(crate) fn encode_hole(out: &mut Vec<u8>, cookie: u64, offset: u64, len: u32) {
    encode_head(out, cookie, chunk::OFFSET_HOLE, 12);
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
}

/// The chunk of a failed request, with a few words for humans.
pub(crate) fn encode_error(out: &mut Vec<u8>, cookie: u64, errno: Errno) {
    let (len, message) = message_of(errno);
    encode_head(out, cookie, chunk::ERROR, 6 + u32::from(len));
    out.extend_from_slice(&wire_value(errno).to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// The chunk that answers BLOCK_STATUS. Extents are joined where they are alike, and cut off at `len` bytes,
/// after the first if `one`, and at the limit. Returns false, with nothing written, if not a byte is covered.
pub(crate) fn encode_status(out: &mut Vec<u8>, cookie: u64, len: u64, one: bool, extents: &[Extent]) -> bool {
    let start = out.len();
    encode_head(out, cookie, chunk::BLOCK_STATUS, 4);
    out.extend_from_slice(&BASE_ALLOCATION_ID.to_be_bytes());
    let count_max = if one { 1 } else { STATUS_EXTENTS_MAX };
    let mut count = 0;
    let mut left = u32::try_from(len).unwrap_or(u32::MAX);
    let mut rest = extents.iter().filter(|extent| extent.len != 0).peekable();
    while let Some(first) = rest.next() {
        let flags = flags_of(first);
        let mut run_len = first.len;
        while let Some(next) = rest.next_if(|next| flags_of(next) == flags) {
            run_len = run_len.saturating_add(next.len);
        }
        let run_len = u32::try_from(run_len).unwrap_or(u32::MAX).min(left);
        out.extend_from_slice(&run_len.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        left -= run_len;
        count += 1;
        if left == 0 || count == count_max {
            break;
        }
    }
    if count == 0 {
        out.truncate(start);
        return false;
    }
    let payload = out.len() - start - HEAD_BYTES;
    let payload = u32::try_from(payload).unwrap_or(u32::MAX);
    out[start + HEAD_BYTES - 4..start + HEAD_BYTES].copy_from_slice(&payload.to_be_bytes());
    true
}

/// Bytes of the head of a chunk.
const HEAD_BYTES: usize = 20;

fn encode_head(out: &mut Vec<u8>, cookie: u64, kind: u16, len: u32) {
    let mut bytes = [0; HEAD_BYTES];
    bytes[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    bytes[4..6].copy_from_slice(&chunk::FLAG_DONE.to_be_bytes());
    bytes[6..8].copy_from_slice(&kind.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..].copy_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&bytes);
}

fn flags_of(extent: &Extent) -> u32 {
    let hole = if extent.allocated { 0 } else { state::HOLE };
    let zero = if extent.zero { state::ZERO } else { 0 };
    hole | zero
}

fn wire_value(errno: Errno) -> u32 {
    errno as u32
}

/// Words for an error, and their length.
fn message_of(errno: Errno) -> (u16, &'static str) {
    let message = match errno {
        Errno::Perm => "the export is read-only",
        Errno::Io => "the storage failed",
        Errno::NoMem => "out of memory",
        Errno::Inval => "invalid request",
        Errno::NoSpc => "no space left",
        Errno::Overflow => "the request is too large",
        Errno::NotSup => "not supported",
        Errno::Shutdown => "the export is going away",
    };
    (u16::try_from(message.len()).unwrap_or(0), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(len: u64, one: bool, extents: &[(u64, bool, bool)]) -> Option<Vec<(u32, u32)>> {
        let extents: Vec<_> =
            extents.iter().map(|&(len, allocated, zero)| Extent { len, allocated, zero }).collect();
        let mut out = vec![0xee];
        if !encode_status(&mut out, 5, len, one, &extents) {
            assert_eq!(out, [0xee]);
            return None;
        }
        let stated = u32::from_be_bytes(out[17..21].try_into().unwrap());
        assert_eq!(out.len(), 21 + stated as usize);
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        Some(out[25..].chunks(8).map(|pair| (word(&pair[..4]), word(&pair[4..]))).collect())
    }

    #[test]
    fn statuses() {
        let mixed = [(4096, true, false), (0, false, true), (4096, true, false), (8192, false, true)];
        for (len, one, extents, want) in [
            (16384, false, &mixed[..], Some(vec![(8192, 0), (8192, 3)])),
            (16384, true, &mixed[..1], Some(vec![(4096, 0)])),
            (16384, true, &mixed[1..], Some(vec![(4096, 0)])),
            (5000, false, &[(4096, true, false), (4096, false, false)], Some(vec![(4096, 0), (904, 1)])),
            (100, false, &[(u64::MAX, true, true), (u64::MAX, true, true)], Some(vec![(100, 2)])),
            (100, false, &[], None),
            (100, false, &[(0, true, true)], None),
        ] {
            assert_eq!(status(len, one, extents), want, "{extents:?}");
        }
    }

    #[test]
    fn extents_are_bounded() {
        let extents: Vec<_> = (0..2 * STATUS_EXTENTS_MAX).map(|i| (1, i % 2 == 0, false)).collect();
        assert_eq!(status(1 << 20, false, &extents).unwrap().len(), STATUS_EXTENTS_MAX);
    }
}
