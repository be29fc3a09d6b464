//! Tiny stores: so small that checkpoints, laps of the ring and a lack of space come often, and that a crash can be
//! looked at in a fraction of a millisecond.

use crate::disk::{Caching, DiskState, SimDisk};
use crate::random::Random;
use offshoot_block::{BlockDevice, OpId};
use offshoot_format::ClearMethod;
use offshoot_store::limits::JOURNAL_BYTES_LEAST;
use offshoot_store::{InitOptions, init};
use uuid::Uuid;

/// Bytes of an md page.
pub(crate) const MD_PAGE_BYTES: u32 = 4096;

/// Clusters of a disk that its store does not have until it grows.
const SPARE_CLUSTERS: u64 = 4;

/// What store and disk of a run are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setup {
    /// Bytes of a cluster.
    pub cluster_size: u32,
    /// Bytes of the block that lvols show.
    pub block_size: u32,
    /// Logical block of the disk in bytes.
    pub logical_block: u32,
    /// Room for the journal's ring in bytes.
    pub journal_bytes: u64,
    /// Clusters for data.
    pub data_clusters: u32,
    /// Whether partial and zero clusters may arise.
    pub native: bool,
    /// Whether the disk has a volatile cache.
    pub volatile_cache: bool,
    /// Whether the store is told when the power was not lost.
    pub session_known: bool,
}

impl Setup {
    /// The setup of enumerations.
    pub const SMALLEST: Self = Self {
        cluster_size: 16 << 10,
        block_size: 512,
        logical_block: 512,
        journal_bytes: 128 << 10,
        data_clusters: 48,
        native: true,
        volatile_cache: true,
        session_known: true,
    };

    /// One of many.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let cluster_size = [16, 32, 64][random.index(3)] << 10;
        let (block_size, logical_block) =
            [(512, 512), (512, 512), (512, 4096), (4096, 4096)][random.index(4)];
        // Frames are whole blocks: larger ones take a larger ring.
        let factor = if logical_block == 512 { [1, 2, 4][random.index(3)] } else { 1 + random.below(2) };
        Self {
            cluster_size,
            block_size,
            logical_block,
            journal_bytes: JOURNAL_BYTES_LEAST * u64::from(logical_block / 512) * factor,
            data_clusters: [24, 48, 96][random.index(3)],
            native: random.chance(4, 5),
            volatile_cache: random.chance(4, 5),
            session_known: random.chance(5, 6),
        }
    }

    /// An empty store at rest.
    ///
    /// # Panics
    /// When no store can be made like that, which is a mistake in the setup.
    #[must_use]
    pub fn blank(&self) -> DiskState {
        let size_bytes = self.size_bytes();
        let made = init(size_bytes, &self.options());
        let (_, _, ops) = made.expect("a store was planned on a disk of this size");
        let caching = if self.volatile_cache { Caching::Volatile } else { Caching::WriteThrough };
        let spare_bytes = SPARE_CLUSTERS * u64::from(self.cluster_size);
        let mut disk = SimDisk::new(size_bytes + spare_bytes, self.logical_block, caching, 1);
        let mut completions = Vec::new();
        for op in ops {
            disk.submit(OpId(0), op);
            disk.wait(&mut completions);
        }
        disk.state()
    }

    fn options(&self) -> InitOptions {
        InitOptions {
            name: "sim".into(),
            uuid: Uuid::from_u128(1),
            cluster_size: self.cluster_size,
            block_size: self.block_size,
            md_page_size: MD_PAGE_BYTES,
            journal_bytes: Some(self.journal_bytes),
            native: self.native,
            clear_method: ClearMethod::Default,
        }
    }

    /// The smallest disk with room for the wanted clusters.
    fn size_bytes(&self) -> u64 {
        let data_clusters = |size_bytes: u64| {
            let (state, ..) = init(size_bytes, &self.options()).ok()?;
            Some(state.layout.total_data_clusters())
        };
        let sizes = (1..4096).map(|clusters| clusters * u64::from(self.cluster_size));
        let enough = sizes.into_iter().find(|size| data_clusters(*size) >= Some(self.data_clusters));
        enough.expect("a few thousand clusters hold any setup")
    }
}
