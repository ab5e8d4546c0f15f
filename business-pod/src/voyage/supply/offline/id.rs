//! Offer ids that carry what they stand for: `off_` and 22 base-62 digits (voyage §6.5).
//!
//! An id is 128 bits: the parameters of the offer, its place in the list, the hour of its price and a check, mixed so
//! that neighbours look unrelated. A store that lost the row can therefore make the very same offer again, and two
//! different offers can never share an id. Nothing in an id is secret, and an id that someone composes grants nothing:
//! what it stands for is priced by us.

use chrono::{NaiveDate, TimeDelta};

use super::bucket::Bucket;
use crate::voyage::supply::{
    flight::{Cabin, Passengers},
    rates,
    reference::Iata,
};
use shared::money::Currency;

/// What every id begins with.
pub const PREFIX: &str = "off_";

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 22;
const CHECK_BITS: u32 = 22;

/// A fare brand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Brand {
    /// No bag, no refund, no change.
    Light,
    /// One bag, change for a fee.
    Standard,
    /// Two bags, refundable.
    Flex,
}

impl Brand {
    /// Every brand, cheapest first.
    pub const ALL: [Self; 3] = [Self::Light, Self::Standard, Self::Flex];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Light => "Light",
            Self::Standard => "Standard",
            Self::Flex => "Flex",
        }
    }
}

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// First airport.
    pub origin: Iata,
    /// Last airport of the way there.
    pub destination: Iata,
    /// Local date of departure.
    pub departure: NaiveDate,
    /// Local date of the way back.
    pub return_date: Option<NaiveDate>,
    /// Who travels.
    pub passengers: Passengers,
    /// In which cabin.
    pub cabin: Cabin,
    /// Quoted in which currency.
    pub currency: Currency,
    /// Place of the way there among that day's itineraries.
    pub outbound: u8,
    /// Place of the way back among its day's itineraries; 0 without one.
    pub inbound: u8,
    /// Fare brand.
    pub brand: Brand,
    /// The hour of the price.
    pub bucket: Bucket,
}

/// 2020-01-01, the first day an id can name.
fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2020, 1, 1).unwrap_or_default()
}

/// Appends fields to a number, or takes them off again in the same order.
struct Fields(u128);

impl Fields {
    fn put(&mut self, value: u32, bits: u32) -> Option<()> {
        if bits < 32 && value >> bits != 0 {
            return None;
        }
        self.0 = self.0 << bits | u128::from(value);
        Some(())
    }

    fn take(&mut self, bits: u32) -> u32 {
        let value = self.0 & ((1 << bits) - 1);
        self.0 >>= bits;
        u32::try_from(value).unwrap_or(0)
    }
}

impl Key {
    /// The id. `None` if a field is out of what an id can name: a date after 2064, a way back more than 1,000 days
    /// later, a currency without a rate. Such a journey is not sold.
    pub fn encode(&self) -> Option<String> {
        let packed = self.pack()?;
        let mut text = [0_u8; LENGTH];
        let mut rest = mix(packed << CHECK_BITS | u128::from(check(packed)));
        for place in text.iter_mut().rev() {
            *place = *DIGITS.get(usize::try_from(rest % 62).ok()?)?;
            rest /= 62;
        }
        Some(format!("{PREFIX}{}", std::str::from_utf8(&text).ok()?))
    }

    /// What an id stands for; `None` if it is none of ours.
    pub fn decode(id: &str) -> Option<Self> {
        let digits = id.strip_prefix(PREFIX).filter(|digits| digits.len() == LENGTH)?;
        let mut number = 0_u128;
        for digit in digits.bytes() {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'A'..=b'Z' => digit - b'A' + 10,
                b'a'..=b'z' => digit - b'a' + 36,
                _ => return None,
            };
            number = number.checked_mul(62)?.checked_add(u128::from(value))?;
        }
        let plain = unmix(number);
        let packed = plain >> CHECK_BITS;
        if plain & ((1 << CHECK_BITS) - 1) != u128::from(check(packed)) {
            return None;
        }
        Self::unpack(packed)
    }

    fn pack(&self) -> Option<u128> {
        let day = |date: NaiveDate| u32::try_from((date - first_day()).num_days()).ok();
        let return_days = match self.return_date {
            Some(date) => u32::try_from((date - self.departure).num_days()).ok()?.checked_add(1)?,
            None => 0,
        };
        let cabin = Cabin::ALL.iter().position(|cabin| *cabin == self.cabin)?;
        let brand = Brand::ALL.iter().position(|brand| *brand == self.brand)?;
        let mut fields = Fields(0);
        fields.put(self.bucket.number(), 20)?;
        fields.put(u32::try_from(brand).ok()?, 2)?;
        fields.put(self.inbound.into(), 4)?;
        fields.put(self.outbound.into(), 4)?;
        fields.put(rates::position(self.currency)?.into(), 6)?;
        fields.put(u32::try_from(cabin).ok()?, 2)?;
        fields.put(self.passengers.infants.into(), 4)?;
        fields.put(self.passengers.children.into(), 4)?;
        fields.put(self.passengers.adults.into(), 4)?;
        fields.put(return_days, 10)?;
        fields.put(day(self.departure)?, 14)?;
        fields.put(self.destination.index().into(), 15)?;
        fields.put(self.origin.index().into(), 15)?;
        Some(fields.0)
    }

    fn unpack(packed: u128) -> Option<Self> {
        let mut fields = Fields(packed);
        let code = |index: u32| u16::try_from(index).ok().and_then(Iata::from_index);
        let small = |number: u32| u8::try_from(number).ok();
        let origin = code(fields.take(15))?;
        let destination = code(fields.take(15))?;
        let departure = first_day().checked_add_signed(TimeDelta::days(fields.take(14).into()))?;
        let return_date = match fields.take(10) {
            0 => None,
            days => Some(departure.checked_add_signed(TimeDelta::days(i64::from(days) - 1))?),
        };
        let (adults, children, infants) = (fields.take(4), fields.take(4), fields.take(4));
        let passengers = Passengers::new(small(adults)?, small(children)?, small(infants)?).ok()?;
        let cabin = *Cabin::ALL.get(usize::try_from(fields.take(2)).ok()?)?;
        let currency = rates::at(small(fields.take(6))?)?;
        let outbound = small(fields.take(4))?;
        let inbound = small(fields.take(4))?;
        let brand = *Brand::ALL.get(usize::try_from(fields.take(2)).ok()?)?;
        let bucket = Bucket::from_number(fields.take(20));
        Some(Self {
            origin,
            destination,
            departure,
            return_date,
            passengers,
            cabin,
            currency,
            outbound,
            inbound,
            brand,
            bucket,
        })
    }
}

