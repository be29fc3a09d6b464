//! Commands that a server can run: when a running `serve` holds the store, it is asked over a private socket.
//!
//! A command that only looks makes text from an engine ([`Look`]); one that changes something plans one verb and says what
//! was done ([`Change`]). Both do so without knowing whether they run in the process of the command or in the server, so
//! that what is printed is the same. What goes over the socket is the command with its arguments.

use crate::commands::{
    clone, create, grow, ls, read_only, rename, resize, revert, rm, set_parent, snapshot, tree,
};
use crate::open::{External, Held, StoreArgs};
use anyhow::{Context as _, Result, anyhow};
use offshoot_device::HostDevice as _;
use offshoot_format::BlobId;
use offshoot_rpc::{Client, ClientError};
use offshoot_store::{Engine, State, Verb};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::{self, Write as _};

/// The one method of a server's private socket: its parameters are an [`Errand`], its result is the text to print.
pub(crate) const METHOD: &str = "offshoot_run";

/// A command with its arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Errand {
    Ls(ls::LsArgs),
    Tree(tree::TreeArgs),
    Create(create::CreateArgs),
    Snapshot(snapshot::SnapshotArgs),
    Clone(clone::CloneArgs),
    Rm(rm::RmArgs),
    Resize(resize::ResizeArgs),
    Rename(rename::RenameArgs),
    ReadOnly(read_only::ReadOnlyArgs),
    Revert(revert::RevertArgs),
    SetParent(set_parent::SetParentArgs),
    Grow(grow::GrowArgs),
}

