//! What all admin lists are asked by: page, order, range of time, range of amounts, words of a fixed set.
//!
//! contract: core §1.6, §5.12 (D for all lists). What is no number is the default and what is out of range the nearest end; an
//! unknown `sortBy` is `createdAt`; an invalid date, amount or enumerated value is 400.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use shared::{ApiError, http::QueryMap};

/// The largest page.
const MAX_LIMIT: i64 = 100;
const MAX_PAGE: i64 = 1_000_000;
/// Longer searches find nothing anyway.
const MAX_SEARCH: usize = 200;

/// One page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Counted from one.
    pub number: i64,
    /// Rows on it.
    pub limit: i64,
}

impl Page {
    /// Reads `page` and `limit`.
    pub fn read(query: &QueryMap, default_limit: i64) -> Self {
        Self {
            number: whole(query, "page", 1).clamp(1, MAX_PAGE),
            limit: limit(query, default_limit),
        }
    }

    /// Rows before it.
    pub const fn offset(self) -> i64 {
        (self.number - 1) * self.limit
    }
}

/// Reads `limit`: 1 to 100.
pub fn limit(query: &QueryMap, default: i64) -> i64 {
    whole(query, "limit", default).clamp(1, MAX_LIMIT)
}

fn whole(query: &QueryMap, name: &str, default: i64) -> i64 {
    query.first(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Which way a list is ordered: `asc`, else descending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order<C> {
    /// By which column.
    pub by: C,
    /// The smallest first.
    pub ascending: bool,
}

impl<C> Order<C> {
    /// Reads `sortBy` and `sortOrder`; `column` knows the names of the list's columns.
    pub fn read(query: &QueryMap, column: impl Fn(&str) -> Option<C>, default: C) -> Self {
        let ascending = query
            .first("sortOrder")
            .is_some_and(|order| order.eq_ignore_ascii_case("asc"));
        Self {
            by: query.first("sortBy").and_then(column).unwrap_or(default),
            ascending,
        }
    }

    /// For SQL. Rows without a value come last, whichever way.
    pub const fn direction(&self) -> &'static str {
        if self.ascending {
            " asc nulls last"
        } else {
            " desc nulls last"
        }
    }
}

/// A range of time: from, included, to, excluded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// The first instant.
    pub from: Option<DateTime<Utc>>,
    /// The first instant after it.
    pub until: Option<DateTime<Utc>>,
}

impl Range {
    /// Reads `startDate` and `endDate`. A date alone is the whole day in UTC, also at the end.
    pub fn read(query: &QueryMap) -> Result<Self, ApiError> {
        let covered = |name: &str| {
            let covers = |text: &str| instant(text).ok_or_else(|| invalid(name, "must be a date"));
            query.first(name).map(covers).transpose()
        };
        let from = covered("startDate")?.map(|(start, _)| start);
        let until = covered("endDate")?.map(|(_, end)| end);
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
        {
            return Err(invalid("endDate", "must not be before startDate"));
        }
        Ok(Self { from, until })
    }
}

/// What a date or an instant covers: from, to (excluded). An instant of the wire covers its millisecond.
fn instant(text: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let (start, end) = if text.len() == 10 {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        let next = day.checked_add_days(Days::new(1))?;
        let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
        (midnight(day), midnight(next))
    } else {
        // the plus of a zone is a blank where a client did not escape it
        let at = DateTime::parse_from_rfc3339(&text.replace(' ', "+")).ok()?.to_utc();
        (at, at.checked_add_signed(TimeDelta::milliseconds(1))?)
    };
    let (first, last) = (
        NaiveDate::from_ymd_opt(1900, 1, 1)?,
        NaiveDate::from_ymd_opt(9999, 12, 31)?,
    );
    (first..=last).contains(&start.date_naive()).then_some((start, end))
}

/// A range of amounts in major units, as decimal texts that PostgreSQL compares exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// At least.
    pub min: Option<String>,
    /// At most.
    pub max: Option<String>,
}

impl Amounts {
    /// Reads `minAmount` and `maxAmount`.
    pub fn read(query: &QueryMap) -> Result<Self, ApiError> {
        Ok(Self {
            min: amount(query, "minAmount")?,
            max: amount(query, "maxAmount")?,
        })
    }
}

fn amount(query: &QueryMap, name: &str) -> Result<Option<String>, ApiError> {
    let Some(text) = query.first(name) else { return Ok(None) };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole, 12) || !digits(fraction, 6) {
        return Err(invalid(name, "must be an amount"));
    }
    Ok(Some(text.to_owned()))
}

