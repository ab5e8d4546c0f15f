//! Entries of the history and the filters over them. No HTTP, no SQL.
//!
//! contract: core §5.7, §11

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::{id::UserId, sources::iso};
use utoipa::ToSchema;

use crate::user::fields::{Fields, Json};

const LONGEST_ENTITY_ID: usize = 255;
const LARGEST_METADATA: usize = 8 * 1024;
const DEFAULT_LIMIT: i64 = 20;
const LARGEST_LIMIT: i64 = 100;

shared::typed_id! {
    /// An entry in one traveller's history.
    HistoryId;
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum ActionType {
    /// Something was made.
    Created,
    /// Something was looked at.
    Viewed,
    /// Something was changed.
    Updated,
    /// Something was deleted.
    Deleted,
    /// Something was looked for.
    Searched,
    /// Something became a favourite.
    Favorited,
    /// Something is no favourite any more.
    Unfavorited,
}

impl ActionType {
    const ALL: [Self; 7] = [
        Self::Created,
        Self::Viewed,
        Self::Updated,
        Self::Deleted,
        Self::Searched,
        Self::Favorited,
        Self::Unfavorited,
    ];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Viewed => "VIEWED",
            Self::Updated => "UPDATED",
            Self::Deleted => "DELETED",
            Self::Searched => "SEARCHED",
            Self::Favorited => "FAVORITED",
            Self::Unfavorited => "UNFAVORITED",
        }
    }

    fn named(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == raw)
    }

    /// The action a filter names; the client calls `SEARCHED` `SEARCH`.
    pub fn filtered(raw: &str) -> Option<Self> {
        Self::named(raw).or_else(|| (raw == "SEARCH").then_some(Self::Searched))
    }
}

/// What it was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schema(as = HistoryEntity)]
pub enum EntityType {
    /// A booking.
    Booking,
    /// A search.
    Search,
    /// A favourite.
    Favorite,
    /// A place.
    Destination,
    /// A hotel.
    Hotel,
    /// Something to do.
    Activity,
    /// A flight.
    Flight,
}

impl EntityType {
    const ALL: [Self; 7] = [
        Self::Booking,
        Self::Search,
        Self::Favorite,
        Self::Destination,
        Self::Hotel,
        Self::Activity,
        Self::Flight,
    ];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booking => "booking",
            Self::Search => "search",
            Self::Favorite => "favorite",
            Self::Destination => "destination",
            Self::Hotel => "hotel",
            Self::Activity => "activity",
            Self::Flight => "flight",
        }
    }

    /// The kind of this name.
    pub fn named(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == raw)
    }

    /// What to say to any other name.
    pub fn refusal() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("Invalid entity type. Valid values are: {}", names.join(", "))
    }
}

/// An entry to be made.
#[derive(Debug, PartialEq)]
pub struct NewEntry {
    pub action: ActionType,
    pub entity: EntityType,
    pub entity_id: String,
    pub metadata: Option<Value>,
}

impl NewEntry {
    /// Reads one; what is wrong is said in whole sentences.
    pub fn read(fields: &Fields<'_, '_>) -> Result<Self, String> {
        let text = |name| fields.value(name).and_then(Value::as_str);
        let action = text("actionType").and_then(ActionType::named).ok_or_else(|| {
            let names: Vec<_> = ActionType::ALL.iter().map(|action| action.as_str()).collect();
            format!("Invalid action type. Valid values are: {}", names.join(", "))
        })?;
        let entity = text("entityType")
            .and_then(EntityType::named)
            .ok_or_else(EntityType::refusal)?;
        let entity_id = text("entityId").filter(|id| is_entity_id(id));
        let entity_id = entity_id.ok_or("Entity ID is required and must be a string of at most 255 characters")?;
        let metadata = fields.json("metadata", LARGEST_METADATA, Json::Object).cloned();
        if metadata.is_none() && fields.value("metadata").is_some() {
            return Err("Metadata must be an object of at most 8 KB".to_owned());
        }
        Ok(Self {
            action,
            entity,
            entity_id: entity_id.to_owned(),
            metadata,
        })
    }
}

