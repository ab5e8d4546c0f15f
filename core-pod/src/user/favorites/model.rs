//! Favourites and the two vocabularies in which clients speak of them. No HTTP, no SQL.
//!
//! contract: core §5.6, §11

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::{id::UserId, sources::iso};
use utoipa::ToSchema;

use crate::user::fields::{Change, Fields, Json, JsonBody, Problems};

/// Items in one request for many.
pub const LARGEST_BATCH: usize = 100;
const LONGEST_ENTITY_ID: usize = 255;
const LONGEST_CATEGORY: usize = 100;
const LONGEST_NOTES: usize = 2_000;
const LARGEST_DATA: usize = 16 * 1024;
const DEFAULT_LIMIT: i64 = 20;
const LARGEST_LIMIT: i64 = 100;

shared::typed_id! {
    /// A favourite of one traveller.
    FavoriteId;
}

/// What kind of thing is a favourite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
#[schema(as = FavoriteType)]
pub enum EntityType {
    /// A flight.
    Flight,
    /// A hotel.
    Hotel,
    /// Something to do.
    Activity,
    /// A place.
    Destination,
    /// A booking.
    Booking,
}

impl EntityType {
    const ALL: [Self; 5] = [
        Self::Flight,
        Self::Hotel,
        Self::Activity,
        Self::Destination,
        Self::Booking,
    ];
    const WRONG: &str = "must be one of FLIGHT, HOTEL, ACTIVITY, DESTINATION, BOOKING";

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flight => "FLIGHT",
            Self::Hotel => "HOTEL",
            Self::Activity => "ACTIVITY",
            Self::Destination => "DESTINATION",
            Self::Booking => "BOOKING",
        }
    }

    /// The kind of this name, in capitals or not.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let found = Self::ALL
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(raw));
        found.ok_or(Self::WRONG)
    }
}

/// The thing itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub entity_type: EntityType,
    pub entity_id: String,
}

/// Whether this may name a thing.
pub fn entity_id(raw: &str) -> Result<String, &'static str> {
    if raw.chars().count() > LONGEST_ENTITY_ID {
        return Err("must be at most 255 characters");
    }
    if raw.contains('\0') {
        return Err("must not contain control characters");
    }
    Ok(raw.to_owned())
}

impl Item {
    /// Reads the kind and the id under any of their names.
    fn read(fields: &Fields<'_, '_>) -> Option<Self> {
        let entity_type = required(fields, &["entityType", "itemType", "type"], EntityType::parse);
        let entity_id = required(fields, &["entityId", "itemId"], entity_id);
        Some(Self {
            entity_type: entity_type?,
            entity_id: entity_id?,
        })
    }
}

/// The first of these names that is there must hold an acceptable text; if none is there, the first is missing.
fn required<T>(
    fields: &Fields<'_, '_>,
    names: &[&'static str],
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Option<T> {
    let name = fields
        .first_of(names)
        .map(|(name, _)| name)
        .or(names.first().copied())?;
    let text = fields.required(name)?;
    fields.accepted(name, text, parse)
}

/// A favourite to be made.
#[derive(Debug)]
pub struct NewFavorite {
    pub item: Item,
    pub entity_data: Option<Value>,
    pub category: Option<String>,
    pub notes: Option<String>,
    /// Whether the request said `type` and `itemId`, so that its answer says so too.
    pub short: bool,
}

impl NewFavorite {
    /// Reads one; what is wrong is noted where the fields say.
    pub fn read(fields: &Fields<'_, '_>) -> Option<Self> {
        let item = Item::read(fields);
        let said = |name| fields.value(name).is_some();
        let short = !said("entityType") && !said("entityId") && (said("type") || said("itemType") || said("itemId"));
        let (data, _) = data(fields);
        let category = fields.change("category", category);
        let notes = fields.change("notes", notes);
        Some(Self {
            item: item?,
            entity_data: data.stored(),
            category: category.stored(),
            notes: notes.stored(),
            short,
        })
    }
}

/// What to change of a favourite.
#[derive(Debug)]
pub struct FavoriteChange {
    pub entity_data: Change<Value>,
    pub category: Change<String>,
    pub notes: Change<String>,
}

impl FavoriteChange {
    /// Reads one; `None` if the body names no field that can be changed.
    pub fn read(fields: &Fields<'_, '_>) -> Option<Self> {
        let (entity_data, data_named) = data(fields);
        let change = Self {
            entity_data,
            category: fields.change("category", category),
            notes: fields.change("notes", notes),
        };
        let named = data_named || fields.names("category") || fields.names("notes");
        named.then_some(change)
    }
}

/// The free data under either of its names, and whether it was named at all. Null and the empty text are none.
fn data(fields: &Fields<'_, '_>) -> (Change<Value>, bool) {
    let name = ["entityData", "metadata"].into_iter().find(|name| fields.names(name));
    let Some(name) = name else {
        return (Change::Keep, false);
    };
    let change = match fields.value(name) {
        None => Change::Clear,
        Some(Value::String(text)) if text.is_empty() => Change::Clear,
        Some(_) => fields
            .json(name, LARGEST_DATA, Json::Any)
            .map_or(Change::Keep, |data| Change::Set(data.clone())),
    };
    (change, true)
}

fn category(raw: &str) -> Result<String, &'static str> {
    bounded(raw, LONGEST_CATEGORY).ok_or("must be at most 100 characters")
}

fn notes(raw: &str) -> Result<String, &'static str> {
    bounded(raw, LONGEST_NOTES).ok_or("must be at most 2000 characters")
}

