//! Names of people and user names.
//!
//! contract: core §4.1. Any script is welcome; what could break out of a page or turn its text around is refused.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

/// A first or last name: 1 to 50 characters, NFC.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonName(String);

/// A user name: 3 to 30 characters, NFC, unique.
#[derive(Clone, PartialEq, Eq)]
pub struct Username(String);

impl fmt::Debug for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonName(***)")
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Username(***)")
    }
}

impl PersonName {
    /// The name without blanks around it, or what is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let name = clean(raw).ok_or("must not contain < > or control characters")?;
        if !(1..=50).contains(&name.chars().count()) {
            return Err("must be between 1 and 50 characters");
        }
        Ok(Self(name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Username {
    /// The user name without blanks around it, or what is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let name = clean(raw).ok_or("must not contain < > or control characters")?;
        if !(3..=30).contains(&name.chars().count()) {
            return Err("must be between 3 and 30 characters");
        }
        Ok(Self(name))
    }

    /// A name as profiles show it, which is kept as the user name: 1 to 100 characters (core §5.1).
    pub fn shown(raw: &str) -> Result<Self, &'static str> {
        let name = clean(raw).ok_or("must not contain < > or control characters")?;
        if !(1..=100).contains(&name.chars().count()) {
            return Err("must be between 1 and 100 characters");
        }
        Ok(Self(name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text in NFC without blanks around it, unless something in it could break out of a page.
pub(super) fn clean(raw: &str) -> Option<String> {
    let acceptable =
        |character: char| !character.is_control() && !matches!(character, '<' | '>') && !is_invisible(character);
    // normalising can grow a text many times over; nothing that long is a name
    if raw.len() > 1_000 {
        return Some(raw.chars().take(200).collect());
    }
    raw.chars().all(acceptable).then(|| raw.trim().nfc().collect())
}

/// Direction overrides and marks, line separators, and characters without a shape: they make one name look like another.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_are_kept_and_composed() {
        for (raw, expected) in [
            (" Ada ", "Ada"),
            ("Zoe\u{308}", "Zoë"),
            ("伟", "伟"),
            ("O'Neil-Łukasz", "O'Neil-Łukasz"),
        ] {
            assert_eq!(PersonName::parse(raw).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn markup_controls_and_overrides_are_refused() {
        for raw in [
            "<script>",
            "Ada>",
            "A\u{0}da",
            "Ada\n",
            "\u{202E}adA",
            "A\u{200B}da",
            "",
            "   ",
        ] {
            assert!(PersonName::parse(raw).is_err(), "{raw:?}");
        }
        assert!(PersonName::parse(&"a".repeat(51)).is_err());
        assert!(PersonName::parse(&"a".repeat(100_000)).is_err());
    }

    #[test]
    fn a_user_name_has_its_own_length() {
        assert!(Username::parse("ab").is_err());
        assert!(Username::parse("ada").is_ok());
        assert!(Username::parse(&"a".repeat(31)).is_err());
        assert!(Username::shown("a").is_ok() && Username::shown(&"a".repeat(100)).is_ok());
        for bad in ["", " ", "<b>", &"a".repeat(101), &"a".repeat(10_000)] {
            assert!(Username::shown(bad).is_err());
        }
    }
}