fn is_entity_id(raw: &str) -> bool {
    !raw.trim().is_empty() && raw.chars().count() <= LONGEST_ENTITY_ID && !raw.contains('\0')
}

/// Which entries are listed. Everything absent lets all pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub action: Option<ActionType>,
    pub entity: Option<EntityType>,
    pub entity_id: Option<String>,
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub until: Option<DateTime<Utc>>,
}

/// The start of a period: an instant, or a day from its midnight, UTC.
pub fn start(raw: &str) -> Option<DateTime<Utc>> {
    instant(raw).or_else(|| Some(midnight(day(raw)?)))
}

/// The end of a period: an instant and its whole millisecond, or a day and all of it.
pub fn end(raw: &str) -> Option<DateTime<Utc>> {
    let instant = instant(raw).and_then(|at| at.checked_add_signed(chrono::TimeDelta::milliseconds(1)));
    instant.or_else(|| Some(midnight(day(raw)?.checked_add_days(Days::new(1))?)))
}

/// Within the years that PostgreSQL and clocks know alike.
fn instant(raw: &str) -> Option<DateTime<Utc>> {
    // a plus in a query is a blank
    let at = DateTime::parse_from_rfc3339(&raw.trim().replace(' ', "+"))
        .ok()?
        .to_utc();
    is_plausible(at.date_naive()).then_some(at)
}

fn day(raw: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(raw.trim(), "%Y-%m-%d").ok()?;
    is_plausible(day).then_some(day)
}

fn is_plausible(day: NaiveDate) -> bool {
    use chrono::Datelike as _;
    (1900..=9999).contains(&day.year())
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// One page of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Counted from one.
    pub number: i64,
    /// Rows on it.
    pub limit: i64,
}

impl Page {
    /// Reads `page` and `limit`: what is no number is the default, what is out of range the nearest end.
    pub fn read(page: Option<&str>, limit: Option<&str>) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<i64>().ok());
        Self {
            number: number(page).unwrap_or(1).clamp(1, 1_000_000),
            limit: number(limit).unwrap_or(DEFAULT_LIMIT).clamp(1, LARGEST_LIMIT),
        }
    }

    /// Rows before it.
    pub const fn offset(self) -> i64 {
        (self.number - 1) * self.limit
    }

    /// Where it stands among so many rows.
    pub fn among(self, total: i64) -> Pagination {
        let total_pages = total.div_euclid(self.limit) + i64::from(total.rem_euclid(self.limit) > 0);
        Pagination {
            page: self.number,
            limit: self.limit,
            total,
            total_pages,
            has_next: self.number < total_pages,
            has_previous: self.number > 1,
        }
    }
}

/// Where a page stands.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HistoryPagination)]
pub struct Pagination {
    page: i64,
    limit: i64,
    total: i64,
    total_pages: i64,
    has_next: bool,
    has_previous: bool,
}

/// An entry as its owner reads it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub id: HistoryId,
    pub user_id: UserId,
    pub action_type: ActionType,
    pub entity_type: EntityType,
    pub entity_id: String,
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
}

/// The same as the dashboard reads it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DetailedEntry {
    #[serde(flatten)]
    entry: Entry,
    details: Details,
}

/// What a search was for and what came of it.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    query: Option<Value>,
    results_count: Option<i64>,
    clicked: bool,
}

impl From<&Entry> for DetailedEntry {
    fn from(entry: &Entry) -> Self {
        let said = |name| entry.metadata.as_ref().and_then(|metadata| metadata.get(name));
        Self {
            entry: entry.clone(),
            details: Details {
                query: said("query").cloned(),
                results_count: said("resultsCount").and_then(Value::as_i64),
                clicked: said("clicked").and_then(Value::as_bool).unwrap_or(false),
            },
        }
    }
}

