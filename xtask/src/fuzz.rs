//! `cargo xtask fuzz`: the targets of `fuzz/`, built with libFuzzer on the stable toolchain and run over their corpora.
//!
//! The flags are what rustc hands to LLVM's coverage pass; libFuzzer itself comes with the crate `libfuzzer-sys`. New
//! finds go to a folder below `target/`: only what [`MERGED_BYTES`] allows of them is committed, by `--merge`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

/// The targets, in the order in which they run.
const TARGETS: &[&str] = &["super_block", "md_page", "image", "nbd", "rpc"];

/// Coverage of edges as counters, comparisons and the table of program counters.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Largest input that is committed.
const MERGED_BYTES: u64 = 16 << 10;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options<'a> {
    /// One target, or all.
    target: Option<&'a str>,
    /// Seconds for each.
    seconds: u32,
    /// Whether finds are merged into the committed corpus afterwards.
    merge: bool,
}

impl<'a> Options<'a> {
    /// `[TARGET] [--seconds N] [--merge]`. `None` when the arguments are something else.
    pub(crate) fn parse(args: &[&'a str]) -> Option<Self> {
        let mut options = Self { target: None, seconds: 60, merge: false };
        let mut args = args.iter().copied();
        while let Some(arg) = args.next() {
            match arg {
                "--seconds" => options.seconds = args.next()?.parse().ok()?,
                "--merge" => options.merge = true,
                target if TARGETS.contains(&target) && options.target.is_none() => {
                    options.target = Some(target);
                }
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Builds the targets and runs them one after the other.
pub(crate) fn run(root: &Path, options: &Options<'_>) -> Result<ExitCode> {
    let folder = root.join("fuzz");
    let target_dir =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("fuzz");
    build(&folder, &target_dir)?;
    for target in TARGETS.iter().filter(|target| options.target.is_none_or(|only| only == **target)) {
        let program = target_dir.join(host()?).join("release").join(target);
        let committed = folder.join("corpus").join(target);
        let finds = target_dir.join("corpus").join(target);
        let artifacts = target_dir.join("artifacts").join(target);
        for folder in [&committed, &finds, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        println!("== {target}: {} s", options.seconds);
        let mut command = Command::new(&program);
        command
            .arg(format!("-max_total_time={}", options.seconds))
            .args(["-print_final_stats=1", "-timeout=20"]);
        command.arg(format!("-max_len={MERGED_BYTES}"));
        command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&finds).arg(&committed);
        if !command.status().with_context(|| format!("cannot run {}", program.display()))?.success() {
            bail!("{target} failed: the input is in {}", artifacts.display());
        }
        if options.merge {
            merge(&program, &committed, &finds)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds to the committed corpus what covers something new.
fn merge(program: &Path, committed: &Path, finds: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["-merge=1".to_owned(), format!("-max_len={MERGED_BYTES}")]).arg(committed).arg(finds);
    if !command.status().with_context(|| format!("cannot run {}", program.display()))?.success() {
        bail!("the corpus of {} was not merged", program.display());
    }
    Ok(())
}

fn build(folder: &Path, target_dir: &Path) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(folder).args(["build", "--release", "--locked", "--bins", "--target", &host()?]);
    // With a target of its own named, the flags are not for build scripts.
    command
        .env("CARGO_TARGET_DIR", target_dir)
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .env("RUSTC_BOOTSTRAP", "1");
    if !command.status().context("cannot run cargo")?.success() {
        bail!("the fuzz targets cannot be built");
    }
    Ok(())
}

/// The triple of this machine, as rustc says it.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let all = Options { target: None, seconds: 60, merge: false };
        assert_eq!(Options::parse(&[]), Some(all));
        let one = Options { target: Some("image"), seconds: 5, merge: true };
        assert_eq!(Options::parse(&["image", "--seconds", "5", "--merge"]), Some(one));
        for wrong in [&["images"][..], &["--seconds"], &["--seconds", "x"], &["image", "md_page"]] {
            assert_eq!(Options::parse(wrong), None, "{wrong:?}");
        }
    }
}
