//! What a file or block device can do.

use super::options::{Direct, OpenOptions};
use crate::check::is_logical_block;
use offshoot_block::{Buffer, DeviceGeometry};
use rustix::fs::{AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Block of a file that does not have one of its own: the page of the page cache.
const PAGE: u32 = 4096;

/// Smallest logical block.
const SECTOR: u32 = 512;

/// What was found out about a file.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    pub(super) geometry: DeviceGeometry,
    pub(super) is_block_device: bool,
    /// Why `O_DIRECT` is off although it was asked for.
    pub(super) direct_note: Option<String>,
    pub(super) is_direct: bool,
}

/// Chooses the logical block and `O_DIRECT`, and sets the latter on `file`. Reads a block of it.
///
/// The size of a regular file is rounded down to the logical block: what is behind it cannot be
/// reached with whole blocks.
pub(super) fn probe(file: &File, options: &OpenOptions) -> io::Result<Findings> {
    let metadata = file.metadata()?;
    let is_block_device = metadata.file_type().is_block_device();
    let native = is_block_device.then(|| rustix::fs::ioctl_blksszget(file)).transpose()?;

    let direct = match options.direct {
        Direct::Never => Err(None),
        Direct::Auto => direct_block(file, native)
            .and_then(|needed| match options.logical_block {
                Some(wanted) if wanted < needed => {
                    Err(format!("direct I/O needs blocks of {needed} bytes, {wanted} were asked for"))
                }
                wanted => Ok(wanted.unwrap_or(needed)),
            })
            .map_err(Some),
    };
    let (logical_block, direct_note) = match direct {
        Ok(logical_block) => (logical_block, None),
        Err(note) => {
            set_direct(file, false)?;
            let own = native.filter(|native| is_logical_block(*native)).unwrap_or(SECTOR);
            (options.logical_block.unwrap_or(own), note)
        }
    };
    let is_direct = options.direct == Direct::Auto && direct_note.is_none();

    let physical_block = if is_block_device {
        rustix::fs::ioctl_blkpbszget(file).unwrap_or(PAGE)
    } else {
        u32::try_from(metadata.blksize()).unwrap_or(PAGE).min(PAGE)
    };
    let geometry = DeviceGeometry {
        size_bytes: size_bytes(file, logical_block)?,
        logical_block,
        physical_block: physical_block.max(logical_block),
        // Behind O_DIRECT on a regular file there is still the metadata of the file system.
        volatile_cache: !(is_block_device && is_direct && is_write_through(metadata.rdev())),
        read_only: options.read_only,
    };
    Ok(Findings { geometry, is_block_device, direct_note, is_direct })
}

/// Size of a file or block device in bytes, rounded down to the logical block.
pub(super) fn size_bytes(mut file: &File, logical_block: u32) -> io::Result<u64> {
    // fstat says 0 for a block device.
    let bytes = file.seek(SeekFrom::End(0))?;
    Ok(bytes - bytes % u64::from(logical_block))
}

/// Turns `O_DIRECT` on and finds the smallest block that it takes, or says why there is none.
fn direct_block(file: &File, native: Option<u32>) -> Result<u32, String> {
    set_direct(file, true).map_err(|errno| format!("direct I/O is refused: {errno}"))?;
    let needed = match (native, stated_block(file)) {
        (Some(native), _) => native,
        (None, Some(0)) => return Err("the file system does not do direct I/O on this file".into()),
        (None, Some(stated)) => stated,
        (None, None) => tried_block(file)?,
    };
    if needed <= SECTOR {
        Ok(SECTOR)
    } else if needed <= PAGE {
        Ok(PAGE)
    } else {
        Err(format!("direct I/O needs blocks of {needed} bytes, above {PAGE}"))
    }
}

fn set_direct(file: &File, on: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, on);
    rustix::fs::fcntl_setfl(file, flags)
}

/// The alignment of direct I/O that the file system states (Linux 6.1 and later), 0 for none at all.
fn stated_block(file: &File) -> Option<u32> {
    let status = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let stated = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::DIOALIGN);
    // Buffers are aligned to a page; who wants more cannot be served.
    let is_possible = status.stx_dio_mem_align <= PAGE;
    stated.then_some(if is_possible { status.stx_dio_offset_align } else { 0 })
}

/// The alignment of direct I/O, found by reading.
fn tried_block(file: &File) -> Result<u32, String> {
    let mut buffer = Buffer::zeroed(PAGE as usize);
    for block in [SECTOR, PAGE] {
        match rustix::io::pread(file, &mut buffer.as_mut_slice()[..block as usize], 0) {
            Ok(_) => return Ok(block),
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(format!("direct I/O fails: {errno}")),
        }
    }
    Err("direct I/O of 512 and of 4096 bytes is refused".into())
}

/// Whether the kernel knows the block device to have no volatile write cache.
fn is_write_through(device: u64) -> bool {
    let node = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // A partition has no queue, but the disk above it has.
    ["queue", "../queue"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(format!("{node}/{queue}/write_cache")).ok())
        .is_some_and(|cache| cache.trim() == "write through")
}
