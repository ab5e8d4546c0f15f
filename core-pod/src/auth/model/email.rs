//! Addresses: one normaliser for sign-up, sign-in and every later change.
//!
//! contract: core §2.1. Two spellings that reach one mailbox are one account: case, Gmail's dots, and the suffixes
//! that the large providers ignore. Whatever comes out goes in unchanged, so a stored address can always be found again.

use std::fmt;

/// Top-level domains under which Microsoft and Yahoo give out mailboxes of their brands.
const BRAND_SUFFIXES: [&str; 43] = [
    "at", "be", "ca", "ch", "cl", "co.id", "co.il", "co.in", "co.jp", "co.kr", "co.nz", "co.th", "co.uk", "co.za",
    "com", "com.ar", "com.au", "com.br", "com.gr", "com.hk", "com.mx", "com.pe", "com.sg", "com.tr", "com.vn", "cz",
    "de", "dk", "es", "eu", "fr", "gr", "hu", "ie", "in", "it", "lv", "nl", "no", "pt", "ro", "se", "sk",
];

/// A normalised address, beside the one that was typed.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    normalised: String,
    typed: String,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(***)")
    }
}

impl Email {
    /// The address, if it has the form of one: ASCII, a dot in the domain, no display name, no quotes.
    pub fn parse(raw: &str) -> Option<Self> {
        let typed = raw.trim();
        if typed.len() > 254 {
            return None;
        }
        let lower = typed.to_ascii_lowercase();
        let (local, domain) = lower.rsplit_once('@')?;
        if !is_local_part(local) || !is_domain(domain) {
            return None;
        }
        let (local, domain) = normalise(local, domain);
        // what the suffix leaves must still be an address: `+x@gmail.com` is nobody's
        is_local_part(&local).then(|| Self {
            normalised: format!("{local}@{domain}"),
            typed: typed.to_owned(),
        })
    }

    /// What is stored, looked up and shown.
    pub fn as_str(&self) -> &str {
        &self.normalised
    }

    /// What mail is sent to.
    pub fn as_typed(&self) -> &str {
        &self.typed
    }
}

fn normalise(local: &str, domain: &str) -> (String, String) {
    if matches!(domain, "gmail.com" | "googlemail.com") {
        let plain = local.split('+').next().unwrap_or(local).replace('.', "");
        return (plain, "gmail.com".to_owned());
    }
    let (brand, suffix) = domain.split_once('.').unwrap_or((domain, ""));
    let is_brand_domain = BRAND_SUFFIXES.contains(&suffix);
    let separator = match brand {
        "outlook" | "hotmail" | "live" | "msn" if is_brand_domain => '+',
        "icloud" | "me" if suffix == "com" => '+',
        "yahoo" if is_brand_domain => '-',
        "ymail" | "rocketmail" if suffix == "com" => '-',
        _ => return (local.to_owned(), domain.to_owned()),
    };
    (
        local.split(separator).next().unwrap_or(local).to_owned(),
        domain.to_owned(),
    )
}

fn is_local_part(local: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&byte);
    (1..=64).contains(&local.len()) && local.bytes().all(allowed) && local.split('.').all(|atom| !atom.is_empty())
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, top)) = domain.rsplit_once('.') else {
        return false;
    };
    let is_top = top.len() >= 2 && (top.starts_with("xn--") || top.bytes().all(|byte| byte.is_ascii_alphabetic()));
    is_top && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalised(raw: &str) -> Option<String> {
        Email::parse(raw).map(|email| email.as_str().to_owned())
    }

    #[test]
    fn spellings_of_one_mailbox_are_one_address() {
        for (raw, expected) in [
            (" Ada.Love.Lace+trips@GoogleMail.com ", "adalovelace@gmail.com"),
            ("Ada.Lovelace+x@Outlook.FR", "ada.lovelace@outlook.fr"),
            ("ada+x@hotmail.co.uk", "ada@hotmail.co.uk"),
            ("ada+x@me.com", "ada@me.com"),
            ("ada-shop@yahoo.co.jp", "ada@yahoo.co.jp"),
            ("ada+x@example.com", "ada+x@example.com"),
            ("ada+x@live.example", "ada+x@live.example"),
        ] {
            assert_eq!(normalised(raw).as_deref(), Some(expected), "{raw}");
        }
    }

    #[test]
    fn the_address_as_typed_is_kept_for_delivery() {
        assert_eq!(
            Email::parse(" Ada.L+x@gmail.com").unwrap().as_typed(),
            "Ada.L+x@gmail.com"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        for raw in [
            "",
            "ada",
            "ada@",
            "@example.com",
            "ada@localhost",
            "ada@example",
            "a b@example.com",
            "ada@@example.com",
            "Ada <ada@example.com>",
            "\"ada\"@example.com",
            "ada.@example.com",
            "a..b@example.com",
            "ada@-x.com",
            "ada@exa_mple.com",
            "ada@example.c",
            "ada@example.123",
            "+x@gmail.com",
            "...@gmail.com",
            "-x@yahoo.com",
            "ada\0@example.com",
            "adа@example.com",
            long.as_str(),
        ] {
            assert_eq!(normalised(raw), None, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(
            local in "[a-zA-Z0-9.+_-]{1,20}",
            domain in prop::sample::select(vec!["gmail.com", "GoogleMail.com", "yahoo.fr", "outlook.com", "me.com", "example.org"]),
        ) {
            if let Some(once) = normalised(&format!("{local}@{domain}")) {
                prop_assert_eq!(normalised(&once), Some(once));
            }
        }

        #[test]
        fn no_text_makes_it_panic_and_what_it_accepts_is_clean(raw in "\\PC{0,80}") {
            if let Some(email) = normalised(&raw) {
                prop_assert!(email.len() <= 254 && email.is_ascii() && !email.contains(['<', '>', '"', ' ']));
                prop_assert_eq!(email.to_ascii_lowercase(), email);
            }
        }

        #[test]
        fn case_never_makes_a_second_account(local in "[a-z0-9]{1,12}", domain in "[a-z]{2,8}\\.(com|org|fr)") {
            let address = format!("{local}@{domain}");
            prop_assert_eq!(normalised(&address.to_uppercase()), normalised(&address));
        }
    }
}
