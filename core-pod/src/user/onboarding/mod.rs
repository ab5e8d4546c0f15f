//! Travel onboarding: thirteen steps of questions, saved one by one.
//!
//! contract: core §5.5, §11; ai §6.1 (who waits for the events)
//!
//! What a request may write is a list of columns ([`answers`]), and nothing else reaches the database: the original handed
//! the request to its ORM, through which travellers could make themselves administrators (core §13, line 5).

pub(super) mod answers;
mod handlers;
mod model;
mod steps;
pub(super) mod store;

use shared::id::UserId;
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// Erases what this area keeps of an account. May be repeated.
pub async fn erase(tx: &mut PgConnection, user: UserId) -> sqlx::Result<bool> {
    store::delete(tx, user).await
}

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(
            handlers::read,
            handlers::begin,
            handlers::update,
            handlers::discard
        ))
        .routes(shared::routes!(handlers::begin_by_init))
        .routes(shared::routes!(handlers::save_step))
        .routes(shared::routes!(handlers::progress, handlers::save_progress))
        .routes(shared::routes!(handlers::complete))
}
