//! Payment intents: create, update, confirm, authenticate, cancel, and what each does to charge, balance and events.

use serde_json::{Value, json};

use super::{
    calls::Call,
    cards::{self, Behaviour},
    charges,
    currency::{check_amount, check_currency},
    error::Failure,
    form::Params,
    methods,
    model::{Intent, Status},
    state::{Cause, State},
};
use crate::chance;

const FUTURE_USAGE: [&str; 2] = ["off_session", "on_session"];

/// `POST /v1/payment_intents`
pub(super) fn create(state: &mut State, call: &mut Call) -> Result<Value, Failure> {
    let now = state.now();
    let params = &mut call.params;
    let amount = params.required_integer("amount")?;
    let currency = check_currency(&params.required("currency")?)?;
    check_amount(amount, &currency)?;
    let metadata = params.new_metadata()?;
    let (automatic, payment_method_types) = payment_methods(params)?;
    let id = format!("pi_3{}", chance::alphanumeric(23));
    let mut intent = Intent {
        client_secret: format!("{id}_secret_{}", chance::alphanumeric(25)),
        id,
        created: now,
        amount,
        currency,
        status: Status::RequiresPaymentMethod,
        metadata,
        description: params.text("description")?,
        receipt_email: params.text("receipt_email")?,
        statement_descriptor: params.text("statement_descriptor")?,
        statement_descriptor_suffix: params.text("statement_descriptor_suffix")?,
        setup_future_usage: params.one_of("setup_future_usage", &FUTURE_USAGE)?,
        shipping: params.object("shipping")?.map(|shipping| shipping.as_value()),
        capture_method: params
            .one_of("capture_method", &["automatic", "automatic_async"])?
            .unwrap_or("automatic".into()),
        automatic,
        payment_method_types,
        payment_method: None,
        latest_charge: None,
        last_payment_error: None,
        next_action: None,
        return_url: None,
        canceled_at: None,
        cancellation_reason: None,
        amount_received: 0,
    };
    params.one_of("confirmation_method", &["automatic"])?;
    let confirm = params.flag("confirm")?.unwrap_or(false);
    let attempt = confirm.then(|| Attempt::read(params)).transpose()?;
    if !confirm {
        params.ignore(&["payment_method_options"]);
        refuse_without_confirm(params)?;
    }
    let method = methods::chosen(state, call)?;
    call.done()?;
    if let Some(attempt) = &attempt {
        attempt.check_return_url(&intent, call.browser)?;
        let Some(_) = &method else { return Err(no_method()) };
    }
    if let Some(method) = method {
        intent.payment_method = Some(method.id.clone());
        intent.status = Status::RequiresConfirmation;
        state.save_method(method);
    }
    state.save_intent(intent.clone());
    state.emit("payment_intent.created", intent.render(), None, &call.cause);
    match attempt {
        None => Ok(intent.render()),
        Some(attempt) => charge(state, intent, &attempt, call),
    }
}

fn payment_methods(params: &mut Params) -> Result<(Option<String>, Vec<String>), Failure> {
    let types = params.list("payment_method_types")?;
    let automatic = params.object("automatic_payment_methods")?;
    let mut enabled = types.is_empty();
    let mut redirects = "always".to_owned();
    if let Some(mut automatic) = automatic {
        let wanted = automatic.flag("enabled")?.unwrap_or(false);
        if wanted && !types.is_empty() {
            let message =
                "You may only specify one of these parameters: automatic_payment_methods, payment_method_types.";
            return Err(Failure::invalid("automatic_payment_methods", message.to_owned()));
        }
        enabled = wanted;
        redirects = automatic
            .one_of("allow_redirects", &["always", "never"])?
            .unwrap_or(redirects);
        automatic.finish()?;
    }
    if let Some(other) = types.iter().find(|kind| *kind != "card") {
        let message = format!("The payment method type provided: {other} is invalid. This account takes cards.");
        return Err(Failure::invalid("payment_method_types", message));
    }
    Ok((enabled.then_some(redirects), vec!["card".to_owned()]))
}

