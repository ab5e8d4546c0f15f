//! Passwords that everybody knows: a Bloom filter in the binary, or a larger one in a file of the operator.
//!
//! contract: core §14 (breached-password check against a local filter, fail open with a metric)
//!
//! `scripts/data/password-filter.py` makes the filters and says how they are laid out. A password is refused if it or its
//! lower case is in the list. One in a million that is not in the list is refused as well.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use shared::config::Reader;

/// The 30,000 commonest passwords.
const BUILT_IN: &[u8] = include_bytes!("../../data/common-passwords.filter");
const MAGIC: &[u8; 4] = b"DSPF";
const VERSION: u16 = 1;
const HEADER: usize = 24;
/// More probes say that the file is not one of ours.
const MAX_PROBES: u16 = 64;

/// Which passwords are refused because they are known.
#[derive(Debug, Clone, Default)]
pub struct BreachedConfig {
    /// Whether new passwords are looked up at all.
    pub disabled: bool,
    /// A larger filter than the built-in one.
    pub file: Option<String>,
}

impl BreachedConfig {
    /// Reads `PASSWORD_BREACH_CHECK` and `PASSWORD_FILTER_FILE`.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            disabled: !reader.or(
                "PASSWORD_BREACH_CHECK",
                true,
                "whether new passwords are looked up in the filter of known ones",
            ),
            file: reader.text(
                "PASSWORD_FILTER_FILE",
                "a filter made by scripts/data/password-filter.py; unset: the 30,000 commonest passwords",
            ),
        }
    }
}

/// Why a file is not a filter.
#[derive(Debug, thiserror::Error)]
enum FilterError {
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    #[error("not a filter of version 1")]
    Format,
}

/// The filter. Cheap to clone.
#[derive(Clone)]
pub struct PasswordFilter(Option<Arc<Bloom>>);

impl fmt::Debug for PasswordFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordFilter")
            .field("entries", &self.0.as_ref().map(|bloom| bloom.entries))
            .finish()
    }
}

impl PasswordFilter {
    /// The filter of the configuration. A file that cannot be used is no reason to refuse sign-ups: the built-in filter
    /// takes its place, and `auth_password_filter_entries` and the log tell.
    pub fn open(config: &BreachedConfig) -> Self {
        if config.disabled {
            return Self::counted(None);
        }
        let built_in = || Bloom::parse(BUILT_IN).ok();
        let bloom = match &config.file {
            None => built_in(),
            Some(file) => match std::fs::read(file)
                .map_err(FilterError::from)
                .and_then(|bytes| Bloom::parse(&bytes))
            {
                Ok(bloom) => Some(bloom),
                Err(error) => {
                    metrics::counter!("auth_password_filter_failures_total").increment(1);
                    tracing::error!(%error, file, "PASSWORD_FILTER_FILE cannot be used; only the commonest passwords are refused");
                    built_in()
                }
            },
        };
        Self::counted(bloom)
    }

    fn counted(bloom: Option<Bloom>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("auth_password_filter_entries").set(bloom.as_ref().map_or(0, |bloom| bloom.entries) as f64);
        Self(bloom.map(Arc::new))
    }

    /// Whether everybody knows this password.
    pub fn knows(&self, password: &str) -> bool {
        let Some(bloom) = &self.0 else { return false };
        bloom.contains(password) || bloom.contains(&password.to_lowercase())
    }
}

struct Bloom {
    probes: u16,
    bits: u64,
    entries: u64,
    field: Box<[u8]>,
}

impl Bloom {
    fn parse(bytes: &[u8]) -> Result<Self, FilterError> {
        let (header, field) = bytes.split_at_checked(HEADER).ok_or(FilterError::Format)?;
        let read = |from: usize, count: usize| {
            let part = header.get(from..from + count).unwrap_or_default();
            part.iter()
                .rev()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let is_ours = header.starts_with(MAGIC) && read(4, 2) == u64::from(VERSION);
        let (probes, bits, entries) = (read(6, 2), read(8, 8), read(16, 8));
        let probes = u16::try_from(probes).unwrap_or_default();
        let is_whole = bits > 0 && u64::try_from(field.len()).is_ok_and(|length| length.checked_mul(8) == Some(bits));
        if !is_ours || !is_whole || !(1..=MAX_PROBES).contains(&probes) {
            return Err(FilterError::Format);
        }
        Ok(Self {
            probes,
            bits,
            entries,
            field: field.into(),
        })
    }

    fn contains(&self, password: &str) -> bool {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        let word = |from: usize| {
            let part = digest.as_ref().get(from..from + 8).unwrap_or_default();
            part.iter()
                .rev()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let (first, second) = (word(0), word(8) | 1);
        (0..u64::from(self.probes)).all(|probe| {
            let bit = first.wrapping_add(probe.wrapping_mul(second)) % self.bits;
            let byte = usize::try_from(bit / 8).ok().and_then(|place| self.field.get(place));
            byte.is_some_and(|byte| byte & 1 << (bit % 8) != 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn passwords_everybody_knows_are_known_in_any_case_and_others_are_not() {
        let filter = PasswordFilter::open(&BreachedConfig::default());
        for known in ["123456", "password", "P@ssw0rd", "ILOVEYOU!", "zaq!2WSX"] {
            assert!(filter.knows(known), "{known}");
        }
        for fine in ["", "Passw0rd!", "correct horse battery staple", "Tr4velling!"] {
            assert!(!filter.knows(fine), "{fine}");
        }
    }

    #[test]
    fn the_filter_errs_as_rarely_as_it_says() {
        let filter = PasswordFilter::open(&BreachedConfig::default());
        let wrong = (0..100_000)
            .filter(|number| filter.knows(&format!("no such password {number}")))
            .count();
        assert!(wrong <= 3, "{wrong} of 100,000");
    }

    #[test]
    fn a_filter_of_the_operator_takes_the_place_of_ours_and_a_broken_one_does_not() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        // one bit for everything: knows every password
        let mut bytes = b"DSPF".to_vec();
        bytes.extend([1, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff]);
        file.write_all(&bytes).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let open = |file: &str| {
            PasswordFilter::open(&BreachedConfig {
                disabled: false,
                file: Some(file.to_owned()),
            })
        };
        assert!(open(&path).knows("anything"));
        file.write_all(b"more").unwrap();
        for broken in [path.as_str(), "/nonexistent"] {
            let filter = open(broken);
            assert!(filter.knows("P@ssw0rd") && !filter.knows("anything"), "{broken}");
        }
        let off = BreachedConfig {
            disabled: true,
            file: None,
        };
        assert!(!PasswordFilter::open(&off).knows("123456"));
    }
}
