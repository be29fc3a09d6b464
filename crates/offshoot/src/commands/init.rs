//! `offshoot init`: a new store in a file or on a block device.

use crate::clear::ClearMethod;
use crate::interrupt::Interrupt;
use crate::open::{self, described, device};
use crate::progress::Progress;
use crate::report;
use crate::size::{Bytes, Size};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use offshoot_block::BlockDevice as _;
use offshoot_device::{FileDevice, HostDevice as _, OpenOptions, StoreLock};
use offshoot_store::{InitOptions, Store, limits, signature};
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// How far a file is searched for content that somebody may miss, in bytes.
const SEARCHED_BYTES: u64 = 1 << 20;

/// Name of a store whose file has a name that is none.
const FALLBACK_NAME: &str = "lvs";

/// Make a new store in a file or on a block device
///
/// A file that does not exist is made, sparse. One that holds something already, or a device with a known file system
/// or partition table, is refused.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// File or block device
    #[arg(value_name = "STORE")]
    path: PathBuf,
    /// Size of the file; needed unless there is one of some size already, which may grow but not shrink
    #[arg(long)]
    size: Option<Size>,
    /// Name of the store [default: the name of the file without its extension]
    #[arg(long)]
    name: Option<String>,
    /// Unit of allocation
    #[arg(long, value_name = "SIZE", default_value = "256K")]
    cluster_size: Size,
    /// Smallest unit of I/O, in bytes [default: 512 where the device has it]
    #[arg(long, value_name = "512|4096", value_parser = block_size)]
    block_size: Option<u32>,
    /// What is done with the space for data
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    clear_method: ClearMethod,
    /// Use a file or device that holds something already; what it holds is lost
    #[arg(long)]
    force: bool,
}

/// Parses `--block-size`.
fn block_size(text: &str) -> Result<u32, &'static str> {
    match text {
        "512" => Ok(512),
        "4096" | "4K" | "4k" => Ok(4096),
        _ => Err("give 512 or 4096"),
    }
}

/// A device to make a store on, and how to leave everything as it was when that fails.
struct Ground {
    device: FileDevice,
    undo: Undo,
}

enum Undo {
    Nothing,
    Remove,
    Shrink(u64),
}

