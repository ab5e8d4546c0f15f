//! Our double of Stripe: its HTTP API at version 2023-10-16 on loopback, with test cards and signed webhooks.
//!
//! contract: payment §5 (calls), §6 (webhooks), §10 (currencies), §12 (what a double must do). It holds no real money and
//! takes no real key: only `sk_test_…` and `pk_test_…`, and only the pair it was started with.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use devkit::stripe::{Fault, Options, StripeDouble};
//!
//! let stripe = StripeDouble::start(Options::default()).await?;
//! stripe.webhooks().set_url(Some("http://127.0.0.1:3004/api/v1/payment/webhook"));
//! stripe.fail_next(Fault::TimeoutAfterCommit);
//! stripe.webhooks().only("payment_intent.succeeded").duplicate_next();
//! # Ok(())
//! # }
//! ```

mod calls;
mod cards;
mod challenge;
mod charges;
mod currency;
mod error;
mod faults;
mod form;
mod http;
mod intents;
mod lists;
mod methods;
mod model;
mod state;
mod webhooks;

use std::{
    collections::{HashSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::http::Method;
use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;

use self::{
    error::Failure,
    faults::Faults,
    model::{Charge, Delivery, Intent, Refund},
    state::{Cause, State},
    webhooks::Sender,
};
pub use self::{
    faults::Fault,
    model::Status,
    webhooks::{Attempted, Backoff, Webhooks, sign},
};
use crate::{
    chance::{self, Clock},
    server::{self, Server},
};

/// The version of the API the objects are written in.
pub const API_VERSION: &str = "2023-10-16";

/// How many calls are remembered for [`StripeDouble::requests`].
const REMEMBERED: usize = 2000;

/// How a double is started.
pub struct Options {
    /// The port on loopback, if it is free; 0 for any.
    pub port: u16,
    /// The secret key, `sk_test_…`.
    pub secret_key: String,
    /// The publishable key, `pk_test_…`.
    pub publishable_key: String,
    /// The webhook secret, `whsec_…`.
    pub webhook_secret: String,
    /// Where events are sent.
    pub webhook_url: Option<String>,
    /// The types of events that are sent; `None` for all.
    pub webhook_events: Option<Vec<String>>,
    /// The pauses between attempts to deliver.
    pub backoff: Backoff,
    /// A file that keeps the objects across restarts.
    pub journal: Option<PathBuf>,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Default for Options {
    /// Random keys, any port, nothing kept.
    fn default() -> Self {
        Self {
            port: 0,
            secret_key: format!("sk_test_{}", chance::alphanumeric(24)),
            publishable_key: format!("pk_test_{}", chance::alphanumeric(24)),
            webhook_secret: format!("whsec_{}", chance::alphanumeric(32)),
            webhook_url: None,
            webhook_events: None,
            backoff: Backoff::default(),
            journal: None,
            clock: chance::system_clock(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("port", &self.port)
            .field("webhook_url", &self.webhook_url)
            .finish_non_exhaustive()
    }
}

/// One call the double has received.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// GET or POST.
    pub method: String,
    /// The path.
    pub path: String,
    /// Its idempotency key.
    pub idempotency_key: Option<String>,
    /// Its parameters, nested as their brackets say; null where the call failed before they were read.
    pub params: Value,
    /// The answer's status; `None` where a fault swallowed the call.
    pub status: Option<u16>,
}

struct Inner {
    base: String,
    secret_key: String,
    publishable_key: String,
    webhook_secret: String,
    state: Mutex<State>,
    keys_in_use: Arc<Mutex<HashSet<String>>>,
    faults: Faults,
    recorded: Mutex<VecDeque<Recorded>>,
    sender: Sender,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, events: Vec<String>) {
        for event in events {
            self.sender.enqueue(event);
        }
    }

    fn remember(&self, call: Recorded) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() == REMEMBERED {
            recorded.pop_front();
        }
        recorded.push_back(call);
    }

    fn knows(&self, intent: &str, client_secret: &str) -> bool {
        self.state()
            .intents
            .get(intent)
            .is_some_and(|intent| intent.client_secret == client_secret)
    }

    /// Changes the objects from outside a call, and announces what happened.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, Failure>) -> Result<T, Failure> {
        let (outcome, events) = {
            let mut state = self.state();
            let outcome = change(&mut state);
            state.flush();
            (outcome, std::mem::take(&mut state.outgoing))
        };
        self.announce(events);
        outcome
    }
}

/// A running double. Dropping it stops it.
pub struct StripeDouble {
    inner: Arc<Inner>,
    server: Server,
}

impl std::fmt::Debug for StripeDouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StripeDouble")
            .field("address", &self.server.address())
            .finish_non_exhaustive()
    }
}

