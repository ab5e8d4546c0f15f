//! Periods and figures. No HTTP, no SQL.
//!
//! contract: core §5.12 (Dashboard)

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    ApiError,
    http::QueryMap,
    id::PaymentId,
    money::{Currency, Money},
    sources::{iso, iso_millis},
};
use utoipa::ToSchema;

use crate::user::admin::list::{Range, invalid};

/// The time that figures are about, and the equal time before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    name: &'static str,
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub until: DateTime<Utc>,
}

impl Period {
    /// Reads `period`; what is not known is seven days, `custom` needs both dates.
    pub fn read(query: &QueryMap, now: DateTime<Utc>) -> Result<Self, ApiError> {
        let (name, length) = match query.first("period") {
            Some("24h") => ("24h", TimeDelta::hours(24)),
            Some("30d") => ("30d", TimeDelta::days(30)),
            Some("custom") => return Self::custom(query),
            _ => ("7d", TimeDelta::days(7)),
        };
        Ok(Self {
            name,
            from: now - length,
            until: now,
        })
    }

    fn custom(query: &QueryMap) -> Result<Self, ApiError> {
        let Range { from, until } = Range::read(query)?;
        match (from, until) {
            (Some(from), Some(until)) => Ok(Self {
                name: "custom",
                from,
                until,
            }),
            (None, _) => Err(invalid("startDate", "is required for a custom period")),
            (_, None) => Err(invalid("endDate", "is required for a custom period")),
        }
    }

    /// Where the equal period before it begins.
    pub fn before(&self) -> DateTime<Utc> {
        self.from - (self.until - self.from)
    }

    /// The name under which figures of this period are remembered. A sliding period has one name for all times.
    pub fn key(&self, figures: &str) -> String {
        match self.name {
            "custom" => format!("{figures}:{}:{}", iso_millis(self.from), iso_millis(self.until)),
            name => format!("{figures}:{name}"),
        }
    }
}

/// Change against the period before, in whole percent; something after nothing is 100.
pub fn evolution(current: i64, previous: i64) -> i64 {
    if previous == 0 {
        return if current > 0 { 100 } else { 0 };
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "counts and cents stay far below 2^53, percentages saturate"
    )]
    {
        ((current - previous) as f64 * 100.0 / previous as f64).round() as i64
    }
}

/// So many of so many in percent, two decimals.
pub fn rate(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    {
        two_decimals(part as f64 * 100.0 / whole as f64)
    }
}

/// Rounded to two decimals.
pub fn two_decimals(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// What was counted, in the period and before it.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    pub users: i64,
    pub verified: i64,
    pub new_users: i64,
    pub new_users_before: i64,
    pub bookings_by_status: BTreeMap<String, i64>,
    pub bookings_before: i64,
    pub won_before: i64,
    pub searches: i64,
    pub searches_before: i64,
    /// Minor units by currency, less what was given back.
    pub revenue: BTreeMap<String, i64>,
    pub revenue_before: i64,
}

/// The figures at the head of the dashboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminStats)]
pub struct Stats {
    users: Users,
    bookings: Bookings,
    revenue: Revenue,
    conversion_rate: ConversionRate,
    avg_booking_value: Average,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminStatsUsers)]
struct Users {
    total: i64,
    /// With a confirmed address.
    active: i64,
    inactive: i64,
    new_in_period: i64,
    evolution: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminStatsBookings)]
struct Bookings {
    /// Made in the period.
    total: i64,
    by_status: BTreeMap<String, i64>,
    evolution: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminStatsRevenue)]
struct Revenue {
    /// Euro, less what was given back.
    total: f64,
    currency: String,
    evolution: i64,
    /// Every currency on its own, euro included.
    by_currency: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AdminStatsConversion)]
struct ConversionRate {
    /// Confirmed and completed bookings per hundred searches.
    rate: f64,
    /// A difference in points.
    evolution: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AdminStatsAverage)]
