//! Metadata as text: one fact a line, `key: value`, the same text for the same metadata.

use crate::{
    BlobMd, BlockState, ClusterIdx, ExtentPage, FrameHeader, FrameKind, ImageSet, LayerPage, LayerRecord,
    MapMd, NativeHeader, PreviousEpoch, Region, Run, SessionId, SuperBlock, Xattr, parse_blob_id,
};
use crate::{XATTR_SNAP, XATTR_SNAPRM, XATTR_SNAPTMP};
use core::fmt::{self, Write};
use core::ops::Range;

/// Writes a super block.
///
/// # Errors
/// Whatever `out` fails with.
pub fn dump_super_block(super_block: &SuperBlock, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "version: {}", Version(super_block.version))?;
    writeln!(out, "clean: {}", super_block.clean)?;
    match super_block.super_blob {
        Some(id) => writeln!(out, "super_blob: {id}")?,
        None => writeln!(out, "super_blob: none")?,
    }
    writeln!(out, "type: {}", Text(trim_nuls(&super_block.bstype)))?;
    writeln!(out, "size: {}", super_block.size_bytes)?;
    writeln!(out, "cluster_size: {}", super_block.cluster_size)?;
    writeln!(out, "io_unit_size: {}", super_block.io_unit_size)?;
    writeln!(out, "md_page_size: {}", super_block.md_page_size)?;
    writeln!(out, "used_page_mask: {}", super_block.used_page_mask)?;
    writeln!(out, "used_cluster_mask: {}", super_block.used_cluster_mask)?;
    writeln!(out, "used_blobid_mask: {}", super_block.used_blobid_mask)?;
    writeln!(out, "md: {}", Region { start: super_block.md_start, len: super_block.md_len })?;
    if !super_block.reserved.is_zero() {
        writeln!(out, "reserved: not zero")?;
    }
    super_block.native.as_ref().map_or(Ok(()), |native| dump_native_header(native, out))
}

fn dump_native_header(native: &NativeHeader, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "native.base_version: {}", native.base_version)?;
    writeln!(out, "native.flags: {}", Words(&native.flags, native.flags.bits().into()))?;
    writeln!(out, "native.epoch: {}", Hex(native.epoch))?;
    writeln!(out, "native.start_lsn: {}", native.start_lsn)?;
    writeln!(out, "native.sequence: {}", native.sequence)?;
    match native.journal {
        Some(area) => {
            writeln!(out, "native.journal: {}", Region { start: area.start.0, len: area.len })?;
            let masks = Region { start: area.masks_start().0, len: area.masks };
            writeln!(out, "native.live_masks: {masks}")?;
        }
        None => writeln!(out, "native.journal: none")?,
    }
    match native.session {
        Some(SessionId { boot_id, device_generation }) => {
            writeln!(out, "native.session: boot {} device {device_generation}", Hex(boot_id))?;
        }
        None => writeln!(out, "native.session: none")?,
    }
    match native.previous {
        Some(PreviousEpoch { epoch, last_lsn, checkpoint, tail, image_frames }) => {
            writeln!(out, "native.previous: epoch {} to lsn {last_lsn}", Hex(epoch))?;
            writeln!(out, "native.previous.checkpoint: lsn {checkpoint}, needed from lsn {tail} on")?;
            writeln!(out, "native.previous.image_frames: {image_frames}")?;
        }
        None => writeln!(out, "native.previous: none")?,
    }
    let [pages, clusters, blob_ids] = native.mask_crcs;
    writeln!(out, "native.mask_crcs: {pages:#010x} {clusters:#010x} {blob_ids:#010x}")
}

