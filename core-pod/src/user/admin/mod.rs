//! Users, bookings, payments and the dashboard, for administrators.
//!
//! contract: core §5.12, §2.7
//!
//! Accounts belong to auth, bookings and payments to the Business Pod. Here they are read through the views that their owners
//! publish, each list in one statement for the rows and one for their number; every change is asked of the owner: accounts
//! through [`Accounts`](crate::auth::client::Accounts), bookings and payments through [`Business`]. What is read and changed is
//! in the log of accesses (core §10).

mod access;
mod answers;
mod bookings;
mod business;
mod dashboard;
mod list;
mod payments;
mod sheet;
mod users;

use shared::{ApiError, db};
use utoipa_axum::router::OpenApiRouter;

pub use business::Business;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .merge(dashboard::routes())
        .merge(users::routes())
        .merge(bookings::routes())
        .merge(payments::routes())
}

/// A failed read. The views of another pod may come later than this one: then trying again is right.
fn unread(error: sqlx::Error) -> ApiError {
    if db::is_behind_the_code(&error) {
        ApiError::unavailable(error)
    } else {
        error.into()
    }
}
