//! What an account is made of, and the rules its parts obey. No HTTP, no SQL.
//!
//! contract: core §2.1 (fields, normalisation), §2.2 (passwords), §4.1 (names), §4.4 (identity)

mod account;
mod details;
mod email;
mod identity;
mod lockout;
mod name;
mod password;

pub use account::{Account, Family, Refusal};
pub(super) use details::told_differences;
pub use details::{AccountDetails, Changes};
pub use email::Email;
pub use identity::{BirthDate, Category, Nationality, PhoneNumber};
pub use lockout::{Consequence, Failures, LockoutPolicy};
pub use name::{PersonName, Username};
pub use password::{Owner, Password};
