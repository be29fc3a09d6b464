//! What a repair changes in a State beyond what loading has put right.

use crate::blob::Blob;
use crate::limits::NAME_BYTES_MAX;
use crate::map::Leaf;
use crate::pages::OrdinalMd;
use crate::pool::Pool;
use crate::state::State;
use crate::verb::check_name;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use offshoot_format::{Bitmap, BlobId, ClusterIdx, MdPageIdx};

impl State {
    /// Gives back clusters and md pages that count as used and that nothing refers to. Where something of a blob cannot
    /// be read they may be its own, and stay.
    pub(crate) fn release_surplus(&mut self) {
        if self.blobs().any(|blob| blob.damage.is_some()) {
            return;
        }
        let mut clusters = Bitmap::new(self.clusters.used().len());
        (0..self.layout.metadata_clusters()).for_each(|cluster| clusters.set(cluster as usize, true));
        let mut pages = Bitmap::new(self.md.used().len());
        for blob in self.blobs() {
            self.own_clusters(blob).for_each(|ClusterIdx(cluster)| clusters.set(cluster as usize, true));
            own_pages(blob).for_each(|MdPageIdx(page)| pages.set(page as usize, true));
        }
        self.withheld = 0;
        release(&mut self.clusters, &clusters);
        release(&mut self.md, &pages);
    }

    fn own_clusters(&self, blob: &Blob) -> impl Iterator<Item = ClusterIdx> {
        let leaves = blob.pages.ordinals.keys().filter_map(|ordinal| blob.tree.leaf(*ordinal));
        leaves.flat_map(Leaf::entries).flat_map(|(_, entry)| {
            entry.clusters_of(|tag| self.tags.owner(tag) == Some(blob.id)).collect::<Vec<_>>()
        })
    }

    /// A name that no lvol has, for one whose own is another's.
    pub(crate) fn unique_name(&self, id: BlobId) -> String {
        let name = self.blob(id).map_or(&[][..], Blob::name);
        let kept = |char: &char| !char.is_control() && !matches!(char, '/' | '=');
        let name: String = String::from_utf8_lossy(name).chars().filter(kept).collect();
        let numbered = |number: usize| {
            let suffix = match number {
                0 => format!("-{:#x}", id.0),
                number => format!("-{:#x}-{number}", id.0),
            };
            let end = name.floor_char_boundary(NAME_BYTES_MAX.saturating_sub(suffix.len()));
            format!("{}{suffix}", &name[..end])
        };
        let is_free =
            |name: &String| check_name(name).is_ok() && self.lvol_by_name(name.as_bytes()).is_none();
        (0..).map(numbered).find(is_free).unwrap_or_else(|| id.to_string())
    }
}

fn own_pages(blob: &Blob) -> impl Iterator<Item = MdPageIdx> {
    let mapped = blob.pages.ordinals.values().flat_map(OrdinalMd::pages);
    blob.pages.chain.iter().copied().chain(mapped)
}

fn release(pool: &mut Pool, owned: &Bitmap) {
    let surplus: Vec<usize> = pool.used().iter_ones().filter(|unit| !owned.get(*unit)).collect();
    for unit in surplus.into_iter().filter_map(|unit| u32::try_from(unit).ok()) {
        pool.drop_use(unit);
        pool.release(unit);
    }
}
