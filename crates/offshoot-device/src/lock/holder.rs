//! Who holds a `flock`, read from `/proc`.

use crate::LockError;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The holder of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pid: u32,
    exclusive: bool,
}

impl Holder {
    pub(super) fn into_error(self) -> LockError {
        LockError::Held { pid: Some(self.pid), exclusive: self.exclusive }
    }
}

/// The first holder of a lock on the file, `None` where `/proc` does not tell.
pub(super) fn of(file: &Metadata) -> Option<Holder> {
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let mut elsewhere = None;
    for entry in table.lines().filter_map(Entry::parse).filter(|entry| entry.inode == file.ino()) {
        if entry.device == device {
            return Some(entry.holder);
        }
        // btrfs and overlayfs show another device number here than stat(2) does.
        if elsewhere.is_none() && has_open(entry.holder.pid, file) {
            elsewhere = Some(entry.holder);
        }
    }
    elsewhere
}

/// Whether the process has the file open, as far as we may look.
fn has_open(pid: u32, file: &Metadata) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok())
        .any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
}

/// One granted `flock` of the table in `/proc/locks`.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    holder: Holder,
    /// Major and minor number of the file system.
    device: (u32, u32),
    inode: u64,
}

impl Entry {
    /// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; one that waits has `->` in second place.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let exclusive = fields.nth(1)? == "WRITE";
        // 0 and -1 stand for a process that this one may not see.
        let pid = fields.next()?.parse().ok().filter(|pid| *pid != 0)?;
        let mut file = fields.next()?.split(':');
        let major = u32::from_str_radix(file.next()?, 16).ok()?;
        let minor = u32::from_str_radix(file.next()?, 16).ok()?;
        let inode = file.next()?.parse().ok()?;
        Some(Self { holder: Holder { pid, exclusive }, device: (major, minor), inode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table() {
        let entry =
            |pid, exclusive, device, inode| Some(Entry { holder: Holder { pid, exclusive }, device, inode });
        let table = [
            ("1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF", entry(1234, true, (0xfe, 0), 5678)),
            ("12: FLOCK  ADVISORY  READ 9 00:1f:77 0 EOF", entry(9, false, (0, 0x1f), 77)),
            ("1: -> FLOCK  ADVISORY  WRITE 1235 fe:00:5678 0 EOF", None),
            ("2: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF", None),
            ("3: FLOCK  ADVISORY  WRITE 0 fe:00:5678 0 EOF", None),
            ("3: FLOCK  ADVISORY  WRITE -1 fe:00:5678 0 EOF", None),
            ("3: FLOCK  ADVISORY  WRITE 12 fe:00", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(Entry::parse(line), expected, "{line}");
        }
    }
}
