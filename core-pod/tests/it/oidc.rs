//! Sign-in with an account at another provider (core §14): against a certified provider, and against one that lies.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use shared::sources::Sources;
use sqlx::PgPool;

use crate::{
    mfa::{code_at, protect, verify},
    openid::{Hostile, browse, certified},
    support::{PASSWORD, Reply, TestApp, Traveller},
};

const SECRET: &str = "a secret: with signs & such";

/// A pod that knows the certified provider under three of its clients, and its clock shows the time of the provider.
async fn with_certified(pool: PgPool) -> Option<TestApp> {
    let port = certified()?;
    let issuer = format!("http://127.0.0.1:{port}");
    let providers = json!([
        { "id": "real", "name": "The real one", "issuer": issuer, "clientId": "dreamscape", "clientSecret": SECRET },
        { "id": "body", "issuer": issuer, "clientId": "in-the-body", "clientSecret": "another secret of ours" },
        { "id": "public", "issuer": issuer, "clientId": "public" },
    ]);
    let app = start(pool, &providers).await;
    let now = Sources::system().now();
    app.advance(now.timestamp() - app.now());
    Some(app)
}

async fn start(pool: PgPool, providers: &Value) -> TestApp {
    let settings = [
        ("OIDC_PROVIDERS", providers.to_string()),
        ("RATE_LIMIT_MULTIPLIER", "1000".to_owned()),
        ("CLIENT_URL", "http://localhost:5173".to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    TestApp::with(pool, &settings).await
}

async fn with_hostile(pool: PgPool) -> (TestApp, Hostile) {
    let provider = Hostile::start(Sources::system()).await;
    let providers = json!([
        { "id": "evil", "issuer": provider.issuer, "clientId": "us", "clientSecret": "s" },
        { "id": "twin", "issuer": provider.issuer, "clientId": "us", "clientSecret": "s" },
    ]);
    let app = start(pool, &providers).await;
    app.advance(Sources::system().now().timestamp() - app.now());
    (app, provider)
}

/// A visit that has begun: where the browser goes and what it holds.
struct Visit {
    url: reqwest::Url,
    cookie: String,
}

impl Visit {
    async fn begin(app: &TestApp, provider: &str) -> Self {
        let path = format!("/api/v1/auth/oidc/{provider}/start?returnTo=%2Fcart");
        let reply = app.get(&path).send().await;
        assert_eq!(reply.status, 303, "{}", reply.body);
        Self::of(&location(&reply), &reply)
    }

    fn of(url: &str, reply: &Reply) -> Self {
        let line = reply.cookie_line("ds_oidc").unwrap();
        assert!(line.contains("HttpOnly") && line.contains("SameSite=Lax") && line.contains("Path=/api/v1/auth/oidc"));
        Self {
            url: url.parse().unwrap(),
            cookie: reply.cookie("ds_oidc").unwrap(),
        }
    }

    fn parameter(&self, name: &str) -> String {
        let mut pairs = self.url.query_pairs();
        pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
    }

    /// The visit as somebody on the way changed it.
    fn with(&self, name: &str, value: &str) -> String {
        let mut url = self.url.clone();
        let pairs: Vec<_> = self.url.query_pairs().filter(|(key, _)| key != name).collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(pairs)
            .append_pair(name, value);
        url.to_string()
    }

    /// Goes to the certified provider as this person; gives the way back.
    async fn as_person(&self, person: &str) -> String {
        let back = browse(&self.with("login_hint", person), "http://localhost:3000/").await;
        back.trim_start_matches("http://localhost:3000").to_owned()
    }

    async fn back(&self, app: &TestApp, path: &str) -> Reply {
        app.get(path).cookie("ds_oidc", &self.cookie).send().await
    }
}

fn location(reply: &Reply) -> String {
    reply.headers["location"].to_str().unwrap().to_owned()
}

/// What the web client is told.
fn told(reply: &Reply) -> BTreeMap<String, String> {
    assert_eq!(reply.status, 303, "{}", reply.body);
    let location = location(reply);
    let (page, fragment) = location.split_once('#').unwrap();
    assert_eq!(page, "http://localhost:5173/auth/callback");
    url::form_urlencoded::parse(fragment.as_bytes()).into_owned().collect()
}

#[track_caller]
fn failed(reply: &Reply, code: &str) {
    let told = told(reply);
    assert_eq!(told.get("error").map(String::as_str), Some(code), "{told:?}");
    assert!(reply.cookie("refreshToken").is_none() && reply.cookie("ds_session").is_none());
}

async fn sign_in(app: &TestApp, provider: &str, person: &str) -> Reply {
    let visit = Visit::begin(app, provider).await;
    let path = visit.as_person(person).await;
    visit.back(app, &path).await
}

/// The access token that the web client asks for with its new cookies.
async fn token_of(app: &TestApp, reply: &Reply) -> String {
    let refresh = reply.cookie("refreshToken").unwrap();
    let refreshed = app
        .post("/api/v1/auth/refresh")
        .cookie("refreshToken", &refresh)
        .send()
        .await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    refreshed.token()
}

#[sqlx::test(migrations = false)]
async fn a_newcomer_of_a_real_provider_gets_an_account_and_comes_back_to_it(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let listed = app.get("/api/v1/auth/oidc/providers").send().await;
    assert_eq!(listed.body["data"][0], json!({ "id": "real", "name": "The real one" }));
    assert!(!listed.body.to_string().contains("dreamscape\""));

    let first = sign_in(&app, "real", "verified:ada.lovelace+trips@gmail.com").await;
    let outcome = told(&first);
    assert_eq!(
        (outcome["result"].as_str(), outcome["returnTo"].as_str()),
        ("signed_in", "/cart")
    );
    let token = token_of(&app, &first).await;
    let profile = app.profile(&token).await;
    let user = &profile.body["data"]["user"];
    assert_eq!(user["email"], "adalovelace@gmail.com");
    assert_eq!(
        (&user["firstName"], &user["lastName"]),
        (&json!("Ada"), &json!("Lovelace"))
    );
    assert_eq!((&user["isVerified"], &user["role"]), (&json!(true), &json!("USER")));
    let by_cookie = app
        .get("/api/v1/auth/profile")
        .cookie("ds_session", &first.cookie("ds_session").unwrap());
    assert_eq!(by_cookie.send().await.body["data"]["user"]["id"], user["id"]);
    let events = app.events("auth").await;
    let topics: Vec<_> = events.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(topics[..2], ["user.created", "auth.login"]);
    assert_eq!(events[1].1["payload"]["method"], "oauth");

    let again = sign_in(&app, "real", "verified:ada.lovelace+trips@gmail.com").await;
    assert_eq!(told(&again)["result"], "signed_in");
    assert_eq!(app.count("select count(*) from auth.users").await, 1);
    assert_eq!(
        app.count("select count(*) from auth.sessions where auth_method = 'oauth'")
            .await,
        2
    );
    app.try_login("ada.lovelace@gmail.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
}

#[sqlx::test(migrations = false)]
async fn clients_with_a_secret_in_the_body_and_without_one_work_as_well(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    for (provider, person) in [("body", "verified:b@example.com"), ("public", "verified:p@example.com")] {
        let reply = sign_in(&app, provider, person).await;
        assert_eq!(told(&reply)["result"], "signed_in", "{provider}");
    }
}

#[sqlx::test(migrations = false)]
async fn an_address_that_the_provider_did_not_verify_opens_and_makes_nothing(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    app.register("ada@example.com").await;
    for person in ["unverified:ada@example.com", "unverified:new@example.com", "nobody:7"] {
        failed(&sign_in(&app, "real", person).await, "OIDC_EMAIL_UNVERIFIED");
    }
    assert_eq!(app.count("select count(*) from auth.external_identities").await, 0);
    assert_eq!(app.count("select count(*) from auth.users").await, 1);
}

#[sqlx::test(migrations = false)]
async fn an_account_that_exists_is_linked_with_its_password_and_not_by_its_address(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let ada = app.register("ada@example.com").await;
    let offered = sign_in(&app, "real", "verified:ada@example.com").await;
    let outcome = told(&offered);
    assert_eq!(outcome["result"], "link_required");
    assert!(offered.cookie("refreshToken").is_none() && offered.cookie("ds_session").is_none());
    let confirm = |password: &str| {
        let body = json!({ "ticket": outcome["ticket"], "password": password });
        app.post("/api/v1/auth/oidc/confirm").json(&body).send()
    };
    confirm("Wrong0rd!").await.refused(401, "INVALID_CREDENTIALS");
    assert_eq!(app.count("select count(*) from auth.external_identities").await, 0);
    let done = confirm(PASSWORD).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let session = Traveller::from(&done);
    assert_eq!(session.id, ada.id);
    confirm(PASSWORD).await.refused(401, "LINK_TICKET_INVALID");
    assert_eq!(
        app.profile(&session.token).await.body["data"]["user"]["isVerified"],
        true
    );

    let again = sign_in(&app, "real", "verified:ada@example.com").await;
    let token = token_of(&app, &again).await;
    assert_eq!(app.profile(&token).await.body["data"]["user"]["id"], ada.id.as_str());
    app.login("ada@example.com").await;
}

#[sqlx::test(migrations = false)]
async fn a_link_ticket_has_five_tries_ten_minutes_and_one_address(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    app.register("ada@example.com").await;
    let offer = async || told(&sign_in(&app, "real", "verified:ada@example.com").await)["ticket"].clone();
    let confirm = |ticket: &str, password: &str| {
        let body = json!({ "ticket": ticket, "password": password });
        app.post("/api/v1/auth/oidc/confirm").json(&body)
    };
    let ticket = offer().await;
    for _ in 0..5 {
        confirm(&ticket, "Wrong0rd!")
            .send()
            .await
            .refused(401, "INVALID_CREDENTIALS");
    }
    confirm(&ticket, PASSWORD)
        .send()
        .await
        .refused(401, "LINK_TICKET_INVALID");
    let ticket = offer().await;
    confirm(&ticket, PASSWORD)
        .at_address([198, 51, 100, 9])
        .send()
        .await
        .refused(401, "LINK_TICKET_INVALID");
    app.advance(10 * 60);
    confirm(&ticket, PASSWORD)
        .send()
        .await
        .refused(401, "LINK_TICKET_INVALID");
    confirm("", PASSWORD).send().await.refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn an_account_with_a_second_factor_asks_for_it_here_too(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let ada = protect(&app, "ada@example.com").await;
    let offered = told(&sign_in(&app, "real", "verified:ada@example.com").await);
    let body = json!({ "ticket": offered["ticket"], "password": PASSWORD });
    let call = app.post("/api/v1/auth/oidc/confirm").json(&body);
    call.send().await.refused(403, "SECOND_FACTOR_REQUIRED");
    // whoever is signed in with it links from there
    let linked = link(&app, &ada.traveller.token, "verified:ada@example.com").await;
    assert_eq!(told(&linked)["result"], "linked");
    let asked = sign_in(&app, "real", "verified:ada@example.com").await;
    let outcome = told(&asked);
    assert_eq!(
        (outcome["result"].as_str(), outcome["methods"].as_str()),
        ("mfa_required", "totp,recoveryCode")
    );
    assert!(asked.cookie("ds_session").is_none());
    let done = verify(
        &app,
        json!({ "ticket": outcome["ticket"], "code": code_at(&app, &ada.secret, 0) }),
    )
    .await;
    assert_eq!(done.status, 200, "{}", done.body);
    let events = app.events("auth").await;
    assert_eq!(events.last().unwrap().1["payload"]["method"], "oauth");
}

/// Links the caller's account to this person at the certified provider.
async fn link(app: &TestApp, token: &str, person: &str) -> Reply {
    let begun = app.post("/api/v1/auth/oidc/real/link").bearer(token).send().await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    let visit = Visit::of(begun.body["data"]["authorizationUrl"].as_str().unwrap(), &begun);
    let path = visit.as_person(person).await;
    visit.back(app, &path).await
}

#[sqlx::test(migrations = false)]
async fn a_signed_in_traveller_links_lists_and_unlinks(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let linked = link(&app, &ada.token, "unverified:other@example.org").await;
    assert_eq!(told(&linked)["result"], "linked");
    let list = async |token: &str| app.get("/api/v1/auth/oidc/identities").bearer(token).send().await;
    let listed = list(&ada.token).await;
    let item = &listed.body["data"][0];
    assert_eq!((&item["provider"], &item["email"]), (&json!("real"), &Value::Null));
    let path = format!("/api/v1/auth/oidc/identities/{}", item["id"].as_str().unwrap());

    failed(
        &link(&app, &eve.token, "unverified:other@example.org").await,
        "OIDC_LINKED_ELSEWHERE",
    );
    failed(
        &link(&app, &ada.token, "verified:third@example.org").await,
        "OIDC_PROVIDER_LINKED",
    );
    let in_as_ada = sign_in(&app, "real", "unverified:other@example.org").await;
    let token = token_of(&app, &in_as_ada).await;
    assert_eq!(app.profile(&token).await.body["data"]["user"]["id"], ada.id.as_str());

    let unlink = |token: &str| app.call(http::Method::DELETE, &path).bearer(token).send();
    unlink(&eve.token).await.refused(404, "NOT_FOUND");
    assert_eq!(unlink(&ada.token).await.status, 200);
    unlink(&ada.token).await.refused(404, "NOT_FOUND");
    assert_eq!(list(&ada.token).await.body["data"], json!([]));
    app.advance(10 * 60);
    let begin = app.post("/api/v1/auth/oidc/real/link").bearer(&ada.token).send().await;
    begin.refused(403, "REAUTH_REQUIRED");
    unlink(&ada.token).await.refused(403, "REAUTH_REQUIRED");
    app.post("/api/v1/auth/oidc/real/link")
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn the_last_way_into_an_account_is_not_taken_away(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let first = sign_in(&app, "real", "verified:ada@example.com").await;
    let token = token_of(&app, &first).await;
    let listed = app.get("/api/v1/auth/oidc/identities").bearer(&token).send().await;
    let path = format!(
        "/api/v1/auth/oidc/identities/{}",
        listed.body["data"][0]["id"].as_str().unwrap()
    );
    let unlink = || app.call(http::Method::DELETE, &path).bearer(&token).send();
    unlink().await.refused(409, "LAST_SIGN_IN_METHOD");
    assert_eq!(app.count("select count(*) from auth.external_identities").await, 1);
    // setting a password, in whatever way, is another way in
    app.execute("update auth.users set password_hash = password_hash || 'x'")
        .await;
    assert_eq!(unlink().await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_link_that_was_asked_for_in_a_session_ends_with_it(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let ada = app.register("ada@example.com").await;
    let begun = app.post("/api/v1/auth/oidc/real/link").bearer(&ada.token).send().await;
    let visit = Visit::of(begun.body["data"]["authorizationUrl"].as_str().unwrap(), &begun);
    let path = visit.as_person("verified:ada@example.com").await;
    app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    failed(&visit.back(&app, &path).await, "OIDC_SESSION_OVER");
    assert_eq!(app.count("select count(*) from auth.external_identities").await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_state_is_good_once_in_its_own_browser_for_its_own_provider_and_ten_minutes(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let visit = Visit::begin(&app, "real").await;
    let path = visit.as_person("verified:ada@example.com").await;
    let other = Visit::begin(&app, "real").await;
    assert_ne!(visit.cookie, other.cookie);
    failed(&app.get(&path).send().await, "OIDC_STATE_INVALID");
    failed(&other.back(&app, &path).await, "OIDC_STATE_INVALID");
    let done = visit.back(&app, &path).await;
    assert_eq!(told(&done)["result"], "signed_in");
    failed(&visit.back(&app, &path).await, "OIDC_STATE_INVALID");
    // the code of the one with the state of the other
    let mine = Visit::begin(&app, "real").await;
    let replayed = path.replace(&visit.parameter("state"), &mine.parameter("state"));
    failed(&mine.back(&app, &replayed).await, "OIDC_CODE_REFUSED");

    let wrong_door = Visit::begin(&app, "real").await;
    let path = wrong_door.as_person("verified:ada@example.com").await;
    let path = path.replace("/oidc/real/", "/oidc/public/");
    failed(&wrong_door.back(&app, &path).await, "OIDC_STATE_INVALID");
    let late = Visit::begin(&app, "real").await;
    let path = late.as_person("verified:ada@example.com").await;
    app.advance(10 * 60);
    failed(&late.back(&app, &path).await, "OIDC_STATE_INVALID");
    for nonsense in ["", "?state=x", "?code=x", "?state[]=x", "?state=%00"] {
        let path = format!("/api/v1/auth/oidc/real/callback{nonsense}");
        failed(&late.back(&app, &path).await, "OIDC_STATE_INVALID");
    }
}

#[sqlx::test(migrations = false)]
async fn a_visit_that_was_changed_on_the_way_comes_to_nothing(pool: PgPool) {
    let Some(app) = with_certified(pool).await else { return };
    let person = "verified:ada@example.com";
    // a real provider signs the nonce and the client it was asked with, and gives codes for the challenge it was shown
    for (name, value, code) in [
        ("nonce", "another", "OIDC_TOKEN_INVALID"),
        ("client_id", "somebody-else", "OIDC_CODE_REFUSED"),
        ("code_challenge", &"x".repeat(43), "OIDC_CODE_REFUSED"),
    ] {
        let mut visit = Visit::begin(&app, "real").await;
        visit.url = visit.with(name, value).parse().unwrap();
        let path = visit.as_person(person).await;
        failed(&visit.back(&app, &path).await, code);
    }
    let visit = Visit::begin(&app, "real").await;
    let path = visit.as_person(person).await;
    let path = path.replace("iss=", "iss=https%3A%2F%2Fevil.example&was=");
    failed(&visit.back(&app, &path).await, "OIDC_STATE_INVALID");
    let visit = Visit::begin(&app, "real").await;
    let path = visit.as_person("deny").await;
    assert!(path.contains("access_denied"));
    let denied = visit.back(&app, &path).await;
    failed(&denied, "OIDC_DENIED");
    assert!(!location(&denied).contains("nobody"));
    assert_eq!(app.count("select count(*) from auth.users").await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_provider_is_shown_a_challenge_and_never_what_proves_it(pool: PgPool) {
    let (app, _) = with_hostile(pool).await;
    let visit = Visit::begin(&app, "evil").await;
    assert_eq!(visit.parameter("code_challenge_method"), "S256");
    assert_eq!(visit.parameter("code_challenge").len(), 43);
    assert_eq!(visit.parameter("scope"), "openid email profile");
    assert_eq!(
        visit.parameter("redirect_uri"),
        "http://localhost:3000/api/v1/auth/oidc/evil/callback"
    );
    let stored: Vec<u8> = sqlx::query_scalar("select state_sealed from auth.ceremonies")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    let nonce = visit.parameter("nonce");
    assert!(!stored.windows(nonce.len()).any(|part| part == nonce.as_bytes()));
    app.get("/api/v1/auth/oidc/nobody/start")
        .send()
        .await
        .refused(404, "UNKNOWN_PROVIDER");
    // another site as the page to return to is none
    let reply = app
        .get("/api/v1/auth/oidc/evil/start?returnTo=%2F%2Fevil.example")
        .send()
        .await;
    let visit = Visit::of(&location(&reply), &reply);
    let path = format!(
        "/api/v1/auth/oidc/evil/callback?state={}&error=x",
        visit.parameter("state")
    );
    failed(&visit.back(&app, &path).await, "OIDC_PROVIDER_ERROR");
}

/// A way back from the hostile provider with a code of its own.
async fn answer(app: &TestApp, provider: &Hostile, claims: Value) -> Reply {
    let visit = Visit::begin(app, "evil").await;
    let mut said =
        json!({ "sub": "1", "nonce": visit.parameter("nonce"), "email": "ada@example.com", "email_verified": true });
    for (name, value) in claims.as_object().unwrap() {
        said[name] = value.clone();
    }
    provider.says(|script| script.claims = said);
    let path = format!(
        "/api/v1/auth/oidc/evil/callback?state={}&code=c",
        visit.parameter("state")
    );
    visit.back(app, &path).await
}

#[sqlx::test(migrations = false)]
async fn a_token_that_is_not_what_it_must_be_signs_nobody_in(pool: PgPool) {
    let (app, provider) = with_hostile(pool).await;
    let now = app.now();
    for lie in [
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "aud": "somebody-else" }),
        json!({ "aud": ["us", "somebody-else"] }),
        json!({ "azp": "somebody-else" }),
        json!({ "iss": "https://evil.example" }),
        json!({ "exp": now - 120 }),
        json!({ "iat": now - 3600 }),
        json!({ "sub": "" }),
        json!({ "sub": null }),
    ] {
        let reply = answer(&app, &provider, lie.clone()).await;
        assert_eq!(told(&reply).get("error").unwrap(), "OIDC_TOKEN_INVALID", "{lie}");
    }
    assert_eq!(app.count("select count(*) from auth.users").await, 0);
    let honest = answer(&app, &provider, json!({})).await;
    assert_eq!(told(&honest)["result"], "signed_in");
    // keys that changed since are fetched
    provider.rotate();
    let honest = answer(&app, &provider, json!({})).await;
    assert_eq!(told(&honest)["result"], "signed_in");
    let exchanges = provider.exchanges.lock().unwrap();
    assert!(exchanges.iter().all(|body| body.contains("code_verifier=")));
}

#[sqlx::test(migrations = false)]
async fn of_many_returns_with_one_state_one_signs_in(pool: PgPool) {
    let (app, provider) = with_hostile(pool).await;
    let visit = Visit::begin(&app, "evil").await;
    let nonce = visit.parameter("nonce");
    provider.says(|script| {
        script.claims = json!({ "sub": "1", "nonce": nonce, "email": "ada@example.com", "email_verified": true });
    });
    let path = format!(
        "/api/v1/auth/oidc/evil/callback?state={}&code=c",
        visit.parameter("state")
    );
    let replies = join_all((0..6).map(|_| visit.back(&app, &path))).await;
    let results: Vec<_> = replies.iter().map(told).collect();
    let signed_in = results.iter().filter(|told| told.contains_key("result"));
    assert_eq!(signed_in.count(), 1, "{results:?}");
    assert_eq!(provider.exchanges.lock().unwrap().len(), 1);
    assert_eq!(app.count("select count(*) from auth.sessions").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_newcomer_who_comes_by_several_browsers_at_once_gets_one_account(pool: PgPool) {
    let (app, provider) = with_hostile(pool).await;
    provider.says(|script| script.same_nonce = true);
    let visits = join_all((0..5).map(|_| Visit::begin(&app, "evil"))).await;
    let returns = visits.iter().map(async |visit| {
        let state = visit.parameter("state");
        // the code carries the nonce that the token is to have
        let path = format!(
            "/api/v1/auth/oidc/evil/callback?state={state}&code={}",
            visit.parameter("nonce")
        );
        told(&visit.back(&app, &path).await)
    });
    let results = join_all(returns).await;
    assert!(
        results
            .iter()
            .any(|told| told.get("result").is_some_and(|result| result == "signed_in"))
    );
    assert_eq!(app.count("select count(*) from auth.users").await, 1, "{results:?}");
    assert_eq!(app.count("select count(*) from auth.external_identities").await, 1);
}

#[sqlx::test(migrations = false)]
async fn userinfo_of_somebody_else_is_not_believed(pool: PgPool) {
    let (app, provider) = with_hostile(pool).await;
    provider.says(|script| {
        script.userinfo = json!({ "sub": "2", "email": "ada@example.com", "email_verified": true });
    });
    failed(
        &answer(&app, &provider, json!({ "email": null })).await,
        "OIDC_TOKEN_INVALID",
    );
    provider.says(|script| script.userinfo["sub"] = json!("1"));
    let reply = answer(&app, &provider, json!({ "email": null })).await;
    assert_eq!(told(&reply)["result"], "signed_in");
}

#[sqlx::test(migrations = false)]
async fn a_subject_of_one_provider_is_nobody_at_another(pool: PgPool) {
    let (app, provider) = with_hostile(pool).await;
    assert_eq!(told(&answer(&app, &provider, json!({})).await)["result"], "signed_in");
    let visit = Visit::begin(&app, "twin").await;
    let nonce = visit.parameter("nonce");
    provider.says(|script| {
        script.claims = json!({ "sub": "1", "nonce": nonce, "email": "eve@example.com", "email_verified": false });
    });
    let path = format!(
        "/api/v1/auth/oidc/twin/callback?state={}&code=c",
        visit.parameter("state")
    );
    failed(&visit.back(&app, &path).await, "OIDC_EMAIL_UNVERIFIED");
}

#[sqlx::test(migrations = false)]
async fn a_suspended_account_stays_out_whoever_vouches_for_it(pool: PgPool) {
    let (app, provider) = with_hostile(pool).await;
    assert_eq!(told(&answer(&app, &provider, json!({})).await)["result"], "signed_in");
    app.execute("update auth.users set suspended_at = now()").await;
    failed(&answer(&app, &provider, json!({})).await, "ACCOUNT_SUSPENDED");
}

#[sqlx::test(migrations = false)]
async fn a_provider_that_is_away_or_talks_nonsense_gives_a_clear_error(pool: PgPool) {
    let (app, provider) = with_hostile(pool.clone()).await;
    for (status, body, code) in [
        (400, json!({ "error": "invalid_grant" }), "OIDC_CODE_REFUSED"),
        (
            500,
            json!({ "error": "secret of the provider" }),
            "OIDC_PROVIDER_UNAVAILABLE",
        ),
        (200, json!({ "nothing": "useful" }), "OIDC_PROVIDER_UNAVAILABLE"),
        (200, json!("x".repeat(300_000)), "OIDC_PROVIDER_UNAVAILABLE"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        provider.says(|script| script.refusal = Some((status, body)));
        let reply = answer(&app, &provider, json!({})).await;
        failed(&reply, code);
        assert!(!location(&reply).contains("secret"));
    }
    // nobody listens there; the browser ends at the client all the same
    let away = json!([{ "id": "evil", "issuer": "http://127.0.0.1:9", "clientId": "us" }]);
    let app = start(pool, &away).await;
    let reply = app.get("/api/v1/auth/oidc/evil/start").send().await;
    failed(&reply, "OIDC_PROVIDER_UNAVAILABLE");
    let ada = app.register("ada@example.com").await;
    app.post("/api/v1/auth/oidc/evil/link")
        .bearer(&ada.token)
        .send()
        .await
        .refused(503, "OIDC_PROVIDER_UNAVAILABLE");
}

#[sqlx::test(migrations = false)]
async fn a_description_that_names_another_issuer_or_a_plain_address_is_refused(pool: PgPool) {
    for lie in [
        json!({ "issuer": "https://evil.example" }),
        json!({ "token_endpoint": "http://evil.example/token" }),
        json!({ "jwks_uri": "not an address" }),
    ] {
        let provider = Hostile::start(Sources::system()).await;
        provider.says(|script| script.description = lie.clone());
        let providers = json!([{ "id": "evil", "issuer": provider.issuer, "clientId": "us" }]);
        let app = start(pool.clone(), &providers).await;
        let reply = app.get("/api/v1/auth/oidc/evil/start").send().await;
        assert_eq!(told(&reply).get("error").unwrap(), "OIDC_PROVIDER_UNAVAILABLE", "{lie}");
    }
}
