//! Demand for destinations and what makes one popular (ai §11.6). No HTTP, no SQL.

use chrono::{DateTime, TimeDelta, Utc};

/// A destination as people know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The IATA code of the city.
    pub code: String,
    /// The city's name.
    pub name: String,
    /// The country's name.
    pub country: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// What codes of airports and cities stand for.
pub trait PlaceNames: Send + Sync + 'static {
    /// The city that a code belongs to; `None` for anything that is not such a code.
    fn place(&self, code: &str) -> Option<Place>;
}

const SEARCH_HALF_LIFE: f64 = 30.0;
const BOOKING_HALF_LIFE: f64 = 120.0;
const SHORT_HALF_LIFE: f64 = 14.0;
const LONG_HALF_LIFE: f64 = 90.0;
/// Bookings older than this weigh next to nothing and need not be known one by one.
pub const BOOKINGS_MATTER_FOR: TimeDelta = TimeDelta::days(720);

/// The demand for one destination: decayed sums as they stood at `stamped_at`, and plain totals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Searches, half-life 30 days.
    pub searches: f64,
    /// Bookings, half-life 120 days.
    pub bookings: f64,
    /// Both, half-life 14 days.
    pub short: f64,
    /// Both, half-life 90 days.
    pub long: f64,
    /// The instant of the sums.
    pub stamped_at: DateTime<Utc>,
    /// All searches.
    pub search_count: i64,
    /// All bookings less those cancelled.
    pub booking_count: i64,
    /// The latest booking.
    pub last_booking_at: Option<DateTime<Utc>>,
}

impl Demand {
    /// No demand yet.
    #[cfg(test)]
    pub fn none(at: DateTime<Utc>) -> Self {
        Self {
            searches: 0.0,
            bookings: 0.0,
            short: 0.0,
            long: 0.0,
            stamped_at: at,
            search_count: 0,
            booking_count: 0,
            last_booking_at: None,
        }
    }

    /// Counts a search. Events may come late and in any order: the sums are the same.
    pub fn add_search(&mut self, at: DateTime<Utc>) {
        self.advance(at);
        self.searches += decay(at, self.stamped_at, SEARCH_HALF_LIFE);
        self.add_interest(at, 1.0);
        self.search_count = self.search_count.saturating_add(1);
    }

    /// Counts a confirmed booking.
    pub fn add_booking(&mut self, at: DateTime<Utc>) {
        self.advance(at);
        self.bookings += decay(at, self.stamped_at, BOOKING_HALF_LIFE);
        self.add_interest(at, 1.0);
        self.booking_count = self.booking_count.saturating_add(1);
        self.last_booking_at = self.last_booking_at.max(Some(at));
    }

    /// Takes back a booking that was counted at `confirmed_at`.
    pub fn remove_booking(&mut self, confirmed_at: DateTime<Utc>) {
        self.bookings = (self.bookings - decay(confirmed_at, self.stamped_at, BOOKING_HALF_LIFE)).max(0.0);
        self.add_interest(confirmed_at, -1.0);
        self.booking_count = self.booking_count.saturating_sub(1).max(0);
        if self.booking_count == 0 {
            self.last_booking_at = None;
        }
    }

    /// The same demand, its sums as they stand at a later instant.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.advance(now);
        self
    }

    fn advance(&mut self, to: DateTime<Utc>) {
        if to <= self.stamped_at {
            return;
        }
        let from = std::mem::replace(&mut self.stamped_at, to);
        self.searches *= decay(from, to, SEARCH_HALF_LIFE);
        self.bookings *= decay(from, to, BOOKING_HALF_LIFE);
        self.short *= decay(from, to, SHORT_HALF_LIFE);
        self.long *= decay(from, to, LONG_HALF_LIFE);
    }

    fn add_interest(&mut self, at: DateTime<Utc>, weight: f64) {
        self.short = (self.short + weight * decay(at, self.stamped_at, SHORT_HALF_LIFE)).max(0.0);
        self.long = (self.long + weight * decay(at, self.stamped_at, LONG_HALF_LIFE)).max(0.0);
    }

    /// How the rate of the last weeks compares with that of the last months: 0 is steady, 1 is twice as much.
    fn trend(&self) -> f64 {
        let (short_rate, long_rate) = (self.short / SHORT_HALF_LIFE, self.long / LONG_HALF_LIFE);
        if long_rate > 0.0 {
            short_rate / long_rate - 1.0
        } else {
            0.0
        }
    }
}

