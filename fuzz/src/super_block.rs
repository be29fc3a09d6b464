//! A super block and its layout, from any bytes.
//!
//! The first byte says whether the checksum is made to fit, without which nearly nothing would get past it; the rest
//! stands at the start of a block of zeros.

use offshoot_format::{MD_STRUCT_BYTES, MaskKind, MdPageIdx, SuperBlock, crc32c, dump_super_block};

/// Decodes, encodes and dumps; asks the layout for everything it can be asked for.
pub fn run(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let mut block = [0; MD_STRUCT_BYTES];
    let len = bytes.len().min(MD_STRUCT_BYTES);
    block[..len].copy_from_slice(&bytes[..len]);
    if how & 1 == 1 {
        let sum = crc32c(&block[..MD_STRUCT_BYTES - 4]);
        block[MD_STRUCT_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    }
    let _ = SuperBlock::probe(&block);
    let Ok(super_block) = SuperBlock::decode(&block) else { return };
    assert_eq!(SuperBlock::decode(&super_block.encode()).as_ref(), Ok(&super_block), "encoded and decoded");
    assert_eq!(SuperBlock::decode(&super_block.sealed().encode()), Ok(super_block.sealed()), "sealed");
    dump_super_block(&super_block, &mut String::new()).expect("a string takes everything");
    for device_bytes in [super_block.size_bytes, 1 << 20, u64::MAX] {
        let Ok(layout) = super_block.layout(device_bytes) else { continue };
        let last = layout.md_page_offset(MdPageIdx(layout.md_len - 1)) + u64::from(layout.md_page_size);
        assert!(last <= layout.cluster_offset(layout.first_data_cluster()), "md pages end before the data");
        for kind in MaskKind::ALL {
            let end = layout.mask_offset(kind) + layout.mask_bytes(kind) as u64;
            assert!(end <= layout.md_page_offset(MdPageIdx(0)), "{kind} ends before the md pages");
        }
        let _ = (layout.super_block_copy(), layout.max_growable_bytes());
    }
}
