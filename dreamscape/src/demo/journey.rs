//! The journey itself: sign up, search, cart, checkout, card, confirmed booking; then a declined card that is retried.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::Traveller;

const GOOD_CARD: &str = "4242424242424242";
const DECLINED_CARD: &str = "4000000000000002";

/// Walks the whole journey; the traveller's log has the steps.
pub async fn walk(traveller: &mut Traveller) -> anyhow::Result<()> {
    sign_up(traveller).await?;

    let offer = search(traveller, "Paris", "Tokyo").await?;
    let destination = text(&offer, "/arrival/airport")?.to_owned();
    fill_cart(traveller, &offer).await?;
    let checkout = check_out(traveller).await?;
    pay(traveller, &checkout).await?;
    let reference = text(&checkout, "/data/bookingReference")?.to_owned();
    wait_for(traveller, &reference, "CONFIRMED").await?;
    look_back(traveller, &reference).await?;

    let offer = search(traveller, "London", "New York").await?;
    fill_cart(traveller, &offer).await?;
    let checkout = check_out(traveller).await?;
    be_declined(traveller, &checkout).await?;
    pay(traveller, &checkout).await?;
    wait_for(traveller, text(&checkout, "/data/bookingReference")?, "CONFIRMED").await?;

    popular(traveller, &destination).await
}

async fn sign_up(traveller: &mut Traveller) -> anyhow::Result<()> {
    let unique = hex::encode(shared::Sources::system().uuid_v4().as_bytes());
    let email = format!("traveller.{unique}@example.com");
    let password = format!("Dream-{}aA1!", unique.get(..12).unwrap_or_default());

    let started = Instant::now();
    let body = json!({ "email": email, "password": password, "firstName": "Ada", "lastName": "Traveller" });
    traveller
        .post("/api/v1/auth/register", body, StatusCode::CREATED)
        .await?;
    // said so that the walk can be gone on with by hand; the account was made for it
    traveller.note("sign up", format!("{email}, password {password}"), started);

    let started = Instant::now();
    let body = json!({ "email": email, "password": password });
    let answer = traveller.post("/api/v1/auth/login", body, StatusCode::OK).await?;
    traveller.sign_in_with(text(&answer, "/data/tokens/accessToken")?);
    traveller.note(
        "sign in",
        format!("token for {}", text(&answer, "/data/tokens/accessTokenExpiresIn")?),
        started,
    );

    let started = Instant::now();
    let profile = traveller.get("/api/v1/users/profile").await?;
    traveller.note("read the profile", text(&profile, "/profile/name")?.to_owned(), started);
    confirm_address(traveller, &email).await
}

/// Follows the link in the mail of the sign-up, as its page of the web client does.
async fn confirm_address(traveller: &mut Traveller, email: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let Some(mail) = traveller.mail(email, "verify-email").await? else {
        traveller.note(
            "confirm the address",
            "left out: the mail is not readable here",
            started,
        );
        return Ok(());
    };
    let (_, token) = text(&mail, "/links/0")?
        .split_once("#token=")
        .context("the mail has no link")?;
    let body = json!({ "token": token });
    traveller
        .post("/api/v1/auth/verify-email", body, StatusCode::OK)
        .await?;
    let account = traveller.get("/api/v1/auth/profile").await?;
    let verified = account.pointer("/data/user/isVerified") == Some(&Value::Bool(true));
    ensure!(verified, "the address is not confirmed: {account}");
    traveller.note("confirm the address", "by the link in a mail", started);
    Ok(())
}

async fn search(traveller: &mut Traveller, from: &str, to: &str) -> anyhow::Result<Value> {
    let mut codes = Vec::new();
    for city in [from, to] {
        let started = Instant::now();
        let path = format!(
            "/api/v1/locations/search?keyword={}&subType=CITY",
            city.replace(' ', "%20")
        );
        let answer = traveller.get(&path).await?;
        let code = text(&answer, "/data/0/iataCode")?.to_owned();
        traveller.note(
            &format!("look up {city}"),
            format!("{code}, {}", text(&answer, "/data/0/name")?),
            started,
        );
        codes.push(code);
    }
    let day = (shared::Sources::system().now() + std::time::Duration::from_secs(60 * 86_400)).format("%Y-%m-%d");
    let codes = codes.join("&destinationLocationCode=");
    let path = format!("/api/v1/flights/search?originLocationCode={codes}&departureDate={day}&adults=1");
    let started = Instant::now();
    let answer = traveller.get(&path).await?;
    let offers = answer
        .pointer("/data")
        .and_then(Value::as_array)
        .context("the search gave no list")?;
    let offer = offers.first().context("the search found no flight")?.clone();
    let price = offer.pointer("/price/total").cloned().unwrap_or_default();
    let seen = format!(
        "{} offers, the first {price} {}",
        offers.len(),
        text(&offer, "/price/currency")?
    );
    traveller.note(&format!("search flights {from} to {to}"), seen, started);
    Ok(offer)
}

