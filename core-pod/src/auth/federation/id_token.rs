//! What a provider signed, checked.
//!
//! contract: core §14; OpenID Connect Core 1.0 §3.1.3.7. Signature by a published key of the provider with an asymmetric
//! algorithm, issuer, audience and authorised party, times on our clock, and the nonce of this very sign-in.

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq as _;

/// Symmetric ones are missing on purpose: anybody who knows a public key could sign with it.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Clocks may differ by this much, in seconds.
const LEEWAY: i64 = 60;
/// An answer to a sign-in of now was made now, in seconds.
const MAX_AGE: i64 = 10 * 60;
/// Longer tokens are not read.
const MAX_LENGTH: usize = 16 * 1024;

/// What the token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who made it.
    pub issuer: &'a str,
    /// For whom: us.
    pub client_id: &'a str,
    /// For which sign-in.
    pub nonce: &'a str,
    /// The present, in seconds.
    pub now: i64,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a token, or of an algorithm that proves nothing.
    #[error("not a signed token of an accepted algorithm")]
    Malformed,
    /// No published key has this name.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// The signature, the issuer or the audience is not right.
    #[error("the signature, issuer or audience is wrong")]
    Invalid,
    /// Meant for another client.
    #[error("the authorised party is another client")]
    Party,
    /// Too old, or not valid yet.
    #[error("not valid now")]
    Time,
    /// Of another sign-in.
    #[error("the nonce is wrong")]
    Nonce,
}

/// What a provider says about somebody.
#[derive(Clone, Deserialize)]
pub struct Claims {
    /// Who, at this provider.
    pub sub: String,
    /// Their address.
    pub email: Option<String>,
    /// Whether the provider made sure that it is theirs.
    #[serde(default, deserialize_with = "truth")]
    pub email_verified: Option<bool>,
    /// First name.
    pub given_name: Option<String>,
    /// Last name.
    pub family_name: Option<String>,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(flatten)]
    claims: Claims,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// `true`, or the text of it, as one large provider writes it. Anything else is no.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.map(|value| value == serde_json::Value::Bool(true) || value.as_str() == Some("true")))
}

/// The claims of a token that is what it must be.
pub fn verify(token: &str, keys: &JwkSet, expected: Expected<'_>) -> Result<Claims, Refused> {
    if token.len() > MAX_LENGTH {
        return Err(Refused::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Refused::Malformed);
    }
    let key = find(keys, header.kid.as_deref(), header.alg).ok_or(Refused::UnknownKey)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| Refused::UnknownKey)?;
    let mut rules = Validation::new(header.alg);
    rules.set_issuer(&[expected.issuer]);
    rules.set_audience(&[expected.client_id]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // times are checked below, on our clock
    rules.validate_exp = false;
    rules.validate_nbf = false;
    let signed = jsonwebtoken::decode::<Signed>(token, &key, &rules).map_err(|_| Refused::Invalid)?;
    check(signed.claims, expected)
}

fn check(signed: Signed, expected: Expected<'_>) -> Result<Claims, Refused> {
    let several = matches!(&signed.aud, Audience::Many(list) if list.len() > 1);
    match signed.azp.as_deref() {
        Some(party) if party != expected.client_id => return Err(Refused::Party),
        None if several => return Err(Refused::Party),
        _ => {}
    }
    if let Audience::One(audience) = &signed.aud
        && audience != expected.client_id
    {
        return Err(Refused::Invalid);
    }
    let now = expected.now;
    let current = now < signed.exp.saturating_add(LEEWAY)
        && now >= signed.iat.saturating_sub(LEEWAY)
        && now < signed.iat.saturating_add(MAX_AGE + LEEWAY)
        && signed.nbf.is_none_or(|nbf| now >= nbf.saturating_sub(LEEWAY));
    if !current {
        return Err(Refused::Time);
    }
    let nonce = signed.nonce.unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(Refused::Nonce);
    }
    if signed.claims.sub.is_empty() || signed.claims.sub.len() > 255 {
        return Err(Refused::Invalid);
    }
    Ok(signed.claims)
}

