//! The log that the kernel's dm-log-writes keeps of a disk.
//!
//! What stands in it, and in which order (drivers/md/dm-log-writes.c of Linux 6.12):
//!
//! - Sector 0 of the log is `struct log_write_super`. The entries follow, each a `struct log_write_entry` in a sector
//!   of its own and then the data that was written. All numbers are little-endian.
//! - A plain write (or discard) is remembered when it *completes*, and logged when a FLUSH completes that was
//!   *submitted after that*: first the writes, in the order of their completion, then the FLUSH. A write that
//!   completes while a FLUSH is under way belongs to the next one, because that FLUSH does not promise it.
//! - So the log up to and including a FLUSH is what the disk surely holds once that FLUSH has completed, and the writes
//!   between two FLUSHes are what a volatile cache may hold in between: each of them may have reached the medium or not.
//! - A write with FUA is logged when it completes. A discard has a length, but no data in the log.
//! - A mark is logged at once, behind every FLUSH that has completed and before every write that none covers yet.
//! - Taking the device down logs the writes that no FLUSH covers, and then the mark `dm-log-writes-end`.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

/// Size of `struct log_write_entry` without its data, in bytes.
const ENTRY_BYTES: usize = 32;

const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// The mark with which every log ends that is complete.
const END_MARK: &str = "dm-log-writes-end";

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Bytes were written.
    Write(Written),
    /// The disk was told that a range is not needed any more.
    Discard { offset: u64, len: u64 },
    /// A FLUSH has completed.
    Flush,
    /// Somebody has left a mark.
    Mark(String),
}

/// A write. Positions and lengths are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Where on the disk.
    pub(super) offset: u64,
    /// How much.
    pub(super) len: u64,
    /// Where in the log the data is.
    pub(super) data_at: u64,
    /// Whether it went past the cache.
    pub(super) fua: bool,
}

/// A log, with the entries in memory and the data in its file.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    entries: Vec<Entry>,
}

impl Log {
    /// Reads the log in a file.
    ///
    /// # Errors
    /// It cannot be read, or is no complete log.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let read = || {
            let mut file = File::open(path)?;
            let mut start = [0; 512];
            file.read_exact(&mut start)?;
            let mut reader = Reader { file: &file, at: 0, sector_bytes: 512 };
            let entries = reader.entries(&start)?;
            anyhow::Ok(Self { file, entries })
        };
        read().with_context(|| path.display().to_string())
    }

    /// The entries, without the mark at the end.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The data of a write.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn data(&self, write: &Written) -> Result<Vec<u8>> {
        let mut data = vec![0; usize::try_from(write.len)?];
        self.file.read_exact_at(&mut data, write.data_at).context("the log cannot be read")?;
        Ok(data)
    }
}

/// Goes through a log.
struct Reader<'a> {
    file: &'a File,
    /// Position of the next entry, in bytes.
    at: u64,
    sector_bytes: u64,
}

impl Reader<'_> {
    fn entries(&mut self, super_sector: &[u8; 512]) -> Result<Vec<Entry>> {
        let [magic, version, count] = [0, 8, 16].map(|at| number(super_sector, at));
        ensure!(magic == MAGIC, "this is no log of writes: its magic is {magic:#x}");
        ensure!(version == VERSION, "a log of version {version} is not known, only {VERSION}");
        self.sector_bytes = number(super_sector, 24) & u64::from(u32::MAX);
        ensure!(
            matches!(self.sector_bytes, 512 | 4096),
            "a log has no sectors of {} bytes",
            self.sector_bytes
        );
        self.at = self.sector_bytes;
        let mut entries = Vec::new();
        for index in 0..count {
            self.entry(&mut entries).with_context(|| format!("entry {index} of {count}"))?;
        }
        match entries.pop() {
            Some(Entry::Mark(name)) if name == END_MARK => Ok(entries),
            _ => bail!("the log ends early: did its disk run out of space?"),
        }
    }

    /// Reads an entry. One entry may mean two things: a FLUSH that carries data is a FLUSH, then a write.
    fn entry(&mut self, entries: &mut Vec<Entry>) -> Result<()> {
        let mut head = vec![0; usize::try_from(self.sector_bytes)?];
        self.file.read_exact_at(&mut head, self.at)?;
        let [sector, sectors, flags, data_len] = [0, 8, 16, 24].map(|at| number(&head, at));
        let bytes =
            |sectors: u64| sectors.checked_mul(self.sector_bytes).context("a position beyond any disk");
        let (offset, len, data_at) = (bytes(sector)?, bytes(sectors)?, self.at + self.sector_bytes);
        ensure!(offset.checked_add(len).is_some(), "a range beyond any disk: sector {sector}+{sectors}");
        let has_data = flags & (DISCARD | MARK) == 0;
        self.at = data_at + if has_data { len } else { 0 };
        if flags & MARK != 0 {
            let end = usize::try_from(data_len).ok().and_then(|len| len.checked_add(ENTRY_BYTES));
            let text =
                end.and_then(|end| head.get(ENTRY_BYTES..end)).context("a mark longer than a sector")?;
            entries.push(Entry::Mark(String::from_utf8_lossy(text).into_owned()));
            return Ok(());
        }
        if flags & FLUSH != 0 {
            entries.push(Entry::Flush);
        }
        if len > 0 {
            entries.push(match has_data {
                true => Entry::Write(Written { offset, len, data_at, fua: flags & FUA != 0 }),
                false => Entry::Discard { offset, len },
            });
        }
        Ok(())
    }
}

