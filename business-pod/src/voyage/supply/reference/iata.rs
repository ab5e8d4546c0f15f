//! Three-letter codes of airports and metropolitan areas.

use std::{fmt, str::FromStr};

/// A syntactically valid three-letter code, upper case. Whether anything has this code is another question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iata([u8; 3]);

/// The text is not three letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a three-letter code")]
pub struct NotIata;

impl Iata {
    /// The three letters.
    pub const fn bytes(self) -> [u8; 3] {
        self.0
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        // only upper-case letters ever get in
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// 0 to 17,575: the code as a number in base 26.
    pub fn index(self) -> u16 {
        self.0
            .iter()
            .fold(0, |number, letter| number * 26 + u16::from(letter - b'A'))
    }

    /// The code with this number.
    pub fn from_index(index: u16) -> Option<Self> {
        if index >= 26 * 26 * 26 {
            return None;
        }
        let letter = |number: u16| u8::try_from(number % 26).map_or(b'A', |offset| b'A' + offset);
        Some(Self([letter(index / 676), letter(index / 26), letter(index)]))
    }
}

impl FromStr for Iata {
    type Err = NotIata;

    fn from_str(text: &str) -> Result<Self, NotIata> {
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| NotIata)?;
        if !letters.iter().all(u8::is_ascii_alphabetic) {
            return Err(NotIata);
        }
        Ok(Self(letters.map(|letter| letter.to_ascii_uppercase())))
    }
}

impl fmt::Display for Iata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Iata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Iata {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Iata {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_three_letters_in_any_case() {
        assert_eq!("cdg".parse::<Iata>().unwrap().to_string(), "CDG");
        for text in ["", "CD", "CDGX", "C1G", "é1", "ÀÀ"] {
            assert!(text.parse::<Iata>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_number_is_one_code() {
        for index in 0..26 * 26 * 26 {
            assert_eq!(Iata::from_index(index).unwrap().index(), index);
        }
        assert!(Iata::from_index(26 * 26 * 26).is_none());
    }
}
