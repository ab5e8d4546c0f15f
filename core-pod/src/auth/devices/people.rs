//! How many people are there: what the number of replicas follows.
//!
//! contract: operations §6.10 (`dreamscape_concurrent_users`), §6.15 (the rule of core sums it over the replicas)
//!
//! Whoever uses the platform renews the access token once in its life, so the people who signed in or refreshed within the
//! last life of a token are those who are there. One replica says the number and the others say none, because the
//! replicas' figures are added.

use std::time::Duration;

use shared::{events::relay::Leading, lifecycle::Shutdown};

use crate::auth::{AuthState, store};

const COUNT_EVERY: Duration = Duration::from_secs(15);

/// The accounts with a session that was opened or refreshed within the life of an access token.
pub async fn count_people(state: &AuthState) -> sqlx::Result<i64> {
    let sessions = &state.config.sessions;
    let lives = [sessions.life(false), sessions.life(true)];
    store::count_active_people(state.db.pool(), lives, state.signer.access_ttl(), state.sources.now()).await
}

/// The job around [`count_people`].
pub async fn keep_counting_people(state: AuthState, leading: Leading, shutdown: Shutdown) -> anyhow::Result<()> {
    let gauge = metrics::gauge!("dreamscape_concurrent_users");
    loop {
        let people = if leading.is_ours() {
            count_people(&state).await?
        } else {
            0
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        gauge.set(people as f64);
        tokio::select! {
            () = shutdown.draining() => {
                gauge.set(0.0);
                return Ok(());
            }
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}
