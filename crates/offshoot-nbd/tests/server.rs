//! The server over real sockets: clients that behave badly, and what others notice of it.
#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod common;

use common::memory::export;
use common::running::{RawClient, Running};
use common::wire::{self, *};
use offshoot_nbd::{Adopted, ExportId, ExportInfo};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;

fn one_export() -> Running {
    Running::start(vec![export("vol", 64 * MIB, false)])
}

/// Waits until a condition holds that is about to.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[test]
fn connections_share_an_export() {
    let mut running = one_export();
    let mut writer = running.open("vol");
    let mut reader = running.open("");
    writer.send(&wire::write(0, 1, 4096, b"shared"));
    assert_eq!(writer.reply(), (1, 0, vec![]));
    reader.send(&request(READ, 0, 2, 4096, 6));
    let (cookie, error, payload) = reader.reply();
    assert_eq!((cookie, error, &payload[8..]), (2, 0, &b"shared"[..]));
    drop((writer, reader));
    running.stop();
    assert_eq!(running.control.opened.load(Ordering::SeqCst), 2);
    assert_eq!(running.control.closed.load(Ordering::SeqCst), 2);
}

#[test]
fn serves_tcp_on_loopback() {
    let running = one_export();
    let mut stream = TcpStream::connect(("127.0.0.1", running.tcp_port)).unwrap();
    let mut greeting = [0; 18];
    std::io::Read::read_exact(&mut stream, &mut greeting).unwrap();
    assert_eq!(&greeting[..8], b"NBDMAGIC");
}

#[test]
fn a_client_that_does_not_read_stalls_nobody() {
    let running = one_export();
    let mut deaf = running.open("vol");
    deaf.send(&wire::write(0, 1, 0, &vec![9; 16 << 20]));
    assert_eq!(deaf.reply().1, 0);
    // Far more replies than its socket takes. Sending stops when the server stops reading.
    deaf.stream.set_nonblocking(true).unwrap();
    let ask = request(READ, 0, 2, 0, 16 << 20);
    while deaf.stream.write_all(&ask).is_ok() {}

    let mut other = running.open("vol");
    other.send(&request(READ, 0, 3, 0, 4));
    assert_eq!(other.reply().2[8..], [9; 4]);
}

#[test]
fn a_client_that_dies_in_the_middle_leaves_nothing() {
    let mut running = one_export();
    for cut in [0, 5, 28, 1000] {
        let mut client = running.open("vol");
        client.send(&wire::write(0, 1, 0, &[7; 4096])[..cut]);
    }
    // Cut off before choosing, too.
    running.connect().greet();
    let mut other = running.open("vol");
    other.send(&request(READ, 0, 1, 0, 4096));
    assert_eq!(other.reply().2.len(), 12, "a hole: half a write is no write");
    drop(other);
    running.stop();
    assert_eq!(running.control.opened.load(Ordering::SeqCst), 5);
    assert_eq!(running.control.closed.load(Ordering::SeqCst), 5);
}

/// A connection to the first export on which nothing needs to be said before the first request.
fn adopt(running: &Running, tag: u64, info: ExportInfo) -> RawClient {
    let (server, client) = std::os::unix::net::UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    running.control.adopt(Adopted { tag, socket: server.into(), export: ExportId(0), info });
    RawClient { stream: client }
}

#[test]
fn a_connection_is_taken_over_where_it_is() {
    let mut running = one_export();
    let mut kernel = adopt(&running, 7, export("vol", 64 << 20, false));
    kernel.send(&[wire::write(FUA, 1, 4096, &[0x5a; 4096]), request(READ, 0, 2, 4096, 4096)].concat());
    assert_eq!(kernel.reply(), (1, 0, vec![]));
    assert_eq!(kernel.reply(), (2, 0, vec![]));
    assert_eq!(kernel.read(4096), [0x5a; 4096]);
    kernel.send(&request(READ, 0, 3, 64 << 20, 512));
    assert_eq!(kernel.reply(), (3, 22, vec![]), "beyond the end");
    assert_eq!(running.control.durable_writes.load(Ordering::SeqCst), 1);
    kernel.send(&request(DISC, 0, 4, 0, 0));
    kernel.expect_close();
    until(|| *running.control.parted.lock().unwrap() == [7]);
    assert_eq!(running.control.closed.load(Ordering::SeqCst), 1);
    // One that is read-only, and there when the server ends.
    let mut sealed = adopt(&running, 8, export("vol", 64 << 20, true));
    sealed.send(&wire::write(0, 1, 0, &[1; 512]));
    assert_eq!(sealed.reply(), (1, 1, vec![]));
    running.stop();
    sealed.expect_close();
    assert_eq!(*running.control.parted.lock().unwrap(), [7, 8]);
}