/// The key of this name; without a name, the only one that can have made the signature.
fn find<'k>(keys: &'k JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<&'k Jwk> {
    let usable = |key: &&Jwk| {
        let for_signing = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
        let of_algorithm = key
            .common
            .key_algorithm
            .is_none_or(|named| named == KeyAlgorithm::from(algorithm));
        for_signing && of_algorithm
    };
    let mut candidates = keys
        .keys
        .iter()
        .filter(usable)
        .filter(|key| kid.is_none() || key.common.key_id.as_deref() == kid);
    let first = candidates.next();
    if kid.is_none() && candidates.next().is_some() {
        return None;
    }
    first
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    struct Provider {
        key: EncodingKey,
        keys: JwkSet,
    }

    impl Provider {
        fn new() -> Self {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let point = pair.public_key().as_ref();
            let document = pair.to_pkcs8v1().unwrap();
            let keys = json!({ "keys": [{
                "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256",
                "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..]),
            }] });
            Self {
                key: EncodingKey::from_ec_der(document.as_ref()),
                keys: serde_json::from_value(keys).unwrap(),
            }
        }

        fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
            let mut header = Header::new(Algorithm::ES256);
            header.kid = kid.map(str::to_owned);
            jsonwebtoken::encode(&header, claims, &self.key).unwrap()
        }

        fn verify(&self, token: &str) -> Result<Claims, Refused> {
            let expected = Expected {
                issuer: "https://id.example",
                client_id: "us",
                nonce: "n-1",
                now: NOW,
            };
            verify(token, &self.keys, expected)
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://id.example", "aud": "us", "sub": "ada", "nonce": "n-1",
            "iat": NOW, "exp": NOW + 3600, "email": "ada@example.com", "email_verified": true,
        })
    }

    #[test]
    fn a_good_token_is_believed() {
        let provider = Provider::new();
        for kid in [Some("one"), None] {
            let told = provider.verify(&provider.sign(kid, &claims())).unwrap();
            assert_eq!((told.sub.as_str(), told.email_verified), ("ada", Some(true)));
        }
    }

    #[test]
    fn every_claim_that_is_not_as_it_must_be_refuses_the_token() {
        let provider = Provider::new();
        let cases = [
            ("iss", json!("https://evil.example"), Refused::Invalid),
            ("aud", json!("somebody-else"), Refused::Invalid),
            ("aud", json!(["somebody-else"]), Refused::Invalid),
            ("aud", json!(["us", "somebody-else"]), Refused::Party),
            ("azp", json!("somebody-else"), Refused::Party),
            ("nonce", json!("n-2"), Refused::Nonce),
            ("nonce", Value::Null, Refused::Nonce),
            ("exp", json!(NOW - 61), Refused::Time),
            ("iat", json!(NOW + 120), Refused::Time),
            ("iat", json!(NOW - 3600), Refused::Time),
            ("nbf", json!(NOW + 120), Refused::Time),
            ("sub", json!(""), Refused::Invalid),
            ("sub", json!("x".repeat(256)), Refused::Invalid),
        ];
        for (name, value, refused) in cases {
            let mut claims = claims();
            claims[name] = value.clone();
            let result = provider.verify(&provider.sign(Some("one"), &claims));
            assert_eq!(result.err(), Some(refused), "{name}: {value}");
        }
        for name in ["iss", "aud", "sub", "exp", "iat"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            let result = provider.verify(&provider.sign(Some("one"), &claims));
            assert_eq!(result.err(), Some(Refused::Invalid), "{name}");
        }
    }

    #[test]
    fn nobody_else_signs_for_a_provider() {
        let (provider, other) = (Provider::new(), Provider::new());
        let forged = other.sign(Some("one"), &claims());
        assert_eq!(provider.verify(&forged).err(), Some(Refused::Invalid));
        let unknown = provider.sign(Some("two"), &claims());
        assert_eq!(provider.verify(&unknown).err(), Some(Refused::UnknownKey));
        let body = B64.encode(claims().to_string());
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256","kid":"one"}"#] {
            let token = format!("{}.{body}.{}", B64.encode(header), B64.encode([0; 32]));
            assert_eq!(provider.verify(&token).err(), Some(Refused::Malformed), "{header}");
        }
        // the public key as the secret of a symmetric algorithm
        let x = serde_json::to_string(&provider.keys).unwrap();
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(x.as_bytes())).unwrap();
        assert_eq!(provider.verify(&token).err(), Some(Refused::Malformed));
        assert_eq!(provider.verify("").err(), Some(Refused::Malformed));
        assert_eq!(provider.verify(&"x".repeat(20_000)).err(), Some(Refused::Malformed));
    }

    #[test]
    fn only_a_clear_yes_verifies_an_address() {
        let provider = Provider::new();
        for (said, verified) in [
            (json!(true), Some(true)),
            (json!("true"), Some(true)),
            (json!(false), Some(false)),
            (json!("false"), Some(false)),
            (json!(1), Some(false)),
            (json!("yes"), Some(false)),
            (Value::Null, None),
        ] {
            let mut claims = claims();
            claims["email_verified"] = said.clone();
            let told = provider.verify(&provider.sign(Some("one"), &claims)).unwrap();
            assert_eq!(told.email_verified, verified, "{said}");
        }
    }
}
