//! Time and randomness, handed in from outside so that tests can hold both still.
//!
//! Nothing else in the workspace asks the operating system for the time of day or for random bytes; `clippy.toml`
//! refuses the direct calls.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::id::TypedId;

/// The time of day.
pub trait Clock: Send + Sync + 'static {
    /// The current instant, UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// A source of random bytes fit for secrets.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system clock"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// The operating system's random generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::expect_used,
        reason = "without the system's random generator no secret can be made; stopping is right"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system's random generator failed");
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct FixedClock {
    millis: AtomicI64,
}

impl FixedClock {
    /// A clock standing at `start`.
    pub fn at(start: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self {
            millis: AtomicI64::new(start.timestamp_millis()),
        })
    }

    /// Moves the clock forward (or back, for a negative step).
    pub fn advance(&self, step: TimeDelta) {
        self.millis.fetch_add(step.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.millis.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

/// A reproducible byte stream for tests: SHA-256 in counter mode over a seed.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    counter: AtomicU64,
}

impl SeededEntropy {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            counter: AtomicU64::new(0),
        })
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let counter = self.counter.fetch_add(1, Ordering::SeqCst);
            let block = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(counter.to_be_bytes())
                .finalize();
            for (target, source) in chunk.iter_mut().zip(block.iter()) {
                *target = *source;
            }
        }
    }
}

/// The clock and the random source of a running service. Cheap to clone; every service state holds one.
#[derive(Clone)]
pub struct Sources {
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where secrets and ids come from.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

impl Sources {
    /// The operating system's clock and random generator.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }

    /// A still clock and a seeded stream, for tests.
    pub fn fixed(clock: Arc<FixedClock>, seed: u64) -> Self {
        Self {
            clock,
            entropy: SeededEntropy::new(seed),
        }
    }

    /// The current instant, UTC.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A new time-ordered id (UUID v7 of the current millisecond).
    pub fn id<I: TypedId>(&self) -> I {
        I::from_uuid(self.uuid_v7())
    }

    /// A new time-ordered UUID.
    pub fn uuid_v7(&self) -> Uuid {
        let millis = u64::try_from(self.now().timestamp_millis()).unwrap_or_default();
        let mut random = [0_u8; 10];
        self.entropy.fill(&mut random);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A new random UUID (v4), as the event contract asks for `eventId`.
    pub fn uuid_v4(&self) -> Uuid {
        let mut random = [0_u8; 16];
        self.entropy.fill(&mut random);
        uuid::Builder::from_random_bytes(random).into_uuid()
    }

    /// A new 256-bit secret, URL-safe base64 without padding (43 characters).
    pub fn secret(&self) -> String {
        use base64::Engine as _;
        let mut random = [0_u8; 32];
        self.entropy.fill(&mut random);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random)
    }

    /// `count` characters drawn evenly from an ASCII `alphabet` of at most 64 characters.
    pub fn code(&self, alphabet: &[u8], count: usize) -> String {
        let Ok(size) = u8::try_from(alphabet.len()) else {
            return String::new();
        };
        if size == 0 {
            return String::new();
        }
        let limit = u8::MAX - (u8::MAX % size);
        let mut code = String::with_capacity(count);
        let mut random = [0_u8; 32];
        while code.len() < count {
            self.entropy.fill(&mut random);
            let drawn = random
                .iter()
                .filter(|byte| **byte < limit)
                .filter_map(|byte| alphabet.get(usize::from(byte % size)));
            for character in drawn.take(count - code.len()) {
                code.push(char::from(*character));
            }
        }
        code
    }
}

/// ISO-8601 UTC with exactly three fraction digits and `Z` (core §1.5).
pub fn iso_millis(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Serde form of [`iso_millis`], for `#[serde(with = "shared::sources::iso")]`.
pub mod iso {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the instant with exactly three fraction digits.
    pub fn serialize<S: Serializer>(instant: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::iso_millis(*instant))
    }

    /// Reads any RFC 3339 instant.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|instant| instant.with_timezone(&Utc))
            .map_err(serde::de::Error::custom)
    }
}

/// The same for optional instants: `null` when absent.
pub mod iso_option {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the instant with exactly three fraction digits, or `null`.
    pub fn serialize<S: Serializer>(instant: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
        match instant {
            Some(instant) => serializer.serialize_some(&super::iso_millis(*instant)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads an RFC 3339 instant or `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| DateTime::parse_from_rfc3339(&text).map(|instant| instant.with_timezone(&Utc)))
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_clock_are_ordered_by_time() {
        let clock = FixedClock::at(DateTime::from_timestamp_millis(1_700_000_000_000).unwrap());
        let sources = Sources::fixed(clock.clone(), 1);
        let first = sources.uuid_v7();
        clock.advance(TimeDelta::milliseconds(1));
        assert!(first < sources.uuid_v7());
        assert_eq!(first.get_version_num(), 7);
    }

    #[test]
    fn a_code_uses_only_its_alphabet_and_has_its_length() {
        let code = Sources::system().code(b"ABC123", 500);
        assert_eq!(code.len(), 500);
        assert!(code.bytes().all(|byte| b"ABC123".contains(&byte)));
    }

    #[test]
    fn timestamps_have_three_fraction_digits() {
        let whole = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        assert_eq!(iso_millis(whole), "2023-11-14T22:13:20.000Z");
    }
}
