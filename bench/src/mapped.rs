//! Stores whose lvols own everything, made without writing everything: the metadata is laid down as md pages.
//!
//! The store is one of [`Store::init`], to which blobs, masks and nothing else are added: a plain store at rest in a
//! sparse file. Only a crash of a session that changed something makes it a native one.

use crate::raw;
use crate::stores::{Scratch, opening, options};
use anyhow::{Context as _, Result};
use offshoot_block::{BlockDevice, Buffer, DeviceOffset, DeviceOp};
use offshoot_device::FileDevice;
use offshoot_format::{
    Bitmap, BlobCluster, BlobId, BlobMd, CLUSTERS_PER_EXTENT_PAGE, ClusterIdx, ExtentOrdinal, ExtentPage,
    Flags, InvalidFlags, Layout, LvolIdentity, MD_STRUCT_BYTES, MapMd, MaskKind, MdPageIdx, PageImage, Uuid,
    encode_mask,
};
use offshoot_store::Store;

/// What a mapped store is like.
pub(crate) struct Mapped {
    pub(crate) size_bytes: u64,
    pub(crate) cluster_size: u32,
    /// Lvols of the same size that share the clusters. Each has every so-many-th one: what written volumes look like
    /// when they grew side by side, and no map of long runs.
    pub(crate) lvols: u32,
    /// Clusters that stay free.
    pub(crate) spare: u32,
    /// Whether the md region is written from end to end instead of left sparse, so that reading what is not in use
    /// costs what it costs on a disk.
    pub(crate) whole_md_region: bool,
}

impl Mapped {
    /// Makes the store in a new file.
    pub(crate) fn make(&self, file: &Scratch) -> Result<()> {
        let device = file.device(self.size_bytes)?;
        let store = Store::init(device, &options(self.cluster_size, 4096), &opening())?;
        let layout = store.state().layout.clone();
        let mut md = store.state().md.used().clone();
        let (mut device, closed) = store.close();
        closed?;
        if self.whole_md_region {
            // Behind what `init` wrote there.
            let first = md.first_zero_from(0).and_then(|page| u32::try_from(page).ok()).unwrap_or(0);
            let end = layout.md_page_offset(MdPageIdx(layout.md_len));
            raw::fill(&mut device, layout.md_page_offset(MdPageIdx(first))..end, true)?;
        }
        let mut clusters = Bitmap::new(layout.total_clusters as usize);
        (0..layout.metadata_clusters()).for_each(|cluster| clusters.set(cluster as usize, true));
        let mut roots = md.clone();
        let mut next_page = u32::try_from(md.first_zero_from(0).context("free md pages")?)?;
        for lvol in 0..self.lvols {
            let root = MdPageIdx(next_page);
            roots.set(root.0 as usize, true);
            let pages = self.lvol(&layout, lvol, root, &mut clusters);
            write_run(&mut device, &layout, root, &pages)?;
            next_page += u32::try_from(pages.len())?;
            (root.0..next_page).for_each(|page| md.set(page as usize, true));
        }
        for (kind, bits) in MaskKind::ALL.into_iter().zip([&md, &clusters, &roots]) {
            let mask = encode_mask(kind, bits, layout.mask_bytes(kind));
            write(&mut device, layout.mask_offset(kind), &mask)?;
        }
        raw::timed(&mut device, DeviceOp::Sync).map(drop)
    }

    /// The md pages of an lvol, from its root on, without gaps. Marks its clusters.
    fn lvol(&self, layout: &Layout, number: u32, root: MdPageIdx, used: &mut Bitmap) -> Vec<PageImage> {
        let id = BlobId::from_root(root);
        let len = u64::from((layout.total_data_clusters() - self.spare) / self.lvols);
        let first = layout.first_data_cluster().0 + number;
        let cluster = |at: u64| u32::try_from(at).ok().map(|at| ClusterIdx(first + at * self.lvols));
        let ordinals = u32::try_from(MapMd::extent_page_count(len)).unwrap_or(u32::MAX);
        let extents = (0..ordinals).map(ExtentOrdinal).map(|ordinal| {
            let BlobCluster(start) = ordinal.first_cluster();
            let end = len.min(start + CLUSTERS_PER_EXTENT_PAGE as u64);
            let clusters: Vec<_> = (start..end).map(cluster).collect();
            clusters.iter().flatten().for_each(|cluster| used.set(cluster.0 as usize, true));
            ExtentPage { id, start: u32::try_from(start).unwrap_or(u32::MAX), clusters }.encode()
        });
        let extents: Vec<PageImage> = extents.collect();
        let table = (root.0 + 1..=root.0 + ordinals).map(|page| Some(MdPageIdx(page))).collect();
        let blob = blob(id, number, MapMd::Table { num_clusters: len, pages: table });
        let behind = (root.0 + 1 + ordinals..).map(MdPageIdx);
        let chain: Vec<MdPageIdx> = std::iter::once(root).chain(behind).take(blob.chain_len()).collect();
        let mut chain = blob.encode_chain(&chain).into_iter();
        chain.next().into_iter().chain(extents).chain(chain).collect()
    }
}

/// The name of the lvol of this number.
pub(crate) fn lvol_name(number: u32) -> String {
    format!("full{number}")
}

fn blob(id: BlobId, number: u32, map: MapMd) -> BlobMd {
    let identity = LvolIdentity {
        name: lvol_name(number).into_bytes(),
        uuid: Some(Uuid::from_u128(u128::from(number) + 1)),
    };
    let invalid = InvalidFlags::THIN_PROV | InvalidFlags::EXTENT_TABLE;
    BlobMd {
        id,
        flags: Flags { invalid, ..Flags::default() },
        xattrs: identity.xattrs(),
        internal_xattrs: Vec::new(),
        native: None,
        map,
        unknown: Vec::new(),
    }
}

/// Writes adjacent md pages.
fn write_run(device: &mut FileDevice, layout: &Layout, first: MdPageIdx, pages: &[PageImage]) -> Result<()> {
    const PAGES_AT_ONCE: usize = 1024;
    let stride = layout.md_page_size as usize;
    for (chunk, start) in pages.chunks(PAGES_AT_ONCE).zip((first.0..).step_by(PAGES_AT_ONCE)) {
        let mut bytes = vec![0; chunk.len() * stride];
        for (slot, page) in bytes.chunks_mut(stride).zip(chunk) {
            slot[..MD_STRUCT_BYTES].copy_from_slice(page);
        }
        write(device, layout.md_page_offset(MdPageIdx(start)), &bytes)?;
    }
    Ok(())
}

fn write(device: &mut impl BlockDevice, offset: u64, bytes: &[u8]) -> Result<()> {
    let op = DeviceOp::Write { offset: DeviceOffset(offset), buffer: Buffer::copy_of(bytes) };
    raw::timed(device, op).map(drop)
}
