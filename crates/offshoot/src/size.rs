//! Sizes as people write them: powers of 1024.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const UNITS: &[(char, u32)] = &[('E', 60), ('P', 50), ('T', 40), ('G', 30), ('M', 20), ('K', 10)];

/// A SIZE argument: `512`, `4K`, `64M`, `10G`, `2T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    /// May be more than any store can hold: that is for the command to refuse, not a matter of usage.
    bytes: u128,
}

/// Why an argument is not a SIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a number of bytes, or one with K, M, G or T, as in 512, 4K, 64M, 10G, 2T")]
pub(crate) struct NotASize;

impl Size {
    /// The number of bytes.
    ///
    /// # Errors
    /// It does not fit 64 bits.
    pub(crate) fn bytes(self) -> Result<u64> {
        u64::try_from(self.bytes)
            .ok()
            .with_context(|| format!("a size of {} bytes is beyond all limits", self.bytes))
    }
}

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let unit = text.chars().last().and_then(|last| {
            let last = last.to_ascii_uppercase();
            UNITS.iter().find(|(letter, _)| *letter == last)
        });
        let (digits, shift) = match unit {
            Some((_, shift)) => (&text[..text.len() - 1], *shift),
            None => (text, 0),
        };
        // `parse` alone would let a sign pass.
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotASize);
        }
        let count: u64 = digits.parse().map_err(|_| NotASize)?;
        Ok(Self { bytes: u128::from(count) << shift })
    }
}

/// Shows a number of bytes in the largest unit that does not make it a fraction of one, rounded down to a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((letter, shift)) = UNITS.iter().find(|(_, shift)| self.0 >> shift > 0) else {
            return write!(f, "{}", self.0);
        };
        let whole = self.0 >> shift;
        let rest = u128::from(self.0 - (whole << shift));
        match (rest * 10) >> shift {
            0 => write!(f, "{whole}{letter}"),
            tenths => write!(f, "{whole}.{tenths}{letter}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("4K", Some(4096)),
            ("4k", Some(4096)),
            ("64M", Some(64 << 20)),
            ("10G", Some(10 << 30)),
            ("2T", Some(2 << 40)),
            ("18446744073709551615", Some(u64::MAX)),
            ("", None),
            ("K", None),
            ("+1", None),
            ("-1", None),
            ("1.5G", None),
            ("1 G", None),
            ("1GB", None),
            ("1Kib", None),
            ("ß", None),
            ("99999999999999999999", None),
        ] {
            let parsed = text.parse::<Size>().ok().map(|size| size.bytes().unwrap());
            assert_eq!(parsed, expected, "{text:?}");
        }
        let beyond: Size = "16777216T".parse().unwrap();
        assert!(beyond.bytes().is_err());
    }

    #[test]
    fn bytes_are_shown() {
        for (bytes, expected) in [
            (0, "0"),
            (512, "512"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1.5K"),
            ((1 << 20) - 1, "1023.9K"),
            (10 << 30, "10G"),
            ((10 << 30) + 1, "10G"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), expected, "{bytes}");
        }
    }
}
