//! Which call of Stripe's API is meant, and who may make it.

use http::Method;
use serde_json::Value;

use super::{
    charges,
    error::Failure,
    form::Params,
    intents, lists, methods,
    model::{Charge, Refund},
    state::{Cause, State},
};

/// One call, as the endpoints read it.
pub(super) struct Call {
    pub(super) method: Method,
    /// The path without its version, cut at the slashes.
    pub(super) segments: Vec<String>,
    pub(super) params: Params,
    /// Whether it came with the publishable key.
    pub(super) browser: bool,
    pub(super) cause: Cause,
    /// The address of the double, for links to its pages.
    pub(super) base: String,
}

impl Call {
    /// Ends the reading of parameters. A browser's script may send more than we read; a server may not.
    pub(super) fn done(&mut self) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.params);
        if self.browser { Ok(()) } else { rest.finish() }
    }
}

/// Does the work of one call.
pub(super) fn execute(state: &mut State, call: &mut Call) -> Result<Value, Failure> {
    let expand = call.params.list("expand")?;
    check_expand(call, &expand)?;
    let answer = if call.browser {
        from_browser(state, call)
    } else {
        from_server(state, call)
    }?;
    state.expand(answer, &expand)
}

fn from_server(state: &mut State, call: &mut Call) -> Result<Value, Failure> {
    let segments = std::mem::take(&mut call.segments);
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match path.as_slice() {
        ["payment_intents"] if post => intents::create(state, call),
        ["payment_intents"] if get => lists::intents(state, call),
        ["payment_intents", id] if post => intents::update(state, call, id),
        ["payment_intents", id] if get => {
            call.params.ignore(&["client_secret"]);
            call.done()?;
            intents::find(state, id).map(|intent| intent.render())
        }
        ["payment_intents", id, "confirm"] if post => intents::confirm(state, call, id),
        ["payment_intents", id, "cancel"] if post => intents::cancel(state, call, id),
        ["payment_methods"] if post => methods::create(state, call),
        ["payment_methods", id] if get => one(state, call, "PaymentMethod", id, "pm_"),
        ["refunds"] if post => charges::refund(state, call),
        ["refunds"] if get => lists::refunds(state, call),
        ["refunds", id] if get => one(state, call, "refund", id, "re_"),
        ["charges"] if get => lists::charges(state, call),
        ["charges", id] if get => one(state, call, "charge", id, "ch_"),
        ["charges", id, "refunds"] if get => lists::refunds_of_charge(state, call, id),
        ["events"] if get => lists::events(state, call),
        ["events", id] if get => one(state, call, "event", id, "evt_"),
        ["balance"] if get => {
            call.done()?;
            Ok(charges::balance(state))
        }
        ["balance_transactions"] if get => lists::transactions(state, call),
        ["balance_transactions", id] if get => one(state, call, "balance transaction", id, "txn_"),
        _ => Err(Failure::unknown_route(
            call.method.as_str(),
            &format!("/v1/{}", path.join("/")),
        )),
    }
}

/// The few calls Stripe.js makes. They name the intent's client secret and see no more than a browser may.
fn from_browser(state: &mut State, call: &mut Call) -> Result<Value, Failure> {
    call.params.ignore(&["key"]);
    let secret = call.params.text("client_secret")?;
    let segments = std::mem::take(&mut call.segments);
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let post = call.method == Method::POST;
    match path.as_slice() {
        ["payment_methods"] if post => methods::create(state, call),
        ["payment_intents", id] if call.method == Method::GET => {
            check_secret(state, id, secret.as_deref())?;
            intents::find(state, id).map(|intent| intent.render_for_browser())
        }
        ["payment_intents", id, "confirm"] if post => {
            check_secret(state, id, secret.as_deref())?;
            let outcome = intents::confirm(state, call, id);
            let shown = intents::find(state, id)?.render_for_browser();
            match outcome {
                Ok(_) => Ok(shown),
                Err(failure) => Err(failure.with("payment_intent", shown)),
            }
        }
        _ => Err(Failure::secret_key_required()),
    }
}

fn check_secret(state: &State, id: &str, given: Option<&str>) -> Result<(), Failure> {
    let intent = intents::find(state, id)?;
    let Some(given) = given else {
        let message = "Missing required param: client_secret.".to_owned();
        return Err(Failure::invalid("client_secret", message).with_code("parameter_missing"));
    };
    if given == intent.client_secret {
        return Ok(());
    }
    let message = "The client_secret provided does not match the client_secret associated with the PaymentIntent.";
    Err(Failure::invalid("client_secret", message.to_owned()).with_code("payment_intent_invalid_parameter"))
}

fn one(state: &State, call: &mut Call, what: &str, id: &str, prefix: &str) -> Result<Value, Failure> {
    call.done()?;
    let found = if id.starts_with(prefix) { state.object(id) } else { None };
    found.ok_or_else(|| Failure::no_such(what, id))
}

/// Refuses wrong `expand` of a POST before anything is done.
fn check_expand(call: &Call, paths: &[String]) -> Result<(), Failure> {
    let allowed: &[&str] = match call.segments.first().map(String::as_str) {
        _ if call.method != Method::POST => return Ok(()),
        Some("payment_intents") => &[
            "latest_charge",
            "payment_method",
            "customer",
            "invoice",
            "review",
            "application",
        ],
        Some("refunds") => &["charge", "payment_intent", "balance_transaction"],
        _ => &["customer"],
    };
    let wrong = paths
        .iter()
        .find(|path| !allowed.contains(&path.split('.').next().unwrap_or_default()));
    let Some(wrong) = wrong else { return Ok(()) };
    Err(Failure::invalid(
        "expand",
        format!("This property cannot be expanded ({wrong})."),
    ))
}

/// All charges of an intent, oldest first.
pub(super) fn charges_of<'a>(state: &'a State, intent: &'a str) -> impl Iterator<Item = &'a Charge> {
    state
        .charges
        .all()
        .filter(move |charge| charge.payment_intent == intent)
}

/// All refunds of an intent, oldest first.
pub(super) fn refunds_of<'a>(state: &'a State, intent: &'a str) -> impl Iterator<Item = &'a Refund> {
    state
        .refunds
        .all()
        .filter(move |refund| refund.payment_intent == intent)
}
