//! Carts: whose they are, what is in them, what may be put into them.
//!
//! contract: voyage §4.7 (limits, identity of lines), §7.4 (prices). No HTTP, no SQL.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, value::RawValue};
use shared::{
    ApiError,
    id::{CartId, CartItemId, UserId},
    money::{Currency, Money},
};

pub use crate::voyage::booking::model::{ItemKind, Traveler};

/// The most lines a cart holds.
pub const MAX_LINES: i64 = 50;
/// No cart lives longer than this, however often it is used.
pub const MAX_LIFE: TimeDelta = TimeDelta::hours(4);
const MAX_ITEM_ID: usize = 256;
const MAX_ITEM_DATA: usize = 64 * 1024;
const MAX_DEPTH: usize = 12;
const MAX_PRICE: f64 = 99_999_999.99;

/// Whose cart it is. An anonymous cart belongs to whoever holds the cookie of which this is the digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// An account.
    User(UserId),
    /// A browser.
    Guest([u8; 32]),
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "User({user})"),
            Self::Guest(_) => f.write_str("Guest"),
        }
    }
}

impl Owner {
    /// The account, if it is one.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::User(user) => Some(*user),
            Self::Guest(_) => None,
        }
    }

    /// The digest, if it is a browser.
    pub fn guest(&self) -> Option<&[u8]> {
        match self {
            Self::User(_) => None,
            Self::Guest(digest) => Some(digest),
        }
    }
}

/// A cart without its lines: what a mutation locks.
#[derive(Debug, Clone)]
pub struct Head {
    /// The row.
    pub id: CartId,
    /// Its currency; every line has it.
    pub currency: Currency,
    /// Counts changes of the content.
    pub version: i32,
    /// Until when it lives.
    pub expires_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// How many lines it has.
    pub lines: i64,
}

impl Head {
    /// Whether it is over.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        now >= self.expires_at
    }

    /// Until when it lives after a use at `now`: longer, never shorter, and never beyond [`MAX_LIFE`].
    pub fn extended(&self, now: DateTime<Utc>, life: TimeDelta) -> DateTime<Utc> {
        self.expires_at.max(now + life).min(self.created_at + MAX_LIFE)
    }
}

/// A cart with its lines, in order of arrival.
#[derive(Debug, Clone)]
pub struct Cart {
    /// The row.
    pub id: CartId,
    /// Whose it is; `None` for an anonymous cart.
    pub user: Option<UserId>,
    /// What everything costs.
    pub total: Money,
    /// Counts changes of the content.
    pub version: i32,
    /// Until when it lives.
    pub expires_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// What is in it.
    pub lines: Vec<CartLine>,
}

/// One line.
#[derive(Clone)]
pub struct CartLine {
    /// The row.
    pub id: CartItemId,
    /// What it is.
    pub kind: ItemKind,
    /// The id of whoever sells it.
    pub item_id: String,
    /// What the client shows of it. May name passengers.
    pub item_data: Box<RawValue>,
    /// How many.
    pub quantity: i32,
    /// What the line costs, exactly.
    pub total: Money,
    /// Whether we quoted that price.
    pub price_verified: bool,
    /// Who sells it, if we know.
    pub provider: Option<String>,
    /// Until when the price holds, if we quoted it.
    pub offer_expires_at: Option<DateTime<Utc>>,
    /// Where it leads, as a code.
    pub destination: Option<String>,
    /// Who travels.
    pub travelers: Vec<Traveler>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

impl fmt::Debug for CartLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CartLine")
            .field("id", &self.id)
            .field("item_id", &self.item_id)
            .finish_non_exhaustive()
    }
}

/// A line that has its price and may be inserted.
#[derive(Clone)]
pub struct NewLine {
    /// What it is.
    pub kind: ItemKind,
    /// Its id.
    pub item_id: String,
    /// What tells two lines of one item apart.
    pub variant_key: String,
    /// What the client shows of it.
    pub item_data: Value,
    /// How many.
    pub quantity: i32,
    /// What the line costs.
    pub total: Money,
    /// Whether we quoted that price.
    pub price_verified: bool,
    /// Who sells it.
    pub provider: Option<String>,
    /// Until when the price holds.
    pub offer_expires_at: Option<DateTime<Utc>>,
    /// Where it leads.
    pub destination: Option<String>,
    /// Who travels.
    pub travelers: Vec<Traveler>,
}

impl fmt::Debug for NewLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewLine")
            .field("item_id", &self.item_id)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

