//! The undo file: its bytes, writing it, and reading it again.
//!
//! ```text
//! header, 512 bytes, written anew, as a whole, behind each batch of records and when the work is complete
//!   000 magic "OFFSUNDO"   008 version = 1   00c complete: 0 or 1   010 device size in bytes
//!   018 uuid of the store, 16 bytes   028 bytes of the file that count   1fc CRC-32C of 000 to 1fb
//! records, one behind the other, each 40 bytes and a payload
//!   00 magic "UREC"   04 kind   08 number, from 0   10 offset on the device   18 length there
//!   20 CRC-32C of the payload   24 CRC-32C of 00 to 23
//! ```
//!
//! | kind | payload | meaning |
//! |---|---|---|
//! | 1 | the bytes | the range held these |
//! | 2 | | the range held zeros |
//! | 3 | | the range could not be read |
//! | 4 | a CRC-32C for each sector | these are about to be written |
//! | 5 | | zeros are about to be written |
//!
//! All integers are little-endian.
//!
//! Records count once they are durable and the header, durable too, says so; nothing that they announce is done
//! before. What is behind them is what was being appended when the end came, in whatever order its parts reached the
//! disk. What is bad among them is damage.

use super::{SECTOR, UndoError};
use crc32c::crc32c;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"OFFSUNDO";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 512;
const RECORD_MAGIC: [u8; 4] = *b"UREC";
const RECORD_BYTES: usize = 40;

/// Longest range of a record: what is read in one piece.
const RANGE_BYTES_MAX: u64 = 1 << 30;

/// Which device an undo file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoOf {
    /// Size of the device in bytes.
    pub device_bytes: u64,
    /// UUID of the store on it, as bytes; zeros where it has none.
    pub store: [u8; 16],
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bytes,
    Zeros,
    Unreadable,
    Writes,
    WritesZeros,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Bytes, Self::Zeros, Self::Unreadable, Self::Writes, Self::WritesZeros];

    fn number(self) -> u32 {
        match self {
            Self::Bytes => 1,
            Self::Zeros => 2,
            Self::Unreadable => 3,
            Self::Writes => 4,
            Self::WritesZeros => 5,
        }
    }

    fn payload_bytes(self, len: u64) -> u64 {
        match self {
            Self::Bytes => len,
            Self::Writes => len / SECTOR * 4,
            Self::Zeros | Self::Unreadable | Self::WritesZeros => 0,
        }
    }
}

/// An undo file that is being written.
#[derive(Debug)]
pub struct UndoLog {
    file: File,
    path: PathBuf,
    of: UndoOf,
    /// Where the next record goes, in bytes.
    end: u64,
    records: u64,
}

impl UndoLog {
    /// Begins an undo file. It is on disk, with its name, when this returns.
    ///
    /// # Errors
    /// [`UndoError::Io`]: something is at the path already, for one.
    pub fn create(path: &Path, of: UndoOf) -> Result<Self, UndoError> {
        let failed = |source| UndoError::Io { path: path.into(), source };
        let file = File::options().read(true).write(true).create_new(true).open(path).map_err(failed)?;
        let log = Self { file, path: path.into(), of, end: HEADER_BYTES as u64, records: 0 };
        log.write_header(false).map_err(failed)?;
        crate::file::sync_parent(path).map_err(failed)?;
        Ok(log)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.end
    }

    /// Whether nothing has been written to the device yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Says that nothing more will be done to the device.
    ///
    /// # Errors
    /// [`UndoError::Io`].
    pub fn complete(self) -> Result<(), UndoError> {
        let written = self.file.sync_data().and_then(|()| self.write_header(true));
        written.map_err(|source| UndoError::Io { path: self.path.clone(), source })
    }

    /// A range is about to be written for the first time: it holds `bytes`.
    pub(super) fn before(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.iter().all(|byte| *byte == 0) {
            return self.append(Kind::Zeros, offset, bytes.len() as u64, &[]);
        }
        self.append(Kind::Bytes, offset, bytes.len() as u64, bytes)
    }

    /// A range is about to be written for the first time, and it cannot be read.
    pub(super) fn before_unreadable(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.append(Kind::Unreadable, offset, len, &[])
    }

    /// `bytes` are about to be written.
    pub(super) fn writes(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let sums = bytes.chunks(index(SECTOR)).flat_map(|sector| crc32c(sector).to_le_bytes());
        self.append(Kind::Writes, offset, bytes.len() as u64, &sums.collect::<Vec<u8>>())
    }

    /// Zeros are about to be written.
    pub(super) fn writes_zeros(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.append(Kind::WritesZeros, offset, len, &[])
    }

    /// Makes durable what was appended, and then that it counts.
    pub(super) fn commit(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.write_header(false)
    }

    fn append(&mut self, kind: Kind, offset: u64, len: u64, payload: &[u8]) -> io::Result<()> {
        let mut record = Vec::with_capacity(RECORD_BYTES + payload.len());
        record.extend_from_slice(&RECORD_MAGIC);
        record.extend_from_slice(&kind.number().to_le_bytes());
        record.extend_from_slice(&self.records.to_le_bytes());
        record.extend_from_slice(&offset.to_le_bytes());
        record.extend_from_slice(&len.to_le_bytes());
        record.extend_from_slice(&crc32c(payload).to_le_bytes());
        record.extend_from_slice(&crc32c(&record).to_le_bytes());
        record.extend_from_slice(payload);
        self.file.write_all_at(&record, self.end)?;
        self.end += record.len() as u64;
        self.records += 1;
        Ok(())
    }