/// One word of a set, in any case; absent if none was given, 400 for any other.
pub fn word(query: &QueryMap, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, ApiError> {
    let Some(given) = query.first(name) else {
        return Ok(None);
    };
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(given));
    found.copied().map(Some).ok_or_else(|| invalid(name, "is not known"))
}

/// A text to be looked for anywhere in a column, as a pattern for `like`.
pub fn part(query: &QueryMap, name: &str) -> Result<Option<String>, ApiError> {
    let Some(text) = query.first(name) else { return Ok(None) };
    if text.contains('\0') {
        return Err(invalid(name, "must not contain NUL"));
    }
    let mut pattern = String::from("%");
    for character in text.chars().take(MAX_SEARCH) {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    Ok(Some(pattern))
}

/// 400 for a parameter.
pub fn invalid(name: &str, problem: &str) -> ApiError {
    ApiError::bad_request("Invalid query parameters").with_detail(format!("{name} {problem}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> QueryMap {
        QueryMap::parse(text)
    }

    #[test]
    fn a_page_is_clamped_and_garbage_is_the_default() {
        for (text, number, rows) in [
            ("", 1, 50),
            ("page=0&limit=0", 1, 1),
            ("page=-7&limit=-7", 1, 1),
            ("page=x&limit=y", 1, 50),
            ("page=3&limit=1000", 3, 100),
            ("page=99999999999999999999", 1, 50),
            ("page=9223372036854775807&limit=100", MAX_PAGE, 100),
        ] {
            let page = Page::read(&query(text), 50);
            assert_eq!((page.number, page.limit), (number, rows), "{text}");
        }
    }

    #[test]
    fn a_date_alone_is_the_whole_day_on_both_ends() {
        let range = Range::read(&query("startDate=2027-01-15&endDate=2027-01-15")).unwrap();
        assert_eq!(range.from.unwrap().to_rfc3339(), "2027-01-15T00:00:00+00:00");
        assert_eq!(range.until.unwrap().to_rfc3339(), "2027-01-16T00:00:00+00:00");
        let exact = Range::read(&query("endDate=2027-01-15T10:00:00.000Z")).unwrap();
        assert_eq!(exact.until.unwrap().to_rfc3339(), "2027-01-15T10:00:00.001+00:00");
        assert!(Range::read(&query("startDate=2027-01-15T10:00:00+02:00")).is_ok());
    }

    #[test]
    fn what_is_no_date_amount_or_word_is_refused() {
        for text in [
            "startDate=yesterday",
            "endDate=2027-02-30",
            "startDate=2027-01-02&endDate=2027-01-01",
            "startDate=0001-01-01",
            "endDate=+262142-12-31T00:00:00Z",
            "startDate=2027-01-1x",
        ] {
            assert_eq!(Range::read(&query(text)).unwrap_err().status(), 400, "{text}");
        }
        for text in ["1e3", "-1", "1,5", ".5", "5.", "NaN", "1234567890123", "1.1234567"] {
            assert!(Amounts::read(&query(&format!("minAmount={text}"))).is_err(), "{text}");
        }
        assert_eq!(Amounts::read(&query("maxAmount=19.99")).unwrap().max.unwrap(), "19.99");
        assert_eq!(word(&query("role=admin"), "role", &["ADMIN"]).unwrap(), Some("ADMIN"));
        assert!(word(&query("role=root"), "role", &["ADMIN"]).is_err());
        assert!(part(&query("search=a%00b"), "search").is_err());
    }

    proptest! {
        #[test]
        fn no_query_makes_a_reader_panic(text in ".{0,80}") {
            let query = QueryMap::parse(&text);
            let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            let named = QueryMap::parse(&format!("startDate={encoded}&minAmount={encoded}&search={encoded}&page={encoded}"));
            for query in [query, named] {
                let _ = (Page::read(&query, 20), Range::read(&query), Amounts::read(&query), part(&query, "search"));
            }
        }

        #[test]
        fn a_pattern_has_no_wildcard_that_was_typed(text in "[a-z%_\\\\]{1,20}") {
            let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            let pattern = part(&QueryMap::parse(&format!("search={encoded}")), "search").unwrap().unwrap();
            let inner = &pattern[1..pattern.len() - 1];
            let unescaped = inner.replace("\\\\", "").replace("\\%", "").replace("\\_", "");
            prop_assert!(!unescaped.contains(['%', '_', '\\']));
        }
    }
}
