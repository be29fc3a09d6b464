//! The disk image of the demonstration: the same bytes each time, in a few places of a sparse file.

use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// A disk image in a file.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
}

/// A range that is filled with one byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) byte: u8,
}

impl Disk {
    /// Its size in bytes.
    pub(super) const SIZE_BYTES: u64 = 256 * MIB;

    /// Data lies in the first 6 of every 16 MiB.
    const PERIOD_MIB: u64 = 16;
    const DATA_MIB: u64 = 6;

    /// Writes the image.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let write = || {
            let file = File::create_new(path)?;
            file.set_len(Self::SIZE_BYTES)?;
            for mib in (0..Self::SIZE_BYTES / MIB).filter(|mib| mib % Self::PERIOD_MIB < Self::DATA_MIB) {
                file.write_all_at(&noise(mib), mib * MIB)?;
            }
            std::io::Result::Ok(())
        };
        write().with_context(|| path.display().to_string())?;
        Ok(Self { path: path.to_owned() })
    }

    /// Compares a file with the image as it is after a change.
    ///
    /// # Errors
    /// They differ, or cannot be read.
    pub(super) fn compare(&self, path: &Path, change: Option<Change>) -> Result<()> {
        let context = || path.display().to_string();
        let (mut original, mut copy) = (File::open(&self.path)?, File::open(path).with_context(context)?);
        ensure!(copy.metadata()?.len() == Self::SIZE_BYTES, "{}: has another size", path.display());
        let (mut expected, mut got) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        for offset in (0..Self::SIZE_BYTES).step_by(1 << 20) {
            original.read_exact(&mut expected)?;
            copy.read_exact(&mut got).with_context(context)?;
            for (byte, at) in expected.iter_mut().zip(offset..) {
                if let Some(change) =
                    change.filter(|change| (change.offset..change.offset + change.len).contains(&at))
                {
                    *byte = change.byte;
                }
            }
            ensure!(expected == got, "{}: differs in the MiB at {offset}", path.display());
        }
        Ok(())
    }
}

/// A MiB that looks like data (splitmix64).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state ^ seed.rotate_left(32);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    });
    words.take((1 << 20) / 8).flat_map(u64::to_le_bytes).collect()
}
