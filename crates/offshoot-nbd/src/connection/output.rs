//! Bytes to send: small ones gathered in one place, payloads in the buffers that they came in.

use offshoot_block::Buffer;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Replies that were given and not yet sent, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    segments: VecDeque<Segment>,
    /// The bytes of all inline segments, one after the other.
    inline: Vec<u8>,
    /// How many bytes of `inline` are sent.
    inline_sent: usize,
    pending_bytes: usize,
}

#[derive(Debug)]
enum Segment {
    /// So many of the inline bytes. Neighbours are joined, so that a row of short replies is one segment.
    Inline(usize),
    Payload {
        buffer: Buffer,
        sent: usize,
    },
    /// So many zeros, for a client to which holes cannot be told.
    Zeroes(usize),
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes not yet sent.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Adds what `encode` appends.
    pub(super) fn inline<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = self.inline.len();
        let result = encode(&mut self.inline);
        let added = self.inline.len() - before;
        self.pending_bytes += added;
        match self.segments.back_mut() {
            Some(Segment::Inline(len)) => *len += added,
            _ if added > 0 => self.segments.push_back(Segment::Inline(added)),
            _ => {}
        }
        result
    }

    /// Adds a payload.
    pub(super) fn payload(&mut self, buffer: Buffer) {
        self.pending_bytes += buffer.len();
        self.segments.push_back(Segment::Payload { buffer, sent: 0 });
    }

    /// Adds zeros.
    pub(super) fn zeroes(&mut self, len: usize) {
        self.pending_bytes += len;
        self.segments.push_back(Segment::Zeroes(len));
    }

    /// Fills `slices` with what comes next; returns how many were filled.
    pub(super) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut inline = &self.inline[self.inline_sent..];
        let mut parts = self.segments.iter().flat_map(|segment| match segment {
            Segment::Inline(len) => {
                let (head, rest) = inline.split_at(*len);
                inline = rest;
                Part { bytes: head, left: *len }
            }
            Segment::Payload { buffer, sent } => {
                let bytes = &buffer.as_slice()[*sent..];
                Part { bytes, left: bytes.len() }
            }
            Segment::Zeroes(len) => Part { bytes: &ZEROES, left: *len },
        });
        let mut count = 0;
        for (slot, part) in slices.iter_mut().zip(&mut parts) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    /// Drops the first `count` bytes, which were sent. Hands over each buffer that is done with.
    pub(super) fn sent(&mut self, mut count: usize, mut recycle: impl FnMut(Buffer)) {
        self.pending_bytes -= count;
        while let Some(segment) = self.segments.front_mut() {
            let taken = match segment {
                Segment::Inline(len) => {
                    let taken = count.min(*len);
                    self.inline_sent += taken;
                    *len -= taken;
                    (taken, *len == 0)
                }
                Segment::Zeroes(len) => {
                    let taken = count.min(*len);
                    *len -= taken;
                    (taken, *len == 0)
                }
                Segment::Payload { buffer, sent } => {
                    let taken = count.min(buffer.len() - *sent);
                    *sent += taken;
                    (taken, *sent == buffer.len())
                }
            };
            count -= taken.0;
            if !taken.1 {
                break;
            }
            if let Some(Segment::Payload { buffer, .. }) = self.segments.pop_front() {
                recycle(buffer);
            }
        }
        self.compact();
    }

    /// Drops everything.
    pub(super) fn clear(&mut self, mut recycle: impl FnMut(Buffer)) {
        for segment in self.segments.drain(..) {
            if let Segment::Payload { buffer, .. } = segment {
                recycle(buffer);
            }
        }
        self.inline = Vec::new();
        self.inline_sent = 0;
        self.pending_bytes = 0;
    }

    /// Forgets inline bytes that were sent, when that is cheap or they have become many.
    fn compact(&mut self) {
        if self.inline_sent == self.inline.len() {
            self.inline.clear();
            self.inline_sent = 0;
        } else if self.inline_sent >= INLINE_COMPACT_BYTES {
            self.inline.drain(..self.inline_sent);
            self.inline_sent = 0;
        }
    }
}

/// `left` bytes that are a repetition of `bytes`, piece by piece.
struct Part<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Part<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let piece = &self.bytes[..self.bytes.len().min(self.left)];
        self.left -= piece.len();
        Some(piece)
    }
}

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

const INLINE_COMPACT_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends everything in steps of `step` bytes over at most `width` slices.
    fn send(outbox: &mut Outbox, step: usize, width: usize) -> (Vec<u8>, usize) {
        let mut wire = Vec::new();
        let mut recycled = 0;
        while !outbox.is_empty() {
            let mut slices = vec![IoSlice::new(&[]); width];
            let count = outbox.gather(&mut slices);
            let offered = slices[..count].iter().flat_map(|slice| slice.iter().copied());
            let before = wire.len();
            wire.extend(offered.take(step));
            let taken = wire.len() - before;
            assert!(taken > 0);
            outbox.sent(taken, |_| recycled += 1);
        }
        assert_eq!(outbox.pending_bytes(), 0);
        (wire, recycled)
    }

    #[test]
    fn sends_in_order_in_any_steps() {
        for step in [1, 7, 4096, 1 << 20] {
            for width in [1, 2, 5] {
                let mut outbox = Outbox::default();
                outbox.inline(|out| out.extend(b"ab"));
                outbox.inline(|out| out.extend(b"cd"));
                outbox.payload(Buffer::copy_of(b"PAYLOAD"));
                outbox.inline(|out| out.extend(b"ef"));
                outbox.zeroes(70_000);
                outbox.payload(Buffer::copy_of(b"X"));
                let want = [&b"abcdPAYLOADef"[..], &[0; 70_000], b"X"].concat();
                assert_eq!(outbox.pending_bytes(), want.len());
                let (wire, recycled) = send(&mut outbox, step, width);
                assert!(wire == want, "step {step}, width {width}");
                assert_eq!(recycled, 2);
            }
        }
    }

    #[test]
    fn joins_short_replies() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            outbox.inline(|out| out.extend([1; 16]));
        }
        assert_eq!(outbox.gather(&mut [IoSlice::new(&[]); 4]), 1);
    }

    #[test]
    fn clearing_hands_buffers_back() {
        let mut outbox = Outbox::default();
        outbox.payload(Buffer::copy_of(b"x"));
        let mut recycled = 0;
        outbox.clear(|_| recycled += 1);
        assert_eq!((outbox.is_empty(), outbox.pending_bytes(), recycled), (true, 0, 1));
    }
}
