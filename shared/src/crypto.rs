//! Encryption of single fields at rest: second-factor secrets, documents, private keys.
//!
//! contract: core §12 (`DATA_ENCRYPTION_KEY`), §14 (field encryption with key rotation)
//!
//! AES-256-GCM with a random nonce. The context (`auth.mfa_totp:<user>`) is authenticated but not stored: a value copied
//! into another row or column does not open there. Each value names the key that sealed it, so a new key can be put
//! first while values of older ones still open.

use std::{fmt, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::Reader;

/// The layout of what [`Cipher::seal`] gives: version, key id, nonce, ciphertext with tag.
const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const HEADER: usize = 1 + KEY_ID;
const TAG: usize = 16;

const NAME: &str = "DATA_ENCRYPTION_KEY";
const HELP: &str =
    "key of encrypted fields, 32 bytes in base64; more, separated by commas, only open what older keys sealed";
/// What development encrypts with where nothing is configured. Its value is public, so production refuses it.
const DEVELOPMENT: &[u8] = b"dreamscape development: encrypts nothing that matters";

/// Why a value cannot be sealed or opened. Says nothing about the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A key that is not 32 bytes of base64.
    #[error("a key is not 32 bytes in base64")]
    Key,
    /// The key that sealed the value is not configured any more.
    #[error("the key of this value is not known")]
    UnknownKey,
    /// Not one of our values, changed, or sealed in another context.
    #[error("the value could not be opened")]
    Rejected,
    /// The value could not be sealed; does not happen with values of a sane size.
    #[error("the value could not be sealed")]
    Seal,
}

struct Key {
    id: [u8; KEY_ID],
    key: RandomizedNonceKey,
}

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Cipher(Arc<Keys>);

struct Keys {
    sealing: Key,
    /// Open only.
    older: Vec<Key>,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("keys", &(1 + self.0.older.len()))
            .finish()
    }
}

impl Cipher {
    /// Reads `DATA_ENCRYPTION_KEY`. Production refuses to start without it and with the key of development.
    pub fn read(reader: &mut Reader) -> Self {
        let text = if reader.production() {
            reader.required_secret(NAME, HELP)
        } else {
            reader.secret(NAME, HELP)
        };
        match text.as_ref().map(Self::parse) {
            Some(Ok(cipher)) => {
                if reader.production() && cipher.0.all().any(|key| key.id == key_id(&development_key())) {
                    reader.problem(format!("{NAME}: this is the key of development"));
                }
                cipher
            }
            Some(Err(error)) => {
                reader.problem(format!("{NAME}: {error}"));
                Self::development()
            }
            None => Self::development(),
        }
    }

    /// The keys of a comma list, base64 with either alphabet; the first seals, all open.
    pub fn parse(text: &SecretString) -> Result<Self, CryptoError> {
        let mut keys = text.expose_secret().split(',').map(|entry| {
            let entry = entry.trim().trim_end_matches('=');
            let url_safe = Zeroizing::new(entry.replace('+', "-").replace('/', "_"));
            let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(&*url_safe).map_err(|_| CryptoError::Key)?);
            Key::new(&bytes)
        });
        let sealing = keys.next().ok_or(CryptoError::Key)??;
        let older = keys.collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Keys { sealing, older })))
    }

    /// The cipher of development and tests.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "a digest has the length of a key"
    )]
    pub fn development() -> Self {
        let sealing = Key::new(&development_key()).expect("32 bytes are a key");
        Self(Arc::new(Keys {
            sealing,
            older: Vec::new(),
        }))
    }

    /// A fresh key in the form of the setting, from 32 random bytes.
    pub fn encode_key(bytes: &[u8; 32]) -> SecretString {
        STANDARD.encode(bytes).into()
    }

    /// Encrypts for this context; the same text sealed twice gives different values.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let Key { id, key } = &self.0.sealing;
        let mut body = plain.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(associated(*id, context)), &mut body)
            .map_err(|_| CryptoError::Seal)?;
        let mut sealed = Vec::with_capacity(HEADER + NONCE_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(id);
        let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
        sealed.extend_from_slice(nonce);
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// What was sealed for this context. The plain text is wiped when dropped.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let (header, rest) = sealed.split_at_checked(HEADER).ok_or(CryptoError::Rejected)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(CryptoError::Rejected)?;
        let [VERSION, id @ ..] = header else {
            return Err(CryptoError::Rejected);
        };
        if body.len() < TAG {
            return Err(CryptoError::Rejected);
        }
        let key = self.0.all().find(|key| key.id == id).ok_or(CryptoError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::Rejected)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = key
            .key
            .open_in_place(nonce, Aad::from(associated(key.id, context)), plain.as_mut_slice())
            .map_err(|_| CryptoError::Rejected)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    /// Whether a value was sealed with an older key and should be sealed anew when it is next written.
    pub fn is_outdated(&self, sealed: &[u8]) -> bool {
        sealed.get(1..HEADER) != Some(self.0.sealing.id.as_slice())
    }
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.sealing).chain(&self.older)
    }
}