/// The little-endian number of 8 bytes at a place that the caller knows to be there.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::{env, fs, process};

    /// An entry to be written into a log: flags, sector, sectors, data.
    pub(crate) type Raw<'a> = (u64, u64, u64, &'a [u8]);

    /// A log as the kernel writes it.
    pub(crate) fn encode(sector_bytes: usize, entries: &[Raw<'_>]) -> Vec<u8> {
        let mut log = Vec::new();
        for (flags, sector, sectors, data) in entries {
            let data_len = if flags & MARK != 0 { data.len() as u64 } else { 0 };
            let start = log.len();
            log.extend([*sector, *sectors, *flags, data_len].into_iter().flat_map(u64::to_le_bytes));
            if flags & MARK != 0 {
                log.extend(*data);
            }
            log.resize(start + sector_bytes, 0);
            if flags & MARK == 0 {
                log.extend(*data);
            }
        }
        let mut all = [MAGIC, VERSION, entries.len() as u64].map(u64::to_le_bytes).concat();
        all.extend(u32::try_from(sector_bytes).unwrap().to_le_bytes());
        all.resize(sector_bytes.max(512), 0);
        all.extend(log);
        all
    }

    /// Opens a log that consists of these bytes.
    pub(crate) fn open(bytes: &[u8]) -> Result<Log> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("powercut-log-{}-{number}", process::id()));
        fs::write(&path, bytes).unwrap();
        let log = Log::open(&path);
        fs::remove_file(&path).unwrap();
        log
    }

    pub(crate) const END: Raw<'_> = (MARK, 0, 0, END_MARK.as_bytes());

    #[test]
    fn entries_are_told_apart() {
        let (data, more) = ([7; 1024], [8; 512]);
        let bytes = encode(
            512,
            &[
                (0, 16, 2, &data),
                (DISCARD, 8, 4, &[]),
                (FLUSH, 0, 0, &[]),
                (MARK, 0, 0, b"17"),
                (FUA, 3, 1, &more),
                (FLUSH | FUA, 5, 1, &more),
                END,
            ],
        );
        let log = open(&bytes).unwrap();
        let write = |offset, len, data_at, fua| Entry::Write(Written { offset, len, data_at, fua });
        let expected = [
            write(16 * 512, 1024, 1024, false),
            Entry::Discard { offset: 8 * 512, len: 2048 },
            Entry::Flush,
            Entry::Mark("17".to_owned()),
            write(3 * 512, 512, 4096, true),
            Entry::Flush,
            write(5 * 512, 512, 5120, true),
        ];
        assert_eq!(log.entries(), expected);
        let Entry::Write(first) = &log.entries()[0] else { panic!("no write") };
        assert_eq!(log.data(first).unwrap(), data);
    }

    #[test]
    fn sectors_may_be_larger() {
        let log = open(&encode(4096, &[(0, 2, 1, &[7; 4096]), END])).unwrap();
        let write = Written { offset: 8192, len: 4096, data_at: 8192, fua: false };
        assert_eq!(log.data(&write).unwrap(), [7; 4096]);
        assert_eq!(log.entries(), [Entry::Write(write)]);
    }

    #[test]
    fn what_is_no_complete_log_is_an_error() {
        let good = encode(512, &[(0, 1, 1, &[7; 512]), END]);
        assert!(open(&good).is_ok());
        for end in [0, 511, 512, 1000, good.len() - 512] {
            assert!(open(&good[..end]).is_err(), "{end} bytes");
        }
        for (at, byte) in [(0, 0), (8, 2), (16, 1), (16, 3), (24, 1), (512 + 15, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(open(&bad).is_err(), "byte {at}");
        }
        // A mark that says it is longer than its sector.
        let mut bad = good;
        let mark = bad.len() - 512;
        bad[mark + 24..mark + 32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(open(&bad).is_err());
    }
}
