//! Closes sockets whose session is over, and all of them when the process drains.
//!
//! contract: core §2.5 and §5.10: within 30 s of a revocation, and 60 s after the end of the token unless a live
//! `ds_session` came with it; §12 (close sockets at shutdown); docs/decisions/0053
//!
//! One statement asks about the sessions of all sockets. When the database does not answer, Redis is asked about
//! revocations; when neither has answered for 25 s, sockets are closed: nothing stays open because it could not be checked.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use shared::{
    db::observed,
    id::SessionId,
    lifecycle::Shutdown,
    redis::{Redis, RedisError},
};
use socketioxide::socket::Sid;
use tokio::time::{Instant, MissedTickBehavior};

use super::{gate, identity::Identity, store};
use crate::user::UserState;

/// How long a socket may outlive its token, so that its client can come back with a new one.
const GRACE: TimeDelta = TimeDelta::seconds(60);
/// How long sockets may stay open without anybody being able to say whether they may.
const UNCHECKED: Duration = Duration::from_secs(25);
/// Questions to Redis at once.
const ABREAST: usize = 64;

/// Looks after open sockets; closes them all when the drain begins.
pub async fn keep_watching(state: UserState, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut due = tokio::time::interval(state.config.realtime.check_every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checked = Instant::now();
    loop {
        tokio::select! {
            _ = due.tick() => look(&state, &mut checked).await,
            () = shutdown.draining() => {
                state.realtime.close().await;
                return Ok(());
            }
        }
    }
}

async fn look(state: &UserState, checked: &mut Instant) {
    let open = state.realtime.0.sockets.all();
    if open.is_empty() {
        *checked = Instant::now();
        return;
    }
    let now = state.sources.now();
    match ended(state, &open, now).await {
        Ok(ended) => {
            *checked = Instant::now();
            close_over(state, &open, |identity| is_over(identity, &ended, now));
        }
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "the sessions of open sockets could not be checked"
            );
            if checked.elapsed() >= UNCHECKED {
                close_over(state, &open, |_| true);
            }
        }
    }
}

fn close_over(state: &UserState, open: &[(Sid, Identity)], is_over: impl Fn(&Identity) -> bool) {
    let over = open.iter().filter(|(_, identity)| is_over(identity));
    for (socket, identity) in over {
        tracing::debug!(user = %identity.user, "a socket is closed: its session is over");
        gate::close(&state.realtime.0.io, *socket);
    }
}

/// Whether a socket has to be closed.
fn is_over(identity: &Identity, ended: &HashSet<SessionId>, now: DateTime<Utc>) -> bool {
    if ended.contains(&identity.session) {
        return true;
    }
    let has_run_out = identity.expires_at.is_some_and(|end| now >= end + GRACE);
    let is_carried = identity.cookie.is_some_and(|session| !ended.contains(&session));
    has_run_out && !is_carried
}

/// The sessions of these sockets that are over.
async fn ended(state: &UserState, open: &[(Sid, Identity)], now: DateTime<Utc>) -> anyhow::Result<HashSet<SessionId>> {
    let sessions = open
        .iter()
        .flat_map(|(_, identity)| [Some(identity.session), identity.cookie])
        .flatten();
    let sessions: Vec<SessionId> = sessions.collect::<BTreeSet<_>>().into_iter().collect();
    let asked = store::ended_sessions(state.db.pool(), &sessions, now);
    match observed("user.realtime.ended_sessions", asked).await {
        Ok(ended) => Ok(ended.into_iter().collect()),
        Err(error) if state.redis.is_shared() => {
            tracing::debug!(
                error = error.to_string(),
                "asking redis about the sessions of open sockets"
            );
            Ok(revoked(&state.redis, sessions).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Those of which Redis knows that they were revoked.
async fn revoked(redis: &Redis, sessions: Vec<SessionId>) -> Result<HashSet<SessionId>, RedisError> {
    let asked = sessions.into_iter().map(|session| {
        let redis = redis.clone();
        async move {
            let flag = redis.get(&format!("revoked:sid:{session}")).await?;
            Ok::<_, RedisError>(flag.map(|_| session))
        }
    });
    let mut answers = futures_util::stream::iter(asked).buffer_unordered(ABREAST);
    let mut revoked = HashSet::new();
    while let Some(answer) = answers.next().await {
        revoked.extend(answer?);
    }
    Ok(revoked)
}

#[cfg(test)]
mod tests {
    use shared::id::UserId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_socket_lives_as_long_as_its_session_and_its_token_or_its_cookie() {
        let (session, cookie) = (SessionId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        let end = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let by_token = Identity {
            user: UserId(Uuid::from_u128(9)),
            session,
            expires_at: Some(end),
            cookie: None,
        };
        let carried = Identity {
            cookie: Some(cookie),
            ..by_token
        };
        let by_cookie = Identity {
            expires_at: None,
            ..by_token
        };
        let none = HashSet::new();
        let (during, after) = (end + TimeDelta::seconds(59), end + TimeDelta::seconds(60));
        for (identity, ended, now, over) in [
            (by_token, vec![], during, false),
            (by_token, vec![], after, true),
            (by_token, vec![session], end - TimeDelta::minutes(5), true),
            (carried, vec![], after + TimeDelta::days(1), false),
            (carried, vec![cookie], during, false),
            (carried, vec![cookie], after, true),
            (carried, vec![session], during, true),
            (by_cookie, vec![], after + TimeDelta::days(6), false),
            (by_cookie, vec![session], during, true),
        ] {
            let ended = ended.into_iter().collect();
            assert_eq!(is_over(&identity, &ended, now), over, "{identity:?} {ended:?} {now}");
        }
        assert!(!is_over(&by_token, &none, end));
    }
}
