//! Links that open the panorama on another device.
//!
//! contract: experience b.4. The token keeps the pattern of the original's clients, `^vr_\d+_[a-z0-9]+$`; its last part is
//! 16 random bytes and an HMAC-SHA-256 over them, the destination, the scene and the time, in base 36. So a forged link is
//! told from a used one without asking anybody.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use shared::sources::Sources;

use super::model::Place;

const RANDOM: usize = 16;
const BYTES: usize = RANDOM + 32;
/// 384 bits in base 36.
const DIGITS: usize = 75;

/// What a link is good for.
pub struct Terms<'a> {
    pub destination: &'a Place,
    pub scene: Option<&'a Place>,
    /// The end, in milliseconds since 1970.
    pub expires: i64,
}

/// A link's token and the id under which its uses are counted.
pub struct Token {
    pub text: String,
    pub id: String,
}

impl Token {
    /// A new token.
    pub fn issue(key: &str, terms: &Terms<'_>, now: i64, sources: &Sources) -> Option<Self> {
        let mut random = [0_u8; RANDOM];
        sources.entropy.fill(&mut random);
        let tag = mac(key, &random, terms)?.finalize().into_bytes();
        let text = format!("vr_{now}_{}", base36(&[random.as_slice(), tag.as_slice()].concat()));
        Some(Self {
            text,
            id: hex::encode(random),
        })
    }

    /// The token if it was issued for these terms with this key.
    pub fn verify(key: &str, text: &str, terms: &Terms<'_>) -> Option<Self> {
        let (now, code) = text.strip_prefix("vr_")?.split_once('_')?;
        if now.is_empty() || !now.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let bytes = from_base36(code)?;
        let (random, tag) = bytes.split_at_checked(RANDOM)?;
        mac(key, random, terms)?.verify_slice(tag).ok()?;
        Some(Self {
            text: text.to_owned(),
            id: hex::encode(random),
        })
    }
}

/// Neither destinations nor scenes hold the bar that stands between the parts.
fn mac(key: &str, random: &[u8], terms: &Terms<'_>) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(random);
    let scene = terms.scene.map_or("", Place::as_str);
    mac.update(format!("{}|{scene}|{}", terms.destination.as_str(), terms.expires).as_bytes());
    Some(mac)
}

/// Big-endian bytes in base 36, always as many digits as the largest value needs.
fn base36(bytes: &[u8]) -> String {
    let mut digits: Vec<u8> = Vec::with_capacity(DIGITS);
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = u8::try_from(carry % 36).unwrap_or_default();
            carry /= 36;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 36).unwrap_or_default());
            carry /= 36;
        }
    }
    digits.resize(DIGITS.max(digits.len()), 0);
    let letter = |digit: &u8| char::from_digit(u32::from(*digit), 36).unwrap_or('0');
    digits.iter().rev().map(letter).collect()
}

fn from_base36(text: &str) -> Option<Vec<u8>> {
    if text.len() != DIGITS || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(BYTES + 1);
    for letter in text.chars() {
        let mut carry = letter.to_digit(36)?;
        for byte in &mut bytes {
            carry += u32::from(*byte) * 36;
            *byte = u8::try_from(carry & 0xff).unwrap_or_default();
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(u8::try_from(carry & 0xff).unwrap_or_default());
            carry >>= 8;
        }
    }
    if bytes.len() > BYTES {
        return None;
    }
    bytes.resize(BYTES, 0);
    bytes.reverse();
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    #[test]
    fn a_link_is_good_for_its_own_terms_only() {
        let (paris, tokyo, louvre) = (place("paris"), place("tokyo"), place("louvre"));
        let terms = |destination, scene, expires| Terms {
            destination,
            scene,
            expires,
        };
        let sources = Sources::system();
        let token = Token::issue("key", &terms(&paris, Some(&louvre), 5), 1, &sources).unwrap();
        let check = |key: &str, terms: &Terms<'_>| Token::verify(key, &token.text, terms).is_some();
        assert!(check("key", &terms(&paris, Some(&louvre), 5)));
        assert!(!check("other", &terms(&paris, Some(&louvre), 5)));
        assert!(!check("key", &terms(&tokyo, Some(&louvre), 5)));
        assert!(!check("key", &terms(&paris, None, 5)));
        assert!(!check("key", &terms(&paris, Some(&louvre), 6)));
    }

    #[test]
    fn a_token_has_the_pattern_of_the_original() {
        let token = Token::issue(
            "key",
            &Terms {
                destination: &place("paris"),
                scene: None,
                expires: 5,
            },
            17,
            &Sources::system(),
        );
        let text = token.unwrap().text;
        let (time, code) = text.strip_prefix("vr_").unwrap().split_once('_').unwrap();
        assert_eq!(time, "17");
        assert!(
            code.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
    }

    proptest! {
        #[test]
        fn bytes_survive_base_36(bytes in prop::collection::vec(any::<u8>(), BYTES)) {
            prop_assert_eq!(from_base36(&base36(&bytes)), Some(bytes));
        }

        #[test]
        fn no_text_is_taken_for_a_token(text in "\\PC{0,120}") {
            let paris = place("paris");
            let terms = Terms { destination: &paris, scene: None, expires: 5 };
            prop_assert!(Token::verify("key", &text, &terms).is_none());
        }
    }
}