#[test]
fn an_export_is_closed_after_its_last_reply() {
    let mut running = one_export();
    let control = running.control.clone();
    control.shut_gate();
    let mut client = running.open("vol");
    client.send(&wire::write(0, 1, 0, &[7; 4096]));
    until(|| control.submitted.load(Ordering::SeqCst) == 1);
    drop(client);
    // Another connection comes and goes: the server has seen the first one's end by then.
    running.connect().greet();
    assert_eq!(control.closed.load(Ordering::SeqCst), 0);
    control.open_gate();
    until(|| control.closed.load(Ordering::SeqCst) == 1);
    running.stop();
}

#[test]
fn a_disconnect_waits_for_what_is_under_way() {
    let running = one_export();
    running.control.shut_gate();
    let mut client = running.open("vol");
    client.send(&[wire::write(0, 1, 0, &[7; 512]), request(DISC, 0, 2, 0, 0)].concat());
    until(|| running.control.submitted.load(Ordering::SeqCst) == 1);
    running.control.open_gate();
    assert_eq!(client.reply(), (1, 0, vec![]));
    client.expect_close();
}

#[test]
fn a_client_that_only_listens_still_gets_its_replies() {
    let running = one_export();
    running.control.shut_gate();
    let mut client = running.open("vol");
    client.send(&request(READ, 0, 1, 0, 512).repeat(3));
    until(|| running.control.submitted.load(Ordering::SeqCst) == 3);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    running.control.open_gate();
    (0..3).for_each(|_| assert_eq!(client.reply().0, 1));
    client.expect_close();
}

#[test]
fn a_stop_cuts_idle_and_half_negotiated_clients() {
    let mut running = one_export();
    let (mut idle, mut silent) = (running.open("vol"), running.connect());
    silent.greet();
    running.stop();
    idle.expect_close();
    silent.expect_close();
}

#[test]
fn a_stop_lets_requests_finish() {
    let mut running = one_export();
    running.control.shut_gate();
    let mut client = running.open("vol");
    client.send(&wire::write(FUA, 1, 0, &[7; 512]));
    until(|| running.control.submitted.load(Ordering::SeqCst) == 1);
    running.begin_stop();
    until(|| !running.socket().exists());
    assert!(std::os::unix::net::UnixStream::connect(running.socket()).is_err(), "no longer listening");
    running.control.open_gate();
    assert_eq!(client.reply(), (1, 0, vec![]));
    client.expect_close();
    running.join();
    assert_eq!(running.control.durable_writes.load(Ordering::SeqCst), 1);
    assert_eq!(running.control.closed.load(Ordering::SeqCst), 1);
}

#[test]
fn replies_go_out_of_order_when_they_must() {
    let running = one_export();
    running.control.shut_gate();
    let mut slow = running.open("vol");
    slow.send(&request(READ, 0, 1, 0, 512));
    until(|| running.control.submitted.load(Ordering::SeqCst) == 1);
    // An error needs no backend.
    slow.send(&request(READ, 0, 2, 64 * MIB, 512));
    assert_eq!(slow.reply().0, 2);
    running.control.open_gate();
    assert_eq!(slow.reply().0, 1);
}

#[test]
fn a_busy_backend_is_polled_until_it_is_done() {
    let running = one_export();
    running.control.sluggish.store(true, Ordering::SeqCst);
    let mut client = running.open("vol");
    for cookie in 0..10 {
        client.send(&wire::write(0, cookie, 0, &[7; 512]));
        assert_eq!(client.reply(), (cookie, 0, vec![]));
    }
}

#[test]
fn a_violation_cuts_its_connection_only() {
    let running = one_export();
    let mut good = running.open("vol");
    let mut bad = running.open("vol");
    bad.send(&[0; 28]);
    bad.expect_close();
    good.send(&request(FLUSH, 0, 1, 0, 0));
    assert_eq!(good.reply(), (1, 0, vec![]));
}

#[test]
fn many_clients_come_and_go() {
    let mut running = one_export();
    for _ in 0..20 {
        let mut clients: Vec<_> = (0..20).map(|_| running.open("vol")).collect();
        for client in &mut clients {
            client.send(&request(READ, 0, 5, 0, 512).repeat(40));
        }
        for client in &mut clients {
            (0..40).for_each(|_| assert_eq!(client.reply().0, 5));
        }
    }
    running.stop();
    assert_eq!(running.control.closed.load(Ordering::SeqCst), 400);
}
