//! `offshoot grow`: a store becomes as large as its file or block device is, or is made.

use crate::deed::Growth;
use crate::open::StoreArgs;
use crate::size::Size;
use clap::Args;
use serde::{Deserialize, Serialize};

/// Make a store larger
///
/// It takes all that its file or block device has by now. Where md pages run short for that, it gets more of them: the
/// clusters behind them are moved out of the way first. How far both can grow `offshoot info` tells. Lvols can be in use
/// meanwhile. If it is interrupted, the next run goes on from there.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct GrowArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Make the file as long as this first. A block device is made larger by other means
    #[arg(long)]
    size: Option<Size>,
    /// Give it so many md pages, for more lvols than suit its size
    #[arg(long, value_name = "PAGES")]
    md_pages: Option<u32>,
    /// How many bytes a second it may move
    #[arg(long, value_name = "SIZE")]
    rate: Option<Size>,
}

impl GrowArgs {
    /// What is to be done.
    pub(crate) fn growth(&self) -> Growth {
        let Self { store, size, md_pages, rate } = self;
        Growth { path: store.path.clone(), size: *size, md_pages: *md_pages, rate: *rate }
    }
}
