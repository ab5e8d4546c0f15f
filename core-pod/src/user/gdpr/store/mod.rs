//! All SQL of consent, policies and requests.
//!
//! contract: core §11

pub mod consent;
pub mod erasures;
pub mod exports;
pub mod policy;
pub mod requests;
