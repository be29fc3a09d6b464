//! How to open a file.

use crate::LockMode;

/// How a [`FileDevice`](crate::FileDevice) is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Refuse operations that change content. The file is opened without the right to write.
    pub read_only: bool,
    /// Whether to go past the page cache.
    pub direct: Direct,
    /// How system calls are made.
    pub engine: EngineChoice,
    /// The logical block in bytes, 512 or 4096. `None`: the smallest that the medium can do, for a
    /// block device its own. Smaller than `O_DIRECT` allows makes I/O go through the page cache.
    pub logical_block: Option<u32>,
    /// Who else may have the store open, `None` to take no lock.
    pub lock: Option<LockMode>,
}

impl OpenOptions {
    /// For a writer: exclusive lock, `O_DIRECT` and io_uring where possible.
    #[must_use]
    pub fn writable() -> Self {
        Self {
            read_only: false,
            direct: Direct::Auto,
            engine: EngineChoice::Auto,
            logical_block: None,
            lock: Some(LockMode::Exclusive),
        }
    }

    /// For a reader: shared lock, otherwise like [`OpenOptions::writable`].
    #[must_use]
    pub fn read_only() -> Self {
        Self { read_only: true, lock: Some(LockMode::Shared), ..Self::writable() }
    }
}

impl Default for OpenOptions {
    /// [`OpenOptions::writable`].
    fn default() -> Self {
        Self::writable()
    }
}

/// Whether to go past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direct {
    /// `O_DIRECT` where the file system and the logical block allow it.
    #[default]
    Auto,
    /// Through the page cache.
    Never,
}

/// Which engine to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring, or threads where the kernel or a sandbox refuses it.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Threads.
    Threads,
}

/// How a device makes its system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// An io_uring of its own.
    Uring,
    /// A pool of threads of its own.
    Threads,
}