/// The check: enough that a mistyped or invented id is refused.
fn check(packed: u128) -> u32 {
    let mut first = [0_u8; 4];
    let hash = blake3::hash(&[b"ds-offline/id/check".as_slice(), &packed.to_le_bytes()].concat());
    first
        .iter_mut()
        .zip(hash.as_bytes())
        .for_each(|(target, source)| *target = *source);
    u32::from_le_bytes(first) >> (32 - CHECK_BITS)
}

const ROUNDS: u8 = 4;

/// A fixed permutation of 128 bits: a Feistel network of four rounds.
fn mix(number: u128) -> u128 {
    let (mut left, mut right) = halves(number);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ scramble(right, round));
    }
    join(left, right)
}

fn unmix(number: u128) -> u128 {
    let (mut left, mut right) = halves(number);
    for round in (0..ROUNDS).rev() {
        (left, right) = (right ^ scramble(left, round), left);
    }
    join(left, right)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn halves(number: u128) -> (u64, u64) {
    ((number >> 64) as u64, number as u64)
}

fn join(left: u64, right: u64) -> u128 {
    u128::from(left) << 64 | u128::from(right)
}

fn scramble(half: u64, round: u8) -> u64 {
    let mut input = [0_u8; 28];
    let parts = b"ds-offline/id/mix"
        .iter()
        .copied()
        .chain([round])
        .chain(half.to_le_bytes());
    input
        .iter_mut()
        .zip(parts)
        .for_each(|(target, source)| *target = source);
    let hash = blake3::hash(&input);
    let mut first = [0_u8; 8];
    first
        .iter_mut()
        .zip(hash.as_bytes())
        .for_each(|(target, source)| *target = *source);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        let places = (0..17_576_u16, 0..17_576_u16);
        let days = (0..16_384_i64, proptest::option::of(0..1_000_i64));
        let travellers = (1..=9_u8, 0..=8_u8, 0..=9_u8);
        let rest = (0..4_usize, 0..46_u8, 0..16_u8, 0..16_u8, 0..3_usize, 0..1_000_000_u32);
        (places, days, travellers, rest).prop_filter_map("not a booking", |(places, days, travellers, rest)| {
            let departure = first_day() + TimeDelta::days(days.0);
            Some(Key {
                origin: Iata::from_index(places.0)?,
                destination: Iata::from_index(places.1)?,
                departure,
                return_date: days.1.map(|days| departure + TimeDelta::days(days)),
                passengers: Passengers::new(travellers.0, travellers.1, travellers.2).ok()?,
                cabin: Cabin::ALL[rest.0],
                currency: rates::at(rest.1)?,
                outbound: rest.2,
                inbound: rest.3,
                brand: Brand::ALL[rest.4],
                bucket: Bucket::from_number(rest.5),
            })
        })
    }

    proptest! {
        #[test]
        fn an_id_says_what_it_stands_for(key in keys()) {
            let id = key.encode().unwrap();
            prop_assert_eq!(id.len(), 26);
            prop_assert!(id.strip_prefix(PREFIX).unwrap().bytes().all(|digit| digit.is_ascii_alphanumeric()));
            prop_assert_eq!(Key::decode(&id), Some(key));
        }

        #[test]
        fn other_texts_stand_for_nothing(text in "off_[0-9A-Za-z]{22}") {
            prop_assert_eq!(Key::decode(&text), None);
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,40}") {
            prop_assert_eq!(Key::decode(&text), None);
        }

        #[test]
        fn one_wrong_digit_is_noticed(key in keys(), place in 4..26_usize) {
            let id = key.encode().unwrap();
            let mut digits = id.into_bytes();
            digits[place] = if digits[place] == b'x' { b'y' } else { b'x' };
            prop_assert_eq!(Key::decode(std::str::from_utf8(&digits).unwrap()), None);
        }
    }
}
