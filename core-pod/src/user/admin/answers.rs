//! The shapes that all admin routes answer in, and the people that appear in them.
//!
//! contract: core §1.4, §1.6, §5.12

use axum::Json;
use serde::Serialize;
use shared::id::UserId;
use utoipa::ToSchema;

use super::list::Page;

/// `{success, data}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AdminAnswer)]
pub struct Answer<T> {
    /// Always true.
    success: bool,
    /// What was asked for.
    data: T,
}

impl<T> Answer<T> {
    /// With this data.
    pub fn of(data: T) -> Json<Self> {
        Json(Self { success: true, data })
    }
}

/// Where a page stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminPagination)]
pub struct Pagination {
    page: i64,
    limit: i64,
    total: i64,
    total_pages: i64,
}

impl Pagination {
    /// A page of so many rows in all.
    pub fn new(page: Page, total: i64) -> Self {
        Self {
            page: page.number,
            limit: page.limit,
            total,
            total_pages: (total + page.limit - 1) / page.limit,
        }
    }
}

/// Whose booking or payment it is.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminPerson)]
#[expect(
    clippy::option_option,
    reason = "lists leave the user name out, details show null for none"
)]
pub struct Person {
    id: UserId,
    email: String,
    first_name: Option<String>,
    last_name: Option<String>,
    /// In details only.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<Option<String>>,
}

/// The columns of a person who may be gone by now.
#[derive(Clone, Default)]
pub struct PersonColumns {
    pub id: Option<UserId>,
    pub email: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub username: Option<String>,
}

impl PersonColumns {
    /// The person for a list.
    pub fn brief(self) -> Option<Person> {
        Some(Person {
            id: self.id?,
            email: self.email?,
            first_name: self.first_name,
            last_name: self.last_name,
            username: None,
        })
    }

    /// The person for a detail, with the user name.
    pub fn full(self) -> Option<Person> {
        let username = self.username.clone();
        Some(Person {
            username: Some(username),
            ..self.brief()?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_up() {
        let pages = |total| Pagination::new(Page { number: 1, limit: 20 }, total).total_pages;
        assert_eq!((pages(0), pages(1), pages(20), pages(21)), (0, 1, 1, 2));
    }

    #[test]
    fn a_person_who_is_gone_is_nobody() {
        assert!(PersonColumns::default().full().is_none());
    }
}