fn refuse_without_confirm(params: &mut Params) -> Result<(), Failure> {
    for name in ["return_url", "off_session", "error_on_requires_action"] {
        if params.text(name)?.is_some() {
            let message =
                format!("You cannot use `{name}` when creating a PaymentIntent without setting `confirm` to `true`.");
            return Err(Failure::invalid(name, message));
        }
    }
    Ok(())
}

/// `POST /v1/payment_intents/:id`
pub(super) fn update(state: &mut State, call: &mut Call, id: &str) -> Result<Value, Failure> {
    let mut intent = find(state, id)?;
    let params = &mut call.params;
    let changes_money = params.integer("amount")?;
    let currency = params
        .text("currency")?
        .map(|currency| check_currency(&currency))
        .transpose()?;
    let metadata = params.metadata()?;
    if let Some(description) = params.clearable("description")? {
        intent.description = Some(description).filter(|text| !text.is_empty());
    }
    if let Some(email) = params.clearable("receipt_email")? {
        intent.receipt_email = Some(email).filter(|text| !text.is_empty());
    }
    if let Some(text) = params.clearable("statement_descriptor_suffix")? {
        intent.statement_descriptor_suffix = Some(text).filter(|text| !text.is_empty());
    }
    if let Some(usage) = params.one_of("setup_future_usage", &FUTURE_USAGE)? {
        intent.setup_future_usage = Some(usage);
    }
    if let Some(shipping) = params.object("shipping")? {
        intent.shipping = Some(shipping.as_value());
    }
    let method = methods::chosen(state, call)?;
    call.done()?;
    let settled = matches!(intent.status, Status::Succeeded | Status::Canceled | Status::Processing);
    if settled && (changes_money.is_some() || currency.is_some() || method.is_some()) {
        let message = format!(
            "This PaymentIntent's amount could not be updated because it has a status of {}. You may only update the \
             amount of a PaymentIntent with one of the following statuses: requires_payment_method, \
             requires_confirmation, requires_action.",
            intent.status.word()
        );
        return Err(unexpected(&intent, message));
    }
    if let Some(currency) = currency {
        intent.currency = currency;
    }
    intent.amount = changes_money.unwrap_or(intent.amount);
    check_amount(intent.amount, &intent.currency)?;
    if let Some(change) = metadata {
        intent.metadata = change.apply(intent.metadata)?;
    }
    if let Some(method) = method {
        intent.payment_method = Some(method.id.clone());
        intent.status = Status::RequiresConfirmation;
        intent.next_action = None;
        state.save_method(method);
    }
    state.save_intent(intent.clone());
    Ok(intent.render())
}

/// What accompanies an attempt at a card.
#[derive(Debug, Clone, Default)]
struct Attempt {
    return_url: Option<String>,
    script: bool,
    off_session: bool,
    refuse_action: bool,
}

impl Attempt {
    fn read(params: &mut Params) -> Result<Self, Failure> {
        params.ignore(&["payment_method_options", "mandate_data", "expected_payment_method_type"]);
        let return_url = params.text("return_url")?;
        if return_url.as_deref().is_some_and(|text| url::Url::parse(text).is_err()) {
            return Err(Failure::invalid("return_url", "Not a valid URL".to_owned()).with_code("url_invalid"));
        }
        Ok(Self {
            return_url,
            script: params.flag("use_stripe_sdk")?.unwrap_or(false),
            off_session: params.flag("off_session")?.unwrap_or(false),
            refuse_action: params.flag("error_on_requires_action")?.unwrap_or(false),
        })
    }

    /// A server must say where redirects lead, unless it has excluded them.
    fn check_return_url(&self, intent: &Intent, browser: bool) -> Result<(), Failure> {
        let redirects = intent.automatic.as_deref() == Some("always");
        if browser || self.script || self.off_session || self.return_url.is_some() || !redirects {
            return Ok(());
        }
        let message = "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some \
                       of these payment methods might redirect your customer off of your page, you must provide a \
                       `return_url`. If you don't want to accept redirect-based payment methods, set \
                       `automatic_payment_methods[enabled]` to `true` and \
                       `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment \
                       Intents.";
        Err(Failure::request(message))
    }
}

