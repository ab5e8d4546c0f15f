//! Ed25519 key sets: one key signs, all of them verify, so that keys can be rotated without ending a session, and without
//! a restart ([`KeyRing`]).
//!
//! contract: core §2.3, §12 (`JWT_KEYSET`, `JWT_SIGNING_KEY`), §14 (JWKS)

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::sources::Sources;

/// The DER around a raw Ed25519 seed (RFC 8410, PKCS#8 version 1), which is the form the signing library reads.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why a key set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not the JSON list that is asked for. The text of the parser is left out: it could quote a seed.
    #[error("the key set is not a JSON list of {{\"kid\",\"seed\",\"use\"}}")]
    Format,
    /// A seed that is not 32 bytes of base64url.
    #[error("the seed of key `{0}` is not 32 bytes in base64url")]
    Seed(String),
    /// The same `kid` twice.
    #[error("two keys are called `{0}`")]
    Duplicate(String),
    /// Nothing to sign with.
    #[error("no key has \"use\":\"sign\"")]
    NothingSigns,
    /// A key did not sign and verify at start.
    #[error("the self-test of the signing key failed")]
    SelfTest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Use {
    Sign,
    Verify,
}

#[derive(Deserialize)]
struct Entry {
    kid: String,
    seed: SecretString,
    #[serde(rename = "use")]
    purpose: Use,
}

/// A private key with its name.
#[derive(Clone)]
pub struct KeyEntry {
    kid: String,
    seed: Zeroizing<[u8; 32]>,
    signs: bool,
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEntry")
            .field("kid", &self.kid)
            .field("signs", &self.signs)
            .finish_non_exhaustive()
    }
}

impl KeyEntry {
    /// A key of this name.
    pub fn new(kid: impl Into<String>, seed: &[u8], signs: bool) -> Result<Self, KeySetError> {
        let kid = kid.into();
        let seed = <[u8; 32]>::try_from(seed).map_err(|_| KeySetError::Seed(kid.clone()))?;
        Ok(Self {
            kid,
            seed: Zeroizing::new(seed),
            signs,
        })
    }

    /// A fresh one that signs, named after its public key.
    pub fn generate(sources: &Sources) -> Result<Self, KeySetError> {
        let mut seed = Zeroizing::new([0; 32]);
        sources.entropy.fill(&mut *seed);
        Self::new(derived_kid(&seed)?, &*seed, true)
    }

    /// The keys of `JWT_KEYSET`: `[{"kid":"2026-01","seed":"<32 bytes, base64url>","use":"sign"|"verify"}]`.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, KeySetError> {
        let entries: Vec<Entry> = serde_json::from_str(text).map_err(|_| KeySetError::Format)?;
        let entries = entries.into_iter().map(|entry| {
            let seed = decode_seed(entry.seed.expose_secret()).ok_or_else(|| KeySetError::Seed(entry.kid.clone()))?;
            Self::new(entry.kid, &*seed, entry.purpose == Use::Sign)
        });
        entries.collect()
    }

    /// The key of `JWT_SIGNING_KEY`: one seed. Its `kid` is derived from the public key, so replicas agree on it.
    pub fn parse_single(text: &str) -> Result<Self, KeySetError> {
        let seed = decode_seed(text).ok_or_else(|| KeySetError::Seed("JWT_SIGNING_KEY".to_owned()))?;
        Self::new(derived_kid(&seed)?, &*seed, true)
    }

    /// The name tokens carry in their header.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The private part, to be sealed and stored.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Whether it may sign.
    pub fn signs(&self) -> bool {
        self.signs
    }

    /// The same key, to sign or only to verify with.
    #[must_use]
    pub fn signing(mut self, signs: bool) -> Self {
        self.signs = signs;
        self
    }

    /// The public part.
    pub fn public(&self) -> Result<Jwk, KeySetError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&*self.seed).map_err(|_| KeySetError::Seed(self.kid.clone()))?;
        Ok(Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            alg: "EdDSA".to_owned(),
            purpose: "sig".to_owned(),
            kid: self.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
        })
    }

    fn encoding_key(&self) -> EncodingKey {
        let der = Zeroizing::new([PKCS8_PREFIX.as_slice(), self.seed.as_slice()].concat());
        EncodingKey::from_ed_der(&der)
    }
}

fn derived_kid(seed: &[u8; 32]) -> Result<String, KeySetError> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeySetError::SelfTest)?;
    let fingerprint = hex::encode(Sha256::digest(pair.public_key().as_ref()));
    Ok(fingerprint.get(..16).unwrap_or(&fingerprint).to_owned())
}

/// One public key in JWK form (RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub purpose: String,
    /// The name tokens carry in their header.
    pub kid: String,
    /// The public key, base64url.
    pub x: String,
}

/// The published key set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Jwks {
    /// All keys that tokens may be signed with now.
    pub keys: Vec<Jwk>,
}

