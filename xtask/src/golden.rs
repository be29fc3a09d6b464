//! `cargo xtask pack-golden`: packs the golden stores that are small enough for every clone to carry into
//! `testdata/golden`. The form is described in `testdata/README.md`; the test support of the `offshoot` crate
//! unpacks it. Needs the programs `zstd` and `sha256sum`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// A store whose compressed image is larger stays outside of the repository.
const IMAGE_BYTES_MAX: u64 = 3 << 19;

/// The unit in which cut stores are compared with their base.
const PAGE_BYTES: u32 = 4096;

type Page = [u8; PAGE_BYTES as usize];

/// Packs the stores of `source` into `testdata/golden` of the workspace at `root`, in place of what is there.
pub(crate) fn pack(root: &Path, source: &Path) -> Result<()> {
    ensure!(source.is_dir(), "there are no golden stores at {}", source.display());
    let target = root.join("testdata/golden");
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("cannot replace {}", target.display()))?;
    }
    let mut sums = String::new();
    for (name, store) in folders(source)? {
        if name != "cut" && fs::metadata(store.join("image.raw.zst"))?.len() <= IMAGE_BYTES_MAX {
            println!("packing {name}");
            pack_whole(&store, &target.join(&name))?;
            sums.push_str(&sum_line(&store.join("image.raw.zst"), &format!("{name}/image.raw"))?);
        }
    }
    println!("packing cut");
    sums.push_str(&pack_cut(&source.join("cut"), &target.join("cut"))?);
    fs::write(target.join("SHA256SUMS"), sums).context("cannot write SHA256SUMS")
}

/// Packs a store as its image and its manifest, both compressed as far as possible.
fn pack_whole(store: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    recompress(&store.join("image.raw.zst"), &target.join("image.raw.zst"))?;
    let manifest = fs::read(store.join("manifest.json"))?;
    compress(&target.join("manifest.json.zst"), |out| out.write_all(&manifest))
}

/// Packs the cut stores as the image of the first one, the pages in which each differs from it, and all
/// manifests in one object. Returns their lines of SHA256SUMS.
fn pack_cut(source: &Path, target: &Path) -> Result<String> {
    let stores = folders(source)?;
    let Some((_, base)) = stores.first() else { bail!("there are no stores at {}", source.display()) };
    let base = base.join("image.raw.zst");
    fs::create_dir_all(target)?;
    recompress(&base, &target.join("base.raw.zst"))?;
    let mut manifests = Vec::new();
    let mut sums = String::new();
    for (name, store) in &stores {
        let image = store.join("image.raw.zst");
        let mut base = Decompressor::open(&base)?;
        let mut store_image = Decompressor::open(&image)?;
        compress(&target.join(format!("{name}.pages.zst")), |out| {
            write_difference(&mut base.output, &mut store_image.output, out)
        })?;
        base.finish()?;
        store_image.finish()?;
        manifests.push((name.clone(), fs::read_to_string(store.join("manifest.json"))?));
        sums.push_str(&sum_line(&image, &format!("cut/{name}.raw"))?);
    }
    compress(&target.join("manifests.json.zst"), |out| write_object(&manifests, out))?;
    Ok(sums)
}

/// Writes every page of `image` that differs from `base` as its offset (8 bytes, little-endian), its length (4
/// bytes, little-endian) and its bytes. Both must have the same length, a multiple of the page.
fn write_difference(base: &mut impl Read, image: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut base_page: Page = [0; PAGE_BYTES as usize];
    let mut page = base_page;
    let mut offset = 0_u64;
    while read_page(image, &mut page)? {
        if !read_page(base, &mut base_page)? {
            return Err(io::Error::other("the image is longer than the base"));
        }
        if page != base_page {
            out.write_all(&offset.to_le_bytes())?;
            out.write_all(&PAGE_BYTES.to_le_bytes())?;
            out.write_all(&page)?;
        }
        offset += u64::from(PAGE_BYTES);
    }
    if read_page(base, &mut base_page)? {
        return Err(io::Error::other("the image is shorter than the base"));
    }
    Ok(())
}

/// Fills `page` with what comes next. False at the end; a page that is cut short is an error.
fn read_page(input: &mut impl Read, page: &mut Page) -> io::Result<bool> {
    let mut first = [0];
    if input.read(&mut first)? == 0 {
        return Ok(false);
    }
    page[0] = first[0];
    input.read_exact(&mut page[1..])?;
    Ok(true)
}

