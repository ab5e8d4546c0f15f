//! A copy of everything that is known of a traveller.
//!
//! contract: core §5.11, §14 (GDPR export pipeline)
//!
//! A request is worked on by whoever claims it: first the request itself, for up to five seconds, then any worker. All
//! sections are collected or none: while one of them cannot be had (the Business Pod has not published its views, object
//! storage is away) the request stays open and is tried again. The file is sealed and lies in object storage until it
//! expires.

mod archive;
mod business;
mod collect;

use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use chrono::TimeDelta;
use shared::{http::streamed, lifecycle::Shutdown, objects::Kind};

use super::{
    model::RequestId,
    store::exports::{self as store, Claimed},
};
use crate::{
    fault,
    mail::{Letter, NewMail},
    user::UserState,
};

/// How long the request itself works on its export.
const INLINE: Duration = Duration::from_secs(5);
/// How long a claim holds; whoever was killed holds it no longer.
const LEASE: TimeDelta = TimeDelta::minutes(2);
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(15);
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);
/// Between two looks of the worker.
const POLL: Duration = Duration::from_secs(5);

/// What came of looking for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was due.
    Idle,
    /// An export is ready.
    Done,
    /// An export could not be made now and waits.
    Postponed,
}

/// Works on an export that was just asked for, but not for long.
pub async fn inline(state: &UserState, id: RequestId) {
    match tokio::time::timeout(INLINE, run_one(state, Some(id))).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(request = %id, error = format!("{error:#}"), "export left to the worker"),
        Err(_elapsed) => tracing::info!(request = %id, "export takes long, left to the worker"),
    }
}

/// The worker: takes what is due until the process drains.
pub async fn keep_exporting(state: UserState, shutdown: Shutdown) -> anyhow::Result<()> {
    while !shutdown.is_draining() {
        if run_one(&state, None).await? != Outcome::Idle {
            continue;
        }
        tokio::select! {
            () = shutdown.draining() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

/// Makes one export that is due: a certain one or any.
pub async fn run_one(state: &UserState, only: Option<RequestId>) -> anyhow::Result<Outcome> {
    let now = state.sources.now();
    let Some(job) = store::claim(state.db.pool(), only, now, now + LEASE).await? else {
        return Ok(Outcome::Idle);
    };
    match make(state, &job).await {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => {
            metrics::counter!("gdpr_exports_total", "outcome" => "postponed").increment(1);
            tracing::warn!(request = %job.id, attempt = job.attempts, error = format!("{error:#}"), "export postponed");
            store::release(state.db.pool(), &job, state.sources.now() + pause(job.attempts)).await?;
            Ok(Outcome::Postponed)
        }
    }
}

/// 15 s, doubled with each attempt, at most an hour.
fn pause(attempts: i32) -> TimeDelta {
    let doubled = u32::try_from(attempts.saturating_sub(1).clamp(0, 10)).unwrap_or_default();
    (FIRST_PAUSE * (1 << doubled)).min(LONGEST_PAUSE)
}

/// Collects, seals, stores, and tells the traveller. Repeating it writes the same object again.
async fn make(state: &UserState, job: &Claimed) -> anyhow::Result<()> {
    let account = state.accounts.find(job.user).await?.context("the account is gone")?;
    let content = collect::everything(state, job, &account).await?;
    let (cipher, id) = (state.cipher.clone(), job.id);
    let sealed = tokio::task::spawn_blocking(move || {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(&content)?);
        Ok::<_, anyhow::Error>(archive::seal(&cipher, id, &plain)?)
    })
    .await??;
    let key = object_key(job);
    let kind = Kind::of("application/octet-stream");
    state.objects.put(&key, &kind, sealed).await?;
    fault::point("export.stored").await;

    let mut tx = state.db.begin().await?;
    if !store::complete(&mut tx, job, &key, state.sources.now()).await? {
        drop(tx);
        tracing::info!(request = %job.id, "export was not wanted any more");
        if store::find_stored(state.db.pool(), job.id).await?.is_none() {
            state.objects.delete(&key).await?;
        }
        return Ok(());
    }
    let letter = Letter::ExportReady { until: job.expires_at };
    let mail = NewMail::new(format!("gdpr.export:{}", job.id), &account.email_display, letter)
        .for_user(job.user)
        .greeting(account.first_name.as_deref());
    state.mailer.enqueue(&mut tx, &mail).await?;
    fault::point("export.completed").await;
    tx.commit().await?;
    metrics::counter!("gdpr_exports_total", "outcome" => "done").increment(1);
    Ok(())
}

/// All exports of a traveller have this prefix, so that an erasure finds them.
pub fn object_prefix(user: shared::id::UserId) -> String {
    format!("exports/{user}/")
}

fn object_key(job: &Claimed) -> String {
    format!("{}{}", object_prefix(job.user), job.id)
}

/// The plain export as the body of a download; `None` if the object is not there.
pub async fn download(state: &UserState, id: RequestId, key: &str) -> Result<Option<Body>, shared::ApiError> {
    let Some(object) = state.objects.get(key).await? else {
        return Ok(None);
    };
    let plain = archive::open(state.cipher.clone(), id, object.body);
    Ok(Some(streamed(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_hour() {
        let seconds: Vec<_> = [1, 2, 3, 9, 1_000, i32::MAX]
            .map(|attempt| pause(attempt).num_seconds())
            .into();
        assert_eq!(seconds, [15, 30, 60, 3_600, 3_600, 3_600]);
    }
}
