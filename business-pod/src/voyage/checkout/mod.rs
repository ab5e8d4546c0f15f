//! Checkout: from a cart to a booking with a payment the browser can confirm.
//!
//! contract: voyage §7.3, events §7.1 steps 1 to 5, §7.6. Four steps, each of which may be repeated:
//!
//! 1. quote every line again (outside any transaction: a provider may have to be asked);
//! 2. one transaction: the cart locked and still as it was quoted, the booking found or inserted with its event;
//! 3. the payment, with the booking's reference as its key;
//! 4. the payment's id tied to the booking.
//!
//! A crash after any line leaves a draft that the same checkout finds again, and that the reconciler finishes or ends.

pub mod handlers;
mod requote;

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use serde_json::{Value, json, value::RawValue};
use shared::{
    ApiError,
    events::outbox,
    http::current_request_id,
    id::{BookingId, UserId},
};
use sqlx::PgConnection;

use self::requote::{Requoted, Verdict};
use super::{
    Voyage, VoyageState,
    booking::{
        model::{Booking, BookingKind, Change, Line, Status, Trigger, new_reference, payment_failed_reason},
        saga::{self, Actor},
        settle, store,
    },
    cart::{
        self,
        model::{Cart, Head, Owner},
        store::{self as carts, NewPrice},
        wire::CartBody,
    },
    events,
    supply::offline::Offline,
};
use crate::{
    fault,
    payment::client::{CancelReason, CreateIntent, Intent, PaymentError},
};

/// How long payment may take to start a payment.
const PAYMENT_BUDGET: Duration = Duration::from_secs(10);
/// How often a cart that changes under our hands is quoted again.
const ROUNDS: usize = 3;

/// A checkout that succeeded.
#[derive(Debug)]
pub struct Done {
    /// The booking.
    pub booking: Booking,
    /// Its payment. `None` when it is paid already, so that no secret is left to give out.
    pub intent: Option<Intent>,
}

/// Checks the caller's cart out. Runs to its end on a task of its own, whatever the client does.
pub async fn checkout(state: &VoyageState, user: UserId, metadata: Box<RawValue>) -> Result<Done, ApiError> {
    let booking = book(state, user, &metadata).await?;
    fault::point("checkout.booked");
    let (booking, intent) = attach_payment(state, booking).await?;
    Ok(Done {
        booking,
        intent: Some(intent),
    })
}

/// Steps 1 and 2.
async fn book(state: &VoyageState, user: UserId, metadata: &RawValue) -> Result<Booking, ApiError> {
    for _ in 0..ROUNDS {
        let now = state.sources.now();
        let seen = carts::find(state.db.pool(), Some(user), None, now).await?.of_user;
        let seen = seen.filter(|cart| !cart.lines.is_empty()).ok_or_else(empty)?;
        let quotes = requote::requote(state, &seen).await?;
        requote::refuse_unsellable(&quotes)?;
        if let Some(booking) = snapshot(state, user, &seen, &quotes, metadata).await? {
            return Ok(booking);
        }
    }
    Err(ApiError::conflict(
        "CONFLICT",
        "The cart was changed by another request",
    ))
}

/// Step 2. `None` if the cart is no longer the one that was quoted.
async fn snapshot(
    state: &VoyageState,
    user: UserId,
    seen: &Cart,
    quotes: &[Requoted],
    metadata: &RawValue,
) -> Result<Option<Booking>, ApiError> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let head = cart::live(&mut tx, &Owner::User(user), now).await?.ok_or_else(empty)?;
    if (head.id, head.version) != (seen.id, seen.version) {
        return Ok(None);
    }
    let repriced = apply_quotes(state, &mut tx, &head, quotes).await?;
    let cart = if repriced {
        carts::load(&mut *tx, head.id).await?.ok_or_else(empty)?
    } else {
        seen.clone()
    };
    let dearer: Vec<Value> = quotes
        .iter()
        .filter(|line| line.is_dearer())
        .map(Requoted::describe)
        .collect();
    if !dearer.is_empty() {
        tx.commit().await?;
        return Err(ApiError::conflict("PRICE_CHANGED", "Price changed")
            .with_detail("Prices have changed since the items were added; check out again to accept them")
            .with_extra("data", json!({ "items": dearer, "cart": CartBody::new(cart, now) })));
    }
    let booking = match take_up_open(state, &mut tx, &cart).await? {
        Some(open) => open,
        None => insert(state, &mut tx, user, &cart, metadata).await?,
    };
    tx.commit().await?;
    state.wake.now();
    Ok(Some(booking))
}