fn bounded(raw: &str, longest: usize) -> Option<String> {
    (raw.chars().count() <= longest).then(|| raw.to_owned())
}

/// The objects of the array `items`, at most a hundred; what is wrong with the array is noted.
pub fn items<'a>(body: &'a JsonBody, problems: &Problems) -> Option<Vec<&'a Map<String, Value>>> {
    let fields = body.fields(problems);
    let Some(Value::Array(items)) = fields.value("items") else {
        problems.add("items", "array is required");
        return None;
    };
    if items.len() > LARGEST_BATCH {
        problems.add("items", "must be at most 100");
        return None;
    }
    let objects: Vec<_> = items.iter().map_while(Value::as_object).collect();
    if objects.len() < items.len() {
        problems.add(format!("items[{}]", objects.len()), "must be an object");
        return None;
    }
    Some(objects)
}

/// The things that a check names.
pub fn checked_items(body: &JsonBody, problems: &Problems) -> Option<Vec<Item>> {
    let objects = items(body, problems)?;
    let read = |(index, object)| Item::read(&Fields::item(object, "items", index, problems));
    let read: Vec<_> = objects.into_iter().enumerate().map(read).collect();
    read.into_iter().collect()
}

/// The favourites that a batch names.
pub fn new_favorites(body: &JsonBody, problems: &Problems) -> Option<Vec<NewFavorite>> {
    let objects = items(body, problems)?;
    let read = |(index, object)| NewFavorite::read(&Fields::item(object, "items", index, problems));
    let read: Vec<_> = objects.into_iter().enumerate().map(read).collect();
    read.into_iter().collect()
}

/// The favourites that a batch deletes. What is no id is nobody's favourite.
pub fn deleted_ids(body: &JsonBody, problems: &Problems) -> Option<Vec<FavoriteId>> {
    let fields = body.fields(problems);
    let Some(Value::Array(ids)) = fields.value("ids") else {
        problems.add("ids", "array is required");
        return None;
    };
    if ids.len() > LARGEST_BATCH {
        problems.add("ids", "must be at most 100");
        return None;
    }
    let texts: Option<Vec<&str>> = ids.iter().map(Value::as_str).collect();
    let Some(texts) = texts else {
        problems.add("ids", "must be strings");
        return None;
    };
    Some(texts.into_iter().filter_map(|text| text.parse().ok()).collect())
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows; none for whoever wants the total alone.
    pub limit: i64,
    /// Rows before.
    pub offset: i64,
}

impl Window {
    /// Reads `limit` and `offset`: what is no number is the default, what is out of range the nearest end.
    pub fn read(limit: Option<&str>, offset: Option<&str>) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<i64>().ok());
        let limit = match number(limit).unwrap_or(DEFAULT_LIMIT) {
            0 => 0,
            other => other.clamp(1, LARGEST_LIMIT),
        };
        let offset = number(offset).unwrap_or(0).clamp(0, i64::from(i32::MAX));
        Self { limit, offset }
    }

    /// Whether rows follow.
    pub const fn has_more(self, total: i64) -> bool {
        self.offset + self.limit < total
    }
}

/// A favourite as its owner reads it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Favorite {
    pub id: FavoriteId,
    pub user_id: UserId,
    pub entity_type: EntityType,
    pub entity_id: String,
    pub entity_data: Option<Value>,
    pub category: Option<String>,
    pub notes: Option<String>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
    pub user: Owner,
}

