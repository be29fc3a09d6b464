//! `offshoot check --repair`: what can be put right is, and can be undone.
//!
//! A dry run is the same repair on a device whose changes stay in memory, so it cannot promise anything else.

use super::treatment::treated;
use super::{CheckArgs, fatal, findings_of, headline};
use crate::json::{self, Damage, RepairReport, Treated};
use crate::open;
use crate::report::Outcome;
use crate::time::{self, Utc};
use anyhow::{Context as _, Result, anyhow, bail};
use offshoot_block::BlockDevice;
use offshoot_device::{FileDevice, OpenOptions, OverlayDevice, UndoDevice, UndoLog, UndoOf};
use offshoot_store::{Error, Finding, LoadError, Repairs, Store};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What a look at a store tells.
struct Look {
    findings: Vec<Finding>,
    lvols: usize,
    /// UUID of the store; zeros where it has none.
    store: [u8; 16],
}

/// Repairs the store, or says what that would do.
///
/// # Errors
/// The store cannot be opened, for another reason than damage, or the repair fails: then it can be undone.
pub(super) fn run(args: &CheckArgs) -> Result<Outcome> {
    let path = &args.store.path;
    let access = if args.dry_run { OpenOptions::read_only() } else { OpenOptions::writable() };
    let mut device = open::device(path, &access)?;
    let options = open::opening(&device, true);
    let before = match look(&mut device, &options) {
        Ok(before) => before,
        Err(error) => return hopeless(args, fatal(anyhow!(error).context(path.display().to_string()))?),
    };
    if before.findings.is_empty() {
        return sound(args, before.lvols);
    }
    let (repairs, after, undo) = match args.dry_run {
        true => {
            let repairing = open::repairing(&device);
            let mut overlay = OverlayDevice::new(device);
            let repairs = repair(&mut overlay, &repairing)?;
            (repairs, look(&mut overlay, &options)?, None)
        }
        false => {
            let undo = args.undo.clone().unwrap_or_else(|| default_undo(path));
            let (repairs, undo, mut device) = repair_with_undo(device, before.store, &undo)?;
            (repairs, look(&mut device, &options).with_context(|| undo_hint(path, undo.as_deref()))?, undo)
        }
    };
    let treated = treated(&before.findings, &repairs, &after.findings);
    show(args, treated, undo)
}

/// Loads the store without writing to it.
fn look<D: BlockDevice>(device: &mut D, options: &offshoot_store::OpenOptions) -> Result<Look, LoadError> {
    let store = Store::open(device, Vec::new(), options)?;
    let state = store.state();
    Ok(Look {
        findings: findings_of(store.findings(), store.state()),
        lvols: state.lvols().count(),
        store: state.uuid().map_or([0; 16], uuid::Uuid::into_bytes),
    })
}

/// The session of a repair.
fn repair<D: BlockDevice>(device: &mut D, options: &offshoot_store::OpenOptions) -> Result<Repairs> {
    let store = Store::open(device, Vec::new(), options)?;
    if let Some(cause) = store.engine().read_only_cause() {
        bail!(Error::ReadOnlyStore(cause));
    }
    let repairs = store.repairs().clone();
    store.close().1?;
    Ok(repairs)
}

/// The same behind an undo file, which goes away again if nothing was written.
fn repair_with_undo(
    device: FileDevice,
    store: [u8; 16],
    undo: &Path,
) -> Result<(Repairs, Option<PathBuf>, FileDevice)> {
    let options = open::repairing(&device);
    let log = UndoLog::create(undo, UndoOf { device_bytes: device.geometry().size_bytes, store })?;
    let mut device = UndoDevice::new(device, log);
    let repaired = repair(&mut device, &options);
    let is_needed = !device.log().is_empty();
    let (device, finished) = device.finish();
    if !is_needed {
        std::fs::remove_file(undo).with_context(|| undo.display().to_string())?;
    }
    let undo = is_needed.then(|| undo.to_owned());
    // What the undo file says of itself explains why the device failed.
    finished.map_err(anyhow::Error::from).and(repaired).map_or_else(
        |error| match &undo {
            Some(undo) => {
                Err(error.context(format!("the repair failed: undo it with --undo {}", undo.display())))
            }
            None => Err(error),
        },
        |repairs| Ok((repairs, undo.clone(), device)),
    )
}

fn undo_hint(store: &Path, undo: Option<&Path>) -> String {
    let undo =
        undo.map_or_else(String::new, |undo| format!(": undo the repair with --undo {}", undo.display()));
    format!("{} cannot be opened after its repair{undo}", store.display())
}

/// Where the undo file goes if nobody says.
fn default_undo(store: &Path) -> PathBuf {
    let name = store.file_name().map_or_else(|| "store".into(), |name| name.to_string_lossy().into_owned());
    let now = Utc::of(time::now()).map_or_else(|| "now".into(), Utc::compact);
    PathBuf::from(format!("{name}-{now}.undo"))
}

fn sound(args: &CheckArgs, lvols: usize) -> Result<Outcome> {
    if args.json {
        return show(args, Vec::new(), None);
    }
    writeln!(io::stdout(), "no damage found in {lvols} lvols")?;
    Ok(Outcome::Done)
}

/// Nothing of the store can be read.
fn hopeless(args: &CheckArgs, damage: Damage) -> Result<Outcome> {
    show(args, vec![Treated { damage, repaired: false, note: None }], None)
}

fn show(args: &CheckArgs, damage: Vec<Treated>, undo: Option<PathBuf>) -> Result<Outcome> {
    let left = damage.iter().filter(|treated| !treated.repaired).count();
    let outcome = if left == 0 { Outcome::Done } else { Outcome::Damage };
    let undo = undo.map(|undo| undo.display().to_string());
    if args.json {
        json::print(&RepairReport { damage, left, dry_run: args.dry_run, undo })?;
        return Ok(outcome);
    }
    let mut text = String::new();
    for Treated { damage, repaired, note } in &damage {
        let what = match (repaired, args.dry_run) {
            (true, false) => "repaired",
            (true, true) => "would be repaired",
            (false, _) => "left",
        };
        writeln!(text, "{}", headline(damage))?;
        writeln!(text, "  {what}: {}", damage.repair)?;
        for line in note.iter().flat_map(|note| note.split("; ")) {
            writeln!(text, "  {line}")?;
        }
    }
    let (done, count) = (if args.dry_run { "would be repaired" } else { "repaired" }, damage.len());
    writeln!(text, "{count} findings: {} {done}, {left} left", count - left)?;
    if let Some(undo) = undo {
        writeln!(text, "undo file: {undo}")?;
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(outcome)
}
