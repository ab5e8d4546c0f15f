//! What searches leave behind: the event `voyage.search.performed` and the traveller's search history (voyage §8.2).
//!
//! Best effort: a search never waits for it and never fails because of it. Searches are buffered; a worker writes them in
//! batches, one transaction each, to the outbox and the history. When the buffer is full, searches are dropped and
//! counted (`voyage_search_log_dropped_total`). A caller who repeats one search over and over is noted so many times a
//! minute and no more (`docs/decisions/0031-repeated-searches.md`).

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, NaiveDate, Utc};
use moka::sync::Cache;
use serde::Serialize;
use shared::{
    Sources,
    db::Db,
    events::{NewEvent, Topic, outbox},
    http::current_request_id,
    id::UserId,
    lifecycle::Shutdown,
    sources::iso_millis,
};
use tokio::sync::{Mutex, mpsc};

use super::{params::Search, questions::Question, store};
use crate::voyage::{Voyage, supply::reference::Iata};

/// Searches written in one transaction.
const BATCH: usize = 200;
/// How long a search waits for others to share its transaction.
const GATHER: Duration = Duration::from_millis(100);

/// How often the same search of the same caller is noted within [`REPETITION`].
const NOTED: u32 = 10;
const REPETITION: Duration = Duration::from_mins(1);
/// Searches whose repetitions are counted at once.
const REMEMBERED: u64 = 20_000;

/// One search that took place.
#[derive(Debug)]
pub struct Performed {
    question: Arc<Question>,
    user: Option<UserId>,
    cached: bool,
    results: usize,
    at: DateTime<Utc>,
    correlation: Option<String>,
}

impl Performed {
    /// A search of the current request.
    pub fn new(question: Arc<Question>, user: Option<UserId>, cached: bool, results: usize, at: DateTime<Utc>) -> Self {
        Self {
            question,
            user,
            cached,
            results,
            at,
            correlation: current_request_id(),
        }
    }

    /// A row of the history; only travellers with an account have one.
    pub(super) fn history(&self) -> Option<(UserId, &Search, usize, DateTime<Utc>)> {
        Some((self.user?, &self.question.search, self.results, self.at))
    }

    fn event(&self, sources: &Sources) -> NewEvent {
        let search = &self.question.search;
        let query = &search.query;
        let search_id = search_id(sources);
        let at = iso_millis(self.at);
        let class = query.cabin.name();
        let (origin, destination) = (search.origin, search.destination);
        let payload = Payload {
            search_id: &search_id,
            user_id: self.user,
            session_id: self
                .user
                .map_or_else(|| "anonymous".to_owned(), |user| user.to_string()),
            search_type: "flight",
            criteria: Criteria {
                origin,
                destination,
                departure_date: query.departure,
                return_date: query.return_date,
                passengers: query.passengers.total(),
                class,
            },
            results_count: self.results,
            searched_at: &at,
            origin,
            destination,
            departure_date: query.departure,
            return_date: query.return_date,
            class,
            timestamp: &at,
            cached: self.cached,
        };
        NewEvent::at::<Voyage>(sources, self.at, Topic::VoyageSearchPerformed, &search_id, &payload)
            .correlated(self.correlation.clone())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    search_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    session_id: String,
    search_type: &'static str,
    criteria: Criteria,
    results_count: usize,
    searched_at: &'a str,
    // the same at the top level, where some readers look for it
    origin: Iata,
    destination: Iata,
    departure_date: NaiveDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_date: Option<NaiveDate>,
    class: &'static str,
    timestamp: &'a str,
    cached: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Criteria {
    origin: Iata,
    destination: Iata,
    departure_date: NaiveDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_date: Option<NaiveDate>,
    passengers: u8,
    class: &'static str,
}

/// `search-<ms>-<rnd>`.
pub fn search_id(sources: &Sources) -> String {
    let random = sources.code(b"0123456789abcdefghijklmnopqrstuvwxyz", 9);
    format!("search-{}-{random}", sources.now().timestamp_millis())
}

/// How often each caller has repeated each search lately. Clones share the counts.
#[derive(Debug, Clone)]
struct Repetitions(Cache<u64, Arc<AtomicU32>>);

impl Repetitions {
    fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(REPETITION)
                .build(),
        )
    }

