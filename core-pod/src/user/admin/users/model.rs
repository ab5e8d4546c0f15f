//! Accounts as administrators see them. No HTTP, no SQL.
//!
//! contract: core §5.12, §11

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    ApiError,
    auth::Role,
    http::QueryMap,
    id::UserId,
    money::{Currency, Money},
    sources::{iso, iso_option},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::client::{AccountDetails, BirthDate, Category},
    user::admin::{
        answers::Pagination,
        list::{Order, Page, Range, invalid, part, word},
    },
};

/// An account in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminUser)]
#[expect(clippy::struct_field_names, reason = "the names of the contract")]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub username: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub role: Role,
    pub is_verified: bool,
    pub user_category: Category,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
    pub onboarding_completed: bool,
    pub is_suspended: bool,
    #[serde(with = "iso_option")]
    pub suspended_at: Option<DateTime<Utc>>,
    pub suspended_reason: Option<String>,
    #[serde(rename = "_count")]
    pub count: Counts,
    #[serde(with = "iso_option")]
    pub last_login_at: Option<DateTime<Utc>>,
}

/// How much an account has of what.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminUserCounts)]
pub struct Counts {
    pub searches: i64,
    pub favorites: i64,
    pub notifications: i64,
    /// In details only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<i64>,
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminUserPage)]
pub struct UserPage {
    pub users: Vec<User>,
    pub pagination: Pagination,
}

/// An account with all that administrators may know of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminUserDetail)]
pub struct UserDetail {
    #[serde(flatten)]
    pub user: User,
    pub phone_number: Option<String>,
    #[schema(value_type = Option<String>)]
    pub date_of_birth: Option<BirthDate>,
    pub nationality: Option<String>,
    #[serde(with = "iso_option")]
    pub onboarding_completed_at: Option<DateTime<Utc>>,
    /// Euro, less what was given back.
    pub revenue_generated: f64,
    pub bookings_count: i64,
    /// Whether a second factor is asked for.
    pub mfa_enabled: bool,
    /// Until when passwords are refused.
    #[serde(with = "iso_option")]
    pub locked_until: Option<DateTime<Utc>>,
}

/// An account after a change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminUserChanged)]
pub struct Changed {
    pub id: UserId,
    pub email: String,
    pub username: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub role: Role,
    pub is_verified: bool,
    pub user_category: Category,
    pub is_suspended: bool,
    #[serde(with = "iso_option")]
    pub suspended_at: Option<DateTime<Utc>>,
    pub suspended_reason: Option<String>,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
}

impl From<AccountDetails> for Changed {
    fn from(account: AccountDetails) -> Self {
        Self {
            id: account.id,
            is_suspended: account.is_suspended(),
            email: account.email,
            username: account.username,
            first_name: account.first_name,
            last_name: account.last_name,
            role: account.role,
            is_verified: account.is_verified,
            user_category: account.user_category,
            suspended_at: account.suspended_at,
            suspended_reason: account.suspended_reason,
            updated_at: account.updated_at,
        }
    }
}

/// Minor units of euro as the number on the wire.
pub fn euro(minor: i64) -> f64 {
    Money::new(minor, Currency::EUR).major()
}

/// By what a list of accounts may be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    CreatedAt,
    UpdatedAt,
    Email,
    Username,
    FirstName,
    LastName,
    Person,
    Role,
    Verified,
    Category,
    Suspended,
    LastLoginAt,
}

impl Column {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "createdAt" => Self::CreatedAt,
            "updatedAt" => Self::UpdatedAt,
            "email" => Self::Email,
            "username" => Self::Username,
            "firstName" => Self::FirstName,
            "lastName" => Self::LastName,
            "user" => Self::Person,
            "role" => Self::Role,
            "isVerified" => Self::Verified,
            "userCategory" => Self::Category,
            "status" | "isSuspended" => Self::Suspended,
            "lastLoginAt" => Self::LastLoginAt,
            _ => return None,
        })
    }

    /// As SQL; what a name is compared by does not know upper and lower case.
    pub const fn sql(self) -> &'static [&'static str] {
        match self {
            Self::CreatedAt => &["account.created_at"],
            Self::UpdatedAt => &["account.updated_at"],
            Self::Email => &["account.email"],
            Self::Username => &["lower(account.username)"],
            Self::FirstName => &["lower(account.first_name)"],
            Self::LastName => &["lower(account.last_name)"],
            Self::Person => &["lower(account.last_name)", "lower(account.first_name)"],
            Self::Role => &["account.role"],
            Self::Verified => &["account.is_verified"],
            Self::Category => &["account.user_category"],
            Self::Suspended => &["(account.suspended_at is not null)"],
            Self::LastLoginAt => &["account.last_login_at"],
        }
    }
}

/// What a list or a file of accounts is asked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub page: Page,
    pub order: Order<Column>,
    pub search: Option<String>,
    pub role: Option<&'static str>,
    pub suspended: Option<bool>,
    pub range: Range,
    /// Only these; all if none are named.
    pub ids: Option<Vec<Uuid>>,
}

impl Filter {
    /// Reads a query.
    pub fn read(query: &QueryMap) -> Result<Self, ApiError> {
        let status = word(query, "status", &["active", "suspended"])?;
        Ok(Self {
            page: Page::read(query, 50),
            order: Order::read(query, Column::named, Column::CreatedAt),
            search: part(query, "search")?,
            role: word(query, "role", &["USER", "ADMIN", "MODERATOR"])?,
            suspended: status.map(|status| status == "suspended"),
            range: Range::read(query)?,
            ids: None,
        })
    }

    /// The same with the rows that were ticked: a comma list. What is no id names nothing.
    pub fn read_for_export(query: &QueryMap, most: usize) -> Result<Self, ApiError> {
        let named = query.all("ids");
        if named.len() > most {
            return Err(invalid("ids", "names too many"));
        }
        let ids: Vec<Uuid> = named.iter().filter_map(|id| id.parse().ok()).collect();
        Ok(Self {
            ids: (!named.is_empty()).then_some(ids),
            ..Self::read(query)?
        })
    }
}

/// Something an account did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminActivity)]
pub struct Activity {
    /// `history-…`, `booking-…`, `payment-…`.
    pub id: String,
    /// `history`, `booking`, `payment`.
    #[serde(rename = "type")]
    pub kind: String,
    pub label: String,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Major units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
}

/// A page of it.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminActivityPage)]
pub struct ActivityPage {
    pub items: Vec<Activity>,
    pub pagination: Pagination,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_columns_are_the_default_and_unknown_words_are_refused() {
        let filter = Filter::read(&QueryMap::parse("sortBy=destination&sortOrder=ASC&status=Suspended")).unwrap();
        assert_eq!((filter.order.by, filter.order.ascending), (Column::CreatedAt, true));
        assert_eq!(filter.suspended, Some(true));
        for query in ["role=root", "status=gone", "startDate=x"] {
            assert_eq!(
                Filter::read(&QueryMap::parse(query)).unwrap_err().status(),
                400,
                "{query}"
            );
        }
    }

    #[test]
    fn ticked_rows_are_a_comma_list_and_nonsense_names_nothing() {
        let read = |query: &str| Filter::read_for_export(&QueryMap::parse(query), 3);
        assert_eq!(read("").unwrap().ids, None);
        assert_eq!(read("ids=x,y").unwrap().ids, Some(vec![]));
        assert!(read("ids=a,b,c,d").is_err());
    }
}