/// Writes new prices into the cart. Says whether there were any.
async fn apply_quotes(
    state: &VoyageState,
    conn: &mut PgConnection,
    head: &Head,
    quotes: &[Requoted],
) -> Result<bool, ApiError> {
    let now = state.sources.now();
    let mut flights = Vec::new();
    for quote in quotes {
        let Verdict::Changed(update) = &quote.verdict else {
            continue;
        };
        let price = NewPrice {
            total: update.total,
            item_id: update.item_id.as_deref(),
            offer_expires_at: Some(update.expires_at),
            item_data: None,
        };
        carts::set_price(&mut *conn, quote.line, &price).await?;
        carts::set_verified(&mut *conn, quote.line, &update.flight.source).await?;
        flights.push(update.flight.clone());
    }
    if flights.is_empty() {
        return Ok(false);
    }
    state.offers.remember(&mut *conn, &flights, now).await?;
    carts::touch(conn, head.id, head.currency, true, head.expires_at, now).await?;
    Ok(true)
}

/// The booking this very cart has already, if its payment can still be made; older ones of other versions are ended.
async fn take_up_open(state: &VoyageState, conn: &mut PgConnection, cart: &Cart) -> Result<Option<Booking>, ApiError> {
    let now = state.sources.now();
    let mut taken = None;
    for mut open in store::lock_open_of_cart(&mut *conn, cart.id).await? {
        let same = open.cart == Some((cart.id, cart.version));
        if same && open.status == Status::Pending {
            return Err(already_paid(&open));
        }
        if same && taken.is_none() && open.is_payable(now) {
            saga::drive(
                &mut *conn,
                &state.sources,
                &mut open,
                &Trigger::Reopened,
                Actor::Checkout,
                None,
            )
            .await?;
            taken = Some(open);
        } else {
            saga::drive(
                &mut *conn,
                &state.sources,
                &mut open,
                &Trigger::Superseded,
                Actor::Checkout,
                None,
            )
            .await?;
        }
    }
    Ok(taken)
}

async fn insert(
    state: &VoyageState,
    conn: &mut PgConnection,
    user: UserId,
    cart: &Cart,
    metadata: &RawValue,
) -> Result<Booking, ApiError> {
    let now = state.sources.now();
    let lines: Vec<Line> = cart.lines.iter().map(bought).collect();
    let mut booking = Booking {
        id: state.sources.id::<BookingId>(),
        reference: new_reference(&state.sources),
        user,
        kind: BookingKind::of(&lines),
        status: Status::Draft,
        version: 0,
        cart: Some((cart.id, cart.version)),
        payment_intent: None,
        total: cart.total,
        lines,
        metadata: metadata.to_owned(),
        reason: None,
        revivable: false,
        ended_at: None,
        confirmed_at: None,
        expires_at: now + state.config.payment_window,
        refunded_minor: None,
        correlation: current_request_id(),
        created_at: now,
        updated_at: now,
    };
    let mut tries = 0;
    while !store::insert(&mut *conn, &booking).await? {
        tries += 1;
        if tries == 5 {
            return Err(ApiError::internal(anyhow::anyhow!(
                "no free booking reference was found"
            )));
        }
        booking.reference = new_reference(&state.sources);
    }
    let change = Change {
        from: Status::Draft,
        to: Status::Draft,
        reason: None,
        at: now,
    };
    store::add_event(&mut *conn, booking.id, None, &change, Actor::Checkout).await?;
    outbox::append::<Voyage>(conn, &[events::booking_created(&state.sources, &booking)]).await?;
    saga::count(Status::Draft);
    Ok(booking)
}

fn bought(line: &cart::model::CartLine) -> Line {
    Line {
        kind: line.kind,
        item_id: line.item_id.clone(),
        item_data: line.item_data.clone(),
        quantity: line.quantity,
        line_total_minor: line.total.minor,
        cart_item: line.id,
        provider: line.provider.clone(),
        destination: line.destination.clone(),
        travelers: line.travelers.clone(),
    }
}

