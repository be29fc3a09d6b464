//! `offshoot grow`: a store becomes as large as its file or block device is, or is made.

use crate::deed::Growth;
use crate::open::StoreArgs;
use crate::size::Size;
use clap::Args;
use serde::{Deserialize, Serialize};

/// Make a store larger
///
/// It takes all that its file or block device has by now. How far it can grow `offshoot info` tells. Lvols can be in use
/// meanwhile.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct GrowArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Make the file as long as this first. A block device is made larger by other means
    #[arg(long)]
    size: Option<Size>,
}

impl GrowArgs {
    /// What is to be done.
    pub(crate) fn growth(&self) -> Growth {
        Growth { path: self.store.path.clone(), size: self.size }
    }
}
