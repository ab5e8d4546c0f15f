//! The OpenAPI document of the whole platform, and the page made of it.
//!
//! contract: issue of the core pod (merged document, rendered page), core §14. The documents of the other pods are the
//! committed ones, taken in when this pod is built: a document is there while its pod is away, and a test fails when a
//! committed document is not that of the code (`docs/decisions/0059-one-api-document.md`). The page is made once, on the server,
//! and needs no script.

use std::{collections::BTreeMap, sync::LazyLock};

use askama::Template;
use base64::Engine as _;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use shared::gateway::is_internal;

const BUSINESS: &str = include_str!("../../../docs/openapi/business-pod.json");
const EXPERIENCE: &str = include_str!("../../../docs/openapi/experience-pod.json");
const STYLE: &str = include_str!("../../templates/gateway/reference.css");
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// What is published.
pub struct Documents {
    /// The merged document.
    pub json: Bytes,
    /// Its tag.
    pub etag: HeaderValue,
    /// The page.
    pub page: Bytes,
    /// What the page may load: nothing but its own style.
    pub policy: HeaderValue,
}

/// The documents, made when first asked for.
pub fn published() -> &'static Documents {
    static PUBLISHED: LazyLock<Documents> = LazyLock::new(|| publish(&merged()));
    &PUBLISHED
}

fn publish(document: &Value) -> Documents {
    let json = Bytes::from(document.to_string());
    let digest = hex::encode(Sha256::digest(&json));
    let tag = format!("\"{}\"", digest.get(..32).unwrap_or(&digest));
    let style = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Documents {
        etag: header(&tag),
        policy: header(&policy),
        page: Bytes::from(page(document)),
        json,
    }
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The documents of all pods as one.
pub fn merged() -> Value {
    let own = serde_json::to_value(crate::openapi::document()).unwrap_or_default();
    let read = |text: &str| serde_json::from_str(text).unwrap_or_default();
    merge([
        ("Core", own),
        ("Business", read(BUSINESS)),
        ("Experience", read(EXPERIENCE)),
    ])
}

/// Merges documents. Where two pods give a component the same name and mean different things, the later one's gets the name of
/// its pod; what is for services only is left out; operations get ids that are theirs alone.
fn merge<const N: usize>(documents: [(&str, Value); N]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut components: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (pod, mut document) in documents {
        let own = document.get_mut("components").map(Value::take).unwrap_or_default();
        let mut renames = BTreeMap::new();
        for (kind, items) in own.as_object().into_iter().flatten() {
            let known = components.entry(kind.clone()).or_default();
            for (name, item) in items.as_object().into_iter().flatten() {
                let clashes = known
                    .get(name)
                    .is_some_and(|present| kind != "securitySchemes" && present != item);
                if clashes {
                    renames.insert(reference(kind, name), format!("{pod}{name}"));
                }
            }
        }
        let mut own = own;
        rename(&mut own, &renames);
        rename(&mut document, &renames);
        for (kind, items) in own.as_object().into_iter().flatten() {
            let known = components.entry(kind.clone()).or_default();
            for (name, item) in items.as_object().into_iter().flatten() {
                let name = renames.get(&reference(kind, name)).unwrap_or(name);
                known.entry(name.clone()).or_insert_with(|| item.clone());
            }
        }
        for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
            add(&mut paths, path, item);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "DreamScape API",
            "version": "1.0.0",
            "description": "All services of the platform behind one origin.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": components,
    })
}

fn reference(kind: &str, name: &str) -> String {
    format!("#/components/{kind}/{name}")
}

/// Gives references their new names, everywhere below `value`.
fn rename(value: &mut Value, renames: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref")
                && let Some(name) = renames.get(target.as_str())
                && let Some((kind, _)) = target.rsplit_once('/')
            {
                *target = format!("{kind}/{name}");
            }
            fields.values_mut().for_each(|inner| rename(inner, renames));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| rename(inner, renames)),
        _ => {}
    }
}

fn add(paths: &mut Map<String, Value>, path: &str, item: &Value) {
    if path.strip_prefix("/api/v1/").is_some_and(is_internal) {
        return;
    }
    let entry = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
    let Some(entry) = entry.as_object_mut() else { return };
    for (method, operation) in item.as_object().into_iter().flatten() {
        if is_for_services_only(operation) || entry.contains_key(method) {
            continue;
        }
        let mut operation = operation.clone();
        if METHODS.contains(&method.as_str())
            && let Some(fields) = operation.as_object_mut()
        {
            fields.insert("operationId".to_owned(), json!(operation_id(method, path)));
        }
        entry.insert(method.clone(), operation);
    }
    if entry.is_empty() {
        paths.remove(path);
    }
}

fn is_for_services_only(operation: &Value) -> bool {
    let ways = operation.get("security").and_then(Value::as_array);
    let is_service = |way: &Value| {
        way.as_object()
            .is_some_and(|names| !names.is_empty() && names.keys().all(|name| name == "service"))
    };
    ways.is_some_and(|ways| !ways.is_empty() && ways.iter().all(is_service))
}

/// `get_api_v1_users_id`: names of functions are no ids for a whole platform.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

#[derive(Template)]
#[template(path = "gateway/reference.html")]
struct Page<'a> {
    style: &'a str,
    title: &'a str,
    about: &'a str,
    version: &'a str,
    groups: Vec<Group<'a>>,
    schemas: Vec<(String, String)>,
}

struct Group<'a> {
    name: &'a str,
    operations: Vec<Operation<'a>>,
}

