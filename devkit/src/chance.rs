//! Time and randomness of the embedded back ends, in one place (this crate does not depend on `shared`).

use std::{fmt::Write as _, sync::Arc};

/// Where a double takes the time from: seconds since 1970, UTC.
///
/// A test that holds its clock still hands the same clock to the double, so that signatures carry its time.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The clock of the operating system.
pub fn system_clock() -> Clock {
    Arc::new(unix_seconds)
}

/// Seconds since 1970 by the operating system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this crate cannot use shared::sources; this is its one look at the clock"
)]
pub fn unix_seconds() -> i64 {
    chrono::Utc::now().timestamp()
}

/// An array of random bytes fit for secrets.
///
/// # Panics
///
/// If the operating system has no random bytes to give.
#[expect(
    clippy::expect_used,
    reason = "without the system's random generator no secret can be made; stopping is right"
)]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut buffer = [0_u8; N];
    getrandom::fill(&mut buffer).expect("the operating system's random generator failed");
    buffer
}

/// A secret of 192 random bits in hexadecimal: safe in URLs, files and headers.
pub fn secret() -> String {
    bytes::<24>().iter().fold(String::with_capacity(48), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `count` random letters and digits.
pub fn alphanumeric(count: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let drawn = bytes::<32>();
        let letters = drawn
            .iter()
            .filter_map(|byte| ALPHABET.get(usize::from(byte & 63)))
            .take(count - text.len());
        text.extend(letters.map(|letter| char::from(*letter)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_text_has_its_length_and_differs() {
        assert_eq!(alphanumeric(24).len(), 24);
        assert_eq!(secret().len(), 48);
        assert_ne!(secret(), secret());
    }
}
