//! Under which power a device runs.
//!
//! A write that was completed but not synced survives the death of its process, and does not survive a loss of
//! power. After a crash somebody has to tell the two apart: that is what a [`PowerSession`] is for. It errs to one
//! side only. Two different ones may belong to the same power (a file was copied, a loop device was attached anew);
//! two equal ones never lie on both sides of a loss of power that the kernel has noticed.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::UNIX_EPOCH;

/// A time in which neither the machine nor the device has lost power, as far as the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PowerSession {
    /// Of this boot of the machine.
    pub boot_id: [u8; 16],
    /// Changes when the device is attached anew, and is another one for another file or device. The value by itself
    /// means nothing.
    pub device_generation: u64,
}

impl PowerSession {
    /// That of an open regular file or block device. `None` when it cannot be told: without `/proc`, and on a block
    /// device of a kernel before 5.15, which does not count how often devices are attached.
    pub(crate) fn of(file: &File) -> Option<Self> {
        let boot_id = parse_boot_id(&fs::read_to_string(BOOT_ID).ok()?)?;
        let metadata = file.metadata().ok()?;
        Some(Self { boot_id, device_generation: generation(&metadata, disk_sequence)? })
    }
}

/// The boot id: 32 hexadecimal digits with hyphens between some of them.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> =
        text.trim_end().chars().filter(|char| *char != '-').map(hex_digit).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (digits.len() == 32).then(|| bytes.try_into().ok())?
}

fn hex_digit(char: char) -> Option<u8> {
    char.to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// How often the machine had attached a disk when it attached this one. `None` where the kernel does not know it: a
/// file system that lies on no block device (overlay, tmpfs, NFS) or on several (btrfs), a kernel before 5.15.
fn disk_sequence(device: u64) -> Option<u64> {
    let node = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // A partition has no number of its own, but the disk above it has.
    ["diskseq", "../diskseq"]
        .iter()
        .find_map(|name| fs::read_to_string(format!("{node}/{name}")).ok())
        .and_then(|text| text.trim().parse().ok())
}

/// Mixes all that tells one attachment of one device, or one file on it, from another.
fn generation(metadata: &Metadata, disk_sequence: impl Fn(u64) -> Option<u64>) -> Option<u64> {
    if metadata.file_type().is_block_device() {
        // Without the number a device that was unplugged and plugged in again would be taken for the same.
        let sequence = disk_sequence(metadata.rdev())?;
        return Some(mix(&[BLOCK_DEVICE, metadata.rdev(), sequence]));
    }
    // The inode of a deleted file is given to the next one, perhaps a copy. The time of birth tells them apart.
    let birth =
        metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    // Counted from 1.
    let sequence = disk_sequence(metadata.dev()).unwrap_or(0);
    let parts = [
        REGULAR_FILE,
        metadata.dev(),
        metadata.ino(),
        birth.as_secs(),
        birth.subsec_nanos().into(),
        sequence,
    ];
    Some(mix(&parts))
}

/// Keeps a file and a block device of equal numbers apart.
const BLOCK_DEVICE: u64 = 1;
const REGULAR_FILE: u64 = 2;

/// FNV-1a over the bytes of the numbers.
fn mix(parts: &[u64]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = parts.iter().flat_map(|part| part.to_le_bytes());
    bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ids_are_parsed() {
        let id =
            [0xa7, 0xd7, 0x44, 0xcf, 0x14, 0x2f, 0x45, 0x57, 0xa3, 0x13, 0x94, 0xac, 0x18, 0xe7, 0x59, 0xfa];
        for (text, expected) in [
            ("a7d744cf-142f-4557-a313-94ac18e759fa\n", Some(id)),
            ("A7D744CF142F4557A31394AC18E759FA", Some(id)),
            ("", None),
            ("a7d744cf-142f-4557-a313-94ac18e759f", None),
            ("a7d744cf-142f-4557-a313-94ac18e759fa00", None),
            ("g7d744cf-142f-4557-a313-94ac18e759fa", None),
            ("a7d744cf-142f-4557-a313-94ac18e759f\u{e4}", None),
        ] {
            assert_eq!(parse_boot_id(text), expected, "{text:?}");
        }
    }

    #[test]
    fn fnv_is_what_others_compute() {
        // "a" and "foobar", padded to whole numbers with zeros, computed by the definition.
        let by_definition = |text: &[u8]| {
            text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211)
            })
        };
        assert_eq!(mix(&[]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(mix(&[u64::from_le_bytes(*b"foobar\0\0")]), by_definition(b"foobar\0\0"));
        // The published value of "a".
        assert_eq!(by_definition(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn a_file_has_a_generation_with_and_without_a_disk_below() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let of = |sequence: Option<u64>| generation(&metadata, |_| sequence);
        assert_eq!(of(Some(7)), of(Some(7)));
        assert_ne!(of(Some(7)), of(Some(8)), "the disk was attached anew");
        assert!(of(None).is_some());
        assert_ne!(of(None), of(Some(7)));
        let other = tempfile::tempfile().unwrap();
        assert_ne!(generation(&other.metadata().unwrap(), |_| Some(7)), of(Some(7)));
    }
}
