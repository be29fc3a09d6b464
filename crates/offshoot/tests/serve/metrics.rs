//! `serve --metrics`: what is told, and that Prometheus understands it.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::program::Program;
use crate::server::{Server, Store, refused, text};

const CONTRIB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib");

/// The body of the response to a request, which has to be understood.
fn body(mut stream: impl std::io::Read + std::io::Write) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body.to_owned()
}

pub(crate) fn read(socket: &Path) -> String {
    body(UnixStream::connect(socket).unwrap())
}

/// The value of a sample.
pub(crate) fn value(report: &str, sample: &str) -> f64 {
    let line = report.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{sample} is not in\n{report}")).parse().unwrap()
}

/// A server on a store with lvol `vol`, and where its metrics are.
fn serve(store: &Store) -> (Server, std::path::PathBuf) {
    store.run("create", &["vol", "4M"]);
    let socket = store.file("m");
    let server = Server::start(&[&store.path], &["--metrics", &format!("unix:{}", text(&socket))]);
    (server, socket)
}

#[test]
fn clients_and_stores_are_told_of() {
    let store = Store::init("lvs", "64M");
    let (server, socket) = serve(&store);
    assert!(
        server.lines.contains(&format!("serving metrics at unix:{}", text(&socket))),
        "{:?}",
        server.lines
    );
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 8192], 0).unwrap();
    connection.write(0, &[2; 4096], 0).unwrap();
    connection.flush().unwrap();
    connection.read(0, 4096).unwrap();
    let report = read(&socket);
    for (sample, expected) in [
        (r#"offshoot_store_size_bytes{store="lvs"}"#, f64::from(64 << 20)),
        (r#"offshoot_store_lvols{store="lvs"}"#, 1.0),
        (r#"offshoot_store_read_only{store="lvs"}"#, 0.0),
        (r#"offshoot_lvol_size_bytes{store="lvs",lvol="vol"}"#, f64::from(4 << 20)),
        (r#"offshoot_lvol_own_bytes{store="lvs",lvol="vol"}"#, f64::from(256 << 10)),
        (r#"offshoot_lvol_shared_bytes{store="lvs",lvol="vol"}"#, 0.0),
        (r#"offshoot_lvol_connections{store="lvs",lvol="vol"}"#, 1.0),
        (r#"offshoot_lvol_first_writes_total{store="lvs",lvol="vol"}"#, 1.0),
        (r#"offshoot_lvol_operations_total{store="lvs",lvol="vol",op="write"}"#, 2.0),
        (r#"offshoot_lvol_bytes_total{store="lvs",lvol="vol",op="write"}"#, 12_288.0),
        (r#"offshoot_lvol_operations_total{store="lvs",lvol="vol",op="read"}"#, 1.0),
        (r#"offshoot_lvol_operations_total{store="lvs",lvol="vol",op="flush"}"#, 1.0),
        (r#"offshoot_lvol_latency_seconds_count{store="lvs",lvol="vol",op="write"}"#, 2.0),
        (r#"offshoot_lvol_latency_seconds_bucket{store="lvs",lvol="vol",op="write",le="+Inf"}"#, 2.0),
    ] {
        assert!((value(&report, sample) - expected).abs() < 0.5, "{sample}: not {expected}\n{report}");
    }
    assert!(value(&report, r#"offshoot_store_barriers_total{store="lvs"}"#) >= 1.0);
    assert!(value(&report, r#"offshoot_store_journal_used_bytes{store="lvs"}"#) > 0.0);
    assert!(value(&report, r#"offshoot_store_write_amplification_ratio{store="lvs"}"#) >= 1.0);
    assert!(value(&report, r#"offshoot_device_operations_total{store="lvs",op="sync"}"#) >= 1.0);
    connection.disconnect();
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn they_are_read_over_loopback_too_and_nowhere_else() {
    let store = Store::init("lvs", "64M");
    let server = Server::start(&[&store.path], &["--metrics", "127.0.0.1:0"]);
    let line = server.lines.iter().find_map(|line| line.strip_prefix("serving metrics at http://"));
    let address = line.and_then(|place| place.strip_suffix("/metrics")).unwrap();
    // One who says nothing keeps nobody from reading for long.
    let _silent = TcpStream::connect(address).unwrap();
    assert!(body(TcpStream::connect(address).unwrap()).contains("offshoot_build_info"));
    server.stop();
    for place in ["192.0.2.1:9000", "0.0.0.0:9000", "nowhere", "unix:", "127.0.0.1"] {
        let line = refused(&store.path, &["--metrics", place]);
        assert!(line.starts_with(&format!("offshoot: --metrics {place}: ")), "{line}");
    }
}

#[test]
fn prometheus_understands_the_report_and_the_rules() {
    let Some(promtool) = Program::find("promtool") else { return };
    let rules = format!("{CONTRIB}/prometheus/offshoot.rules.yml");
    promtool.run(&["check", "rules", &rules]);
    let store = Store::init("lvs", "64M");
    let (server, socket) = serve(&store);
    let mut connection = server.connect("vol");
    connection.write(0, &[1; 512], 0).unwrap();
    let report = read(&socket);
    connection.disconnect();
    server.stop();
    let mut check = promtool.command();
    let mut check =
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(report.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_dashboard_and_the_rules_know_only_metrics_that_there_are() {
    let store = Store::init("lvs", "64M");
    let (server, socket) = serve(&store);
    let report = read(&socket);
    server.stop();
    let known = |name: &str| {
        ["", "_bucket"].iter().any(|end| {
            name.strip_suffix(end).is_some_and(|family| report.contains(&format!("# TYPE {family} ")))
        })
    };
    for file in ["prometheus/offshoot.rules.yml", "grafana/offshoot.json"] {
        let content = fs::read_to_string(format!("{CONTRIB}/{file}")).unwrap();
        // Names that rules record have colons before them.
        let named = content.match_indices("offshoot_").filter(|(at, _)| !content[..*at].ends_with(':'));
        for (at, _) in named {
            let rest = &content[at..];
            let end = rest.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
            let name = &rest[..end.unwrap_or(rest.len())];
            assert!(known(name), "{file}: {name}");
        }
    }
    let dashboard = fs::read_to_string(format!("{CONTRIB}/grafana/offshoot.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    assert_eq!(dashboard["panels"].as_array().map(Vec::len), Some(10));
}