struct Average {
    amount: f64,
    currency: String,
}

/// Every status, so that a chart has all its bars.
const STATUSES: [&str; 7] = [
    "DRAFT",
    "PENDING_PAYMENT",
    "PENDING",
    "CONFIRMED",
    "CANCELLED",
    "COMPLETED",
    "FAILED",
];
const EUR: &str = "EUR";

impl From<Counted> for Stats {
    fn from(counted: Counted) -> Self {
        let mut by_status: BTreeMap<String, i64> = STATUSES.map(|status| (status.to_owned(), 0)).into();
        by_status.extend(counted.bookings_by_status);
        let bookings: i64 = by_status.values().sum();
        let won: i64 = ["CONFIRMED", "COMPLETED"]
            .iter()
            .filter_map(|status| by_status.get(*status))
            .sum();
        let euro = counted.revenue.get(EUR).copied().unwrap_or_default();
        let revenue = Money::new(euro, Currency::EUR).major();
        let major = |(code, minor): (String, i64)| {
            let currency: Currency = code.parse().ok()?;
            Some((code, Money::new(minor, currency).major()))
        };
        let (now, before) = (
            rate(won, counted.searches),
            rate(counted.won_before, counted.searches_before),
        );
        #[expect(clippy::cast_precision_loss, reason = "a count of bookings")]
        let average = if bookings == 0 { 0.0 } else { revenue / bookings as f64 };
        Self {
            users: Users {
                total: counted.users,
                active: counted.verified,
                inactive: counted.users - counted.verified,
                new_in_period: counted.new_users,
                evolution: evolution(counted.new_users, counted.new_users_before),
            },
            bookings: Bookings {
                total: bookings,
                evolution: evolution(bookings, counted.bookings_before),
                by_status,
            },
            revenue: Revenue {
                total: revenue,
                currency: EUR.to_owned(),
                evolution: evolution(euro, counted.revenue_before),
                by_currency: counted.revenue.into_iter().filter_map(major).collect(),
            },
            conversion_rate: ConversionRate {
                rate: now,
                evolution: two_decimals(now - before),
            },
            avg_booking_value: Average {
                amount: two_decimals(average),
                currency: EUR.to_owned(),
            },
        }
    }
}

/// The revenue of a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AdminChartPoint)]
pub struct ChartPoint {
    /// `YYYY-MM-DD`, UTC.
    pub date: String,
    /// Euro, less what was given back.
    pub revenue: f64,
}

/// How many bookings lead to a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AdminDestinationCount)]
pub struct DestinationCount {
    pub destination: String,
    pub count: i64,
}

/// A payment with its traveller.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminRecentTransaction)]
pub struct RecentTransaction {
    pub id: PaymentId,
    /// `Unknown` once the account is gone.
    pub user_email: String,
    pub user_name: String,
    /// Major units.
    pub amount: f64,
    pub currency: String,
    pub status: String,
    pub payment_method: Option<String>,
    pub booking_reference: String,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
}

