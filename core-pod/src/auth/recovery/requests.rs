//! Requests for links, answered after the person who asked: whether there is such an account is looked up here, by a
//! worker, so that neither the answer nor the time it took can tell.
//!
//! contract: core §14 (202 in constant time), §7 (`auth.password.reset.requested`)

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use shared::{events::outbox, lifecycle::Shutdown};
use sqlx::PgConnection;
use tokio::sync::Notify;

use super::{
    issue,
    model::{Purpose, Request},
    store::{self, Recipient},
};
use crate::auth::{Auth, AuthState, events};

const BATCH: i64 = 20;
/// Links of one purpose that an account is sent within an hour, whoever asks.
const PER_HOUR: i64 = 3;
/// A look without having been rung for: another replica may have died with requests unanswered.
const POLL: Duration = Duration::from_secs(5);
const PURGE_EVERY: Duration = Duration::from_hours(1);
/// Tokens that ran out are kept this long.
const KEEP: TimeDelta = TimeDelta::days(7);

/// Rung by the handlers when there is a request. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Wakes the worker of this process.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// Answers one batch. Gives how many requests there were.
pub async fn answer_requests(state: &AuthState) -> sqlx::Result<usize> {
    let mut tx = state.db.begin().await?;
    let requests = store::take_requests(&mut tx, BATCH).await?;
    for request in &requests {
        answer(&mut tx, state, request).await?;
    }
    tx.commit().await?;
    Ok(requests.len())
}

async fn answer(tx: &mut PgConnection, state: &AuthState, request: &Request) -> sqlx::Result<()> {
    let AuthState { sources, .. } = state;
    let Some(recipient) = store::lock_recipient(tx, &request.email).await? else {
        return Ok(());
    };
    let Recipient {
        id,
        email,
        email_display,
        first_name,
        is_verified,
    } = recipient;
    let since = sources.now() - TimeDelta::hours(1);
    if store::count_tokens(tx, id, request.purpose, since).await? >= PER_HOUR {
        return Ok(());
    }
    let first_name = first_name.as_deref();
    match request.purpose {
        Purpose::ResetPassword => {
            let (hash, until) = issue::reset(tx, state, id, first_name, &email_display).await?;
            let told = events::password_reset_requested(sources, id, &email, &hex::encode(hash), until);
            outbox::append::<Auth>(tx, &[told]).await
        }
        Purpose::VerifyEmail if !is_verified => issue::verify(tx, state, id, first_name, &email_display).await,
        _ => Ok(()),
    }
}

/// Answers requests until the process drains.
pub async fn keep_answering(state: AuthState, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut purge = tokio::time::interval(PURGE_EVERY);
    loop {
        while !shutdown.is_draining() && answer_requests(&state).await? > 0 {}
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = state.bell.0.notified() => {}
            () = tokio::time::sleep(POLL) => {}
            _ = purge.tick() => {
                store::purge_tokens(state.db.pool(), state.sources.now() - KEEP).await?;
            }
        }
    }
}
