//! Form bodies with brackets (`metadata[bookingId]=…`, `expand[]=…`) as Stripe reads them, and typed access to them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::Failure;

/// How deep brackets may nest.
const MAX_DEPTH: usize = 8;

/// Parameters of one call, or of one nested object of it. What is taken is removed; [`Params::finish`] refuses the rest.
#[derive(Debug, Clone, Default)]
pub(super) struct Params {
    map: Map<String, Value>,
    prefix: String,
}

impl Params {
    /// Reads a query string and a form body; the body wins.
    pub(super) fn parse(query: &str, body: &[u8]) -> Result<Self, Failure> {
        let mut map = Value::Object(Map::new());
        for pairs in [query.as_bytes(), body] {
            for (key, value) in url::form_urlencoded::parse(pairs) {
                insert(&mut map, &path_of(&key)?, value.into_owned());
            }
        }
        let Value::Object(map) = map else {
            return Ok(Self::default());
        };
        Ok(Self {
            map,
            prefix: String::new(),
        })
    }

    /// The parameters as one value, for comparing and recording calls.
    pub(super) fn as_value(&self) -> Value {
        Value::Object(self.map.clone())
    }

    fn name_of(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}[{name}]", self.prefix)
        }
    }

    /// A text, which may be empty: an empty text unsets the attribute.
    pub(super) fn clearable(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Failure::invalid(
                &self.name_of(name),
                format!("Invalid string: {other}"),
            )),
        }
    }

    /// A text; an empty one is refused.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let text = self.clearable(name)?;
        if text.as_deref() == Some("") {
            let shown = self.name_of(name);
            let message = format!(
                "You passed an empty string for '{shown}'. We assume empty values are an attempt to unset a parameter; \
                 however '{shown}' cannot be unset. You should remove '{shown}' from your request or supply a \
                 non-empty value."
            );
            return Err(Failure::invalid(&shown, message).with_code("parameter_invalid_empty"));
        }
        Ok(text)
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, Failure> {
        self.text(name)?.ok_or_else(|| missing(&self.name_of(name)))
    }

    /// An integer.
    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            let message = format!("Invalid integer: {text}");
            Failure::invalid(&self.name_of(name), message).with_code("parameter_invalid_integer")
        })?;
        Ok(Some(number))
    }

    /// An integer that must be there.
    pub(super) fn required_integer(&mut self, name: &str) -> Result<i64, Failure> {
        self.integer(name)?.ok_or_else(|| missing(&self.name_of(name)))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(Failure::invalid(
                &self.name_of(name),
                format!("Invalid boolean: {other}"),
            )),
        }
    }

    /// One word of a closed list.
    pub(super) fn one_of(&mut self, name: &str, words: &[&str]) -> Result<Option<String>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if words.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        let (last, others) = words.split_last().unwrap_or((&"", &[]));
        let shown = self.name_of(name);
        Err(Failure::invalid(
            &shown,
            format!("Invalid {shown}: must be one of {}, or {last}", others.join(", ")),
        ))
    }

    /// A nested object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Failure> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                map,
                prefix: self.name_of(name),
            })),
            Some(_) => Err(Failure::invalid(&self.name_of(name), "Invalid object".to_owned())),
        }
    }

    /// A list of texts, written `name[]=` or `name[0]=`.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        let items: Vec<Value> = match self.map.remove(name) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(Value::Object(map)) => map.into_iter().map(|(_, value)| value).collect(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(_) => return Err(Failure::invalid(&self.name_of(name), "Invalid array".to_owned())),
        };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Ok(text),
            _ => Err(Failure::invalid(&self.name_of(name), "Invalid array".to_owned())),
        });
        texts.collect()
    }

    /// The metadata changes of a call: an empty value unsets its key, an empty `metadata` unsets all (`None`).
    pub(super) fn metadata(&mut self) -> Result<Option<MetadataChange>, Failure> {
        let map = match self.map.remove("metadata") {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(Some(MetadataChange::Clear)),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(Failure::invalid("metadata", "Invalid object".to_owned())),
        };
        let mut changes = BTreeMap::new();
        for (key, value) in map {
            let shown = format!("metadata[{key}]");
            let Value::String(value) = value else {
                let message =
                    "Metadata values must be strings, but for key '".to_owned() + &key + "' you passed in a hash.";
                return Err(Failure::invalid(&shown, message));
            };
            if key.chars().count() > 40 {
                let message = format!(
                    "Metadata keys can have up to 40 characters, but '{key}' has {}.",
                    key.chars().count()
                );
                return Err(Failure::invalid(&shown, message));
            }
            if value.chars().count() > 500 {
                let message = format!(
                    "Metadata values can have up to 500 characters, but you passed in a value that is {} characters.",
                    value.chars().count()
                );
                return Err(Failure::invalid(&shown, message));
            }
            changes.insert(key, value);
        }
        Ok(Some(MetadataChange::Merge(changes)))
    }

    /// The metadata of a new object.
    pub(super) fn new_metadata(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        let change = self.metadata()?;
        change.map_or_else(|| Ok(BTreeMap::new()), |change| change.apply(BTreeMap::new()))
    }

    /// Forgets parameters that may be sent and change nothing here.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Refuses what nobody has taken.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Some(unknown) = self.map.keys().next() else {
            return Ok(());
        };
        let shown = self.name_of(unknown);
        Err(Failure::invalid(&shown, format!("Received unknown parameter: {shown}")).with_code("parameter_unknown"))
    }
}

