//! New passwords: the composition rule that existing clients show, an upper bound, and that it is not the name of its owner.
//!
//! contract: core §2.2, §14. Up to two messages for one bad password, as the original's two validators gave.

use secrecy::{ExposeSecret as _, SecretString};

use super::Account;

const SPECIAL: &str = "@$!%*?&";
/// Names of fewer letters than this do not make a password bad.
const MIN_NAME: usize = 9;

/// A new password that obeys the rule.
#[derive(Debug, Clone)]
pub struct Password(SecretString);

/// What everybody knows of the owner of a password.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// The address.
    pub email: &'a str,
    /// The user name.
    pub username: Option<&'a str>,
    /// First name.
    pub first_name: Option<&'a str>,
    /// Last name.
    pub last_name: Option<&'a str>,
}

impl<'a> Owner<'a> {
    /// The owner of an account.
    pub fn of(account: &'a Account) -> Self {
        Self {
            email: &account.email,
            username: account.username.as_deref(),
            first_name: account.first_name.as_deref(),
            last_name: account.last_name.as_deref(),
        }
    }
}

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

    /// Whether the password is nothing but what everybody knows of its owner: address, local part or names, whatever
    /// marks and digits stand around or between them.
    pub fn names(&self, owner: &Owner<'_>) -> bool {
        let core = |text: &str| -> String {
            let letters = text.chars().filter(|character| character.is_alphanumeric());
            letters.flat_map(char::to_lowercase).collect()
        };
        let bare = |text: &str| core(text).trim_matches(|c: char| c.is_ascii_digit()).to_owned();
        let (whole, stripped) = (core(self.expose()), bare(self.expose()));
        let full = format!(
            "{}{}",
            owner.first_name.unwrap_or_default(),
            owner.last_name.unwrap_or_default()
        );
        let local = owner.email.split('@').next();
        let known = [Some(owner.email), local, owner.username, Some(full.as_str())];
        known.into_iter().flatten().any(|known| {
            let known = core(known);
            // short names are part of too many good passwords
            (known.chars().count() >= MIN_NAME) && (known == whole || known == stripped)
        })
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

    #[test]
    fn a_password_that_is_only_the_name_of_its_owner_is_recognised() {
        let owner = Owner {
            email: "ada.lovelace@example.com",
            username: Some("countess_ada"),
            first_name: Some("Augusta"),
            last_name: Some("King"),
        };
        for name in [
            "Ada.Lovelace1!",
            "!1AdaLovelace",
            "Countess_Ada99!",
            "AugustaKing1815!",
            "Ada.Lovelace@Example.com1",
        ] {
            assert!(Password::parse(name).unwrap().names(&owner), "{name}");
        }
        for fine in ["Passw0rd!", "Augusta-1815!", "Ada.Lovelace.flies1!"] {
            assert!(!Password::parse(fine).unwrap().names(&owner), "{fine}");
        }
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
