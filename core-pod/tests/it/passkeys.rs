//! Passkeys with an authenticator in software: registration, sign-in, second factor, and devices that lie (core §14).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    mfa::{Protected, protect, ticket, verify},
    soft_key::SoftKey,
    support::{PASSWORD, Reply, TestApp, Traveller},
};

async fn begin(app: &TestApp, traveller: &Traveller) -> (String, Value) {
    let begun = app
        .post("/api/v1/auth/passkeys/register/begin")
        .bearer(&traveller.token)
        .send()
        .await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    begun_of(&begun)
}

fn begun_of(begun: &Reply) -> (String, Value) {
    let data = &begun.body["data"];
    (data["ceremony"].as_str().unwrap().to_owned(), data["publicKey"].clone())
}

async fn finish(app: &TestApp, traveller: &Traveller, ceremony: &str, credential: Value) -> Reply {
    let body = json!({ "ceremony": ceremony, "credential": credential, "name": "Laptop" });
    let call = app
        .post("/api/v1/auth/passkeys/register/finish")
        .bearer(&traveller.token);
    call.json(&body).send().await
}

async fn register_key(app: &TestApp, traveller: &Traveller, key: &mut SoftKey) -> String {
    let (ceremony, options) = begin(app, traveller).await;
    let done = finish(app, traveller, &ceremony, key.create(&options)).await;
    assert_eq!(done.status, 201, "{}", done.body);
    done.body["data"]["id"].as_str().unwrap().to_owned()
}

async fn begin_login(app: &TestApp) -> (String, Value) {
    let begun = app.post("/api/v1/auth/passkeys/login/begin").send().await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    begun_of(&begun)
}

async fn finish_login(app: &TestApp, ceremony: &str, credential: Value) -> Reply {
    let body = json!({ "ceremony": ceremony, "credential": credential });
    app.post("/api/v1/auth/passkeys/login/finish").json(&body).send().await
}

async fn login(app: &TestApp, key: &mut SoftKey) -> Reply {
    let (ceremony, options) = begin_login(app).await;
    finish_login(app, &ceremony, key.get(&options)).await
}

