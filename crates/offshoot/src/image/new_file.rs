//! A file that appears under its name only when it is complete.

use anyhow::{Context as _, Result, anyhow, bail};
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file in the making, next to where it will be. It goes away again unless [`NewFile::complete`] is called.
#[derive(Debug)]
pub(crate) struct NewFile {
    temporary: NamedTempFile,
    path: PathBuf,
    force: bool,
}

impl NewFile {
    /// Begins a file that will be at `path`. One that is there is replaced in the end, with `force`, but never one that
    /// is also at `except`.
    ///
    /// # Errors
    /// Something is at `path` that must not be replaced, or the folder cannot be written to.
    pub(crate) fn begin(path: &Path, force: bool, except: &Path) -> Result<Self> {
        let failed = || path.display().to_string();
        let path = match fs::metadata(path) {
            Ok(there) => {
                if !there.is_file() {
                    bail!("{}: is not a regular file", path.display());
                }
                if !force {
                    return Err(exists(path));
                }
                let kept = fs::metadata(except).with_context(failed)?;
                if (there.dev(), there.ino()) == (kept.dev(), kept.ino()) {
                    bail!("{}: is the store itself", path.display());
                }
                // Where a symbolic link leads.
                path.canonicalize().with_context(failed)?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error).with_context(failed),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".offshoot-")
            // As for any new file, the umask takes from this what it wants.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder(&path))
            .with_context(failed)?;
        Ok(Self { temporary, path, force })
    }

    /// Another handle to the file.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub(crate) fn reopen(&self) -> Result<File> {
        Ok(self.temporary.reopen()?)
    }

    /// Gives the file its name, durably.
    ///
    /// # Errors
    /// Something has come to its place in the meantime, or the folder cannot be written to.
    pub(crate) fn complete(self) -> Result<()> {
        let (replace, exists) = (self.force, exists(&self.path));
        self.name(replace, exists)
    }

    /// The same for a file that lacks something. It replaces none.
    ///
    /// # Errors
    /// Something is at its place, or the folder cannot be written to.
    pub(crate) fn complete_in_part(self) -> Result<()> {
        let exists =
            anyhow!("{}: is not replaced by what lacks a part: export to another file", self.path.display());
        self.name(false, exists)
    }

    fn name(self, replace: bool, exists: anyhow::Error) -> Result<()> {
        let Self { temporary, path, .. } = self;
        let named = if replace { temporary.persist(&path) } else { temporary.persist_noclobber(&path) };
        named.map_err(|error| match error.error.kind() {
            ErrorKind::AlreadyExists => exists,
            _ => anyhow!(error.error).context(path.display().to_string()),
        })?;
        File::open(folder(&path))
            .and_then(|folder| folder.sync_all())
            .with_context(|| path.display().to_string())
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow!("{}: exists already: give --force to replace it", path.display())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (path, store) = (folder.path().join("new"), folder.path().join("store"));
        fs::write(&store, "store").unwrap();

        drop(NewFile::begin(&path, false, &store).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let file = NewFile::begin(&path, false, &store).unwrap();
        file.reopen().unwrap().write_all(b"one").unwrap();
        assert!(!path.exists());
        file.complete().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");

        assert!(NewFile::begin(&path, false, &store).is_err());
        let file = NewFile::begin(&path, true, &store).unwrap();
        file.reopen().unwrap().write_all(b"two").unwrap();
        file.complete().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_came_in_between_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let file = NewFile::begin(&path, false, &path).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(file.complete().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn stores_folders_and_devices_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (store, link) = (folder.path().join("store"), folder.path().join("link"));
        fs::write(&store, "store").unwrap();
        std::os::unix::fs::symlink(&store, &link).unwrap();
        for path in [&store, &link, folder.path(), Path::new("/dev/null")] {
            assert!(NewFile::begin(path, true, &store).is_err(), "{}", path.display());
        }
    }
}
