//! Who asks, and what is answered.

use super::errors::{errno, refused};
use crate::deed::{Said, Shown};
use crate::errand::remote;
use crate::job;
use crate::volume::Imported;
use offshoot_format::BlobId;
use offshoot_rpc::{Method, Reply, RequestId, ResultText, RpcError};
use offshoot_store::{Blob, Error, State};
use serde::Serialize;
use std::time::Instant;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) door: Door,
    pub(super) id: RequestId,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The socket that speaks SPDK's language.
    Public,
    /// The one for commands.
    Private,
    /// None: the server's own configuration.
    Config,
}

/// The result of a call, `None` when it comes later.
pub(super) type Answer = Result<Option<ResultText>, RpcError>;

/// A result that is there at once.
pub(super) fn now(value: &impl Serialize) -> Answer {
    ResultText::of(value).map(Some)
}

/// Somebody who waits for a bdev.
pub(super) struct Awaited {
    pub(super) asker: Asker,
    pub(super) name: String,
    /// As long as that.
    pub(super) until: Instant,
}

/// What to answer when a verb or a job is done.
pub(super) enum Then {
    /// `true`, or the error of a method.
    True(&'static Method),
    /// The UUID of the lvol that it made, or made what it is.
    Made(&'static Method),
    /// Those of all that it made.
    AllMade(&'static Method),
    /// What a command prints, or the error as it prints it.
    Said(Said),
    /// `true`, or the error as a command prints it.
    Done,
    /// An lvol that a command is to fill under this name, which was given that size if it is known.
    Begun(String, Option<u64>),
    /// What came of filling one.
    Filled(BlobId),
}

impl Then {
    /// The error for one of the engine's.
    pub(super) fn failed(&self, cause: &Error) -> RpcError {
        match self {
            Self::True(method) | Self::Made(method) | Self::AllMade(method) => method.failed(errno(cause)),
            Self::Said(_) | Self::Done | Self::Begun(..) | Self::Filled(_) => {
                refused(&job::failed(cause.clone()))
            }
        }
    }

    /// The error for a verb that has changed nothing.
    pub(super) fn undone(&self, cause: &Error) -> RpcError {
        match self {
            Self::Said(_) => refused(&job::undone(cause.clone())),
            _ => self.failed(cause),
        }
    }

    /// The answer when it is done.
    pub(super) fn reply(self, state: Option<&State>, made: &[BlobId]) -> Reply {
        let state = state.ok_or(RpcError::INTERNAL)?;
        let uuid = |id: &BlobId| state.blob(*id).and_then(Blob::uuid);
        match self {
            Self::True(_) | Self::Done => ResultText::of(&true),
            Self::Filled(lvol) => ResultText::of(&Imported::of(state, lvol).ok_or(RpcError::INTERNAL)?),
            // It takes more than a State.
            Self::Begun(..) => Err(RpcError::INTERNAL),
            Self::Made(_) => ResultText::of(&made.first().and_then(uuid)),
            Self::AllMade(_) => ResultText::of(&made.iter().map(uuid).collect::<Vec<_>>()),
            Self::Said(said) => ResultText::of(&remote::Answer::Shown(Shown::from(said(state, made)))),
        }
    }
}
