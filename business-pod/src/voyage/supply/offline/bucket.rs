//! The hour in which a price is made: prices stand still within it, and offer ids carry it.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

/// 2020-01-01T00:00:00Z, before which the provider sells nothing.
const EPOCH: i64 = 1_577_836_800;

/// A whole hour of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u32);

impl Bucket {
    /// The hour of an instant.
    pub fn of(instant: DateTime<Utc>) -> Self {
        let hours = (instant.timestamp() - EPOCH).div_euclid(3_600);
        Self(u32::try_from(hours).unwrap_or(0))
    }

    /// The hours since the epoch.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The bucket of this number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its first instant.
    pub fn start(self) -> DateTime<Utc> {
        DateTime::from_timestamp(EPOCH + i64::from(self.0) * 3_600, 0).unwrap_or_default()
    }

    /// The first instant after it.
    pub fn end(self) -> DateTime<Utc> {
        self.start() + TimeDelta::hours(1)
    }

    /// The day on which the price is made, from which the days until departure count.
    pub fn day(self) -> NaiveDate {
        self.start().date_naive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_lies_in_its_bucket() {
        for second in [EPOCH, EPOCH + 3_599, EPOCH + 3_600, 1_795_000_000] {
            let instant = DateTime::from_timestamp(second, 5_000_000).unwrap();
            let bucket = Bucket::of(instant);
            assert!(bucket.start() <= instant && instant < bucket.end());
            assert_eq!(Bucket::from_number(bucket.number()), bucket);
        }
    }
}
