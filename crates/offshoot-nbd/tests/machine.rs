//! The protocol machine alone: streams cut anywhere, bytes that mean nothing, and the transmission phase.
#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod common;

use common::driver::{Driver, SIZE, converse, serving};
use common::wire::{self, *};
use offshoot_block::Buffer;
use offshoot_nbd::{Command, Errno, Event, Limits, Reply, limits};
use proptest::prelude::*;

/// All options but those that end the negotiation, then GO.
fn negotiation() -> Vec<u8> {
    [
        &CLIENT_FLAGS[..],
        &option(3, &[]),
        &option(99, b"future"),
        &option(8, &[]),
        &option(6, &info("vol", &[1, 2, 3])),
        &option(9, &meta("vol", &["base:"])),
        &option(10, &meta("vol", &["base:allocation", "qemu:dirty"])),
        &option(7, &info("vol", &[3])),
    ]
    .concat()
}

/// A session that uses every command.
fn session() -> Vec<u8> {
    let pattern: Vec<u8> = (0..150_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    [
        &negotiation()[..],
        &wire::write(0, 1, 4096, &pattern[..5000]),
        &wire::write(FUA, 2, 100_000, &pattern),
        &request(READ, 0, 3, 4000, 6000),
        &request(READ, 4, 4, 600_000, 4096),
        &wire::write(0, 5, SIZE - 1, b"xx"),
        &request(FLUSH, 0, 6, 0, 0),
        &request(BLOCK_STATUS, 0, 7, 0, 1 << 20),
        &request(TRIM, 0, 8, 4096, 4096),
        &request(WRITE_ZEROES, 2, 9, 0, 8192),
        &request(WRITE_ZEROES, 18, 10, 0, 8192),
        &request(BLOCK_STATUS, 8, 11, 0, 1 << 20),
        &request(CACHE, 0, 12, 0, 4096),
        &request(99, 0, 13, 0, 0),
        &request(READ, 0, 14, SIZE, 1),
        &request(READ, 0, 15, 0, 0),
        &wire::write(0, 16, 0, &[]),
        &request(READ, 0, 17, 0, 200_000),
        &request(DISC, 0, 18, 0, 0),
    ]
    .concat()
}

#[test]
fn a_session_has_its_replies() {
    let (sent, fed) = converse(&session());
    assert_eq!(fed, Ok(session().len()));
    let start = sent.len() - 200_000;
    assert_eq!(&sent[start..start + 8192], &[0; 8192][..], "zeroed");
    assert_eq!(&sent[start + 8192..start + 9096], &pattern_at(4096..5000)[..]);
    assert_eq!(&sent[start + 100_000..], &pattern_at(0..100_000)[..]);
}

fn pattern_at(range: std::ops::Range<u32>) -> Vec<u8> {
    range.map(|i| u8::try_from(i % 251).unwrap()).collect()
}

#[test]
fn any_one_cut_makes_no_difference() {
    let bytes = session();
    let (want, _) = converse(&bytes);
    let heads = negotiation().len() + 28 + 40;
    for cut in (0..heads).chain((heads..bytes.len()).step_by(997)) {
        let mut driver = Driver::new();
        assert_eq!(driver.feed(&bytes[..cut], usize::MAX), Ok(cut));
        assert_eq!(driver.feed(&bytes[cut..], usize::MAX), Ok(bytes.len() - cut));
        assert!(driver.sent == want, "cut at {cut}");
        assert!(driver.connection.is_finished());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_cuts_make_no_difference(pieces in prop::collection::vec(1_usize..70_000, 1..40)) {
        let bytes = session();
        let (want, _) = converse(&bytes);
        let mut driver = Driver::new();
        let mut at = 0;
        for piece in pieces.iter().cycle() {
            if at == bytes.len() { break; }
            let end = bytes.len().min(at + piece);
            prop_assert_eq!(driver.feed(&bytes[at..end], *piece), Ok(end - at));
            at = end;
        }
        prop_assert!(driver.sent == want);
    }

    #[test]
    fn single_bytes_make_no_difference(tail in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = [&negotiation()[..], &wire::write(0, 1, 0, &tail), &request(READ, 0, 2, 0, 64)].concat();
        let mut driver = Driver::new();
        prop_assert_eq!(driver.feed(&bytes, 1), Ok(bytes.len()));
        prop_assert!(driver.sent == converse(&bytes).0);
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1_usize..100) {
        let _ = Driver::new().feed(&bytes, piece);
    }

    #[test]
    fn random_options_do_no_harm(
        options in prop::collection::vec((0_u32..13, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        let mut driver = Driver::new();
        let options = options.iter().flat_map(|(number, data)| option(*number, data));
        let bytes: Vec<u8> = CLIENT_FLAGS.into_iter().chain(options).collect();
        let _ = driver.feed(&bytes, usize::MAX);
    }

    #[test]
    fn random_requests_do_no_harm(
        requests in prop::collection::vec((0_u16..10, 0_u16..64, 0..2 * SIZE, 0_u32..100_000), 0..30),
    ) {
        let mut driver = Driver::new();
        let mut bytes = negotiation();
        for (command, flags, offset, len) in requests {
            bytes.extend(request(command, flags, 0, offset, len));
            if command == WRITE {
                bytes.resize(bytes.len() + len as usize, 0x77);
            }
        }
        prop_assert!(driver.feed(&bytes, usize::MAX).is_ok());
    }

    #[test]
    fn flipped_bits_do_no_harm(at in 0_usize..1000, bit in 0_u8..8) {
        let mut bytes = session();
        bytes[at] ^= 1_u8 << bit;
        let _ = Driver::new().feed(&bytes, 64);
    }
}

#[test]
fn a_refused_write_is_skipped_whole() {
    for (offset, len, error) in [(SIZE, 4096, 28), (0, limits::PAYLOAD_BYTES_MAX + 1, 22)] {
        let mut driver = serving(&[]);
        driver.feed(&request(WRITE, 0, 7, offset, len), usize::MAX).unwrap();
        driver.feed(&vec![0x25; len as usize], 1 << 20).unwrap();
        driver.feed(&request(FLUSH, 0, 8, 0, 0), usize::MAX).unwrap();
        assert_eq!(driver.sent.len(), 32);
        assert_eq!((u32_at(&driver.sent, 4), u64_at(&driver.sent, 8)), (error, 7));
        assert_eq!((u32_at(&driver.sent, 20), u64_at(&driver.sent, 24)), (0, 8));
    }
}

#[test]
fn holes_are_told_or_filled_in() {
    let ask = request(READ, 0, 1, 0, 100_000);
    let mut structured = serving(&[option(8, &[])]);
    structured.feed(&ask, usize::MAX).unwrap();
    assert_eq!(structured.sent.len(), 32);
    let mut simple = serving(&[]);
    simple.feed(&ask, usize::MAX).unwrap();
    assert_eq!(simple.sent.len(), 16 + 100_000);
    assert!(simple.sent[16..].iter().all(|byte| *byte == 0));
}

#[test]
fn takes_no_more_than_it_may_hold() {
    let mut driver = serving(&[]);
    driver.backend.control.shut_gate();
    let asks = request(READ, 0, 1, 0, 512).repeat(Limits::default().requests + 9);
    driver.feed(&asks, usize::MAX).unwrap();
    assert_eq!(driver.connection.in_flight(), Limits::default().requests);
    assert!(!driver.connection.wants_input());
    driver.backend.control.open_gate();
    driver.run().unwrap();
    assert_eq!(driver.sent.len(), (Limits::default().requests + 9) * (16 + 512));
    assert!(driver.connection.wants_input());
}

#[test]
fn unsent_replies_hold_up_requests() {
    let mut driver = serving(&[]);
    let ask = request(READ, 0, 1, 0, 1 << 20);
    let mut asked = 0;
    // A client that asks and never reads.
    while driver.connection.wants_input() {
        let [_, spare] = driver.connection.input_slices(&mut driver.input);
        spare[..28].copy_from_slice(&ask);
        driver.connection.advance_input(&mut driver.input, 28);
        while let Some(Event::Request { slot, .. }) = driver.connection.poll_event(&mut driver.input).unwrap()
        {
            driver.connection.handle_reply(slot, Reply::Zeroes);
        }
        asked += 1;
        assert!(asked < 100, "no bound");
    }
    assert_eq!(asked, Limits::default().bytes >> 20);
}

#[test]
fn replies_that_do_not_fit_become_errors() {
    let replies: [fn() -> Reply; 4] = [
        || Reply::Data(Buffer::zeroed(511)),
        || Reply::Done,
        || Reply::Status(Vec::new()),
        || Reply::Error(Errno::Io),
    ];
    for reply in replies {
        let mut driver = serving(&[]);
        let [_, spare] = driver.connection.input_slices(&mut driver.input);
        spare[..28].copy_from_slice(&request(READ, 0, 1, 0, 512));
        driver.connection.advance_input(&mut driver.input, 28);
        let event = driver.connection.poll_event(&mut driver.input).unwrap();
        let Some(Event::Request { slot, command: Command::Read { offset: 0, len: 512 } }) = event else {
            panic!("{event:?}");
        };
        driver.connection.handle_reply(slot, reply());
        driver.send_all();
        assert_eq!((driver.sent.len(), u32_at(&driver.sent, 4)), (16, 5));
    }
}

#[test]
fn large_payloads_are_received_in_place() {
    let mut driver = serving(&[]);
    let len = limits::DIRECT_PAYLOAD_BYTES_MIN;
    driver.feed(&request(WRITE, 0, 1, 0, u32::try_from(len).unwrap()), usize::MAX).unwrap();
    let [payload, after] = driver.connection.input_slices(&mut driver.input);
    assert_eq!((payload.len(), after.len()), (len, 28));
    assert_eq!(payload.as_ptr() as usize % 4096, 0, "aligned for the device");
}

#[test]
fn an_abandoned_connection_waits_for_its_requests() {
    let mut driver = serving(&[]);
    driver.backend.control.shut_gate();
    driver.feed(&request(READ, 0, 1, 0, 512), usize::MAX).unwrap();
    driver.connection.abandon(drop);
    assert!(!driver.connection.is_finished());
    driver.backend.control.open_gate();
    driver.run().unwrap();
    assert!(driver.connection.is_finished());
    assert!(driver.sent.is_empty());
}
