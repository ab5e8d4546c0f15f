//! Every table of this service that holds personal data: what of it belongs into an export, and what an erasure does
//! with it. A table that is not here fails a test, so neither is ever forgotten.
//!
//! contract: core §5.11 (content of an export), §14 (erasure of each data class)

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use shared::{id::UserId, sources::iso_millis};
use sqlx::{AssertSqlSafe, PgConnection};

/// Rows that are deleted in one statement.
const BATCH: i64 = 1_000;

/// A table with a column `user_id`.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name in the schema `users`.
    pub name: &'static str,
    /// What an export shows of it.
    pub export: Export,
    /// What happens to it when its owner goes.
    pub erase: Erase,
    /// Columns that say nothing about a person.
    pub hidden: &'static [&'static str],
}

/// What an export shows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// The one row of a traveller, or null.
    One(&'static str),
    /// All rows, ordered by this column.
    Rows(&'static str, &'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// What happens to the rows of a traveller who goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erase {
    /// They go too.
    Delete,
    /// The saga itself sees to them, for this reason.
    Saga(&'static str),
}

const fn table(name: &'static str, export: Export) -> Table {
    Table {
        name,
        export,
        erase: Erase::Delete,
        hidden: &["user_id"],
    }
}

/// All tables.
pub const TABLES: &[Table] = &[
    table("settings", Export::One("settings")),
    table("profiles", Export::One("profile")),
    table("notifications", Export::Rows("notifications", "created_at")),
    table("consents", Export::One("consent")),
    table("consent_history", Export::Rows("consentHistory", "changed_at")),
    table("policy_acceptances", Export::Rows("policyAcceptances", "accepted_at")),
    Table {
        hidden: &["user_id", "export_object", "attempts", "next_attempt_at"],
        ..table("gdpr_requests", Export::Rows("gdprRequests", "requested_at"))
    },
    Table {
        erase: Erase::Saga("what others did with the data is kept under a pseudonym"),
        hidden: &["user_id", "before_digest", "after_digest", "reason"],
        ..table("data_access_logs", Export::Rows("accessLogs", "accessed_at"))
    },
    table("analytics", Export::Rows("analytics", "occurred_at")),
    table("onboarding_profiles", Export::One("travelOnboarding")),
    table("favorites", Export::Rows("favorites", "created_at")),
    table("history", Export::Rows("history", "created_at")),
    Table {
        erase: Erase::Saga("it is the erasure under way, and goes with its end"),
        ..table(
            "erasures",
            Export::Nothing("an account that is being erased cannot ask for an export"),
        )
    },
];

/// The rows of a traveller in a table, in the names and formats of the wire.
pub async fn rows(conn: &mut PgConnection, table: &Table, order: &str, user: UserId) -> sqlx::Result<Vec<Value>> {
    let sql = format!(
        "select to_jsonb(found) from users.{} as found where user_id = $1 order by {order}",
        table.name
    );
    let rows: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(user)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| on_the_wire(row, table.hidden)).collect())
}

/// Deletes a batch of a traveller's rows. Gives their number.
pub async fn delete(conn: &mut PgConnection, table: &Table, user: UserId) -> sqlx::Result<u64> {
    let name = table.name;
    let sql = format!(
        "delete from users.{name} where ctid = any (array(select ctid from users.{name} where user_id = $1 limit $2))"
    );
    let deleted = sqlx::query(AssertSqlSafe(sql))
        .bind(user)
        .bind(BATCH)
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected())
}

/// `to_jsonb` of a row as clients know rows: names in camel case, instants with three digits and `Z`. What stands inside
/// a column is the traveller's own and stays as it is.
pub fn on_the_wire(row: Value, hidden: &[&str]) -> Value {
    let Value::Object(columns) = row else { return row };
    let shown = columns.into_iter().filter(|(name, _)| !hidden.contains(&name.as_str()));
    let renamed: Map<String, Value> = shown
        .map(|(name, value)| {
            let value = if name.ends_with("_at") || name == "execute_after" {
                instant(value)
            } else {
                value
            };
            (camel(&name), value)
        })
        .collect();
    Value::Object(renamed)
}

fn instant(value: Value) -> Value {
    let parsed = value
        .as_str()
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
        .map(|instant| iso_millis(instant.with_timezone(&Utc)));
    parsed.map_or(value, Value::String)
}

fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut raise = false;
    for letter in name.chars() {
        match letter {
            '_' => raise = true,
            _ if raise => {
                camel.extend(letter.to_uppercase());
                raise = false;
            }
            _ => camel.push(letter),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_the_names_and_formats_of_the_wire() {
        let row = json!({
            "user_id": "u", "action_type": "VIEWED", "created_at": "2027-01-15T08:00:00.123456+00:00", "read_at": null,
            "entity_id": "2027-01-15T08:00:00+00:00", "metadata": { "snake_key": 1, "seen_at": "2027-01-15T08:00:00+00:00" },
        });
        assert_eq!(
            on_the_wire(row, &["user_id"]),
            json!({
                "actionType": "VIEWED", "createdAt": "2027-01-15T08:00:00.123Z", "readAt": null,
                "entityId": "2027-01-15T08:00:00+00:00",
                "metadata": { "snake_key": 1, "seen_at": "2027-01-15T08:00:00+00:00" },
            })
        );
    }
}
