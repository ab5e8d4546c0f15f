//! Erasure of an account: a saga over everything that knows a traveller.
//!
//! contract: core §5.11 (grace), §5.12 (DELETE /users/:id), §14 (erasure pipeline)
//!
//! A deletion whose grace is over, or an administrator, begins an erasure: a row that survives any crash, with the address
//! to write to at the end. Its [`Step`]s are carried out in order; each may be repeated, and is noted when it is done.
//! Whatever stops in between is taken up by the next worker whose turn it is. Other services erase what they have when
//! they hear `user.deleted`.

mod steps;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::{ApiError, id::UserId, lifecycle::Shutdown};
use sqlx::PgConnection;

use super::{
    model::RequestId,
    store::erasures::{self as store, Claimed, NewErasure},
};
use crate::{auth::client::AccountError, user::UserState};

pub use steps::user_id_hash;

shared::typed_id! {
    /// An erasure, and later its certificate.
    ErasureId;
}

/// How long a claim holds; whoever was killed holds it no longer.
const LEASE: TimeDelta = TimeDelta::minutes(5);
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(15);
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);
/// The last administrator cannot go; whether there is another one by now is looked at once a day.
const ASK_AGAIN: TimeDelta = TimeDelta::days(1);
/// Between two looks of the worker.
const POLL: Duration = Duration::from_secs(30);
/// How long an administrator waits for the saga; what is left then is the worker's.
const INLINE: Duration = Duration::from_secs(8);

/// What has to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The account with its sessions and secrets: from here on nobody can sign in and add to it.
    Account,
    /// Pictures and exports.
    Objects,
    /// Every table of this service.
    Data,
    /// The other services and the traveller are told.
    Announce,
    /// The certificate.
    Certificate,
}

impl Step {
    /// All steps.
    pub const ORDER: [Self; 5] = [
        Self::Account,
        Self::Objects,
        Self::Data,
        Self::Announce,
        Self::Certificate,
    ];

    /// Its name in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Objects => "objects",
            Self::Data => "data",
            Self::Announce => "announce",
            Self::Certificate => "certificate",
        }
    }
}

/// What came of looking for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was due.
    Idle,
    /// An account is erased.
    Done,
    /// A step failed; the rest waits.
    Postponed,
    /// It is the last administrator's account, which stays.
    Refused,
}

/// Whom to write to when nothing else is left of them. Sealed wherever it is stored.
#[derive(Serialize, Deserialize)]
struct Contact {
    email: String,
    first_name: Option<String>,
    language: Option<String>,
}

/// Who wants an account gone.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Whose account.
    pub user: UserId,
    /// The traveller's request; `None`: an administrator's.
    pub request: Option<RequestId>,
    /// The administrator.
    pub actor: Option<UserId>,
    /// Why.
    pub reason: Option<&'a str>,
    /// Since when.
    pub requested_at: DateTime<Utc>,
}

/// Begins an erasure in the caller's transaction. `None`: there is no such account. Repeating it gives the one that is
/// under way.
pub async fn begin(
    conn: &mut PgConnection,
    state: &UserState,
    order: &Order<'_>,
) -> Result<Option<ErasureId>, ApiError> {
    let Some(addressee) = store::find_addressee(conn, order.user).await? else {
        return Ok(None);
    };
    let contact = Contact {
        email: addressee.email,
        first_name: addressee.first_name,
        language: addressee.language,
    };
    let plain = serde_json::to_vec(&contact).map_err(ApiError::internal)?;
    let contact = state
        .cipher
        .seal(&contact_context(order.user), &plain)
        .map_err(ApiError::internal)?;
    let new = NewErasure {
        id: state.sources.id(),
        user: order.user,
        request: order.request,
        origin: if order.request.is_some() { "request" } else { "admin" },
        actor: order.actor,
        reason: order.reason,
        contact: &contact,
        requested_at: order.requested_at,
        now: state.sources.now(),
    };
    Ok(Some(store::begin(conn, &new).await?))
}

fn contact_context(user: UserId) -> String {
    format!("users.erasures.contact:{user}")
}

