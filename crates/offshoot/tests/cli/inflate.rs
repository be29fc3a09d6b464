//! `inflate`: it says what it takes, does it at a pace, and can be broken off.

use super::bench::{Bench, KIB, MIB, noise};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// A clone `a`, of 32 clusters, with a block of its own, over a snapshot of an image.
fn cloned(bench: &Bench) {
    bench.write("image", 2 * MIB, &[(0, &noise(1, MIB))]);
    bench.ok(&["import", "s", "a", "image"]);
    bench.ok(&["snapshot", "s", "a=base"]);
    bench.ok(&["resize", "s", "a", "1M"]);
    bench.ok(&["resize", "s", "a", "2M"]);
    bench.ok(&["export", "s", "a", "before"]);
}

#[test]
fn says_what_it_takes_and_does_it() {
    let bench = Bench::with_store();
    cloned(&bench);
    let takes = "clusters to fill in: 32; free ones needed: 32 (2M); to write: 2M\n";
    let done = "lvol \"a\" holds all that it reads\n";
    let start = Instant::now();
    assert_eq!(bench.ok(&["inflate", "s", "a", "--rate", "10M"]), format!("{takes}{done}"));
    assert!(start.elapsed() > Duration::from_millis(100), "it takes no notice of its rate");
    let lvols = bench.json(&["ls", "s", "--json"]);
    let lvol = lvols.as_array().unwrap().iter().find(|lvol| lvol["name"] == "a").unwrap();
    assert_eq!((&lvol["thin"], &lvol["own_bytes"]), (&false.into(), &(2 * MIB).into()));
    assert!(lvol["parent"].is_null());
    bench.ok(&["rm", "s", "base"]);
    bench.ok(&["export", "s", "a", "after"]);
    assert!(bench.read("before") == bench.read("after"));
    bench.ok(&["check", "s"]);
    // Once more changes nothing.
    let before = bench.read("s");
    assert_eq!(bench.ok(&["inflate", "s", "a"]), done);
    assert!(bench.read("s") == before);
}

#[test]
fn refuses_with_numbers_when_space_is_short() {
    let bench = Bench::with_store();
    cloned(&bench);
    let free = bench.json(&["info", "s", "--json"])["free_clusters"].as_u64().unwrap();
    bench.ok(&["create", "s", "all", &((free - 5) * 64 * KIB).to_string(), "--thick"]);
    assert_eq!(bench.refused_without_a_trace(&["inflate", "s", "none"]), "no lvol named \"none\"");
    assert_eq!(bench.refused(&["inflate", "s", "a", "--rate", "0"]), "--rate 0: it would never end");
    assert_eq!(bench.refused(&["inflate", "s", "a"]), "no space: 32 clusters needed, 5 free");
}

/// Ctrl-C leaves an lvol that is still a clone, and the next run goes on.
#[test]
fn goes_on_after_an_interrupt() {
    let bench = Bench::with_store();
    cloned(&bench);
    let mut command = bench.command(&["inflate", "s", "a", "--rate", "1M"]);
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = process.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*errors), (Some(1), "offshoot: interrupted: run it again to go on\n"));
    let said = bench.ok(&["inflate", "s", "a"]);
    assert!(!said.starts_with("clusters to fill in: 32;"), "what was done is done again: {said}");
    bench.ok(&["export", "s", "a", "after"]);
    assert!(bench.read("before") == bench.read("after"));
    bench.ok(&["check", "s"]);
}