async fn fill_cart(traveller: &mut Traveller, offer: &Value) -> anyhow::Result<()> {
    let started = Instant::now();
    let item = json!({
        "type": "FLIGHT",
        "itemId": text(offer, "/id")?,
        "itemData": offer,
        "price": offer.pointer("/price/total").cloned().unwrap_or_default(),
        "currency": text(offer, "/price/currency")?,
        "quantity": 1,
    });
    traveller.post("/api/v1/cart/items", item, StatusCode::CREATED).await?;
    traveller.note("put it into the cart", "added", started);

    let started = Instant::now();
    let cart = traveller.get("/api/v1/cart").await?;
    let total = cart
        .pointer("/data/totalPrice")
        .and_then(Value::as_f64)
        .context("the cart has no total")?;
    traveller.note(
        "read the cart",
        format!("{total:.2} {}", text(&cart, "/data/currency")?),
        started,
    );
    Ok(())
}

async fn check_out(traveller: &mut Traveller) -> anyhow::Result<Value> {
    let started = Instant::now();
    let checkout = traveller
        .post("/api/v1/cart/checkout", json!({}), StatusCode::OK)
        .await?;
    let reference = text(&checkout, "/data/bookingReference")?.to_owned();
    text(&checkout, "/data/payment/clientSecret")?;
    text(&checkout, "/data/payment/publishableKey")?;
    traveller.note(
        "check out",
        format!("{reference}, {}", text(&checkout, "/data/status")?),
        started,
    );
    Ok(checkout)
}

async fn pay(traveller: &mut Traveller, checkout: &Value) -> anyhow::Result<()> {
    let started = Instant::now();
    let payment = checkout.pointer("/data/payment").context("checkout gave no payment")?;
    let (status, intent) = traveller.pay_by_card(payment, GOOD_CARD).await?;
    ensure!(
        status == StatusCode::OK && text(&intent, "/status")? == "succeeded",
        "the card was not accepted: {intent}"
    );
    traveller.note("pay by card", "succeeded at the provider", started);
    Ok(())
}

async fn be_declined(traveller: &mut Traveller, checkout: &Value) -> anyhow::Result<()> {
    let started = Instant::now();
    let payment = checkout.pointer("/data/payment").context("checkout gave no payment")?;
    let (status, answer) = traveller.pay_by_card(payment, DECLINED_CARD).await?;
    ensure!(
        status == StatusCode::PAYMENT_REQUIRED,
        "the provider accepted a card it should decline: {answer}"
    );
    traveller.note(
        "pay with a card that is declined",
        text(&answer, "/error/code")?.to_owned(),
        started,
    );

    let reference = text(checkout, "/data/bookingReference")?;
    wait_for(traveller, reference, "FAILED").await?;

    let started = Instant::now();
    let cart = traveller.get("/api/v1/cart").await?;
    let kept = cart
        .pointer("/data/items")
        .and_then(Value::as_array)
        .is_some_and(|items| !items.is_empty());
    ensure!(kept, "a declined card emptied the cart: {cart}");
    traveller.note("the cart is still there", "kept", started);
    Ok(())
}

async fn wait_for(traveller: &mut Traveller, reference: &str, status: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let path = format!("/api/v1/bookings/{reference}");
    traveller
        .until(&path, &format!("booking {status}"), |booking| {
            booking.pointer("/data/status").and_then(Value::as_str) == Some(status)
        })
        .await?;
    traveller.note(
        "the booking changes by webhook and event",
        format!("{reference} {status}"),
        started,
    );
    Ok(())
}

async fn look_back(traveller: &mut Traveller, reference: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let list = traveller.get("/api/v1/bookings").await?;
    let found = list.pointer("/data").and_then(Value::as_array).is_some_and(|rows| {
        rows.iter()
            .any(|row| row.get("reference").and_then(Value::as_str) == Some(reference))
    });
    ensure!(found, "the booking is not in the list: {list}");
    traveller.note("list the bookings", "it is there", started);

    let started = Instant::now();
    let answer = traveller
        .until(
            "/api/v1/users/notifications",
            "the notification of the confirmed booking",
            |answer| {
                let rows = answer.pointer("/data/notifications").and_then(Value::as_array);
                rows.is_some_and(|rows| {
                    rows.iter()
                        .any(|row| row.get("type").and_then(Value::as_str) == Some("BOOKING_CONFIRMED"))
                })
            },
        )
        .await?;
    let rows = answer
        .pointer("/data/notifications")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    traveller.note("read the notifications", format!("{rows} notifications"), started);

    let started = Instant::now();
    let cart = traveller.get("/api/v1/cart").await?;
    let left = cart
        .pointer("/data/items")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    ensure!(left == 0, "bought lines are still in the cart: {cart}");
    traveller.note("read the cart", "what was bought has left it", started);
    Ok(())
}

async fn popular(traveller: &mut Traveller, destination: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let counted = |answer: &Value| {
        let rows = answer.pointer("/popular").and_then(Value::as_array);
        rows.is_some_and(|rows| {
            rows.iter().any(|row| {
                row.get("bookingCount")
                    .and_then(Value::as_f64)
                    .is_some_and(|count| count > 0.0)
            })
        })
    };
    let answer = traveller
        .until(
            "/api/v1/ai/recommendations/popular?limit=50",
            "a popular destination with a booking",
            counted,
        )
        .await?;
    let rows = answer.pointer("/popular").and_then(Value::as_array).map_or(0, Vec::len);
    traveller.note(
        "popular destinations",
        format!("{rows} counted, the trip to {destination} among them"),
        started,
    );
    Ok(())
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no text at {pointer} in {value}"))
}
