//! What the privacy area tells the others.
//!
//! contract: core §7, events §5 (user)

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    events::{NewEvent, Topic},
    id::UserId,
    sources::{Sources, iso, iso_millis},
};

use super::model::{Consent, GdprRequest, RequestId};
use crate::user::User;

#[expect(clippy::struct_excessive_bools, reason = "the names of the contract")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsentUpdated<'a> {
    user_id: UserId,
    analytics: bool,
    marketing: bool,
    functional: bool,
    preferences: bool,
    #[serde(with = "iso")]
    updated_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequested {
    request_id: RequestId,
    user_id: UserId,
    #[serde(with = "iso")]
    requested_at: DateTime<Utc>,
    /// An empty text if it never expires.
    expires_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletionRequested<'a> {
    request_id: RequestId,
    user_id: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(with = "iso")]
    requested_at: DateTime<Utc>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserDeleted {
    user_id: UserId,
    #[serde(with = "iso")]
    deleted_at: DateTime<Utc>,
    reason: &'static str,
}

/// `user.deleted`: every consumer erases what it has.
pub fn user_deleted(sources: &Sources, user: UserId, reason: &'static str) -> NewEvent {
    let payload = UserDeleted {
        user_id: user,
        deleted_at: sources.now(),
        reason,
    };
    NewEvent::new::<User>(sources, Topic::UserDeleted, user, &payload)
}

/// `user.consent.updated`.
pub fn consent_updated(sources: &Sources, consent: &Consent) -> NewEvent {
    let payload = ConsentUpdated {
        user_id: consent.user_id,
        analytics: consent.analytics,
        marketing: consent.marketing,
        functional: consent.functional,
        preferences: consent.preferences,
        updated_at: consent.last_updated_at,
        ip_address: consent.ip_address.as_deref(),
    };
    NewEvent::new::<User>(sources, Topic::UserConsentUpdated, consent.user_id, &payload)
}

/// `gdpr.export.requested`.
pub fn export_requested(sources: &Sources, request: &GdprRequest) -> NewEvent {
    let payload = ExportRequested {
        request_id: request.id,
        user_id: request.user_id,
        requested_at: request.requested_at,
        expires_at: request.expires_at.map(iso_millis).unwrap_or_default(),
    };
    NewEvent::new::<User>(sources, Topic::GdprExportRequested, request.user_id, &payload)
}

/// `gdpr.deletion.requested`.
pub fn deletion_requested(sources: &Sources, request: &GdprRequest) -> NewEvent {
    let payload = DeletionRequested {
        request_id: request.id,
        user_id: request.user_id,
        reason: request.reason.as_deref(),
        requested_at: request.requested_at,
    };
    NewEvent::new::<User>(sources, Topic::GdprDeletionRequested, request.user_id, &payload)
}
