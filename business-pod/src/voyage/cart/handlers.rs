//! The cart's routes (voyage §4.7): the caller's cart under `/cart`, and the same by path for signed-in callers.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use shared::{
    ApiError,
    http::{Body, Path, Query},
    id::CartItemId,
    idempotency::{self, BodyHash, IdempotencyKey, Scope},
};

use super::{
    model::{Owner, Proposal, parse_quantity, positive},
    wire::{AddBody, CartReply, ClaimBody, ClaimQuery, QuantityBody},
};
use crate::voyage::{
    Voyage, VoyageState,
    identity::{CartCaller, GuestSecret, Identity, claim_of, forget_guest},
    titled,
};

const ADDED: &str = "Item added to cart successfully";
const UPDATED: &str = "Cart item updated successfully";
const REMOVED: &str = "Item removed from cart successfully";
const CLEARED: &str = "Cart cleared successfully";
const EXTENDED: &str = "Cart expiry extended successfully";
const NONE: &str = "No active cart found";

/// The caller's cart.
#[utoipa::path(
    get, path = "/cart", tag = "cart", params(ClaimQuery), security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "the cart, or `data: null`", body = CartReply),
        (status = 401, description = "nobody is signed in and the browser has no anonymous cart"),
        (status = 403, description = "the claimed id is somebody else's"),
    )
)]
pub async fn get(
    caller: CartCaller,
    State(state): State<VoyageState>,
    Query(query): Query<ClaimQuery>,
) -> Result<Response, ApiError> {
    let identity = caller.identify(&[query.user_id.as_deref()])?;
    titled("Failed to get cart", read(&state, &identity).await)
}

async fn read(state: &VoyageState, identity: &Identity) -> Result<Response, ApiError> {
    let (cart, merged) = super::current(state, identity).await?;
    let reply = cart.map_or_else(
        || CartReply::none(NONE),
        |cart| CartReply::found(cart, state.sources.now()),
    );
    Ok(respond(
        StatusCode::OK,
        &reply,
        merged.then(|| forget_guest(state.config.secure_cookies)).flatten(),
    ))
}

/// Puts something into the cart.
#[utoipa::path(
    post, path = "/cart/items", tag = "cart", request_body = AddBody, params(ClaimQuery),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 201, description = "the cart with the line in it", body = CartReply),
        (status = 400, description = "a field is missing or wrong"),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "the claimed id is somebody else's"),
        (status = 409, description = "`OFFER_EXPIRED`: the offer is no longer valid"),
    )
)]
pub async fn add(
    caller: CartCaller,
    key: Option<IdempotencyKey>,
    State(state): State<VoyageState>,
    Query(query): Query<ClaimQuery>,
    Body(body): Body<AddBody>,
) -> Result<Response, ApiError> {
    let claim = claim_of(body.user_id.as_ref());
    let identity = caller.identify(&[claim.as_deref(), query.user_id.as_deref()])?;
    titled("Failed to add item to cart", put_in(&state, identity, key, body).await)
}

async fn put_in(
    state: &VoyageState,
    identity: Identity,
    key: Option<IdempotencyKey>,
    body: AddBody,
) -> Result<Response, ApiError> {
    let Some(caller) = identity.scope() else {
        return insert(state, identity, body).await;
    };
    let scope = Scope::new(caller, Method::POST, "/api/v1/cart/items");
    let hash = BodyHash::of(&(
        (&body.r#type, &body.item_type, &body.item_id),
        (&body.item_data, &body.price, &body.quantity, &body.currency),
    ));
    idempotency::run::<Voyage, _>(&state.db, &state.sources, key, &scope, hash, || {
        insert(state, identity, body)
    })
    .await
}

async fn insert(state: &VoyageState, identity: Identity, body: AddBody) -> Result<Response, ApiError> {
    let kind = body.r#type.or(body.item_type);
    let proposal = Proposal::parse(
        kind,
        body.item_id,
        body.item_data,
        body.price,
        body.quantity,
        body.currency,
    )?;
    let secure = state.config.secure_cookies;
    let mut cookie = super::settle_identity(state, &identity)
        .await?
        .then(|| forget_guest(secure))
        .flatten();
    let owner = if let Some(owner) = identity.owner() {
        // an anonymous cart in use keeps its cookie alive
        if identity.user.is_none() {
            cookie = identity.guest.as_ref().and_then(|guest| guest.cookie(secure));
        }
        owner
    } else {
        let secret = GuestSecret::new(&state.sources);
        cookie = secret.cookie(secure);
        Owner::Guest(secret.digest())
    };
    let session = identity.user.map(|caller| caller.session.to_string());
    let cart = super::add(state, &owner, session, proposal).await?;
    let reply = CartReply::changed(cart, state.sources.now(), ADDED);
    Ok(respond(StatusCode::CREATED, &reply, cookie))
}

/// Changes how many there are of a line.
#[utoipa::path(
    put, path = "/cart/items/{itemId}", tag = "cart", request_body = QuantityBody,
    params(("itemId" = String, Path, description = "the line"), ClaimQuery),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "the cart", body = CartReply),
        (status = 400, description = "not a quantity"),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "the claimed id is somebody else's"),
        (status = 404, description = "no such line in the caller's cart"),
    )
)]
pub async fn update(
    caller: CartCaller,
    State(state): State<VoyageState>,
    Path(line): Path<String>,
    Query(query): Query<ClaimQuery>,
    Body(body): Body<QuantityBody>,
) -> Result<Response, ApiError> {
    let claim = claim_of(body.user_id.as_ref());
    let identity = caller.identify(&[claim.as_deref(), query.user_id.as_deref()])?;
    change(&state, &identity, &line, body.quantity.as_ref()).await
}