#[sqlx::test(migrations = false)]
async fn a_passkey_is_registered_listed_renamed_used_and_deleted(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let mut key = SoftKey::new();
    let (_, options) = begin(&app, &ada).await;
    assert_eq!(options["rp"]["id"], "localhost");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    let id = register_key(&app, &ada, &mut key).await;
    let listed = app.get("/api/v1/auth/passkeys").bearer(&ada.token).send().await;
    assert_eq!(listed.body["data"][0]["name"], "Laptop");
    assert_eq!(listed.body["data"][0]["lastUsedAt"], Value::Null);

    let done = login(&app, &mut key).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.body["message"], "Login successful");
    let session = Traveller::from(&done);
    assert_eq!(session.id, ada.id);
    assert_eq!(app.profile(&session.token).await.status, 200);
    let events = app.events("auth").await;
    assert_eq!(events.last().unwrap().1["payload"]["method"], "token");
    assert_eq!(
        app.count("select count(*) from auth.sessions where auth_method = 'passkey'")
            .await,
        1
    );

    let path = format!("/api/v1/auth/passkeys/{id}");
    let rename = |name: &str| {
        app.patch(&path)
            .bearer(&ada.token)
            .json(&json!({ "name": name }))
            .send()
    };
    assert_eq!(rename("Old laptop").await.body["data"]["name"], "Old laptop");
    rename("<b>").await.refused(400, "VALIDATION");
    rename("").await.refused(400, "VALIDATION");
    let eve = app.register("eve@example.com").await;
    let call = app.patch(&path).bearer(&eve.token).json(&json!({ "name": "Mine" }));
    call.send().await.refused(404, "NOT_FOUND");
    let delete = |token: &str| app.call(http::Method::DELETE, &path).bearer(token).send();
    delete(&eve.token).await.refused(404, "NOT_FOUND");
    assert_eq!(delete(&ada.token).await.status, 200);
    delete(&ada.token).await.refused(404, "NOT_FOUND");
    assert_eq!(
        app.count("select count(*) from mail.messages where template = 'protection-changed'")
            .await,
        2
    );
    login(&app, &mut key).await.refused(401, "INVALID_CREDENTIALS");
    app.call(http::Method::DELETE, "/api/v1/auth/passkeys/no-id")
        .bearer(&ada.token)
        .send()
        .await
        .refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn a_device_that_lies_about_page_party_or_holder_registers_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let lies: [(&str, fn(&mut SoftKey)); 4] = [
        ("origin", |key| key.origin = "https://evil.example".into()),
        ("port", |key| key.origin = "http://localhost:9999".into()),
        ("party", |key| key.rp_id = "evil.example".into()),
        ("holder", |key| key.verifies_user = false),
    ];
    for (what, lie) in lies {
        let (ceremony, options) = begin(&app, &ada).await;
        let mut key = SoftKey::new();
        lie(&mut key);
        let done = finish(&app, &ada, &ceremony, key.create(&options)).await;
        assert_eq!(done.body["code"], "PASSKEY_REJECTED", "{what}: {}", done.body);
        // a challenge is good for one answer
        let mut honest = SoftKey::new();
        finish(&app, &ada, &ceremony, honest.create(&options))
            .await
            .refused(400, "CEREMONY_EXPIRED");
    }
    let (ceremony, _) = begin(&app, &ada).await;
    let (_, other) = begin(&app, &ada).await;
    finish(&app, &ada, &ceremony, SoftKey::new().create(&other))
        .await
        .refused(400, "PASSKEY_REJECTED");
    for nonsense in [json!({}), json!("x"), json!({ "id": 5 }), Value::Null] {
        finish(&app, &ada, "x", nonsense).await.refused(400, "VALIDATION");
    }
    assert_eq!(app.count("select count(*) from auth.webauthn_credentials").await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_registration_is_for_the_account_that_began_it_and_a_key_for_one_account(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let (ceremony, options) = begin(&app, &ada).await;
    let mut key = SoftKey::new();
    finish(&app, &eve, &ceremony, key.create(&options))
        .await
        .refused(400, "CEREMONY_EXPIRED");
    register_key(&app, &ada, &mut key).await;
    let (ceremony, options) = begin(&app, &eve).await;
    finish(&app, &eve, &ceremony, key.create(&options))
        .await
        .refused(409, "PASSKEY_TAKEN");
    let (_, options) = begin(&app, &ada).await;
    assert_eq!(options["excludeCredentials"].as_array().unwrap().len(), 1);
}

#[sqlx::test(migrations = false)]
async fn an_assertion_of_another_page_challenge_key_or_time_signs_nobody_in(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let mut key = SoftKey::new();
    register_key(&app, &ada, &mut key).await;
    let refused = async |lie: fn(&mut SoftKey), key: &mut SoftKey| {
        lie(key);
        login(&app, key).await.refused(401, "INVALID_CREDENTIALS");
        key.origin = "http://localhost:5173".into();
        key.rp_id = "localhost".into();
        key.verifies_user = true;
    };
    refused(|key| key.origin = "https://evil.example".into(), &mut key).await;
    refused(|key| key.rp_id = "evil.example".into(), &mut key).await;
    refused(|key| key.verifies_user = false, &mut key).await;

    let (ceremony, options) = begin_login(&app).await;
    let (other, _) = begin_login(&app).await;
    let answer = key.get(&options);
    finish_login(&app, &other, answer.clone())
        .await
        .refused(401, "INVALID_CREDENTIALS");
    assert_eq!(finish_login(&app, &ceremony, answer.clone()).await.status, 200);
    finish_login(&app, &ceremony, answer)
        .await
        .refused(401, "INVALID_CREDENTIALS");

    let (ceremony, options) = begin_login(&app).await;
    let mut stranger = SoftKey::new();
    stranger.credential.clone_from(&key.credential);
    stranger.user_handle.clone_from(&key.user_handle);
    finish_login(&app, &ceremony, stranger.get(&options))
        .await
        .refused(401, "INVALID_CREDENTIALS");

    let eve = app.register("eve@example.com").await;
    let mut of_eve = SoftKey::new();
    register_key(&app, &eve, &mut of_eve).await;
    let handle = of_eve.user_handle.clone();
    of_eve.user_handle.clone_from(&key.user_handle);
    login(&app, &mut of_eve).await.refused(401, "INVALID_CREDENTIALS");
    of_eve.user_handle = handle;
    assert_eq!(login(&app, &mut of_eve).await.status, 200);

    let (ceremony, options) = begin_login(&app).await;
    app.advance(5 * 60);
    finish_login(&app, &ceremony, key.get(&options))
        .await
        .refused(401, "INVALID_CREDENTIALS");
    finish_login(&app, &"x".repeat(43), json!({}))
        .await
        .refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn a_counter_that_goes_back_betrays_a_copy(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let mut key = SoftKey::new();
    key.counter = 7;
    register_key(&app, &ada, &mut key).await;
    assert_eq!(login(&app, &mut key).await.status, 200);
    assert_eq!(login(&app, &mut key).await.status, 200);
    for stolen in [8, 3, 1] {
        key.counter = stolen;
        login(&app, &mut key).await.refused(401, "INVALID_CREDENTIALS");
    }
    assert_eq!(
        app.count("select count(*) from auth.security_events where kind = 'passkey_cloned'")
            .await,
        3
    );
    key.counter = 100;
    assert_eq!(login(&app, &mut key).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn suspended_accounts_do_not_sign_in_with_a_passkey(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let mut key = SoftKey::new();
    register_key(&app, &ada, &mut key).await;
    app.execute("update auth.users set suspended_at = now()").await;
    login(&app, &mut key).await.refused(401, "ACCOUNT_SUSPENDED");
}

#[sqlx::test(migrations = false)]
async fn a_passkey_is_a_second_factor_and_needs_none(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { traveller, .. } = protect(&app, "ada@example.com").await;
    let mut key = SoftKey::new();
    key.counter = 1;
    register_key(&app, &traveller, &mut key).await;
    assert_eq!(login(&app, &mut key).await.status, 200, "it is two factors by itself");

    let reply = app.try_login("ada@example.com", PASSWORD).await;
    assert_eq!(
        reply.body["data"]["methods"],
        json!(["totp", "recoveryCode", "passkey"])
    );
    let ticket = ticket(&app, "ada@example.com").await;
    let challenge = |ticket: &str| {
        let call = app
            .post("/api/v1/auth/mfa/challenge")
            .json(&json!({ "ticket": ticket }));
        call.send()
    };
    challenge("x").await.refused(401, "MFA_TICKET_INVALID");
    let options = challenge(&ticket).await.body["data"]["publicKey"].clone();
    assert_eq!(options["allowCredentials"].as_array().unwrap().len(), 1);
    // nobody asked for this answer
    let (_, foreign) = begin_login(&app).await;
    verify(&app, json!({ "ticket": ticket, "passkey": key.get(&foreign) }))
        .await
        .refused(401, "INVALID_SECOND_FACTOR");
    let answer = key.get(&options);
    let done = verify(&app, json!({ "ticket": ticket, "passkey": answer })).await;
    assert_eq!(done.status, 200, "{}", done.body);
    verify(&app, json!({ "ticket": ticket, "passkey": answer }))
        .await
        .refused(401, "MFA_TICKET_INVALID");
    // the counter moved: an older value is a copy also here, and also if it moved after the challenge was made
    for (elsewhere, stolen) in [(None, 1), (Some(20), 10)] {
        let ticket = crate::mfa::ticket(&app, "ada@example.com").await;
        let options = challenge(&ticket).await.body["data"]["publicKey"].clone();
        if let Some(counter) = elsewhere {
            key.counter = counter;
            assert_eq!(login(&app, &mut key).await.status, 200);
        }
        key.counter = stolen;
        verify(&app, json!({ "ticket": ticket, "passkey": key.get(&options) }))
            .await
            .refused(401, "INVALID_SECOND_FACTOR");
    }
}

#[sqlx::test(migrations = false)]
async fn a_passkey_proves_again_who_one_is(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let mut key = SoftKey::new();
    register_key(&app, &ada, &mut key).await;
    app.advance(10 * 60);
    let begin_again = |token: &str| app.post("/api/v1/auth/reauthenticate/begin").bearer(token).send();
    begin_again(&eve.token).await.refused(404, "NO_PASSKEY");
    let again = |token: &str, body: Value| app.post("/api/v1/auth/reauthenticate").bearer(token).json(&body).send();
    let (ceremony, options) = begun_of(&begin_again(&ada.token).await);
    let answer = key.get(&options);
    again(&eve.token, json!({ "ceremony": ceremony, "passkey": answer }))
        .await
        .refused(400, "CEREMONY_EXPIRED");
    let (ceremony, options) = begun_of(&begin_again(&ada.token).await);
    let body = json!({ "ceremony": ceremony, "passkey": key.get(&options) });
    assert_eq!(again(&ada.token, body.clone()).await.status, 200);
    again(&ada.token, body).await.refused(400, "CEREMONY_EXPIRED");
    begin(&app, &ada).await;
}

#[sqlx::test(migrations = false)]
async fn an_account_has_a_bounded_number_of_passkeys(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    for _ in 0..20 {
        register_key(&app, &ada, &mut SoftKey::new()).await;
    }
    let (ceremony, options) = begin(&app, &ada).await;
    finish(&app, &ada, &ceremony, SoftKey::new().create(&options))
        .await
        .refused(409, "TOO_MANY_PASSKEYS");
}

#[sqlx::test(migrations = false)]
async fn an_address_that_must_be_confirmed_must_be_here_too(pool: PgPool) {
    let app = TestApp::with(pool, &[("REQUIRE_EMAIL_VERIFICATION", "true")]).await;
    let ada = app.register("ada@example.com").await;
    let mut key = SoftKey::new();
    register_key(&app, &ada, &mut key).await;
    login(&app, &mut key).await.refused(403, "EMAIL_NOT_VERIFIED");
    app.execute("update auth.users set is_verified = true").await;
    assert_eq!(login(&app, &mut key).await.status, 200);
}
