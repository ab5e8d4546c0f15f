//! Sessions and devices as their owner sees and ends them (core §14, §2.5).

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{PASSWORD, TestApp, Traveller, eventually};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0";
const NEXT_FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:134.0) Gecko/20100101 Firefox/134.0";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1";

async fn login_with(app: &TestApp, agent: &str) -> Traveller {
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let call = app.post("/api/v1/auth/login").header("user-agent", agent).json(&body);
    let reply = call.send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    Traveller::from(&reply)
}

async fn register_with(app: &TestApp, agent: &str) -> Traveller {
    let body = json!({ "email": "ada@example.com", "password": PASSWORD, "firstName": "Ada" });
    let call = app
        .post("/api/v1/auth/register")
        .header("user-agent", agent)
        .json(&body);
    Traveller::from(&call.send().await)
}

async fn sessions(app: &TestApp, traveller: &Traveller) -> Vec<Value> {
    let reply = app.get("/api/v1/auth/sessions").bearer(&traveller.token).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body["data"]["sessions"].as_array().unwrap().clone()
}

async fn logins(app: &TestApp) -> Vec<Value> {
    let events = app.events("auth").await.into_iter();
    events
        .filter(|(kind, _)| kind == "auth.login")
        .map(|(_, envelope)| envelope["payload"].clone())
        .collect()
}

