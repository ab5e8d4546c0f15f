//! From a letter to subject, text and HTML: the words of a language, laid out by two templates.
//!
//! contract: core §9, §13 line 15. The words are plain text in plain fields; the one HTML template is the only place where
//! markup meets them, and askama escapes every field there. No letter brings markup of its own, so none can forget to.

use askama::Template;
use chrono_tz::Tz;

use super::{
    format::{self, Locale},
    letter::{Letter, Token},
    words::{en, fr},
};

/// A subject longer than this is cut.
const MAX_SUBJECT: usize = 140;

/// What a letter is written with.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// In which language.
    pub locale: Locale,
    /// In which time zone its instants are told.
    pub zone: Tz,
    /// The web client, without a slash at the end.
    pub client_url: &'a str,
    /// The API as the reader's mail program reaches it, without a slash at the end.
    pub api_url: &'a str,
    /// Whom to greet.
    pub name: Option<&'a str>,
}

impl Setting<'_> {
    /// A page of the web client.
    pub fn page(&self, path: &str) -> String {
        format!("{}/{path}", self.client_url)
    }

    /// A page with a secret. It stands behind `#`, so no browser ever sends it to a server and no log or `Referer` has it.
    pub fn secret_page(&self, path: &str, token: &Token) -> String {
        format!("{}/{path}#token={}", self.client_url, escaped(token))
    }

    /// An instant in the reader's zone.
    pub fn instant(&self, at: chrono::DateTime<chrono::Utc>) -> String {
        format::instant(at, self.zone, self.locale)
    }

    /// A day in the reader's zone.
    pub fn day(&self, at: chrono::DateTime<chrono::Utc>) -> String {
        format::day(at, self.zone, self.locale)
    }

    /// An amount.
    pub fn amount(&self, amount: super::letter::Amount) -> String {
        format::amount(amount.into(), self.locale)
    }
}

/// Our own tokens need no escaping; nothing else becomes a link by being put in their place.
fn escaped(token: &Token) -> String {
    url::form_urlencoded::byte_serialize(token.expose().as_bytes()).collect()
}

/// A link to be followed.
#[derive(Clone)]
pub struct Action {
    /// What it does.
    pub label: String,
    /// Where it leads.
    pub url: String,
}

impl Action {
    /// A link.
    pub fn new(label: &str, url: String) -> Self {
        Self {
            label: label.to_owned(),
            url,
        }
    }
}

/// The words of a letter, in the order in which they are read.
#[derive(Clone, Default)]
pub struct Body {
    /// The subject line.
    pub subject: String,
    /// What mail programs show beside the subject.
    pub preview: String,
    /// The first line.
    pub heading: String,
    /// What there is to say.
    pub paragraphs: Vec<String>,
    /// Names and values.
    pub facts: Vec<(&'static str, String)>,
    /// What can be done; the first is a button.
    pub actions: Vec<Action>,
    /// What there is to add.
    pub remarks: Vec<String>,
}

/// A letter ready to be sent.
#[derive(Clone)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// For programs that show no HTML.
    pub text: String,
    /// For the others.
    pub html: String,
    /// Where one click ends such mails (RFC 8058), for marketing only.
    pub unsubscribe: Option<String>,
}

#[derive(Template)]
#[template(path = "mail/layout.html")]
struct HtmlLayout<'a> {
    lang: &'static str,
    greeting: &'a str,
    body: &'a Body,
    footer: &'static str,
    home: &'a str,
    unsubscribe: Option<&'a Action>,
}

#[derive(Template)]
#[template(path = "mail/layout.txt", escape = "none")]
struct TextLayout<'a> {
    colon: &'static str,
    greeting: &'a str,
    body: &'a Body,
    footer: &'static str,
    home: &'a str,
    unsubscribe: Option<&'a Action>,
}

/// Writes a letter.
pub fn render(letter: &Letter, setting: &Setting<'_>) -> Result<Rendered, askama::Error> {
    let name = setting.name.and_then(format::greetable);
    let (mut body, greeting, footer, colon) = match setting.locale {
        Locale::Fr => (
            fr::body(letter, setting),
            fr::greeting(name.as_deref()),
            fr::FOOTER,
            " :",
        ),
        Locale::En => (
            en::body(letter, setting),
            en::greeting(name.as_deref()),
            en::FOOTER,
            ":",
        ),
    };
    body.subject = format::line(&body.subject, MAX_SUBJECT);
    let unsubscribe = unsubscribe(letter, setting);
    let html = HtmlLayout {
        lang: setting.locale.code(),
        greeting: &greeting,
        body: &body,
        footer,
        home: setting.client_url,
        unsubscribe: unsubscribe.as_ref(),
    };
    let text = TextLayout {
        colon,
        greeting: &greeting,
        body: &body,
        footer,
        home: setting.client_url,
        unsubscribe: unsubscribe.as_ref(),
    };
    let (html, text) = (html.render()?, text.render()?);
    Ok(Rendered {
        subject: body.subject,
        text,
        html,
        unsubscribe: unsubscribe.map(|link| link.url),
    })
}

fn unsubscribe(letter: &Letter, setting: &Setting<'_>) -> Option<Action> {
    let Letter::Promotion { unsubscribe, .. } = letter else {
        return None;
    };
    let label = match setting.locale {
        Locale::Fr => fr::UNSUBSCRIBE,
        Locale::En => en::UNSUBSCRIBE,
    };
    // a mail program posts to this address itself, so the secret has to be in it
    let url = format!(
        "{}{}/{}",
        setting.api_url,
        super::UNSUBSCRIBE_PATH,
        escaped(unsubscribe)
    );
    Some(Action::new(label, url))
}
