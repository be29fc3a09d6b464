//! `offshoot check STORE --undo FILE`: a store becomes again what it was before its repair.

use crate::open;
use crate::report;
use crate::size::Bytes;
use anyhow::{Context as _, Result, bail};
use offshoot_device::{OpenOptions, Undo};
use offshoot_store::Store;
use std::path::Path;
use uuid::Uuid;

/// Puts back what a repair changed.
///
/// # Errors
/// The undo file is about another store, or is damaged; the store has been changed since, unless `force`.
pub(super) fn run(store: &Path, file: &Path, force: bool) -> Result<()> {
    let undo = Undo::open(file)?;
    let mut device = open::device(store, &OpenOptions::writable())?;
    let failed = || store.display().to_string();
    let options = open::opening(&device, true);
    // A repair that was interrupted may have left a store that cannot be opened.
    let found = Store::open(&mut device, Vec::new(), &options).ok().and_then(|store| store.state().uuid());
    let expected = Uuid::from_bytes(undo.of().store);
    if let Some(found) = found.filter(|found| !expected.is_nil() && *found != expected) {
        bail!("{}: is about the store {expected}, {} is {found}", file.display(), store.display());
    }
    let compared = undo.compare(&mut device).with_context(failed)?;
    if let Some(first) = compared.first_foreign.filter(|_| !force) {
        bail!(
            "{}: {} sectors, the first at byte {first}, hold what neither was there before the repair nor came from it: \
             something has changed the store since; give --force to put back what was there before the repair",
            store.display(),
            compared.foreign,
        );
    }
    undo.restore(&mut device).with_context(failed)?;
    report::done(format_args!(
        "{} is as it was before its repair: {} put back",
        report::plain(&failed()),
        Bytes(undo.saved_bytes())
    ));
    Ok(())
}
