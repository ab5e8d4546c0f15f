//! Who read and changed whose data.
//!
//! contract: core §10
//!
//! [`layer`] writes an entry for every access through the routes of the user service; a handler that knows more tells it
//! to its [`Trail`]. What does not come through a route is written by [`record`], in the transaction of the change.

mod handlers;
mod layer;
mod model;
mod queue;
mod store;
mod trail;

use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;

pub use layer::layer;
pub use model::{AccessorType, Action, Entry, digest};
pub use queue::Audit;
pub use store::purge;
pub use trail::Trail;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new().routes(shared::routes!(handlers::access_log))
}

/// Writes an entry in the caller's transaction: it stands if the change does.
pub async fn record(conn: &mut PgConnection, entry: &Entry) -> sqlx::Result<()> {
    store::insert(conn, std::slice::from_ref(entry)).await
}
