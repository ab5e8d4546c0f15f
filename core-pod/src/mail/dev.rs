//! The mailbox of development as pages and JSON: `/dev/mail`.
//!
//! Absent from production builds. The mails hold secret links, so only this machine may ask, and only by a name of its
//! own: a page of another site that has its name resolved to 127.0.0.1 gets nothing.

use std::net::IpAddr;

use askama::Template;
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{Html, IntoResponse as _, Response},
    routing,
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use shared::{ApiError, http::client_address::PeerAddress, sources::iso_millis};

use super::transport::{Mailbox, Outgoing};

/// The routes.
pub fn routes(mailbox: Mailbox) -> Router {
    Router::new()
        .route("/dev/mail", routing::get(list))
        .route("/dev/mail/messages", routing::get(messages).delete(clear))
        .route("/dev/mail/{id}", routing::get(open))
        .route("/dev/mail/{id}/html", routing::get(html))
        .layer(middleware::from_fn(local_only))
        .with_state(mailbox)
}

async fn local_only(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if peer.is_some_and(|peer: IpAddr| peer.is_loopback()) && host.is_none_or(is_own_name) {
        next.run(request).await
    } else {
        ApiError::not_found("Not Found").into_response()
    }
}

fn is_own_name(host: &str) -> bool {
    let name = if host.ends_with(']') {
        host
    } else {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

#[derive(Template)]
#[template(path = "mail/mailbox.html")]
struct Page<'a> {
    id: &'a str,
    open: Option<&'a Outgoing>,
    mails: Vec<(&'a str, &'a Outgoing)>,
}

impl Page<'_> {
    fn respond(&self) -> Result<Response, ApiError> {
        let html = Html(self.render().map_err(ApiError::internal)?);
        let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'none'";
        Ok(([(header::CONTENT_SECURITY_POLICY, policy)], html).into_response())
    }
}

fn id_of(mail: &Outgoing) -> &str {
    let id = mail.message_id.trim_start_matches('<');
    id.split_once('@').map_or(id, |(id, _)| id)
}

async fn list(State(mailbox): State<Mailbox>) -> Result<Response, ApiError> {
    let mails = mailbox.mails();
    let page = Page {
        id: "",
        open: None,
        mails: mails.iter().map(|mail| (id_of(mail), mail)).collect(),
    };
    page.respond()
}

async fn open(State(mailbox): State<Mailbox>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let mail = mailbox.find(&id).ok_or_else(|| ApiError::not_found("Not Found"))?;
    let page = Page {
        id: id_of(&mail),
        open: Some(&mail),
        mails: Vec::new(),
    };
    page.respond()
}

/// The HTML part alone, in a sandbox without scripts.
async fn html(State(mailbox): State<Mailbox>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let mail = mailbox.find(&id).ok_or_else(|| ApiError::not_found("Not Found"))?;
    let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox allow-popups; frame-ancestors 'self'";
    let mut response = Html(mail.html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    Ok(response)
}

/// A mail as programs read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    message_id: String,
    from: String,
    to: String,
    subject: String,
    template: String,
    date: String,
    /// The addresses in the text, in their order.
    links: Vec<String>,
    text: String,
    html: String,
}

impl From<&Outgoing> for Entry {
    fn from(mail: &Outgoing) -> Self {
        let words = mail.text.split_whitespace();
        Self {
            id: id_of(mail).to_owned(),
            message_id: mail.message_id.clone(),
            from: mail.from.address.to_string(),
            to: mail.to.clone(),
            subject: mail.subject.clone(),
            template: mail.template.clone(),
            date: iso_millis(mail.date),
            links: words
                .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
                .map(str::to_owned)
                .collect(),
            text: mail.text.clone(),
            html: mail.html.clone(),
        }
    }
}

async fn messages(State(mailbox): State<Mailbox>) -> Response {
    let mails = mailbox.mails();
    Json(mails.iter().map(Entry::from).collect::<Vec<_>>()).into_response()
}

async fn clear(State(mailbox): State<Mailbox>) -> StatusCode {
    mailbox.clear();
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in ["localhost", "localhost:3002", "127.0.0.1:3002", "[::1]:3002", "[::1]"] {
            assert!(is_own_name(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "127.0.0.1.evil.example:3002",
            "localhost.evil.example",
            "",
        ] {
            assert!(!is_own_name(foreign), "{foreign}");
        }
    }
}
