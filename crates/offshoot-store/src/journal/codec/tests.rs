use super::*;
use alloc::vec;
use offshoot_format::{LayoutParams, MaskRoom};
use proptest::prelude::*;
use std::string::ToString;

/// 64 clusters of 4 blocks, 24 md pages.
fn layout() -> Layout {
    let params = LayoutParams {
        size_bytes: 1 << 20,
        cluster_size: 16_384,
        io_unit_size: 512,
        md_page_size: 4096,
        md_len: 24,
        room: MaskRoom::default(),
    };
    Layout::plan(&params).unwrap()
}

fn id() -> impl Strategy<Value = BlobId> {
    (0_u32..24).prop_map(|root| BlobId::from_root(MdPageIdx(root)))
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..=most)
}

fn xattr() -> impl Strategy<Value = Xattr> {
    let long = (bytes(200), bytes(XATTR_BYTES_MAX - 200));
    prop_oneof![3 => (bytes(8), bytes(40)), 1 => long].prop_map(|(name, value)| Xattr::new(name, value))
}

fn below_a_blob() -> impl Strategy<Value = Below> {
    let external = bytes(40).prop_map(Below::External);
    prop_oneof![Just(Below::Nothing), id().prop_map(Below::Blob), external]
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    proptest::collection::vec(xattr(), 0..4)
}

/// Small numbers and those near the limit.
fn below(end: u64) -> impl Strategy<Value = u64> {
    prop_oneof![0..end.min(300), 0..end, end - 1..end]
}

fn at() -> impl Strategy<Value = BlobCluster> {
    below(LVOL_CLUSTERS_MAX).prop_map(BlobCluster)
}

fn blocks() -> impl Strategy<Value = Range<u32>> {
    (0_u32..4, 0_u32..4).prop_map(|(a, b)| a.min(b)..a.max(b) + 1)
}

fn cluster() -> impl Strategy<Value = ClusterIdx> {
    (layout().first_data_cluster().0..64).prop_map(ClusterIdx)
}

fn runs() -> impl Strategy<Value = Vec<MappedRun>> {
    let run = (below(LVOL_CLUSTERS_MAX - 64).prop_map(BlobCluster), cluster(), any::<u32>());
    let run = run.prop_map(|(at, cluster, length)| MappedRun {
        at,
        cluster,
        length: 1 + length % (64 - cluster.0),
    });
    proptest::collection::vec(run, 0..4)
}

fn flags() -> impl Strategy<Value = Flags> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(invalid, data_ro, md_ro)| Flags {
        invalid: InvalidFlags::from_bits_retain(invalid),
        data_ro: DataRoFlags::from_bits_retain(data_ro),
        md_ro,
    })
}

fn record() -> impl Strategy<Value = Record> {
    let len = below(LVOL_CLUSTERS_MAX + 1).boxed();
    let range = (below(LVOL_CLUSTERS_MAX), any::<u64>());
    let range = range.prop_map(|(start, len)| start..start + 1 + len % (LVOL_CLUSTERS_MAX - start));
    let ordinal = below(EXTENT_PAGES_MAX.into());
    let ordinal = ordinal.prop_map(|ordinal| ExtentOrdinal(u32::try_from(ordinal).unwrap()));
    let encoding = prop_oneof![Just(Encoding::Rle), Just(Encoding::Table)];
    prop_oneof![
        (id(), at(), cluster(), blocks()).prop_map(|(blob, at, cluster, blocks)| Record::Fill {
            blob,
            at,
            cluster,
            blocks
        }),
        (id(), at()).prop_map(|(blob, at)| Record::DropZeros { blob, at }),
        (id(), below(LVOL_CLUSTERS_MAX + 1)).prop_map(|(blob, len)| Record::Inherit { blob, len }),
        id().prop_map(|blob| Record::Inflate { blob }),
        (id(), at()).prop_map(|(blob, at)| Record::KeepZeros { blob, at }),
        (id(), below(LVOL_CLUSTERS_MAX + 1))
            .prop_map(|(blob, inherit_len)| Record::Bypass { blob, inherit_len }),
        (id(), flags(), xattrs(), below(LVOL_CLUSTERS_MAX + 1), runs(), encoding).prop_map(
            |(id, flags, xattrs, len, runs, encoding)| Record::Create {
                id,
                flags,
                xattrs,
                len,
                runs,
                encoding
            }
        ),
        (id(), id(), len.clone(), xattrs()).prop_map(|(origin, id, len, xattrs)| Record::Snapshot {
            origin,
            id,
            len,
            xattrs
        }),
        (id(), id(), len.clone(), xattrs()).prop_map(|(parent, id, len, xattrs)| Record::Clone {
            parent,
            id,
            len,
            xattrs
        }),
        (id(), at(), cluster(), blocks()).prop_map(|(blob, at, cluster, blocks)| Record::Map {
            blob,
            at,
            cluster,
            blocks
        }),
        (id(), at(), blocks()).prop_map(|(blob, at, blocks)| Record::ZeroBlocks { blob, at, blocks }),
        (id(), range).prop_map(|(blob, range)| Record::ZeroClusters { blob, range }),
        (id(), len, runs()).prop_map(|(blob, len, runs)| Record::Resize { blob, len, runs }),
        (id(), xattr()).prop_map(|(blob, xattr)| Record::SetXattr { blob, xattr }),
        (id(), xattr()).prop_map(|(blob, xattr)| Record::RemoveXattr { blob, name: xattr.name }),
        id().prop_map(|blob| Record::SetReadOnly { blob }),
        (id(), below_a_blob()).prop_map(|(blob, below)| Record::SetParent { blob, below }),
        proptest::collection::vec(id(), 0..5).prop_map(|blobs| Record::UseExtentTable { blobs }),
        id().prop_map(|blob| Record::MarkDying { blob }),
        (id(), proptest::collection::vec(ordinal, 0..9))
            .prop_map(|(blob, ordinals)| Record::Release { blob, ordinals }),
        id().prop_map(|blob| Record::Destroy { blob }),
        (id(), id()).prop_map(|(snapshot, clone)| Record::Adopt { snapshot, clone }),
    ]
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    records.iter().for_each(|record| encode(record, &mut out));
    out
}

