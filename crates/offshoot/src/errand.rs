//! Commands that a server can run: when a running `serve` holds the store, it is asked over a private socket.
//!
//! What goes over the socket is the command with its arguments; what comes back is what to print ([`remote`]).

pub(crate) mod remote;
pub(crate) mod transfer;

use crate::commands::{
    check, clone, create, decouple, diff, dump, grow, inflate, info, label, ls, merge, read_only, rename,
    resize, revert, rm, seal, set_parent, snapshot, tree,
};
use crate::deed::{Deed, Planned, Shown};
use crate::growth;
use crate::job;
use crate::open::{Held, StoreArgs};
use crate::report::Outcome;
use anyhow::Result;
use offshoot_device::HostDevice as _;
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};

/// A command with its arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Errand {
    Info(info::InfoArgs),
    Ls(ls::LsArgs),
    Tree(tree::TreeArgs),
    Dump(dump::DumpArgs),
    Check(check::CheckArgs),
    Diff(diff::DiffArgs),
    Create(create::CreateArgs),
    Snapshot(snapshot::SnapshotArgs),
    Clone(clone::CloneArgs),
    Rm(rm::RmArgs),
    Resize(resize::ResizeArgs),
    Rename(rename::RenameArgs),
    Label(label::LabelArgs),
    ReadOnly(read_only::ReadOnlyArgs),
    Revert(revert::RevertArgs),
    SetParent(set_parent::SetParentArgs),
    Grow(grow::GrowArgs),
    Inflate(inflate::InflateArgs),
    Decouple(decouple::DecoupleArgs),
    Merge(merge::MergeArgs),
    Seal(seal::SealArgs),
}

impl Errand {
    /// The store that it is about.
    pub(crate) fn store(&self) -> &StoreArgs {
        match self {
            Self::Info(args) => &args.store,
            Self::Ls(args) => &args.store,
            Self::Tree(args) => &args.store,
            Self::Dump(args) => &args.store,
            Self::Check(args) => &args.store,
            Self::Diff(args) => &args.store,
            Self::Create(args) => &args.store,
            Self::Snapshot(args) => &args.store,
            Self::Clone(args) => &args.store,
            Self::Rm(args) => &args.store,
            Self::Resize(args) => &args.store,
            Self::Rename(args) => &args.store,
            Self::Label(args) => &args.store,
            Self::ReadOnly(args) => &args.store,
            Self::Revert(args) => &args.store,
            Self::SetParent(args) => &args.store,
            Self::Grow(args) => &args.store,
            Self::Inflate(args) => &args.store,
            Self::Decouple(args) => &args.store,
            Self::Merge(args) => &args.store,
            Self::Seal(args) => &args.store,
        }
    }

    /// What it does.
    pub(crate) fn deed(&self) -> Deed<'_> {
        match self {
            Self::Info(args) => Deed::Look(args),
            Self::Ls(args) => Deed::Look(args),
            Self::Tree(args) => Deed::Look(args),
            Self::Dump(args) => Deed::Look(args),
            Self::Check(args) => Deed::Look(args),
            Self::Diff(args) => Deed::Look(args),
            Self::Create(args) => Deed::Change(args),
            Self::Snapshot(args) => Deed::Change(args),
            Self::Clone(args) => Deed::Change(args),
            Self::Rm(args) => Deed::Change(args),
            Self::Resize(args) => Deed::Change(args),
            Self::Rename(args) => Deed::Change(args),
            Self::Label(args) if args.only_looks() => Deed::Look(args),
            Self::Label(args) => Deed::Change(args),
            Self::ReadOnly(args) => Deed::Change(args),
            Self::Revert(args) => Deed::Change(args),
            Self::SetParent(args) => Deed::Change(args),
            Self::Grow(args) => Deed::Grow(args.growth()),
            Self::Inflate(args) => Deed::Toil(args),
            Self::Decouple(args) if args.keeps() => Deed::Toil(args),
            Self::Decouple(args) => Deed::Change(args),
            Self::Merge(args) if args.only_looks() => Deed::Look(args),
            Self::Merge(args) => Deed::Toil(args),
            Self::Seal(args) => Deed::Toil(args),
        }
    }

    /// Opens the store and does it.
    fn run_here(&self) -> Result<Shown> {
        match self {
            // More than what a server does of them.
            Self::Check(args) => return check::look(args),
            Self::Seal(args) => return Ok(seal::run(args)?.into()),
            _ => {}
        }
        match self.deed() {
            Deed::Look(look) => self.store().show(look),
            Deed::Change(change) => self.store().change(|store| {
                let Planned { verb, said, .. } = change.plan(store.state())?;
                let made = job::execute(store, verb)?;
                Ok(said(store.state(), &made).into())
            }),
            Deed::Toil(toil) => self.store().change(|store| {
                let job = toil.plan(store.engine())?;
                Ok(job::run(store, job)?.into())
            }),
            Deed::Grow(growth) => self.store().change(|store| {
                let job = growth::prepare(&growth, store, |device, size| device.grow(size))?;
                Ok(job::run(store, job)?.into())
            }),
        }
    }

    /// The process that holds the store, when that is why a command could not run here.
    fn holder(&self, error: &anyhow::Error) -> Option<u32> {
        error.downcast_ref::<Held>()?.by(&self.store().path)
    }
}

/// Runs a command, here or in the server that holds its store, and prints what it says.
///
/// # Errors
/// Why not; of standard output for what only looks.
pub(crate) fn run(errand: &Errand) -> Result<Outcome> {
    let Shown { text, outcome } = match errand.run_here() {
        Ok(shown) => shown,
        Err(error) => match errand.holder(&error).and_then(remote::connect) {
            Some(client) => remote::ask(client, errand)?,
            None => return Err(error),
        },
    };
    let printed = io::stdout().write_all(text.as_bytes());
    match errand.deed() {
        Deed::Look(_) => printed?,
        // It is done, whether anybody listens or not.
        Deed::Change(_) | Deed::Toil(_) | Deed::Grow(_) => {}
    }
    Ok(outcome)
}
