//! All objects of one double, the journal that keeps them across restarts, and the expanding of ids into objects.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    API_VERSION,
    error::Failure,
    model::{Charge, Delivery, Event, Intent, Method, Refund, Transaction},
};
use crate::chance::{self, Clock};

/// How long events are kept (Stripe: 30 days).
const KEEP_EVENTS: i64 = 30 * 86_400;
/// How long answers are kept by their idempotency key (Stripe: at least 24 h).
pub(super) const KEEP_KEYS: i64 = 86_400;

/// The answer first given under an idempotency key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) key: String,
    pub(super) created: i64,
    /// Method, path and parameters of the first call.
    pub(super) call: Value,
    /// The request id of the first call.
    pub(super) request: String,
    pub(super) status: u16,
    pub(super) body: Value,
}

/// One line of the journal: an object as it now is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
enum Line {
    Intent(Intent),
    Method(Method),
    Charge(Charge),
    Refund(Refund),
    Transaction(Transaction),
    Event(Event),
    Kept(Kept),
}

/// Objects in the order they were made, found by id.
#[derive(Debug)]
pub(super) struct Table<T> {
    rows: Vec<T>,
    index: HashMap<String, usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    /// The object of this id.
    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.index.get(id).and_then(|place| self.rows.get(*place))
    }

    /// All objects, oldest first.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.rows.iter()
    }

    fn put(&mut self, id: &str, row: T) {
        let place = self.index.get(id).copied();
        if let Some(slot) = place.and_then(|place| self.rows.get_mut(place)) {
            *slot = row;
            return;
        }
        self.index.insert(id.to_owned(), self.rows.len());
        self.rows.push(row);
    }
}

/// Who caused a change, for the event's `request`.
#[derive(Debug, Clone, Default)]
pub(super) struct Cause {
    pub(super) request: Option<String>,
    pub(super) idempotency_key: Option<String>,
}

/// The objects of a double.
pub(super) struct State {
    pub(super) intents: Table<Intent>,
    pub(super) methods: Table<Method>,
    pub(super) charges: Table<Charge>,
    pub(super) refunds: Table<Refund>,
    pub(super) transactions: Table<Transaction>,
    pub(super) events: Table<Event>,
    pub(super) kept: HashMap<String, Kept>,
    /// Events that nobody has taken for delivery yet.
    pub(super) outgoing: Vec<String>,
    clock: Clock,
    journal: Option<File>,
    unwritten: Vec<u8>,
}

impl State {
    /// An empty state, or the one of the journal at `file`, from which what is too old is dropped.
    pub(super) fn open(file: Option<&Path>, clock: Clock) -> anyhow::Result<Self> {
        let mut state = Self {
            intents: Table::default(),
            methods: Table::default(),
            charges: Table::default(),
            refunds: Table::default(),
            transactions: Table::default(),
            events: Table::default(),
            kept: HashMap::new(),
            outgoing: Vec::new(),
            clock,
            journal: None,
            unwritten: Vec::new(),
        };
        let Some(file) = file else { return Ok(state) };
        if file.exists() {
            state
                .read(file)
                .with_context(|| format!("failed to read {}", file.display()))?;
        }
        state
            .rewrite(file)
            .with_context(|| format!("failed to write {}", file.display()))?;
        Ok(state)
    }

    /// The double's time.
    pub(super) fn now(&self) -> i64 {
        (self.clock)()
    }

    fn read(&mut self, file: &Path) -> anyhow::Result<()> {
        for line in BufReader::new(File::open(file)?).lines() {
            let line = line?;
            // The last line may be cut short by a kill; what it said was never answered.
            let Ok(line) = serde_json::from_str::<Line>(&line) else {
                continue;
            };
            self.remember(line);
        }
        Ok(())
    }

    fn remember(&mut self, line: Line) {
        match line {
            Line::Intent(row) => self.intents.put(&row.id.clone(), row),
            Line::Method(row) => self.methods.put(&row.id.clone(), row),
            Line::Charge(row) => self.charges.put(&row.id.clone(), row),
            Line::Refund(row) => self.refunds.put(&row.id.clone(), row),
            Line::Transaction(row) => self.transactions.put(&row.id.clone(), row),
            Line::Event(row) if row.created + KEEP_EVENTS < self.now() => {}
            Line::Event(row) => self.events.put(&row.id.clone(), row),
            Line::Kept(row) if row.created + KEEP_KEYS < self.now() => {}
            Line::Kept(row) => {
                self.kept.insert(row.key.clone(), row);
            }
        }
    }

    /// Writes the journal anew, one line per object, and keeps it open for appending.
    fn rewrite(&mut self, file: &Path) -> anyhow::Result<()> {
        let mut text = Vec::new();
        self.methods
            .all()
            .for_each(|row| append(&mut text, &Line::Method(row.clone())));
        self.intents
            .all()
            .for_each(|row| append(&mut text, &Line::Intent(row.clone())));
        self.charges
            .all()
            .for_each(|row| append(&mut text, &Line::Charge(row.clone())));
        self.refunds
            .all()
            .for_each(|row| append(&mut text, &Line::Refund(row.clone())));
        self.transactions
            .all()
            .for_each(|row| append(&mut text, &Line::Transaction(row.clone())));
        self.events
            .all()
            .for_each(|row| append(&mut text, &Line::Event(row.clone())));
        self.kept
            .values()
            .for_each(|row| append(&mut text, &Line::Kept(row.clone())));
        crate::server::write_private(file, &text)?;
        self.journal = Some(File::options().append(true).open(file)?);
        Ok(())
    }

