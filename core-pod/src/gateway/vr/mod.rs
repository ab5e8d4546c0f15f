//! Virtual reality without typing a password: PINs that a headset redeems, links for phones, their QR codes.
//!
//! contract: core §3.5, §8 (`vr:pin:<pin>`), §1.10; experience b.4. Everything lives in Redis, so a PIN made by one replica is
//! redeemed once, by one of all readers, whichever replica they ask. Without Redis the answer is 503.

mod handlers;
mod link;
mod model;
mod store;

pub(super) use handlers::{openapi, routes};
pub(super) use store::Guesses;
