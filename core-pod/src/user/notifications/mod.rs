//! Notifications: made in the transaction of what they tell of, read by their owner, pushed to open sockets.
//!
//! contract: core §5.8, §5.9, §7; docs/decisions/0052
//!
//! There is one way to make a notification, [`Notifications::create`]. Nothing else inserts into `users.notifications` or
//! publishes `notification.*`.

mod create;
mod handlers;
mod messages;
mod model;
mod preference_handlers;
mod preferences;
mod push;
mod store;

use std::sync::Arc;

use shared::{id::UserId, sources::Sources};
use sqlx::PgConnection;
use tokio::sync::Notify;
use utoipa_axum::router::OpenApiRouter;

use super::{User, UserState};

pub use create::{Created, Draft, Text};
pub use messages::News;
pub use model::Notification;
pub use preference_handlers::forget as forget_preferences;
pub use push::keep_pushing;

/// Makes notifications. Cheap to clone; clones wake the same pusher.
#[derive(Debug, Clone)]
pub struct Notifications {
    sources: Sources,
    waiting: Arc<Notify>,
}

impl Notifications {
    /// With this clock.
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            waiting: Arc::default(),
        }
    }

    /// Tells the pusher of this process that a transaction with a notification was committed. Forgetting it costs a second.
    pub fn wake(&self) {
        self.waiting.notify_one();
    }
}

/// Erases everything this area keeps of an account. May be repeated.
pub async fn erase(tx: &mut PgConnection, user: UserId) -> sqlx::Result<u64> {
    store::erase(tx, user).await
}

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::list, handlers::delete_read))
        .routes(shared::routes!(handlers::unread_count))
        .routes(shared::routes!(handlers::mark_all_read))
        .routes(shared::routes!(handlers::mark_read, handlers::put_read))
        .routes(shared::routes!(
            preference_handlers::read,
            preference_handlers::replace,
            preference_handlers::change
        ))
}

/// What other services ask for (core §2.8).
pub(super) fn internal_routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new().routes(shared::routes!(handlers::create))
}
