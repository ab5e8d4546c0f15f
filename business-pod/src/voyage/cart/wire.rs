//! Carts as clients see them (voyage §4.7). Prices and totals are numbers (experience D5).

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use shared::id::{CartId, CartItemId};
use utoipa::ToSchema;

use super::model::{Cart, CartLine, ItemKind};
use crate::voyage::{booking::model::unit_price, identity::GUEST};

/// A cart.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Cart)]
pub struct CartBody {
    /// The cart.
    pub id: CartId,
    /// The account, or `guest`.
    pub user_id: String,
    /// What all lines cost together.
    pub total_price: f64,
    /// Of every line.
    pub currency: &'static str,
    /// Until when it lives.
    #[serde(with = "shared::sources::iso")]
    pub expires_at: DateTime<Utc>,
    /// When it was made.
    #[serde(with = "shared::sources::iso")]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(with = "shared::sources::iso")]
    pub updated_at: DateTime<Utc>,
    /// In order of arrival.
    pub items: Vec<CartItemBody>,
}

/// One line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CartItem)]
pub struct CartItemBody {
    /// The line.
    pub id: CartItemId,
    /// Its cart.
    pub cart_id: CartId,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ItemKind,
    /// The id of whoever sells it.
    pub item_id: String,
    /// What the client put in.
    #[schema(value_type = Object)]
    pub item_data: Box<RawValue>,
    /// How many.
    pub quantity: i32,
    /// Per unit. Times the quantity it is the line's total, but for rounding.
    pub price: f64,
    /// What the line costs, exactly.
    pub line_total: f64,
    /// The cart's currency.
    pub currency: &'static str,
    /// Whether we quoted the price.
    pub price_verified: bool,
    /// Until when the quoted price holds.
    #[serde(with = "shared::sources::iso_option", skip_serializing_if = "Option::is_none")]
    pub offer_expires_at: Option<DateTime<Utc>>,
    /// `active`, or `expired` once the price no longer holds.
    pub status: &'static str,
    /// When it was added.
    #[serde(with = "shared::sources::iso")]
    pub created_at: DateTime<Utc>,
}

/// A cart beside its summary.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartReply {
    /// The cart; null if there is none.
    pub data: Option<CartBody>,
    /// The summary.
    pub meta: CartMeta,
}

/// The summary of a cart.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CartMeta {
    /// Lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_count: Option<usize>,
    /// What all lines cost together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_price: Option<f64>,
    /// Until when the cart lives.
    #[serde(with = "shared::sources::iso_option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
}

/// What is put into a cart. Every field is checked by hand, so that each mistake has its own text.
#[derive(Debug, Default, serde::Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = AddToCart)]
pub struct AddBody {
    /// A claim: the caller's own id, or `guest`.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<Value>,
    /// `FLIGHT`, `HOTEL`, `ACTIVITY`, in any case.
    #[schema(value_type = Option<String>)]
    pub r#type: Option<Value>,
    /// Another name of `type`.
    #[schema(value_type = Option<String>)]
    pub item_type: Option<Value>,
    /// The id of the offer.
    #[schema(value_type = Option<String>)]
    pub item_id: Option<Value>,
    /// What the client wants to show of it later: at most 64 KiB, 12 levels.
    #[schema(value_type = Option<Object>)]
    pub item_data: Option<Value>,
    /// Per unit. A hint only, where we quoted the offer.
    #[schema(value_type = Option<f64>)]
    pub price: Option<Value>,
    /// 1 if not given.
    #[schema(value_type = Option<i32>)]
    pub quantity: Option<Value>,
    /// EUR if not given.
    #[schema(value_type = Option<String>)]
    pub currency: Option<Value>,
}

/// How many there shall be of a line.
#[derive(Debug, Default, serde::Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = CartQuantity)]
pub struct QuantityBody {
    /// A claim.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<Value>,
    /// 1 to 9, for activities to 30.
    #[schema(value_type = Option<i32>)]
    pub quantity: Option<Value>,
}

/// A body that says at most who calls.
#[derive(Debug, Default, serde::Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimBody {
    /// A claim.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<Value>,
}

/// A query that says at most who calls.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub struct ClaimQuery {
    /// A claim: the caller's own id, or `guest`.
    pub user_id: Option<String>,
}

impl CartBody {
    /// The cart as it is at `now`.
    pub fn new(cart: Cart, now: DateTime<Utc>) -> Self {
        let id = cart.id;
        Self {
            id,
            user_id: cart.user.map_or_else(|| GUEST.to_owned(), |user| user.to_string()),
            total_price: cart.total.major(),
            currency: cart.total.currency.code(),
            expires_at: cart.expires_at,
            created_at: cart.created_at,
            updated_at: cart.updated_at,
            items: cart
                .lines
                .into_iter()
                .map(|line| CartItemBody::new(line, id, now))
                .collect(),
        }
    }
}

impl CartItemBody {
    fn new(line: CartLine, cart_id: CartId, now: DateTime<Utc>) -> Self {
        let expired = line.offer_expires_at.is_some_and(|until| now >= until);
        Self {
            id: line.id,
            cart_id,
            kind: line.kind,
            item_id: line.item_id,
            item_data: line.item_data,
            quantity: line.quantity,
            price: unit_price(line.total, line.quantity),
            line_total: line.total.major(),
            currency: line.total.currency.code(),
            price_verified: line.price_verified,
            offer_expires_at: line.offer_expires_at,
            status: if expired { "expired" } else { "active" },
            created_at: line.created_at,
        }
    }
}

impl CartReply {
    /// A cart after a change.
    pub fn changed(cart: Cart, now: DateTime<Utc>, message: &'static str) -> Self {
        let data = CartBody::new(cart, now);
        let meta = CartMeta {
            item_count: Some(data.items.len()),
            total_price: Some(data.total_price),
            expires_at: Some(data.expires_at),
            message: Some(message),
        };
        Self { data: Some(data), meta }
    }

    /// A cart as it was found.
    pub fn found(cart: Cart, now: DateTime<Utc>) -> Self {
        let data = CartBody::new(cart, now);
        let meta = CartMeta {
            item_count: Some(data.items.len()),
            expires_at: Some(data.expires_at),
            ..CartMeta::default()
        };
        Self { data: Some(data), meta }
    }

    /// No cart, and why.
    pub fn none(message: &'static str) -> Self {
        Self {
            data: None,
            meta: CartMeta {
                message: Some(message),
                ..CartMeta::default()
            },
        }
    }
}
