//! Every option, and what ends a negotiation.
#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod common;

use common::driver::{Driver, SIZE, converse, serving};
use common::wire::*;
use offshoot_nbd::{OpenError, ProtocolError, TlsPolicy, limits};

/// The types of the replies to one option after the given ones.
fn reply_types(before: &[Vec<u8>], last: &[u8]) -> Vec<u32> {
    let before = [&CLIENT_FLAGS[..], &before.concat()].concat();
    let skip = converse(&before).0.len();
    let (sent, fed) = converse(&[&before[..], last].concat());
    assert!(fed.is_ok(), "{fed:?}");
    let mut replies = &sent[skip..];
    let mut types = Vec::new();
    while !replies.is_empty() {
        assert_eq!(u64_at(replies, 0), 0x0003_e889_0455_65a9);
        types.push(u32_at(replies, 12));
        replies = &replies[20 + u32_at(replies, 16) as usize..];
    }
    types
}

/// Checks a table: what a row is about, the option, the types of the replies to it. Each starts after `before`.
fn check(before: &[Vec<u8>], rows: &[(&str, Vec<u8>, &[u32])]) {
    for (what, last, want) in rows {
        assert_eq!(reply_types(before, last), *want, "{what}");
    }
}

#[test]
fn options_get_the_replies_that_the_protocol_names() {
    let too_long = option(4711, &[0; limits::OPTION_BYTES_MAX + 1]);
    check(
        &[],
        &[
            ("list", option(3, &[]), &[SERVER, SERVER, ACK]),
            ("list with data", option(3, b"x"), &[ERR_INVALID]),
            ("abort", option(2, &[]), &[ACK]),
            ("starttls", option(5, &[]), &[ERR_UNSUP]),
            ("starttls with data", option(5, b"x"), &[ERR_INVALID]),
            ("peek, withdrawn", option(4, &[]), &[ERR_UNSUP]),
            ("extended headers", option(11, &[]), &[ERR_UNSUP]),
            ("unknown", option(4711, b"data"), &[ERR_UNSUP]),
            ("too long", too_long, &[ERR_TOO_BIG]),
            ("structured", option(8, &[]), &[ACK]),
            ("structured with data", option(8, b"x"), &[ERR_INVALID]),
            ("list contexts too early", option(9, &meta("vol", &[])), &[ERR_INVALID]),
            ("select too early", option(10, &meta("vol", &["base:allocation"])), &[ERR_INVALID]),
        ],
    );
}

/// The types of the replies to options, one each.
fn replies(driver: &mut Driver, options: &[Vec<u8>]) -> Vec<u32> {
    let mut reply = |option: &Vec<u8>| {
        let before = driver.sent.len();
        driver.feed(option, usize::MAX).unwrap();
        u32_at(&driver.sent, before + 12)
    };
    options.iter().map(&mut reply).collect()
}

#[test]
fn tls_comes_first_where_it_is_required() {
    let mut driver = Driver::with_tls(TlsPolicy::Required);
    driver.feed(&CLIENT_FLAGS, 1).unwrap();
    let go = || option(7, &info("vol", &[]));
    let early = [option(3, &[]), go(), option(8, &[]), option(4711, &[]), option(5, b"x")];
    assert_eq!(
        replies(&mut driver, &early),
        [ERR_TLS_REQD, ERR_TLS_REQD, ERR_TLS_REQD, ERR_TLS_REQD, ERR_INVALID]
    );
    assert!(!driver.began_tls);
    assert_eq!(replies(&mut driver, &[option(5, &[])]), [ACK]);
    assert!(driver.began_tls);
    assert_eq!(
        replies(&mut driver, &[option(5, &[]), option(8, &[]), option(3, &[])]),
        [ERR_INVALID, ACK, SERVER]
    );
    driver.feed(&go(), 3).unwrap();
    assert!(!driver.connection.is_negotiating());

    // A client that knows no replies to options has to go.
    let mut driver = Driver::with_tls(TlsPolicy::Required);
    let old = [&[0, 0, 0, 0][..], &option(1, b"vol")].concat();
    assert!(matches!(driver.feed(&old, 7), Err(ProtocolError::ExportName { .. })));
    // Whoever leaves in order may.
    let mut driver = Driver::with_tls(TlsPolicy::Required);
    driver.feed(&CLIENT_FLAGS, 1).unwrap();
    assert_eq!(replies(&mut driver, &[option(2, &[])]), [ACK]);
}

#[test]
fn what_was_agreed_before_tls_does_not_count_after_it() {
    let mut driver = Driver::with_tls(TlsPolicy::Offered);
    driver.feed(&CLIENT_FLAGS, 1).unwrap();
    let agree = [option(8, &[]), option(10, &meta("vol", &["base:allocation"]))];
    assert_eq!(replies(&mut driver, &agree), [ACK, META_CONTEXT]);
    let after = [option(5, &[]), option(10, &meta("vol", &["base:allocation"])), option(8, &[])];
    assert_eq!(replies(&mut driver, &after), [ACK, ERR_INVALID, ACK]);
}

