//! `offshoot create`: a new lvol.

use super::identity;
use crate::clear::ClearMethod;
use crate::deed::{Change, Planned};
use crate::open::StoreArgs;
use crate::size::{Bytes, Size};
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::{CreateOptions, State, Verb, escape};
use serde::{Deserialize, Serialize};

/// Make a new lvol that reads zeros
///
/// A thick one may take a while, unless the device can zero by itself. If that is interrupted, no lvol remains.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Name of the lvol: 1 to 63 bytes, without control characters, `/` and `=`
    name: String,
    /// Its size, rounded up to a whole cluster
    size: Size,
    /// Allocate and zero all of it now
    #[arg(long)]
    thick: bool,
    /// Keep the space that it may need for being overwritten, also after a snapshot, which is refused where there is not as
    /// much again
    #[arg(long)]
    reserve: bool,
    /// What is done with its space when it lets go of it: by deletion or a smaller size. What a client trims is unmapped
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    clear_method: ClearMethod,
}

impl Change for CreateArgs {
    fn plan(&self, _state: &State) -> Result<Planned> {
        let size_bytes = match self.size.bytes()? {
            0 => bail!("an lvol of size 0 holds nothing"),
            size_bytes => size_bytes,
        };
        let options = CreateOptions {
            thick: self.thick,
            reserve: self.reserve,
            clear_method: self.clear_method.into(),
        };
        let verb = Verb::Create { identity: identity(&self.name), size_bytes, options };
        let kind = match (self.thick, self.reserve) {
            (true, true) => "thick, with a reservation",
            (true, false) => "thick",
            (false, true) => "thin, with a reservation",
            (false, false) => "thin",
        };
        let name = escape(self.name.as_bytes());
        Ok(Planned::new(verb, move |state, made| {
            let made = made.iter().filter_map(|id| state.blob(*id));
            let size_bytes: u64 = made.map(|blob| state.bytes(blob)).sum();
            format!("created lvol \"{name}\": {} ({size_bytes} bytes), {kind}\n", Bytes(size_bytes))
        }))
    }
}