impl Key {
    fn new(bytes: &[u8]) -> Result<Self, CryptoError> {
        if bytes.len() != AES_256_GCM.key_len() {
            return Err(CryptoError::Key);
        }
        Ok(Self {
            id: key_id(bytes),
            key: RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| CryptoError::Key)?,
        })
    }
}

/// Derived from the key, so that replicas agree and nobody has to name keys; says nothing about it.
fn key_id(bytes: &[u8]) -> [u8; KEY_ID] {
    let digest = Sha256::new()
        .chain_update(b"dreamscape key id")
        .chain_update(bytes)
        .finalize();
    let mut id = [0; KEY_ID];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}

fn development_key() -> [u8; 32] {
    Sha256::digest(DEVELOPMENT).into()
}

fn associated(id: [u8; KEY_ID], context: &str) -> Vec<u8> {
    [&[VERSION], id.as_slice(), context.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cipher(keys: &[[u8; 32]]) -> Cipher {
        let list: Vec<String> = keys
            .iter()
            .map(|key| Cipher::encode_key(key).expose_secret().to_owned())
            .collect();
        Cipher::parse(&list.join(",").into()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_in_its_own_context_only() {
        let cipher = cipher(&[[1; 32]]);
        let sealed = cipher.seal("totp:ada", b"secret").unwrap();
        assert_eq!(&**cipher.open("totp:ada", &sealed).unwrap(), b"secret");
        assert_eq!(cipher.open("totp:eve", &sealed), Err(CryptoError::Rejected));
        assert_ne!(sealed, cipher.seal("totp:ada", b"secret").unwrap());
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn a_new_key_seals_and_the_older_still_opens_until_it_is_taken_away() {
        let before = cipher(&[[1; 32]]);
        let sealed = before.seal("x", b"secret").unwrap();
        let during = cipher(&[[2; 32], [1; 32]]);
        assert_eq!(&**during.open("x", &sealed).unwrap(), b"secret");
        assert!(during.is_outdated(&sealed) && !before.is_outdated(&sealed));
        assert!(!during.is_outdated(&during.seal("x", b"secret").unwrap()));
        assert_eq!(
            cipher(&[[2; 32]]).open("x", &sealed).unwrap_err(),
            CryptoError::UnknownKey
        );
    }

    #[test]
    fn keys_are_read_in_either_alphabet_and_nothing_else() {
        let key = [0xfb; 32];
        let standard = STANDARD.encode(key);
        assert!(standard.contains('+'));
        let a = Cipher::parse(&standard.into()).unwrap();
        let b = Cipher::parse(&URL_SAFE_NO_PAD.encode(key).into()).unwrap();
        assert_eq!(&**b.open("x", &a.seal("x", b"y").unwrap()).unwrap(), b"y");
        for bad in ["", "AAAA", "not base64!", ","] {
            assert_eq!(Cipher::parse(&bad.into()).unwrap_err(), CryptoError::Key, "{bad}");
        }
    }

    #[test]
    fn production_needs_a_key_of_its_own() {
        let problems = |key: Option<String>| {
            let key = key.map(|key| (NAME.to_owned(), key));
            let pairs = [("APP_ENV".to_owned(), "production".to_owned())];
            let mut reader = Reader::from_pairs(pairs.into_iter().chain(key));
            Cipher::read(&mut reader);
            reader.finish().err().map(|errors| errors.0.join("\n"))
        };
        assert!(problems(None).unwrap().contains(NAME));
        let development = STANDARD.encode(development_key());
        assert!(problems(Some(development)).unwrap().contains("development"));
        assert_eq!(problems(Some(STANDARD.encode([7; 32]))), None);
    }

    proptest! {
        #[test]
        fn any_value_comes_back_and_any_change_of_a_byte_is_noticed(
            plain in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), flip in 1_u8..,
        ) {
            let cipher = cipher(&[[3; 32]]);
            let mut sealed = cipher.seal("x", &plain).unwrap();
            prop_assert_eq!(&**cipher.open("x", &sealed).unwrap(), &plain);
            let place = at.index(sealed.len());
            sealed[place] ^= flip;
            prop_assert!(cipher.open("x", &sealed).is_err());
            prop_assert!(cipher.open("x", &sealed[..place]).is_err());
        }
    }
}