/// Public keys by `kid`, ready to verify with.
#[derive(Clone, Default)]
pub struct PublicKeys(Arc<HashMap<String, DecodingKey>>);

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl PublicKeys {
    /// The keys of a published set; keys of another kind are left out, as RFC 7517 asks.
    pub fn from_jwks(jwks: &Jwks) -> Self {
        let usable = jwks
            .keys
            .iter()
            .filter(|key| key.kty == "OKP" && key.crv == "Ed25519" && key.alg == "EdDSA");
        let keys = usable.filter_map(|key| Some((key.kid.clone(), DecodingKey::from_ed_components(&key.x).ok()?)));
        Self(Arc::new(keys.collect()))
    }

    /// The key of this name.
    pub fn get(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.get(kid)
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The private key set of the core pod.
#[derive(Clone)]
pub struct KeySet {
    kid: String,
    signing: EncodingKey,
    jwks: Jwks,
    public: PublicKeys,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("kid", &self.kid)
            .field("keys", &self.jwks.keys.len())
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// The set of these keys. The first that may sign signs, all verify; the signing key is put to the test.
    pub fn of(entries: &[KeyEntry]) -> Result<Self, KeySetError> {
        let mut jwks = Jwks::default();
        for entry in entries {
            if jwks.keys.iter().any(|known| known.kid == entry.kid) {
                return Err(KeySetError::Duplicate(entry.kid.clone()));
            }
            jwks.keys.push(entry.public()?);
        }
        let signing = entries
            .iter()
            .find(|entry| entry.signs)
            .ok_or(KeySetError::NothingSigns)?;
        let set = Self {
            kid: signing.kid.clone(),
            signing: signing.encoding_key(),
            public: PublicKeys::from_jwks(&jwks),
            jwks,
        };
        set.self_test()?;
        Ok(set)
    }

    /// Reads `JWT_KEYSET` (see [`KeyEntry::parse_list`]).
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        Self::of(&KeyEntry::parse_list(text)?)
    }

    /// Reads `JWT_SIGNING_KEY` (see [`KeyEntry::parse_single`]).
    pub fn single(seed: &str) -> Result<Self, KeySetError> {
        Self::of(&[KeyEntry::parse_single(seed)?])
    }

    /// A fresh key that dies with the process, for development and tests.
    pub fn generate(sources: &Sources) -> Result<Self, KeySetError> {
        Self::of(&[KeyEntry::generate(sources)?])
    }

    /// The name of the key that signs.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What is published.
    pub fn jwks(&self) -> &Jwks {
        &self.jwks
    }

    /// What this process verifies with.
    pub fn public(&self) -> &PublicKeys {
        &self.public
    }

    pub(super) fn encoding_key(&self) -> &EncodingKey {
        &self.signing
    }

    /// Signs and verifies once: a wrongly built crypto provider shows at start and not with the first traveller.
    fn self_test(&self) -> Result<(), KeySetError> {
        let message = b"dreamscape";
        let signature = jsonwebtoken::crypto::sign(message, &self.signing, jsonwebtoken::Algorithm::EdDSA)
            .map_err(|_| KeySetError::SelfTest)?;
        let key = self.public.get(&self.kid).ok_or(KeySetError::SelfTest)?;
        match jsonwebtoken::crypto::verify(&signature, message, key, jsonwebtoken::Algorithm::EdDSA) {
            Ok(true) => Ok(()),
            _ => Err(KeySetError::SelfTest),
        }
    }
}

/// The key set in use, which may be exchanged while the process runs. Clones see the exchange.
#[derive(Debug, Clone)]
pub struct KeyRing(Arc<RwLock<Arc<KeySet>>>);

impl KeyRing {
    /// The present set. Not to be held for long: the next request may find another.
    pub fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another set in its place. Says whether that changed anything.
    pub fn replace(&self, next: KeySet) -> bool {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let differs = current.kid != next.kid || current.jwks != next.jwks;
        if differs {
            *current = Arc::new(next);
        }
        differs
    }
}

impl From<KeySet> for KeyRing {
    fn from(set: KeySet) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(set))))
    }
}

fn decode_seed(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('=')).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn the_first_key_to_sign_signs_and_all_are_published() {
        let other = URL_SAFE_NO_PAD.encode([7_u8; 32]);
        let text = format!(
            r#"[{{"kid":"old","seed":"{other}","use":"verify"}},{{"kid":"new","seed":"{SEED}","use":"sign"}}]"#
        );
        let set = KeySet::parse(&text).unwrap();
        assert_eq!(set.kid(), "new");
        assert_eq!(set.jwks().keys.len(), 2);
        assert!(!serde_json::to_string(set.jwks()).unwrap().contains(SEED));
    }

    #[test]
    fn a_bad_set_says_what_is_wrong_without_its_seeds() {
        let two = format!(r#"[{{"kid":"a","seed":"{SEED}","use":"sign"}},{{"kid":"a","seed":"{SEED}","use":"sign"}}]"#);
        assert_eq!(KeySet::parse(&two).unwrap_err(), KeySetError::Duplicate("a".into()));
        let none = format!(r#"[{{"kid":"a","seed":"{SEED}","use":"verify"}}]"#);
        assert_eq!(KeySet::parse(&none).unwrap_err(), KeySetError::NothingSigns);
        let short = r#"[{"kid":"a","seed":"c2hvcnQ","use":"sign"}]"#;
        assert!(!KeySet::parse(short).unwrap_err().to_string().contains("c2hvcnQ"));
        assert_eq!(KeySet::parse("{").unwrap_err(), KeySetError::Format);
    }

    #[test]
    fn replicas_with_one_seed_agree_on_the_name_of_the_key() {
        assert_eq!(KeySet::single(SEED).unwrap().kid(), KeySet::single(SEED).unwrap().kid());
    }
}
