//! Errors as SPDK's clients know them: a code, a text, nothing else.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use thiserror::Error;

/// The error of a response. `code` is one of JSON-RPC's, [`RpcError::INVALID_STATE`], or a negative errno: which of
/// them a method uses for what is part of its contract.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// The code.
    pub code: i32,
    /// The text.
    pub message: Cow<'static, str>,
}

impl RpcError {
    /// Code of [`RpcError::PARSE`].
    pub const PARSE_ERROR: i32 = -32700;
    /// Code of [`RpcError::REQUEST`].
    pub const INVALID_REQUEST: i32 = -32600;
    /// Code of [`RpcError::METHOD`].
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// Code of wrong parameters with some methods, and of what failed after it was begun with most `bdev_lvol_*`.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Code of parameters that cannot be decoded with `bdev_*`, and of what has no other.
    pub const INTERNAL_ERROR: i32 = -32603;
    /// Code of a method that cannot be called now. It is that of EPERM too.
    pub const INVALID_STATE: i32 = -1;

    /// Bytes that are no JSON. The connection ends with it.
    pub const PARSE: Self = Self::new(Self::PARSE_ERROR, "Parse error");
    /// JSON that is no request.
    pub const REQUEST: Self = Self::new(Self::INVALID_REQUEST, "Invalid request");
    /// No such method.
    pub const METHOD: Self = Self::new(Self::METHOD_NOT_FOUND, "Method not found");
    /// Parameters that methods outside of the bdev layer cannot decode.
    pub const PARAMS: Self = Self::new(Self::INVALID_PARAMS, "Invalid parameters");
    /// Parameters that methods of the bdev layer cannot decode.
    pub const DECODE: Self = Self::new(Self::INTERNAL_ERROR, "spdk_json_decode_object failed");
    /// A failure that has no better name.
    pub const INTERNAL: Self = Self::new(Self::INTERNAL_ERROR, "Internal error");
    /// A result of more bytes than the connection has room for.
    pub const RESULT_TOO_LARGE: Self = Self::new(Self::INTERNAL_ERROR, "Response too large");

    /// An error with a fixed text.
    #[must_use]
    pub const fn new(code: i32, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }

    /// A refusal before anything was begun: the code is the negative errno.
    #[must_use]
    pub const fn refused(errno: Errno) -> Self {
        Self::new(-errno.number(), errno.text())
    }

    /// `bdev_lvol_rename_lvstore` of a store that there is not.
    #[must_use]
    pub fn lvstore_not_found(name: &str) -> Self {
        let message = Cow::Owned(format!("Lvol store {name} not found"));
        Self { code: -Errno::NoEnt.number(), message }
    }
}

/// `bdev_lvol_clone_bdev`: the errors that have texts of their own.
impl RpcError {
    /// There is no such store.
    pub const CLONE_BDEV_LVSTORE: Self = Self::new(Self::INVALID_PARAMS, "lvs does not exist");
    /// There is no such bdev.
    pub const CLONE_BDEV_BDEV: Self = Self::new(Self::INVALID_PARAMS, "bdev does not exist");
    /// The bdev is an lvol of that store.
    pub const CLONE_BDEV_SAME_LVSTORE: Self =
        Self::new(Self::INVALID_PARAMS, "bdev is an lvol in same lvs as clone; use bdev_lvol_clone instead");
}

/// Bdevs without a medium: the errors that have texts of their own.
impl RpcError {
    /// `bdev_uring_create` failed, for whatever reason.
    pub const CREATE_URING: Self = Self::new(Self::INTERNAL_ERROR, "Unable to create URING bdev.");
    /// `bdev_null_create` without a block.
    pub const NO_BLOCKS: Self = Self::new(-22, "Disk num_blocks must be greater than 0");
    /// `bdev_error_inject_error` of an NVMe error that is none, or the codes of one with another error.
    pub const NVME_STATUS: Self =
        Self::new(-22, "nvme_sct or nvme_sc should be specified for NVMe error injection");
    /// `bdev_delay_update_latency` of what is no latency.
    pub const LATENCY_TYPE: Self = Self::new(Self::INVALID_PARAMS, "Please specify a valid latency type.");
    /// `bdev_delay_update_latency` of no bdev.
    pub const DELAY_BDEV: Self = Self::new(Self::INVALID_PARAMS, "The requested bdev does not exist.");
    /// `bdev_delay_update_latency` of another bdev.
    pub const NOT_DELAY_BDEV: Self =
        Self::new(Self::INVALID_REQUEST, "The requested bdev is not a delay bdev.");
}

/// The errors of the operating system that SPDK answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Errno {
    /// EPERM.
    Perm,
    /// ENOENT.
    NoEnt,
    /// EIO.
    Io,
    /// ENOMEM.
    NoMem,
    /// EFAULT, SPDK's word for a histogram that was not enabled.
    Fault,
    /// EBUSY.
    Busy,
    /// EEXIST.
    Exist,
    /// ENODEV.
    NoDev,
    /// EINVAL.
    Inval,
    /// ENOSPC.
    NoSpc,
    /// EROFS.
    Rofs,
    /// EILSEQ, SPDK's word for metadata that makes no sense.
    IlSeq,
    /// ENOTSUP.
    NotSup,
    /// ECANCELED.
    Canceled,
}

impl Errno {
    /// The number, positive.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.parts().0
    }

    /// What glibc's `strerror` says.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.parts().1
    }

    const fn parts(self) -> (i32, &'static str) {
        match self {
            Self::Perm => (1, "Operation not permitted"),
            Self::NoEnt => (2, "No such file or directory"),
            Self::Io => (5, "Input/output error"),
            Self::NoMem => (12, "Cannot allocate memory"),
            Self::Fault => (14, "Bad address"),
            Self::Busy => (16, "Device or resource busy"),
            Self::Exist => (17, "File exists"),
            Self::NoDev => (19, "No such device"),
            Self::Inval => (22, "Invalid argument"),
            Self::NoSpc => (28, "No space left on device"),
            Self::Rofs => (30, "Read-only file system"),
            Self::IlSeq => (84, "Invalid or incomplete multibyte or wide character"),
            Self::NotSup => (95, "Operation not supported"),
            Self::Canceled => (125, "Operation canceled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_system() {
        for errno in [
            Errno::Perm,
            Errno::NoEnt,
            Errno::Io,
            Errno::NoMem,
            Errno::Fault,
            Errno::Busy,
            Errno::Exist,
            Errno::NoDev,
            Errno::Inval,
            Errno::NoSpc,
            Errno::Rofs,
            Errno::IlSeq,
            Errno::NotSup,
            Errno::Canceled,
        ] {
            let system = std::io::Error::from_raw_os_error(errno.number()).to_string();
            assert_eq!(system, format!("{} (os error {})", errno.text(), errno.number()));
        }
    }
}
