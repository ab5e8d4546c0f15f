//! The only source of chance of the offline provider: BLAKE3 over what is drawn for, read as a stream (voyage §6.5).
//!
//! The same key gives the same numbers on every node and in every order of calls; nothing here knows the time.

use blake3::{Hasher, OutputReader};

const SEED: &[u8] = b"ds-offline/1";

/// Numbers drawn for one key.
pub struct Draw(OutputReader);

impl Draw {
    /// The numbers for `kind` and `key`. Parts are kept apart, so that `AB`+`C` is not `A`+`BC`.
    pub fn of(kind: &str, key: &[&[u8]]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(SEED);
        for part in std::iter::once(&kind.as_bytes()).chain(key) {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hasher.update(&length.to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize_xof())
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let mut bytes = [0_u8; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A whole number from `least` to `most`, both included.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        let count = u128::from(most.saturating_sub(least)) + 1;
        // the high half of the product: even to one part in 2^32
        let offset = (u128::from(self.bits()) * count) >> 64;
        least.saturating_add(u32::try_from(offset).unwrap_or(0))
    }

    /// A number from `least` up to `most`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn within(&mut self, least: f64, most: f64) -> f64 {
        let unit = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        least + (most - least) * unit
    }

    /// Whether something happens that happens so often in a hundred.
    pub fn percent(&mut self, often: u32) -> bool {
        self.between(0, 99) < often
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let last = u32::try_from(items.len().checked_sub(1)?).ok()?;
        items.get(usize::try_from(self.between(0, last)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_gives_one_stream() {
        let numbers = |kind: &str, key: &[&[u8]]| {
            let mut draw = Draw::of(kind, key);
            [draw.bits(), draw.bits(), draw.bits()]
        };
        assert_eq!(numbers("slot", &[b"AF", b"CDG"]), numbers("slot", &[b"AF", b"CDG"]));
        assert_ne!(numbers("slot", &[b"AF", b"CDG"]), numbers("slot", &[b"AFC", b"DG"]));
        assert_ne!(numbers("slot", &[b"AF"]), numbers("seat", &[b"AF"]));
    }

    proptest::proptest! {
        #[test]
        fn numbers_stay_within_their_bounds(seed in 0_u64.., least in 0_u32..1000, span in 0_u32..1000) {
            let mut draw = Draw::of("test", &[&seed.to_le_bytes()]);
            let number = draw.between(least, least + span);
            proptest::prop_assert!((least..=least + span).contains(&number));
            let real = draw.within(-0.5, 0.5);
            proptest::prop_assert!((-0.5..0.5).contains(&real));
        }
    }
}