/// What a call does to an object's metadata.
#[derive(Debug, Clone)]
pub(super) enum MetadataChange {
    /// All keys go.
    Clear,
    /// These keys are set, or unset when their value is empty.
    Merge(BTreeMap<String, String>),
}

impl MetadataChange {
    /// The metadata after the change.
    pub(super) fn apply(self, mut metadata: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
        let Self::Merge(changes) = self else {
            return Ok(BTreeMap::new());
        };
        for (key, value) in changes {
            if value.is_empty() {
                metadata.remove(&key);
            } else {
                metadata.insert(key, value);
            }
        }
        if metadata.len() > 50 {
            let message = format!(
                "You cannot have more than 50 metadata keys, but you passed in {}.",
                metadata.len()
            );
            return Err(Failure::invalid("metadata", message));
        }
        Ok(metadata)
    }
}

fn missing(name: &str) -> Failure {
    Failure::invalid(name, format!("Missing required param: {name}.")).with_code("parameter_missing")
}

fn path_of(key: &str) -> Result<Vec<String>, Failure> {
    let (head, rest) = key.find('[').map_or((key, ""), |at| key.split_at(at));
    let mut path = vec![head.to_owned()];
    let segments = rest
        .strip_prefix('[')
        .map(|inner| inner.strip_suffix(']').unwrap_or(inner));
    path.extend(
        segments
            .into_iter()
            .flat_map(|inner| inner.split("]["))
            .map(str::to_owned),
    );
    if path.len() > MAX_DEPTH {
        return Err(Failure::invalid(head, "Invalid object: nested too deeply".to_owned()));
    }
    Ok(path)
}

fn insert(node: &mut Value, path: &[String], value: String) {
    let Some((segment, rest)) = path.split_first() else {
        *node = Value::String(value);
        return;
    };
    if segment.is_empty() {
        if !node.is_array() {
            *node = Value::Array(Vec::new());
        }
        if let Value::Array(items) = node {
            let mut item = Value::Null;
            insert(&mut item, rest, value);
            items.push(item);
        }
        return;
    }
    if !node.is_object() {
        *node = Value::Object(Map::new());
    }
    if let Value::Object(map) = node {
        insert(map.entry(segment.clone()).or_insert(Value::Null), rest, value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn brackets_become_objects_and_lists() {
        let body = b"amount=100&metadata[bookingId]=b%201&expand[]=latest_charge&expand[]=x.y&a[b][c]=1&types[0]=card";
        let mut params = Params::parse("limit=3", body).unwrap();
        let expected = json!({
            "limit": "3", "amount": "100", "metadata": {"bookingId": "b 1"},
            "expand": ["latest_charge", "x.y"], "a": {"b": {"c": "1"}}, "types": {"0": "card"}
        });
        assert_eq!(params.as_value(), expected);
        assert_eq!(params.list("types").unwrap(), ["card"]);
    }

    #[test]
    fn what_nobody_took_is_refused_by_its_full_name() {
        let mut params = Params::parse("", b"card[number]=1&card[nonsense]=2").unwrap();
        let mut card = params.object("card").unwrap().unwrap();
        assert_eq!(card.text("number").unwrap().as_deref(), Some("1"));
        assert!(card.finish().unwrap_err().message().contains("card[nonsense]"));
    }

    #[test]
    fn metadata_is_merged_and_unset() {
        let before = BTreeMap::from([("keep".to_owned(), "1".to_owned()), ("drop".to_owned(), "2".to_owned())]);
        let mut params = Params::parse("", b"metadata[drop]=&metadata[new]=3").unwrap();
        let after = params.metadata().unwrap().unwrap().apply(before).unwrap();
        assert_eq!(after.keys().collect::<Vec<_>>(), ["keep", "new"]);
    }
}
