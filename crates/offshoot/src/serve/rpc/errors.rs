//! What the engine's errors are to SPDK's clients.

use offshoot_device::OpenError;
use offshoot_rpc::{Errno, RpcError};
use offshoot_store::{Error, ErrorKind, InitError};
use std::borrow::Cow;
use std::fmt::Display;

/// The errno for an error: the only place where the two meet.
pub(super) fn errno(error: &Error) -> Errno {
    match (error, error.kind()) {
        // What an lvol layer says, where a blob layer would say busy.
        (Error::HasClones { .. }, _) => Errno::Perm,
        (Error::Cancelled, _) => Errno::Canceled,
        (_, ErrorKind::Corrupt) => Errno::IlSeq,
        (_, ErrorKind::NoSpace) => Errno::NoSpc,
        (_, ErrorKind::Busy) => Errno::Busy,
        (_, ErrorKind::ReadOnly) => Errno::Perm,
        (_, ErrorKind::NotFound) => Errno::NoDev,
        (_, ErrorKind::Exists) => Errno::Exist,
        (_, ErrorKind::Invalid) => Errno::Inval,
        (_, ErrorKind::Unsupported) => Errno::NotSup,
        // `Io`, and kinds to come.
        _ => Errno::Io,
    }
}

/// The code of every error on the private socket: it is the text that counts.
const REFUSED: i32 = 1;

/// An error as a command prints it.
pub(super) fn refused(cause: &impl Display) -> RpcError {
    RpcError { code: REFUSED, message: Cow::Owned(cause.to_string()) }
}

/// Whether sizes are good, but the metadata has no room: the one failure of a new store that SPDK finds late.
pub(super) fn lacks_room(error: &InitError) -> bool {
    use offshoot_format::LayoutError::{MdLen, NoRoom, TooManyClusters, TooSmall};
    matches!(
        error,
        InitError::Layout(NoRoom { .. } | MdLen { .. } | TooSmall { .. } | TooManyClusters { .. })
    )
}

/// The errno for a file that cannot be opened.
pub(super) fn errno_of_open(error: &OpenError) -> Errno {
    match error {
        OpenError::NotFound(_) => Errno::NoEnt,
        OpenError::PermissionDenied(_) => Errno::Perm,
        OpenError::Locked { .. } => Errno::Busy,
        OpenError::IsDirectory(_)
        | OpenError::NotAFileOrBlockDevice(_)
        | OpenError::TooSmall { .. }
        | OpenError::LogicalBlock { .. } => Errno::Inval,
        _ => Errno::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_store::ReadOnlyCause;

    #[test]
    fn each_error_has_its_errno() {
        let clones = Error::HasClones { name: "s".into(), count: 2, clones: "a, b".into() };
        for (error, expected) in [
            (clones, Errno::Perm),
            (Error::InUse("a".into()), Errno::Busy),
            (Error::UnknownLvol("a".into()), Errno::NoDev),
            (Error::NameExists("a".into()), Errno::Exist),
            (Error::NoParent("a".into()), Errno::Inval),
            (Error::ReadOnlyLvol("a".into()), Errno::Perm),
            (Error::ReadOnlyStore(ReadOnlyCause::Asked), Errno::Perm),
            (Error::NoClusters { needed: 2, free: 1 }, Errno::NoSpc),
            (Error::Damaged("a".into()), Errno::IlSeq),
            (Error::Degraded("a".into()), Errno::Io),
            (Error::Cancelled, Errno::Canceled),
        ] {
            assert_eq!(errno(&error), expected, "{error}");
        }
    }
}
