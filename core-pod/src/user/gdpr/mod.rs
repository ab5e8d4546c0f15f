//! Consent, privacy policies, data export and erasure.
//!
//! contract: core §5.11, §14 (Privacy)
//!
//! Others ask [`consent::allows`] before they use a traveller's data, and note statistics by [`consent::track`].

pub mod consent;
pub mod data;
pub mod erasure;
mod events;
pub mod export;
mod handlers;
mod model;
mod requests;
pub mod retention;
mod store;

use std::time::Duration;

use chrono::TimeDelta;
use shared::{config::Reader, http::limit::Rule, rate_limit_rule};
use utoipa_axum::router::OpenApiRouter;

pub use model::Purpose;

use super::UserState;

/// The settings of the privacy area.
#[derive(Debug, Clone, Copy)]
pub struct GdprConfig {
    /// Requests about data of one traveller.
    pub limit: Rule,
    /// From asking for a deletion until it is carried out.
    pub grace: TimeDelta,
    /// How long an export can be downloaded.
    pub export_life: TimeDelta,
}

impl GdprConfig {
    /// Reads the settings (core §1.10, §5.11).
    pub fn read(reader: &mut Reader) -> Self {
        let day = Duration::from_hours(24);
        let grace = reader.or(
            "GDPR_DELETION_GRACE_DAYS",
            30_u16,
            "days from asking for the deletion of an account until it is carried out",
        );
        let export_life = reader.or(
            "GDPR_EXPORT_DAYS",
            30_u16,
            "days for which an export of personal data can be downloaded",
        );
        if export_life == 0 {
            reader.problem("GDPR_EXPORT_DAYS: must be at least 1");
        }
        Self {
            limit: rate_limit_rule!(reader, "GDPR", Rule::new("gdpr", 20, day)),
            grace: TimeDelta::days(i64::from(grace)),
            export_life: TimeDelta::days(i64::from(export_life.max(1))),
        }
    }
}

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    handlers::routes()
}
