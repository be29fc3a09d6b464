//! `offshoot create`: a new lvol.

use super::identity;
use crate::clear::ClearMethod;
use crate::deed::{Change, Planned};
use crate::interrupt::Interrupt;
use crate::open::StoreArgs;
use crate::progress::Progress;
use crate::size::{Bytes, Size};
use crate::watched::Watch;
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
        let size_bytes = self.size_bytes()?;
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

impl CreateArgs {
    fn size_bytes(&self) -> Result<u64> {
        match self.size.bytes()? {
            0 => bail!("an lvol of size 0 holds nothing"),
            size_bytes => Ok(size_bytes),
        }
    }
}

/// Makes the lvol, and shows how far the zeroing of a thick one is. Returns what to print.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &CreateArgs) -> Result<String> {
    let size_bytes = args.size_bytes()?;
    let interrupt = args.thick.then(Interrupt::install).transpose()?;
    let watch = || {
        let progress = Progress::new("create", Some(size_bytes));
        let interrupt = interrupt.clone()?;
        Some(Watch { progress, interrupt })
    };
    let made = args.store.change_watched(watch, |store| {
        let Planned { verb, said, .. } = args.plan(store.state())?;
        let made = store.execute(verb)?;
        Ok(said(store.state(), &made))
    });
    if made.is_err()
        && let Some(interrupt) = interrupt
    {
        // What the device says of being interrupted is no news to who did it.
        interrupt.check()?;
    }
    made
}
