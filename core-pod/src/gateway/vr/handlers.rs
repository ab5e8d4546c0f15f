//! The routes of PINs, links and pictures.
//!
//! contract: core §3.5, §1.10 (10 creations and 10 look-ups a minute, 20 wrong PINs in 10 minutes), experience b.4

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use qrcode::{EcLevel, QrCode, render::svg};
use serde::Serialize;
use serde_json::Value;
use shared::{
    ApiError,
    http::{
        ClientAddress,
        extract::parse_json,
        limit::{self, Subject},
    },
};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    link::{Terms, Token},
    model::{LIFE, Pin, Place, TOMBSTONE},
    store::{self, NewPin, Redeemed},
};
use crate::gateway::GatewayState;

/// PINs tried before giving up: with a million to choose from the second is nearly always free.
const DRAWS: usize = 32;
const MAX_LINK_SECONDS: i64 = 3_600;
const MAX_LINK_USES: i64 = 100;

struct Groups {
    create: OpenApiRouter<GatewayState>,
    redeem: OpenApiRouter<GatewayState>,
    pictures: OpenApiRouter<GatewayState>,
}

impl Groups {
    fn new() -> Self {
        Self {
            create: OpenApiRouter::new()
                .routes(shared::routes!(create_session))
                .routes(shared::routes!(create_link)),
            redeem: OpenApiRouter::new()
                .routes(shared::routes!(redeem_session))
                .routes(shared::routes!(withdraw_session))
                .routes(shared::routes!(verify_link)),
            pictures: OpenApiRouter::new().routes(shared::routes!(picture)),
        }
    }
}

/// All routes.
pub fn routes(state: &GatewayState) -> Router {
    let Groups {
        create,
        redeem,
        pictures,
    } = Groups::new();
    let rules = &state.config.vr;
    let limited = |rule| limit::layer(state.limiter.clone(), rule, Subject::Address);
    let all = create
        .route_layer(limited(rules.create))
        .merge(redeem.route_layer(limited(rules.redeem)))
        .merge(pictures);
    Router::from(all.with_state(state.clone()))
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let Groups {
        create,
        redeem,
        pictures,
    } = Groups::new();
    create.merge(redeem).merge(pictures).into_openapi()
}

/// What a page asks for. Read by hand: whatever is wrong with it has one text, the one clients know.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
struct NewSession {
    /// Where the headset shall go: 1 to 64 letters, digits, blanks, `-`, `_`.
    #[schema(min_length = 1, max_length = 64, example = "paris")]
    destination: String,
}

#[derive(Serialize, ToSchema)]
struct Created {
    /// Always true.
    success: bool,
    data: CreatedSession,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedSession {
    /// Six digits.
    #[schema(example = "483920")]
    pin: String,
    destination: String,
    /// Milliseconds since 1970.
    expires_at: i64,
    /// Withdraws the PIN.
    owner_token: String,
    /// The pairing.
    session_id: String,
    /// What to open on the headset.
    redirect_url: String,
    /// A QR code of the same.
    qr_svg_url: String,
}

/// A PIN that opens a destination on a headset, once, within ten minutes.
#[utoipa::path(
    post, path = "/api/v1/vr/sessions", tag = "vr", operation_id = "createVrSession",
    request_body(content((NewSession = "application/json"), (NewSession = "application/x-www-form-urlencoded"))),
    responses(
        (status = 201, description = "The PIN", body = Created),
        (status = 400, description = "No destination"),
        (status = 403, description = "A form of another site"),
        (status = 429, description = "Ten a minute"),
        (status = 503, description = "PINs cannot be kept now"),
    ),
    security(()),
)]
async fn create_session(
    State(state): State<GatewayState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let body = fields(&state, &headers, &body)?;
    let destination = body
        .get("destination")
        .and_then(Value::as_str)
        .and_then(Place::parse)
        .ok_or_else(|| ApiError::bad_request("Missing or invalid \"destination\" field"))?;
    let now = state.sources.now();
    let expires_at = now + LIFE;
    let (owner, session) = (state.sources.secret(), state.sources.uuid_v4().simple().to_string());
    let new = NewPin {
        destination: &destination,
        created_at: now,
        expires_at,
        owner: &owner,
        session: &session,
    };
    let mut made = None;
    for _ in 0..DRAWS {
        let pin = Pin::draw(&state.sources);
        if store::create(&state.redis, &pin, &new).await? {
            made = Some(pin);
            break;
        }
    }
    let pin = made.ok_or_else(|| ApiError::unavailable(anyhow::anyhow!("no PIN is free")))?;
    let redirect_url = state.config.vr.panorama_with(&[("pin", pin.as_str())]);
    store::keep_picture(&state.redis, &session, &redirect_url, LIFE).await?;
    let data = CreatedSession {
        pin: pin.as_str().to_owned(),
        destination: destination.as_str().to_owned(),
        expires_at: expires_at.timestamp_millis(),
        owner_token: owner,
        qr_svg_url: picture_url(&session),
        session_id: session,
        redirect_url,
    };
    Ok((StatusCode::CREATED, Json(Created { success: true, data })).into_response())
}

