//! What a power cut makes of the writes that no FLUSH covers: each of them reached the medium or did not, sector by
//! sector where it was torn.

use anyhow::{Context as _, Result, bail};

use super::image::Overlay;
use super::log::{Entry, Log};
use super::pattern::SECTOR_BYTES;
use super::rng::Rng;

/// Which of the unflushed writes reached the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// None of them.
    None,
    /// All of them.
    All,
    /// All before one.
    Before(usize),
    /// All but one.
    AllBut(usize),
    /// One alone.
    Only(usize),
    /// Any, whole.
    Some,
    /// Any, and of those any sectors.
    Torn,
}

/// Part of a write or discard: all of it, or its sectors for which this draws true.
enum Share {
    Nothing,
    All,
    Torn,
}

impl Kept {
    /// Draws one for `count` unflushed writes, at least one.
    pub(super) fn draw(rng: &mut Rng, count: usize) -> Self {
        let one = rng.index(count);
        match rng.below(12) {
            0 => Self::All,
            1 | 2 => Self::Before(one),
            3 => Self::AllBut(one),
            4 => Self::Only(one),
            5..=7 => Self::Some,
            _ => Self::Torn,
        }
    }

    fn share(self, index: usize, rng: &mut Rng) -> Share {
        let whole = match self {
            Self::None => false,
            Self::All => true,
            Self::Before(end) => index < end,
            Self::AllBut(lost) => index != lost,
            Self::Only(kept) => index == kept,
            Self::Some => rng.percent(50),
            Self::Torn => match rng.below(3) {
                0 => false,
                1 => true,
                _ => return Share::Torn,
            },
        };
        if whole { Share::All } else { Share::Nothing }
    }
}

/// Takes entries of a log over to a disk.
#[derive(Debug)]
pub(super) struct Replayer<'a> {
    log: &'a Log,
    seed: u64,
}

impl<'a> Replayer<'a> {
    /// Of a log. The seed determines what discarded ranges hold.
    pub(super) fn new(log: &'a Log, seed: u64) -> Self {
        Self { log, seed }
    }

    /// Takes over all of an entry.
    ///
    /// # Errors
    /// The log cannot be read, or writes beyond the disk.
    pub(super) fn apply(&self, index: usize, image: &mut [u8]) -> Result<()> {
        let Some((offset, bytes)) = self.content(index)? else {
            return Ok(());
        };
        let target = offset.checked_add(bytes.len()).and_then(|end| image.get_mut(offset..end));
        target.context("a write beyond the end of the disk")?.copy_from_slice(&bytes);
        Ok(())
    }

    /// Takes over what reached the medium of unflushed entries, in their order. `size_bytes` is that of the disk.
    ///
    /// # Errors
    /// The log cannot be read, or writes beyond the disk.
    pub(super) fn apply_kept(
        &self,
        entries: &[usize],
        kept: Kept,
        rng: &mut Rng,
        disk: &mut Overlay<'_>,
        size_bytes: usize,
    ) -> Result<()> {
        for (position, entry) in entries.iter().enumerate() {
            let share = kept.share(position, rng);
            if matches!(share, Share::Nothing) {
                continue;
            }
            let Some((offset, bytes)) = self.content(*entry)? else { continue };
            if offset.checked_add(bytes.len()).is_none_or(|end| end > size_bytes) {
                bail!("a write beyond the end of the disk");
            }
            if matches!(share, Share::All) {
                disk.put(offset, &bytes);
                continue;
            }
            for (sector, at) in bytes.chunks(SECTOR_BYTES).zip((offset..).step_by(SECTOR_BYTES)) {
                if rng.percent(50) {
                    disk.put(at, sector);
                }
            }
        }
        Ok(())
    }

