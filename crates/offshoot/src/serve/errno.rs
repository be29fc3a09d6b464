//! What the engine's errors are on the wire.

use offshoot_nbd::Errno;
use offshoot_store::ErrorKind;

/// The NBD error for a kind of error: the only place where the two meet.
pub(super) fn errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NoSpace => Errno::NoSpc,
        ErrorKind::ReadOnly => Errno::Perm,
        // The lvol went away under its client.
        ErrorKind::NotFound => Errno::Shutdown,
        ErrorKind::Exists | ErrorKind::Invalid => Errno::Inval,
        ErrorKind::Unsupported => Errno::NotSup,
        // NBD has no word for busy or corrupt; neither is the client's fault, and neither can be worked around there.
        ErrorKind::Io | ErrorKind::Corrupt | ErrorKind::Busy => Errno::Io,
        // Kinds to come: an error that clients take seriously.
        _ => Errno::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_error() {
        for (kind, expected) in [
            (ErrorKind::Io, Errno::Io),
            (ErrorKind::Corrupt, Errno::Io),
            (ErrorKind::Busy, Errno::Io),
            (ErrorKind::NoSpace, Errno::NoSpc),
            (ErrorKind::ReadOnly, Errno::Perm),
            (ErrorKind::NotFound, Errno::Shutdown),
            (ErrorKind::Exists, Errno::Inval),
            (ErrorKind::Invalid, Errno::Inval),
            (ErrorKind::Unsupported, Errno::NotSup),
        ] {
            assert_eq!(errno(kind), expected, "{kind:?}");
        }
    }
}