/// Writes JSON values as the members of one object, each as it stands.
fn write_object(members: &[(String, String)], out: &mut impl Write) -> io::Result<()> {
    let mut separator = '{';
    for (name, value) in members {
        // Names of folders here: nothing in them needs an escape.
        write!(out, "{separator}\n\"{name}\": {}", value.trim_end())?;
        separator = ',';
    }
    writeln!(out, "\n}}")
}

/// The folders in `parent` by name, in order.
fn folders(parent: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent).with_context(|| format!("cannot read {}", parent.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    folders.sort();
    Ok(folders)
}

/// The line of SHA256SUMS for the decompressed content of `path`, under `name`.
fn sum_line(path: &Path, name: &str) -> Result<String> {
    let mut image = Decompressor::open(path)?;
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sha256sum")?;
    if let Some(mut input) = child.stdin.take() {
        io::copy(&mut image.output, &mut input).context("cannot write to sha256sum")?;
    }
    image.finish()?;
    let output = child.wait_with_output().context("cannot wait for sha256sum")?;
    let text = String::from_utf8(output.stdout)?;
    let sum = text.split_whitespace().next().context("sha256sum printed nothing")?;
    Ok(format!("{sum}  {name}\n"))
}

fn recompress(source: &Path, target: &Path) -> Result<()> {
    let mut image = Decompressor::open(source)?;
    compress(target, |out| io::copy(&mut image.output, out).map(drop))?;
    image.finish()
}

/// Writes the file `target`, compressed, with what `write` produces.
fn compress(target: &Path, write: impl FnOnce(&mut BufWriter<ChildStdin>) -> io::Result<()>) -> Result<()> {
    let failed = || format!("cannot write {}", target.display());
    let mut zstd = Command::new("zstd")
        .args(["-q", "-19", "-c"])
        .stdin(Stdio::piped())
        .stdout(File::create(target).with_context(failed)?)
        .spawn()
        .context("cannot run zstd")?;
    let Some(input) = zstd.stdin.take() else { bail!("zstd has no input") };
    let mut input = BufWriter::with_capacity(1 << 20, input);
    write(&mut input).with_context(failed)?;
    input.flush().with_context(failed)?;
    drop(input);
    ensure!(zstd.wait()?.success(), "zstd failed to write {}", target.display());
    Ok(())
}

/// A `zstd` that decompresses a file into a pipe.
struct Decompressor {
    zstd: Child,
    output: ChildStdout,
}

impl Decompressor {
    fn open(path: &Path) -> Result<Self> {
        let mut zstd = Command::new("zstd")
            .args(["-q", "-d", "-c"])
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run zstd")?;
        let output = zstd.stdout.take().context("zstd has no output")?;
        Ok(Self { zstd, output })
    }

    /// Must be called once the output is read to its end: only then is it known to be complete.
    fn finish(mut self) -> Result<()> {
        ensure!(self.zstd.wait()?.success(), "zstd failed to decompress an image");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages that are filled with the given bytes.
    fn image(fills: &[u8]) -> Vec<u8> {
        fills.iter().flat_map(|fill| [*fill; PAGE_BYTES as usize]).collect()
    }

    fn difference(base: &[u8], image: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        write_difference(&mut &*base, &mut &*image, &mut out).map(|()| out)
    }

    #[test]
    fn the_difference_names_the_changed_pages() {
        assert!(difference(&image(&[1, 2]), &image(&[1, 2])).unwrap().is_empty());
        let difference = difference(&image(&[1, 2, 3]), &image(&[1, 0, 3])).unwrap();
        let expected = [&4096_u64.to_le_bytes()[..], &4096_u32.to_le_bytes(), &image(&[0])].concat();
        assert_eq!(difference, expected);
    }

    #[test]
    fn images_of_other_lengths_are_refused() {
        for (base, store) in
            [(image(&[1]), image(&[1, 1])), (image(&[1, 1]), image(&[1])), (image(&[1]), vec![1])]
        {
            assert!(difference(&base, &store).is_err(), "{} and {}", base.len(), store.len());
        }
    }

    #[test]
    fn values_become_members_as_they_stand() {
        let members = [("a".to_owned(), "{\n \"x\": 1\n}\n".to_owned()), ("b".to_owned(), "2".to_owned())];
        let mut out = Vec::new();
        write_object(&members, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\n\"a\": {\n \"x\": 1\n},\n\"b\": 2\n}\n");
    }
}