/// What an event of `from` still weighs at `to`.
fn decay(from: DateTime<Utc>, to: DateTime<Utc>, half_life_days: f64) -> f64 {
    (-days(from, to) / half_life_days).exp2()
}

fn days(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let seconds = (to - from).num_seconds().max(0);
    #[expect(clippy::cast_precision_loss, reason = "seconds of centuries fit the 52 bits")]
    let days = seconds as f64 / 86_400.0;
    days
}

/// The popularity of each of the destinations among all of them, in [0, 1], at one instant.
///
/// P = clip((.40 nb + .15 ns + .10 nv + .20 q + .10 tr + .05 se) · D). Nobody tells us of views and reviews yet, so nv and
/// q are 0; seasonality needs a year of demand and stands at its neutral .5.
pub fn popularity(demands: &[Demand], now: DateTime<Utc>) -> Vec<f64> {
    let current: Vec<Demand> = demands.iter().map(|demand| demand.at(now)).collect();
    let bookings = Scale::of(current.iter().map(|demand| demand.bookings));
    let searches = Scale::of(current.iter().map(|demand| demand.searches));
    let score = |demand: &Demand| {
        let sum = 0.40 * bookings.place(demand.bookings)
            + 0.15 * searches.place(demand.searches)
            + 0.10 * trend_map(demand.trend())
            + 0.05 * 0.5;
        let freshness = demand
            .last_booking_at
            .map_or(0.5, |booked| decay(booked, now, BOOKING_HALF_LIFE).max(0.3));
        (sum * freshness).clamp(0.0, 1.0)
    };
    current.iter().map(score).collect()
}

fn trend_map(trend: f64) -> f64 {
    match trend {
        fall if fall < 0.0 => (0.5 + fall / 2.0).max(0.0),
        rise if rise < 1.0 => 0.5 + 0.25 * rise,
        steep => (0.75 + 0.25 * (steep - 1.0)).min(1.0),
    }
}

/// Min-max over the logarithms of decayed counts; 0 where all are the same.
struct Scale {
    lowest: f64,
    highest: f64,
}

impl Scale {
    fn of(counts: impl Iterator<Item = f64> + Clone) -> Self {
        let logs = counts.map(f64::ln_1p);
        Self {
            lowest: logs.clone().fold(f64::INFINITY, f64::min),
            highest: logs.fold(f64::NEG_INFINITY, f64::max),
        }
    }

    fn place(&self, count: f64) -> f64 {
        let width = self.highest - self.lowest;
        if width > 0.0 {
            (count.ln_1p() - self.lowest) / width
        } else {
            0.0
        }
    }
}

/// The eight kinds of travellers (ai §11.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the contract's")]
pub enum Segment {
    BudgetBackpacker,
    FamilyExplorer,
    LuxuryTraveler,
    AdventureSeeker,
    CulturalEnthusiast,
    RomanticCouple,
    BusinessLeisure,
    SeniorComfort,
}