async fn change(
    state: &VoyageState,
    identity: &Identity,
    line: &str,
    quantity: Option<&Value>,
) -> Result<Response, ApiError> {
    const TITLE: &str = "Failed to update cart item";
    let quantity = quantity.unwrap_or(&Value::Null);
    // before anything is looked up: a wrong quantity is 400 whatever line it names
    positive(quantity)?;
    let merged = titled(TITLE, super::settle_identity(state, identity).await)?;
    let (Some(owner), Ok(line)) = (identity.owner(), line.parse::<CartItemId>()) else {
        return Err(ApiError::not_found("Cart item not found").with_title(TITLE));
    };
    let parse = |kind| {
        let parsed = parse_quantity(kind, Some(quantity))?;
        parsed.ok_or_else(|| ApiError::bad_request("Quantity must be a positive integer"))
    };
    let cart = missing_or(TITLE, super::set_quantity(state, &owner, line, parse).await)?;
    Ok(changed(state, cart, UPDATED, merged))
}

/// Takes a line out.
#[utoipa::path(
    delete, path = "/cart/items/{itemId}", tag = "cart",
    params(("itemId" = String, Path, description = "the line"), ClaimQuery),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "the cart without the line", body = CartReply),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "the claimed id is somebody else's"),
        (status = 404, description = "no such line in the caller's cart"),
    )
)]
pub async fn remove(
    caller: CartCaller,
    State(state): State<VoyageState>,
    Path(line): Path<String>,
    Query(query): Query<ClaimQuery>,
) -> Result<Response, ApiError> {
    let identity = caller.identify(&[query.user_id.as_deref()])?;
    take_out(&state, &identity, &line).await
}

async fn take_out(state: &VoyageState, identity: &Identity, line: &str) -> Result<Response, ApiError> {
    const TITLE: &str = "Failed to remove cart item";
    let merged = titled(TITLE, super::settle_identity(state, identity).await)?;
    let (Some(owner), Ok(line)) = (identity.owner(), line.parse::<CartItemId>()) else {
        return Err(ApiError::not_found("Cart item not found").with_title(TITLE));
    };
    let cart = missing_or(TITLE, super::remove(state, &owner, line).await)?;
    Ok(changed(state, cart, REMOVED, merged))
}

/// Empties the cart. Also right when there is none.
#[utoipa::path(
    delete, path = "/cart", tag = "cart", params(ClaimQuery), security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "`data: null`", body = CartReply),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "the claimed id is somebody else's"),
    )
)]
pub async fn clear(
    caller: CartCaller,
    State(state): State<VoyageState>,
    Query(query): Query<ClaimQuery>,
) -> Result<Response, ApiError> {
    let identity = caller.identify(&[query.user_id.as_deref()])?;
    titled("Failed to clear cart", throw_away(&state, &identity).await)
}

async fn throw_away(state: &VoyageState, identity: &Identity) -> Result<Response, ApiError> {
    let merged = super::settle_identity(state, identity).await?;
    if let Some(owner) = identity.owner() {
        super::clear(state, &owner).await?;
    }
    let cookie = merged.then(|| forget_guest(state.config.secure_cookies)).flatten();
    Ok(respond(StatusCode::OK, &CartReply::none(CLEARED), cookie))
}