impl StripeDouble {
    /// Starts a double on loopback.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        ensure!(
            options.secret_key.starts_with("sk_test_"),
            "the double of Stripe takes only secret keys sk_test_…"
        );
        ensure!(
            options.publishable_key.starts_with("pk_test_"),
            "the double of Stripe takes only keys pk_test_…"
        );
        ensure!(
            options.webhook_secret.starts_with("whsec_"),
            "a webhook secret starts with whsec_"
        );
        let listener = server::bind(options.port).await?;
        let base = format!(
            "http://{}",
            listener
                .local_addr()
                .context("failed to read the address of the double")?
        );
        let state = State::open(options.journal.as_deref(), options.clock)?;
        let undelivered: Vec<String> = state
            .events
            .all()
            .filter(|event| event.delivery == Delivery::Pending)
            .map(|event| event.id.clone())
            .collect();
        let webhook_secret = options.webhook_secret;
        let (sender, events) = Sender::new(
            options.webhook_url,
            webhook_secret.clone(),
            options.backoff,
            options.webhook_events,
        )?;
        let inner = Arc::new(Inner {
            base,
            secret_key: options.secret_key,
            publishable_key: options.publishable_key,
            webhook_secret,
            state: Mutex::new(state),
            keys_in_use: Arc::default(),
            faults: Faults::default(),
            recorded: Mutex::default(),
            sender,
        });
        let server = Server::start(listener, http::router(inner.clone()))?;
        tokio::spawn(
            server
                .stopping()
                .run_until_cancelled_owned(webhooks::run(Arc::downgrade(&inner), events)),
        );
        inner.announce(undelivered);
        Ok(Self { inner, server })
    }

    /// The address, for `STRIPE_API_BASE`.
    pub fn base_url(&self) -> &str {
        &self.inner.base
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// The secret key it accepts.
    pub fn secret_key(&self) -> &str {
        &self.inner.secret_key
    }

    /// The publishable key it accepts.
    pub fn publishable_key(&self) -> &str {
        &self.inner.publishable_key
    }

    /// The secret its webhooks are signed with.
    pub fn webhook_secret(&self) -> &str {
        &self.inner.webhook_secret
    }

    /// The webhooks: where they go and what is done to them.
    pub fn webhooks(&self) -> Webhooks {
        Webhooks::new(self.inner.clone())
    }

    /// The next call fails.
    pub fn fail_next(&self, fault: Fault) {
        self.inner.faults.add(fault, None, "", 1);
    }

    /// The next `times` calls fail whose method is this and whose path starts like this.
    pub fn fail_calls(&self, method: Method, path: &str, fault: Fault, times: u32) {
        self.inner.faults.add(fault, Some(method), path, times);
    }

    /// Every call fails until [`clear_faults`](Self::clear_faults).
    pub fn fail_always(&self, fault: Fault) {
        self.inner.faults.add(fault, None, "", u32::MAX);
    }

    /// No more failures.
    pub fn clear_faults(&self) {
        self.inner.faults.clear();
    }

    /// The calls received, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.inner
            .recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// All payment intents, oldest first.
    pub fn payment_intents(&self) -> Vec<Value> {
        self.inner.state().intents.all().map(Intent::render).collect()
    }

    /// One object by its id (`pi_…`, `ch_…`, `re_…`, `evt_…`).
    pub fn object(&self, id: &str) -> Option<Value> {
        self.inner.state().object(id)
    }

    /// All charges of an intent, refused ones too, oldest first.
    pub fn charges_of(&self, intent: &str) -> Vec<Value> {
        calls::charges_of(&self.inner.state(), intent)
            .map(Charge::render)
            .collect()
    }

    /// The charges of an intent that took money. More than one is the error a test looks for.
    pub fn paid_charges_of(&self, intent: &str) -> Vec<Value> {
        calls::charges_of(&self.inner.state(), intent)
            .filter(|charge| charge.paid())
            .map(Charge::render)
            .collect()
    }

    /// All refunds of an intent, oldest first.
    pub fn refunds_of(&self, intent: &str) -> Vec<Value> {
        calls::refunds_of(&self.inner.state(), intent)
            .map(Refund::render)
            .collect()
    }

    /// All events, oldest first.
    pub fn events(&self) -> Vec<Value> {
        self.inner
            .state()
            .events
            .all()
            .map(|event| event.render(API_VERSION))
            .collect()
    }

    /// Pays an intent as the traveller's browser would: with a card typed in, the publishable key and the client secret.
    /// Returns the answer's status and body.
    pub async fn pay_in_browser(&self, client_secret: &str, card_number: &str) -> anyhow::Result<(u16, Value)> {
        let intent = client_secret.split("_secret_").next().unwrap_or_default();
        let form = [
            ("key", self.publishable_key()),
            ("client_secret", client_secret),
            ("payment_method_data[type]", "card"),
            ("payment_method_data[card][number]", card_number),
            ("payment_method_data[card][exp_month]", "12"),
            ("payment_method_data[card][exp_year]", "49"),
            ("payment_method_data[card][cvc]", "123"),
            ("use_stripe_sdk", "true"),
        ];
        let url = format!("{}/v1/payment_intents/{intent}/confirm", self.base_url());
        let answer = self
            .inner
            .sender
            .client()
            .post(url)
            .form(&form)
            .send()
            .await
            .context("failed to reach the double")?;
        let status = answer.status().as_u16();
        Ok((
            status,
            answer.json().await.context("failed to read the double's answer")?,
        ))
    }

    /// Ends the authentication of the cardholder.
    pub fn authenticate(&self, intent: &str, passed: bool) -> anyhow::Result<Value> {
        let outcome = self
            .inner
            .change(|state| intents::authenticate(state, intent, passed, &Cause::default()));
        outcome.map(|intent| intent.render()).map_err(|failure| said(&failure))
    }

    /// Lets the bank think: the intent is `processing` with this card until [`settle`](Self::settle).
    pub fn hold(&self, intent: &str, card_number: &str) -> anyhow::Result<Value> {
        let outcome = self
            .inner
            .change(|state| intents::hold(state, intent, card_number, &Cause::default()));
        outcome.map(|intent| intent.render()).map_err(|failure| said(&failure))
    }

    /// Ends `processing`, paid or refused.
    pub fn settle(&self, intent: &str, paid: bool) -> anyhow::Result<Value> {
        let outcome = self
            .inner
            .change(|state| intents::settle(state, intent, paid, &Cause::default()));
        outcome.map(|intent| intent.render()).map_err(|failure| said(&failure))
    }

    /// Ends a pending refund, paid or failed; a succeeded one may still fail.
    pub fn end_refund(&self, refund: &str, paid: bool) -> anyhow::Result<Value> {
        let outcome = self
            .inner
            .change(|state| charges::end_refund(state, refund, paid, &Cause::default()));
        outcome.map_err(|failure| said(&failure))
    }

    /// Sends an event of any type with any object (disputes, types of later versions). Returns its id.
    pub fn emit(&self, kind: &str, object: Value) -> String {
        let outcome = self
            .inner
            .change(|state| Ok(state.emit(kind, object, None, &Cause::default())));
        outcome.unwrap_or_default()
    }
}

fn said(failure: &Failure) -> anyhow::Error {
    anyhow!("the double of Stripe refused: {}", failure.object())
}
