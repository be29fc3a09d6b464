//! What a ring that was found on a device means: which frames are replayed, which images are redone (R6).
//!
//! Every intact frame of the epoch says what was durable when it was composed, and these facts only grow, so the
//! newest one knows best: what the last barrier covers, after which frame replay starts, and from which on frames
//! are still needed. All of those up to the barrier must be there; one that is missing is damage. Behind the barrier
//! lies the *tail*: complete if only the process died, and worthless if the power went.

use crate::options::Session;
use crate::record::Lsn;
use crate::rules::{Clause, Rules};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::ops::Range;
use offshoot_format::{
    FrameHeader, FrameKind, ImageSet, MdPageIdx, MdPageRun, NativeFlags, NativeHeader, PageImage,
    PreviousEpoch,
};
use thiserror::Error;

/// A frame that must be there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("frame {lsn} of the journal cannot be read, although a barrier made it durable")]
pub struct JournalDamage {
    /// Its number.
    pub lsn: u64,
}

/// A frame in the ring.
#[derive(Clone, Debug)]
pub(crate) struct Found<'a> {
    pub header: FrameHeader,
    pub payload: &'a [u8],
    /// Bytes from the start of the ring.
    pub position: u64,
}

/// What is to be done with a ring.
#[derive(Clone, Debug)]
pub(crate) struct Replay<'a> {
    /// Frames of records, to be applied in this order.
    pub records: Vec<Found<'a>>,
    /// Images of a checkpoint that was sealed and perhaps not written in place.
    pub images: BTreeMap<MdPageIdx, PageImage>,
    /// Md pages that are zeroed along with that.
    pub zeroed: Vec<MdPageRun>,
    /// What the header of the epoch that recovers this one says about it.
    pub decided: PreviousEpoch,
    /// Frames that must not be overwritten before a new checkpoint is sealed: number, position, length.
    pub live: Vec<(Lsn, u64, u64)>,
    pub damage: Option<JournalDamage>,
    /// Frames that are there behind one that is missing.
    pub lost: u64,
}

/// Frames start at multiples of this, in bytes.
const FRAME_UNIT: usize = 512;

type Frames<'a> = BTreeMap<u64, Found<'a>>;

/// Reads a ring by what the header of its store says.
pub(crate) fn read_ring<'a>(
    ring: &'a [u8],
    header: &NativeHeader,
    session: Option<Session>,
    rules: Rules,
) -> Replay<'a> {
    let current = scan(ring, header.epoch, header.start_lsn..u64::MAX);
    // An epoch that began by recovering another one stands on its own from its first checkpoint on.
    let stands = current
        .values()
        .next_back()
        .is_some_and(|frame| frame.header.checkpoint.saturating_add(1) >= header.start_lsn);
    match header.previous {
        Some(previous) if !stands => {
            Replay::of(&scan(ring, previous.epoch, 0..previous.last_lsn.saturating_add(1)), previous, rules)
        }
        _ => {
            let error = header.flags.contains(NativeFlags::DEVICE_ERROR);
            let same_power = header.session.is_some() && header.session == session && !error;
            let trusted = (same_power && rules.hold(Clause::ReplayTail)) || !rules.hold(Clause::DropTail);
            Replay::of(&current, newest_facts(&current, header), rules).with_tail(&current, trusted)
        }
    }
}

/// The md pages that checkpoints up to that of `checkpoint` wrote in place, as they wrote them last, as far as they are in
/// the ring. A page that has been given back since is not among them: what came there later went there without an image.
pub(crate) fn written_images(
    ring: &[u8],
    header: &NativeHeader,
    checkpoint: u64,
) -> BTreeMap<MdPageIdx, PageImage> {
    let frames = scan(ring, header.epoch, header.start_lsn..u64::MAX);
    let mut images = BTreeMap::new();
    let mut next = 0;
    for (lsn, frame) in &frames {
        if *lsn != next {
            // What a frame that is gone said of a page is not known.
            images.clear();
        }
        next = lsn + 1;
        if frame.is_records() || frame.header.capture > checkpoint {
            continue;
        }
        let Ok(set) = ImageSet::decode(*lsn, frame.payload) else {
            images.clear();
            continue;
        };
        images.extend(set.images);
        for run in set.zeroed {
            images.retain(|at, _| !(u64::from(run.start.0)..run.end()).contains(&u64::from(at.0)));
        }
    }
    images
}

/// What is known to be durable in an epoch that nothing has recovered yet.
fn newest_facts(frames: &Frames<'_>, header: &NativeHeader) -> PreviousEpoch {
    let before = header.start_lsn.saturating_sub(1);
    let epoch = header.epoch;
    let tail = header.start_lsn;
    let none = PreviousEpoch { epoch, last_lsn: before, checkpoint: before, tail, image_frames: 0 };
    frames.values().next_back().map_or(none, |frame| PreviousEpoch {
        epoch,
        last_lsn: frame.header.covered.max(frame.header.checkpoint).max(before),
        checkpoint: frame.header.checkpoint,
        tail: frame.header.tail,
        image_frames: if frame.header.in_place { 0 } else { frame.header.image_frames },
    })
}

