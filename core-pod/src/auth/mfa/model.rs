//! Proofs of identity, recovery codes and the names of passkeys. No HTTP, no SQL.
//!
//! contract: core §14 (recovery codes, enforced MFA, step-up)

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use shared::sources::Sources;

/// A proof is recent for this long.
pub const RECENT: TimeDelta = TimeDelta::minutes(10);
/// A second factor is good for administrators' routes for this long.
pub const ADMIN_FACTOR: TimeDelta = TimeDelta::hours(12);

/// How many recovery codes an account gets.
pub const RECOVERY_CODES: usize = 10;
/// No letter that looks like a digit; 32 characters, so that 24 of them are 120 bits. From 112 bits on a plain digest is
/// enough (ASVS 6.5.2).
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_LENGTH: usize = 24;
const GROUP: usize = 4;

/// What is proven beside the first factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// A code of an authenticator app.
    Totp,
    /// One of the codes that were written down.
    RecoveryCode,
    /// A passkey whose holder was verified.
    Passkey,
}

impl Second {
    /// Its name in `amr`; `rc` is ours, the others are of RFC 8176.
    const fn amr(self) -> &'static str {
        match self {
            Self::Totp => "otp",
            Self::RecoveryCode => "rc",
            Self::Passkey => "pop",
        }
    }

    /// Its name in requests, answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::RecoveryCode => "recoveryCode",
            Self::Passkey => "passkey",
        }
    }
}

/// How somebody signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By the password.
    Password,
    /// By the password and a second factor.
    PasswordAnd(Second),
    /// By a passkey, which is two factors: the device, and what unlocks it.
    Passkey,
    /// By an account at another provider.
    Provider,
    /// By that and a second factor of ours.
    ProviderAnd(Second),
}

impl Proof {
    /// The same with a second factor.
    #[must_use]
    pub const fn and(self, second: Second) -> Self {
        match self {
            Self::Password | Self::PasswordAnd(_) => Self::PasswordAnd(second),
            Self::Provider | Self::ProviderAnd(_) => Self::ProviderAnd(second),
            Self::Passkey => Self::Passkey,
        }
    }

    /// How the session says it was opened.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Password | Self::PasswordAnd(_) => "password",
            Self::Passkey => "passkey",
            Self::Provider | Self::ProviderAnd(_) => "oauth",
        }
    }

    /// How the event `auth.login` says it; its contract knows no passkeys.
    pub const fn event_method(self) -> &'static str {
        match self {
            Self::Passkey => "token",
            other => other.method(),
        }
    }

    /// Whether a second factor is in it.
    pub const fn has_second_factor(self) -> bool {
        !matches!(self, Self::Password | Self::Provider)
    }

    /// RFC 8176 authentication method references.
    pub fn amr(self) -> Vec<String> {
        let (first, second) = match self {
            Self::Password => ("pwd", None),
            Self::PasswordAnd(second) => ("pwd", Some(second.amr())),
            Self::Passkey => ("pop", Some("user")),
            Self::Provider => ("fed", None),
            Self::ProviderAnd(second) => ("fed", Some(second.amr())),
        };
        let mfa = self.has_second_factor().then_some("mfa");
        [Some(first), second, mfa]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect()
    }
}

/// What is known about the proofs of a session.
#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    /// The last proof of any kind.
    pub authenticated_at: DateTime<Utc>,
    /// The last second factor.
    pub second_factor_at: Option<DateTime<Utc>>,
    /// Whether the account has a second factor or a passkey.
    pub uses_second_factor: bool,
}

impl Evidence {
    /// Whether somebody proved who they are within the last ten minutes.
    pub fn is_recent(&self, now: DateTime<Utc>) -> bool {
        now < self.authenticated_at + RECENT || self.second_factor_at.is_some_and(|at| now < at + RECENT)
    }

    /// Whether a second factor was shown within the last twelve hours.
    pub fn has_admin_factor(&self, now: DateTime<Utc>) -> bool {
        self.second_factor_at.is_some_and(|at| now < at + ADMIN_FACTOR)
    }
}

