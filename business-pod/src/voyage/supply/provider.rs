//! What a supplier of travel can do, how its failures are told, and the router over the suppliers that are configured.
//!
//! contract: voyage §6.1 (trait, order), §6.4 (errors), §2.2 (their HTTP forms)
//!
//! A provider offers capabilities; a product it does not sell is `None`, so that a new product is one accessor and one
//! trait, and no provider has to say what it cannot do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::StatusCode;
use shared::{ApiError, config::Reader, money::Money};

use super::{
    flight::{FlightOffer, FlightQuery},
    offline::Offline,
    places::{Location, PlaceQuery},
};

/// A supplier of travel.
pub trait Provider: Send + Sync + 'static {
    /// The name in `VOYAGE_PROVIDERS` and in the `source` of its offers.
    fn name(&self) -> &'static str;

    /// Flights, if it sells them.
    fn flights(&self) -> Option<&dyn Flights> {
        None
    }

    /// Airports and cities, if it knows them.
    fn places(&self) -> Option<&dyn Places> {
        None
    }
}

/// A supplier's flights.
#[async_trait]
pub trait Flights: Send + Sync {
    /// The offers for a query, priced at `now`. No offer is an empty list, not an error.
    async fn search(&self, query: &FlightQuery, now: DateTime<Utc>) -> Result<Vec<FlightOffer>, ProviderError>;

    /// The offer of this id as it was quoted, for a store that lost it. [`ProviderError::NotFound`] if this provider
    /// did not make the id or cannot know.
    async fn recall(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError>;

    /// The same journey at today's price, with a new expiry (and a new id where the provider's ids carry the time).
    async fn reprice(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError>;
}

/// A supplier's airports and cities.
#[async_trait]
pub trait Places: Send + Sync {
    /// Places that match a keyword, best first.
    async fn suggest(&self, query: &PlaceQuery) -> Result<Vec<Location>, ProviderError>;
}

/// Why a provider could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The id means nothing to the provider.
    #[error("not known to the provider")]
    NotFound,
    /// The provider refuses a field of the request.
    #[error("the provider refused {0}")]
    Invalid(&'static str),
    /// Nothing to sell.
    #[error("nothing available")]
    NoAvailability,
    /// The offer can no longer be bought.
    #[error("the offer has expired")]
    OfferExpired,
    /// The offer costs something else now.
    #[error("the price is now {0}")]
    PriceChanged(Money),
    /// Too many calls.
    #[error("the provider limits our calls")]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
    },
    /// Our credentials are refused.
    #[error("the provider refused our credentials")]
    Unauthorized,
    /// The provider is away or failing.
    #[error("the provider is unavailable")]
    Unavailable(#[source] anyhow::Error),
    /// The provider did not answer in time.
    #[error("the provider did not answer in time")]
    Timeout,
    /// We misunderstood the provider or ourselves.
    #[error("the provider's answer was not understood")]
    Bug(#[source] anyhow::Error),
}

impl ProviderError {
    /// What the client is told. The cause goes to the log.
    pub fn refusal(&self) -> ApiError {
        let unavailable = "PROVIDER_UNAVAILABLE";
        match self {
            Self::NotFound => ApiError::not_found("Offer not found"),
            Self::Invalid(field) => ApiError::bad_request(format!("Invalid {field}")),
            Self::NoAvailability => ApiError::conflict("ITEM_UNAVAILABLE", "Item no longer available"),
            Self::OfferExpired => ApiError::conflict("OFFER_EXPIRED", "Offer expired"),
            Self::PriceChanged(_) => ApiError::conflict("PRICE_CHANGED", "Price changed"),
            Self::RateLimited { retry_after } => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                unavailable,
                "Travel provider is busy, please try again",
            )
            .with_retry_after(*retry_after),
            Self::Timeout => ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "PROVIDER_TIMEOUT",
                "Travel provider did not answer in time",
            ),
            Self::Unauthorized => ApiError::new(StatusCode::BAD_GATEWAY, unavailable, "Travel provider unavailable")
                .with_cause(anyhow::anyhow!("{self}")),
            Self::Unavailable(cause) => {
                ApiError::new(StatusCode::BAD_GATEWAY, unavailable, "Travel provider unavailable")
                    .with_cause(anyhow::anyhow!("{self}: {cause:#}"))
            }
            Self::Bug(cause) => ApiError::internal(anyhow::anyhow!("{self}: {cause:#}")),
        }
    }
}

impl From<ProviderError> for ApiError {
    fn from(error: ProviderError) -> Self {
        error.refusal()
    }
}

/// The providers that are configured, in the order in which they are asked. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    providers: Arc<[Arc<dyn Provider>]>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.providers.iter().map(|provider| provider.name()))
            .finish()
    }
}