impl Segment {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::BudgetBackpacker,
        Self::FamilyExplorer,
        Self::LuxuryTraveler,
        Self::AdventureSeeker,
        Self::CulturalEnthusiast,
        Self::RomanticCouple,
        Self::BusinessLeisure,
        Self::SeniorComfort,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BudgetBackpacker => "BUDGET_BACKPACKER",
            Self::FamilyExplorer => "FAMILY_EXPLORER",
            Self::LuxuryTraveler => "LUXURY_TRAVELER",
            Self::AdventureSeeker => "ADVENTURE_SEEKER",
            Self::CulturalEnthusiast => "CULTURAL_ENTHUSIAST",
            Self::RomanticCouple => "ROMANTIC_COUPLE",
            Self::BusinessLeisure => "BUSINESS_LEISURE",
            Self::SeniorComfort => "SENIOR_COMFORT",
        }
    }

    /// The segment of this name or of one of the older names, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.to_ascii_uppercase();
        let current = match name.as_str() {
            "BUSINESS_TRAVELER" => "BUSINESS_LEISURE",
            "CULTURE_ENTHUSIAST" => "CULTURAL_ENTHUSIAST",
            "FAMILY_TRAVELER" => "FAMILY_EXPLORER",
            other => other,
        };
        Self::ALL.into_iter().find(|segment| segment.name() == current)
    }

    /// What such travellers like, in the dimensions of ai §11.1.
    const fn typical(self) -> [f64; 8] {
        match self {
            Self::BudgetBackpacker => [0.6, 0.4, 0.2, 0.8, 0.1, 0.4, 0.3, 0.4],
            Self::FamilyExplorer => [0.7, 0.4, 0.5, 0.5, 0.9, 0.5, 0.5, 0.7],
            Self::LuxuryTraveler => [0.7, 0.7, 0.95, 0.4, 0.3, 0.8, 0.9, 0.6],
            Self::AdventureSeeker => [0.5, 0.2, 0.5, 0.95, 0.3, 0.2, 0.4, 0.3],
            Self::CulturalEnthusiast => [0.6, 0.9, 0.6, 0.5, 0.4, 0.7, 0.8, 0.6],
            Self::RomanticCouple => [0.7, 0.6, 0.7, 0.4, 0.5, 0.6, 0.7, 0.6],
            Self::BusinessLeisure => [0.6, 0.7, 0.75, 0.4, 0.1, 0.9, 0.6, 0.7],
            Self::SeniorComfort => [0.7, 0.8, 0.7, 0.2, 0.5, 0.6, 0.7, 0.7],
        }
    }

    /// How popular a destination is with these travellers: .6 of its popularity, .4 of how well it suits them.
    pub fn score(self, popularity: f64, vector: &[f64]) -> f64 {
        0.6 * popularity + 0.4 * centred_cosine(&self.typical(), vector)
    }
}

/// cos′ of ai §11.4: the cosine around the middle of the space, mapped to [0, 1]; 0.5 where nothing is known.
fn centred_cosine(one: &[f64], other: &[f64]) -> f64 {
    let centred = || one.iter().zip(other).map(|(a, b)| (a - 0.5, b - 0.5));
    let (dot, one_square, other_square) = centred().fold((0.0, 0.0, 0.0), |(dot, x, y), (a, b)| {
        (dot + a * b, x + a * a, y + b * b)
    });
    let norms = f64::sqrt(one_square * other_square);
    if norms > 0.0 {
        f64::midpoint(1.0, dot / norms)
    } else {
        0.5
    }
}

/// The kinds of destinations there are lists of (ai §11.6).
pub const CATEGORIES: [&str; 5] = ["BEACH", "CITY", "MOUNTAIN", "NATURE", "CULTURAL"];

/// The category of this name, in any case.
pub fn category(text: &str) -> Option<&'static str> {
    CATEGORIES
        .into_iter()
        .find(|category| category.eq_ignore_ascii_case(text))
}

/// What is known of a booking: whether it is counted, whichever of its events has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountedBooking {
    /// The cities it was counted for.
    pub destinations: Vec<String>,
    /// Set while it is counted.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// The latest cancellation.
    pub cancelled_at: Option<DateTime<Utc>>,
}

impl CountedBooking {
    /// A confirmation came. Says whether it is to be counted: not twice, and not if it was cancelled after that.
    pub fn confirm(&mut self, at: DateTime<Utc>, destinations: Vec<String>) -> bool {
        let is_stale = self.cancelled_at.is_some_and(|cancelled| cancelled >= at);
        if self.confirmed_at.is_some() || is_stale {
            return false;
        }
        self.confirmed_at = Some(at);
        self.destinations = destinations;
        true
    }

    /// A cancellation came. Gives the instant of the confirmation that is to be taken back, if one was counted.
    pub fn cancel(&mut self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cancelled_at = self.cancelled_at.max(Some(at));
        // a booking that failed first and was paid later: the failure may arrive after the confirmation
        self.confirmed_at.take_if(|confirmed| *confirmed <= at)
    }
}
