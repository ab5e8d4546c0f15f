//! Signed webhooks: sent in order, tried again with growing pauses, and spoilt on request.
//!
//! contract: payment §6 (signature `t=…,v1=…` with the whole secret as key), §12 (scripted duplicate, delay, reorder,
//! drop, wrong secret, stale timestamp).

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::{mpsc, watch};

use super::{API_VERSION, Inner, model::Delivery};

/// How long the receiver may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How old a stale signature is: more than the five minutes a receiver accepts.
const STALE: i64 = 600;

/// The pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Before the second attempt; doubled each time.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
    /// How many attempts there are in all.
    pub attempts: u32,
}

impl Default for Backoff {
    /// From a fifth of a second to a minute, for about three days.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_mins(1),
            attempts: 4300,
        }
    }
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// The event.
    pub event: String,
    /// Its type.
    pub kind: String,
    /// What the receiver answered; `None` if it did not.
    pub status: Option<u16>,
}

/// What is done to an event on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twist {
    Drop,
    Duplicate,
    Delay(Duration),
    WrongSecret,
    Stale,
    Hold(usize),
}

/// How one attempt is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signing {
    Right,
    WrongSecret,
    Stale,
}

/// The sending side of the double. Taken from [`StripeDouble::webhooks`](super::StripeDouble::webhooks).
pub(super) struct Sender {
    url: Mutex<Option<String>>,
    secret: String,
    backoff: Backoff,
    only: Option<Vec<String>>,
    script: Mutex<VecDeque<(Option<String>, Twist)>>,
    held: Mutex<Option<(usize, Vec<String>)>>,
    log: Mutex<Vec<Attempted>>,
    paused: watch::Sender<bool>,
    open: AtomicUsize,
    queue: mpsc::UnboundedSender<String>,
    client: reqwest::Client,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// A sender and the queue its worker reads.
    pub(super) fn new(
        url: Option<String>,
        secret: String,
        backoff: Backoff,
        only: Option<Vec<String>>,
    ) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<String>)> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent("Stripe/1.0 (+https://stripe.com/docs/webhooks)")
            .build()?;
        let (queue, events) = mpsc::unbounded_channel();
        let sender = Self {
            url: Mutex::new(url),
            secret,
            backoff,
            only,
            script: Mutex::default(),
            held: Mutex::default(),
            log: Mutex::default(),
            paused: watch::Sender::new(false),
            open: AtomicUsize::new(0),
            queue,
            client,
        };
        Ok((sender, events))
    }

    /// Hands over an event for delivery.
    pub(super) fn enqueue(&self, event: String) {
        self.open.fetch_add(1, Ordering::SeqCst);
        if self.queue.send(event).is_err() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The client of the double, which uses no proxy.
    pub(super) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    fn close(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn twist(&self, kind: &str) -> Option<Twist> {
        let mut script = lock(&self.script);
        let place = script
            .iter()
            .position(|(only, _)| only.as_deref().is_none_or(|wanted| wanted == kind))?;
        script.remove(place).map(|(_, twist)| twist)
    }
}

/// Reads the queue until the double is gone. First attempts keep the order of events; repeats run beside it.
pub(super) async fn run(inner: Weak<Inner>, mut events: mpsc::UnboundedReceiver<String>) {
    while let Some(event) = events.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        route(&inner, event).await;
    }
}

async fn route(inner: &Arc<Inner>, event: String) {
    let Some(kind) = inner.state().events.get(&event).map(|row| row.kind.clone()) else {
        return inner.sender.close();
    };
    let wanted = inner.sender.only.as_ref().is_none_or(|kinds| kinds.contains(&kind));
    if lock(&inner.sender.url).is_none() || !wanted {
        inner.state().delivered(&event, Delivery::Delivered);
        return inner.sender.close();
    }
    wait_until_resumed(&inner.sender).await;
    let released = hold(&inner.sender, &event);
    match released {
        Held::Kept => return,
        Held::Released(events) => {
            for event in events {
                first_attempt(inner, event, Signing::Right).await;
            }
            return;
        }
        Held::NotHolding => {}
    }
    match inner.sender.twist(&kind) {
        None => first_attempt(inner, event, Signing::Right).await,
        Some(Twist::WrongSecret) => first_attempt(inner, event, Signing::WrongSecret).await,
        Some(Twist::Stale) => first_attempt(inner, event, Signing::Stale).await,
        Some(Twist::Drop) => {
            inner.state().delivered(&event, Delivery::Failed);
            inner.sender.close();
        }
        Some(Twist::Duplicate) => {
            inner.sender.open.fetch_add(1, Ordering::SeqCst);
            let twice = event.clone();
            tokio::join!(
                first_attempt(inner, event, Signing::Right),
                first_attempt(inner, twice, Signing::Right)
            );
        }
        Some(Twist::Delay(wait)) => {
            let inner = inner.clone();
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                first_attempt(&inner, event, Signing::Right).await;
            });
        }
        Some(Twist::Hold(count)) => *lock(&inner.sender.held) = Some((count.saturating_sub(1), vec![event])),
    }
}

enum Held {
    NotHolding,
    Kept,
    Released(Vec<String>),
}

/// Keeps the event back if events are being reordered; gives all back, last first, once there are enough.
fn hold(sender: &Sender, event: &str) -> Held {
    let mut held = lock(&sender.held);
    let Some((missing, mut events)) = held.take() else {
        return Held::NotHolding;
    };
    events.push(event.to_owned());
    if missing > 1 {
        *held = Some((missing - 1, events));
        return Held::Kept;
    }
    events.reverse();
    Held::Released(events)
}

