//! What the database knows about the sessions of open sockets.
//!
//! contract: core §2.3, §5.10

use chrono::{DateTime, Utc};
use shared::id::SessionId;
use sqlx::PgExecutor;

/// Which of these sessions are over: revoked, run out, or of an account that is suspended or gone.
pub async fn ended_sessions(
    db: impl PgExecutor<'_>,
    sessions: &[SessionId],
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<SessionId>> {
    let sessions: Vec<uuid::Uuid> = sessions.iter().map(|session| session.0).collect();
    sqlx::query_scalar!(
        r#"select ended as "ended!: SessionId" from auth.ended_sessions($1, $2) as ended"#,
        &sessions,
        now,
    )
    .fetch_all(db)
    .await
}