    fn note(&mut self, line: &Line) {
        if self.journal.is_some() {
            append(&mut self.unwritten, line);
        }
    }

    /// Appends what has changed to the journal. Called before a call is answered.
    pub(super) fn flush(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if self.unwritten.is_empty() {
            return;
        }
        if let Err(error) = journal.write_all(&self.unwritten) {
            tracing::warn!(%error, "stripe double could not write its journal");
        }
        self.unwritten.clear();
    }

    pub(super) fn save_intent(&mut self, row: Intent) {
        self.note(&Line::Intent(row.clone()));
        self.intents.put(&row.id.clone(), row);
    }

    pub(super) fn save_method(&mut self, row: Method) {
        self.note(&Line::Method(row.clone()));
        self.methods.put(&row.id.clone(), row);
    }

    pub(super) fn save_charge(&mut self, row: Charge) {
        self.note(&Line::Charge(row.clone()));
        self.charges.put(&row.id.clone(), row);
    }

    pub(super) fn save_refund(&mut self, row: Refund) {
        self.note(&Line::Refund(row.clone()));
        self.refunds.put(&row.id.clone(), row);
    }

    pub(super) fn save_transaction(&mut self, row: Transaction) {
        self.note(&Line::Transaction(row.clone()));
        self.transactions.put(&row.id.clone(), row);
    }

    pub(super) fn save_answer(&mut self, row: Kept) {
        self.note(&Line::Kept(row.clone()));
        self.kept.insert(row.key.clone(), row);
    }

    /// Notes how far the delivery of an event has come.
    pub(super) fn delivered(&mut self, event: &str, delivery: Delivery) {
        let Some(row) = self.events.get(event) else { return };
        let row = Event {
            delivery,
            ..row.clone()
        };
        self.note(&Line::Event(row.clone()));
        self.events.put(event, row);
        self.flush();
    }

    /// Says that something has happened to `object`.
    pub(super) fn emit(&mut self, kind: &str, object: Value, previous: Option<Value>, cause: &Cause) -> String {
        let event = Event {
            id: format!("evt_{}", chance::alphanumeric(24)),
            created: self.now(),
            kind: kind.to_owned(),
            object,
            previous,
            request: cause.request.clone(),
            idempotency_key: cause.idempotency_key.clone(),
            delivery: Delivery::Pending,
        };
        let id = event.id.clone();
        self.note(&Line::Event(event.clone()));
        self.events.put(&id, event);
        self.outgoing.push(id.clone());
        id
    }

    /// The object an id names, as the API writes it.
    pub(super) fn object(&self, id: &str) -> Option<Value> {
        match id.split_once('_')?.0 {
            "pi" => self.intents.get(id).map(Intent::render),
            "pm" => self.methods.get(id).map(Method::render),
            "ch" => self.charges.get(id).map(Charge::render),
            "re" => self.refunds.get(id).map(Refund::render),
            "txn" => self.transactions.get(id).map(|row| row.render(self.now())),
            "evt" => self.events.get(id).map(|row| row.render(API_VERSION)),
            _ => None,
        }
    }

    /// Replaces ids by the objects they name, along each path (`latest_charge.balance_transaction`).
    pub(super) fn expand(&self, mut object: Value, paths: &[String]) -> Result<Value, Failure> {
        for path in paths {
            let segments: Vec<&str> = path.split('.').collect();
            if segments.len() > 4 {
                let message = "You cannot expand more than 4 levels of a property.".to_owned();
                return Err(Failure::invalid("expand", message));
            }
            self.expand_path(&mut object, &segments, path)?;
        }
        Ok(object)
    }

    fn expand_path(&self, node: &mut Value, segments: &[&str], path: &str) -> Result<(), Failure> {
        const EXPANDABLE: [&str; 13] = [
            "application",
            "balance_transaction",
            "charge",
            "customer",
            "data",
            "invoice",
            "latest_charge",
            "on_behalf_of",
            "payment_intent",
            "payment_method",
            "review",
            "source",
            "transfer",
        ];
        let Some((segment, rest)) = segments.split_first() else {
            return Ok(());
        };
        if let Value::Array(items) = node {
            return items
                .iter_mut()
                .try_for_each(|item| self.expand_path(item, segments, path));
        }
        let slot = node.get_mut(*segment).filter(|_| EXPANDABLE.contains(segment));
        let Some(slot) = slot else {
            let message = format!("This property cannot be expanded ({path}).");
            return Err(Failure::invalid("expand", message));
        };
        if let Some(found) = slot.as_str().and_then(|id| self.object(id)) {
            *slot = found;
        }
        if slot.is_null() || rest.is_empty() {
            return Ok(());
        }
        self.expand_path(slot, rest, path)
    }
}

fn append(text: &mut Vec<u8>, line: &Line) {
    match serde_json::to_writer(&mut *text, line) {
        Ok(()) => text.push(b'\n'),
        Err(error) => tracing::warn!(%error, "stripe double could not write an object"),
    }
}