    /// Counts a search; whether it is among those worth noting.
    fn is_noted(&self, search: &[u8; 16], caller: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (search, caller).hash(&mut hasher);
        let seen = self.0.get_with(hasher.finish(), Arc::default);
        seen.fetch_add(1, Ordering::Relaxed) < NOTED
    }
}

/// The buffer and its worker. Clones share it.
#[derive(Debug, Clone)]
pub struct SearchLog {
    sender: mpsc::Sender<Performed>,
    receiver: Arc<Mutex<mpsc::Receiver<Performed>>>,
    repetitions: Repetitions,
    db: Db<Voyage>,
    sources: Sources,
}

impl SearchLog {
    /// A buffer of so many searches.
    pub(super) fn new(db: Db<Voyage>, sources: Sources, capacity: usize) -> Self {
        let (sender, receiver) = mpsc::channel(capacity);
        Self {
            sender,
            receiver: Arc::new(Mutex::new(receiver)),
            repetitions: Repetitions::new(),
            db,
            sources,
        }
    }

    /// Whether a search of this caller is to be noted: not when it has only been repeated, again and again.
    pub fn wants(&self, search: &[u8; 16], caller: &str) -> bool {
        let noted = self.repetitions.is_noted(search, caller);
        if !noted {
            metrics::counter!("voyage_search_log_repeated_total").increment(1);
        }
        noted
    }

    /// Notes a search, or drops it when too many are waiting. Never waits.
    pub fn record(&self, performed: Performed) {
        if self.sender.try_send(performed).is_err() {
            metrics::counter!("voyage_search_log_dropped_total").increment(1);
        }
    }

    /// Writes what is waiting until the listeners have answered their last request, then the rest. To be supervised:
    /// an error means that the database is away; what was taken from the buffer is lost then, and said so.
    pub async fn run(&self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut receiver = self.receiver.lock().await;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let taken = tokio::select! {
                taken = receiver.recv_many(&mut batch, BATCH) => taken,
                () = shutdown.served() => break,
            };
            if taken == 0 {
                return Ok(());
            }
            if batch.len() < BATCH {
                // others are likely to follow within a moment; half of them cost hardly more than one
                tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = shutdown.served() => {}
                }
                while let Some(next) = (batch.len() < BATCH).then(|| receiver.try_recv().ok()).flatten() {
                    batch.push(next);
                }
            }
            self.write(&mut batch).await?;
        }
        while let Ok(next) = receiver.try_recv() {
            batch.push(next);
            if batch.len() == BATCH {
                self.write(&mut batch).await?;
            }
        }
        self.write(&mut batch).await
    }

    /// Writes all that is waiting now and tells how many searches it was.
    pub async fn flush(&self) -> anyhow::Result<usize> {
        let mut receiver = self.receiver.lock().await;
        let mut batch = Vec::new();
        while let Ok(next) = receiver.try_recv() {
            batch.push(next);
        }
        let count = batch.len();
        self.write(&mut batch).await?;
        Ok(count)
    }

    async fn write(&self, batch: &mut Vec<Performed>) -> anyhow::Result<()> {
        let searches = std::mem::take(batch);
        if searches.is_empty() {
            return Ok(());
        }
        let written = self.try_write(&searches).await;
        if let Err(error) = written {
            let count = u64::try_from(searches.len()).unwrap_or(u64::MAX);
            metrics::counter!("voyage_search_log_dropped_total").increment(count);
            return Err(anyhow::Error::new(error).context("failed to write performed searches"));
        }
        Ok(())
    }

    async fn try_write(&self, searches: &[Performed]) -> sqlx::Result<()> {
        let events: Vec<NewEvent> = searches
            .iter()
            .map(|performed| performed.event(&self.sources))
            .collect();
        let mut tx = self.db.begin().await?;
        store::insert_history(&mut tx, &self.sources, searches.iter().filter_map(Performed::history)).await?;
        outbox::append::<Voyage>(&mut tx, &events).await?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_only_repeated_is_noted_ten_times_a_minute() {
        let repetitions = Repetitions::new();
        let noted = (0..25)
            .filter(|_| repetitions.is_noted(&[1; 16], "ip:203.0.113.7"))
            .count();
        assert_eq!(noted, 10);
        assert!(repetitions.is_noted(&[1; 16], "ip:203.0.113.8"), "another caller");
        assert!(repetitions.is_noted(&[2; 16], "ip:203.0.113.7"), "another search");
    }
}