#[sqlx::test(migrations = false)]
async fn the_owner_sees_where_they_are_signed_in_and_which_session_this_is(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = register_with(&app, FIREFOX).await;
    app.advance(60);
    let phone = login_with(&app, IPHONE).await;
    let seen = sessions(&app, &ada).await;
    let names: Vec<_> = seen
        .iter()
        .map(|session| {
            (
                session["device"]["name"].as_str().unwrap(),
                session["current"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(names, [("Safari on iOS", false), ("Firefox on Linux", true)]);
    assert_eq!(
        (&seen[0]["device"]["type"], &seen[0]["ipAddress"], &seen[0]["createdAt"]),
        (
            &json!("mobile"),
            &json!("203.0.113.7"),
            &json!("2027-01-15T08:01:00.000Z")
        )
    );
    // used later: noted at the next writing
    app.advance(120);
    app.profile(&phone.token).await;
    eventually("the session check noted it", async || {
        app.profile(&phone.token).await;
        app.services.write_last_seen().await.unwrap();
        sessions(&app, &ada).await[0]["lastSeenAt"] == "2027-01-15T08:03:00.000Z"
    })
    .await;
    let text = json!(seen).to_string();
    assert!(!text.contains(&phone.refresh) && !text.contains(&phone.session));
    app.get("/api/v1/auth/sessions")
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn one_session_can_be_ended_by_its_owner_and_by_nobody_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = register_with(&app, FIREFOX).await;
    app.advance(1);
    let phone = login_with(&app, IPHONE).await;
    let eve = app.register("eve@example.com").await;
    let id = sessions(&app, &ada).await[0]["id"].as_str().unwrap().to_owned();
    let end = |id: &str, token: &str| {
        app.call(Method::DELETE, &format!("/api/v1/auth/sessions/{id}"))
            .bearer(token)
            .send()
    };
    end(&id, &eve.token).await.refused(404, "SESSION_NOT_FOUND");
    assert_eq!(app.profile(&phone.token).await.status, 200);
    // events of one moment have no order
    app.advance(1);
    assert_eq!(end(&id, &ada.token).await.status, 200);
    app.profile(&phone.token).await.refused(401, "TOKEN_REVOKED");
    let refresh = app.post("/api/v1/auth/refresh").cookie("refreshToken", &phone.refresh);
    assert_eq!(refresh.send().await.status, 401);
    for gone in [id.as_str(), "not-an-id", "00000000-0000-0000-0000-000000000000"] {
        end(gone, &ada.token).await.refused(404, "SESSION_NOT_FOUND");
    }
    let told = app.events("auth").await;
    assert_eq!(told.iter().filter(|(kind, _)| kind == "auth.logout").count(), 1);
    let log = app.get("/api/v1/auth/security-events").bearer(&ada.token).send().await;
    assert_eq!(log.body["data"]["events"][0]["kind"], "session_revoked");
    assert_eq!(log.body["data"]["events"][0]["sessionId"], id.as_str());
}

#[sqlx::test(migrations = false)]
async fn all_other_sessions_can_be_ended_at_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = register_with(&app, FIREFOX).await;
    let others = [login_with(&app, IPHONE).await, login_with(&app, FIREFOX).await];
    let end = || {
        app.call(Method::DELETE, "/api/v1/auth/sessions")
            .bearer(&ada.token)
            .send()
    };
    assert_eq!(end().await.body["data"]["revoked"], 2);
    for other in &others {
        app.profile(&other.token).await.refused(401, "TOKEN_REVOKED");
    }
    assert_eq!(sessions(&app, &ada).await.len(), 1);
    assert_eq!(end().await.body["data"]["revoked"], 0);
}

#[sqlx::test(migrations = false)]
async fn a_sign_in_with_a_program_never_used_before_is_told(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = register_with(&app, FIREFOX).await;
    login_with(&app, FIREFOX).await;
    login_with(&app, NEXT_FIREFOX).await;
    login_with(&app, IPHONE).await;
    login_with(&app, IPHONE).await;
    let told: Vec<_> = logins(&app)
        .await
        .iter()
        .map(|login| (login["newDevice"].clone(), login["device"].clone()))
        .collect();
    let known = (Value::Null, Value::Null);
    assert_eq!(
        told,
        [
            known.clone(),
            known.clone(),
            (json!(true), json!("Safari on iOS")),
            known
        ]
    );
    let log = app
        .get("/api/v1/auth/security-events?limit=2")
        .bearer(&ada.token)
        .send()
        .await;
    let data = &log.body["data"];
    assert_eq!(
        data["pagination"],
        json!({ "total": 5, "limit": 2, "offset": 0, "hasMore": true })
    );
    let kinds = app
        .count("select count(*) from auth.security_events where kind = 'new_device'")
        .await;
    assert_eq!(kinds, 1);
}

#[sqlx::test(migrations = false)]
async fn the_log_of_an_account_is_its_owners_alone_and_reads_whatever_page_is_asked_for(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let log = |token: &str, query: &str| {
        app.get(&format!("/api/v1/auth/security-events{query}"))
            .bearer(token)
            .send()
    };
    for query in [
        "",
        "?limit=abc&offset=-3",
        "?limit=0",
        "?limit=9999&offset=99999999999999999999",
    ] {
        let reply = log(&ada.token, query).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body["data"]["pagination"]["total"]),
            (200, &json!(1))
        );
    }
    let past = log(&eve.token, "?offset=5").await;
    assert_eq!(past.body["data"]["events"], json!([]));
    app.get("/api/v1/auth/security-events")
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn people_are_there_while_their_access_tokens_live(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let people = async || core_pod::auth::count_people(&app.services.auth).await.unwrap();
    assert_eq!(people().await, 0);
    register_with(&app, FIREFOX).await;
    // one person, however many sessions, of whatever length
    login_with(&app, IPHONE).await;
    let remembered = json!({ "email": "ada@example.com", "password": PASSWORD, "rememberMe": true });
    assert_eq!(
        app.post("/api/v1/auth/login").json(&remembered).send().await.status,
        200
    );
    assert_eq!(people().await, 1);
    let grace = json!({ "email": "grace@example.com", "password": PASSWORD, "firstName": "Grace" });
    let grace = Traveller::from(&app.post("/api/v1/auth/register").json(&grace).send().await);
    assert_eq!(people().await, 2);

    // Grace stays, Ada has gone
    app.advance(10 * 60);
    let refreshed = app.post("/api/v1/auth/refresh").cookie("refreshToken", &grace.refresh);
    assert_eq!(refreshed.send().await.status, 200);
    app.advance(6 * 60);
    assert_eq!(people().await, 1);
    app.advance(10 * 60);
    assert_eq!(people().await, 0);
}

#[sqlx::test(migrations = false)]
async fn two_first_sign_ins_with_a_new_program_at_once_are_one_new_device(pool: PgPool) {
    let app = TestApp::start(pool).await;
    register_with(&app, FIREFOX).await;
    tokio::join!(login_with(&app, IPHONE), login_with(&app, IPHONE));
    let new = logins(&app)
        .await
        .iter()
        .filter(|login| login["newDevice"] == true)
        .count();
    assert_eq!(new, 1, "{:?}", logins(&app).await);
}
