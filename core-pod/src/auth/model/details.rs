//! An account with all that is known of it, and changes of its identity.
//!
//! contract: core §2.1, §4.4, §5.12 (admin edit), events §5 (`user.updated`)

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Map, Value, json};
use shared::{auth::Role, id::UserId};

use super::{Category, Email, Nationality, PersonName, PhoneNumber, Username, identity::BirthDate};

/// An account as the services of this pod see it. No secret is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountDetails {
    /// Its id.
    pub id: UserId,
    /// The normalised address.
    pub email: String,
    /// The address as typed, where mail goes.
    pub email_display: String,
    /// The user name, if one was chosen.
    pub username: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whether the address is confirmed.
    pub is_verified: bool,
    /// Telephone number.
    pub phone_number: Option<String>,
    /// Day of birth.
    pub date_of_birth: Option<NaiveDate>,
    /// Country code or name.
    pub nationality: Option<String>,
    /// Pleasure or business.
    pub user_category: Category,
    /// The language to write to it in, if one was chosen.
    pub locale: Option<String>,
    /// Whether a second factor is asked for.
    pub mfa_enabled: bool,
    /// When the questions for new travellers were answered.
    pub onboarding_completed_at: Option<DateTime<Utc>>,
    /// When it was suspended, if it is.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Why.
    pub suspended_reason: Option<String>,
    /// Until when passwords are refused.
    pub locked_until: Option<DateTime<Utc>>,
    /// The last sign-in.
    pub last_login_at: Option<DateTime<Utc>>,
    /// When its password was changed last, if ever.
    pub password_changed_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

impl fmt::Debug for AccountDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountDetails")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl AccountDetails {
    /// Whether it may not sign in.
    pub fn is_suspended(&self) -> bool {
        self.suspended_at.is_some()
    }

    /// The day of birth as the contract writes it.
    pub fn birth_date(&self) -> Option<BirthDate> {
        self.date_of_birth.map(BirthDate::from)
    }
}

/// What to change of an account. The outer `None` leaves a field as it is; the inner one empties it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// A new address is not confirmed, unless `is_verified` says otherwise.
    pub email: Option<Email>,
    /// The user name.
    pub username: Option<Option<Username>>,
    /// First name.
    pub first_name: Option<Option<PersonName>>,
    /// Last name.
    pub last_name: Option<Option<PersonName>>,
    /// Telephone number.
    pub phone_number: Option<Option<PhoneNumber>>,
    /// Day of birth.
    pub date_of_birth: Option<Option<BirthDate>>,
    /// Country code or name.
    pub nationality: Option<Option<Nationality>>,
    /// Pleasure or business.
    pub user_category: Option<Category>,
    /// BCP 47 code of a language.
    pub locale: Option<Option<String>>,
    /// For administrators: ends the sessions of the account.
    pub role: Option<Role>,
    /// For administrators and for whoever has seen the proof.
    pub is_verified: Option<bool>,
}

impl Changes {
    /// The account as it will be. What equals the present state changes nothing, `updated_at` included.
    pub(in crate::auth) fn applied_to(&self, before: &AccountDetails, now: DateTime<Utc>) -> AccountDetails {
        fn text<T>(change: Option<&Option<T>>, present: Option<&String>, as_str: fn(&T) -> &str) -> Option<String> {
            change.map_or_else(
                || present.cloned(),
                |new| new.as_ref().map(|new| as_str(new).to_owned()),
            )
        }
        let mut after = before.clone();
        if let Some(email) = &self.email {
            email.as_typed().clone_into(&mut after.email_display);
            if email.as_str() != before.email {
                email.as_str().clone_into(&mut after.email);
                after.is_verified = false;
            }
        }
        after.username = text(self.username.as_ref(), before.username.as_ref(), Username::as_str);
        after.first_name = text(self.first_name.as_ref(), before.first_name.as_ref(), PersonName::as_str);
        after.last_name = text(self.last_name.as_ref(), before.last_name.as_ref(), PersonName::as_str);
        after.phone_number = text(
            self.phone_number.as_ref(),
            before.phone_number.as_ref(),
            PhoneNumber::as_str,
        );
        after.nationality = text(
            self.nationality.as_ref(),
            before.nationality.as_ref(),
            Nationality::as_str,
        );
        after.locale = text(self.locale.as_ref(), before.locale.as_ref(), String::as_str);
        if let Some(date) = self.date_of_birth {
            after.date_of_birth = date.map(BirthDate::day);
        }
        after.user_category = self.user_category.unwrap_or(before.user_category);
        after.role = self.role.unwrap_or(before.role);
        after.is_verified = self.is_verified.unwrap_or(after.is_verified);
        if after != *before {
            after.updated_at = now;
        }
        after
    }
}

