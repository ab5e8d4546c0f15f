//! Payment methods: cards typed in a browser, and the tokens `pm_card_…` that stand for test cards.

use chrono::Datelike as _;
use serde_json::{Value, json};

use super::{calls::Call, cards, error::Failure, form::Params, model::Method, state::State};
use crate::chance;

/// `POST /v1/payment_methods`
pub(super) fn create(state: &mut State, call: &mut Call) -> Result<Value, Failure> {
    let params = std::mem::take(&mut call.params);
    let method = read(params, call.browser, state.now())?;
    state.save_method(method.clone());
    Ok(method.render())
}

/// The payment method a call brings: by id, by token, or typed in.
pub(super) fn chosen(state: &State, call: &mut Call) -> Result<Option<Method>, Failure> {
    if let Some(data) = call.params.object("payment_method_data")? {
        return read(data, call.browser, state.now()).map(Some);
    }
    let Some(id) = call.params.text("payment_method")? else {
        return Ok(None);
    };
    if let Some(known) = state.methods.get(&id) {
        return Ok(Some(known.clone()));
    }
    let card = cards::by_token(&id).ok_or_else(|| Failure::no_such_param("payment_method", "PaymentMethod", &id))?;
    Ok(Some(of_card(card, state.now())))
}

/// A payment method of a test card.
pub(super) fn of_card(card: &cards::Card, now: i64) -> Method {
    let (year, _) = year_and_month(now);
    method(card, (12, year + 1), empty_billing(), now)
}

fn read(mut params: Params, browser: bool, now: i64) -> Result<Method, Failure> {
    let kind = params.required("type")?;
    if kind != "card" {
        let message = format!("The payment method type provided: {kind} is invalid. This account takes cards.");
        return Err(Failure::invalid("type", message));
    }
    let billing = params.object("billing_details")?.map_or_else(empty_billing, |given| {
        let mut billing = empty_billing();
        if let (Some(fields), Value::Object(given)) = (billing.as_object_mut(), given.as_value()) {
            fields.extend(given);
        }
        billing
    });
    let Some(mut card) = params.object("card")? else {
        return Err(Failure::invalid("card", "Missing required param: card.".to_owned()).with_code("parameter_missing"));
    };
    if let Some(token) = card.text("token")? {
        let named = token.replacen("tok_", "pm_card_", 1);
        let found = cards::by_token(&named).ok_or_else(|| Failure::no_such_param("card[token]", "token", &token))?;
        return Ok(of_card(found, now));
    }
    if !browser {
        let message = "Sending credit card numbers directly to the Stripe API is generally unsafe. We suggest you use test \
                       tokens that map to the test card you are using, see https://stripe.com/docs/testing.";
        return Err(Failure::card("card_declined", None, message));
    }
    let typed = cards::read(card, year_and_month(now))?;
    Ok(method(typed.card, (typed.month, typed.year), billing, now))
}

fn method(card: &cards::Card, (month, year): (i64, i64), billing_details: Value, now: i64) -> Method {
    Method {
        id: format!("pm_1{}", chance::alphanumeric(23)),
        created: now,
        number: card.number.to_owned(),
        brand: card.brand.to_owned(),
        funding: card.funding.to_owned(),
        month,
        year,
        billing_details,
    }
}

fn empty_billing() -> Value {
    let address =
        json!({"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null});
    json!({"address": address, "email": null, "name": null, "phone": null})
}

fn year_and_month(now: i64) -> (i64, i64) {
    let date = chrono::DateTime::from_timestamp(now, 0).unwrap_or_default();
    (i64::from(date.year()), i64::from(date.month()))
}
