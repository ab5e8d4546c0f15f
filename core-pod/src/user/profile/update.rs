//! What the body of `PUT /users/profile` asks for.
//!
//! contract: core §5.1. Clients send back all they have, so what is so already is no change and is not judged by rules
//! that came later: an address, a name or a picture that stays as it is is always accepted.

use shared::ApiError;

use super::{
    blocks::read_blocks,
    image::data_url,
    model::{PICTURES, Settings, StoredProfile},
};
use crate::{
    auth::client::Username,
    user::fields::{Fields, JsonBody, Problems},
};

const LONGEST_URL: usize = 2048;

/// All changes of a profile, each found good.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Another name: the user name.
    pub name: Option<Username>,
    /// Another address, as typed.
    pub email: Option<&'a str>,
    /// Another picture.
    pub photo: Photo<'a>,
    /// Other settings.
    pub settings: Settings,
}

/// What becomes of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Photo<'a> {
    /// It stays.
    Keep,
    /// It is elsewhere on the web.
    Elsewhere(&'a str),
    /// It is in the body.
    Enclosed(&'a str),
}

impl<'a> Plan<'a> {
    /// Reads the body of `PUT /users/profile`; `is_same_email` says whether a text is another
    /// spelling of the present address, or no address at all.
    pub fn read(
        body: &'a JsonBody,
        stored: &StoredProfile,
        is_same_email: impl FnOnce(&str) -> Result<bool, &'static str>,
    ) -> Result<Self, ApiError> {
        let problems = Problems::default();
        let plan = {
            let fields = body.fields(&problems);
            let profile = fields.object("profile");
            let name = profile.text("name").filter(|name| !is_same_name(name, stored));
            let name = name.and_then(|name| profile.accepted("name", name, Username::shown));
            let email = profile.text("email").filter(|email| email.trim() != stored.email);
            let email = email.filter(|email| profile.accepted("email", email, is_same_email) == Some(false));
            let photo = read_photo(&profile, stored.avatar.as_deref());
            Plan {
                name,
                email,
                photo,
                settings: read_blocks(&fields, &fields.object("preferences")),
            }
        };
        problems.refuse()?;
        Ok(Plan {
            settings: plan.settings.beyond(&stored.settings),
            ..plan
        })
    }
}

/// The name shown now is no choice of a user name: two travellers called alike may both save their settings.
fn is_same_name(name: &str, stored: &StoredProfile) -> bool {
    name.trim() == stored.display_name()
}

/// A picture as clients send it: nothing, a text, or the answer to an upload with the text in it.
fn read_photo<'a>(profile: &Fields<'a, '_>, present: Option<&str>) -> Photo<'a> {
    let text = match profile.value("photo") {
        None => return Photo::Keep,
        Some(serde_json::Value::Object(answer)) => {
            let text = ["avatar", "url"].into_iter().find_map(|key| answer.get(key)?.as_str());
            let Some(text) = text else { return Photo::Keep };
            text
        }
        Some(serde_json::Value::String(text)) => text.as_str(),
        Some(_) => {
            profile.refuse("photo", "must be a URL");
            return Photo::Keep;
        }
    };
    photo(text, present).unwrap_or_else(|message| {
        profile.refuse("photo", message);
        Photo::Keep
    })
}

fn photo<'a>(text: &'a str, present: Option<&str>) -> Result<Photo<'a>, &'static str> {
    if text.is_empty() || Some(text) == present {
        return Ok(Photo::Keep);
    }
    if data_url::is_one(text) {
        return Ok(Photo::Enclosed(text));
    }
    if text.starts_with(PICTURES) {
        // a picture of ours belongs to whoever uploaded it; one's own is the present one
        return Err("must be a picture of your own");
    }
    let odd = |character: char| {
        character.is_whitespace() || character.is_control() || matches!(character, '"' | '\'' | '<' | '>' | '\\')
    };
    let address = url::Url::parse(text)
        .ok()
        .filter(|_| text.len() <= LONGEST_URL && !text.contains(odd));
    match address {
        // the present picture with the address of this site in front
        Some(address) if Some(address.path()) == present => Ok(Photo::Keep),
        Some(address) if address.scheme() == "https" && address.has_host() => Ok(Photo::Elsewhere(text)),
        _ => Err("must be an https URL of at most 2048 characters or a picture"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const OWN: &str = "/uploads/avatars/avatar-1-2.png";

    fn stored() -> StoredProfile {
        StoredProfile {
            username: None,
            first_name: Some("John".to_owned()),
            last_name: Some("Smith".to_owned()),
            email: "john@example.com".to_owned(),
            avatar: Some(OWN.to_owned()),
            settings: Settings {
                currency: Some("EUR".to_owned()),
                ..Settings::default()
            },
        }
    }

    fn plan(body: Value, check: impl FnOnce(Plan<'_>)) -> Result<(), ApiError> {
        let body = JsonBody::from(body);
        let is_same = |email: &str| {
            if email.contains('@') {
                Ok(false)
            } else {
                Err("must be an address")
            }
        };
        Plan::read(&body, &stored(), is_same).map(check)
    }

    #[test]
    fn what_a_client_sends_back_unchanged_is_no_change() {
        let body = json!({
            "profile": { "name": "John Smith", "email": "john@example.com", "photo": OWN, "other": 1 },
            "preferences": { "currency": "EUR", "preferredCurrency": "x" },
            "unknown": [],
        });
        plan(body, |plan| {
            assert!(plan.name.is_none());
            assert_eq!((plan.email, plan.photo), (None, Photo::Keep));
            assert!(plan.settings.is_empty());
        })
        .unwrap();
    }

    #[test]
    fn every_wrong_field_is_refused_at_once() {
        let body = json!({
            "profile": { "name": "<b>", "email": "nobody", "photo": 5 },
            "preferences": { "language": "Klingon", "currency": "eur", "timezone": "Mars/Base" },
            "notifications": { "dealAlerts": "yes" },
            "privacy": { "profileVisibility": "friends", "marketing": 1 },
            "travel": { "activities": "ski", "dietary": ["x".repeat(101)], "accommodationType": vec!["x"; 51] },
        });
        let refusal = plan(body, |_| panic!("accepted")).unwrap_err().body();
        let paths: Vec<_> = refusal["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["path"].as_str().unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "profile.name",
                "profile.email",
                "profile.photo",
                "notifications.dealAlerts",
                "privacy.profileVisibility",
                "privacy.marketing",
                "travel.accommodationType",
                "travel.activities",
                "travel.dietary",
                "preferences.language",
                "preferences.currency",
                "preferences.timezone",
            ]
        );
        assert!(!refusal.to_string().contains("Klingon"));
    }

    #[test]
    fn a_picture_may_come_in_odd_forms() {
        let present = Some(OWN);
        for same in [
            "",
            OWN,
            "https://site.example/uploads/avatars/avatar-1-2.png",
            "http://localhost:3002/uploads/avatars/avatar-1-2.png",
        ] {
            assert_eq!(photo(same, present), Ok(Photo::Keep), "{same}");
        }
        let elsewhere = "https://cdn.example/me.png?size=2";
        assert_eq!(photo(elsewhere, present), Ok(Photo::Elsewhere(elsewhere)));
        assert_eq!(
            photo("data:image/png;base64,AAAA", None),
            Ok(Photo::Enclosed("data:image/png;base64,AAAA"))
        );
        let long = format!("https://x.example/{}", "a".repeat(2048));
        for wrong in [
            "/uploads/avatars/avatar-9-9.png",
            "/uploads/avatars/../x",
            "http://x.example/a.png",
            "javascript:alert(1)",
            "me.png",
            "https://",
            "https://x.example/\"onerror",
            "//x.example/a",
            "blob:https://x/1",
            &long,
        ] {
            assert!(photo(wrong, present).is_err(), "{wrong}");
        }
        let photo_of = |value: Value| {
            let body = JsonBody::from(json!({ "photo": value }));
            let problems = Problems::default();
            let read = matches!(read_photo(&body.fields(&problems), present), Photo::Keep);
            (read, problems.refuse().is_ok())
        };
        for unchanged in [
            json!(null),
            json!({}),
            json!({ "success": true, "avatar": OWN }),
            json!({ "url": OWN }),
            json!({ "avatar": { "url": 1 } }),
        ] {
            assert_eq!(photo_of(unchanged), (true, true));
        }
        assert_eq!(photo_of(json!({ "avatar": elsewhere })), (false, true));
        for wrong in [json!(1), json!(true), json!([]), json!({ "avatar": "x" })] {
            assert!(!photo_of(wrong).1);
        }
    }
}
