//! What an account is made of, and the rules its parts obey. No HTTP, no SQL.
//!
//! contract: core §2.1 (fields, normalisation), §2.2 (passwords), §4.1 (names)

mod account;
mod email;
mod name;
mod password;

pub use account::{Account, Family, Refusal};
pub use email::Email;
pub use name::{PersonName, Username};
pub use password::Password;
