//! Who signed a webhook: Stripe's scheme `v1` over the raw body.
//!
//! contract: payment §6 (verification). Nothing of the body is looked at before this has said yes.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// How far the time of the signature may be from ours, in seconds, either way.
const TOLERANCE: i64 = 300;

/// The signature is missing something, too old, from the future, or not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature verification failed")]
pub struct BadSignature;

/// Whether `header` signs `body` with one of the secrets, now. The key is the whole secret, `whsec_` included.
pub fn verify(header: &[u8], body: &[u8], secrets: &[SecretString], now: DateTime<Utc>) -> Result<(), BadSignature> {
    let header = std::str::from_utf8(header).map_err(|_| BadSignature)?;
    let (time, signatures) = parse(header).ok_or(BadSignature)?;
    if now.timestamp().abs_diff(time) > TOLERANCE.unsigned_abs() {
        return Err(BadSignature);
    }
    // all pairs are compared, so that the time taken says nothing about which one matched
    let mut matches = subtle::Choice::from(0);
    for secret in secrets {
        let expected = expected(secret, time, body)?;
        for signature in &signatures {
            matches |= signature.as_bytes().ct_eq(expected.as_bytes());
        }
    }
    if bool::from(matches) { Ok(()) } else { Err(BadSignature) }
}

/// The time and all `v1` signatures. Parts are not trimmed; other schemes are ignored.
fn parse(header: &str) -> Option<(i64, Vec<&str>)> {
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.split_once('=') {
            Some(("t", value)) => time = Some(value.parse().ok()?),
            Some(("v1", value)) => signatures.push(value),
            _ => {}
        }
    }
    (!signatures.is_empty()).then_some((time?, signatures))
}

/// Lower-case hex of HMAC-SHA256 over `t.body`.
fn expected(secret: &SecretString, time: i64, body: &[u8]) -> Result<String, BadSignature> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map_err(|_| BadSignature)?;
    mac.update(time.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn header(key: &str, time: i64, body: &[u8]) -> String {
        format!("t={time},v1={}", expected(&secret(key), time, body).unwrap())
    }

    fn check(header: &str, body: &[u8]) -> bool {
        let secrets = [secret("whsec_new"), secret("whsec_old")];
        verify(
            header.as_bytes(),
            body,
            &secrets,
            DateTime::from_timestamp(NOW, 0).unwrap(),
        )
        .is_ok()
    }

    #[test]
    fn either_secret_is_accepted_and_any_of_several_signatures() {
        assert!(check(&header("whsec_new", NOW, b"{}"), b"{}"));
        assert!(check(&header("whsec_old", NOW, b"{}"), b"{}"));
        let good = header("whsec_new", NOW, b"{}");
        assert!(check(&format!("{good},v1=00,v0=11"), b"{}"));
        assert!(check(&good.replace("v1=", "v1=ffff,v1="), b"{}"));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = header("whsec_new", NOW, b"{}");
        assert!(!check(&good, b"{} "), "another body");
        assert!(
            !check(&header("new", NOW, b"{}"), b"{}"),
            "the secret without its prefix"
        );
        assert!(!check(&header("whsec_other", NOW, b"{}"), b"{}"), "another secret");
        assert!(!check(&good.replace(",v1", ", v1"), b"{}"), "blanks are not trimmed");
        assert!(!check(&good.replace("v1=", "v0="), b"{}"), "another scheme");
        assert!(
            !check(&good.to_uppercase().replace("T=", "t=").replace("V1=", "v1="), b"{}"),
            "upper-case hex"
        );
        for broken in [
            "",
            "t=",
            "v1=",
            "t=1700000000",
            "t=x,v1=y",
            "=",
            ",,,",
            "t=99999999999999999999,v1=a",
        ] {
            assert!(!check(broken, b"{}"), "{broken}");
        }
    }

    #[test]
    fn a_signature_lives_five_minutes_either_way() {
        for (offset, accepted) in [(-300, true), (-301, false), (300, true), (301, false)] {
            assert_eq!(
                check(&header("whsec_new", NOW + offset, b"{}"), b"{}"),
                accepted,
                "{offset}"
            );
        }
    }
}
