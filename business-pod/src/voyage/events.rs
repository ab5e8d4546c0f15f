//! What voyage publishes: one function per event, called in the transaction of the change.
//!
//! contract: voyage §8.2, events §5. Payloads carry no names: of a line its kind, id, amount and destination, of a
//! traveller the kind. Absent optionals are left out.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json, value::RawValue};
use shared::{
    Sources,
    events::{NewEvent, Topic},
    id::{CartId, UserId},
    money::Money,
    sources::iso_millis,
};

use super::{
    Voyage,
    booking::model::{Booking, Change, ItemKind, Line, Status, Traveler, unit_price},
};

/// A checkout made a booking. The status word is the contract's, not the row's.
pub fn booking_created(sources: &Sources, booking: &Booking) -> NewEvent {
    let items: Vec<_> = booking
        .lines
        .iter()
        .map(|line| {
            json!({
                "type": line.kind,
                "reference": line.item_id,
                "itemId": line.item_id,
                "description": line.kind,
                "quantity": line.quantity,
                "price": unit_price(line_total(line, booking), line.quantity),
            })
        })
        .collect();
    let travelers: Vec<&Traveler> = booking
        .lines
        .iter()
        .map(|line| &line.travelers)
        .max_by_key(|list| list.len())
        .into_iter()
        .flatten()
        .collect();
    let payload = json!({
        "bookingId": booking.id,
        "bookingReference": booking.reference,
        "userId": booking.user,
        "bookingType": booking.kind,
        "status": "pending",
        "totalAmount": booking.total.major(),
        "currency": booking.total.currency,
        "items": items,
        "travelers": travelers,
        "destinations": destinations(booking),
        "createdAt": iso_millis(booking.created_at),
    });
    NewEvent::at::<Voyage>(
        sources,
        booking.created_at,
        Topic::VoyageBookingCreated,
        booking.id,
        &payload,
    )
    .correlated(booking.correlation.clone())
}

/// A booking changed its status. `None` if the change is only inside (a longer time limit).
pub fn booking_changed(sources: &Sources, booking: &Booking, change: &Change) -> Option<NewEvent> {
    if change.from == change.to {
        return None;
    }
    let mut payload = Map::new();
    payload.insert("bookingId".into(), json!(booking.reference));
    payload.insert("bookingReference".into(), json!(booking.reference));
    payload.insert("id".into(), json!(booking.id));
    payload.insert("userId".into(), json!(booking.user));
    let topic = match change.to {
        Status::Confirmed => {
            payload.insert("confirmationNumber".into(), json!(booking.reference));
            insert_some(&mut payload, "paymentId", booking.payment_intent.as_ref());
            payload.insert("confirmedAt".into(), json!(iso_millis(change.at)));
            payload.insert("totalAmount".into(), json!(booking.total.major()));
            payload.insert("currency".into(), json!(booking.total.currency));
            payload.insert("bookingType".into(), json!(booking.kind));
            payload.insert("destinations".into(), json!(destinations(booking)));
            Topic::VoyageBookingConfirmed
        }
        Status::Failed | Status::Cancelled => {
            payload.insert(
                "reason".into(),
                json!(change.reason.as_deref().unwrap_or("user_cancelled")),
            );
            payload.insert("cancelledAt".into(), json!(iso_millis(change.at)));
            insert_some(&mut payload, "paymentIntentId", booking.payment_intent.as_ref());
            let refunded = booking
                .refunded_minor
                .map(|minor| Money::new(minor, booking.total.currency).major());
            insert_some(&mut payload, "refundAmount", refunded);
            // whether the booking had been confirmed before: only then was it ever counted as one
            payload.insert("previousStatus".into(), json!(change.from));
            payload.insert("destinations".into(), json!(destinations(booking)));
            Topic::VoyageBookingCancelled
        }
        Status::Draft | Status::PendingPayment | Status::Pending | Status::Completed => {
            payload.insert(
                "changes".into(),
                json!({ "status": { "old": change.from, "new": change.to } }),
            );
            payload.insert("updatedAt".into(), json!(iso_millis(change.at)));
            Topic::VoyageBookingUpdated
        }
    };
    let event = NewEvent::at::<Voyage>(sources, change.at, topic, &booking.reference, &payload);
    Some(event.correlated(booking.correlation.clone()))
}

/// An administrator corrected a booking. Free text stays here: of what is not an amount only the name is told.
pub fn booking_modified(
    sources: &Sources,
    booking: &Booking,
    changes: &Map<String, Value>,
    at: DateTime<Utc>,
) -> NewEvent {
    let payload = json!({
        "bookingId": booking.reference,
        "bookingReference": booking.reference,
        "id": booking.id,
        "userId": booking.user,
        "changes": changes,
        "updatedAt": iso_millis(at),
    });
    NewEvent::at::<Voyage>(sources, at, Topic::VoyageBookingUpdated, &booking.reference, &payload)
        .correlated(booking.correlation.clone())
}