#[test]
fn info_and_go_tell_about_exports() {
    let long_name = "n".repeat(limits::EXPORT_NAME_BYTES_MAX + 1);
    check(
        &[],
        &[
            ("no item", option(6, &info("vol", &[])), &[INFO, ACK]),
            ("all items", option(6, &info("vol", &[1, 2, 3])), &[INFO, INFO, INFO, INFO, ACK]),
            ("unknown item", option(6, &info("vol", &[9])), &[INFO, ACK]),
            ("no such export", option(6, &info("no", &[])), &[ERR_UNKNOWN]),
            ("no default", option(6, &info("", &[])), &[ERR_UNKNOWN]),
            ("refused", option(6, &info("refused", &[])), &[ERR_POLICY]),
            ("long name", option(6, &info(&long_name, &[])), &[ERR_TOO_BIG]),
            ("no data", option(6, &[]), &[ERR_INVALID]),
            ("trailing data", option(6, &[0; 7]), &[ERR_INVALID]),
            ("go, no such export", option(7, &info("no", &[])), &[ERR_UNKNOWN]),
            ("go", option(7, &info("vol", &[3])), &[INFO, INFO, ACK]),
        ],
    );
}

#[test]
fn contexts_are_listed_and_selected() {
    check(
        &[option(8, &[])],
        &[
            ("structured twice", option(8, &[]), &[ERR_INVALID]),
            ("list all", option(9, &meta("vol", &[])), &[META_CONTEXT, ACK]),
            ("list base:", option(9, &meta("vol", &["base:"])), &[META_CONTEXT, ACK]),
            ("list by name", option(9, &meta("vol", &["base:allocation"])), &[META_CONTEXT, ACK]),
            ("list others", option(9, &meta("vol", &["x-y:z"])), &[ACK]),
            ("list, no such export", option(9, &meta("no", &[])), &[ERR_UNKNOWN]),
            ("select", option(10, &meta("vol", &["x-y:z", "base:allocation"])), &[META_CONTEXT, ACK]),
            ("select a wildcard", option(10, &meta("vol", &["base:"])), &[ACK]),
            ("select none", option(10, &meta("vol", &[])), &[ACK]),
            ("select, malformed", option(10, &[0, 0, 0, 9]), &[ERR_INVALID]),
        ],
    );
}

#[test]
fn violations_end_the_connection() {
    let go = || [&CLIENT_FLAGS[..], &option(7, &info("vol", &[]))].concat();
    let export_name = |name: &[u8]| [&CLIENT_FLAGS[..], &option(1, name)].concat();
    let many = [&CLIENT_FLAGS[..], &option(99, &[]).repeat(limits::OPTIONS_MAX as usize + 1)].concat();
    let table = [
        (vec![0, 0, 0, 4], ProtocolError::ClientFlags { flags: 4 }),
        ([&CLIENT_FLAGS[..], &[0; 16]].concat(), ProtocolError::OptionMagic),
        ([&[0; 4][..], &option(3, &[])].concat(), ProtocolError::NotFixedNewstyle { option: 3 }),
        ([&go()[..], &[0; 28]].concat(), ProtocolError::RequestMagic),
        (many, ProtocolError::TooManyOptions { max: limits::OPTIONS_MAX }),
        (export_name(b"no"), ProtocolError::ExportName { reason: OpenError::NotFound.to_string() }),
    ];
    for (bytes, want) in table {
        assert_eq!(converse(&bytes).1, Err(want));
    }
    for name in [&[0xff; 3][..], &[b'n'; 5000]] {
        assert!(matches!(converse(&export_name(name)).1, Err(ProtocolError::ExportName { .. })));
    }
}

#[test]
fn export_name_is_padded_unless_waived() {
    for (flags, padding) in [(0, 124), (1, 124), (3, 0)] {
        let (sent, fed) = converse(&[&[0, 0, 0, flags][..], &option(1, b"vol")].concat());
        assert!(fed.is_ok());
        assert_eq!(sent.len(), 18 + 10 + padding);
        assert_eq!(u64_at(&sent, 18), SIZE);
    }
}

#[test]
fn a_context_counts_only_for_its_export() {
    let select = |name: &str| vec![option(8, &[]), option(10, &meta(name, &["base:allocation"]))];
    for (name, granted) in [("vol", true), ("sealed", false)] {
        let mut driver = serving(&select(name));
        driver.feed(&request(BLOCK_STATUS, 0, 1, 0, 4096), usize::MAX).unwrap();
        let kind = u32_at(&driver.sent, 4) & 0xffff;
        assert_eq!(kind == 5, granted, "{name}: chunk type {kind:#x}");
    }
    let again = [select("vol"), vec![option(10, &meta("vol", &[]))]].concat();
    let mut driver = serving(&again);
    driver.feed(&request(BLOCK_STATUS, 0, 1, 0, 4096), usize::MAX).unwrap();
    assert_eq!(u32_at(&driver.sent, 20), 22, "a later selection replaces an earlier one");
}
