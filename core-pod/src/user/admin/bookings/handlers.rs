//! The routes that read bookings.
//!
//! contract: core §5.12 (Bookings)

use axum::{Json, extract::State, response::Response};
use shared::{
    ApiError,
    http::{Path, QueryMap},
    id::BookingId,
};

use super::{
    model::{Booking, BookingDetail, BookingPage, Filter},
    store,
};
use crate::user::{
    UserState,
    admin::{
        access::Admin,
        answers::{Answer, Pagination},
        sheet::{Rows, Sheet},
        unread,
    },
    audit::Trail,
};

static SHEET: Sheet = Sheet {
    disposition: "attachment; filename=\"bookings-export.csv\"",
    header: &[
        "id",
        "reference",
        "type",
        "status",
        "destination",
        "userId",
        "userEmail",
        "totalAmount",
        "currency",
        "confirmedAt",
        "createdAt",
    ],
    quoted: true,
};

/// A page of bookings.
#[utoipa::path(
    get, path = "/api/v1/admin/bookings", tag = "admin",
    params(
        ("page" = Option<i64>, Query, description = "from 1"),
        ("limit" = Option<i64>, Query, description = "1 to 100, 50 if absent"),
        ("search" = Option<String>, Query, description = "part of a reference, of an address or of a name"),
        ("status" = Option<String>, Query, description = "one status"),
        ("type" = Option<String>, Query, description = "one kind"),
        ("startDate" = Option<String>, Query, description = "a date or an instant"),
        ("endDate" = Option<String>, Query, description = "a date (included) or an instant"),
        ("minAmount" = Option<f64>, Query, description = "major units"),
        ("maxAmount" = Option<f64>, Query, description = "major units"),
        ("destination" = Option<String>, Query, description = "part of the destination"),
        ("sortBy" = Option<String>, Query, description = "`createdAt` unless it is a known column"),
        ("sortOrder" = Option<String>, Query, description = "`asc`, else descending"),
    ),
    responses(
        (status = 200, description = "A page", body = Answer<BookingPage>),
        (status = 400, description = "A date, amount, status or kind that is none"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    _: Admin,
    State(state): State<UserState>,
    query: QueryMap,
) -> Result<Json<Answer<BookingPage>>, ApiError> {
    let filter = Filter::read(&query)?;
    let mut conn = state.db.acquire().await?;
    let (total, bookings) = store::list(&mut conn, &filter).await.map_err(unread)?;
    Ok(Answer::of(BookingPage {
        bookings,
        pagination: Pagination::new(filter.page, total),
    }))
}

/// The bookings of a list as a CSV file, at most 10 000.
#[utoipa::path(
    get, path = "/api/v1/admin/bookings/export", tag = "admin",
    params(
        ("search" = Option<String>, Query, description = "as for the list; so are the other filters and the order"),
        ("status" = Option<String>, Query, description = "one status"),
        ("type" = Option<String>, Query, description = "one kind"),
        ("destination" = Option<String>, Query, description = "part of the destination"),
    ),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/csv"),
        (status = 400, description = "A date, amount, status or kind that is none"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn export(_: Admin, State(state): State<UserState>, query: QueryMap) -> Result<Response, ApiError> {
    let filter = Filter::read(&query)?;
    SHEET
        .respond(|mut rows: Rows| async move {
            let mut conn = state.db.acquire().await?;
            store::export(&mut conn, &filter, &mut rows).await?;
            Ok(rows)
        })
        .await
}

/// One booking.
#[utoipa::path(
    get, path = "/api/v1/admin/bookings/{id}", tag = "admin",
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "The booking with its traveller and its payment", body = Answer<BookingDetail>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such booking"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn detail(
    _: Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
) -> Result<Json<Answer<BookingDetail>>, ApiError> {
    let mut conn = state.db.acquire().await?;
    let found = store::find_detail(&mut conn, booking_id(&id)?).await.map_err(unread)?;
    let detail = found.ok_or_else(missing)?;
    trail.about(detail.booking.user_id);
    Ok(Answer::of(detail))
}

/// The booking of a route.
pub async fn get(state: &UserState, id: &str) -> Result<Booking, ApiError> {
    let mut conn = state.db.acquire().await?;
    let found = store::find(&mut conn, booking_id(id)?).await.map_err(unread)?;
    found.ok_or_else(missing)
}

fn booking_id(text: &str) -> Result<BookingId, ApiError> {
    text.parse().map_err(|_| missing())
}

fn missing() -> ApiError {
    ApiError::not_found("Booking not found")
}
