use super::*;

const TIB: u64 = 1 << 40;
const MIB: u32 = 1 << 20;

fn params(size_bytes: u64, cluster_size: u32) -> LayoutParams {
    let md_len = md_len_for_ratio(size_bytes, cluster_size, 100);
    LayoutParams {
        size_bytes,
        cluster_size,
        io_unit_size: 512,
        md_page_size: 4096,
        md_len,
        room: MaskRoom::default(),
    }
}

#[test]
fn worked_example() {
    let layout = Layout::plan(&params(TIB, 4 * MIB)).unwrap();
    assert_eq!(layout.total_clusters, 262_144);
    assert_eq!(layout.used_page_mask, Region { start: 1, len: 9 });
    assert_eq!(layout.used_cluster_mask, Region { start: 10, len: 9 });
    assert_eq!(layout.used_blobid_mask, Region { start: 19, len: 9 });
    assert_eq!(layout.md_start, 28);
    assert_eq!(layout.metadata_clusters(), 257);
    assert_eq!(layout.total_data_clusters(), 261_887);
    assert_eq!(layout.max_growable_bytes(), (9 * 4096 - 5) * 8 * 4 * u64::from(MIB));
    assert_eq!(layout.check(), Ok(()));
}

#[test]
fn offsets() {
    let layout = Layout::plan(&LayoutParams { md_page_size: 8192, ..params(512 << 20, MIB) }).unwrap();
    assert_eq!(layout.md_start, 4);
    assert_eq!(layout.md_page_offset(MdPageIdx(2)), 6 * 8192);
    assert_eq!(layout.cluster_offset(ClusterIdx(7)), 7 << 20);
    assert_eq!(layout.mask_offset(MaskKind::Clusters), 2 * 8192);
    assert_eq!(layout.mask_bytes(MaskKind::Clusters), 8192);
    assert_eq!(layout.metadata_clusters(), 5);
    assert!(layout.contains_md(MdPageIdx(511)) && !layout.contains_md(MdPageIdx(512)));
    for (cluster, data) in [(0, false), (4, false), (5, true), (511, true), (512, false)] {
        assert_eq!(layout.contains_data_cluster(ClusterIdx(cluster)), data);
    }
}

#[test]
fn refuses() {
    let base = params(TIB, 4 * MIB);
    let cases = [
        (LayoutParams { md_page_size: 2048, ..base }, LayoutError::MdPageSize { md_page_size: 2048 }),
        (LayoutParams { md_page_size: 12288, ..base }, LayoutError::MdPageSize { md_page_size: 12288 }),
        (LayoutParams { io_unit_size: 8192, ..base }, LayoutError::IoUnitSize { io_unit_size: 8192 }),
        (LayoutParams { io_unit_size: 0, ..base }, LayoutError::IoUnitSize { io_unit_size: 0 }),
        (
            LayoutParams { cluster_size: 0, ..base },
            LayoutError::ClusterSize { cluster_size: 0, md_page_size: 4096 },
        ),
        (
            LayoutParams { cluster_size: 8192, md_page_size: 16384, ..base },
            LayoutError::ClusterSize { cluster_size: 8192, md_page_size: 16384 },
        ),
        (
            LayoutParams { size_bytes: 4095, cluster_size: 4096, ..base },
            LayoutError::TooSmall { size_bytes: 4095, cluster_size: 4096 },
        ),
        (
            LayoutParams { size_bytes: 1 << 44, cluster_size: 4096, ..base },
            LayoutError::TooManyClusters { clusters: 1 << 32, cluster_size: 4096 },
        ),
        (LayoutParams { md_len: 0, ..base }, LayoutError::MdLen { md_len: 0 }),
        (LayoutParams { md_len: u32::MAX, ..base }, LayoutError::MdLen { md_len: u32::MAX }),
        (
            LayoutParams { md_len: 1 << 30, ..base },
            LayoutError::NoRoom { needed: (1 << 20) + 97, total_clusters: 262_144 },
        ),
    ];
    for (params, error) in cases {
        assert_eq!(Layout::plan(&params), Err(error));
    }
}

#[test]
fn ratio_does_not_wrap() {
    assert_eq!(md_len_for_ratio(512 << 20, MIB, 100), 512);
    assert_eq!(md_len_for_ratio(512 << 20, MIB, 10), 51);
    assert_eq!(md_len_for_ratio(512 << 20, 0, 10), 0);
    assert_eq!(md_len_for_ratio(u64::MAX, 4096, 1_000_000), u32::MAX - 1);
}

