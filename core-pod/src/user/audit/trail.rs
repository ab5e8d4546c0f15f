//! What a handler adds to the entry of its request.
//!
//! contract: core §10 (subject of admin routes, digests of admin mutations)

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde_json::Value;
use shared::id::UserId;
use uuid::Uuid;

use super::model::{digest, plain};

/// The entry being written about a request: an extractor for handlers that know more than the path says. Without the
/// layer around the router it leads nowhere.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    entry: Uuid,
    notes: Arc<Mutex<Notes>>,
}

/// What handlers have told.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    pub subject: Option<UserId>,
    pub resource_id: Option<String>,
    pub reason: Option<String>,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Trail {
    /// The trail of the entry with this id.
    pub(super) fn new(entry: Uuid) -> Self {
        Self {
            entry,
            notes: Arc::default(),
        }
    }

    /// Whom the data is about.
    pub fn about(&self, user: UserId) {
        self.note(|notes| notes.subject = Some(user));
    }

    /// Which resource it is, where the path does not say: one that was just made.
    pub fn resource(&self, id: &impl ToString) {
        let id = plain(&id.to_string());
        self.note(|notes| notes.resource_id = Some(id));
    }

    /// Why the caller did it.
    pub fn because(&self, reason: &str) {
        let reason = reason.chars().filter(|c| *c != '\0').take(1_000).collect();
        self.note(|notes| notes.reason = Some(reason));
    }

    /// What a change found and what it left; only digests are kept.
    pub fn changed(&self, before: &Value, after: &Value) {
        let (before, after) = (digest(self.entry, before), digest(self.entry, after));
        self.note(|notes| {
            notes.before = Some(before);
            notes.after = Some(after);
        });
    }

    /// All that was told.
    pub(super) fn notes(&self) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, write: impl FnOnce(&mut Notes)) {
        write(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Trail {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