#[derive(Serialize, ToSchema)]
struct Opened {
    /// Always true.
    success: bool,
    data: OpenedSession,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OpenedSession {
    destination: String,
    /// Always true.
    #[serde(rename = "autoVR")]
    auto_vr: bool,
}

/// Redeems a PIN. Exactly one reader gets the destination.
#[utoipa::path(
    get, path = "/api/v1/vr/sessions/{pin}", tag = "vr", operation_id = "redeemVrSession",
    params(("pin" = String, Path, description = "Six digits")),
    responses(
        (status = 200, description = "Where to go", body = Opened),
        (status = 400, description = "Not six digits"),
        (status = 404, description = "No such PIN"),
        (status = 409, description = "Somebody was here before"),
        (status = 410, description = "Its ten minutes are over, or its creator withdrew it"),
        (status = 429, description = "Ten a minute; twenty wrong ones shut an address out for ten minutes"),
        (status = 503, description = "PINs cannot be looked up now"),
    ),
    security(()),
)]
async fn redeem_session(
    method: Method,
    client: ClientAddress,
    State(state): State<GatewayState>,
    Path(pin): Path<String>,
) -> Result<Json<Opened>, ApiError> {
    let subject = client.limit_subject();
    admit_guess(&state, &subject).await?;
    let pin = Pin::parse(&pin).ok_or_else(|| ApiError::bad_request("PIN must be 6 digits"))?;
    // HEAD answers like GET, but only a reader of the answer uses the PIN up
    let consume = method != Method::HEAD;
    match store::redeem(&state.redis, &pin, state.sources.now(), consume).await? {
        Redeemed::Live(destination) => Ok(Json(Opened {
            success: true,
            data: OpenedSession {
                destination,
                auto_vr: true,
            },
        })),
        Redeemed::Used => Err(ApiError::conflict("PIN_USED", "PIN already used")),
        Redeemed::Expired => Err(gone("PIN_EXPIRED", "PIN expired")),
        Redeemed::Unknown => {
            state.guesses.count(&subject).await?;
            Err(ApiError::not_found("PIN not found").with_code("PIN_NOT_FOUND"))
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Withdrawn {
    /// Always true.
    success: bool,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
struct Ownership {
    /// From the answer that made the PIN.
    owner_token: String,
}

/// Withdraws a PIN: its creator's `ownerToken` comes in the body or in the header `X-Owner-Token`.
#[utoipa::path(
    delete, path = "/api/v1/vr/sessions/{pin}", tag = "vr", operation_id = "withdrawVrSession",
    params(("pin" = String, Path, description = "Six digits")),
    request_body(content = Ownership),
    responses(
        (status = 200, description = "Nobody can redeem it any more", body = Withdrawn),
        (status = 404, description = "No such PIN, or another's"),
        (status = 429, description = "Ten a minute"),
        (status = 503, description = "PINs cannot be looked up now"),
    ),
    security(()),
)]
async fn withdraw_session(
    client: ClientAddress,
    State(state): State<GatewayState>,
    Path(pin): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Withdrawn>, ApiError> {
    const OWNER: HeaderName = HeaderName::from_static("x-owner-token");
    let subject = client.limit_subject();
    admit_guess(&state, &subject).await?;
    let body = fields(&state, &headers, &body)?;
    let in_body = body.get("ownerToken").and_then(Value::as_str);
    let owner = in_body.or_else(|| headers.get(OWNER).and_then(|value| value.to_str().ok()));
    if let (Some(pin), Some(owner)) = (Pin::parse(&pin), owner)
        && store::withdraw(&state.redis, &pin, owner).await?
    {
        return Ok(Json(Withdrawn { success: true }));
    }
    state.guesses.count(&subject).await?;
    Err(ApiError::not_found("PIN not found").with_code("PIN_NOT_FOUND"))
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
struct NewLink {
    /// Where the link goes.
    #[schema(min_length = 1, max_length = 64)]
    destination: String,
    /// A scene of it.
    scene: Option<String>,
    /// Its life in seconds; ten minutes if absent.
    #[schema(minimum = 1, maximum = 3600)]
    ttl: Option<i64>,
    /// How often it may be used; once if absent.
    #[schema(minimum = 1, maximum = 100)]
    uses: Option<i64>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Link {
    /// Always true.
    success: bool,
    url: String,
    token: String,
    /// Milliseconds since 1970.
    expires_at: i64,
    qr_svg_url: String,
}

/// A signed link that opens a destination on another device.
#[utoipa::path(
    post, path = "/api/v1/vr/links", tag = "vr", operation_id = "createVrLink",
    request_body = NewLink,
    responses(
        (status = 201, description = "The link", body = Link),
        (status = 400, description = "No destination, or a life or a number of uses out of range"),
        (status = 429, description = "Ten a minute"),
        (status = 503, description = "Links cannot be kept now"),
    ),
    security(()),
)]
async fn create_link(State(state): State<GatewayState>, headers: HeaderMap, body: Bytes) -> Result<Response, ApiError> {
    let body = fields(&state, &headers, &body)?;
    let (destination, scene) = places(&body)?;
    let ttl = whole(&body, "ttl", 600, MAX_LINK_SECONDS)?;
    let uses = whole(&body, "uses", 1, MAX_LINK_USES)?;
    let life = Duration::from_secs(ttl.unsigned_abs());
    let now = state.sources.now();
    let expires_at = (now + life).timestamp_millis();
    let terms = Terms {
        destination: &destination,
        scene: scene.as_ref(),
        expires: expires_at,
    };
    let key = store::link_key(&state.redis, &state.sources.secret()).await?;
    let token = Token::issue(&key, &terms, now.timestamp_millis(), &state.sources)
        .ok_or_else(|| ApiError::internal(anyhow::anyhow!("the link could not be signed")))?;
    let uses = u32::try_from(uses).unwrap_or(1);
    store::keep_link(&state.redis, &token.id, uses, life + TOMBSTONE).await?;

    let exp = expires_at.to_string();
    let mut query = vec![
        ("destination", destination.as_str()),
        ("token", token.text.as_str()),
        ("exp", exp.as_str()),
        ("autoVR", "true"),
    ];
    if let Some(scene) = &scene {
        query.insert(1, ("scene", scene.as_str()));
    }
    let url = state.config.vr.panorama_with(&query);
    store::keep_picture(&state.redis, &token.id, &url, life).await?;
    let link = Link {
        success: true,
        url,
        expires_at,
        qr_svg_url: picture_url(&token.id),
        token: token.text,
    };
    Ok((StatusCode::CREATED, Json(link)).into_response())
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
struct LinkToVerify {
    token: String,
    destination: String,
    scene: Option<String>,
    /// Milliseconds since 1970, as in the link.
    exp: i64,
}

#[derive(Serialize, ToSchema)]
struct VerifiedLink {
    /// Always true.
    success: bool,
    /// Always true.
    valid: bool,
    destination: String,
    #[serde(rename = "autoVR")]
    auto_vr: bool,
}

/// Uses a link.
#[utoipa::path(
    post, path = "/api/v1/vr/links/verify", tag = "vr", operation_id = "verifyVrLink",
    request_body = LinkToVerify,
    responses(
        (status = 200, description = "It was good, and is used", body = VerifiedLink),
        (status = 400, description = "Something is missing"),
        (status = 403, description = "Not one of ours, or for something else"),
        (status = 409, description = "Used as often as it may be"),
        (status = 410, description = "Over"),
        (status = 429, description = "Ten a minute"),
        (status = 503, description = "Links cannot be looked up now"),
    ),
    security(()),
)]
async fn verify_link(
    State(state): State<GatewayState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<VerifiedLink>, ApiError> {
    let body = fields(&state, &headers, &body)?;
    let (destination, scene) = places(&body)?;
    let text = body
        .get("token")
        .and_then(Value::as_str)
        .ok_or_else(|| ApiError::bad_request("Missing or invalid \"token\" field"))?;
    // browsers take it from the address, where it is text
    let expires = body.get("exp").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    });
    let expires = expires.ok_or_else(|| ApiError::bad_request("Missing or invalid \"exp\" field"))?;
    let terms = Terms {
        destination: &destination,
        scene: scene.as_ref(),
        expires,
    };
    let key = store::link_key(&state.redis, &state.sources.secret()).await?;
    let token = Token::verify(&key, text, &terms).ok_or_else(|| ApiError::forbidden("Invalid link"))?;
    if state.sources.now().timestamp_millis() >= expires {
        return Err(gone("LINK_EXPIRED", "Link expired"));
    }
    match store::use_link(&state.redis, &token.id).await? {
        Some(true) => Ok(Json(VerifiedLink {
            success: true,
            valid: true,
            destination: destination.as_str().to_owned(),
            auto_vr: true,
        })),
        Some(false) => Err(ApiError::conflict("LINK_USED", "Link already used")),
        None => Err(gone("LINK_EXPIRED", "Link expired")),
    }
}

/// The QR code of a PIN or a link (level M, quiet zone of four modules).
#[utoipa::path(
    get, path = "/api/v1/vr/qr/{file}", tag = "vr", operation_id = "vrQrCode",
    params(("file" = String, Path, description = "The end of a `qrSvgUrl`: `<id>.svg`")),
    responses(
        (status = 200, description = "The picture", content_type = "image/svg+xml", body = String),
        (status = 404, description = "No such picture, or its time is over"),
        (status = 503, description = "Pictures cannot be made now"),
    ),
    security(()),
)]
async fn picture(State(state): State<GatewayState>, Path(file): Path<String>) -> Result<Response, ApiError> {
    let absent = || ApiError::not_found("Not found");
    let id = file.strip_suffix(".svg").filter(|id| is_id(id)).ok_or_else(absent)?;
    let url = store::picture(&state.redis, id).await?.ok_or_else(absent)?;
    let code = QrCode::with_error_correction_level(url, EcLevel::M).map_err(ApiError::internal)?;
    let image = code
        .render::<svg::Color<'_>>()
        .quiet_zone(true)
        .min_dimensions(256, 256)
        .build();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml")),
        // pages of the web client's own site show it
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-site"),
        ),
    ];
    Ok((headers, image).into_response())
}