/// A recovery code: `ABCD-EFGH-JKLM-NPQR-STUV-WXYZ`.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode(String);

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(***)")
    }
}

impl RecoveryCode {
    /// A new set.
    pub fn generate(sources: &Sources) -> Vec<Self> {
        let code = || Self(sources.code(ALPHABET, CODE_LENGTH));
        std::iter::repeat_with(code).take(RECOVERY_CODES).collect()
    }

    /// What somebody typed: any case, with or without hyphens and blanks.
    pub fn parse(raw: &str) -> Option<Self> {
        if raw.len() > 64 {
            return None;
        }
        let code: String = raw
            .chars()
            .filter(|character| !matches!(character, '-' | ' '))
            .map(|character| character.to_ascii_uppercase())
            .collect();
        let valid = code.len() == CODE_LENGTH && code.bytes().all(|byte| ALPHABET.contains(&byte));
        valid.then_some(Self(code))
    }

    /// As it is shown, once.
    pub fn shown(&self) -> String {
        let groups = self.0.as_bytes().chunks(GROUP).map(String::from_utf8_lossy);
        groups.collect::<Vec<_>>().join("-")
    }

    /// What is stored. A fast digest is enough for 120 random bits.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// What a passkey is called by its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    /// 1 to 60 characters without control characters and angle brackets.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let text = raw.trim();
        if !(1..=60).contains(&text.chars().count()) {
            return Err("Name must be between 1 and 60 characters");
        }
        if text
            .chars()
            .any(|character| character.is_control() || matches!(character, '<' | '>'))
        {
            return Err("Name contains characters that are not allowed");
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Label {
    fn default() -> Self {
        Self("Passkey".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn recovery_codes_are_ten_different_ones_of_a_hundred_and_twenty_bits() {
        let codes = RecoveryCode::generate(&Sources::system());
        assert_eq!(codes.len(), 10);
        for (index, code) in codes.iter().enumerate() {
            assert!(!codes[..index].contains(code));
            assert_eq!(code.shown().len(), 29);
        }
    }

    #[test]
    fn a_recovery_code_is_read_however_it_was_copied() {
        let code = RecoveryCode::generate(&Sources::system()).remove(0);
        let shown = code.shown();
        for typed in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', " "),
            shown.replace('-', ""),
        ] {
            assert_eq!(RecoveryCode::parse(&typed), Some(code.clone()));
        }
        for wrong in ["", "123456", &"O".repeat(24), &"A".repeat(23), &"A".repeat(25)] {
            assert_eq!(RecoveryCode::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{code:?}").contains(&shown[..4]));
    }

    #[test]
    fn a_second_factor_shows_in_amr_and_only_then() {
        assert_eq!(Proof::Password.amr(), ["pwd"]);
        assert_eq!(Proof::Password.and(Second::Totp).amr(), ["pwd", "otp", "mfa"]);
        assert_eq!(Proof::Provider.and(Second::RecoveryCode).amr(), ["fed", "rc", "mfa"]);
        assert_eq!(Proof::Passkey.amr(), ["pop", "user", "mfa"]);
        assert!(!Proof::Provider.has_second_factor());
    }

    #[test]
    fn proofs_age() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut evidence = Evidence {
            authenticated_at: now - RECENT,
            second_factor_at: None,
            uses_second_factor: false,
        };
        assert!(!evidence.is_recent(now) && evidence.is_recent(now - TimeDelta::seconds(1)));
        assert!(!evidence.has_admin_factor(now));
        evidence.second_factor_at = Some(now - TimeDelta::minutes(1));
        assert!(evidence.is_recent(now) && evidence.has_admin_factor(now));
        assert!(!evidence.has_admin_factor(now + ADMIN_FACTOR));
    }

    proptest! {
        #[test]
        fn no_input_breaks_the_parsers(raw in any::<String>()) {
            let _ = RecoveryCode::parse(&raw);
            if let Ok(label) = Label::parse(&raw) {
                prop_assert!(!label.as_str().contains('<') && !label.as_str().is_empty());
            }
        }
    }
}