async fn wait_until_resumed(sender: &Sender) {
    let mut paused = sender.paused.subscribe();
    let _ = paused.wait_for(|paused| !paused).await;
}

async fn first_attempt(inner: &Arc<Inner>, event: String, signing: Signing) {
    if attempt(inner, &event, signing).await {
        return inner.sender.close();
    }
    let weak = Arc::downgrade(inner);
    let backoff = inner.sender.backoff;
    tokio::spawn(async move {
        let mut pause = backoff.first;
        for _ in 1..backoff.attempts {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(backoff.longest);
            let Some(inner) = weak.upgrade() else { return };
            wait_until_resumed(&inner.sender).await;
            if attempt(&inner, &event, Signing::Right).await {
                return inner.sender.close();
            }
        }
        let Some(inner) = weak.upgrade() else { return };
        inner.state().delivered(&event, Delivery::Failed);
        inner.sender.close();
    });
}

/// One attempt; whether the receiver took the event.
async fn attempt(inner: &Inner, event: &str, signing: Signing) -> bool {
    let row = { inner.state().events.get(event).cloned() };
    let Some(row) = row else { return true };
    let Some(url) = lock(&inner.sender.url).clone() else {
        return false;
    };
    let body = serde_json::to_string_pretty(&row.render(API_VERSION)).unwrap_or_default();
    let now = inner.state().now();
    let header = match signing {
        Signing::Right => sign(&inner.sender.secret, now, body.as_bytes()),
        Signing::WrongSecret => sign("whsec_of_somebody_else", now, body.as_bytes()),
        Signing::Stale => sign(&inner.sender.secret, now - STALE, body.as_bytes()),
    };
    let request = inner
        .sender
        .client
        .post(url)
        .header("content-type", "application/json; charset=utf-8");
    let answer = request.header("stripe-signature", header).body(body).send().await;
    let status = answer.as_ref().ok().map(reqwest::Response::status);
    let attempted = Attempted {
        event: row.id,
        kind: row.kind,
        status: status.map(|status| status.as_u16()),
    };
    tracing::debug!(event = %attempted.event, kind = %attempted.kind, status = ?attempted.status, "webhook sent");
    lock(&inner.sender.log).push(attempted);
    let taken = status.is_some_and(|status| status.is_success());
    if taken {
        inner.state().delivered(event, Delivery::Delivered);
    }
    taken
}

/// The header `Stripe-Signature` for a body, with the whole secret (prefix included) as key.
///
/// Test mode adds a signature of the fake scheme `v0`, which receivers must ignore; so does this.
pub fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let right = mac(secret, timestamp, body);
    let fake = mac("v0", timestamp, body);
    format!("t={timestamp},v1={right},v0={fake}")
}

fn mac(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// The webhooks of a double, as a test steers them.
///
/// What is asked for applies to the next event, or with [`only`](Self::only) to the next of one type.
#[derive(Clone)]
pub struct Webhooks {
    inner: Arc<Inner>,
    only: Option<String>,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks")
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

impl Webhooks {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, only: None }
    }

    /// Restricts what follows to events of one type.
    #[must_use]
    pub fn only(&self, kind: &str) -> Self {
        Self {
            inner: self.inner.clone(),
            only: Some(kind.to_owned()),
        }
    }

    fn next(&self, twist: Twist) {
        lock(&self.inner.sender.script).push_back((self.only.clone(), twist));
    }

    /// Where events go. `None`: nobody listens.
    pub fn set_url(&self, url: Option<&str>) {
        *lock(&self.inner.sender.url) = url.map(str::to_owned);
    }

    /// The next event is lost; `GET /v1/events?delivery_success=false` still lists it.
    pub fn drop_next(&self) {
        self.next(Twist::Drop);
    }

    /// The next event is sent twice at the same moment.
    pub fn duplicate_next(&self) {
        self.next(Twist::Duplicate);
    }

    /// The next event comes late; those after it overtake it.
    pub fn delay_next(&self, wait: Duration) {
        self.next(Twist::Delay(wait));
    }

    /// The next `count` events come in reverse order.
    pub fn reorder_next(&self, count: usize) {
        if count > 1 {
            self.next(Twist::Hold(count));
        }
    }

    /// The first attempt at the next event is signed with another secret.
    pub fn wrong_secret_next(&self) {
        self.next(Twist::WrongSecret);
    }

    /// The first attempt at the next event is signed ten minutes ago.
    pub fn stale_next(&self) {
        self.next(Twist::Stale);
    }

    /// Nothing is sent until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.inner.sender.paused.send_replace(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.inner.sender.paused.send_replace(false);
    }

    /// Sends an event once more, whatever became of it.
    pub fn resend(&self, event: &str) {
        self.inner.sender.enqueue(event.to_owned());
    }

    /// Every attempt so far, oldest first.
    pub fn attempts(&self) -> Vec<Attempted> {
        let log = lock(&self.inner.sender.log);
        log.iter()
            .filter(|row| self.only.as_ref().is_none_or(|kind| row.kind == *kind))
            .cloned()
            .collect()
    }

    /// Waits until every event was taken, lost or given up; false if that did not happen `within` this time.
    pub async fn settled(&self, within: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        while self.inner.sender.open.load(Ordering::SeqCst) > 0 {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }
}