/// 429 while an address is shut out for its guesses.
async fn admit_guess(state: &GatewayState, subject: &str) -> Result<(), ApiError> {
    match state.guesses.blocked(subject).await? {
        Some(left) => Err(ApiError::rate_limited(left)),
        None => Ok(()),
    }
}

fn gone(code: &'static str, text: &str) -> ApiError {
    ApiError::new(StatusCode::GONE, code, text)
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn picture_url(id: &str) -> String {
    format!("/api/v1/vr/qr/{id}.svg")
}

/// A body as JSON or as a form (core §1.3); forms of other sites are refused where a cookie comes with them.
fn fields(state: &GatewayState, headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form = kind.is_some_and(|kind| {
        kind.to_ascii_lowercase()
            .starts_with("application/x-www-form-urlencoded")
    });
    if !is_form {
        return parse_json(body);
    }
    if headers.contains_key(header::COOKIE) && !state.origins.is_own_page(headers) {
        return Err(ApiError::forbidden("Forms of other sites are not accepted"));
    }
    let pairs = url::form_urlencoded::parse(body);
    Ok(pairs
        .map(|(name, value)| (name.into_owned(), Value::from(value)))
        .collect())
}

fn places(body: &Value) -> Result<(Place, Option<Place>), ApiError> {
    let invalid = |name: &str| ApiError::bad_request(format!("Missing or invalid \"{name}\" field"));
    let place = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let place = value.as_str().and_then(Place::parse);
            place.map(Some).ok_or_else(|| invalid(name))
        }
    };
    let destination = place("destination")?.ok_or_else(|| invalid("destination"))?;
    Ok((destination, place("scene")?))
}

/// A whole number from 1 to `max`, also written as text (forms).
fn whole(body: &Value, name: &str, default: i64, max: i64) -> Result<i64, ApiError> {
    let number = match body.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_i64(),
    };
    number
        .filter(|number| (1..=max).contains(number))
        .ok_or_else(|| ApiError::bad_request(format!("\"{name}\" must be a whole number from 1 to {max}")))
}