/// `POST /v1/payment_intents/:id/confirm`
pub(super) fn confirm(state: &mut State, call: &mut Call, id: &str) -> Result<Value, Failure> {
    let mut intent = find(state, id)?;
    let attempt = Attempt::read(&mut call.params)?;
    if let Some(email) = call.params.text("receipt_email")? {
        intent.receipt_email = Some(email);
    }
    if let Some(usage) = call.params.one_of("setup_future_usage", &FUTURE_USAGE)? {
        intent.setup_future_usage = Some(usage);
    }
    if let Some(shipping) = call.params.object("shipping")? {
        intent.shipping = Some(shipping.as_value());
    }
    let method = methods::chosen(state, call)?;
    call.done()?;
    match intent.status {
        Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::RequiresAction => {}
        Status::Succeeded => {
            let message = "You cannot confirm this PaymentIntent because it has already succeeded after being previously \
                           confirmed.";
            return Err(unexpected(&intent, message.to_owned()));
        }
        Status::Canceled | Status::Processing => {
            let message = format!(
                "You cannot confirm this PaymentIntent because it has a status of {}. Only a PaymentIntent with one of the \
                 following statuses may be confirmed: requires_confirmation, requires_action.",
                intent.status.word()
            );
            return Err(unexpected(&intent, message));
        }
    }
    attempt.check_return_url(&intent, call.browser)?;
    if let Some(method) = method {
        intent.payment_method = Some(method.id.clone());
        state.save_method(method);
    }
    if intent.payment_method.is_none() {
        return Err(no_method());
    }
    charge(state, intent, &attempt, call)
}

/// Tries the card of the intent.
fn charge(state: &mut State, mut intent: Intent, attempt: &Attempt, call: &Call) -> Result<Value, Failure> {
    let method = intent
        .payment_method
        .as_deref()
        .and_then(|id| state.methods.get(id))
        .cloned();
    let Some(method) = method else { return Err(no_method()) };
    let behaviour = cards::by_number(&method.number).map_or(Behaviour::Succeed, |card| card.behaviour);
    intent.return_url.clone_from(&attempt.return_url);
    match behaviour {
        Behaviour::Succeed => Ok(charges::succeed(state, intent, &method, false, &call.cause).render()),
        Behaviour::Decline(code, decline_code, text) => {
            let refusal = Failure::card(code, decline_code, text);
            Err(charges::decline(state, intent, &method, refusal, &call.cause))
        }
        Behaviour::Authenticate | Behaviour::AuthenticateThenDecline => {
            if attempt.off_session || attempt.refuse_action {
                let text = "Your card was declined. This transaction requires authentication.";
                let refusal = Failure::card("authentication_required", Some("authentication_required"), text);
                return Err(charges::decline(state, intent, &method, refusal, &call.cause));
            }
            intent.next_action = Some(challenge(&intent, attempt, &call.base));
            intent.status = Status::RequiresAction;
            intent.last_payment_error = None;
            state.save_intent(intent.clone());
            state.emit("payment_intent.requires_action", intent.render(), None, &call.cause);
            Ok(intent.render())
        }
    }
}

fn challenge(intent: &Intent, attempt: &Attempt, base: &str) -> Value {
    let page = format!("{base}/3d_secure/{}?client_secret={}", intent.id, intent.client_secret);
    if attempt.script {
        return json!({
            "type": "use_stripe_sdk",
            "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": page, "source": null},
        });
    }
    json!({
        "type": "redirect_to_url",
        "redirect_to_url": {"return_url": attempt.return_url, "url": page},
    })
}

