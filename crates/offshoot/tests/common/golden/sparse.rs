//! Images are mostly zeros: writing only the rest makes a 64 GiB image a few MiB.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// The unit in which zeros are left out: a block of the usual file system.
const BLOCK_BYTES: usize = 4096;

/// How much is read at once, and left out at once when it is all zeros.
const CHUNK_BYTES: usize = 1 << 20;

static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// Writes all of `input` to the empty `file`, leaving holes for blocks of zeros. Returns the length in bytes.
pub(super) fn write(mut input: impl Read, file: &File) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let length = read_full(&mut input, &mut chunk)?;
        if length == 0 {
            file.set_len(offset)?;
            return Ok(offset);
        }
        write_chunk(&chunk[..length], file, offset)?;
        offset += length as u64;
    }
}

fn write_chunk(chunk: &[u8], file: &File, offset: u64) -> io::Result<()> {
    if is_zero(chunk) {
        return Ok(());
    }
    let blocks = chunk.chunks(BLOCK_BYTES);
    for (position, block) in (offset..).step_by(BLOCK_BYTES).zip(blocks).filter(|(_, block)| !is_zero(block))
    {
        file.write_all_at(block, position)?;
    }
    Ok(())
}

/// Reads until `buffer` is full or the input ends. Returns the number of bytes read.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

/// Compares with zeros instead of looking at each byte: that is a `memcmp`, fast also without optimisation.
fn is_zero(bytes: &[u8]) -> bool {
    bytes == &ZEROS[..bytes.len()]
}
