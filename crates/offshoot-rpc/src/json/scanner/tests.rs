use super::*;

/// The texts of a stream, and why it ended before its end.
fn texts(stream: &[u8]) -> (Vec<String>, Option<SyntaxError>) {
    let mut scanner = Scanner::new(Limits { bytes: 64, values: 12 });
    let (mut texts, mut rest) = (Vec::new(), stream);
    loop {
        match scanner.scan(rest) {
            Ok((taken, Some(document))) => {
                texts.push(document.root().raw().to_owned());
                rest = &rest[taken..];
            }
            Ok((taken, None)) => {
                assert_eq!(taken, rest.len());
                return (texts, None);
            }
            Err(error) => return (texts, Some(error)),
        }
    }
}

#[test]
fn finds_texts_without_separators() {
    for (stream, expected) in [
        ("{}[]{}", &["{}", "[]", "{}"][..]),
        (" \r\n\t{ } \n [1 , 2] ", &["{ }", "[1 , 2]"]),
        (r#""a""b"nulltruefalse"#, &[r#""a""#, r#""b""#, "null", "true", "false"]),
        ("1 -2.5e+7\n0[0]", &["1", "-2.5e+7", "0", "[0]"]),
        ("01 ", &["0", "1"]),
        ("12", &[]),
        (r#"{"a":{"b":[{"c":null}]}}"#, &[r#"{"a":{"b":[{"c":null}]}}"#]),
        (r#""\ud83d\ude00 \u00e4 ä € 😀 \" \\""#, &[r#""\ud83d\ude00 \u00e4 ä € 😀 \" \\""#]),
        ("{\"a\":1", &[]),
        ("", &[]),
    ] {
        let expected: Vec<String> = expected.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(texts(stream.as_bytes()), (expected, None), "{stream}");
    }
}

#[test]
fn refuses_at_the_wrong_byte() {
    for (stream, byte, offset) in [
        (&b"not json"[..], b'o', 1),
        (b"{}x", b'x', 0),
        (b"]", b']', 0),
        (b"}", b'}', 0),
        (b"[1,]", b']', 3),
        (b"{\"a\":1,}", b'}', 7),
        (b"{\"a\"}", b'}', 4),
        (b"{\"a\",", b',', 4),
        (b"{a", b'a', 1),
        (b"{1", b'1', 1),
        (b"[1}", b'}', 2),
        (b"[}", b'}', 1),
        (b"{]", b']', 1),
        (b"{\"a\":1]", b']', 6),
        (b"[,", b',', 1),
        (b"[1 2", b'2', 3),
        (b"[01", b'1', 2),
        (b"-a", b'a', 1),
        (b"1.x", b'x', 2),
        (b"1e+x", b'x', 3),
        (b"+1", b'+', 0),
        (b"[tru]", b']', 4),
        (b"'", b'\'', 0),
        (b"//", b'/', 0),
        (b"\"\n", b'\n', 1),
        (b"\"\\x", b'x', 2),
        (b"\"\\u12g", b'g', 5),
        (b"\"\\ud800x", b'x', 7),
        (b"\"\\ud800\\n", b'n', 8),
        (b"\"\\ud800\\u0041", b'1', 12),
        (b"\"\\udc00", b'0', 6),
        (b"\"\xff", 0xff, 1),
        (b"\"\x80", 0x80, 1),
        (b"\"\xc0", 0xc0, 1),
        (b"\"\xe0\x80", 0x80, 2),
        (b"\"\xed\xa0", 0xa0, 2),
        (b"\"\xf4\x90", 0x90, 2),
        (b"\"\xc3\"", b'"', 2),
        (b"\xef\xbb\xbf{}", 0xef, 0),
    ] {
        let (found, error) = texts(stream);
        assert_eq!(error, Some(SyntaxError::Byte { byte, offset }), "{}", stream.escape_ascii());
        // Only complete texts came before it.
        assert!(found.len() <= 1, "{}", stream.escape_ascii());
    }
}

#[test]
fn refuses_beyond_the_limits() {
    let exactly = format!("\"{}\"", "x".repeat(62));
    assert_eq!(texts(exactly.as_bytes()), (vec![exactly], None));
    let longer = format!("\"{}\"", "x".repeat(63));
    assert_eq!(texts(longer.as_bytes()), (vec![], Some(SyntaxError::TooLong { max: 64 })));
    // Both ends, and ten values.
    let exactly = "[1,1,1,1,1,1,1,1,1,1]".to_owned();
    assert_eq!(texts(exactly.as_bytes()), (vec![exactly], None));
    let more = "[1,1,1,1,1,1,1,1,1,1,1]";
    assert_eq!(texts(more.as_bytes()), (vec![], Some(SyntaxError::TooManyValues { max: 12 })));
    let (spaces, text) = (" ".repeat(1000), "{}".to_owned());
    assert_eq!(texts(format!("{spaces}{text}{spaces}").as_bytes()), (vec![text], None), "between texts");
}

#[test]
fn refuses_what_is_too_deep() {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    let mut scanner = Scanner::new(Limits::REQUEST);
    assert!(matches!(scanner.scan(&nested(NESTING_MAX)), Ok((_, Some(_)))));
    assert_eq!(
        scanner.scan(&nested(NESTING_MAX + 1)).unwrap_err(),
        SyntaxError::TooDeep { max: NESTING_MAX }
    );
}
