//! Charges, refunds and the movements of the balance they cause.

use serde_json::{Value, json};

use super::{
    calls::Call,
    cards::{self, RefundBehaviour},
    currency,
    error::Failure,
    model::{Charge, Intent, Method, Refund, Status, Transaction},
    state::{Cause, State},
};
use crate::chance;

const REASONS: [&str; 3] = ["duplicate", "fraudulent", "requested_by_customer"];

fn new_charge(state: &State, intent: &Intent, method: &Method, authenticated: bool) -> Charge {
    let refund = cards::by_number(&method.number).map(|card| card.refund);
    Charge {
        id: format!("ch_3{}", chance::alphanumeric(23)),
        created: state.now(),
        amount: intent.amount,
        amount_refunded: 0,
        currency: intent.currency.clone(),
        description: intent.description.clone(),
        metadata: intent.metadata.clone(),
        payment_intent: intent.id.clone(),
        payment_method: method.id.clone(),
        payment_method_details: method.details(authenticated),
        billing_details: method.billing_details.clone(),
        receipt_email: intent.receipt_email.clone(),
        balance_transaction: None,
        failure: None,
        refunds_pend: refund == Some(RefundBehaviour::Pending),
    }
}

/// Takes the money: charge, balance, intent, and the two events in Stripe's order.
pub(super) fn succeed(
    state: &mut State,
    intent: Intent,
    method: &Method,
    authenticated: bool,
    cause: &Cause,
) -> Intent {
    let mut charge = new_charge(state, &intent, method, authenticated);
    let fee = fee(charge.amount, &charge.currency);
    let movement = move_money(state, (charge.amount, fee), &charge.currency, &charge.id, "charge");
    charge.balance_transaction = Some(movement);
    let intent = Intent {
        status: Status::Succeeded,
        latest_charge: Some(charge.id.clone()),
        amount_received: intent.amount,
        payment_method: Some(method.id.clone()),
        last_payment_error: None,
        next_action: None,
        ..intent
    };
    state.save_charge(charge.clone());
    state.save_intent(intent.clone());
    state.emit("charge.succeeded", charge.render(), None, cause);
    state.emit("payment_intent.succeeded", intent.render(), None, cause);
    intent
}

/// Refuses the card: a failed charge, the intent back to needing a card, the two events, and the error to answer.
pub(super) fn decline(state: &mut State, intent: Intent, method: &Method, refusal: Failure, cause: &Cause) -> Failure {
    let mut charge = new_charge(state, &intent, method, false);
    let error = refusal.object();
    let word = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    charge.failure = Some((
        word("code").unwrap_or_default(),
        word("decline_code"),
        word("message").unwrap_or_default(),
    ));
    let refusal = refusal
        .with("charge", json!(charge.id))
        .with("payment_method", method.render());
    let intent = Intent {
        status: Status::RequiresPaymentMethod,
        latest_charge: Some(charge.id.clone()),
        payment_method: None,
        last_payment_error: Some(refusal.object()),
        next_action: None,
        ..intent
    };
    state.save_charge(charge.clone());
    state.save_intent(intent.clone());
    state.emit("charge.failed", charge.render(), None, cause);
    state.emit("payment_intent.payment_failed", intent.render(), None, cause);
    refusal.with("payment_intent", intent.render())
}

/// Refuses before any charge was made (failed authentication).
pub(super) fn refuse_uncharged(
    state: &mut State,
    intent: Intent,
    method: &Method,
    refusal: &Failure,
    cause: &Cause,
) -> Intent {
    let error = refusal.clone().with("payment_method", method.render());
    let intent = Intent {
        status: Status::RequiresPaymentMethod,
        payment_method: None,
        last_payment_error: Some(error.object()),
        next_action: None,
        ..intent
    };
    state.save_intent(intent.clone());
    state.emit("payment_intent.payment_failed", intent.render(), None, cause);
    intent
}

/// 1.5 % and half of the least amount of the currency: near what a European account pays.
fn fee(amount: i64, code: &str) -> i64 {
    (amount * 15 + 500) / 1000 + currency::minimum(code) / 2
}

fn move_money(state: &mut State, (amount, fee): (i64, i64), currency: &str, source: &str, kind: &str) -> String {
    let row = Transaction {
        id: format!("txn_3{}", chance::alphanumeric(23)),
        created: state.now(),
        amount,
        fee,
        currency: currency.to_owned(),
        description: None,
        source: source.to_owned(),
        kind: kind.to_owned(),
    };
    let id = row.id.clone();
    state.save_transaction(row);
    id
}

