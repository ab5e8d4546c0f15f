//! New passwords: the composition rule that existing clients show, and an upper bound.
//!
//! contract: core §2.2. Up to two messages for one bad password, as the original's two validators gave.

use secrecy::{ExposeSecret as _, SecretString};

const SPECIAL: &str = "@$!%*?&";

/// A new password that obeys the rule.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// The password, or everything that is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, Vec<&'static str>> {
        let mut wrong = Vec::new();
        let length = raw.chars().count();
        if length < 8 {
            wrong.push("Password must be at least 8 characters long");
        } else if length > 128 {
            wrong.push("Password must be at most 128 characters long");
        }
        let has = |test: fn(char) -> bool| raw.chars().any(test);
        let is_mixed = has(|c| c.is_ascii_lowercase())
            && has(|c| c.is_ascii_uppercase())
            && has(|c| c.is_ascii_digit())
            && has(|c| SPECIAL.contains(c));
        if !is_mixed {
            wrong.push(
                "Password must contain at least one lowercase letter, one uppercase letter, one number and one of @$!%*?&",
            );
        } else if raw.contains('\0') {
            wrong.push("Password must not contain a null character");
        }
        if wrong.is_empty() {
            Ok(Self(raw.into()))
        } else {
            Err(wrong)
        }
    }

    /// The text, to be hashed.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_password_with_all_four_kinds_is_accepted() {
        for raw in ["Passw0rd!", "*1aA----", "(Aa1!aaaa", "Pässw0rd! with blanks"] {
            assert!(Password::parse(raw).is_ok(), "{raw}");
        }
    }

    #[test]
    fn each_missing_kind_is_refused() {
        for raw in [
            "PASSW0RD!",
            "passw0rd!",
            "Password!",
            "Passw0rds",
            "Pw0!",
            "Passw0rd!\0",
        ] {
            assert!(Password::parse(raw).is_err(), "{raw}");
        }
        assert!(Password::parse(&format!("Aa1!{}", "a".repeat(125))).is_err());
        assert_eq!(Password::parse("short").unwrap_err().len(), 2);
    }

    proptest! {
        #[test]
        fn messages_never_quote_the_password(raw in "[a-z]{9,20}") {
            for message in Password::parse(&raw).unwrap_err() {
                prop_assert!(!message.contains(&raw));
            }
        }
    }
}