/// The history in numbers.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub total_count: i64,
    pub by_action_type: BTreeMap<String, i64>,
    pub by_entity_type: BTreeMap<String, i64>,
    pub most_recent_activity: Option<Entry>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::user::fields::{JsonBody, Problems};

    fn read(body: Value) -> Result<NewEntry, String> {
        let (body, problems) = (JsonBody::from(body), Problems::default());
        NewEntry::read(&body.fields(&problems))
    }

    #[test]
    fn an_entry_names_what_was_done_to_what() {
        let entry =
            read(json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "h1", "metadata": { "a": 1 } }));
        let entry = entry.unwrap();
        assert_eq!(
            (entry.action, entry.entity, entry.metadata),
            (ActionType::Viewed, EntityType::Hotel, Some(json!({ "a": 1 })))
        );
        for (wrong, start) in [
            (json!({}), "Invalid action type. Valid values are: CREATED, VIEWED, "),
            (
                json!({ "actionType": "SEARCH", "entityType": "hotel", "entityId": "h" }),
                "Invalid action type",
            ),
            (json!({ "actionType": 5 }), "Invalid action type"),
            (
                json!({ "actionType": "VIEWED", "entityType": "HOTEL" }),
                "Invalid entity type. Valid values are: booking, ",
            ),
            (
                json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": 5 }),
                "Entity ID",
            ),
            (
                json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "a\u{0}" }),
                "Entity ID",
            ),
            (
                json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "x".repeat(256) }),
                "Entity ID",
            ),
            (
                json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "h", "metadata": [] }),
                "Metadata",
            ),
            (
                json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "h", "metadata": { "a": "x".repeat(9_000) } }),
                "Metadata",
            ),
        ] {
            assert!(read(wrong).unwrap_err().starts_with(start), "{start}");
        }
    }

    #[test]
    fn a_period_has_whole_days_at_both_ends() {
        assert_eq!(start("2026-01-02").unwrap().to_rfc3339(), "2026-01-02T00:00:00+00:00");
        assert_eq!(end("2026-01-02").unwrap().to_rfc3339(), "2026-01-03T00:00:00+00:00");
        assert_eq!(
            start("2026-01-02T10:00:00 02:00").unwrap().to_rfc3339(),
            "2026-01-02T08:00:00+00:00"
        );
        for garbage in [
            "",
            "yesterday",
            "2026-13-01",
            "+262142-12-31",
            "0001-01-01",
            "2026-01-02T99:00:00Z",
        ] {
            assert_eq!((start(garbage), end(garbage)), (None, None), "{garbage}");
        }
    }

    #[test]
    fn pages_count_from_one_and_say_what_lies_around_them() {
        let page = Page::read(Some("2"), Some("10"));
        let among = serde_json::to_value(page.among(21)).unwrap();
        assert_eq!(
            among,
            json!({ "page": 2, "limit": 10, "total": 21, "totalPages": 3, "hasNext": true, "hasPrevious": true })
        );
        assert_eq!(Page::read(Some("-1"), Some("0")), Page { number: 1, limit: 1 });
        assert_eq!(Page::read(Some("x"), Some("500")), Page { number: 1, limit: 100 });
        let none = serde_json::to_value(Page::read(None, None).among(0)).unwrap();
        assert_eq!((&none["totalPages"], &none["hasNext"]), (&json!(0), &json!(false)));
    }

    #[test]
    fn the_details_of_a_search_come_from_its_metadata() {
        let entry = Entry {
            id: HistoryId(uuid::Uuid::from_u128(1)),
            user_id: UserId(uuid::Uuid::from_u128(2)),
            action_type: ActionType::Searched,
            entity_type: EntityType::Search,
            entity_id: "s".to_owned(),
            metadata: Some(json!({ "query": "Rome", "resultsCount": 7, "clicked": true })),
            created_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        };
        let shown = serde_json::to_value(DetailedEntry::from(&entry)).unwrap();
        assert_eq!(
            shown["details"],
            json!({ "query": "Rome", "resultsCount": 7, "clicked": true })
        );
        let bare = Entry {
            metadata: None,
            ..entry
        };
        let shown = serde_json::to_value(DetailedEntry::from(&bare)).unwrap();
        assert_eq!(
            shown["details"],
            json!({ "query": null, "resultsCount": null, "clicked": false })
        );
    }
}
