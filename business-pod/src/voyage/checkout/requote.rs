//! Every line of a cart at today's price, before anything is sold.
//!
//! contract: voyage §7.3 step 3, §7.4, §14.1 (all lines at once, four seconds), §6.1 (offline offers and live keys)

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use shared::{ApiError, id::CartItemId, money::Money};

use crate::voyage::{
    PricePolicy, VoyageState,
    cart::model::{Cart, CartLine, ItemKind},
    cart::pricing,
    supply::{OfferError, ProviderError, flight::FlightOffer, offline::Offline},
};

const BUDGET: Duration = Duration::from_secs(4);

/// What became of one line.
#[derive(Debug)]
pub enum Verdict {
    /// Its price stands.
    Holds,
    /// It costs something else, or another offer takes its place.
    Changed(Box<Update>),
    /// Its quote is over and nothing as cheap is on offer.
    Expired,
    /// Nobody sells it.
    Unavailable,
}

/// What a line becomes.
#[derive(Debug)]
pub struct Update {
    /// What it costs now.
    pub total: Money,
    /// The offer that takes the old one's place.
    pub item_id: Option<String>,
    /// Until when the price holds.
    pub expires_at: DateTime<Utc>,
    /// The offer, to be remembered.
    pub flight: FlightOffer,
}

/// A line with its verdict.
#[derive(Debug)]
pub struct Requoted {
    /// The line.
    pub line: CartItemId,
    /// What it is sold as.
    pub item_id: String,
    /// What it cost.
    pub old: Money,
    /// What came of it.
    pub verdict: Verdict,
}

impl Requoted {
    /// Whether the traveller has to agree to a higher price first.
    pub fn is_dearer(&self) -> bool {
        matches!(&self.verdict, Verdict::Changed(update) if update.total.minor > self.old.minor)
    }

    /// The line as the error names it.
    pub fn describe(&self) -> Value {
        match &self.verdict {
            Verdict::Changed(update) => json!({
                "id": self.line, "itemId": self.item_id, "oldPrice": self.old.major(), "newPrice": update.total.major(),
                "currency": self.old.currency,
            }),
            _ => json!({ "id": self.line, "itemId": self.item_id }),
        }
    }
}

/// Quotes every line of the cart again.
pub async fn requote(state: &VoyageState, cart: &Cart) -> Result<Vec<Requoted>, ApiError> {
    let all = try_join_all(cart.lines.iter().map(|line| requote_line(state, line)));
    match tokio::time::timeout(BUDGET, all).await {
        Ok(verdicts) => verdicts,
        Err(_) => Err(ProviderError::Timeout.into()),
    }
}

/// 409 if a line cannot be sold at all.
pub fn refuse_unsellable(lines: &[Requoted]) -> Result<(), ApiError> {
    let those = |wanted: fn(&Verdict) -> bool| -> Vec<Value> {
        lines
            .iter()
            .filter(|line| wanted(&line.verdict))
            .map(Requoted::describe)
            .collect()
    };
    let unavailable = those(|verdict| matches!(verdict, Verdict::Unavailable));
    if !unavailable.is_empty() {
        return Err(ApiError::conflict("ITEM_UNAVAILABLE", "Item unavailable")
            .with_detail("Some items can no longer be booked")
            .with_extra("data", json!({ "items": unavailable })));
    }
    let expired = those(|verdict| matches!(verdict, Verdict::Expired));
    if !expired.is_empty() {
        return Err(ApiError::conflict("OFFER_EXPIRED", "Offer expired")
            .with_detail("Some offers are no longer valid, please search again")
            .with_extra("data", json!({ "items": expired })));
    }
    Ok(())
}

async fn requote_line(state: &VoyageState, line: &CartLine) -> Result<Requoted, ApiError> {
    let verdict = judge(state, line).await?;
    Ok(Requoted {
        line: line.id,
        item_id: line.item_id.clone(),
        old: line.total,
        verdict,
    })
}

async fn judge(state: &VoyageState, line: &CartLine) -> Result<Verdict, ApiError> {
    if !line.price_verified && !became_known(state, line).await? {
        return Ok(match state.config.price_policy {
            PricePolicy::Strict => Verdict::Unavailable,
            PricePolicy::Lenient => Verdict::Holds,
        });
    }
    let now = state.sources.now();
    let expired = line.offer_expires_at.is_some_and(|until| now >= until);
    let repriced = match state.offers.reprice(&line.item_id, now).await {
        Ok(repriced) => repriced,
        Err(ProviderError::OfferExpired) => return Ok(Verdict::Expired),
        Err(ProviderError::NotFound | ProviderError::NoAvailability) if expired => return Ok(Verdict::Expired),
        Err(ProviderError::NotFound | ProviderError::NoAvailability) => return Ok(Verdict::Unavailable),
        Err(error) => return Err(error.into()),
    };
    if state.config.live_payments && repriced.offer.source == Offline::NAME {
        return Ok(Verdict::Unavailable);
    }
    let total = pricing::convert(repriced.offer.amount, line.total.currency)?;
    let update = Update {
        total,
        item_id: repriced.replaced.then(|| repriced.offer.id.clone()),
        expires_at: repriced.offer.expires_at,
        flight: repriced.flight,
    };
    Ok(match total.minor.cmp(&line.total.minor) {
        std::cmp::Ordering::Greater if expired => Verdict::Expired,
        std::cmp::Ordering::Equal if !expired && line.price_verified => Verdict::Holds,
        _ => Verdict::Changed(Box::new(update)),
    })
}

/// Whether an unverified line is an offer after all: the provider may have been away when it was added.
async fn became_known(state: &VoyageState, line: &CartLine) -> Result<bool, ApiError> {
    if line.kind != ItemKind::Flight {
        return Ok(false);
    }
    let mut conn = state.db.acquire().await?;
    match state.offers.find(&mut conn, &line.item_id, state.sources.now()).await {
        Ok(found) => Ok(found.is_some()),
        Err(OfferError::Store(error)) => Err(error.into()),
        Err(OfferError::Provider(_)) => Ok(false),
    }
}