/// Writes the header of a frame of the journal.
///
/// # Errors
/// Whatever `out` fails with.
pub fn dump_frame(frame: &FrameHeader, out: &mut impl Write) -> fmt::Result {
    let kind = match frame.kind {
        FrameKind::Records => "records",
        FrameKind::Images => "images",
    };
    writeln!(out, "frame: {}", frame.lsn)?;
    writeln!(out, "frame.epoch: {}", Hex(frame.epoch))?;
    writeln!(out, "frame.position: {}", frame.position)?;
    writeln!(out, "frame.kind: {kind}")?;
    writeln!(out, "frame.payload: {} bytes crc {:#010x}", frame.payload_len, frame.payload_crc)?;
    writeln!(out, "frame.covered: {}", frame.covered)?;
    writeln!(out, "frame.checkpoint: {}", frame.checkpoint)?;
    writeln!(out, "frame.image_frames: {}", frame.image_frames)?;
    writeln!(out, "frame.in_place: {}", frame.in_place)?;
    writeln!(out, "frame.tail: {}", frame.tail)?;
    if frame.kind == FrameKind::Images {
        writeln!(out, "frame.capture: {}", frame.capture)?;
        writeln!(out, "frame.image_index: {}", frame.image_index)?;
    }
    Ok(())
}

/// Writes which pages an image set changes. What the pages hold, the writers for pages tell.
///
/// # Errors
/// Whatever `out` fails with.
pub fn dump_image_set(set: &ImageSet, out: &mut impl Write) -> fmt::Result {
    for (page, _) in &set.images {
        writeln!(out, "image: md page {page}")?;
    }
    for run in &set.zeroed {
        writeln!(out, "zeroed: md page {}", Span(run.start.0.into()..run.end()))?;
    }
    Ok(())
}

/// Writes the metadata of a blob.
///
/// # Errors
/// Whatever `out` fails with.
pub fn dump_blob(blob: &BlobMd, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "blob: {}", blob.id)?;
    writeln!(out, "invalid_flags: {}", Words(&blob.flags.invalid, blob.flags.invalid.bits()))?;
    writeln!(out, "data_ro_flags: {}", Words(&blob.flags.data_ro, blob.flags.data_ro.bits()))?;
    writeln!(out, "md_ro_flags: {:#x}", blob.flags.md_ro)?;
    blob.xattrs.iter().try_for_each(|xattr| dump_xattr("xattr", xattr, out))?;
    blob.internal_xattrs.iter().try_for_each(|xattr| dump_xattr("internal_xattr", xattr, out))?;
    if let Some(native) = &blob.native {
        writeln!(out, "native.dying: {}", native.dying)?;
        if native.outdated {
            writeln!(out, "native.outdated: true")?;
        }
        writeln!(out, "native.inherit_len: {}", native.inherit_len)?;
        for (ordinal, page) in &native.layer_pages {
            writeln!(out, "native.layer_page: {ordinal} -> md page {page}")?;
        }
    }
    writeln!(out, "num_clusters: {}", blob.map.num_clusters())?;
    dump_map(&blob.map, out)?;
    for (kind, payload) in &blob.unknown {
        writeln!(out, "descriptor.{kind:#04x}: {}", Text(payload))?;
    }
    Ok(())
}

fn dump_map(map: &MapMd, out: &mut impl Write) -> fmt::Result {
    match map {
        MapMd::Rle(runs) => {
            writeln!(out, "map: EXTENT_RLE")?;
            dump_runs(0, runs.iter().copied(), out)
        }
        MapMd::Table { pages, .. } => {
            writeln!(out, "map: EXTENT_TABLE")?;
            for (ordinal, page) in pages.iter().enumerate() {
                if let Some(page) = page {
                    writeln!(out, "extent_page: {ordinal} -> md page {page}")?;
                }
            }
            Ok(())
        }
    }
}

/// Writes an extent page.
///
/// # Errors
/// Whatever `out` fails with.
pub fn dump_extent_page(page: &ExtentPage, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "extent_page.id: {}", page.id)?;
    writeln!(out, "extent_page.start: {}", page.start)?;
    writeln!(out, "extent_page.len: {}", page.clusters.len())?;
    let each = page.clusters.iter().map(|cluster| Run { cluster: *cluster, length: 1 });
    dump_runs(page.start.into(), each, out)
}

/// Writes a layer page.
///
/// # Errors
/// Whatever `out` fails with.
pub fn dump_layer_page(page: &LayerPage, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "layer_page.id: {}", page.id)?;
    writeln!(out, "layer_page.ordinal: {}", page.ordinal)?;
    writeln!(out, "layer_page.states_bytes: {}", page.states_bytes)?;
    for record in &page.records {
        write!(out, "layer: slot {} depth {} -> ", record.slot, record.depth)?;
        match record.cluster {
            Some(cluster) => write!(out, "{cluster}")?,
            None => write!(out, "-")?,
        }
        dump_states(record, out)?;
        writeln!(out)?;
    }
    Ok(())
}