/// A checkout succeeded: the booking has its payment.
pub fn cart_checkout(sources: &Sources, booking: &Booking, cart: CartId, intent: &str) -> NewEvent {
    let items: Vec<_> = booking
        .lines
        .iter()
        .map(|line| {
            json!({
                "itemType": line.kind,
                "itemId": line.item_id,
                "price": unit_price(line_total(line, booking), line.quantity),
                "currency": booking.total.currency,
            })
        })
        .collect();
    let payload = json!({
        "checkoutId": booking.correlation.clone().unwrap_or_else(|| booking.id.to_string()),
        "userId": booking.user,
        "cartId": cart,
        "items": items,
        "totalAmount": booking.total.major(),
        "currency": booking.total.currency,
        "bookingReference": booking.reference,
        "paymentIntentId": intent,
        "checkoutAt": iso_millis(sources.now()),
    });
    NewEvent::new::<Voyage>(sources, Topic::VoyageCartCheckout, booking.user, &payload)
        .correlated(booking.correlation.clone())
}

/// What was put into a cart, as the `selected` events tell it.
#[derive(Debug)]
pub struct Selected<'a> {
    /// A flight or a hotel; nothing is published for other kinds.
    pub kind: ItemKind,
    /// Its id.
    pub item_id: &'a str,
    /// What the client shows of it.
    pub item_data: &'a Value,
    /// What the line costs.
    pub total: Money,
    /// Who chose it; anonymous carts publish nothing.
    pub user: UserId,
    /// In which session.
    pub session: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A traveller put a flight or a hotel into the cart.
pub fn selected(sources: &Sources, chosen: &Selected<'_>) -> Option<NewEvent> {
    let data = chosen.item_data;
    let mut payload = Map::new();
    payload.insert("userId".into(), json!(chosen.user));
    payload.insert("sessionId".into(), json!(chosen.session));
    let topic = match chosen.kind {
        ItemKind::Flight => {
            payload.insert("flightId".into(), json!(chosen.item_id));
            payload.insert(
                "airline".into(),
                text(data, &["/airline/code", "/airline/name", "/airline"]),
            );
            payload.insert("flightNumber".into(), text(data, &["/flightNumber"]));
            payload.insert("origin".into(), text(data, &["/departure/airport", "/origin"]));
            payload.insert("destination".into(), text(data, &["/arrival/airport", "/destination"]));
            payload.insert(
                "departureTime".into(),
                text(data, &["/departure/time", "/departureTime", "/departureDate"]),
            );
            payload.insert(
                "arrivalTime".into(),
                text(data, &["/arrival/time", "/arrivalTime", "/arrivalDate"]),
            );
            Topic::VoyageFlightSelected
        }
        ItemKind::Hotel => {
            payload.insert("hotelId".into(), json!(chosen.item_id));
            payload.insert("hotelName".into(), text(data, &["/name", "/hotelName"]));
            payload.insert(
                "location".into(),
                text(data, &["/location/name", "/location", "/cityCode"]),
            );
            payload.insert("checkInDate".into(), text(data, &["/checkInDate"]));
            payload.insert("checkOutDate".into(), text(data, &["/checkOutDate"]));
            payload.insert("roomType".into(), text(data, &["/roomType"]));
            Topic::VoyageHotelSelected
        }
        ItemKind::Activity => return None,
    };
    payload.insert("price".into(), json!(chosen.total.major()));
    payload.insert("currency".into(), json!(chosen.total.currency));
    payload.insert("selectedAt".into(), json!(iso_millis(chosen.at)));
    Some(NewEvent::at::<Voyage>(sources, chosen.at, topic, chosen.user, &payload))
}

/// Where a booking leads: codes, each once, in order of the lines.
pub fn destinations(booking: &Booking) -> Vec<&str> {
    let mut codes: Vec<&str> = Vec::new();
    for code in booking.lines.iter().filter_map(|line| line.destination.as_deref()) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}

/// The destination a client's item names, if it looks like a code.
pub fn destination_of(item_data: &RawValue) -> Option<String> {
    let data: Value = serde_json::from_str(item_data.get()).ok()?;
    let places = ["/arrival/airport", "/destination", "/destinationCode", "/cityCode"];
    let found = places.iter().find_map(|place| data.pointer(place)?.as_str())?;
    let code = found.trim().to_ascii_uppercase();
    (code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
}

fn line_total(line: &Line, booking: &Booking) -> Money {
    Money::new(line.line_total_minor, booking.total.currency)
}

fn insert_some(payload: &mut Map<String, Value>, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        payload.insert(key.to_owned(), json!(value));
    }
}

/// The first of these places that holds a text; short, since it goes out to everybody. Empty if there is none.
fn text(data: &Value, places: &[&str]) -> Value {
    let found = places
        .iter()
        .find_map(|place| data.pointer(place)?.as_str())
        .unwrap_or_default();
    Value::String(found.chars().take(100).collect())
}