/// Gives the cart more time.
#[utoipa::path(
    put, path = "/cart/extend", tag = "cart", request_body = ClaimBody, params(ClaimQuery),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "the cart", body = CartReply),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "the claimed id is somebody else's"),
        (status = 404, description = "there is no cart"),
    )
)]
pub async fn extend(
    caller: CartCaller,
    State(state): State<VoyageState>,
    Query(query): Query<ClaimQuery>,
    Body(body): Body<ClaimBody>,
) -> Result<Response, ApiError> {
    let claim = claim_of(body.user_id.as_ref());
    let identity = caller.identify(&[claim.as_deref(), query.user_id.as_deref()])?;
    titled("Failed to extend cart", lengthen(&state, &identity).await)
}

async fn lengthen(state: &VoyageState, identity: &Identity) -> Result<Response, ApiError> {
    let merged = super::settle_identity(state, identity).await?;
    let owner = identity
        .owner()
        .ok_or_else(|| ApiError::not_found("Cart not found or expired"))?;
    let cart = super::extend(state, &owner).await?;
    Ok(changed(state, cart, EXTENDED, merged))
}

/// The same by path: `/cart/{userId}…` for the caller whose id it is, 404 for everybody else.
pub mod alias {
    use super::{
        AddBody, ApiError, Body, CartCaller, IdempotencyKey, Path, QuantityBody, Response, State, VoyageState, change,
        lengthen, put_in, read, take_out, throw_away, titled,
    };

    /// `GET /cart/{userId}`.
    pub async fn get(
        caller: CartCaller,
        State(state): State<VoyageState>,
        Path(user): Path<String>,
    ) -> Result<Response, ApiError> {
        let identity = caller.named_in_path(&user)?;
        titled("Failed to get cart", read(&state, &identity).await)
    }

    /// `DELETE /cart/{userId}`.
    pub async fn clear(
        caller: CartCaller,
        State(state): State<VoyageState>,
        Path(user): Path<String>,
    ) -> Result<Response, ApiError> {
        let identity = caller.named_in_path(&user)?;
        titled("Failed to clear cart", throw_away(&state, &identity).await)
    }

    /// `POST /cart/{userId}/items`.
    pub async fn add(
        caller: CartCaller,
        key: Option<IdempotencyKey>,
        State(state): State<VoyageState>,
        Path(user): Path<String>,
        Body(body): Body<AddBody>,
    ) -> Result<Response, ApiError> {
        let identity = caller.named_in_path(&user)?;
        titled("Failed to add item to cart", put_in(&state, identity, key, body).await)
    }

    /// `PUT` and `PATCH /cart/{userId}/items/{itemId}`.
    pub async fn update(
        caller: CartCaller,
        State(state): State<VoyageState>,
        Path((user, line)): Path<(String, String)>,
        Body(body): Body<QuantityBody>,
    ) -> Result<Response, ApiError> {
        let identity = caller.named_in_path(&user)?;
        change(&state, &identity, &line, body.quantity.as_ref()).await
    }

    /// `DELETE /cart/{userId}/items/{itemId}`.
    pub async fn remove(
        caller: CartCaller,
        State(state): State<VoyageState>,
        Path((user, line)): Path<(String, String)>,
    ) -> Result<Response, ApiError> {
        let identity = caller.named_in_path(&user)?;
        take_out(&state, &identity, &line).await
    }

    /// `PUT` and `POST /cart/{userId}/extend`.
    pub async fn extend(
        caller: CartCaller,
        State(state): State<VoyageState>,
        Path(user): Path<String>,
    ) -> Result<Response, ApiError> {
        let identity = caller.named_in_path(&user)?;
        titled("Failed to extend cart", lengthen(&state, &identity).await)
    }
}

fn changed(state: &VoyageState, cart: super::model::Cart, message: &'static str, merged: bool) -> Response {
    let reply = CartReply::changed(cart, state.sources.now(), message);
    respond(
        StatusCode::OK,
        &reply,
        merged.then(|| forget_guest(state.config.secure_cookies)).flatten(),
    )
}

/// 404 and failures carry the operation's title and say in `message` what is missing (voyage §4.7).
fn missing_or<T>(title: &'static str, result: Result<T, ApiError>) -> Result<T, ApiError> {
    titled(title, result).map_err(|error| match error.status() {
        StatusCode::NOT_FOUND => error.with_title(title),
        _ => error,
    })
}

fn respond(status: StatusCode, body: &impl Serialize, cookie: Option<HeaderValue>) -> Response {
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = cookie {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}
