//! Two processes and one store, and a process that is told to stop.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::bench::{Bench, refusal};

/// An import that waits for more input and so holds the store. Returns when it does.
fn holder(bench: &Bench) -> Child {
    let mut process = bench.holding(&["import", "s", "held", "-"]);
    process.stdin.as_mut().unwrap().write_all(&[1; 4096]).unwrap();
    // To try the lock would be to take it away from the import for a moment.
    let entry = format!(" WRITE {} ", process.id());
    while !fs::read_to_string("/proc/locks").unwrap().contains(&entry) {
        assert!(process.try_wait().unwrap().is_none(), "the import has ended");
    }
    process
}

#[test]
fn the_second_process_is_refused_with_the_pid_of_the_first() {
    let bench = Bench::with_store();
    let mut process = holder(&bench);
    let expected = format!("s is held by process {}", process.id());
    for args in [
        &["info", "s"][..],
        &["ls", "s", "--json"],
        &["check", "s"],
        &["create", "s", "a", "1M"],
        &["export", "s", "held", "out"],
        &["import", "s", "b", "s"],
    ] {
        assert_eq!(bench.refused(args), expected, "{args:?}");
    }
    for (args, what) in
        [(&["init", "s", "--force"][..], "making it anew"), (&["check", "s", "--repair"], "a repair")]
    {
        let expected = format!("{expected}: {what} needs a store that nobody uses: stop that process first");
        assert_eq!(bench.refused(args), expected, "{args:?}");
    }
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
    assert_eq!(bench.names("s"), ["held"]);
}

#[test]
fn readers_share() {
    let bench = Bench::with_store();
    bench.ok(&["create", "s", "a", "16M"]);
    // An export that nobody reads holds the shared lock.
    let mut process = bench.holding(&["export", "s", "a", "-"]);
    let mut first = [0; 1];
    process.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    bench.ok(&["ls", "s"]);
    let expected = format!("s is held by process {}, which reads it", process.id());
    assert_eq!(bench.refused(&["create", "s", "b", "1M"]), expected);
    process.kill().unwrap();
    process.wait().unwrap();
    bench.ok(&["create", "s", "b", "1M"]);
}

#[test]
fn an_interrupted_import_takes_back_what_it_did() {
    for signal in [Signal::INT, Signal::TERM] {
        let bench = Bench::with_store();
        let free = bench.json(&["info", "s", "--json"])["free_clusters"].clone();
        let process = holder(&bench);
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        // Its standard input is open all the time.
        let mut process = process;
        let stdin = process.stdin.take();
        let output = process.wait_with_output().unwrap();
        drop(stdin);
        assert_eq!(refusal(&output), "interrupted");
        assert_eq!(bench.names("s"), [""; 0]);
        assert_eq!(bench.json(&["info", "s", "--json"])["free_clusters"], free);
        bench.ok(&["check", "s"]);
    }
}