/// Erases an account now, on behalf of an administrator: 404 if there is none, 409 for the last administrator's. When
/// this returns the account is gone or will be; what could not be done at once the worker does.
pub async fn start_now(
    state: &UserState,
    user: UserId,
    actor: UserId,
    reason: Option<&str>,
) -> Result<ErasureId, ApiError> {
    let order = Order {
        user,
        request: None,
        actor: Some(actor),
        reason,
        requested_at: state.sources.now(),
    };
    let mut tx = state.db.begin().await?;
    let begun = begin(&mut tx, state, &order).await?;
    let id = begun.ok_or(AccountError::NotFound)?;
    tx.commit().await?;
    match tokio::time::timeout(INLINE, run_one(state, Some(id))).await {
        Ok(Ok(Outcome::Refused)) => return Err(AccountError::LastAdmin.into()),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(erasure = %id, error = format!("{error:#}"), "erasure left to the worker"),
        Err(_elapsed) => tracing::info!(erasure = %id, "erasure takes long, left to the worker"),
    }
    Ok(id)
}

/// The worker: begins what is due and carries out what has begun, until the process drains.
pub async fn keep_erasing(state: UserState, shutdown: Shutdown) -> anyhow::Result<()> {
    while !shutdown.is_draining() {
        let begun = begin_due(&state).await?;
        if begun || run_one(&state, None).await? != Outcome::Idle {
            continue;
        }
        tokio::select! {
            () = shutdown.draining() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

/// Begins the erasure for one deletion whose grace is over. False: none is.
pub async fn begin_due(state: &UserState) -> anyhow::Result<bool> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let Some(due) = store::take_due(&mut tx, now).await? else {
        return Ok(false);
    };
    let order = Order {
        user: due.user,
        request: Some(due.id),
        actor: None,
        reason: due.reason.as_deref(),
        requested_at: due.requested_at,
    };
    if begin(&mut tx, state, &order).await?.is_none() {
        store::close_request(&mut tx, due.id, now).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Carries out one erasure as far as it goes: a certain one or any that is due.
pub async fn run_one(state: &UserState, only: Option<ErasureId>) -> anyhow::Result<Outcome> {
    let now = state.sources.now();
    let Some(job) = store::claim(state.db.pool(), only, now, now + LEASE).await? else {
        return Ok(Outcome::Idle);
    };
    match carry_out(state, &job).await {
        Ok(()) => {
            metrics::counter!("gdpr_erasures_total", "outcome" => "done").increment(1);
            tracing::info!(erasure = %job.id, "an account was erased");
            Ok(Outcome::Done)
        }
        Err(error) if is_last_admin(&error) => {
            tracing::error!(erasure = %job.id, user = %job.user, "the last administrator cannot be erased");
            let mut tx = state.db.begin().await?;
            store::abandon(&mut tx, &job, state.sources.now() + ASK_AGAIN).await?;
            tx.commit().await?;
            Ok(Outcome::Refused)
        }
        Err(error) => {
            metrics::counter!("gdpr_erasures_total", "outcome" => "postponed").increment(1);
            tracing::warn!(erasure = %job.id, attempt = job.attempts, error = format!("{error:#}"), "erasure postponed");
            store::postpone(state.db.pool(), &job, state.sources.now() + pause(job.attempts)).await?;
            Ok(Outcome::Postponed)
        }
    }
}

async fn carry_out(state: &UserState, job: &Claimed) -> anyhow::Result<()> {
    let done = store::steps_done(state.db.pool(), job.id).await?;
    for step in Step::ORDER {
        if !done.iter().any(|name| name == step.as_str()) {
            steps::perform(state, job, step).await?;
        }
    }
    Ok(())
}

fn is_last_admin(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<AccountError>(), Some(AccountError::LastAdmin))
}

/// 15 s, doubled with each attempt, at most an hour.
fn pause(attempts: i32) -> TimeDelta {
    let doubled = u32::try_from(attempts.saturating_sub(1).clamp(0, 10)).unwrap_or_default();
    (FIRST_PAUSE * (1 << doubled)).min(LONGEST_PAUSE)
}
