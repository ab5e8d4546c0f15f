//! Travel supply: what can be sold, by whom, at what price.
//!
//! contract: voyage §6 (providers), §7.4 (price authority)
//!
//! | Module | For |
//! |---|---|
//! | [`reference`] | airports, cities, carriers, countries: embedded, read-only |
//! | [`places`] | names to codes, codes to names, suggestions while typing |
//! | [`flight`] | flights in the shape of the contract |
//! | [`provider`] | what a supplier can do, and the router over those that are configured |
//! | [`offline`] | the supplier that is always there: invented, deterministic |
//! | [`offers`] | what we quoted, for cart and checkout |
//! | [`rates`] | exchange rates |

pub mod flight;
mod minutes;
pub mod offers;
pub mod offline;
pub mod places;
pub mod provider;
pub mod rates;
pub mod reference;
mod store;
pub mod text;

pub use offers::{OfferError, OfferKind, OfferSnapshot, Offers, Repriced};
pub use provider::{Provider, ProviderError, Router};
