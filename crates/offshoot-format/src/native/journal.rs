//! The frame: what one append to the journal writes.
//!
//! A frame is a header of [`FRAME_HEADER_BYTES`], a payload, and zeros up to the next block of the device. It starts at
//! a multiple of 512 bytes in the ring and never wraps around the ring's end. Recovery tries every such place: a header
//! is one only if its own checksum says so, for exactly this place, so that what an earlier turn of the ring or another
//! store left behind is not taken for it. Whether the frame belongs to the epoch is the reader's question.
//!
//! Header and payload have a checksum each. A frame whose header stands and whose payload was torn is thereby told from
//! a place where there is no frame: that tail was being written, and its LSN is known.

use crate::crc32c;
use alloc::vec::Vec;
use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a frame before its payload. Not above the smallest block of a device, so that a header is never torn.
pub const FRAME_HEADER_BYTES: usize = size_of::<RawFrameHeader>();

const MAGIC: [u8; 8] = *b"OSJFRAME";

/// Bits of `flags`.
const IN_PLACE: u8 = 1 << 0;

/// The header of a frame.
///
/// Besides its own payload, a frame says how far the journal before it has come: which records are durable, where
/// replay starts, and what of the ring is still needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// The epoch that wrote it.
    pub epoch: [u8; 16],
    /// The number of the frame: one more than that of the frame before.
    pub lsn: u64,
    /// Where it starts, in bytes from the start of the ring: a multiple of 512.
    pub position: u64,
    /// What the payload is.
    pub kind: FrameKind,
    /// Bytes of the payload. [`encode_frame`] fills it in.
    pub payload_len: u32,
    /// CRC-32C of the payload. [`encode_frame`] fills it in.
    pub payload_crc: u32,
    /// The highest LSN that the last barrier made durable.
    pub covered: u64,
    /// Replay starts after this LSN: the last checkpoint holds the rest.
    pub checkpoint: u64,
    /// How many image frames that checkpoint has.
    pub image_frames: u32,
    /// Whether its images have been written in place and are durable there.
    pub in_place: bool,
    /// The LSN of the oldest frame that is still needed.
    pub tail: u64,
    /// Of [`FrameKind::Images`]: the LSN at which the images were captured.
    pub capture: u64,
    /// Of [`FrameKind::Images`]: which of the image frames of its checkpoint this is, from 0.
    pub image_index: u32,
}

/// What the payload of a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Records to be replayed, none in a frame that is there for its header only.
    #[default]
    Records = 1,
    /// Page images of a checkpoint: an [`crate::ImageSet`].
    Images = 2,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFrameHeader {
    magic: [u8; 8],
    header_crc: U32,
    payload_crc: U32,
    epoch: [u8; 16],
    lsn: U64,
    position: U64,
    covered: U64,
    checkpoint: U64,
    tail: U64,
    capture: U64,
    payload_len: U32,
    image_frames: U32,
    image_index: U32,
    kind: u8,
    flags: u8,
    reserved: [u8; 34],
}

const _: () = {
    assert!(size_of::<RawFrameHeader>() == 128);
    assert!(offset_of!(RawFrameHeader, payload_crc) == 0x0c);
    assert!(offset_of!(RawFrameHeader, lsn) == 0x20);
    assert!(offset_of!(RawFrameHeader, payload_len) == 0x50);
    assert!(offset_of!(RawFrameHeader, kind) == 0x5c);
};

/// The bytes of a frame: header, payload, and zeros up to a multiple of `block` bytes, the unit of the device's writes.
///
/// `payload_len` and `payload_crc` of `header` are not looked at.
///
/// # Panics
/// On a payload of 4 GiB or more, a position that is no multiple of 512, and a block of 0 bytes.
#[must_use]
pub fn encode_frame(header: &FrameHeader, payload: &[u8], block: usize) -> Vec<u8> {
    assert!(header.position.is_multiple_of(512), "frame at byte {}", header.position);
    let Ok(payload_len) = u32::try_from(payload.len()) else { panic!("payload of {} bytes", payload.len()) };
    let header = FrameHeader { payload_len, payload_crc: crc32c(payload), ..header.clone() };
    let raw = header.to_raw();
    let len = (FRAME_HEADER_BYTES + payload.len()).next_multiple_of(block);
    let mut frame = Vec::with_capacity(len);
    frame.extend_from_slice(raw.as_bytes());
    frame.extend_from_slice(payload);
    frame.resize(len, 0);
    frame
}

impl FrameHeader {
    /// The header at the start of `bytes`, which stand at byte `position` of the ring. `None` when there is none, or
    /// when it is damaged, of another position, or of a kind that this version does not know.
    ///
    /// What lies behind it need not be there: see [`FrameHeader::payload`].
    #[must_use]
    pub fn decode(bytes: &[u8], position: u64) -> Option<Self> {
        let (raw, _) = RawFrameHeader::ref_from_prefix(bytes).ok()?;
        let good = raw.magic == MAGIC
            && raw.header_crc.get() == raw.computed_crc()
            && raw.position.get() == position
            && raw.flags & !IN_PLACE == 0;
        if !good {
            return None;
        }
        Some(Self {
            epoch: raw.epoch,
            lsn: raw.lsn.get(),
            position,
            kind: FrameKind::from_disk(raw.kind)?,
            payload_len: raw.payload_len.get(),
            payload_crc: raw.payload_crc.get(),
            covered: raw.covered.get(),
            checkpoint: raw.checkpoint.get(),
            image_frames: raw.image_frames.get(),
            in_place: raw.flags & IN_PLACE != 0,
            tail: raw.tail.get(),
            capture: raw.capture.get(),
            image_index: raw.image_index.get(),
        })
    }

