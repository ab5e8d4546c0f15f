//! What an account says about the person behind it, beyond name and address.
//!
//! contract: core §2.1 (category), §4.4 (phone, date, nationality)

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::name::clean;

/// ISO 3166-1 alpha-2.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
     CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
     GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP \
     KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT \
     MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW \
     SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG \
     UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// A telephone number as it was typed: digits, blanks, brackets and hyphens, 5 to 20 of them, perhaps after a plus.
#[derive(Clone, PartialEq, Eq)]
pub struct PhoneNumber(String);

/// A day of birth: in the past, not before 1900.
#[derive(Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(transparent)]
pub struct BirthDate(NaiveDate);

/// A country by its code, or the name of one.
#[derive(Clone, PartialEq, Eq)]
pub struct Nationality(String);

/// Whether an account travels for pleasure or for a living.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum Category {
    /// For pleasure.
    #[default]
    Leisure,
    /// For a living.
    Business,
}

macro_rules! personal {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(***)"))
            }
        }
    )+};
}

personal!(PhoneNumber, BirthDate, Nationality);

impl PhoneNumber {
    /// The number without blanks around it, or what is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let number = raw.trim();
        let rest = number.strip_prefix('+').unwrap_or(number);
        let allowed = rest
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b" ()-".contains(&byte));
        let has_digits = rest.bytes().any(|byte| byte.is_ascii_digit());
        if !allowed || !has_digits || !(5..=20).contains(&rest.len()) {
            return Err("Please provide a valid phone number");
        }
        Ok(Self(number.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BirthDate {
    /// The day of `YYYY-MM-DD` or of an ISO instant (in UTC), if a living person can be born on it.
    pub fn parse(raw: &str, today: DateTime<Utc>) -> Result<Self, &'static str> {
        const WRONG: &str = "Please provide a valid date of birth";
        let raw = raw.trim();
        let day = NaiveDate::parse_from_str(raw, "%Y-%m-%d")
            .ok()
            // chrono reads years of any length; the contract has four digits
            .filter(|_| raw.len() == 10)
            .or_else(|| {
                DateTime::parse_from_rfc3339(raw)
                    .ok()
                    .map(|at| at.to_utc().date_naive())
            })
            .ok_or(WRONG)?;
        if day.year() < 1900 || day >= today.date_naive() {
            return Err(WRONG);
        }
        Ok(Self(day))
    }

    /// The day.
    pub fn day(self) -> NaiveDate {
        self.0
    }
}

impl From<NaiveDate> for BirthDate {
    /// A stored day.
    fn from(day: NaiveDate) -> Self {
        Self(day)
    }
}

impl fmt::Display for BirthDate {
    /// As the contract's dates are written: midnight of the day, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T00:00:00.000Z", self.0.format("%Y-%m-%d"))
    }
}

impl Serialize for BirthDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Nationality {
    /// A code in capitals, a name in NFC, or what is wrong with it.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "Please provide a country code or a name of at most 60 characters";
        let text = clean(raw).ok_or(WRONG)?;
        let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if is_code {
            let code = text.to_ascii_uppercase();
            let known = COUNTRIES.split_ascii_whitespace().any(|country| country == code);
            return if known { Ok(Self(code)) } else { Err(WRONG) };
        }
        if (2..=60).contains(&text.chars().count()) {
            Ok(Self(text))
        } else {
            Err(WRONG)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Category {
    /// As the contract spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leisure => "LEISURE",
            Self::Business => "BUSINESS",
        }
    }
}

impl FromStr for Category {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "LEISURE" => Ok(Self::Leisure),
            "BUSINESS" => Ok(Self::Business),
            _ => Err("must be LEISURE or BUSINESS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn phone_numbers_are_digits_with_their_usual_dressing() {
        for good in ["+33 6 12 34 56 78", "(020) 7946-0000", "12345", " +4930123456 "] {
            assert!(PhoneNumber::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1234",
            "+",
            "-----",
            "call me",
            "+33+6123",
            "1234567890123456789012",
            "٠١٢٣٤٥",
            "12345;drop",
        ] {
            assert!(PhoneNumber::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_birth_date_is_a_day_in_the_past_since_1900() {
        for good in ["1990-02-28", "1900-01-01", "2027-01-14", "1990-02-28T10:00:00.000Z"] {
            assert!(BirthDate::parse(good, today()).is_ok(), "{good}");
        }
        for bad in [
            "",
            "1899-12-31",
            "2027-01-15",
            "3000-01-01",
            "1990-02-30",
            "90-02-28",
            "+1990-1-1",
            "28/02/1990",
            "yesterday",
        ] {
            assert!(BirthDate::parse(bad, today()).is_err(), "{bad}");
        }
        let ada = BirthDate::parse("1990-02-28", today()).unwrap();
        assert_eq!(ada.to_string(), "1990-02-28T00:00:00.000Z");
        assert_eq!(BirthDate::parse(&ada.to_string(), today()).unwrap(), ada);
    }

    #[test]
    fn a_nationality_is_a_code_or_a_name() {
        assert_eq!(Nationality::parse("fr").unwrap().as_str(), "FR");
        assert_eq!(Nationality::parse(" Côte d'Ivoire ").unwrap().as_str(), "Côte d'Ivoire");
        for bad in ["", "x", "ZZ", "<b>", &"a".repeat(61)] {
            assert!(Nationality::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(COUNTRIES.split_ascii_whitespace().count(), 249);
    }

    #[test]
    fn nothing_personal_is_in_the_debug_output() {
        let phone = PhoneNumber::parse("+33612345678").unwrap();
        assert_eq!(format!("{phone:?}"), "PhoneNumber(***)");
        let born = BirthDate::parse("1990-02-28", today()).unwrap();
        assert!(!format!("{born:?}").contains("1990"));
    }
}