/// `POST /v1/refunds`
pub(super) fn refund(state: &mut State, call: &mut Call) -> Result<Value, Failure> {
    let params = &mut call.params;
    let charge = params.text("charge")?;
    let intent = params.text("payment_intent")?;
    let amount = params.integer("amount")?;
    let reason = params.one_of("reason", &REASONS)?;
    let metadata = params.new_metadata()?;
    call.done()?;
    let mut charge = refundable(state, charge, intent)?;
    let remaining = charge.amount - charge.amount_refunded;
    if remaining == 0 {
        let message = format!("Charge {} has already been refunded.", charge.id);
        return Err(Failure::state("charge_already_refunded", message).with("charge", json!(charge.id)));
    }
    let amount = amount.unwrap_or(remaining);
    if amount < 1 {
        let message = "This value must be greater than or equal to 1.".to_owned();
        return Err(Failure::invalid("amount", message).with_code("parameter_invalid_integer"));
    }
    if amount > remaining {
        let what = if charge.amount_refunded == 0 {
            "charge amount"
        } else {
            "unrefunded amount on charge"
        };
        let asked = currency::shown(amount, &charge.currency);
        let left = currency::shown(remaining, &charge.currency);
        return Err(Failure::invalid(
            "amount",
            format!("Refund amount ({asked}) is greater than {what} ({left})"),
        ));
    }
    let id = format!("re_3{}", chance::alphanumeric(23));
    let pending = charge.refunds_pend;
    let movement = move_money(state, (-amount, 0), &charge.currency, &id, "refund");
    let refund = Refund {
        id,
        created: state.now(),
        amount,
        currency: charge.currency.clone(),
        charge: charge.id.clone(),
        payment_intent: charge.payment_intent.clone(),
        metadata,
        reason,
        status: if pending { "pending" } else { "succeeded" }.to_owned(),
        failure_reason: None,
        balance_transaction: Some(movement),
    };
    let previous = json!({"amount_refunded": charge.amount_refunded, "refunded": false});
    charge.amount_refunded += amount;
    state.save_refund(refund.clone());
    state.save_charge(charge.clone());
    state.emit("refund.created", refund.render(), None, &call.cause);
    state.emit("charge.refunded", charge.render(), Some(previous), &call.cause);
    Ok(refund.render())
}

fn refundable(state: &State, charge: Option<String>, intent: Option<String>) -> Result<Charge, Failure> {
    if let Some(id) = charge {
        let charge = state.charges.get(&id).cloned();
        let charge = charge.ok_or_else(|| Failure::no_such_param("charge", "charge", &id))?;
        if charge.paid() {
            return Ok(charge);
        }
        let message = format!("Charge {id} has failed and cannot be refunded.");
        return Err(Failure::state("charge_not_refundable", message));
    }
    let Some(id) = intent else {
        let message = "One of the following params should be provided for this request: payment_intent or charge.";
        return Err(Failure::request(message).with_code("parameter_missing"));
    };
    let Some(intent) = state.intents.get(&id) else {
        return Err(Failure::no_such_param("payment_intent", "payment_intent", &id));
    };
    let charge = intent
        .latest_charge
        .as_deref()
        .and_then(|charge| state.charges.get(charge));
    charge.filter(|charge| charge.paid()).cloned().ok_or_else(|| {
        let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
        Failure::state("payment_intent_unexpected_state", message).with("payment_intent", intent.render())
    })
}

/// Ends a pending refund, well or badly. A succeeded one may still fail, as banks do.
pub(super) fn end_refund(state: &mut State, id: &str, paid: bool, cause: &Cause) -> Result<Value, Failure> {
    let refund = state
        .refunds
        .get(id)
        .cloned()
        .ok_or_else(|| Failure::no_such("refund", id))?;
    let previous = json!({"status": refund.status});
    let wanted = if paid { "succeeded" } else { "failed" };
    if refund.status == "failed" || refund.status == wanted {
        return Ok(refund.render());
    }
    let failure_reason = (!paid).then(|| "lost_or_stolen_card".to_owned());
    let refund = Refund {
        status: wanted.to_owned(),
        failure_reason,
        ..refund
    };
    state.save_refund(refund.clone());
    if !paid {
        let movement = (refund.amount, 0);
        move_money(state, movement, &refund.currency, &refund.id, "refund_failure");
        if let Some(mut charge) = state.charges.get(&refund.charge).cloned() {
            charge.amount_refunded -= refund.amount;
            state.save_charge(charge);
        }
    }
    state.emit("charge.refund.updated", refund.render(), Some(previous.clone()), cause);
    state.emit("refund.updated", refund.render(), Some(previous), cause);
    Ok(refund.render())
}

/// `GET /v1/balance`
pub(super) fn balance(state: &State) -> Value {
    let now = state.now();
    let mut sums: std::collections::BTreeMap<&str, (i64, i64)> = std::collections::BTreeMap::from([("eur", (0, 0))]);
    for row in state.transactions.all() {
        let (available, pending) = sums.entry(&row.currency).or_default();
        let slot = if row.available(now) { available } else { pending };
        *slot += row.amount - row.fee;
    }
    let list = |pick: fn(&(i64, i64)) -> i64| -> Value {
        let rows = sums.iter().map(|(currency, pair)| {
            json!({"amount": pick(pair), "currency": currency, "source_types": {"card": pick(pair)}})
        });
        rows.collect()
    };
    json!({
        "object": "balance",
        "available": list(|pair| pair.0),
        "connect_reserved": [],
        "livemode": false,
        "pending": list(|pair| pair.1),
    })
}
