//! Every limit of the engine in one place.

/// Most bytes of the key and the value of a label together.
pub const LABEL_BYTES_MAX: usize = 1024;

/// Most labels of an lvol.
pub const LABELS_MAX: usize = 64;

/// Longest name of an lvstore or lvol that may be given, in bytes. The format stores 64 with the final NUL.
pub const NAME_BYTES_MAX: usize = 63;

/// Largest lvol in bytes (8 EiB less one): offsets must fit a signed 64-bit integer for NBD and `lseek`.
pub const LVOL_BYTES_MAX: u64 = i64::MAX as u64;

/// Most clusters of one lvol: what the format crate lets a table of extent pages name.
pub const LVOL_CLUSTERS_MAX: u64 = offshoot_format::EXTENT_PAGES_MAX as u64 * 512;

/// Longest chain of snapshots below an lvol. Reading costs the same at any depth; loading and listing do not.
pub const CHAIN_DEPTH_MAX: u32 = 65_536;

/// Extent pages that one step of releasing a dying blob frees: bounds the time in which nothing else runs.
pub const RELEASE_ORDINALS: usize = 8;

/// Bytes that one step of a job copies at most: bounds the memory it takes, and how long it keeps a write waiting.
pub const FILL_BYTES: u64 = 1 << 20;

/// Steps of jobs under way at the same time.
pub const FILLS_AT_ONCE: usize = 8;

/// Those while clients wait for something.
pub const FILLS_BESIDE_OTHERS: usize = 2;

/// Clusters that one record zeroes at most: what it makes dirty must fit the journal.
pub const ZERO_CLUSTERS_AT_ONCE: u64 = 4096;

/// Bytes of one device read while loading.
pub const BULK_BYTES: u64 = 1 << 20;

/// Reads under way at the same time while loading.
pub const LOAD_READS_IN_FLIGHT: usize = 8;

/// Bytes of one discard of freed clusters: bounds how long it can keep a write waiting.
pub const DISCARD_BYTES: u64 = 4 << 20;

/// How many times as large a new store can become: its masks have room for that.
pub const GROWTH: u32 = 64;

/// Clusters beyond which a new store has room to become twice as large only.
pub const GROWTH_CLUSTERS: u32 = 1 << 24;

/// Bytes of a store for one byte of its journal.
pub const JOURNAL_SHARE: u64 = 1024;

/// Least room that a new store gets for its journal, in bytes.
pub const JOURNAL_BYTES_MIN: u64 = 4 << 20;

/// Most room for a journal, in bytes: after a crash all of it is read.
pub const JOURNAL_BYTES_MAX: u64 = 128 << 20;

/// Least room that a journal works with, in bytes.
pub const JOURNAL_BYTES_LEAST: u64 = 64 << 10;

/// Bytes of one frame of images, at most.
pub const IMAGE_FRAME_BYTES: u64 = 256 << 10;

/// Md pages that only renaming, shrinking and removing may use: with them a full store can be emptied again.
pub const MD_PAGES_KEPT: usize = 4;

/// Clusters of which something is being copied behind a read at one time, at most.
pub const KEPT_AT_ONCE: usize = 4;

/// Bytes that a new store zeroes in one operation, where zeros are to take space.
pub const CLEAR_BYTES: u64 = 64 << 20;