/// Whose it is.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = FavoriteOwner)]
pub struct Owner {
    pub id: UserId,
    pub email: String,
    pub username: Option<String>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A favourite in the short vocabulary.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShortFavorite {
    id: FavoriteId,
    /// The kind in lower case.
    #[serde(rename = "type")]
    kind: String,
    item_id: String,
    metadata: Option<Value>,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
}

impl From<&Favorite> for ShortFavorite {
    fn from(favorite: &Favorite) -> Self {
        Self {
            id: favorite.id,
            kind: favorite.entity_type.as_str().to_ascii_lowercase(),
            item_id: favorite.entity_id.clone(),
            metadata: favorite.entity_data.clone(),
            created_at: favorite.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<NewFavorite, String> {
        let (body, problems) = (JsonBody::from(body), Problems::default());
        let new = NewFavorite::read(&body.fields(&problems));
        match problems.refuse_joined() {
            Ok(()) => Ok(new.unwrap()),
            Err(refusal) => Err(refusal.body()["message"].as_str().unwrap().to_owned()),
        }
    }

    #[test]
    fn both_vocabularies_say_the_same() {
        for (body, short) in [
            (
                json!({ "entityType": "HOTEL", "entityId": "h1", "entityData": { "a": 1 } }),
                false,
            ),
            (
                json!({ "entityType": "hotel", "entityId": "h1", "metadata": { "a": 1 } }),
                false,
            ),
            (
                json!({ "itemType": "Hotel", "itemId": "h1", "metadata": { "a": 1 } }),
                true,
            ),
            (
                json!({ "type": "hotel", "itemId": "h1", "entityData": { "a": 1 } }),
                true,
            ),
            (
                json!({ "type": "x", "entityType": "HOTEL", "entityId": "h1", "entityData": { "a": 1 } }),
                false,
            ),
        ] {
            let new = read(body).unwrap();
            assert_eq!(
                (new.item.entity_type, new.item.entity_id.as_str(), new.short),
                (EntityType::Hotel, "h1", short)
            );
            assert_eq!(new.entity_data, Some(json!({ "a": 1 })));
        }
    }

    #[test]
    fn everything_wrong_is_said_in_one_sentence() {
        assert_eq!(
            read(json!({ "category": 5 })).unwrap_err(),
            "entityType is required, entityId is required, category must be a string"
        );
        assert_eq!(
            read(json!({ "type": "car", "itemId": 7 })).unwrap_err(),
            "type must be one of FLIGHT, HOTEL, ACTIVITY, DESTINATION, BOOKING, itemId must be a string"
        );
        let long = "x".repeat(256);
        for wrong in [
            json!({ "entityType": "HOTEL", "entityId": long }),
            json!({ "entityType": "HOTEL", "entityId": "a\u{0}" }),
            json!({ "entityType": "HOTEL", "entityId": "a", "category": "x".repeat(101) }),
            json!({ "entityType": "HOTEL", "entityId": "a", "notes": "x".repeat(2_001) }),
            json!({ "entityType": "HOTEL", "entityId": "a", "entityData": "x".repeat(17_000) }),
            json!({ "entityType": "HOTEL", "entityId": "a", "entityData": { "k\u{0}": 1 } }),
        ] {
            assert!(read(wrong).is_err());
        }
    }

    #[test]
    fn empty_texts_are_none() {
        let new =
            read(json!({ "entityType": "HOTEL", "entityId": "a", "category": "", "notes": "", "entityData": "" }))
                .unwrap();
        assert_eq!((new.category, new.notes, new.entity_data), (None, None, None));
    }

    #[test]
    fn a_window_of_no_rows_is_one_and_garbage_is_the_default() {
        let window = |limit, offset| Window::read(Some(limit), Some(offset));
        assert_eq!(window("0", "0"), Window { limit: 0, offset: 0 });
        assert_eq!(window("-5", "-5"), Window { limit: 1, offset: 0 });
        assert_eq!(window("1000", "3"), Window { limit: 100, offset: 3 });
        assert_eq!(window("x", "9999999999999999999"), Window { limit: 20, offset: 0 });
        assert!(window("0", "0").has_more(1) && !window("20", "0").has_more(20));
    }

    #[test]
    fn an_item_of_a_batch_is_named_by_its_place() {
        let body =
            JsonBody::from(json!({ "items": [{ "entityType": "HOTEL", "entityId": "a" }, { "entityType": "HOTEL" }] }));
        let problems = Problems::default();
        assert!(checked_items(&body, &problems).is_none());
        let refusal = problems.refuse_joined().unwrap_err().body();
        assert_eq!(refusal["errors"][0]["path"], "items[1].entityId");
    }
}