#[test]
fn grows_up_to_the_mask() {
    let layout = Layout::plan(&params(512 << 20, MIB)).unwrap();
    let max = layout.max_growable_bytes();
    let grown = layout.grown(max, layout.md_len).unwrap();
    assert_eq!(u64::from(grown.total_clusters), max >> 20);
    assert_eq!((grown.md_start, grown.md_len), (layout.md_start, layout.md_len));
    let beyond = max + u64::from(MIB);
    assert_eq!(layout.grown(beyond, layout.md_len), Err(LayoutError::MaskRoom { needed: 2, room: 1 }));
    assert_eq!(layout.growable_bytes(), max);
    let less = LayoutError::Shrinks { size_bytes: 1, present_bytes: 512 << 20 };
    assert_eq!(layout.grown(1, layout.md_len), Err(less));
}

#[test]
fn grows_as_far_as_it_was_given_room() {
    let room = MaskRoom { clusters: 100_000, md_pages: 40_000 };
    let layout = Layout::plan(&LayoutParams { room, ..params(512 << 20, MIB) }).unwrap();
    let plain = Layout::plan(&params(512 << 20, MIB)).unwrap();
    // Two pages hold 40,000 bits, four hold 100,000.
    assert_eq!((layout.used_page_mask, layout.used_cluster_mask.start), (plain.used_page_mask, 3));
    assert_eq!((layout.used_blobid_mask, layout.md_start), (Region { start: 7, len: 1 }, 9));
    assert_eq!((layout.check(), layout.growable_clusters()), (Ok(()), (4 * 4096 - 5) * 8));
    let grown = layout.grown(layout.growable_bytes(), layout.md_len).unwrap();
    assert_eq!((grown.total_clusters, grown.used_cluster_mask.len), (layout.growable_clusters(), 4));
    let beyond = layout.growable_bytes() + u64::from(MIB);
    assert_eq!(layout.grown(beyond, layout.md_len), Err(LayoutError::MaskRoom { needed: 5, room: 4 }));
    // No room is asked for that SPDK would not give anyway.
    let little = MaskRoom { clusters: 1, md_pages: 1 };
    assert_eq!(Layout::plan(&LayoutParams { room: little, ..params(512 << 20, MIB) }), Ok(plain));
}

#[test]
fn checks_areas() {
    let good = Layout::plan(&params(512 << 20, MIB)).unwrap();
    let check = |edit: fn(&mut Layout)| {
        let mut layout = good.clone();
        edit(&mut layout);
        layout.check().unwrap_err()
    };
    let page_mask = Area::Mask(MaskKind::MdPages);
    let cluster_mask = Area::Mask(MaskKind::Clusters);
    assert_eq!(
        check(|layout| layout.used_page_mask.start = 0),
        Fault::AreaOutside { area: page_mask, start: 0, len: 1, first: 1, end: 4 }
    );
    assert_eq!(
        check(|layout| layout.used_page_mask.len = u32::MAX),
        Fault::AreaOutside { area: page_mask, start: 1, len: u64::from(u32::MAX), first: 1, end: 4 }
    );
    assert_eq!(
        check(|layout| layout.used_cluster_mask.start = 1),
        Fault::Overlap { area: cluster_mask, other: page_mask }
    );
    assert_eq!(
        check(|layout| layout.total_clusters = 40_000),
        Fault::AreaShort { area: cluster_mask, len: 1, needed: 2 }
    );
    assert_eq!(
        check(|layout| layout.md_len = 0),
        Fault::AreaShort { area: Area::MdPages, len: 0, needed: 1 }
    );
    assert_eq!(
        check(|layout| layout.total_clusters = 2),
        Fault::AreaOutside { area: Area::MdPages, start: 4, len: 512, first: 1, end: 512 }
    );
    let mut old = good.clone();
    old.used_blobid_mask = Region::default();
    assert_eq!(old.check(), Ok(()));
    assert_eq!(old.mask_bytes(MaskKind::BlobIds), 0);
    assert_eq!(old.cluster_mask_room(), 2);
}

#[test]
fn the_copy_of_the_super_block_stands_where_nothing_else_counts() {
    let small = Layout::plan(&params(512 << 20, MIB)).unwrap();
    let large = Layout::plan(&LayoutParams { md_page_size: 8192, ..params(512 << 20, MIB) }).unwrap();
    let swapped = Layout {
        used_page_mask: small.used_cluster_mask,
        used_cluster_mask: small.used_page_mask,
        ..small.clone()
    };
    assert_eq!(swapped.check(), Ok(()));
    let behind_a_gap = Layout { used_page_mask: Region { start: 2, len: 1 }, ..small.clone() };
    for (layout, copy) in [(small, Some(4096)), (large, Some(4096)), (swapped, None), (behind_a_gap, None)] {
        assert_eq!(layout.super_block_copy(), copy);
    }
}
