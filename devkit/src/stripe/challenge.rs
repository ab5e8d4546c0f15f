//! The page of the cardholder's bank, where a card that needs action is authenticated.

use std::sync::Arc;

use axum::{
    Form, Json,
    extract::{Path, Query, State as Shared},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Inner, intents, model::Status, state::Cause};

/// What the page is opened with.
#[derive(Debug, Deserialize)]
pub(super) struct Opened {
    client_secret: String,
}

/// What the page sends.
#[derive(Debug, Deserialize)]
pub(super) struct Finished {
    client_secret: String,
    /// `complete` or `fail`.
    outcome: String,
}

/// `GET /3d_secure/:intent?client_secret=…`
pub(super) async fn page(
    Shared(inner): Shared<Arc<Inner>>,
    Path(intent): Path<String>,
    Query(opened): Query<Opened>,
) -> Response {
    if !inner.knows(&intent, &opened.client_secret) {
        return StatusCode::NOT_FOUND.into_response();
    }
    // Both values are letters, digits and underscores: they were just compared with ours.
    let secret = opened.client_secret;
    Html(format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>3D Secure test page</title>
<h1>3D Secure test page</h1><p>No bank is asked. Choose how the authentication ends.</p>
<form method="post" action="/3d_secure/{intent}"><input type="hidden" name="client_secret" value="{secret}">
<button name="outcome" value="complete">Complete</button> <button name="outcome" value="fail">Fail</button></form></html>"#
    ))
    .into_response()
}

/// `POST /3d_secure/:intent` with `client_secret` and `outcome`.
pub(super) async fn finish(
    Shared(inner): Shared<Arc<Inner>>,
    Path(intent): Path<String>,
    Form(finished): Form<Finished>,
) -> Response {
    if !inner.knows(&intent, &finished.client_secret) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let passed = finished.outcome == "complete";
    let outcome = inner.change(|state| intents::authenticate(state, &intent, passed, &Cause::default()));
    let intent = match outcome {
        Ok(intent) => intent,
        Err(failure) => return (failure.status(), Json(json!({"error": failure.object()}))).into_response(),
    };
    let back = intent.return_url.as_deref().and_then(|url| url::Url::parse(url).ok());
    let Some(mut back) = back else {
        return Json(json!({"payment_intent": intent.render_for_browser()})).into_response();
    };
    let status = if intent.status == Status::Succeeded {
        "succeeded"
    } else {
        "failed"
    };
    back.query_pairs_mut()
        .append_pair("payment_intent", &intent.id)
        .append_pair("payment_intent_client_secret", &intent.client_secret)
        .append_pair("redirect_status", status);
    Redirect::to(back.as_str()).into_response()
}
