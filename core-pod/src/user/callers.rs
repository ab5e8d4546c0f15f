//! Which services may use the internal routes of the user service.
//!
//! contract: core §2.8 (401 without a service token, 403 for the wrong service); the gateway hides them (§3.1)

use shared::{ApiError, auth::ServiceCaller};

/// The services outside this pod that read preferences and make notifications: those of the business pod.
const PARTNERS: [&str; 1] = ["business-pod"];

/// 403 for a service that has no business here.
pub fn require_partner(caller: &ServiceCaller) -> Result<(), ApiError> {
    if PARTNERS.contains(&caller.service.as_str()) {
        return Ok(());
    }
    Err(ApiError::forbidden("This service may not use this route"))
}