impl Router {
    /// A router over these providers, asked in this order.
    pub fn new(providers: Vec<Arc<dyn Provider>>) -> Self {
        Self {
            providers: providers.into(),
        }
    }

    /// Reads `VOYAGE_PROVIDERS` and the settings of each provider named there.
    pub fn read(reader: &mut Reader) -> Self {
        let names = reader.list(
            "VOYAGE_PROVIDERS",
            &["offline"],
            "travel providers in the order they are asked: offline",
        );
        let drift = reader.or(
            "OFFLINE_PRICE_DRIFT",
            false,
            "whether a tenth of the offline provider's prices move hourly",
        );
        let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
        for name in &names {
            match name.as_str() {
                Offline::NAME => providers.push(Arc::new(Offline::new(drift))),
                unknown => reader.problem(format!("VOYAGE_PROVIDERS: `{unknown}` is not a provider")),
            }
        }
        if names.is_empty() {
            reader.problem("VOYAGE_PROVIDERS names no provider");
        }
        Self::new(providers)
    }

    /// The names, for health reports.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.providers.iter().map(|provider| provider.name())
    }

    /// Offers of the first provider that sells flights and can answer, filtered, cheapest first.
    pub async fn search_flights(
        &self,
        query: &FlightQuery,
        now: DateTime<Utc>,
    ) -> Result<Vec<FlightOffer>, ProviderError> {
        let flights = self.providers.iter().find_map(|provider| provider.flights());
        let Some(flights) = flights else {
            return Err(ProviderError::NoAvailability);
        };
        let mut offers = match flights.search(query, now).await {
            Ok(offers) => offers,
            Err(ProviderError::NoAvailability | ProviderError::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        offers.retain(|offer| query.filters.keeps(offer));
        // the price decides, then the time; the id makes the order total
        offers.sort_by(|one, other| {
            let by_price = one.price.total.total_cmp(&other.price.total);
            by_price
                .then_with(|| one.departs_at().cmp(&other.departs_at()))
                .then_with(|| one.id.cmp(&other.id))
        });
        Ok(offers)
    }

    /// The offer of this id as it was quoted, from whichever provider made it.
    pub async fn recall_flight(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError> {
        for flights in self.providers.iter().filter_map(|provider| provider.flights()) {
            match flights.recall(offer_id, now).await {
                Err(ProviderError::NotFound) => {}
                answer => return answer,
            }
        }
        Err(ProviderError::NotFound)
    }

    /// The same journey at today's price, from whichever provider made the offer.
    pub async fn reprice_flight(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError> {
        for flights in self.providers.iter().filter_map(|provider| provider.flights()) {
            match flights.reprice(offer_id, now).await {
                Err(ProviderError::NotFound) => {}
                answer => return answer,
            }
        }
        Err(ProviderError::NotFound)
    }

    /// Places that match, from the first provider that knows any.
    pub async fn suggest_places(&self, query: &PlaceQuery) -> Result<Vec<Location>, ProviderError> {
        for places in self.providers.iter().filter_map(|provider| provider.places()) {
            let found = places.suggest(query).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}