/// What a client wants to add, checked in form but not in price.
#[derive(Clone)]
pub struct Proposal {
    /// What it is.
    pub kind: ItemKind,
    /// Its id.
    pub item_id: String,
    /// What the client shows of it.
    pub item_data: Value,
    /// The client's price per unit. Only a hint for what we quoted ourselves.
    pub unit: Money,
    /// How many.
    pub quantity: i32,
}

impl Proposal {
    /// Parses the fields of `POST /cart/items`, in the order and with the texts of voyage §4.7.
    pub fn parse(
        kind: Option<Value>,
        item_id: Option<Value>,
        item_data: Option<Value>,
        price: Option<Value>,
        quantity: Option<Value>,
        currency: Option<Value>,
    ) -> Result<Self, ApiError> {
        let present = |value: Option<Value>| value.filter(|value| !value.is_null() && value.as_str() != Some(""));
        let (Some(kind), Some(item_id), Some(item_data), Some(price)) =
            (present(kind), present(item_id), present(item_data), present(price))
        else {
            return Err(ApiError::bad_request(
                "Missing required fields: type, itemId, itemData, price",
            ));
        };
        let kind = kind
            .as_str()
            .and_then(ItemKind::parse)
            .ok_or_else(|| ApiError::bad_request("Invalid item type. Must be one of: FLIGHT, HOTEL, ACTIVITY"))?;
        let price = price.as_f64().filter(|price| *price > 0.0);
        let price = price.ok_or_else(|| ApiError::bad_request("Price must be a positive number"))?;
        if price > MAX_PRICE {
            return Err(ApiError::bad_request("Price must not exceed 99999999.99"));
        }
        let quantity = parse_quantity(kind, present(quantity).as_ref())?.unwrap_or(1);
        let item_id = parse_item_id(&item_id)?;
        check_item_data(&item_data)?;
        let currency = match present(currency) {
            None => Currency::EUR,
            Some(code) => code
                .as_str()
                .filter(|code| code.len() == 3)
                .and_then(|code| code.parse().ok())
                .ok_or_else(|| ApiError::bad_request("Currency must be an ISO 4217 code"))?,
        };
        let unit = Money::from_major(price, currency).filter(|unit| unit.minor > 0);
        let unit = unit.ok_or_else(|| ApiError::bad_request("Price must be a positive number"))?;
        Ok(Self {
            kind,
            item_id,
            item_data,
            unit,
            quantity,
        })
    }

    /// What tells this line from others of the same item: its dates. Empty when it has none.
    pub fn variant_key(&self) -> String {
        let parts: Vec<&str> = ["checkInDate", "checkOutDate", "date", "time"]
            .iter()
            .filter_map(|name| self.item_data.get(name)?.as_str())
            .collect();
        if parts.is_empty() || self.kind == ItemKind::Flight {
            return String::new();
        }
        blake3::hash(parts.join("\n").as_bytes())
            .to_hex()
            .chars()
            .take(16)
            .collect()
    }
}

/// A quantity within the limits of its kind; `None` if none was given.
pub fn parse_quantity(kind: ItemKind, value: Option<&Value>) -> Result<Option<i32>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let quantity = positive(value)?;
    let most = max_quantity(kind);
    if quantity > most {
        return Err(ApiError::bad_request(format!("Quantity must not exceed {most}")));
    }
    Ok(Some(quantity))
}

/// A positive whole number, also when written `2.0`; one that is out of every range is just too large.
pub fn positive(value: &Value) -> Result<i32, ApiError> {
    let whole = value.as_i64().or_else(|| {
        let number = value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (1.0..1e9).contains(number))?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the range")]
        Some(number as i64)
    });
    whole
        .filter(|number| *number > 0)
        .map(|number| i32::try_from(number).unwrap_or(i32::MAX))
        .ok_or_else(|| ApiError::bad_request("Quantity must be a positive integer"))
}

/// The most of one thing in a line.
pub const fn max_quantity(kind: ItemKind) -> i32 {
    match kind {
        ItemKind::Flight | ItemKind::Hotel => 9,
        ItemKind::Activity => 30,
    }
}

fn parse_item_id(value: &Value) -> Result<String, ApiError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(ApiError::bad_request("itemId must be a string")),
    };
    if text.len() > MAX_ITEM_ID || text.chars().any(char::is_control) {
        return Err(ApiError::bad_request("itemId must be at most 256 characters"));
    }
    Ok(text)
}

fn check_item_data(value: &Value) -> Result<(), ApiError> {
    if !value.is_object() {
        return Err(ApiError::bad_request("itemData must be an object"));
    }
    check_json("itemData", value, MAX_ITEM_DATA, MAX_DEPTH)
}

