//! Which names may be given.

use crate::blob::escape;
use crate::error::Error;
use crate::limits::NAME_BYTES_MAX;

/// Whether a name may be given to an lvol or lvstore.
///
/// # Errors
/// [`Error::BadName`] says what is wrong with it. Names that a loaded store holds already may be anything.
pub fn check_name(name: &str) -> Result<(), Error> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 63 bytes"
    } else if name.chars().any(char::is_control) {
        "contains a control character"
    } else if name.contains('/') {
        "contains a slash"
    } else if name.contains('=') {
        "contains an equals sign"
    } else {
        return Ok(());
    };
    Err(Error::BadName { name: escape(name.as_bytes()), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let longest = "x".repeat(63);
        for good in ["a", "größe", "with space", ".", &longest] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(64);
        for bad in ["", "a/b", "a=b", "a\nb", "\u{7f}", &too_long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
