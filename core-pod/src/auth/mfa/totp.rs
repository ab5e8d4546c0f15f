//! Codes of authenticator apps: RFC 6238 with the values every app understands (SHA-1, six digits, thirty seconds).
//!
//! contract: core §14 (MFA TOTP): one step of clock difference either way; which step a code was of is the caller's to
//! store, so that none counts twice.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use qrcode::{QrCode, render::svg};
use shared::{crypto::Cipher, id::UserId, sources::Sources};
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

/// 160 bits, as RFC 4226 recommends.
const SECRET_BYTES: usize = 20;

/// The secret of one authenticator app.
pub struct Secret(Totp);

impl Secret {
    /// A new one for an app that will show `name` and `account`.
    pub fn generate(sources: &Sources, name: &str, account: &str) -> anyhow::Result<Self> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        sources.entropy.fill(&mut *bytes);
        Self::of(&*bytes, name, account)
    }

    fn of(bytes: &[u8], name: &str, account: &str) -> anyhow::Result<Self> {
        let builder = Builder::new()
            .with_secret(bytes)
            .with_account_name(account)
            .with_issuer(Some(name));
        Ok(Self(builder.build()?))
    }

    /// As it is stored: sealed for this account and no other.
    pub fn seal(&self, cipher: &Cipher, user: UserId) -> anyhow::Result<Vec<u8>> {
        Ok(cipher.seal(&context(user), self.0.secret().as_bytes())?)
    }

    /// What was stored.
    pub fn open(cipher: &Cipher, user: UserId, sealed: &[u8]) -> anyhow::Result<Self> {
        let bytes = cipher.open(&context(user), sealed)?;
        Self::of(&bytes, "", "-")
    }

    /// The time step the code is of: the present one, the one before or the one after. `None` for any other code.
    pub fn step_of(&self, code: &str, seconds: i64) -> Option<i64> {
        let code = code.trim();
        if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let step = self.0.check(code, u64::try_from(seconds).ok()?)?;
        i64::try_from(step).ok()
    }

    /// For apps that cannot read the picture.
    pub fn base32(&self) -> String {
        self.0.secret().to_base32()
    }

    /// `otpauth://totp/…`.
    pub fn uri(&self) -> anyhow::Result<String> {
        Ok(self.0.to_url()?)
    }

    /// The URI as a picture, a `data:` URL of an SVG.
    pub fn picture(&self) -> anyhow::Result<String> {
        let code = QrCode::new(self.uri()?)?;
        let image = code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
        Ok(format!("data:image/svg+xml;base64,{}", STANDARD.encode(image)))
    }
}

fn context(user: UserId) -> String {
    format!("auth.mfa_totp:{user}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of RFC 6238, appendix B, cut to six digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = Secret::of(b"12345678901234567890", "DreamScape", "ada@example.com").unwrap();
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            assert_eq!(secret.step_of(code, seconds), Some(seconds / 30));
        }
    }

    #[test]
    fn a_code_counts_one_step_early_and_one_step_late() {
        let secret = Secret::of(b"12345678901234567890", "DreamScape", "ada@example.com").unwrap();
        let step = 1_111_111_109 / 30;
        for (seconds, expected) in [
            ((step - 1) * 30, Some(step)),
            ((step + 1) * 30 + 29, Some(step)),
            ((step - 1) * 30 - 1, None),
            ((step + 2) * 30, None),
        ] {
            assert_eq!(secret.step_of("081804", seconds), expected, "{seconds}");
        }
        for wrong in ["", "08180", "0818044", "o81804", "٠٨١٨٠٤", "-81804"] {
            assert_eq!(secret.step_of(wrong, step * 30), None);
        }
    }

    #[test]
    fn the_uri_and_the_picture_carry_the_secret_and_the_names() {
        let secret = Secret::of(b"12345678901234567890", "Dream Scape", "ada+x@example.com").unwrap();
        let uri = secret.uri().unwrap();
        assert!(
            uri.starts_with("otpauth://totp/Dream%20Scape:ada%2Bx%40example.com?"),
            "{uri}"
        );
        assert!(uri.contains(&format!("secret={}", secret.base32())));
        assert!(
            secret
                .picture()
                .unwrap()
                .starts_with("data:image/svg+xml;base64,PD94bWwg")
        );
    }

    #[test]
    fn a_sealed_secret_opens_for_its_own_account_only() {
        let cipher = Cipher::development();
        let (ada, eve) = (UserId(uuid::Uuid::from_u128(1)), UserId(uuid::Uuid::from_u128(2)));
        let secret = Secret::generate(&Sources::system(), "DreamScape", "ada@example.com").unwrap();
        let sealed = secret.seal(&cipher, ada).unwrap();
        assert_eq!(Secret::open(&cipher, ada, &sealed).unwrap().base32(), secret.base32());
        assert!(Secret::open(&cipher, eve, &sealed).is_err());
    }
}
