//! Ed25519 key sets: one key signs, all of them verify, so that keys can be rotated without ending a session.
//!
//! contract: core §2.3, §12 (`JWT_KEYSET`, `JWT_SIGNING_KEY`), §14 (JWKS)

use std::{collections::HashMap, fmt, sync::Arc};

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
    /// Reads `JWT_KEYSET`: `[{"kid":"2026-01","seed":"<32 bytes, base64url>","use":"sign"|"verify"}]`. The first key to
    /// sign signs, all keys verify; every key is put to the test.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let entries: Vec<Entry> = serde_json::from_str(text).map_err(|_| KeySetError::Format)?;
        let mut signing = None;
        let mut jwks = Jwks::default();
        for entry in entries {
            if jwks.keys.iter().any(|known| known.kid == entry.kid) {
                return Err(KeySetError::Duplicate(entry.kid));
            }
            let seed = decode_seed(entry.seed.expose_secret()).ok_or_else(|| KeySetError::Seed(entry.kid.clone()))?;
            let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeySetError::Seed(entry.kid.clone()))?;
            jwks.keys.push(Jwk {
                kty: "OKP".to_owned(),
                crv: "Ed25519".to_owned(),
                alg: "EdDSA".to_owned(),
                purpose: "sig".to_owned(),
                kid: entry.kid.clone(),
                x: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
            });
            if entry.purpose == Use::Sign && signing.is_none() {
                let der = Zeroizing::new([PKCS8_PREFIX.as_slice(), seed.as_slice()].concat());
                signing = Some((entry.kid, EncodingKey::from_ed_der(&der)));
            }
        }
        let (kid, signing) = signing.ok_or(KeySetError::NothingSigns)?;
        let set = Self { kid, signing, jwks };
        set.self_test()?;
        Ok(set)
    }

    /// Reads `JWT_SIGNING_KEY`: one seed. Its `kid` is derived from the public key, so replicas agree on it.
    pub fn single(seed: &str) -> Result<Self, KeySetError> {
        let raw = decode_seed(seed).ok_or_else(|| KeySetError::Seed("JWT_SIGNING_KEY".to_owned()))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&*raw).map_err(|_| KeySetError::SelfTest)?;
        let fingerprint = hex::encode(Sha256::digest(pair.public_key().as_ref()));
        let kid = fingerprint.get(..16).unwrap_or(&fingerprint);
        let text = Zeroizing::new(serde_json::json!([{ "kid": kid, "seed": seed.trim(), "use": "sign" }]).to_string());
        Self::parse(&text)
    }

    /// A fresh key that dies with the process, for development and tests.
    pub fn generate(sources: &Sources) -> Result<Self, KeySetError> {
        Self::single(&Zeroizing::new(sources.secret()))
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
    pub fn public(&self) -> PublicKeys {
        PublicKeys::from_jwks(&self.jwks)
    }

    pub(super) fn encoding_key(&self) -> &EncodingKey {
        &self.signing
    }

    /// Signs and verifies once: a wrongly built crypto provider shows at start and not with the first traveller.
    fn self_test(&self) -> Result<(), KeySetError> {
        let message = b"dreamscape";
        let signature = jsonwebtoken::crypto::sign(message, &self.signing, jsonwebtoken::Algorithm::EdDSA)
            .map_err(|_| KeySetError::SelfTest)?;
        let public = self.public();
        let key = public.get(&self.kid).ok_or(KeySetError::SelfTest)?;
        match jsonwebtoken::crypto::verify(&signature, message, key, jsonwebtoken::Algorithm::EdDSA) {
            Ok(true) => Ok(()),
            _ => Err(KeySetError::SelfTest),
        }
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
