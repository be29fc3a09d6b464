//! Asking the server that holds a store: what is said over its private socket, and the asking end of it.
//!
//! A job outlives the answer to the command that began it: that one says which operation it is, and its progress is asked
//! for until there is an outcome.

use super::Errand;
use crate::deed::Shown;
use crate::interrupt::Interrupt;
use crate::open;
use crate::progress::Progress;
use crate::report;
use anyhow::{Result, anyhow, bail};
use offshoot_rpc::{Client, ClientError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Runs a command. Parameters: an [`Errand`]. Result: [`Answer`].
pub(crate) const RUN: &str = "offshoot_run";

/// Asks how far a job is. Parameters: [`Operation`]. Result: [`Answer`], of which [`Answer::Shown`] is told once.
pub(crate) const PROGRESS: &str = "offshoot_progress";

/// Ends a job. Parameters: [`Operation`]. Result: `true`; what it has come to is told by [`PROGRESS`].
pub(crate) const CANCEL: &str = "offshoot_cancel";

/// Names that a server tries.
pub(crate) const SOCKET_NAMES: u32 = 4;

/// How long to wait before asking again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// A job that a command has begun.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    /// Its number, as `bdev_lvol_get_operations` has it.
    pub(crate) operation: u32,
}

/// What a server answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// All there is.
    Shown(Shown),
    /// A job, which goes on.
    Begun(Begun),
    /// It still goes on.
    Running {
        /// Bytes done.
        bytes: u64,
    },
}

/// A job that goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// Its number.
    pub(crate) operation: u32,
    /// What it is called.
    pub(crate) what: String,
    /// What it takes, in lines.
    pub(crate) takes: String,
    /// Bytes to be done.
    pub(crate) bytes: u64,
}

/// The name of the private socket of a process. Another process can have taken it, which is why there are several.
pub(crate) fn socket_name(pid: u32, attempt: u32) -> String {
    format!("offshoot-{pid}-{attempt}")
}

/// Connects to the private socket of a server. `None`: the process is none, or does not let this user in.
pub(super) fn connect(pid: u32) -> Option<Client> {
    (0..SOCKET_NAMES)
        .find_map(|attempt| Client::connect_abstract(socket_name(pid, attempt).as_bytes(), pid).ok())
}

/// Has a server run a command, and shows how far it is if that takes long.
///
/// # Errors
/// What the server says, or that it is gone.
pub(super) fn ask(mut client: Client, errand: &Errand) -> Result<Shown> {
    let mut command = serde_json::to_value(errand)?;
    if let Some(args) = command.as_object_mut().and_then(|command| command.values_mut().next()) {
        let externals = args.pointer("/store/externals").and_then(Value::as_array).map_or(0, Vec::len);
        let files = (0..externals).map(|number| format!("/store/externals/{number}/file"));
        for pointer in ["/store/path".into(), "/from_external".into()].into_iter().chain(files) {
            if let Some(path) = args.pointer_mut(&pointer).filter(|path| !path.is_null()) {
                // The server may have been started elsewhere.
                let text = path.as_str().ok_or_else(|| anyhow!("the path of a file is not UTF-8"))?;
                *path = serde_json::to_value(open::absolute(Path::new(text))?)?;
            }
        }
    }
    match call(&mut client, RUN, &command)? {
        Answer::Shown(shown) => Ok(shown),
        Answer::Begun(begun) => follow(&mut client, begun),
        Answer::Running { .. } => Err(anyhow!("the server answered something else than was asked")),
    }
}

/// Shows how far a job is until it is done. Ctrl-C ends it.
fn follow(client: &mut Client, begun: Begun) -> Result<Shown> {
    let interrupt = Interrupt::install()?;
    report::text(&begun.takes);
    let operation = Operation { operation: begun.operation };
    let mut progress = Progress::new(begun.what, Some(begun.bytes));
    let mut pause = PAUSE.0;
    let mut cancelled = false;
    loop {
        match call(client, PROGRESS, &operation)? {
            Answer::Shown(shown) => return Ok(shown),
            Answer::Running { bytes } => progress.reach(bytes.min(begun.bytes)),
            Answer::Begun(_) => {}
        }
        if interrupt.check().is_err() && !cancelled {
            cancelled = true;
            call::<bool>(client, CANCEL, &operation)?;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE.1);
    }
}

pub(super) fn call<R: DeserializeOwned>(
    client: &mut Client,
    method: &str,
    params: &impl Serialize,
) -> Result<R> {
    match client.call(method, Some(params)) {
        Err(ClientError::Rpc(error)) => Err(anyhow!("{}", error.message)),
        // As text: a broken pipe means another one where errors are told.
        Err(error @ ClientError::Io(_)) => bail!("the server has ended: {error}"),
        answer => Ok(answer?),
    }
}