/// Writes the runs of blocks that a layer holds, those that it does not left out.
fn dump_states(record: &LayerRecord, out: &mut impl Write) -> fmt::Result {
    let mut states = record.states().enumerate().peekable();
    while let Some((first, state)) = states.next() {
        let mut last = first;
        while let Some((block, _)) = states.next_if(|(_, next)| *next == state) {
            last = block;
        }
        let name = match state {
            BlockState::Inherit => continue,
            BlockState::Data => "data",
            BlockState::Zero => "zero",
        };
        write!(out, " {name} {}", Span(first as u64..last as u64 + 1))?;
    }
    Ok(())
}

/// Writes the allocated clusters, physical neighbours as one line.
fn dump_runs(start: u64, runs: impl Iterator<Item = Run>, out: &mut impl Write) -> fmt::Result {
    let mut at = start;
    let mut pending: Option<(u64, ClusterIdx, u64)> = None;
    for run in runs {
        let length = u64::from(run.length);
        let joins = pending.and_then(|(_, first, count)| {
            run.cluster.filter(|cluster| u64::from(first.0) + count == u64::from(cluster.0))
        });
        match (&mut pending, joins) {
            (Some((_, _, count)), Some(_)) => *count += length,
            _ => {
                dump_run(pending, out)?;
                pending = run.cluster.map(|cluster| (at, cluster, length));
            }
        }
        at += length;
    }
    dump_run(pending, out)
}

fn dump_run(run: Option<(u64, ClusterIdx, u64)>, out: &mut impl Write) -> fmt::Result {
    let Some((at, cluster, count)) = run else {
        return Ok(());
    };
    let physical = u64::from(cluster.0);
    writeln!(out, "clusters: {} -> {}", Span(at..at + count), Span(physical..physical + count))
}

fn dump_xattr(key: &str, xattr: &Xattr, out: &mut impl Write) -> fmt::Result {
    let names_a_blob = [XATTR_SNAP, XATTR_SNAPTMP, XATTR_SNAPRM].contains(&xattr.name.as_slice());
    match parse_blob_id(&xattr.value).filter(|_| names_a_blob) {
        Some(id) => writeln!(out, "{key}.{}: {id}", Name(&xattr.name)),
        None => writeln!(out, "{key}.{}: {}", Name(&xattr.name), Text(&xattr.value)),
    }
}

fn trim_nuls(bytes: &[u8]) -> &[u8] {
    bytes.iter().rposition(|byte| *byte != 0).map_or(&[], |last| &bytes[..=last])
}

/// Bytes as text on one line: quoted, escaped, and the NULs at the end counted.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = trim_nuls(self.0);
        write!(f, "\"{}\"", text.escape_ascii())?;
        match self.0.len() - text.len() {
            0 => Ok(()),
            nuls => write!(f, " + {nuls} NUL"),
        }
    }
}

/// The name of an xattr: as it is, unless it could be taken for something else.
struct Name<'a>(&'a [u8]);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
        if !self.0.is_empty() && self.0.iter().all(is_plain) {
            write!(f, "{}", self.0.escape_ascii())
        } else {
            write!(f, "\"{}\"", self.0.escape_ascii())
        }
    }
}

/// The names of the bits, and all of them as a number.
struct Words<'a, F>(&'a F, u64);

impl<F: bitflags::Flags> fmt::Display for Words<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.1)?;
        self.0.iter_names().try_for_each(|(name, _)| write!(f, " {name}"))
    }
}

/// Random bytes, in their order.
struct Hex([u8; 16]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

struct Version(u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == crate::NATIVE_VERSION { write!(f, "{:#x}", self.0) } else { write!(f, "{}", self.0) }
    }
}

/// A range by its first and last number.
struct Span(Range<u64>);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.end - self.0.start == 1 {
            write!(f, "{}", self.0.start)
        } else {
            write!(f, "{}..{}", self.0.start, self.0.end - 1)
        }
    }
}

#[cfg(test)]
mod tests;