/// Every intact frame of an epoch whose number lies in a range.
fn scan(ring: &[u8], epoch: [u8; 16], lsns: Range<u64>) -> Frames<'_> {
    let mut frames = Frames::new();
    let mut position = 0;
    while let Some(bytes) = ring.get(position..).filter(|bytes| !bytes.is_empty()) {
        let header = FrameHeader::decode(bytes, position as u64)
            .filter(|header| header.epoch == epoch && lsns.contains(&header.lsn));
        let found = header.and_then(|header| Some((header.payload(ring)?, header)));
        position += match found {
            Some((payload, header)) => {
                let len = header.frame_len(FRAME_UNIT);
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                frames.insert(header.lsn, Found { header, payload, position: position as u64 });
                len
            }
            None => FRAME_UNIT,
        };
    }
    frames
}

impl<'a> Replay<'a> {
    /// Exactly up to the last frame that was decided on.
    fn of(frames: &Frames<'a>, decided: PreviousEpoch, rules: Rules) -> Self {
        let end = decided.last_lsn;
        // Frames are counted first: what a header claims may be any number.
        let missing = (decided.tail..=end)
            .zip(0..=frames.len())
            .map(|(lsn, _)| lsn)
            .find(|lsn| !frames.contains_key(lsn));
        let intact = missing.unwrap_or(end.saturating_add(1));
        let replayed = if rules.hold(Clause::ReplayCovered) { intact } else { 0 };
        let mut replay = Self {
            records: range(frames, decided.checkpoint.saturating_add(1)..replayed)
                .filter(|frame| frame.is_records())
                .cloned()
                .collect(),
            images: BTreeMap::new(),
            zeroed: Vec::new(),
            decided,
            live: range(frames, decided.tail..end.saturating_add(1)).map(Found::place).collect(),
            damage: missing.map(|lsn| JournalDamage { lsn }),
            lost: missing.map_or(0, |lsn| range(frames, lsn..u64::MAX).count() as u64),
        };
        if decided.image_frames > 0 {
            replay.collect_images(frames);
        }
        replay
    }

    /// The images of the checkpoint that was decided on. Each of its frames must be there.
    fn collect_images(&mut self, frames: &Frames<'a>) {
        let PreviousEpoch { checkpoint, image_frames, .. } = self.decided;
        let images =
            frames.values().filter(|frame| !frame.is_records() && frame.header.capture == checkpoint);
        let mut seen = BTreeSet::new();
        for frame in images.filter(|frame| frame.header.image_index < image_frames) {
            let set = ImageSet::decode(frame.header.lsn, frame.payload).ok();
            // One that is there twice stands for no other.
            let Some(set) = set.filter(|_| seen.insert(frame.header.image_index)) else { continue };
            self.images.extend(set.images);
            self.zeroed.extend(set.zeroed);
        }
        if seen.len() as u64 != u64::from(image_frames) {
            self.damage.get_or_insert(JournalDamage { lsn: checkpoint });
        }
    }

    /// Goes on behind the last barrier, as far as frames follow each other, if they can be trusted. What lies behind
    /// a gap is dropped: a device may have lost its cache with a sync that failed, and kept what came after.
    fn with_tail(mut self, frames: &Frames<'a>, trusted: bool) -> Self {
        if self.damage.is_some() || !trusted {
            return self;
        }
        let next = self.decided.last_lsn.saturating_add(1);
        let tail = range(frames, next..u64::MAX).zip(next..);
        for (frame, _) in tail.take_while(|(frame, wanted)| frame.header.lsn == *wanted) {
            self.decided.last_lsn = frame.header.lsn;
            self.live.push(frame.place());
            if frame.is_records() {
                self.records.push(frame.clone());
            }
        }
        self
    }
}

/// The frames whose numbers lie in a range, which may be empty or inverted.
fn range<'f, 'a>(frames: &'f Frames<'a>, lsns: Range<u64>) -> impl Iterator<Item = &'f Found<'a>> {
    frames.range(lsns.start..lsns.end.max(lsns.start)).map(|(_, frame)| frame)
}

impl Found<'_> {
    fn is_records(&self) -> bool {
        self.header.kind == FrameKind::Records
    }

    fn place(&self) -> (Lsn, u64, u64) {
        (Lsn(self.header.lsn), self.position, self.header.frame_len(FRAME_UNIT))
    }
}

#[cfg(test)]
mod tests;
