//! What the Business Pod knows of a traveller, read from the views that its migrations publish.
//!
//! contract: README (reading another service's data), core §11; voyage §7.5, payment §9
//!
//! The text of these statements is not checked when we compile: this pod's migrations do not make the views. A view that
//! is not there, or that we may not read, is an error like a server that does not answer, never an empty list.

use serde_json::Value;
use shared::id::UserId;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::user::gdpr::data::on_the_wire;

/// A view of the Business Pod.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The key in the export.
    pub key: &'static str,
    name: &'static str,
    order: &'static str,
    /// What says nothing about a person, or says it twice.
    hidden: &'static [&'static str],
}

/// All that is read.
pub const VIEWS: [View; 3] = [
    View {
        key: "searches",
        name: "voyage.search_data",
        order: "searched_at",
        hidden: &["user_id", "session_id"],
    },
    View {
        key: "bookings",
        name: "voyage.booking_data",
        order: "created_at",
        hidden: &["user_id", "total_minor", "destination_city"],
    },
    View {
        key: "payments",
        name: "payment.transaction_data",
        order: "created_at",
        hidden: &[
            "user_id",
            "amount_minor",
            "captured_minor",
            "refunded_minor",
            "currency_exponent",
            "stripe_customer_id",
        ],
    },
];

/// The rows of a traveller, oldest first.
pub async fn rows(conn: &mut PgConnection, view: &View, user: UserId) -> sqlx::Result<Vec<Value>> {
    let View { name, order, .. } = view;
    let sql = format!("select to_jsonb(found) from {name} as found where user_id = $1 order by {order}, id");
    let rows: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(user)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| on_the_wire(row, view.hidden)).collect())
}
