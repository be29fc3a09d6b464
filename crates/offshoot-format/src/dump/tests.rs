use super::*;
use crate::native::{sample_frame, sample_header, sample_image_set};
use crate::{
    BlobId, ExtentOrdinal, Flags, InvalidFlags, Layout, LayoutParams, MaskRoom, MdPageIdx, NATIVE_VERSION,
    NativeBlob,
};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// The lines that come out, without their common indentation in the expectation.
fn check(write: impl FnOnce(&mut String) -> fmt::Result, expected: &str) {
    let mut text = String::new();
    write(&mut text).unwrap();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn super_blocks() {
    let params = LayoutParams {
        size_bytes: 1 << 30,
        cluster_size: 1 << 20,
        io_unit_size: 512,
        md_page_size: 4096,
        md_len: 2048,
        room: MaskRoom::default(),
    };
    let super_block = SuperBlock {
        version: NATIVE_VERSION,
        native: Some(sample_header()),
        ..SuperBlock::create(&Layout::plan(&params).unwrap())
    };
    check(
        |out| dump_super_block(&super_block, out),
        r#"
        version: 0x4f530001
        clean: 0
        super_blob: none
        type: "LVOLSTORE"
        size: 1073741824
        cluster_size: 1048576
        io_unit_size: 512
        md_page_size: 4096
        used_page_mask: page 1 + 1
        used_cluster_mask: page 2 + 1
        used_blobid_mask: page 3 + 1
        md: page 4 + 2048
        native.base_version: 3
        native.flags: 0x80000001 CLEAN_CLOSE
        native.epoch: 30313233343536373839616263646566
        native.start_lsn: 1099511627776
        native.sequence: 3
        native.journal: page 100 + 1024
        native.live_masks: page 1124 + 2
        native.session: boot 626f6f74206f662061206d616368696e device 9
        native.previous: epoch 66656463626139383736353433323130 to lsn 1099511627775
        native.previous.checkpoint: lsn 1099511627767, needed from lsn 1099511627768 on
        native.previous.image_frames: 2
        native.mask_crcs: 0x00000001 0x00000002 0x00000003
        "#,
    );
}

#[test]
fn frames() {
    check(
        |out| dump_frame(&sample_frame(), out).and_then(|()| dump_image_set(&sample_image_set(), out)),
        "
        frame: 1099511627776
        frame.epoch: 30313233343536373839616263646566
        frame.position: 1024
        frame.kind: images
        frame.payload: 5 bytes crc 0xaac24d3b
        frame.covered: 1099511627775
        frame.checkpoint: 1099511627771
        frame.image_frames: 3
        frame.in_place: true
        frame.tail: 1099511627767
        frame.capture: 1099511627774
        frame.image_index: 2
        image: md page 7
        image: md page 4294967294
        zeroed: md page 0..2
        zeroed: md page 9..4294967294
        ",
    );
}

#[test]
fn blobs() {
    let run = |cluster: u32, length| Run { cluster: (cluster != 0).then_some(ClusterIdx(cluster)), length };
    let blob = BlobMd {
        id: BlobId(0x1_0000_0003),
        flags: Flags { invalid: InvalidFlags::from_bits_retain(0x101), ..Flags::default() },
        xattrs: vec![Xattr::new(*b"name", *b"a\n\0\0"), Xattr::new(*b"odd: key", [])],
        internal_xattrs: vec![Xattr::new(XATTR_SNAP, [9, 0, 0, 0, 1, 0, 0, 0]), Xattr::new(XATTR_SNAP, [9])],
        native: Some(NativeBlob {
            dying: true,
            outdated: true,
            inherit_len: 7,
            layer_pages: vec![(ExtentOrdinal(0), MdPageIdx(5))],
        }),
        map: MapMd::Rle(vec![run(4, 2), run(6, 1), run(0, 3), run(9, 1)]),
        unknown: vec![(0x90, vec![0xff, 0])],
    };
    check(
        |out| dump_blob(&blob, out),
        r#"
        blob: 0x100000003
        invalid_flags: 0x101 THIN_PROV
        data_ro_flags: 0x0
        md_ro_flags: 0x0
        xattr.name: "a\n" + 2 NUL
        xattr."odd: key": ""
        internal_xattr.SNAP: 0x100000009
        internal_xattr.SNAP: "\t"
        native.dying: true
        native.outdated: true
        native.inherit_len: 7
        native.layer_page: 0 -> md page 5
        num_clusters: 7
        map: EXTENT_RLE
        clusters: 0..2 -> 4..6
        clusters: 6 -> 9
        descriptor.0x90: "\xff" + 1 NUL
        "#,
    );
}

#[test]
fn extent_pages_and_layer_pages() {
    let clusters = [7, 8, 0, 8].map(|cluster| (cluster != 0).then_some(ClusterIdx(cluster))).to_vec();
    check(
        |out| dump_extent_page(&ExtentPage { id: BlobId(0x1_0000_0003), start: 512, clusters }, out),
        "
        extent_page.id: 0x100000003
        extent_page.start: 512
        extent_page.len: 4
        clusters: 512..513 -> 7..8
        clusters: 515 -> 8
        ",
    );
    let record =
        |slot, cluster, states: [u8; 2]| LayerRecord { slot, depth: 0, cluster, states: states.to_vec() };
    let page = LayerPage {
        id: BlobId(0x1_0000_0003),
        ordinal: ExtentOrdinal(1),
        states_bytes: 2,
        records: vec![record(0, Some(ClusterIdx(7)), [0b1001_0100, 0b01]), record(9, None, [0b10, 0])],
    };
    check(
        |out| dump_layer_page(&page, out),
        "
        layer_page.id: 0x100000003
        layer_page.ordinal: 1
        layer_page.states_bytes: 2
        layer: slot 0 depth 0 -> 7 data 1..2 zero 3 data 4
        layer: slot 9 depth 0 -> - zero 0
        ",
    );
}
