//! The project's own commands, run as `cargo xtask VERB`: the gate, the house rules and the packing of test
//! data. Everything here is for those who work on the project; nothing is shipped.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]

mod bitflips;
mod campaign;
mod counts;
mod fuzz;
mod gate;
mod golden;
mod guest;
mod kernel_disks;
mod kills;
mod load;
mod powercut;
mod sim;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask VERB

  test                  run the whole gate: house rules, formatting, lints, tests, documentation
  tidy                  check the house rules only
  kills [--count N] [--seed N]
                        kill servers and commands N times each on a file and a loop device, and compare
  load [--seconds N] [--clients N] [--exports N] [--seed N]
                        manage lvols over RPC while fio writes to others; 50 clients, 20 exports, 60 s unless told
  powercut [--seconds N] [--seed N] [--states N] [--again]
                        cut the power of a store in a guest, everywhere, and see what is left
  kernel-disks          lvols as devices of the kernel's (/dev/nbdN), in a guest whose kernel has them
  bitflips              flip every bit of the metadata of small stores, and see what becomes of each
  sim [--seed N | --minutes M | --break RULE | ...]
                        what crashes do to a store, on a simulated disk
  campaign              everything that takes longer than the gate may: millions of crash states, each rule broken
  fuzz [TARGET] [--seconds N] [--merge]
                        run the fuzz targets: super_block, md_page, image, rpc; all of them unless told, 60 s each
  pack-golden [SHARED]  regenerate testdata/golden from SHARED/golden (../shared unless told)
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[&str]) -> Result<ExitCode> {
    let root = workspace_root()?;
    match args {
        ["test"] => gate::run(&root),
        ["tidy"] => tidy_alone(&root),
        ["kills", options @ ..] if let Some(options) = kills::Options::parse(options) => {
            kills::run(&root, &options)
        }
        ["load", options @ ..] if let Some(options) = load::Options::parse(options) => {
            load::run(&root, &options)
        }
        [verb @ ("powercut" | "powercut-inside"), args @ ..] => powercut::run(&root, verb, args),
        ["kernel-disks"] => kernel_disks::run(&root),
        ["kernel-disks-inside"] => kernel_disks::run_inside(),
        ["sim", args @ ..] => sim::run(&root, args),
        ["bitflips"] => bitflips::run(&root),
        ["campaign"] => campaign::run(&root),
        ["fuzz", options @ ..] if let Some(options) = fuzz::Options::parse(options) => {
            fuzz::run(&root, &options)
        }
        ["pack-golden"] => golden::pack(&root, &root.join("../shared/golden")).map(|()| ExitCode::SUCCESS),
        ["pack-golden", shared] => {
            golden::pack(&root, &Path::new(shared).join("golden")).map(|()| ExitCode::SUCCESS)
        }
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn tidy_alone(root: &Path) -> Result<ExitCode> {
    let findings = tidy::check(root)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder of the root manifest. Cargo names the package's folder at run time; the one known when this was
/// compiled may have moved since.
fn workspace_root() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().map(Path::to_path_buf).context("the xtask package has no parent folder")
}
