//! JSON that travellers and services hand us to keep.
//!
//! PostgreSQL stores any JSON but the character U+0000, and nobody needs megabytes: both are refused at the door.

use serde_json::Value;

/// Questions about a value that shall be stored.
pub trait Plain {
    /// Whether it can be stored and takes at most so many bytes.
    fn fits(&self, bytes: usize) -> bool;
}

impl Plain for Value {
    fn fits(&self, bytes: usize) -> bool {
        is_storable(self) && serde_json::to_vec(self).is_ok_and(|text| text.len() <= bytes)
    }
}

fn is_storable(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => items.iter().all(is_storable),
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| !name.contains('\0') && is_storable(value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_nul_anywhere_and_too_much_of_anything_do_not_fit() {
        assert!(json!({ "a": [1, "x", null, { "b": true }] }).fits(100));
        for odd in [
            json!("\0"),
            json!([["\0"]]),
            json!({ "\0": 1 }),
            json!({ "a": { "b": "x\0" } }),
        ] {
            assert!(!odd.fits(100), "{odd}");
        }
        assert!(!json!("x".repeat(99)).fits(100));
    }
}