proptest! {
    #[test]
    fn round_trips(records in proptest::collection::vec(record(), 0..8)) {
        prop_assert_eq!(decode_all(&encoded(&records), &layout()), Ok(records));
    }

    #[test]
    fn refuses_what_is_cut(first in record(), last in record(), cut in any::<prop::sample::Index>()) {
        let whole = encoded(&[first.clone(), last]);
        let start = encoded(&[first]).len();
        let end = start + 1 + cut.index((whole.len() - start - 1).max(1));
        prop_assume!(end < whole.len());
        prop_assert!(decode_all(&whole[..end], &layout()).is_err());
    }

    #[test]
    fn takes_any_bytes_and_knows_one_encoding_only(bytes in bytes(200)) {
        if let Ok(records) = decode_all(&bytes, &layout()) {
            prop_assert_eq!(encoded(&records), bytes);
        }
    }

    #[test]
    fn takes_flipped_bits(
        records in proptest::collection::vec(record(), 1..4),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4),
    ) {
        let mut bytes = encoded(&records);
        for (index, bit) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
        }
        if let Ok(records) = decode_all(&bytes, &layout()) {
            prop_assert_eq!(encoded(&records), bytes);
        }
    }
}

#[test]
fn a_first_write_is_small() {
    let large = Layout { md_len: 1 << 20, total_clusters: 1 << 22, ..layout() };
    let write = Record::Map {
        blob: BlobId::from_root(MdPageIdx(1_000_000)),
        at: BlobCluster(4_000_000),
        cluster: ClusterIdx(4_000_000),
        blocks: 1..2,
    };
    let bytes = encoded(core::slice::from_ref(&write));
    assert_eq!(bytes.len(), 14);
    assert_eq!(decode_all(&bytes, &large), Ok(vec![write]));
}

#[test]
fn says_what_is_wrong_and_where() {
    let first = layout().first_data_cluster().0;
    let first_byte = u8::try_from(first).unwrap();
    let out_of_range = |at, what, value, min, max| CodecError::OutOfRange { at, what, value, min, max };
    let cases: [(&[u8], CodecError); 14] = [
        (&[0], CodecError::Kind { at: 0, kind: 0 }),
        (&[MARK_DYING, 3, 14], CodecError::Kind { at: 2, kind: 14 }),
        (&[MARK_DYING], CodecError::Short { at: 1, needed: 1, left: 0 }),
        (&[MARK_DYING, 0x80, 0], CodecError::Number { at: 1 }),
        (
            &[MARK_DYING, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            CodecError::Number { at: 1 },
        ),
        (&[MARK_DYING, 24], out_of_range(1, "root page", 24, 0, 23)),
        (&[MAP, 1, 0, 0, 0, 1], out_of_range(3, "cluster", 0, u64::from(first), 63)),
        (&[MAP, 1, 0, 64, 0, 1], out_of_range(3, "cluster", 64, u64::from(first), 63)),
        (&[MAP, 1, 0, first_byte, 4, 1], out_of_range(4, "first block", 4, 0, 3)),
        (&[MAP, 1, 0, first_byte, 1, 4], out_of_range(5, "blocks", 4, 1, 3)),
        (&[ZERO_BLOCKS, 1, 0, 1, 0], out_of_range(4, "blocks", 0, 1, 3)),
        (&[ZERO_CLUSTERS, 1, 0, 0], out_of_range(3, "clusters", 0, 1, LVOL_CLUSTERS_MAX)),
        (&[RESIZE, 1, 9, 1, 0, 63, 2], out_of_range(6, "clusters of a run", 2, 1, 1)),
        (&[RELEASE, 1, 200, 1, 0], CodecError::Short { at: 2, needed: 200, left: 1 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode_all(bytes, &layout()), Err(error), "{bytes:?}");
    }
    let mut large = Vec::new();
    head(&mut large, SET_XATTR, BlobId::from_root(MdPageIdx(1)));
    put_xattr(&mut large, &Xattr::new([1; 64], [2; 4000]));
    assert_eq!(decode_all(&large, &layout()), Err(CodecError::Xattr { at: 2, length: 4064 }));
    let text = CodecError::Xattr { at: 2, length: 4064 }.to_string();
    assert_eq!(text, "byte 2: xattr of 4064 bytes, at most 4063");
}

#[test]
fn a_store_without_room_for_data_maps_nothing() {
    let first = layout().metadata_clusters();
    let full = Layout { total_clusters: first, ..layout() };
    let cluster = u8::try_from(first).unwrap();
    for cluster in [cluster - 1, cluster] {
        assert!(decode_all(&[MAP, 1, 0, cluster, 0, 1], &full).is_err());
    }
}
