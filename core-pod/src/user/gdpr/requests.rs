//! Making and taking back requests about data.
//!
//! contract: core §5.11, §1.10 (20 a day)

use axum::response::Response;
use http::HeaderMap;
use shared::{ApiError, auth::AuthUser, events::outbox, id::UserId};
use sqlx::PgConnection;

use super::{
    events,
    model::{GdprRequest, RequestId, RequestStatus, RequestType},
    store::{
        erasures,
        requests::{self as store, NewRequest},
    },
};
use crate::{
    mail::{Letter, NewMail},
    user::{User, UserState},
};

/// Between finding that there is an open deletion and reading it, it may be taken back.
const TRIES: usize = 5;

/// Counts a request of this caller; the headers that tell what is left, or 429.
pub async fn allowance(state: &UserState, caller: &AuthUser) -> Result<HeaderMap, ApiError> {
    let subject = format!("user:{}", caller.user);
    let decision = state.limiter.check(&state.config.gdpr.limit, &subject).await;
    Ok(decision.into_result()?.headers().into_iter().collect())
}

/// A response that also tells what is left of the allowance.
pub fn with_allowance(headers: HeaderMap, response: impl axum::response::IntoResponse) -> Response {
    let mut response = response.into_response();
    response.headers_mut().extend(headers);
    response
}

/// Asks for a copy of all data.
pub async fn ask_for_export(state: &UserState, user: UserId, reason: Option<&str>) -> Result<GdprRequest, ApiError> {
    let now = state.sources.now();
    let new = NewRequest {
        expires_at: Some(now + state.config.gdpr.export_life),
        next_attempt_at: Some(now),
        ..new_request(state, user, RequestType::DataExport, reason)
    };
    let mut tx = state.db.begin().await?;
    let request = store::insert(&mut tx, &new).await?.ok_or_else(not_stored)?;
    outbox::append::<User>(&mut tx, &[events::export_requested(&state.sources, &request)]).await?;
    tx.commit().await?;
    Ok(request)
}

/// Asks for the deletion of the account after the grace. While one is open, it is the answer.
pub async fn ask_for_deletion(state: &UserState, user: UserId, reason: Option<&str>) -> Result<GdprRequest, ApiError> {
    for _ in 0..TRIES {
        let new = NewRequest {
            execute_after: Some(state.sources.now() + state.config.gdpr.grace),
            ..new_request(state, user, RequestType::DataDeletion, reason)
        };
        let mut tx = state.db.begin().await?;
        if let Some(request) = store::insert(&mut tx, &new).await? {
            write_to(&mut tx, state, &request).await?;
            outbox::append::<User>(&mut tx, &[events::deletion_requested(&state.sources, &request)]).await?;
            tx.commit().await?;
            return Ok(request);
        }
        if let Some(open) = store::find_open_deletion(&mut *tx, user).await? {
            return Ok(open);
        }
    }
    Err(not_stored())
}

/// Tells the traveller when the account will be deleted: also whoever did not ask for it.
async fn write_to(conn: &mut PgConnection, state: &UserState, request: &GdprRequest) -> Result<(), ApiError> {
    let addressee = erasures::find_addressee(conn, request.user_id).await?;
    if let (Some(addressee), Some(at)) = (addressee, request.execute_after) {
        let letter = Letter::DeletionScheduled { at };
        let mail = NewMail::new(format!("gdpr.deletion:{}", request.id), addressee.email, letter)
            .for_user(request.user_id)
            .greeting(addressee.first_name.as_deref());
        state.mailer.enqueue(conn, &mail).await?;
    }
    Ok(())
}

/// Records a request that a person will work on.
pub async fn ask_a_person(
    state: &UserState,
    user: UserId,
    kind: RequestType,
    reason: Option<&str>,
) -> Result<GdprRequest, ApiError> {
    let mut conn = state.db.acquire().await?;
    let stored = store::insert(&mut conn, &new_request(state, user, kind, reason)).await?;
    stored.ok_or_else(not_stored)
}

/// A request of this caller: 404 if there is none, 403 if it is somebody else's.
pub async fn owned(state: &UserState, caller: &AuthUser, id: &str) -> Result<GdprRequest, ApiError> {
    let not_found = || ApiError::not_found("Request not found");
    let id: RequestId = id.parse().map_err(|_| not_found())?;
    let request = store::find(state.db.pool(), id).await?.ok_or_else(not_found)?;
    if request.user_id != caller.user {
        return Err(ApiError::forbidden("Access denied"));
    }
    Ok(request)
}

/// Takes a request back; what has begun or ended stays as it is. Repeating it changes nothing.
pub async fn cancel(state: &UserState, caller: &AuthUser, id: &str) -> Result<GdprRequest, ApiError> {
    let request = owned(state, caller, id).await?;
    let mut conn = state.db.acquire().await?;
    let now = state.sources.now();
    if let Some(cancelled) = store::cancel(&mut conn, request.id, caller.user, now).await? {
        return Ok(cancelled);
    }
    let request = store::find(&mut *conn, request.id).await?;
    match request {
        Some(request) if request.status == RequestStatus::Cancelled => Ok(request),
        _ => Err(ApiError::conflict(
            "REQUEST_NOT_PENDING",
            "This request can no longer be cancelled",
        )),
    }
}

fn new_request<'a>(state: &UserState, user: UserId, kind: RequestType, reason: Option<&'a str>) -> NewRequest<'a> {
    NewRequest {
        id: state.sources.id(),
        user,
        kind,
        reason,
        now: state.sources.now(),
        expires_at: None,
        execute_after: None,
        next_attempt_at: None,
    }
}

fn not_stored() -> ApiError {
    ApiError::internal(anyhow::anyhow!("the request was neither stored nor found"))
}
