//! The files of the workspace, read once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Files with these extensions are text that the rules look into; of others only the size is known.
const TEXT: &[&str] = &["md", "rs", "sh", "toml"];

/// Every file of the workspace by its path relative to the root, with `/` between the parts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
struct File {
    size_bytes: u64,
    text: Option<String>,
}

impl Tree {
    /// Reads the tree at `root`, without what git and cargo keep there. Symbolic links are not followed.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    /// A tree of the files given as (path, text).
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |text: &str| File { size_bytes: text.len() as u64, text: Some(text.to_owned()) };
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect() }
    }

    /// The text files whose path ends with `suffix`, as (path, text), in order of path.
    pub(crate) fn texts<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .filter_map(|(path, file)| Some((path.as_str(), file.text.as_deref()?)))
    }

    /// The text of one file, if it is there and is text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.text.as_deref()
    }

    /// Path and size in bytes of every file.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file.size_bytes))
    }

    /// Whether there is a file, or a folder with files, at `path`. The root is the empty path.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.range(folder.clone()..).next().is_some_and(|(first, _)| first.starts_with(&folder))
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let unreadable = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(folder).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let path = entry.path();
            let name = entry.file_name();
            let relative = format!("{prefix}{}", name.to_string_lossy());
            let kind = entry.file_type().with_context(unreadable)?;
            if kind.is_dir() {
                // Cargo marks its target folders, wherever they are, as caches.
                if name != ".git" && !path.join("CACHEDIR.TAG").exists() {
                    self.read_folder(&path, &format!("{relative}/"))?;
                }
            } else if kind.is_file() {
                self.files.insert(relative, File::read(&path)?);
            }
        }
        Ok(())
    }
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let unreadable = || format!("cannot read {}", path.display());
        let size_bytes = fs::metadata(path).with_context(unreadable)?.len();
        let is_text = path.extension().is_some_and(|extension| TEXT.iter().any(|text| extension == *text));
        let text = if is_text { Some(fs::read_to_string(path).with_context(unreadable)?) } else { None };
        Ok(Self { size_bytes, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_contained_when_they_hold_files() {
        let tree = Tree::of(&[("docs/adr/0001-x.md", ""), ("docs-old.md", "")]);
        for (path, contained) in [
            ("", true),
            ("docs", true),
            ("docs/adr", true),
            ("docs/adr/0001-x.md", true),
            ("doc", false),
            ("docs/ad", false),
            ("docs-old.md", true),
        ] {
            assert_eq!(tree.contains(path), contained, "{path:?}");
        }
    }

    #[test]
    fn this_workspace_can_be_read() {
        let tree = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(tree.text("src/tidy/tree.rs").is_some());
        assert!(tree.contains("Cargo.toml"));
    }
}