    /// Bytes of the frame, in blocks of `block` bytes. The next one starts right behind it, or at the start of the ring.
    ///
    /// # Panics
    /// On a block of 0 bytes.
    #[must_use]
    pub fn frame_len(&self, block: usize) -> u64 {
        (FRAME_HEADER_BYTES as u64 + u64::from(self.payload_len)).next_multiple_of(block as u64)
    }

    /// The payload, in the bytes of the whole ring. `None` when it does not end inside the ring, or is not what was
    /// written.
    #[must_use]
    pub fn payload<'a>(&self, ring: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.position).ok()?.checked_add(FRAME_HEADER_BYTES)?;
        let end = start.checked_add(usize::try_from(self.payload_len).ok()?)?;
        ring.get(start..end).filter(|payload| crc32c(payload) == self.payload_crc)
    }

    fn to_raw(&self) -> RawFrameHeader {
        let mut raw = RawFrameHeader {
            magic: MAGIC,
            header_crc: 0.into(),
            payload_crc: self.payload_crc.into(),
            epoch: self.epoch,
            lsn: self.lsn.into(),
            position: self.position.into(),
            covered: self.covered.into(),
            checkpoint: self.checkpoint.into(),
            tail: self.tail.into(),
            capture: self.capture.into(),
            payload_len: self.payload_len.into(),
            image_frames: self.image_frames.into(),
            image_index: self.image_index.into(),
            kind: self.kind as u8,
            flags: if self.in_place { IN_PLACE } else { 0 },
            reserved: [0; 34],
        };
        raw.header_crc = raw.computed_crc().into();
        raw
    }
}

impl FrameKind {
    fn from_disk(kind: u8) -> Option<Self> {
        [Self::Records, Self::Images].into_iter().find(|known| *known as u8 == kind)
    }
}

impl RawFrameHeader {
    fn computed_crc(&self) -> u32 {
        crc32c(&self.as_bytes()[offset_of!(Self, payload_crc)..])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::vec;

    pub(crate) fn sample() -> FrameHeader {
        FrameHeader {
            epoch: *b"0123456789abcdef",
            lsn: 1 << 40,
            position: 1024,
            kind: FrameKind::Images,
            payload_len: 5,
            payload_crc: crc32c(b"pages"),
            covered: (1 << 40) - 1,
            checkpoint: (1 << 40) - 5,
            image_frames: 3,
            in_place: true,
            tail: (1 << 40) - 9,
            capture: (1 << 40) - 2,
            image_index: 2,
        }
    }

    #[test]
    fn round_trips() {
        for (payload, block, len) in [(&b"pages"[..], 512, 512), (b"", 512, 512), (&[7; 400], 4096, 4096)] {
            for in_place in [false, true] {
                let header = FrameHeader { in_place, kind: FrameKind::Records, ..sample() };
                let frame = encode_frame(&header, payload, block);
                assert_eq!(frame.len(), len);
                let mut ring = vec![0xee; 1024];
                ring.extend_from_slice(&frame);
                let decoded = FrameHeader::decode(&ring[1024..], 1024).unwrap();
                assert_eq!(decoded.frame_len(block), len as u64);
                assert_eq!(decoded.payload(&ring), Some(payload));
                let filled = FrameHeader {
                    payload_len: u32::try_from(payload.len()).unwrap(),
                    payload_crc: crc32c(payload),
                    ..header
                };
                assert_eq!(decoded, filled);
            }
        }
        assert_eq!(encode_frame(&sample(), &[0; 384], 512).len(), 512);
        assert_eq!(encode_frame(&sample(), &[0; 385], 512).len(), 1024);
    }

    #[test]
    fn a_frame_counts_where_it_was_written_only() {
        let frame = encode_frame(&sample(), b"pages", 512);
        assert_eq!(FrameHeader::decode(&frame, 1024), Some(sample()));
        assert_eq!(FrameHeader::decode(&frame, 512), None);
        assert_eq!(FrameHeader::decode(&frame[..127], 1024), None);
        assert_eq!(FrameHeader::decode(&[0; 512], 0), None);
        assert_eq!(FrameHeader::decode(&[], 0), None);
    }

    #[test]
    fn unknown_kinds_and_flags_are_no_frames() {
        let decode = |edit: fn(&mut RawFrameHeader)| {
            let mut raw = sample().to_raw();
            edit(&mut raw);
            raw.header_crc = raw.computed_crc().into();
            FrameHeader::decode(raw.as_bytes(), 1024)
        };
        assert_eq!(decode(|_| ()), Some(sample()));
        assert_eq!(decode(|raw| raw.kind = 0), None);
        assert_eq!(decode(|raw| raw.kind = 3), None);
        assert_eq!(decode(|raw| raw.flags = 2), None);
    }

    #[test]
    fn a_payload_ends_inside_the_ring() {
        let mut ring = vec![0; 1024];
        ring.extend_from_slice(&encode_frame(&sample(), b"pages", 512));
        assert_eq!(sample().payload(&ring), Some(&b"pages"[..]));
        assert_eq!(sample().payload(&ring[..1024 + 132]), None);
        let far = FrameHeader { position: u64::MAX - 511, ..sample() };
        assert_eq!(far.payload(&ring), None);
        assert_eq!(far.frame_len(512), 512);
        let long = FrameHeader { payload_len: u32::MAX, ..sample() };
        assert_eq!(long.payload(&ring), None);
        assert_eq!(long.frame_len(4096), (1 << 32) + 4096);
    }

    #[test]
    #[should_panic(expected = "frame at byte 100")]
    fn frames_start_at_blocks() {
        let _ = encode_frame(&FrameHeader { position: 100, ..sample() }, b"", 512);
    }
}
