//! External snapshots as people name them: an id and a file.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs};
use uuid::Uuid;

/// An external snapshot: the parent, outside of the store, of clones in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct External {
    /// What clones call it.
    pub(crate) id: String,
    /// Where it is.
    pub(crate) file: PathBuf,
}

impl External {
    /// The external snapshot in a file: under the UUID that it is known by, else under a fresh one.
    ///
    /// # Errors
    /// The file is not there, is the store itself, or goes by what is no UUID, which new clones cannot keep.
    pub(crate) fn of(file: &Path, store: &Path, known: &[Self]) -> Result<(Self, Uuid)> {
        let file = fs::canonicalize(file).with_context(|| file.display().to_string())?;
        let identity = file_identity(&file);
        if identity == file_identity(store) {
            bail!("{}: is the store itself", file.display());
        }
        let known = known.iter().find(|external| file_identity(&external.file) == identity);
        let uuid = match known {
            Some(known) => Uuid::parse_str(&known.id).with_context(|| format!("--external {}", known.id))?,
            None => Uuid::new_v4(),
        };
        Ok((Self { id: uuid.to_string(), file }, uuid))
    }

    /// What there is to say to who has put an lvol over it.
    pub(crate) fn said(&self) -> String {
        format!(
            "its external snapshot is {}; open the store with\n  --external {self}\n",
            self.file.display()
        )
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.file.display())
    }
}

impl FromStr for External {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((id, file)) if !id.is_empty() && !file.is_empty() => Ok(Self {
                // A UUID is written in small letters on disk. SPDK accepts other ids, which are kept as they are.
                id: Uuid::parse_str(id).map_or_else(|_| id.to_owned(), |uuid| uuid.to_string()),
                file: file.into(),
            }),
            _ => Err("give UUID=FILE"),
        }
    }
}

/// What a file is, under whatever name: a block device has many. `None`: it is not there.
pub(crate) fn file_identity(path: &Path) -> Option<(bool, u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    match metadata.file_type().is_block_device() {
        true => Some((true, metadata.rdev(), 0)),
        false => Some((false, metadata.dev(), metadata.ino())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn externals_are_parsed() {
        let uuid = "1B4E28BA-2FA1-11D2-883F-B9A761BDE3FB";
        let external: External = format!("{uuid}=/a=b").parse().unwrap();
        assert_eq!((external.id, external.file), (uuid.to_lowercase(), "/a=b".into()));
        let external: External = "disk0=x".parse().unwrap();
        assert_eq!(external.id, "disk0");
        for bad in ["", "=", "a=", "=a", "a"] {
            assert!(bad.parse::<External>().is_err(), "{bad}");
        }
    }
}