/// A person's name as lists show it: first and last name, else the user name, else nothing known.
pub fn display_name(first: Option<&str>, last: Option<&str>, username: Option<&str>) -> String {
    let names: Vec<&str> = [first, last]
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        username.unwrap_or("Unknown").to_owned()
    } else {
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn period(query: &str) -> Result<Period, ApiError> {
        Period::read(&QueryMap::parse(query), now())
    }

    #[test]
    fn a_period_has_an_equal_one_before_it() {
        for (query, hours) in [
            ("period=24h", 24),
            ("period=7d", 168),
            ("period=30d", 720),
            ("", 168),
            ("period=x", 168),
        ] {
            let period = period(query).unwrap();
            assert_eq!((period.until - period.from).num_hours(), hours, "{query}");
            assert_eq!(period.from - period.before(), period.until - period.from);
        }
        let custom = period("period=custom&startDate=2027-01-01&endDate=2027-01-10").unwrap();
        assert_eq!(custom.before().to_rfc3339(), "2026-12-22T00:00:00+00:00");
        for query in [
            "period=custom",
            "period=custom&startDate=2027-01-01",
            "period=custom&endDate=2027-01-01",
        ] {
            assert_eq!(period(query).unwrap_err().status(), 400, "{query}");
        }
    }

    #[test]
    fn figures_of_different_periods_are_not_taken_for_each_other() {
        let key = |query: &str| period(query).unwrap().key("stats");
        assert_eq!(key("period=7d"), key(""));
        assert_ne!(key("period=24h"), key("period=7d"));
        let custom = |end: &str| key(&format!("period=custom&startDate=2027-01-01&endDate={end}"));
        assert_ne!(custom("2027-01-02"), custom("2027-01-03"));
    }

    #[test]
    fn evolution_is_a_rounded_percentage_and_something_after_nothing_is_a_hundred() {
        assert_eq!((evolution(0, 0), evolution(3, 0), evolution(0, 3)), (0, 100, -100));
        assert_eq!((evolution(3, 2), evolution(2, 3), evolution(1001, 1000)), (50, -33, 0));
    }

    #[test]
    fn figures_follow_from_what_was_counted() {
        let counted = Counted {
            users: 10,
            verified: 4,
            new_users: 3,
            new_users_before: 2,
            bookings_by_status: [
                ("CONFIRMED".to_owned(), 2),
                ("COMPLETED".to_owned(), 1),
                ("DRAFT".to_owned(), 3),
            ]
            .into(),
            bookings_before: 3,
            won_before: 1,
            searches: 9,
            searches_before: 4,
            revenue: [("EUR".to_owned(), 10_000), ("JPY".to_owned(), 500)].into(),
            revenue_before: 8_000,
        };
        let stats = serde_json::to_value(Stats::from(counted)).unwrap();
        assert_eq!(
            stats["users"],
            serde_json::json!({ "total": 10, "active": 4, "inactive": 6, "newInPeriod": 3, "evolution": 50 })
        );
        assert_eq!(
            (&stats["bookings"]["total"], &stats["bookings"]["evolution"]),
            (&6.into(), &100.into())
        );
        assert_eq!(stats["bookings"]["byStatus"]["FAILED"], 0);
        assert_eq!(
            stats["revenue"]["byCurrency"],
            serde_json::json!({ "EUR": 100.0, "JPY": 500.0 })
        );
        assert_eq!(
            (&stats["revenue"]["total"], &stats["revenue"]["evolution"]),
            (&100.0.into(), &25.into())
        );
        assert_eq!(
            stats["conversionRate"],
            serde_json::json!({ "rate": 33.33, "evolution": 8.33 })
        );
        assert_eq!(
            stats["avgBookingValue"],
            serde_json::json!({ "amount": 16.67, "currency": "EUR" })
        );
    }

    #[test]
    fn a_platform_without_anything_has_figures_too() {
        let stats = serde_json::to_value(Stats::from(Counted::default())).unwrap();
        assert_eq!(stats["avgBookingValue"]["amount"], 0.0);
        assert_eq!(
            stats["conversionRate"],
            serde_json::json!({ "rate": 0.0, "evolution": 0.0 })
        );
    }

    proptest! {
        #[test]
        fn figures_are_finite_whatever_was_counted(current in 0_i64..1_000_000_000_000, previous in 0_i64..1_000_000_000_000) {
            let _ = evolution(current, previous);
            prop_assert!(rate(current, previous).is_finite());
        }
    }

    #[test]
    fn a_name_is_what_is_known_of_it() {
        assert_eq!(display_name(Some("Ada"), Some("Lovelace"), None), "Ada Lovelace");
        assert_eq!(display_name(None, Some("Lovelace"), Some("ada")), "Lovelace");
        assert_eq!(display_name(None, None, Some("ada")), "ada");
        assert_eq!(display_name(None, None, None), "Unknown");
    }
}
