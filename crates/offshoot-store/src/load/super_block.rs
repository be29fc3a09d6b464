//! The super block of a store: as it stands, from its copy, or put together after a torn write.

use super::verify::Found;
use crate::error::LoadError;
use alloc::{
    format,
    string::{String, ToString},
};
use offshoot_format::{NATIVE_VERSION, NativeFlags, Probe, SuperBlock, mend_page};

/// The super block in `first`, its copy in `copy`, on a device of `device_bytes`, and what is wrong with it.
pub(super) fn read(
    first: &[u8],
    copy: &[u8],
    device_bytes: u64,
) -> Result<(SuperBlock, Option<Found>), LoadError> {
    let why = match decode(first) {
        Ok(super_block) => return Ok((super_block, None)),
        Err(why) => why,
    };
    if let Some(copy) = usable_copy(first, copy) {
        let flags = copy.native.as_ref().map_or(NativeFlags::empty(), |native| native.flags);
        let is_expected = flags.contains(NativeFlags::REPLACES_FIRST);
        let found = (!is_expected).then(|| Found::SuperBlock { why: why.to_string() });
        return Ok((copy, found));
    }
    match SuperBlock::mend(first, device_bytes) {
        // SPDK changed it and died. Whichever version this is, the masks need not be what it says.
        Some(mended) => {
            let super_block = SuperBlock { clean: 0, ..mended.super_block };
            Ok((super_block, Some(Found::SuperBlockTorn { fields: mended.fields })))
        }
        None => {
            let mended = mend_page(first)
                .and_then(|page| SuperBlock::decode(&page).ok())
                .ok_or_else(|| why.clone())?;
            Ok((mended, Some(Found::SuperBlockBit { why: why.to_string() })))
        }
    }
}

fn decode(bytes: &[u8]) -> Result<SuperBlock, LoadError> {
    match SuperBlock::probe(bytes) {
        Probe::NotAStore => {
            let why = match crate::signature::name(bytes) {
                Some(what) => format!("it holds {what}"),
                None => String::from("no signature of an lvstore"),
            };
            Err(LoadError::NotAStore(why))
        }
        Probe::NewerVersion(version) => Err(LoadError::NewerVersion(version)),
        _ => Ok(SuperBlock::decode(bytes)?),
    }
}

/// The copy of a super block that cannot be read, if it speaks of a store that is open. One that says that it was
/// sealed has outlived its copy.
fn usable_copy(first: &[u8], copy: &[u8]) -> Option<SuperBlock> {
    if matches!(SuperBlock::probe(first), Probe::Store { version } if version != NATIVE_VERSION) {
        return None;
    }
    let copy = SuperBlock::decode(copy).ok()?;
    let layout = copy.layout(copy.size_bytes).ok()?;
    let in_use = copy.is_native() && !copy.is_clean() && layout.super_block_copy().is_some();
    in_use.then_some(copy)
}
