//! Who holds a `flock`, read from `/proc`.

use crate::LockError;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
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

/// How often the table is read at most until the holder is found.
///
/// It is not of one moment: each read goes on at the line where the last one ended, and when somebody lets go of a lock in
/// between, the lines behind it move up and one is passed over.
const READS: usize = 16;

/// Bytes that are asked for at once: the kernel gives a page at most.
const CHUNK: usize = 16 << 10;

/// The first holder of a lock on the file, `None` where `/proc` does not tell.
pub(super) fn of(file: &Metadata) -> Option<Holder> {
    search(file, || table().ok())
}

/// The same in tables that are read one after the other.
fn search(file: &Metadata, mut read: impl FnMut() -> Option<String>) -> Option<Holder> {
    (0..READS).map_while(|_| read()).find_map(|table| find(file, &table))
}

/// The locks of all processes, read in as few pieces as can be.
fn table() -> io::Result<String> {
    let mut file = File::open("/proc/locks")?;
    let mut table = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(String::from_utf8_lossy(&table).into_owned()),
            count => table.extend_from_slice(&chunk[..count]),
        }
    }
}

fn find(file: &Metadata, table: &str) -> Option<Holder> {
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
    fn a_line_that_was_passed_over_is_found_by_reading_again() {
        let file = tempfile::tempfile().unwrap().metadata().unwrap();
        let [major, minor] = [rustix::fs::major, rustix::fs::minor].map(|part| part(file.dev()));
        let line = format!("7: FLOCK  ADVISORY  WRITE 1234 {major:02x}:{minor:02x}:{} 0 EOF\n", file.ino());
        let others = "1: FLOCK  ADVISORY  WRITE 1 fe:00:1 0 EOF\n";
        let mut tables = vec![others.to_owned() + &line, others.to_owned(), String::new()];
        let found = search(&file, || tables.pop());
        assert_eq!(found, Some(Holder { pid: 1234, exclusive: true }));
        let mut reads = 0;
        let nobody = search(&file, || {
            reads += 1;
            Some(others.to_owned())
        });
        assert_eq!((nobody, reads), (None, READS));
        assert_eq!(search(&file, || None), None);
    }

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
