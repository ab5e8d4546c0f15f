//! The bodies of favourites as the document describes them. They are read field by field in [`super::model`].
//!
//! contract: core §5.6

use serde_json::Value;
use utoipa::ToSchema;

/// An item, in either vocabulary: `entityType` and `entityId`, or `type` and `itemId`. One name of each is required.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(min_properties = 2)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct FavoriteItemBody {
    /// `FLIGHT`, `HOTEL`, `ACTIVITY`, `DESTINATION` or `BOOKING`, in capitals or not.
    #[schema(
        pattern = "^([Ff][Ll][Ii][Gg][Hh][Tt]|[Hh][Oo][Tt][Ee][Ll]|[Aa][Cc][Tt][Ii][Vv][Ii][Tt][Yy]|[Dd][Ee][Ss][Tt][Ii][Nn][Aa][Tt][Ii][Oo][Nn]|[Bb][Oo][Oo][Kk][Ii][Nn][Gg])$",
        example = "HOTEL"
    )]
    entity_type: Option<String>,
    /// The same as `entityType`, where that is absent.
    item_type: Option<Value>,
    /// The same as `entityType`, where that and `itemType` are absent.
    #[serde(rename = "type")]
    kind: Option<Value>,
    /// Which one; not blank.
    #[schema(min_length = 1, max_length = 255)]
    entity_id: Option<String>,
    /// The same as `entityId`, where that is absent.
    item_id: Option<Value>,
}

/// An item that becomes a favourite. Who names it by `type` and `itemId` alone is answered in these words too.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct NewFavoriteBody {
    #[serde(flatten)]
    item: FavoriteItemBody,
    /// Free data of at most 16 KB; null and the empty text are none.
    entity_data: Option<Value>,
    /// The same as `entityData`, where that is absent.
    metadata: Option<Value>,
    /// A word for one's own order; a blank one is none.
    #[schema(max_length = 100)]
    category: Option<String>,
    /// A blank text is none.
    #[schema(max_length = 2000)]
    notes: Option<String>,
}

/// Items that become favourites.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct NewFavoritesBody {
    /// At most a hundred.
    #[schema(max_items = 100)]
    items: Vec<NewFavoriteBody>,
}

/// Items that are asked about.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct FavoriteItemsBody {
    /// At most a hundred.
    #[schema(max_items = 100)]
    items: Vec<FavoriteItemBody>,
}

/// Favourites that are to be deleted.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct FavoriteIdsBody {
    /// At most a hundred; what is no id is nobody's favourite.
    #[schema(max_items = 100)]
    ids: Vec<String>,
}

/// What to change of a favourite; what is absent stays. At least one of these is required.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(min_properties = 1)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct FavoriteChangeBody {
    /// Free data of at most 16 KB; null and the empty text empty it.
    entity_data: Option<Value>,
    /// The same as `entityData`, where that is absent.
    metadata: Option<Value>,
    /// Null and a blank text empty it.
    #[schema(max_length = 100)]
    category: Option<String>,
    /// Null and a blank text empty it.
    #[schema(max_length = 2000)]
    notes: Option<String>,
}
