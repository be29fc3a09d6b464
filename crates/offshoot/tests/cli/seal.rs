//! `seal`: it says what it takes, does it, and can be broken off; `info` tells beforehand.

use super::bench::{Bench, KIB, MIB, noise};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// A clone with a cluster in part and one of zeros over a snapshot of an image.
fn native(bench: &Bench) {
    bench.write("image", 2 * MIB, &[(0, &noise(1, MIB)), (MIB + 4 * KIB, &noise(2, 4 * KIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=base"]);
    bench.ok(&["resize", "s", "a", "64K"]);
    bench.ok(&["resize", "s", "a", "2M"]);
}

#[test]
fn says_what_it_takes_and_does_it() {
    let bench = Bench::with_store();
    native(&bench);
    let info = bench.json(&["info", "s", "--json"]);
    // What the clone hides since it has shrunk: the rest of 1 MiB and one cluster behind it, of 64 KiB each.
    assert_eq!((&info["sealed"], &info["seal_clusters"]), (&false.into(), &16.into()));
    let takes = "clusters to fill in: 17; free ones needed: 16 (1M); to write: 1M\n";
    for lvol in ["a", "base"] {
        bench.ok(&["export", "s", lvol, lvol]);
    }
    assert_eq!(bench.ok(&["seal", "s"]), format!("{takes}sealed\n"));
    let info = bench.json(&["info", "s", "--json"]);
    assert_eq!((&info["sealed"], &info["seal_clusters"]), (&true.into(), &0.into()));
    for lvol in ["a", "base"] {
        bench.ok(&["export", "s", lvol, "again", "--force"]);
        assert!(bench.read(lvol) == bench.read("again"), "{lvol}");
    }
    bench.ok(&["check", "s"]);
    // Sealing what is sealed changes nothing.
    let before = bench.read("s");
    assert_eq!(bench.ok(&["seal", "s"]), "sealed\n");
    assert!(bench.read("s") == before);
}

#[test]
fn refuses_with_numbers_when_space_is_short() {
    let bench = Bench::with_store();
    native(&bench);
    let free = bench.json(&["info", "s", "--json"])["free_clusters"].as_u64().unwrap();
    bench.ok(&["create", "s", "all", &((free - 5) * 64 * KIB).to_string(), "--thick"]);
    assert_eq!(bench.refused(&["seal", "s"]), "no space: 16 clusters needed, 5 free");
    bench.ok(&["rm", "s", "all"]);
    bench.ok(&["seal", "s"]);
}

/// Ctrl-C at any moment: either it was done before, or it says how to go on; then it goes on.
#[test]
fn goes_on_after_an_interrupt() {
    for delay_ms in [0, 5, 20, 60] {
        let bench = Bench::with_store();
        native(&bench);
        let mut command = bench.command(&["seal", "s"]);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay_ms));
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = process.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => assert_eq!(errors, ""),
            Some(1) => assert_eq!(errors, "offshoot: interrupted: run it again to go on\n"),
            // It came before the command could listen.
            _ => {}
        }
        assert!(bench.ok(&["seal", "s"]).ends_with("sealed\n"));
        bench.ok(&["check", "s"]);
    }
}
