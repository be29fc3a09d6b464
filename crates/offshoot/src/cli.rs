//! What can be typed: the commands and what they take.

use crate::commands::{
    check, clone, copy, create, decouple, demo, diff, dump, export, grow, import, inflate, info, init, label,
    ls, merge, read_only, rename, resize, revert, rm, rpc, seal, serve, set_parent, snapshot, tree,
};
use crate::errand::{self, Errand};
use crate::report::Outcome;
use anyhow::Result;
use clap::{Parser, Subcommand};

/// A copy-on-write logical volume store, compatible with SPDK's blobstore.
///
/// STORE is a file or block device that holds an lvstore. SIZE is a number of bytes, with K, M, G or T for powers of
/// 1024. An lvol is named by its name, its UUID, or its blob id as `blob-0x...`.
///
/// Exit status: 0 done; 1 refused or failed, nothing changed; 2 wrong usage; 3 `check` found damage, or `--repair`
/// left some.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Info(info::InfoArgs),
    Ls(ls::LsArgs),
    Tree(tree::TreeArgs),
    Dump(dump::DumpArgs),
    Check(check::CheckArgs),
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
    Inflate(inflate::InflateArgs),
    Decouple(decouple::DecoupleArgs),
    Merge(merge::MergeArgs),
    Diff(diff::DiffArgs),
    Copy(copy::CopyArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Grow(grow::GrowArgs),
    Seal(seal::SealArgs),
    Serve(Box<serve::ServeCommand>),
    Rpc(rpc::RpcArgs),
    Demo(demo::DemoArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it was refused or failed.
    pub(crate) fn run(self) -> Result<Outcome> {
        match self.command {
            Command::Check(args) if !args.only_looks() => check::run(&args),
            Command::Check(args) => errand::run(&Errand::Check(args)),
            Command::Init(args) => done(init::run(&args)),
            Command::Info(args) => errand::run(&Errand::Info(args)),
            Command::Ls(args) => errand::run(&Errand::Ls(args)),
            Command::Tree(args) => errand::run(&Errand::Tree(args)),
            Command::Dump(args) => errand::run(&Errand::Dump(args)),
            Command::Create(args) => errand::run(&Errand::Create(args)),
            Command::Snapshot(args) => errand::run(&Errand::Snapshot(args)),
            Command::Clone(args) => errand::run(&Errand::Clone(args)),
            Command::Rm(args) => errand::run(&Errand::Rm(args)),
            Command::Resize(args) => errand::run(&Errand::Resize(args)),
            Command::Rename(args) => errand::run(&Errand::Rename(args)),
            Command::Label(args) => errand::run(&Errand::Label(args)),
            Command::ReadOnly(args) => errand::run(&Errand::ReadOnly(args)),
            Command::Revert(args) => errand::run(&Errand::Revert(args)),
            Command::SetParent(args) => errand::run(&Errand::SetParent(args)),
            Command::Inflate(args) => errand::run(&Errand::Inflate(args)),
            Command::Decouple(args) => errand::run(&Errand::Decouple(args)),
            Command::Merge(args) => errand::run(&Errand::Merge(args)),
            Command::Diff(args) => errand::run(&Errand::Diff(args)),
            Command::Copy(args) => done(copy::run(&args)),
            Command::Import(args) => done(import::run(&args)),
            Command::Export(args) => done(export::run(&args)),
            Command::Grow(args) => errand::run(&Errand::Grow(args)),
            Command::Seal(args) => errand::run(&Errand::Seal(args)),
            Command::Serve(args) => done(serve::run(*args)),
            Command::Rpc(args) => done(rpc::run(&args)),
            Command::Demo(args) => done(demo::run(&args, |words| Self::try_parse_from(words)?.run())),
        }
    }
}

/// The end of a command that has one only.
fn done(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Done)
}
