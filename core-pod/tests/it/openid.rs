//! OpenID providers for tests: a certified one run by node, and a hostile one of our own that signs whatever it is told.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use axum::{Json, Router, extract::State, routing::get};
use http::{StatusCode, header};
use serde_json::{Value, json};
use shared::{
    auth::tokens::{KeySet, Signer, TokenPolicy},
    sources::Sources,
};

/// The port of the certified provider, which all tests share; `None`, said loudly, where there is no node.
pub fn certified() -> Option<u16> {
    static PORT: OnceLock<Option<u16>> = OnceLock::new();
    *PORT.get_or_init(|| {
        let port = start();
        if port.is_none() {
            // past the capture of the test harness: somebody must see it
            let _ = std::io::stderr().write_all(
                b"\n*** SKIP: sign-in with a real OpenID provider is NOT tested here.\n\
                  *** It needs node and scripts/ci/oidc-provider/node_modules: run scripts/setup.sh test\n\n",
            );
        }
        port
    })
}

fn start() -> Option<u16> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/ci/oidc-provider");
    if !folder.join("node_modules/oidc-provider").is_dir() {
        return None;
    }
    let mut child = Command::new("node")
        .arg("server.mjs")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut output = BufReader::new(child.stdout.take()?);
    let mut line = String::new();
    output.read_line(&mut line).ok()?;
    let port = line.trim().parse().ok();
    // it ends when its standard input does: with this process
    std::mem::forget((child.stdin.take(), output));
    port
}

/// A browser at the provider: follows redirects and keeps cookies until it is sent to `until`.
pub async fn browse(start: &str, until: &str) -> String {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let mut cookies = BTreeMap::new();
    let mut url = start.to_owned();
    for _ in 0..10 {
        if url.starts_with(until) {
            return url;
        }
        let jar: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let reply = http.get(&url).header("cookie", jar.join("; ")).send().await.unwrap();
        for line in reply.headers().get_all(header::SET_COOKIE) {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            cookies.insert(name.to_owned(), value.to_owned());
        }
        let next = reply
            .headers()
            .get(header::LOCATION)
            .map(|location| location.to_str().unwrap().to_owned());
        let Some(next) = next else {
            panic!("{url} answered {}: {}", reply.status(), reply.text().await.unwrap());
        };
        url = reqwest::Url::parse(&url).unwrap().join(&next).unwrap().to_string();
    }
    panic!("the provider never sent the browser back");
}

/// What the hostile provider says next.
pub struct Script {
    /// The claims of its token, without issuer and times unless the test says so.
    pub claims: Value,
    /// Whether it takes the code for the nonce, as one verified person.
    pub same_nonce: bool,
    /// What its token endpoint answers instead.
    pub refusal: Option<(StatusCode, Value)>,
    /// What it says at userinfo.
    pub userinfo: Value,
    /// Its description, where it lies.
    pub description: Value,
}

/// A provider that signs whatever it is told.
#[derive(Clone)]
pub struct Hostile {
    pub issuer: String,
    script: Arc<Mutex<Script>>,
    keys: Arc<Mutex<KeySet>>,
    sources: Sources,
    /// The bodies of the exchanges.
    pub exchanges: Arc<Mutex<Vec<String>>>,
}

impl Hostile {
    pub async fn start(sources: Sources) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let script = Script {
            claims: json!({}),
            same_nonce: false,
            refusal: None,
            userinfo: json!({}),
            description: json!({}),
        };
        let provider = Self {
            issuer,
            script: Arc::new(Mutex::new(script)),
            keys: Arc::new(Mutex::new(KeySet::generate(&sources).unwrap())),
            sources,
            exchanges: Arc::default(),
        };
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(describe))
            .route("/jwks", get(jwks))
            .route("/token", axum::routing::post(token))
            .route("/userinfo", get(userinfo))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        provider
    }

    /// Changes what it says next.
    pub fn says(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// Signs with another key from now on, and publishes it.
    pub fn rotate(&self) {
        *self.keys.lock().unwrap() = KeySet::generate(&self.sources).unwrap();
    }
}

async fn describe(State(provider): State<Hostile>) -> Json<Value> {
    let issuer = &provider.issuer;
    let mut description = json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
    });
    merge(&mut description, &provider.script.lock().unwrap().description);
    Json(description)
}

async fn jwks(State(provider): State<Hostile>) -> Json<Value> {
    Json(serde_json::to_value(provider.keys.lock().unwrap().jwks()).unwrap())
}

async fn token(State(provider): State<Hostile>, body: String) -> (StatusCode, Json<Value>) {
    let code = url::form_urlencoded::parse(body.as_bytes())
        .find(|(name, _)| name == "code")
        .map(|(_, code)| code.into_owned());
    provider.exchanges.lock().unwrap().push(body);
    let script = provider.script.lock().unwrap();
    if let Some((status, body)) = &script.refusal {
        return (*status, Json(body.clone()));
    }
    let now = provider.sources.now().timestamp();
    let mut claims = json!({ "iss": provider.issuer, "aud": "us", "iat": now, "exp": now + 300 });
    merge(&mut claims, &script.claims);
    if script.same_nonce {
        let person = json!({ "sub": "1", "email": "ada@example.com", "email_verified": true, "nonce": code });
        merge(&mut claims, &person);
    }
    let keys = provider.keys.lock().unwrap().clone();
    let signer = Signer::new(keys, TokenPolicy::default(), provider.sources.clone());
    let token = signer.sign(&claims).unwrap();
    let body = json!({ "access_token": "at", "token_type": "Bearer", "id_token": token });
    (StatusCode::OK, Json(body))
}

async fn userinfo(State(provider): State<Hostile>) -> Json<Value> {
    Json(provider.script.lock().unwrap().userinfo.clone())
}

fn merge(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().unwrap() {
        into[name] = value.clone();
    }
}
