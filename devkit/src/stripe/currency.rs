//! Currencies, their decimals and the least and greatest amounts (contract: payment §10).

use super::error::Failure;

/// The greatest amount Stripe takes: eight digits.
const MAXIMUM: i64 = 99_999_999;

const ZERO_DECIMAL: [&str; 15] = [
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
];

const THREE_DECIMAL: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

/// Two decimals on the wire, whole units only.
const WHOLE_UNITS: [&str; 2] = ["isk", "ugx"];

const TWO_DECIMAL: [&str; 104] = [
    "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn", "bam", "bbd", "bdt", "bgn", "bmd", "bnd",
    "bob", "brl", "bsd", "bwp", "byn", "bzd", "cad", "cdf", "chf", "cny", "cop", "crc", "cve", "czk", "dkk", "dop",
    "dzd", "egp", "etb", "eur", "fjd", "fkp", "gbp", "gel", "gip", "gmd", "gtq", "gyd", "hkd", "hnl", "htg", "huf",
    "idr", "ils", "inr", "jmd", "kes", "kgs", "khr", "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "mad", "mdl",
    "mkd", "mmk", "mnt", "mop", "mur", "mvr", "mwk", "mxn", "myr", "mzn", "nad", "ngn", "nio", "nok", "npr", "nzd",
    "pab", "pen", "pgk", "php", "pkr", "pln", "qar", "ron", "rsd", "rub", "sar", "sbd", "scr", "sek", "sgd", "thb",
    "try", "ttd", "twd", "tzs", "uah", "usd", "uyu", "zar",
];

const MINIMA: [(&str, i64); 19] = [
    ("aed", 200),
    ("bgn", 100),
    ("czk", 1500),
    ("dkk", 250),
    ("gbp", 30),
    ("hkd", 400),
    ("huf", 17_500),
    ("jpy", 50),
    ("krw", 500),
    ("kwd", 150),
    ("mxn", 1000),
    ("myr", 200),
    ("nok", 300),
    ("pln", 200),
    ("ron", 200),
    ("sek", 300),
    ("thb", 1000),
    ("isk", 5000),
    ("tnd", 1000),
];

/// How many decimals amounts of the currency have on the wire, or `None` if Stripe does not take it.
pub(super) fn decimals(currency: &str) -> Option<usize> {
    if ZERO_DECIMAL.contains(&currency) {
        return Some(0);
    }
    if THREE_DECIMAL.contains(&currency) {
        return Some(3);
    }
    (WHOLE_UNITS.contains(&currency) || TWO_DECIMAL.contains(&currency)).then_some(2)
}

/// The least amount that can be charged.
pub(super) fn minimum(currency: &str) -> i64 {
    MINIMA
        .iter()
        .find(|(code, _)| *code == currency)
        .map_or(50, |(_, least)| *least)
}

/// An amount for people: `€` is not needed, `12.34 eur` is clear.
pub(super) fn shown(amount: i64, currency: &str) -> String {
    let decimals = decimals(currency).unwrap_or(2);
    let scale = 10_i64.pow(u32::try_from(decimals).unwrap_or(2));
    if decimals == 0 {
        return format!("{amount} {currency}");
    }
    format!("{}.{:0decimals$} {currency}", amount / scale, amount % scale)
}

/// The currency in lower case, if it is one.
pub(super) fn check_currency(currency: &str) -> Result<String, Failure> {
    let code = currency.to_ascii_lowercase();
    if decimals(&code).is_none() {
        let message = format!("Invalid currency: {code}. Stripe currently supports these currencies: usd, eur, gbp, …");
        return Err(Failure::invalid("currency", message));
    }
    Ok(code)
}

/// Refuses amounts that are out of bounds or not a multiple of the currency's smallest coin.
pub(super) fn check_amount(amount: i64, currency: &str) -> Result<(), Failure> {
    if amount < 1 {
        let message = "This value must be greater than or equal to 1.".to_owned();
        return Err(Failure::invalid("amount", message).with_code("parameter_invalid_integer"));
    }
    if amount < minimum(currency) {
        let message = format!("Amount must be at least {}", shown(minimum(currency), currency));
        return Err(Failure::invalid("amount", message).with_code("amount_too_small"));
    }
    if amount > MAXIMUM {
        let message = format!("Amount must be no more than {}", shown(MAXIMUM, currency));
        return Err(Failure::invalid("amount", message).with_code("amount_too_large"));
    }
    let step = if WHOLE_UNITS.contains(&currency) {
        100
    } else if THREE_DECIMAL.contains(&currency) {
        10
    } else {
        1
    };
    if amount % step != 0 {
        let message = format!("Invalid amount: amounts in {currency} must be a multiple of {step}.");
        return Err(Failure::invalid("amount", message).with_code("parameter_invalid_integer"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_depend_on_the_currency() {
        assert!(check_amount(49, "eur").is_err());
        assert!(check_amount(50, "eur").is_ok());
        assert!(check_amount(30, "gbp").is_ok());
        assert!(check_amount(50, "jpy").is_ok());
        assert!(check_amount(100_000_000, "usd").is_err());
        assert!(check_amount(1235, "kwd").is_err());
        assert!(check_amount(10_050, "isk").is_err());
        assert!(check_currency("xyz").is_err());
    }

    #[test]
    fn amounts_are_shown_with_their_decimals() {
        assert_eq!(shown(1205, "eur"), "12.05 eur");
        assert_eq!(shown(50, "jpy"), "50 jpy");
        assert_eq!(shown(1500, "kwd"), "1.500 kwd");
    }
}
