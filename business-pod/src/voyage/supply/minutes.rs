//! Durations as the contract writes them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A time span of whole minutes; `PT5H30M` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Minutes(pub u32);

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 60, self.0 % 60) {
            (0, minutes) => write!(f, "PT{minutes}M"),
            (hours, 0) => write!(f, "PT{hours}H"),
            (hours, minutes) => write!(f, "PT{hours}H{minutes}M"),
        }
    }
}

/// The text is not a duration of hours and minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration looks like PT5H30M")]
pub struct NotADuration;

impl FromStr for Minutes {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let rest = text
            .strip_prefix("PT")
            .filter(|rest| !rest.is_empty())
            .ok_or(NotADuration)?;
        let (hours, rest) = match rest.split_once('H') {
            Some((hours, rest)) => (hours.parse::<u32>().map_err(|_| NotADuration)?, rest),
            None => (0, rest),
        };
        let minutes = match rest.strip_suffix('M') {
            Some(minutes) => minutes.parse::<u32>().map_err(|_| NotADuration)?,
            None if rest.is_empty() => 0,
            None => return Err(NotADuration),
        };
        hours
            .checked_mul(60)
            .and_then(|total| total.checked_add(minutes))
            .map(Self)
            .ok_or(NotADuration)
    }
}

impl Serialize for Minutes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Minutes {
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
    fn durations_read_back() {
        for minutes in [0, 5, 60, 61, 330, 1500] {
            let text = Minutes(minutes).to_string();
            assert_eq!(text.parse::<Minutes>().unwrap(), Minutes(minutes), "{text}");
        }
        for text in ["", "PT", "5H", "PTxM", "PT1H2", "P1D"] {
            assert!(text.parse::<Minutes>().is_err(), "{text}");
        }
    }
}
