//! `offshoot create`: a new lvol.

use super::identity;
use crate::clear::ClearMethod;
use crate::interrupt::Interrupt;
use crate::open::StoreArgs;
use crate::progress::Progress;
use crate::report;
use crate::size::{Bytes, Size};
use crate::watched::Watch;
use anyhow::{Result, bail};
use clap::Args;
use offshoot_store::{CreateOptions, Verb, escape};

/// Make a new lvol that reads zeros
///
/// A thick one may take a while, unless the device can zero by itself. If that is interrupted, no lvol remains.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    store: StoreArgs,
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

/// Makes the lvol.
///
/// # Errors
/// Why not.
pub(crate) fn run(args: &CreateArgs) -> Result<()> {
    let size_bytes = args.size.bytes()?;
    if size_bytes == 0 {
        bail!("an lvol of size 0 holds nothing");
    }
    let interrupt = args.thick.then(Interrupt::install).transpose()?;
    let watch = || {
        let progress = Progress::new("create", Some(size_bytes));
        let interrupt = interrupt.clone()?;
        Some(Watch { progress, interrupt })
    };
    let made = args.store.change_watched(watch, |store| {
        let verb = Verb::Create {
            identity: identity(&args.name),
            size_bytes,
            options: CreateOptions {
                thick: args.thick,
                reserve: args.reserve,
                clear_method: args.clear_method.into(),
            },
        };
        let made = store.execute(verb)?;
        let state = store.state();
        let made = made.iter().filter_map(|id| state.blob(*id));
        Ok(made.map(|blob| state.bytes(blob)).sum::<u64>())
    });
    if made.is_err()
        && let Some(interrupt) = interrupt
    {
        // What the device says of being interrupted is no news to who did it.
        interrupt.check()?;
    }
    let size_bytes = made?;
    let kind = match (args.thick, args.reserve) {
        (true, true) => "thick, with a reservation",
        (true, false) => "thick",
        (false, true) => "thin, with a reservation",
        (false, false) => "thin",
    };
    let name = escape(args.name.as_bytes());
    report::done(format_args!("created lvol \"{name}\": {} ({size_bytes} bytes), {kind}", Bytes(size_bytes)));
    Ok(())
}
