//! Entrances for the fuzz targets (`fuzz/`): the parsers of what comes from outside, each with what must hold whatever comes.
//!
//! contract: core §2.1 (addresses), §5.2 (uploads). In no build but theirs.

use axum::{body::Body, extract::Request};

/// An address: what is accepted is stable, bounded, and found again by what is stored.
pub fn email(text: &str) {
    let Some(email) = crate::auth::Email::parse(text) else {
        return;
    };
    let stored = email.as_str();
    assert!(stored.len() <= 254 && stored.is_ascii() && !stored.contains(['<', '>', '"', ' ', '\0']));
    let again = crate::auth::Email::parse(stored);
    assert_eq!(again.as_ref().map(crate::auth::Email::as_str), Some(stored));
}

/// An upload with the boundary `x`: the form, the part in it, the picture in that.
pub async fn multipart(body: &[u8]) {
    let request = Request::post("/")
        .header("content-type", "multipart/form-data; boundary=x")
        .body(Body::from(body.to_vec()));
    if let Ok(request) = request {
        // what is refused is refused with the client's fault
        if let Err(refusal) = crate::user::take_upload(request).await {
            assert!(refusal.status().is_client_error());
        }
    }
}