/// Ends the authentication of the cardholder, well or badly.
pub(super) fn authenticate(state: &mut State, id: &str, passed: bool, cause: &Cause) -> Result<Intent, Failure> {
    let mut intent = find(state, id)?;
    let method = intent
        .payment_method
        .as_deref()
        .and_then(|id| state.methods.get(id))
        .cloned();
    let (Status::RequiresAction, Some(method)) = (intent.status, method) else {
        return Err(unexpected(
            &intent,
            format!("This PaymentIntent has a status of {}.", intent.status.word()),
        ));
    };
    intent.next_action = None;
    if !passed {
        let message = "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new \
                       PaymentMethod to attempt to fulfill this PaymentIntent again.";
        let refusal = Failure::request(message).with_code("payment_intent_authentication_failure");
        return Ok(charges::refuse_uncharged(state, intent, &method, &refusal, cause));
    }
    let behaviour = cards::by_number(&method.number).map(|card| card.behaviour);
    if behaviour == Some(Behaviour::AuthenticateThenDecline) {
        charges::decline(state, intent, &method, cards::plain_decline(), cause);
        return find(state, id);
    }
    Ok(charges::succeed(state, intent, &method, true, cause))
}

/// `POST /v1/payment_intents/:id/cancel`
pub(super) fn cancel(state: &mut State, call: &mut Call, id: &str) -> Result<Value, Failure> {
    let mut intent = find(state, id)?;
    let reasons = ["duplicate", "fraudulent", "requested_by_customer", "abandoned"];
    let reason = call.params.one_of("cancellation_reason", &reasons)?;
    call.done()?;
    if matches!(intent.status, Status::Succeeded | Status::Canceled | Status::Processing) {
        let message = format!(
            "You cannot cancel this PaymentIntent because it has a status of {}. Only a PaymentIntent with one of the \
             following statuses may be canceled: requires_payment_method, requires_capture, requires_confirmation, \
             requires_action.",
            intent.status.word()
        );
        return Err(unexpected(&intent, message));
    }
    intent.status = Status::Canceled;
    intent.canceled_at = Some(state.now());
    intent.cancellation_reason = reason;
    intent.next_action = None;
    state.save_intent(intent.clone());
    state.emit("payment_intent.canceled", intent.render(), None, &call.cause);
    Ok(intent.render())
}

/// Puts an intent with this card into `processing`, as a slow bank does. Settled by [`settle`].
pub(super) fn hold(state: &mut State, id: &str, card: &str, cause: &Cause) -> Result<Intent, Failure> {
    let mut intent = find(state, id)?;
    let Some(card) = cards::by_number(card) else {
        return Err(Failure::no_such_param("card", "card", card));
    };
    let method = methods::of_card(card, state.now());
    intent.payment_method = Some(method.id.clone());
    intent.status = Status::Processing;
    state.save_method(method);
    state.save_intent(intent.clone());
    state.emit("payment_intent.processing", intent.render(), None, cause);
    Ok(intent)
}

/// Ends `processing`.
pub(super) fn settle(state: &mut State, id: &str, paid: bool, cause: &Cause) -> Result<Intent, Failure> {
    let intent = find(state, id)?;
    let method = intent
        .payment_method
        .as_deref()
        .and_then(|id| state.methods.get(id))
        .cloned();
    let (Status::Processing, Some(method)) = (intent.status, method) else {
        return Err(unexpected(
            &intent,
            format!("This PaymentIntent has a status of {}.", intent.status.word()),
        ));
    };
    if paid {
        return Ok(charges::succeed(state, intent, &method, false, cause));
    }
    charges::decline(state, intent, &method, cards::plain_decline(), cause);
    find(state, id)
}

/// The intent of this id.
pub(super) fn find(state: &State, id: &str) -> Result<Intent, Failure> {
    state
        .intents
        .get(id)
        .cloned()
        .ok_or_else(|| Failure::no_such("payment_intent", id))
}

fn unexpected(intent: &Intent, message: String) -> Failure {
    Failure::state("payment_intent_unexpected_state", message).with("payment_intent", intent.render())
}

fn no_method() -> Failure {
    let message = "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the \
                   PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a \
                   payment method or ConfirmationToken.";
    Failure::state("payment_intent_unexpected_state", message.to_owned())
}