/// What a command does.
pub(crate) enum Deed<'e> {
    Look(&'e dyn Look),
    Change(&'e dyn Change),
    Grow(&'e grow::GrowArgs),
}

/// A command that changes nothing.
pub(crate) trait Look {
    /// What to print.
    ///
    /// # Errors
    /// It cannot be told.
    fn text(&self, engine: &Engine) -> Result<String>;
}

/// A command that is one verb.
pub(crate) trait Change {
    /// The verb for a store as it is.
    ///
    /// # Errors
    /// Why there is none.
    fn plan(&self, state: &State) -> Result<Planned>;
}

/// What there is to say, in lines, of a store as it is after a verb and of the lvols that were made.
pub(crate) type Said = Box<dyn FnOnce(&State, &[BlobId]) -> String>;

/// A verb, and what to say once it is done.
pub(crate) struct Planned {
    pub(crate) verb: Verb,
    /// What must be readable before.
    pub(crate) external: Option<External>,
    pub(crate) said: Said,
}

impl Planned {
    /// A verb of which something can be said only afterwards.
    pub(crate) fn new(verb: Verb, said: impl FnOnce(&State, &[BlobId]) -> String + 'static) -> Self {
        Self { verb, external: None, said: Box::new(said) }
    }

    /// A verb of which all can be said before.
    pub(crate) fn saying(verb: Verb, said: String) -> Self {
        Self::new(verb, |_, _| said)
    }

    /// The same verb, which lays an lvol over an external snapshot.
    pub(crate) fn over(self, external: External) -> Self {
        Self { external: Some(external), ..self }
    }
}

impl Errand {
    /// The store that it is about.
    pub(crate) fn store(&self) -> &StoreArgs {
        match self {
            Self::Ls(args) => &args.store,
            Self::Tree(args) => &args.store,
            Self::Create(args) => &args.store,
            Self::Snapshot(args) => &args.store,
            Self::Clone(args) => &args.store,
            Self::Rm(args) => &args.store,
            Self::Resize(args) => &args.store,
            Self::Rename(args) => &args.store,
            Self::ReadOnly(args) => &args.store,
            Self::Revert(args) => &args.store,
            Self::SetParent(args) => &args.store,
            Self::Grow(args) => &args.store,
        }
    }

    /// What it does.
    pub(crate) fn deed(&self) -> Deed<'_> {
        match self {
            Self::Ls(args) => Deed::Look(args),
            Self::Tree(args) => Deed::Look(args),
            Self::Create(args) => Deed::Change(args),
            Self::Snapshot(args) => Deed::Change(args),
            Self::Clone(args) => Deed::Change(args),
            Self::Rm(args) => Deed::Change(args),
            Self::Resize(args) => Deed::Change(args),
            Self::Rename(args) => Deed::Change(args),
            Self::ReadOnly(args) => Deed::Change(args),
            Self::Revert(args) => Deed::Change(args),
            Self::SetParent(args) => Deed::Change(args),
            Self::Grow(args) => Deed::Grow(args),
        }
    }

    /// Opens the store and does it.
    fn run_here(&self) -> Result<String> {
        match self.deed() {
            Deed::Look(look) => look.text(self.store().look()?.engine()),
            Deed::Change(change) => self.store().change(|store| {
                let Planned { verb, said, .. } = change.plan(store.state())?;
                let made = store.execute(verb)?;
                Ok(said(store.state(), &made))
            }),
            Deed::Grow(args) => self.store().change(|store| {
                let said = args.prepare(store, |device, size| device.inner_mut().grow(size))?;
                store.grow()?;
                Ok(said(store.state(), &[]))
            }),
        }
    }
}

/// Runs a command, here or in the server that holds its store, and prints what it says.
///
/// # Errors
/// Why not.
pub(crate) fn run(errand: &Errand) -> Result<()> {
    let outcome = errand.run_here();
    finish(errand, outcome)
}

/// Prints what a command said that ran here, unless a server had to be asked.
///
/// # Errors
/// Why not; of standard output for what only looks.
pub(crate) fn finish(errand: &Errand, outcome: Result<String>) -> Result<()> {
    let text = match outcome {
        Ok(text) => text,
        Err(error) => match holder(errand, &error).and_then(connect) {
            Some(client) => ask(client, errand)?,
            None => return Err(error),
        },
    };
    let printed = io::stdout().write_all(text.as_bytes());
    match errand.deed() {
        Deed::Look(_) => Ok(printed?),
        // It is done, whether anybody listens or not.
        Deed::Change(_) | Deed::Grow(_) => Ok(()),
    }
}

/// The process that holds the store, when that is why a command could not run here.
fn holder(errand: &Errand, error: &anyhow::Error) -> Option<u32> {
    error.downcast_ref::<Held>()?.by(&errand.store().path)
}

/// Has a server run a command.
fn ask(mut client: Client, errand: &Errand) -> Result<String> {
    let mut errand = serde_json::to_value(errand)?;
    if let Some(command) = errand.as_object_mut().and_then(|errand| errand.values_mut().next()) {
        // The server may have been started elsewhere.
        let externals = command.pointer("/store/externals").and_then(Value::as_array).map_or(0, Vec::len);
        let files = (0..externals).map(|number| format!("/store/externals/{number}/file"));
        for pointer in ["/store/path".into(), "/from_external".into()].into_iter().chain(files) {
            if let Some(path) = command.pointer_mut(&pointer).filter(|path| !path.is_null()) {
                let text = path.as_str().ok_or_else(|| anyhow!("the path of a file is not UTF-8"))?;
                let whole = fs::canonicalize(text).with_context(|| text.to_owned())?;
                *path = serde_json::to_value(whole)?;
            }
        }
    }
    client.call(METHOD, Some(&errand)).map_err(|error| match error {
        ClientError::Rpc(error) => anyhow!("{}", error.message),
        error => error.into(),
    })
}

/// The name of the private socket of a process. Another process can have taken it, which is why there are several.
pub(crate) fn socket_name(pid: u32, attempt: u32) -> String {
    format!("offshoot-{pid}-{attempt}")
}

/// Names that a server tries.
pub(crate) const SOCKET_NAMES: u32 = 4;

/// Connects to the private socket of a server. `None`: the process is none, or does not let this user in.
fn connect(pid: u32) -> Option<Client> {
    (0..SOCKET_NAMES)
        .find_map(|attempt| Client::connect_abstract(socket_name(pid, attempt).as_bytes(), pid).ok())
}
