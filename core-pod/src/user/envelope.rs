//! The shapes of success that areas of the user service share.
//!
//! contract: core §1.4

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// `{success, data}`: notifications and their preferences.
#[derive(Debug, Serialize, ToSchema)]
pub struct Answer<T> {
    /// Always true.
    success: bool,
    /// What was asked for.
    data: T,
}

impl<T> Answer<T> {
    /// With this data.
    pub fn new(data: T) -> Json<Self> {
        Json(Self { success: true, data })
    }
}

/// `{success, message, data}`: onboarding.
#[derive(Debug, Serialize, ToSchema)]
pub struct Told<T> {
    /// Always true.
    success: bool,
    /// What was done.
    message: String,
    /// The outcome.
    data: T,
}

impl<T> Told<T> {
    /// With this text and data.
    pub fn new(message: impl Into<String>, data: T) -> Json<Self> {
        let message = message.into();
        Json(Self {
            success: true,
            message,
            data,
        })
    }
}
