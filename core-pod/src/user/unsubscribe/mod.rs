//! The link at the foot of marketing mail: one click ends such mail.
//!
//! contract: core §14 (unsubscribe links, RFC 8058), §5.9
//!
//! Mail programs POST to it by themselves, without any cookie; people open it, see a button and POST with it. A GET
//! changes nothing, because scanners of mail follow every link. The sealed token says whose mail it was and opens nothing
//! else; nothing is told about the account.

mod store;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{Html, IntoResponse as _, Response},
};
use http::header;
use shared::{ApiError, id::UserId};
use utoipa_axum::router::OpenApiRouter;

use super::{UserState, notifications};
use crate::mail::{Locale, UnsubscribeLinks};

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new().routes(shared::routes!(ask, unsubscribe))
}

#[derive(Template)]
#[template(path = "mail/unsubscribe.html")]
struct Page {
    locale: Locale,
    text: &'static str,
    button: Option<&'static str>,
}

impl Page {
    fn respond(&self) -> Result<Response, ApiError> {
        let html = Html(self.render().map_err(ApiError::internal)?);
        let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
        Ok(([(header::CONTENT_SECURITY_POLICY, policy)], html).into_response())
    }
}

fn reader(state: &UserState, token: &str) -> Result<UserId, ApiError> {
    let links = UnsubscribeLinks::new(state.cipher.clone());
    links.open(token).ok_or_else(|| ApiError::not_found("Not Found"))
}

/// Asks whether offers by mail shall stop.
#[utoipa::path(
    get, path = "/api/v1/users/unsubscribe/{token}", tag = "users",
    params(("token" = String, Path, description = "The token of the link")),
    responses(
        (status = 200, description = "A page with a button", body = String, content_type = "text/html"),
        (status = 404, description = "No such link"),
    ),
)]
async fn ask(State(state): State<UserState>, Path(token): Path<String>) -> Result<Response, ApiError> {
    let user = reader(&state, &token)?;
    let locale = Locale::of(store::language(state.db.pool(), user).await?.as_deref());
    let (text, button) = match locale {
        Locale::Fr => (
            "Ne plus recevoir d'offres de DreamScape par e-mail ?",
            "Ne plus recevoir d'offres",
        ),
        Locale::En => ("Stop receiving offers from DreamScape by e-mail?", "Unsubscribe"),
    };
    let page = Page {
        locale,
        text,
        button: Some(button),
    };
    page.respond()
}

/// Ends offers by mail.
#[utoipa::path(
    post, path = "/api/v1/users/unsubscribe/{token}", tag = "users",
    params(("token" = String, Path, description = "The token of the link")),
    responses(
        (status = 200, description = "Done; may be repeated", body = String, content_type = "text/html"),
        (status = 404, description = "No such link"),
    ),
)]
async fn unsubscribe(State(state): State<UserState>, Path(token): Path<String>) -> Result<Response, ApiError> {
    let user = reader(&state, &token)?;
    store::stop_offers(state.db.pool(), user, state.sources.now()).await?;
    notifications::forget_preferences(&state, user).await;
    metrics::counter!("mail_unsubscribed_total").increment(1);
    let locale = Locale::of(store::language(state.db.pool(), user).await?.as_deref());
    let text = match locale {
        Locale::Fr => "C'est fait : vous ne recevrez plus d'offres par e-mail.",
        Locale::En => "Done: you will receive no more offers by e-mail.",
    };
    let page = Page {
        locale,
        text,
        button: None,
    };
    page.respond()
}