/// Steps 3 and 4, for a checkout and for the reconciler that finishes one.
pub async fn attach_payment(state: &VoyageState, mut booking: Booking) -> Result<(Booking, Intent), ApiError> {
    let request = CreateIntent {
        booking: booking.id,
        reference: booking.reference.clone(),
        user: booking.user,
        amount: booking.total,
        metadata: payment_metadata(&booking),
    };
    let asked = tokio::time::timeout(PAYMENT_BUDGET, state.payments.create_intent(request)).await;
    let answer = asked.unwrap_or_else(|_| {
        Err(PaymentError::unavailable(anyhow::anyhow!(
            "payment did not answer in time"
        )))
    });
    let intent = match answer {
        Ok(intent) => intent,
        Err(error) => return Err(not_started(state, &booking, error).await?),
    };
    fault::point("checkout.payment_started");
    if intent.amount != booking.total {
        let cause = anyhow::anyhow!(
            "payment {} asks for {}, the booking costs {}",
            intent.payment_intent_id,
            intent.amount,
            booking.total
        );
        return Err(ApiError::internal(cause));
    }
    let offline = booking
        .lines
        .iter()
        .any(|line| line.provider.as_deref() == Some(Offline::NAME));
    if intent.livemode && offline {
        fail(
            state,
            booking.id,
            "payment_failed: ITEM_UNAVAILABLE - An invented offer cannot be paid for",
            true,
        )
        .await?;
        if let Err(error) = state
            .payments
            .cancel_of_booking(booking.id, CancelReason::Abandoned)
            .await
        {
            tracing::warn!(booking = %booking.id, %error, "payment of a refused booking not cancelled yet");
        }
        return Err(ApiError::conflict("ITEM_UNAVAILABLE", "Item unavailable")
            .with_detail("Some items can no longer be booked"));
    }
    let mut tx = state.db.begin().await?;
    if store::set_intent(&mut tx, booking.id, &intent.payment_intent_id, state.sources.now()).await?
        && let Some((cart, _)) = booking.cart
    {
        let event = events::cart_checkout(&state.sources, &booking, cart, &intent.payment_intent_id);
        outbox::append::<Voyage>(&mut tx, &[event]).await?;
    }
    tx.commit().await?;
    fault::point("checkout.payment_noted");
    booking.payment_intent = Some(intent.payment_intent_id.clone());
    Ok((booking, intent))
}

/// The payment could not be started: what becomes of the booking, and what the client is told.
async fn not_started(state: &VoyageState, booking: &Booking, error: PaymentError) -> Result<ApiError, ApiError> {
    const TITLE: &str = "Failed to initialize payment";
    let reason = |code: &str| payment_failed_reason(Some(code), Some("Payment could not be started"));
    match error {
        PaymentError::AlreadyPaid => {
            settle::by_payment(state, booking.id, Actor::Checkout).await?;
            Ok(already_paid(booking))
        }
        PaymentError::Unavailable { retry_after, cause } => {
            // a booking that has its payment already keeps it; a new one may be taken up by the next checkout
            if booking.payment_intent.is_none() {
                fail(state, booking.id, &reason("PAYMENT_UNAVAILABLE"), false).await?;
            }
            let refusal = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "PAYMENT_UNAVAILABLE", TITLE);
            Ok(refusal
                .with_detail("Payments are temporarily unavailable, please try again")
                .with_retry_after(retry_after)
                .with_cause(cause))
        }
        PaymentError::NotChargeable(why) => {
            fail(state, booking.id, &reason("NOT_CHARGEABLE"), true).await?;
            Ok(ApiError::bad_request(TITLE).with_detail(format!("The total cannot be charged: {why}")))
        }
        PaymentError::Declined { code, message, .. } => {
            fail(
                state,
                booking.id,
                &payment_failed_reason(Some(&code), Some(&message)),
                false,
            )
            .await?;
            Ok(ApiError::new(StatusCode::PAYMENT_REQUIRED, "PAYMENT_REQUIRED", TITLE).with_detail(message))
        }
        other => {
            fail(state, booking.id, &reason("INTERNAL"), false).await?;
            Ok(ApiError::internal(
                anyhow::Error::new(other).context("failed to start a payment"),
            ))
        }
    }
}

async fn fail(state: &VoyageState, booking: BookingId, reason: &str, terminal: bool) -> Result<(), ApiError> {
    let trigger = Trigger::PaymentFailed {
        reason: reason.to_owned(),
        terminal,
    };
    settle::drive(state, booking, &trigger, Actor::Checkout).await.map(drop)
}

/// The client's scalars under a prefix of their own, so that they cannot pose as ours.
fn payment_metadata(booking: &Booking) -> BTreeMap<String, String> {
    let fields: BTreeMap<String, Value> = serde_json::from_str(booking.metadata.get()).unwrap_or_default();
    let named = fields.into_iter().filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        let key = format!("client_{name}");
        let fits = key.len() <= 40 && !key.contains(['[', ']']) && text.chars().count() <= 500;
        fits.then_some((key, text))
    });
    named.take(20).collect()
}

fn empty() -> ApiError {
    ApiError::bad_request("Cart is empty or not found")
}

fn already_paid(booking: &Booking) -> ApiError {
    ApiError::conflict("CONFLICT", "This cart is already being paid for").with_extra(
        "data",
        json!({ "bookingReference": booking.reference, "bookingId": booking.id }),
    )
}
