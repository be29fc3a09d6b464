//! What a device holds that is not an lvstore, by its first bytes: for clear refusals.

/// Bytes from the start of a device that [`name`] looks at.
pub const PROBE_BYTES: usize = 128 * 1024;

/// Signatures: offset, bytes, what they mean.
const KNOWN: &[(usize, &[u8], &str)] = &[
    (0x438, &[0x53, 0xef], "an ext2, ext3 or ext4 file system"),
    (0, b"XFSB", "an XFS file system"),
    (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
    (0, b"QFI\xfb", "a qcow image"),
    (0, b"KDMV", "a VMDK image"),
    (0, b"vhdxfile", "a VHDX image"),
    (512, b"LABELONE", "an LVM physical volume"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (512, b"EFI PART", "a GPT partition table"),
    (4096, b"EFI PART", "a GPT partition table"),
    (4086, b"SWAPSPACE2", "swap space"),
    (3, b"NTFS    ", "an NTFS file system"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"SPDKBLOB", "an lvstore"),
    (510, &[0x55, 0xaa], "a boot sector or partition table"),
];

/// What is on a device, when its first bytes tell.
#[must_use]
pub fn name(bytes: &[u8]) -> Option<&'static str> {
    let holds = |(offset, signature, _): &&(usize, &[u8], &str)| {
        bytes.get(*offset..)?.strip_prefix(*signature).map(|_| ())
    };
    KNOWN.iter().find(|known| holds(known).is_some()).map(|(.., what)| *what)
}

#[cfg(test)]
mod tests {
    #[test]
    fn knows_file_systems() {
        let mut ext4 = alloc::vec![0; 2048];
        ext4[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        assert_eq!(super::name(&ext4), Some("an ext2, ext3 or ext4 file system"));
        assert_eq!(super::name(b"QFI\xfb"), Some("a qcow image"));
        assert_eq!(super::name(&[0; 4096]), None);
        assert_eq!(super::name(&[]), None);
    }
}
