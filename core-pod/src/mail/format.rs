//! Amounts, instants and foreign text, in the way a reader of French or English expects them.
//!
//! contract: core §9 (`fr-FR`). Whatever a stranger may have typed goes through [`line`] before it enters a mail: one
//! line, bounded, without characters that hide or turn text.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use shared::money::Money;

/// The language of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    /// For readers who have not chosen.
    #[default]
    Fr,
    /// For readers who have chosen another language.
    En,
}

impl Locale {
    /// From the name or code that settings hold. Languages without letters of their own read English.
    pub fn of(setting: Option<&str>) -> Self {
        match setting {
            None => Self::Fr,
            Some(name) if name == "French" || name == "Français" || name.to_ascii_lowercase().starts_with("fr") => {
                Self::Fr
            }
            Some(_) => Self::En,
        }
    }

    /// The code, for `lang` attributes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Fr => "fr",
            Self::En => "en",
        }
    }
}

/// `1 234,50 €` (with the narrow space of French typography) or `€1,234.50`.
pub fn amount(money: Money, locale: Locale) -> String {
    let exponent = money.currency.exponent();
    let scale = 10_u64.pow(exponent);
    let (whole, fraction) = (money.minor.unsigned_abs() / scale, money.minor.unsigned_abs() % scale);
    let (group, point) = match locale {
        Locale::Fr => ('\u{202f}', ','),
        Locale::En => (',', '.'),
    };
    let mut number = grouped(whole, group);
    if exponent > 0 {
        let _ = write!(number, "{point}{fraction:0width$}", width = exponent as usize);
    }
    let sign = if money.minor < 0 { "-" } else { "" };
    let code = money.currency.code();
    match (locale, symbol(code, locale)) {
        (Locale::Fr, symbol) => format!("{sign}{number}\u{a0}{}", symbol.unwrap_or(code)),
        (Locale::En, Some(symbol)) => format!("{sign}{symbol}{number}"),
        (Locale::En, None) => format!("{sign}{code}\u{a0}{number}"),
    }
}

fn grouped(whole: u64, separator: char) -> String {
    let digits = whole.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 * separator.len_utf8());
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

fn symbol(code: &str, locale: Locale) -> Option<&'static str> {
    Some(match (code, locale) {
        ("EUR", _) => "€",
        ("USD", Locale::Fr) => "$US",
        ("USD", Locale::En) => "$",
        ("GBP", Locale::Fr) => "£GB",
        ("GBP", Locale::En) => "£",
        ("CAD", Locale::Fr) => "$CA",
        ("CAD", Locale::En) => "CA$",
        ("AUD", Locale::Fr) => "$AU",
        ("AUD", Locale::En) => "A$",
        ("JPY", Locale::En) => "¥",
        _ => return None,
    })
}

const MOIS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `25 novembre 2026 à 19:05 (CET)` or `25 November 2026 at 19:05 (CET)`.
pub fn instant(at: DateTime<Utc>, zone: Tz, locale: Locale) -> String {
    let local = at.with_timezone(&zone);
    let (day, clock, name) = (
        day_of(&local, locale),
        (local.hour(), local.minute()),
        local.format("%Z"),
    );
    let (hour, minute) = clock;
    match locale {
        Locale::Fr => format!("{day} à {hour:02}:{minute:02} ({name})"),
        Locale::En => format!("{day} at {hour:02}:{minute:02} ({name})"),
    }
}

/// `1er décembre 2026` or `1 December 2026`.
pub fn day(at: DateTime<Utc>, zone: Tz, locale: Locale) -> String {
    day_of(&at.with_timezone(&zone), locale)
}