/// `changes` of `user.updated`: `{field: {old, new}}`. Phone, birth date and nationality are not told to everybody.
pub(in crate::auth) fn told_differences(before: &AccountDetails, after: &AccountDetails) -> Map<String, Value> {
    let pairs = [
        ("email", json!(before.email), json!(after.email)),
        ("username", json!(before.username), json!(after.username)),
        ("firstName", json!(before.first_name), json!(after.first_name)),
        ("lastName", json!(before.last_name), json!(after.last_name)),
        ("role", json!(before.role), json!(after.role)),
        ("isVerified", json!(before.is_verified), json!(after.is_verified)),
        ("userCategory", json!(before.user_category), json!(after.user_category)),
    ];
    let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
    changed
        .map(|(field, old, new)| (field.to_owned(), json!({ "old": old, "new": new })))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> AccountDetails {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        AccountDetails {
            id: UserId(uuid::Uuid::from_u128(1)),
            email: "ada@example.com".into(),
            email_display: "Ada@example.com".into(),
            username: None,
            first_name: Some("Ada".into()),
            last_name: None,
            role: Role::User,
            is_verified: true,
            phone_number: None,
            date_of_birth: None,
            nationality: None,
            user_category: Category::Leisure,
            locale: None,
            mfa_enabled: false,
            onboarding_completed_at: None,
            suspended_at: None,
            suspended_reason: None,
            locked_until: None,
            last_login_at: None,
            password_changed_at: None,
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn a_new_address_is_not_confirmed_and_another_spelling_of_the_old_one_still_is() {
        let now = DateTime::from_timestamp(1_800_000_100, 0).unwrap();
        let to = |address: &str| Changes {
            email: Email::parse(address),
            ..Changes::default()
        };
        let moved = to("ada@example.org").applied_to(&ada(), now);
        assert!(!moved.is_verified && moved.updated_at == now);
        assert_eq!(
            Value::Object(told_differences(&ada(), &moved)),
            json!({
                "email": { "old": "ada@example.com", "new": "ada@example.org" },
                "isVerified": { "old": true, "new": false },
            })
        );
        let respelled = to("ADA@example.com").applied_to(&ada(), now);
        assert!(respelled.is_verified && respelled.email_display == "ADA@example.com");
        assert!(told_differences(&ada(), &respelled).is_empty());
    }

    #[test]
    fn what_is_already_so_changes_nothing_at_all() {
        let now = DateTime::from_timestamp(1_800_000_100, 0).unwrap();
        let same = Changes {
            first_name: Some(PersonName::parse("Ada").ok()),
            username: Some(None),
            user_category: Some(Category::Leisure),
            ..Changes::default()
        };
        assert!(same.applied_to(&ada(), now) == ada());
    }

    #[test]
    fn a_field_can_be_emptied() {
        let now = DateTime::from_timestamp(1_800_000_100, 0).unwrap();
        let emptied = Changes {
            first_name: Some(None),
            ..Changes::default()
        };
        assert_eq!(emptied.applied_to(&ada(), now).first_name, None);
    }
}
