//! `GET /admin/users/export`: accounts as a file.
//!
//! contract: core §5.12 (Users, CSV), §13 line 15

use axum::{extract::State, response::Response};
use shared::{ApiError, http::QueryMap};

use super::{model::Filter, store};
use crate::user::{
    UserState,
    admin::{
        access::Admin,
        sheet::{Rows, Sheet},
    },
};

/// Rows that a page can tick.
const MAX_IDS: usize = 1_000;

static SHEET: Sheet = Sheet {
    disposition: "attachment; filename=\"users-export.csv\"",
    header: &[
        "id",
        "email",
        "firstName",
        "lastName",
        "role",
        "isVerified",
        "isSuspended",
        "createdAt",
        "lastLoginAt",
        "bookingsCount",
        "revenueGenerated",
    ],
    quoted: false,
};

/// The accounts of a list, or those that were ticked, as a CSV file, at most 10 000.
#[utoipa::path(
    get, path = "/api/v1/admin/users/export", tag = "admin",
    params(
        ("ids" = Option<String>, Query, description = "only these: a comma list"),
        ("search" = Option<String>, Query, description = "as for the list; so are the other filters and the order"),
        ("role" = Option<String>, Query, description = "`USER`, `ADMIN`, `MODERATOR`"),
        ("status" = Option<String>, Query, description = "`active`, `suspended`"),
    ),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/csv"),
        (status = 400, description = "A date, role or status that is none, or too many ids"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn export(_: Admin, State(state): State<UserState>, query: QueryMap) -> Result<Response, ApiError> {
    let filter = Filter::read_for_export(&query, MAX_IDS)?;
    SHEET
        .respond(|mut rows: Rows| async move {
            let mut conn = state.db.acquire().await?;
            store::export(&mut conn, &filter, &mut rows).await?;
            Ok(rows)
        })
        .await
}
