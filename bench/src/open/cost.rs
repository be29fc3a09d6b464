//! What one opening of a store costs.

use crate::counted::Counted;
use crate::figures::{aim, median, ratio};
use crate::raw;
use crate::stores::{Scratch, opening};
use anyhow::{Context as _, Result, ensure};
use offshoot_device::{FileDevice, OpenOptions};
use offshoot_format::{Layout, MdPageIdx};
use offshoot_store::Store;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The argument that makes this program open a store once and print what that cost.
pub(crate) const ONE_OPENING: &str = "--one-opening";

const MIB: u64 = 1 << 20;

/// What one opening cost.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    open: Duration,
    /// Reading what the opening read, raw.
    same_bytes: Duration,
    /// Reading the md pages in use, raw.
    pages_in_use: Duration,
    read_bytes: u64,
    in_use_bytes: u64,
    written_bytes: u64,
    peak_kib: u64,
}

/// Opens the store that a crash left, and prints the cost as one line of numbers.
pub(crate) fn one_opening(path: &Path) -> Result<()> {
    let options = OpenOptions::writable();
    let device = FileDevice::open(path, &options)?;
    ensure!(device.is_direct(), "{}: O_DIRECT is not to be had", path.display());
    let start = Instant::now();
    let store = Store::open(Counted::new(device), Vec::new(), &opening())?;
    let open = start.elapsed();
    let peak_kib = peak_kib()?;
    ensure!(store.findings().is_empty(), "{:?}", store.findings());
    let stats = store.device().stats();
    let same = merged(store.device().reads().iter().map(|read| read.offset.0..read.offset.0 + read.len));
    let in_use = pages_in_use(&store.state().layout, store.state().md.used().iter_ones());
    // Not closed: the next opening is one after a crash, too.
    drop(store);
    let mut device = FileDevice::open(path, &options)?;
    let same_bytes = raw::read(&mut device, &same)?;
    let pages_in_use = raw::read(&mut device, &in_use)?;
    let in_use_bytes: u64 = in_use.iter().map(|range| range.end - range.start).sum();
    println!(
        "{} {} {} {} {in_use_bytes} {} {peak_kib}",
        open.as_nanos(),
        same_bytes.as_nanos(),
        pages_in_use.as_nanos(),
        stats.reads.bytes,
        stats.writes.bytes,
    );
    Ok(())
}

impl Cost {
    /// Opens the store in a process of its own.
    pub(super) fn of_one(file: &Scratch) -> Result<Self> {
        let program = std::env::current_exe()?;
        let output = Command::new(program).arg(ONE_OPENING).arg(file.path()).output()?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let numbers: Vec<u64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [open, same, in_use, read_bytes, in_use_bytes, written_bytes, peak_kib] =
            *numbers.first_chunk::<7>().context("seven numbers")?;
        Ok(Self {
            open: Duration::from_nanos(open),
            same_bytes: Duration::from_nanos(same),
            pages_in_use: Duration::from_nanos(in_use),
            read_bytes,
            in_use_bytes,
            written_bytes,
            peak_kib,
        })
    }

    pub(super) fn report(name: &str, costs: &[Self]) {
        let time = |part: fn(&Self) -> Duration| median(costs.iter().map(part).collect());
        let bytes = |part: fn(&Self) -> u64| median(costs.iter().map(part).collect());
        let (open, same) = (time(|cost| cost.open), time(|cost| cost.same_bytes));
        let in_use = time(|cost| cost.pages_in_use);
        println!("    {name}: {:.3} s{}", open.as_secs_f64(), aim("1 s at 4 MiB"));
        println!(
            "      read {:.1} MiB, written {:.1} MiB, peak of memory {:.1} MiB",
            ratio(bytes(|cost| cost.read_bytes), MIB),
            ratio(bytes(|cost| cost.written_bytes), MIB),
            ratio(bytes(|cost| cost.peak_kib), 1024),
        );
        println!("      those bytes raw: {:.3} s, ratio {:.2}", same.as_secs_f64(), quotient(open, same));
        println!(
            "      md pages in use raw, {:.1} MiB: {:.3} s, ratio {:.2}{}",
            ratio(bytes(|cost| cost.in_use_bytes), MIB),
            in_use.as_secs_f64(),
            quotient(open, in_use),
            aim("1.5"),
        );
    }
}

fn quotient(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64()
}

/// Where the md pages of these numbers are, in bytes.
fn pages_in_use(layout: &Layout, pages: impl Iterator<Item = usize>) -> Vec<Range<u64>> {
    let numbers = pages.filter_map(|page| u32::try_from(page).ok());
    let offset = |page| layout.md_page_offset(MdPageIdx(page));
    merged(numbers.map(|page| offset(page)..offset(page) + u64::from(layout.md_page_size)))
}

/// Ranges in ascending order, those that touch or overlap joined.
fn merged(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match all.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