    fn write_header(&self, complete: bool) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&u32::from(complete).to_le_bytes());
        header[16..24].copy_from_slice(&self.of.device_bytes.to_le_bytes());
        header[24..40].copy_from_slice(&self.of.store);
        header[40..48].copy_from_slice(&self.end.to_le_bytes());
        let crc = crc32c(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&header, 0)?;
        self.file.sync_all()
    }
}

/// An undo file that was read: what a device held before.
#[derive(Debug)]
pub struct Undo {
    pub(super) file: File,
    pub(super) path: PathBuf,
    of: UndoOf,
    is_complete: bool,
    pub(super) records: Vec<Record>,
}

/// A record: what it is about, and where its payload is in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) offset: u64,
    pub(super) len: u64,
    payload: u64,
}

impl Record {
    /// The range on the device.
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }

    /// Whether it says what a range held.
    pub(super) fn is_before(&self) -> bool {
        matches!(self.kind, Kind::Bytes | Kind::Zeros | Kind::Unreadable)
    }
}

impl Undo {
    /// Reads an undo file and checks all of it.
    ///
    /// # Errors
    /// [`UndoError`].
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        let failed = |source| UndoError::Io { path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut header = [0; HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(failed(error)),
            _ if header[..8] != MAGIC => return Err(UndoError::NotUndo(path.into())),
            _ => {}
        }
        let version = le32(&header, 8);
        if version != VERSION {
            return Err(UndoError::Version { path: path.into(), version });
        }
        if le32(&header, HEADER_BYTES - 4) != crc32c(&header[..HEADER_BYTES - 4]) {
            return Err(UndoError::Damaged { path: path.into(), offset: 0 });
        }
        let mut store = [0; 16];
        store.copy_from_slice(&header[24..40]);
        let of = UndoOf { device_bytes: le64(&header, 16), store };
        let is_complete = le32(&header, 12) != 0;
        let mut undo = Self { file, path: path.into(), of, is_complete, records: Vec::new() };
        let end = le64(&header, 40);
        if len < end {
            return Err(UndoError::Short { path: path.into(), found: len, expected: end });
        }
        undo.read_records(end)?;
        Ok(undo)
    }

    /// Which device it is about.
    #[must_use]
    pub fn of(&self) -> UndoOf {
        self.of
    }

    /// Whether the work on the device came to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Bytes of the device that it can put back.
    #[must_use]
    pub fn saved_bytes(&self) -> u64 {
        self.records.iter().filter(|record| record.is_before()).map(|record| record.len).sum()
    }

    /// Reads the records, which end at `end`.
    fn read_records(&mut self, end: u64) -> Result<(), UndoError> {
        let mut at = HEADER_BYTES as u64;
        while at < end {
            let Some(record) = self.read_record(at, self.records.len() as u64, end)? else {
                return Err(UndoError::Damaged { path: self.path.clone(), offset: at });
            };
            at = record.payload + record.kind.payload_bytes(record.len);
            self.records.push(record);
        }
        Ok(())
    }

    /// The record at a place, if it is whole, has this number, and ends at `end` or before.
    fn read_record(&self, at: u64, number: u64, end: u64) -> Result<Option<Record>, UndoError> {
        if end - at < RECORD_BYTES as u64 {
            return Ok(None);
        }
        let mut header = [0; RECORD_BYTES];
        self.read(&mut header, at)?;
        let Some(kind) = checked_kind(&header).filter(|_| le64(&header, 8) == number) else {
            return Ok(None);
        };
        let (offset, range_len) = (le64(&header, 16), le64(&header, 24));
        let range_end = offset.checked_add(range_len);
        let within = range_end.is_some_and(|range_end| range_end <= self.of.device_bytes);
        if !within || !(offset | range_len).is_multiple_of(SECTOR) {
            return Ok(None);
        }
        let record = Record { kind, offset, len: range_len, payload: at + RECORD_BYTES as u64 };
        let payload_bytes = kind.payload_bytes(range_len);
        if payload_bytes > (end - record.payload).min(RANGE_BYTES_MAX) {
            return Ok(None);
        }
        let payload = self.payload(&record)?;
        Ok((crc32c(&payload) == le32(&header, 32)).then_some(record))
    }

    pub(super) fn payload(&self, record: &Record) -> Result<Vec<u8>, UndoError> {
        let mut payload = vec![0; index(record.kind.payload_bytes(record.len))];
        self.read(&mut payload, record.payload)?;
        Ok(payload)
    }

    fn read(&self, target: &mut [u8], at: u64) -> Result<(), UndoError> {
        let read = self.file.read_exact_at(target, at);
        read.map_err(|source| UndoError::Io { path: self.path.clone(), source })
    }
}

/// What a record is, if its header is whole.
fn checked_kind(header: &[u8]) -> Option<Kind> {
    let good = header.starts_with(&RECORD_MAGIC) && le32(header, 36) == crc32c(&header[..36]);
    Kind::ALL.into_iter().find(|kind| good && kind.number() == le32(header, 4))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A length within what is read at a time.
pub(super) fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