/// JSON that may be stored: bounded in size and depth, without the one character that the database cannot hold.
pub fn check_json(name: &str, value: &Value, max_bytes: usize, max_depth: usize) -> Result<(), ApiError> {
    if depth(value) > max_depth {
        return Err(ApiError::bad_request(format!("{name} is nested too deeply")));
    }
    let text = value.to_string();
    if text.len() > max_bytes {
        return Err(ApiError::bad_request(format!("{name} is too large")));
    }
    if has_nul(value) {
        return Err(ApiError::bad_request(format!(
            "{name} contains a character that cannot be stored"
        )));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, field)| name.contains('\0') || has_nul(field)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<Proposal, ApiError> {
        let field = |name: &str| body.get(name).cloned();
        Proposal::parse(
            field("type"),
            field("itemId"),
            field("itemData"),
            field("price"),
            field("quantity"),
            field("currency"),
        )
    }

    fn valid() -> Value {
        json!({ "type": "HOTEL", "itemId": "h1", "itemData": { "name": "Inn" }, "price": 120.5 })
    }

    fn text_of(change: impl FnOnce(&mut Value)) -> String {
        let mut body = valid();
        change(&mut body);
        let error = parse(&body)
            .err()
            .map(|error| error.body()["error"].as_str().unwrap().to_owned());
        error.expect("the body was accepted")
    }

    #[test]
    fn every_refusal_has_the_text_of_the_contract() {
        let missing = "Missing required fields: type, itemId, itemData, price";
        for name in ["type", "itemId", "itemData", "price"] {
            assert_eq!(
                text_of(|body| drop(body.as_object_mut().unwrap().remove(name))),
                missing
            );
        }
        let bad_type = "Invalid item type. Must be one of: FLIGHT, HOTEL, ACTIVITY";
        assert_eq!(text_of(|body| body["type"] = json!("BOAT")), bad_type);
        assert_eq!(
            text_of(|body| body["price"] = json!("12")),
            "Price must be a positive number"
        );
        assert_eq!(
            text_of(|body| body["price"] = json!(0)),
            "Price must be a positive number"
        );
        for quantity in [json!(0), json!(-1), json!(1.5), json!("2")] {
            assert_eq!(
                text_of(|body| body["quantity"] = quantity),
                "Quantity must be a positive integer"
            );
        }
        assert_eq!(
            text_of(|body| body["quantity"] = json!(10)),
            "Quantity must not exceed 9"
        );
        assert_eq!(
            text_of(|body| body["currency"] = json!("XXQ")),
            "Currency must be an ISO 4217 code"
        );
    }

    #[test]
    fn a_lower_case_kind_and_the_defaults_are_taken() {
        let mut body = valid();
        body["type"] = json!("hotel");
        let proposal = parse(&body).unwrap();
        assert_eq!((proposal.kind, proposal.quantity), (ItemKind::Hotel, 1));
        assert_eq!(proposal.unit, Money::new(12_050, Currency::EUR));
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        let deep = (0..20).fold(json!({}), |inner, _| json!({ "in": inner }));
        assert_eq!(text_of(|body| body["itemData"] = deep), "itemData is nested too deeply");
        assert_eq!(
            text_of(|body| body["itemData"] = json!({ "t": "x".repeat(70_000) })),
            "itemData is too large"
        );
        let nul = "itemData contains a character that cannot be stored";
        assert_eq!(text_of(|body| body["itemData"] = json!({ "t": "a\u{0}b" })), nul);
    }

    #[test]
    fn other_dates_are_another_line() {
        let mut body = valid();
        body["itemData"]["checkInDate"] = json!("2026-05-01");
        let may = parse(&body).unwrap().variant_key();
        body["itemData"]["checkInDate"] = json!("2026-06-01");
        assert_ne!(parse(&body).unwrap().variant_key(), may);
        assert_eq!(parse(&valid()).unwrap().variant_key(), "");
    }

    #[test]
    fn a_cart_is_extended_but_not_for_ever() {
        let made = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let half_an_hour = TimeDelta::minutes(30);
        let head = Head {
            id: CartId(uuid::Uuid::nil()),
            currency: Currency::EUR,
            version: 0,
            expires_at: made + half_an_hour,
            created_at: made,
            lines: 0,
        };
        assert_eq!(
            head.extended(made + TimeDelta::minutes(10), half_an_hour),
            made + TimeDelta::minutes(40)
        );
        assert_eq!(
            head.extended(made + TimeDelta::minutes(235), half_an_hour),
            made + MAX_LIFE
        );
    }
}
