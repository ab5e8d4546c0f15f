//! SQL of privacy policies and their acceptance.
//!
//! contract: core §5.11, §11 (`privacy_policies`, `user_policy_acceptances`)

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::PgExecutor;

use crate::user::{
    gdpr::model::{Acceptance, AcceptanceId, Policy, PolicyId},
    origin::Origin,
};

/// The version in force.
pub async fn in_force(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<Option<Policy>> {
    sqlx::query_as!(
        Policy,
        r#"select id as "id: PolicyId", version, title, content, effective_at, created_at
           from users.privacy_policies
           where effective_at <= $1
           order by effective_at desc, created_at desc
           limit 1"#,
        now,
    )
    .fetch_optional(db)
    .await
}

/// All versions, newest first.
pub async fn versions(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Policy>> {
    sqlx::query_as!(
        Policy,
        r#"select id as "id: PolicyId", version, title, content, effective_at, created_at
           from users.privacy_policies
           order by effective_at desc, created_at desc"#,
    )
    .fetch_all(db)
    .await
}

/// Notes that a traveller accepts a version; `None` if there is no such version. Repeating it renews time and origin.
pub async fn accept(
    db: impl PgExecutor<'_>,
    id: AcceptanceId,
    user: UserId,
    policy: PolicyId,
    origin: &Origin,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Acceptance>> {
    sqlx::query_as!(
        Acceptance,
        r#"insert into users.policy_acceptances
               (id, user_id, policy_id, policy_version, accepted_at, ip_address, user_agent)
           select $1, $2, policy.id, policy.version, $4, $5, $6
           from users.privacy_policies as policy
           where policy.id = $3
           on conflict (user_id, policy_id) do update set
               accepted_at = excluded.accepted_at, ip_address = excluded.ip_address, user_agent = excluded.user_agent
           returning id as "id: AcceptanceId", user_id as "user_id: UserId", policy_id as "policy_id: PolicyId",
                     policy_version, accepted_at, ip_address, user_agent"#,
        id as AcceptanceId,
        user as UserId,
        policy as PolicyId,
        now,
        origin.ip_address,
        origin.user_agent,
    )
    .fetch_optional(db)
    .await
}