fn day_of(local: &DateTime<Tz>, locale: Locale) -> String {
    let (day, year) = (local.day(), local.year());
    let month = |names: &[&'static str; 12]| names.get(local.month0() as usize).copied().unwrap_or_default();
    match (locale, day) {
        (Locale::Fr, 1) => format!("1er {} {year}", month(&MOIS)),
        (Locale::Fr, _) => format!("{day} {} {year}", month(&MOIS)),
        (Locale::En, _) => format!("{day} {} {year}", month(&MONTHS)),
    }
}

/// Foreign text as one line of at most `max` characters: blanks of any kind become one space; controls, direction
/// overrides and invisible characters go.
pub fn line(text: &str, max: usize) -> String {
    let visible = text
        .chars()
        .filter(|character| character.is_whitespace() || !(character.is_control() || is_invisible(*character)));
    let visible: String = visible.take(max.saturating_mul(4)).collect();
    let one = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if one.chars().count() <= max {
        return one;
    }
    let mut cut: String = one.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Foreign text as paragraphs, each of them one [`line`].
pub fn paragraphs(text: &str, max: usize) -> Vec<String> {
    let lines = text.split(['\n', '\u{2028}', '\u{2029}']).map(|part| line(part, max));
    lines.filter(|part| !part.is_empty()).take(40).collect()
}

/// A name fit to be greeted by. Anybody can register anybody's address under any name, so a name that reads like a link or
/// an address would make our mail the carrier of a stranger's message: such a reader is greeted without.
pub fn greetable(name: &str) -> Option<String> {
    let name = line(name, 60);
    let looks_like_a_link = name.contains(['/', ':', '@', '\\', '<', '>', '{', '}', '#', '=', '%'])
        || name
            .chars()
            .zip(name.chars().skip(1))
            .any(|(dot, next)| dot == '.' && next.is_alphanumeric())
        || name.to_ascii_lowercase().contains("www");
    (!name.is_empty() && !looks_like_a_link && name.chars().any(char::is_alphabetic)).then_some(name)
}

fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::money::Currency;

    use super::*;

    #[test]
    fn amounts_are_written_as_the_language_does() {
        let money = |minor, code: &str| Money::new(minor, code.parse::<Currency>().unwrap());
        assert_eq!(amount(money(123_450, "EUR"), Locale::Fr), "1\u{202f}234,50\u{a0}€");
        assert_eq!(amount(money(123_450, "EUR"), Locale::En), "€1,234.50");
        assert_eq!(amount(money(5, "USD"), Locale::Fr), "0,05\u{a0}$US");
        assert_eq!(amount(money(1_234_567, "JPY"), Locale::En), "¥1,234,567");
        assert_eq!(amount(money(-4_500, "KWD"), Locale::En), "-KWD\u{a0}4.500");
        assert_eq!(
            amount(money(100_000_000, "CHF"), Locale::Fr),
            "1\u{202f}000\u{202f}000,00\u{a0}CHF"
        );
    }

    #[test]
    fn instants_are_written_in_the_readers_own_zone() {
        let at = DateTime::parse_from_rfc3339("2026-12-01T18:05:00Z").unwrap().to_utc();
        let paris: Tz = "Europe/Paris".parse().unwrap();
        assert_eq!(instant(at, paris, Locale::Fr), "1er décembre 2026 à 19:05 (CET)");
        assert_eq!(instant(at, Tz::UTC, Locale::En), "1 December 2026 at 18:05 (UTC)");
        assert_eq!(day(at, paris, Locale::Fr), "1er décembre 2026");
    }

    #[test]
    fn foreign_text_is_one_bounded_line() {
        assert_eq!(line("a\r\nBcc: eve@example.com\tb", 80), "a Bcc: eve@example.com b");
        assert_eq!(line("\u{202e}evil\u{200b}\u{0}", 80), "evil");
        assert_eq!(line("abcdef", 4), "abc…");
        assert_eq!(paragraphs("one\n\n two \r\nthree", 80), ["one", "two", "three"]);
    }

    #[test]
    fn a_name_that_is_a_message_is_not_greeted() {
        for name in ["Ada", "Jean-Pierre O'Neil", "J. R. Tolkien", "伟", "Zoë"] {
            assert_eq!(greetable(name).as_deref(), Some(name));
        }
        for name in [
            "",
            " ",
            "Win at http://evil.example",
            "evil.example",
            "www evil",
            "call@me",
            "a/b",
            "12345",
        ] {
            assert_eq!(greetable(name), None, "{name}");
        }
    }

    #[test]
    fn french_is_read_by_those_who_have_not_chosen() {
        for french in [None, Some("French"), Some("Français"), Some("fr"), Some("fr-CA")] {
            assert_eq!(Locale::of(french), Locale::Fr);
        }
        for english in [Some("English"), Some("Spanish"), Some("en")] {
            assert_eq!(Locale::of(english), Locale::En);
        }
    }

    proptest! {
        #[test]
        fn no_text_gets_a_second_line_or_a_control_character(text in any::<String>(), max in 1_usize..200) {
            let one = line(&text, max);
            prop_assert!(one.chars().count() <= max);
            prop_assert!(!one.chars().any(char::is_control));
        }
    }
}
