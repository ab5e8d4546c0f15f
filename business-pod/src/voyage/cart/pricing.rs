//! What a line costs when it is put into a cart.
//!
//! contract: voyage §7.4, experience D9. What we quoted decides; the client's price is a hint. What nobody quoted is taken
//! at the client's price, marked as unverified, and looked at again at checkout.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::{
    ApiError,
    money::{Currency, Money},
};
use sqlx::PgConnection;

use super::model::{ItemKind, NewLine, Proposal, Traveler};
use crate::voyage::{
    events,
    supply::{OfferError, OfferSnapshot, Offers, flight::Passengers, rates},
};

/// Gives a proposal its price.
pub async fn price(
    conn: &mut PgConnection,
    offers: &Offers,
    proposal: Proposal,
    now: DateTime<Utc>,
) -> Result<NewLine, ApiError> {
    let quote = match proposal.kind {
        ItemKind::Flight => find_quote(conn, offers, &proposal.item_id, now).await?,
        // no supplier of ours quotes stays or activities
        ItemKind::Hotel | ItemKind::Activity => None,
    };
    let Some(quote) = quote else {
        return unverified(proposal);
    };
    if quote.is_expired(now) {
        return Err(ApiError::conflict("OFFER_EXPIRED", "Offer expired").with_detail("This offer is no longer valid"));
    }
    Ok(NewLine {
        variant_key: proposal.variant_key(),
        kind: proposal.kind,
        item_id: proposal.item_id,
        item_data: proposal.item_data,
        quantity: proposal.quantity,
        // for all its passengers, whatever quantity and price the client thinks that is
        total: quote.amount,
        price_verified: true,
        provider: Some(quote.source),
        offer_expires_at: Some(quote.expires_at),
        destination: Some(quote.destination),
        travelers: travelers(quote.passengers),
    })
}

async fn find_quote(
    conn: &mut PgConnection,
    offers: &Offers,
    item_id: &str,
    now: DateTime<Utc>,
) -> Result<Option<OfferSnapshot>, ApiError> {
    match offers.find(conn, item_id, now).await {
        Ok(found) => Ok(found),
        Err(OfferError::Store(error)) => Err(error.into()),
        // whether the provider knows the id is asked again at checkout, where it matters
        Err(OfferError::Provider(error)) => {
            tracing::warn!(error = %error, "provider could not be asked about an offer, line taken unverified");
            Ok(None)
        }
    }
}

fn unverified(proposal: Proposal) -> Result<NewLine, ApiError> {
    let raw = serde_json::value::to_raw_value(&proposal.item_data).map_err(ApiError::internal)?;
    Ok(NewLine {
        variant_key: proposal.variant_key(),
        kind: proposal.kind,
        destination: events::destination_of(&raw),
        travelers: claimed_travelers(&proposal.item_data),
        item_id: proposal.item_id,
        item_data: proposal.item_data,
        total: proposal.unit.times(i64::from(proposal.quantity)),
        quantity: proposal.quantity,
        price_verified: false,
        provider: None,
        offer_expires_at: None,
    })
}

/// Brings a line into the currency of its cart at the day's rate and notes the original in its data.
pub fn in_currency(mut line: NewLine, currency: Currency) -> Result<NewLine, ApiError> {
    let original = line.total;
    if original.currency == currency {
        return Ok(line);
    }
    line.total = convert(original, currency)?;
    note_original(&mut line.item_data, original);
    Ok(line)
}

/// The same value in another currency; 400 without a rate.
pub fn convert(amount: Money, to: Currency) -> Result<Money, ApiError> {
    rates::convert(amount, to).map_err(|_| {
        ApiError::bad_request(format!(
            "No exchange rate from {} to the currency of the cart, {to}",
            amount.currency
        ))
    })
}

/// Keeps what a line cost before it was converted, as `_pricing`. A line keeps its first original.
pub fn note_original(item_data: &mut Value, original: Money) {
    let Some(fields) = item_data.as_object_mut() else {
        return;
    };
    fields.entry("_pricing").or_insert_with(|| {
        json!({ "originalTotal": original.major(), "originalCurrency": original.currency, "ratesAsOf": rates::AS_OF })
    });
}

/// One entry per traveller.
pub fn travelers(passengers: Passengers) -> Vec<Traveler> {
    let kinds = [
        ("adult", passengers.adults),
        ("child", passengers.children),
        ("infant", passengers.infants),
    ];
    let one = |kind: &str| Traveler { kind: kind.to_owned() };
    kinds
        .iter()
        .flat_map(|(kind, count)| std::iter::repeat_n(one(kind), usize::from(*count)))
        .collect()
}

/// The travellers a client's item counts, as far as that is plausible.
fn claimed_travelers(item_data: &Value) -> Vec<Traveler> {
    let count = |name: &str| {
        let claimed = item_data
            .pointer(&format!("/passengers/{name}"))
            .and_then(Value::as_u64)
            .unwrap_or_default();
        u8::try_from(claimed.min(9)).unwrap_or_default()
    };
    travelers(Passengers {
        adults: count("adults"),
        children: count("children"),
        infants: count("infants"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn travellers_are_counted_without_names() {
        let data = json!({ "passengers": { "adults": 2, "infants": 1, "children": "many" } });
        let kinds: Vec<_> = claimed_travelers(&data).into_iter().map(|one| one.kind).collect();
        assert_eq!(kinds, ["adult", "adult", "infant"]);
    }

    #[test]
    fn a_foreign_line_is_converted_and_remembers_its_price() {
        let usd = Currency::USD;
        let line = NewLine {
            kind: ItemKind::Hotel,
            item_id: "h".into(),
            variant_key: String::new(),
            item_data: json!({ "name": "Inn" }),
            quantity: 1,
            total: Money::new(11_570, usd),
            price_verified: false,
            provider: None,
            offer_expires_at: None,
            destination: None,
            travelers: Vec::new(),
        };
        let converted = in_currency(line.clone(), Currency::EUR).unwrap();
        assert_eq!(converted.total, Money::new(10_000, Currency::EUR));
        assert_eq!(converted.item_data["_pricing"]["originalCurrency"], "USD");
        assert_eq!(in_currency(line, "XAF".parse().unwrap()).unwrap_err().status(), 400);
    }
}
