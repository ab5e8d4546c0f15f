//! PINs and destinations.
//!
//! contract: core §3.5. A PIN is drawn evenly by the system's generator; nothing about it can be foretold from others.

use std::time::Duration;

use shared::sources::Sources;

/// How long a PIN can be redeemed.
pub const LIFE: Duration = Duration::from_mins(10);
/// How long it is remembered afterwards, so that "used" and "expired" can be told from "never was".
pub const TOMBSTONE: Duration = Duration::from_mins(10);

const FIRST: u32 = 100_000;
const COUNT: u32 = 900_000;

/// Six digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(String);

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(***)")
    }
}

impl Pin {
    /// Exactly six ASCII digits, or nothing.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| Self(text.to_owned()))
    }

    /// Any of 100000 to 999999, each as likely as the others.
    pub fn draw(sources: &Sources) -> Self {
        loop {
            let mut bytes = [0_u8; 4];
            sources.entropy.fill(&mut bytes);
            let drawn = u32::from_le_bytes(bytes);
            // the last, incomplete round would favour small numbers
            if drawn < u32::MAX - u32::MAX % COUNT {
                return Self((FIRST + drawn % COUNT).to_string());
            }
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where the headset goes: a word in lower case. Any is accepted, because clients send ids of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// Trimmed and lowered, 1 to 64 characters of `[a-z0-9-_ ]`.
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.trim().to_lowercase();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b' ');
        ((1..=64).contains(&word.len()) && word.bytes().all(plain)).then_some(Self(word))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pin_is_six_ascii_digits() {
        assert!(Pin::parse("483920").is_some());
        for bad in [
            "",
            "12345",
            "1234567",
            "12345a",
            "１２３４５６",
            "123 56",
            "-12345",
            "123456\n",
        ] {
            assert!(Pin::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn drawn_pins_are_in_range_and_spread_over_it() {
        let sources = Sources::system();
        let drawn: Vec<u32> = (0..9_000)
            .map(|_| Pin::draw(&sources).as_str().parse().unwrap())
            .collect();
        assert!(drawn.iter().all(|pin| (100_000..=999_999).contains(pin)));
        // nine buckets of about a thousand each; a bound that a fair generator misses once in a universe
        for first in 1..=9 {
            let count = drawn.iter().filter(|pin| **pin / 100_000 == first).count();
            assert!((700..1_300).contains(&count), "{first}: {count}");
        }
    }

    #[test]
    fn a_destination_is_trimmed_and_lowered() {
        assert_eq!(Place::parse("  New-York_2 ").unwrap().as_str(), "new-york_2");
        for bad in ["", "   ", "paris|x", "par\u{0}is", "<b>", "zürich", &"a".repeat(65)] {
            assert!(Place::parse(bad).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_destination_stays_as_it_is_once_accepted(text in "\\PC{0,80}") {
            if let Some(place) = Place::parse(&text) {
                prop_assert_eq!(Place::parse(place.as_str()), Some(place));
            }
        }
    }
}