/// Makes the store.
///
/// # Errors
/// Why not. A file that was made for it is gone again.
pub(crate) fn run(args: &InitArgs) -> Result<()> {
    let cluster_bytes = args.cluster_size.bytes()?;
    let mut options = InitOptions {
        journal_bytes: None,
        name: args.name.clone().unwrap_or_else(|| name_for(&args.path)),
        uuid: Uuid::new_v4(),
        cluster_size: u32::try_from(cluster_bytes)
            .ok()
            .with_context(|| format!("a cluster size of {cluster_bytes} bytes is too large"))?,
        block_size: args.block_size.unwrap_or(512),
        md_page_size: 4096,
        native: true,
        clear_method: args.clear_method.into(),
    };
    let size = args.size.map(Size::bytes).transpose()?;
    // A name or sizes that will not do are refused before anything is touched.
    if let Some(size) = size {
        offshoot_store::init(size, &options).with_context(|| args.path.display().to_string())?;
    }
    let interrupt = Interrupt::install()?;
    let ground = match fs::metadata(&args.path) {
        Ok(metadata) => existing(args, &metadata, size, &options)
            .map_err(|error| open::wants_it_alone(error, "making it anew"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => created(args, size)?,
        Err(error) => return Err(error).with_context(|| args.path.display().to_string()),
    };
    let Ground { device, undo } = ground;
    let made = make(args, device, &mut options, &interrupt);
    if made.is_err() {
        undo.apply(&args.path);
    }
    report::done(made?);
    Ok(())
}

/// Writes the store. Returns what to say about it.
fn make(
    args: &InitArgs,
    device: FileDevice,
    options: &mut InitOptions,
    interrupt: &Interrupt,
) -> Result<String> {
    let smallest = device.geometry().logical_block;
    options.block_size = match args.block_size {
        Some(wanted) if wanted < smallest => {
            bail!("{}: has blocks of {smallest} bytes, not {wanted}", args.path.display())
        }
        wanted => wanted.unwrap_or(smallest),
    };
    let opening = crate::open::opening(&device, false);
    let mut progress = None;
    let made = Store::init_watched(device, options, &opening, |done, total| {
        progress.get_or_insert_with(|| Progress::new("init", Some(total))).reach(done);
        if interrupt.check().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let store = made.with_context(|| args.path.display().to_string())?;
    let layout = &store.state().layout;
    Ok(format!(
        "made lvstore \"{}\" in {}: {} in {} clusters of {}, {} of them free",
        store.state().name(),
        report::plain(&args.path.display().to_string()),
        Bytes(layout.size_bytes),
        layout.total_clusters,
        Bytes(layout.cluster_size.into()),
        store.engine().free_clusters(),
    ))
}

/// A file that was not there before.
fn created(args: &InitArgs, size: Option<u64>) -> Result<Ground> {
    let Some(size) = size else {
        bail!("{}: does not exist: give --size to make it", args.path.display());
    };
    let device = FileDevice::create(&args.path, size, &open_options(args)).map_err(described)?;
    Ok(Ground { device, undo: Undo::Remove })
}

/// A file or block device that is there, if it may be used.
fn existing(
    args: &InitArgs,
    metadata: &Metadata,
    size: Option<u64>,
    options: &InitOptions,
) -> Result<Ground> {
    let path = &args.path;
    let is_block_device = metadata.file_type().is_block_device();
    if metadata.is_file() && metadata.len() == 0 {
        let Some(size) = size else {
            bail!("{}: is empty: give --size", path.display());
        };
        extend_empty(path, size)?;
        let device = device(path, &open_options(args));
        return match device {
            Ok(device) => Ok(Ground { device, undo: Undo::Shrink(0) }),
            Err(error) => {
                Undo::Shrink(0).apply(path);
                Err(error)
            }
        };
    }
    let mut device = device(path, &open_options(args))?;
    if !args.force {
        refuse_content(path, is_block_device)?;
    }
    let present = device.geometry().size_bytes;
    if let Some(size) = size.filter(|size| *size < present || is_block_device && *size != present) {
        bail!("{}: has {present} bytes, which --size {size} cannot change", path.display());
    }
    offshoot_store::init(size.unwrap_or(present), options).with_context(|| path.display().to_string())?;
    if let Some(size) = size.filter(|size| *size > present) {
        device.grow(size).with_context(|| path.display().to_string())?;
    }
    Ok(Ground { device, undo: if is_block_device { Undo::Nothing } else { Undo::Shrink(metadata.len()) } })
}

fn open_options(args: &InitArgs) -> OpenOptions {
    OpenOptions {
        // A block that the file system cannot do directly is to be had through the page cache.
        logical_block: args.block_size.filter(|block| *block == 512),
        ..OpenOptions::writable()
    }
}

/// Gives an empty file its size, unless somebody uses it.
fn extend_empty(path: &Path, size: u64) -> Result<()> {
    let failed = || path.display().to_string();
    let _lock = StoreLock::exclusive(path).with_context(failed)?;
    let file = File::options().write(true).open(path).with_context(failed)?;
    file.set_len(size).with_context(failed)
}

/// Refuses what somebody may miss.
fn refuse_content(path: &Path, is_block_device: bool) -> Result<()> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(SEARCHED_BYTES).read_to_end(&mut start).with_context(|| path.display().to_string())?;
    let probed = &start[..start.len().min(signature::PROBE_BYTES)];
    if let Some(what) = signature::name(probed) {
        bail!("{}: holds {what}: give --force to overwrite it", path.display());
    }
    if !is_block_device && !crate::zeros::is_zero(&start) {
        bail!("{}: is not empty: give --force to overwrite it", path.display());
    }
    Ok(())
}

impl Undo {
    /// What cannot be undone is left: the failure that is being reported matters more.
    fn apply(self, path: &Path) {
        let _ = match self {
            Self::Nothing => Ok(()),
            Self::Remove => fs::remove_file(path),
            Self::Shrink(len) => File::options().write(true).open(path).and_then(|file| file.set_len(len)),
        };
    }
}

/// A name for the store from that of its file.
fn name_for(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = String::new();
    for char in stem.chars() {
        let char = if char.is_control() || "/=".contains(char) { '-' } else { char };
        if name.len() + char.len_utf8() > limits::NAME_BYTES_MAX {
            break;
        }
        name.push(char);
    }
    if name.is_empty() { FALLBACK_NAME.to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        let long = "ü".repeat(40);
        for (path, expected) in [
            ("/vols/a.img", "a"),
            ("b", "b"),
            ("a=b\n.img", "a-b-"),
            (".hidden", ".hidden"),
            ("..", "lvs"),
            ("/", "lvs"),
            (long.as_str(), "ü".repeat(31).as_str()),
        ] {
            let name = name_for(Path::new(path));
            assert_eq!(name, expected);
            assert_eq!(offshoot_store::check_name(&name), Ok(()));
        }
    }
}