struct Operation<'a> {
    method: String,
    path: &'a str,
    id: String,
    summary: &'a str,
    about: &'a str,
    callers: String,
    parameters: Vec<Parameter<'a>>,
    bodies: Vec<(String, String)>,
    responses: Vec<(&'a str, &'a str, String)>,
}

struct Parameter<'a> {
    name: &'a str,
    place: &'a str,
    required: bool,
    about: &'a str,
}

fn page(document: &Value) -> String {
    let mut groups: BTreeMap<&str, Vec<Operation<'_>>> = BTreeMap::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let tag = operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or("other");
            groups.entry(tag).or_default().push(describe(method, path, operation));
        }
    }
    let groups = groups.into_iter().map(|(name, operations)| Group { name, operations });
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let schemas = schemas
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.clone(), pretty(schema)));
    let page = Page {
        style: STYLE,
        title: text(document, "/info/title"),
        about: text(document, "/info/description"),
        version: text(document, "/info/version"),
        groups: groups.collect(),
        schemas: schemas.collect(),
    };
    page.render().unwrap_or_else(|error| {
        tracing::error!(error = error.to_string(), "the reference could not be rendered");
        String::new()
    })
}

fn describe<'a>(method: &str, path: &'a str, operation: &'a Value) -> Operation<'a> {
    let list = |pointer: &str| operation.pointer(pointer).and_then(Value::as_array);
    let fields = |pointer: &str| operation.pointer(pointer).and_then(Value::as_object);
    let parameters = list("/parameters").into_iter().flatten().map(|parameter| Parameter {
        name: text(parameter, "/name"),
        place: text(parameter, "/in"),
        required: parameter.get("required") == Some(&Value::Bool(true)),
        about: text(parameter, "/description"),
    });
    let bodies = fields("/requestBody/content").into_iter().flatten();
    let responses = fields("/responses").into_iter().flatten().map(|(status, response)| {
        let content = response.get("content").and_then(Value::as_object);
        let schema = content.and_then(|content| content.values().next()).map(schema_of);
        (
            status.as_str(),
            text(response, "/description"),
            schema.unwrap_or_default(),
        )
    });
    Operation {
        method: method.to_uppercase(),
        path,
        id: operation_id(method, path),
        summary: text(operation, "/summary"),
        about: text(operation, "/description"),
        callers: callers(operation),
        parameters: parameters.collect(),
        bodies: bodies.map(|(kind, body)| (kind.clone(), schema_of(body))).collect(),
        responses: responses.collect(),
    }
}

/// The name of a schema, or the schema itself where it has none.
fn schema_of(content: &Value) -> String {
    match content.pointer("/schema/$ref").and_then(Value::as_str) {
        Some(target) => target.rsplit('/').next().unwrap_or_default().to_owned(),
        None => content.get("schema").map(pretty).unwrap_or_default(),
    }
}

fn callers(operation: &Value) -> String {
    let ways = operation.get("security").and_then(Value::as_array);
    let names = ways.into_iter().flatten().map(|way| {
        let names: Vec<&str> = way
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() {
            "anybody".to_owned()
        } else {
            names.join(" and ")
        }
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "anybody".to_owned()
    } else {
        names.join(", or ")
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    found.insert(target.clone());
                }
                fields.values().for_each(|inner| references(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_of_the_merged_document_leads_somewhere() {
        let document = merged();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }

    #[test]
    fn every_operation_of_every_pod_is_there_with_an_id_of_its_own() {
        let document = merged();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                assert!(
                    ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "{path}"
                );
            }
        }
        for path in [
            "/api/v1/auth/login",
            "/api/v1/vr/sessions",
            "/api/v1/cart/checkout",
            "/api/v1/payment/webhook",
            "/",
        ] {
            assert!(document["paths"].get(path).is_some(), "{path}");
        }
        for path in ["/api/v1/auth/service-token", "/api/v1/users/notifications/internal"] {
            assert!(document["paths"].get(path).is_none(), "{path} is for services");
        }
    }

    #[test]
    fn names_that_mean_two_things_are_told_apart() {
        let document = |kind: &str| {
            json!({
                "paths": { format!("/{kind}"): { "get": { "responses": { "200": {
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Page" } } }
                } } } } },
                "components": { "schemas": { "Page": { "type": kind }, "Same": { "type": "null" } } },
            })
        };
        let merged = merge([("One", document("string")), ("Two", document("integer"))]);
        let target = |path: &str| {
            merged["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].clone()
        };
        assert_eq!(target("/string"), "#/components/schemas/Page");
        assert_eq!(target("/integer"), "#/components/schemas/TwoPage");
        let schemas = merged["components"]["schemas"].as_object().unwrap();
        assert_eq!(schemas.keys().collect::<Vec<_>>(), ["Page", "Same", "TwoPage"]);
        assert_eq!(schemas["TwoPage"]["type"], "integer");
    }

    #[test]
    fn the_page_shows_every_operation_and_runs_nothing() {
        let document = merged();
        let page = page(&document);
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                assert!(
                    page.contains(&format!("id=\"{}\"", operation_id(method, path))),
                    "{method} {path}"
                );
            }
        }
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    }

    #[test]
    fn what_a_document_says_cannot_break_the_page() {
        let document = merge([(
            "One",
            json!({
                "paths": { "/x": { "get": { "summary": "<script>alert(1)</script>", "responses": {} } } },
            }),
        )]);
        assert!(!page(&document).contains("<script"));
    }
}
