//! The copy-on-write engine of offshoot.
//!
//! Promises: the contract of `docs/durability.md` as far as it can be kept without a clock or a disk of its own.
//! A store is a [`State`]; every change of it is a [`Record`] that [`State::apply`] makes true; a [`Verb`] plans
//! records; the [`Engine`] moves data and commits; a checkpoint writes State as md pages in SPDK's format.
//!
//! Will never do: I/O, threads, clocks, randomness, files, JSON. Operations with owned buffers go out, completions
//! come in; uuids and times are arguments. The same engine runs over io_uring, over memory and in a simulation.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod apply;
mod audit;
mod blob;
mod checkpoint;
mod engine;
mod error;
mod init;
mod io;
mod journal;
pub mod limits;
mod load;
pub mod map;
mod options;
mod pages;
mod pool;
mod query;
mod record;
mod repair;
mod rules;
pub mod signature;
mod state;
mod store;
mod verb;

pub use blob::{
    Blob, External, LABEL_PREFIX, XATTR_COPY_ON_READ, XATTR_CREATED, XATTR_DELETED, XATTR_RESERVE, escape,
};
pub use checkpoint::{blob_md, extent_page, layer_pages};
pub use engine::{Counters, Engine, IoRequest, JournalFill, Progress, Reply, Target, Ticket, Work};
pub use error::{During, Error, ErrorKind, Failure, LoadError, ReadOnlyCause};
pub use init::{InitError, InitOptions, init};
pub use io::Extent;
pub use journal::JournalDamage;
pub use load::{ClusterCopy, Finding, Found, Loaded, Loader, Note, Recovery, Repairs};
pub use offshoot_format::ClearMethod;
pub use options::{OpenOptions, Session};
pub use pages::{BlobPages, OrdinalMd, Section, SectionMd, Spread, Totals};
pub use pool::Pool;
pub use query::{Change, Diff, LvolSpace, StoreSpace};
pub use record::{Assignment, Below, Encoding, Lsn, MappedRun, Record};
pub use rules::{Clause, Rules};
pub use state::{State, Units, XATTR_NATIVE};
pub use store::{CreateError, ExternalDevice, Store};
pub use verb::{CreateOptions, Identity, Plan, Underlay, Verb, WorkCost, check_name};
