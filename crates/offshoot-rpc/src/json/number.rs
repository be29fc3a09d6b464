//! Numbers: where they end, and which of them are integers.

/// What has been seen of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// The minus sign.
    Minus,
    /// A zero, after which no digit may follow.
    Zero,
    /// Digits.
    Int,
    /// The point.
    Point,
    /// Digits behind it.
    Fraction,
    /// The `e`.
    Exponent,
    /// Its sign.
    ExponentSign,
    /// Its digits.
    ExponentDigits,
}

/// How a number goes on with a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It does.
    More(Number),
    /// It ended before the byte.
    Ended,
    /// It cannot go on so.
    Invalid,
}

impl Number {
    /// The state after the first byte, which is a digit or a minus sign.
    pub(super) fn begin(byte: u8) -> Self {
        match byte {
            b'-' => Self::Minus,
            b'0' => Self::Zero,
            _ => Self::Int,
        }
    }

    /// The state after one more byte.
    pub(super) fn next(self, byte: u8) -> Next {
        let more = match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus | Self::Int, b'0'..=b'9') => Self::Int,
            (Self::Zero | Self::Int, b'.') => Self::Point,
            (Self::Zero | Self::Int | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            (Self::Zero | Self::Int | Self::Fraction | Self::ExponentDigits, _) => return Next::Ended,
            _ => return Next::Invalid,
        };
        Next::More(more)
    }
}

/// The integer that a number is, with its sign; `None` when it is none or does not fit. The forms `1.0`, `10e2` and
/// `1000e-2` are integers too, as with SPDK (`json_number_split`), but a zero with a fraction (`0.0`) is not.
pub(super) fn integer(text: &str) -> Option<(bool, u64)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let significand = whole.bytes().chain(fraction.bytes()).try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
    })?;
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    // A u64 has 20 digits: beyond that nothing but zero is left or fits.
    let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|power| 10_u64.checked_pow(power));
    let value = match (significand, exponent) {
        (_, 0) => significand,
        (0, _) => (exponent > 0).then_some(0)?,
        (_, 1..) => significand.checked_mul(power?)?,
        _ => (significand % power? == 0).then_some(significand / power?)?,
    };
    Some((negative, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_all_forms() {
        for (text, expected) in [
            ("0", Some((false, 0))),
            ("-0", Some((true, 0))),
            ("-4", Some((true, 4))),
            ("18446744073709551615", Some((false, u64::MAX))),
            ("18446744073709551616", None),
            ("99999999999999999999", None),
            ("1e3", Some((false, 1000))),
            ("1E+3", Some((false, 1000))),
            ("1.5e1", Some((false, 15))),
            ("10.0", Some((false, 10))),
            ("1.0", Some((false, 1))),
            ("1200e-2", Some((false, 12))),
            ("1.5", None),
            ("1e-1", None),
            ("1e19", Some((false, 10_000_000_000_000_000_000))),
            ("1e20", None),
            ("0e5", Some((false, 0))),
            ("0e99999999999999999999", None),
            ("0e9223372036854775807", Some((false, 0))),
            ("0.0", None),
            ("1e9223372036854775807", None),
            ("1e-9223372036854775808", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }
}