    /// Where an entry puts which bytes. What a discard leaves behind is up to the disk: the old bytes, zeros or
    /// anything. It is drawn for each discard, the same one every time.
    fn content(&self, index: usize) -> Result<Option<(usize, Vec<u8>)>> {
        match self.log.entries().get(index) {
            Some(Entry::Write(write)) => Ok(Some((usize::try_from(write.offset)?, self.log.data(write)?))),
            Some(Entry::Discard { offset, len }) => {
                let fill = match Rng::of_part(self.seed, index as u64).below(3) {
                    0 => return Ok(None),
                    1 => 0,
                    _ => 0xdb,
                };
                Ok(Some((usize::try_from(*offset)?, vec![fill; usize::try_from(*len)?])))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::{END, encode, open};
    use super::*;
    use offshoot_block::{BlockDevice as _, Buffer, DeviceOffset, DeviceOp, OpId};

    const SIZE: usize = 8 * SECTOR_BYTES;

    fn shown(disk: &mut Overlay<'_>) -> Vec<u8> {
        let mut completions = Vec::new();
        disk.submit(OpId(0), DeviceOp::Read { offset: DeviceOffset(0), buffer: Buffer::zeroed(SIZE) });
        disk.poll(&mut completions);
        completions
            .remove(0)
            .buffer
            .unwrap()
            .as_slice()
            .chunks(SECTOR_BYTES)
            .map(|sector| sector[0])
            .collect()
    }

    /// Three writes: sectors 0 to 3, 2 to 5, and 7.
    fn log() -> Log {
        let data = [[1; 4 * 512].as_slice(), &[2; 4 * 512], &[3; 512]];
        open(&encode(512, &[(0, 0, 4, data[0]), (0, 2, 4, data[1]), (0, 7, 1, data[2]), END])).unwrap()
    }

    #[test]
    fn writes_are_kept_or_lost_in_their_order() {
        let log = log();
        let base = [0; SIZE];
        for (kept, expected) in [
            (Kept::None, [0; 8]),
            (Kept::All, [1, 1, 2, 2, 2, 2, 0, 3]),
            (Kept::Before(1), [1, 1, 1, 1, 0, 0, 0, 0]),
            (Kept::AllBut(1), [1, 1, 1, 1, 0, 0, 0, 3]),
            (Kept::Only(1), [0, 0, 2, 2, 2, 2, 0, 0]),
        ] {
            let mut disk = Overlay::over(&base);
            let replayer = Replayer::new(&log, 1);
            replayer.apply_kept(&[0, 1, 2], kept, &mut Rng::new(1), &mut disk, SIZE).unwrap();
            assert_eq!(shown(&mut disk), expected, "{kept:?}");
        }
    }

    #[test]
    fn torn_writes_leave_whole_sectors_of_any_age() {
        let log = log();
        let base = [0; SIZE];
        let mut seen = [(); 8].map(|()| std::collections::BTreeSet::new());
        for seed in 0..200 {
            let mut disk = Overlay::over(&base);
            let mut rng = Rng::new(seed);
            Replayer::new(&log, 1).apply_kept(&[0, 1], Kept::Torn, &mut rng, &mut disk, SIZE).unwrap();
            for (seen, value) in seen.iter_mut().zip(shown(&mut disk)) {
                seen.insert(value);
            }
        }
        let first: &[u8] = &[0, 1];
        let (both, second): (&[u8], &[u8]) = (&[0, 1, 2], &[0, 2]);
        let expected = [first, first, both, both, second, second, &[0], &[0]];
        assert_eq!(seen.map(|seen| seen.into_iter().collect::<Vec<u8>>()), expected);
    }

    #[test]
    fn a_discard_leaves_anything_but_the_same_each_time() {
        let discards = vec![(1 << 2, 1, 2, [].as_slice()); 40];
        let log = open(&encode(512, &[discards, vec![END]].concat())).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..40 {
            let results = [(); 2].map(|()| {
                let mut image = vec![7; SIZE];
                Replayer::new(&log, 5).apply(index, &mut image).unwrap();
                image
            });
            assert_eq!(results[0], results[1]);
            assert!(results[0][..512] == [7; 512] && results[0][3 * 512..] == [7; SIZE - 3 * 512]);
            seen.insert(results[0][512]);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 7, 0xdb]);
    }

    #[test]
    fn writes_beyond_the_disk_are_refused() {
        let log = open(&encode(512, &[(0, 7, 2, &[1; 1024]), (0, 1 << 40, 1, &[1; 512]), END])).unwrap();
        let replayer = Replayer::new(&log, 1);
        let base = [0; SIZE];
        for index in [0, 1] {
            assert!(replayer.apply(index, &mut base.clone()).is_err());
            let mut disk = Overlay::over(&base);
            let kept = replayer.apply_kept(&[index], Kept::All, &mut Rng::new(1), &mut disk, SIZE);
            assert!(kept.is_err());
        }
    }
}
