//! The second factor: authenticator apps, recovery codes, sign-in in two requests, step-up (core §14).

use core_pod::{auth::client::Accounts, mail::Outgoing};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use totp_rs::{Builder, Secret};

use crate::support::{PASSWORD, Reply, TestApp, Traveller};

/// A traveller whose account asks for a second factor.
pub struct Protected {
    pub traveller: Traveller,
    pub secret: String,
    pub recovery_codes: Vec<String>,
}

/// The code of an authenticator app, so many steps from now.
pub fn code_at(app: &TestApp, secret: &str, steps: i64) -> String {
    let seconds = app.now() + steps * 30;
    let totp = Builder::new()
        .with_secret(Secret::try_from_base32(secret).unwrap())
        .build_noncompliant();
    totp.generate(u64::try_from(seconds).unwrap()).to_string()
}

/// Signs up and sets up an authenticator app; afterwards the clock stands in a time step that was not used.
pub async fn protect(app: &TestApp, email: &str) -> Protected {
    let traveller = app.register(email).await;
    let (secret, recovery_codes) = set_up(app, &traveller).await;
    app.advance(30);
    Protected {
        traveller,
        secret,
        recovery_codes,
    }
}

async fn set_up(app: &TestApp, traveller: &Traveller) -> (String, Vec<String>) {
    let begun = app.post("/api/v1/auth/mfa/totp").bearer(&traveller.token).send().await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    let secret = begun.body["data"]["secret"].as_str().unwrap().to_owned();
    let confirmed = confirm(app, traveller, &code_at(app, &secret, 0)).await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.body);
    let codes = confirmed.body["data"]["recoveryCodes"].as_array().unwrap().iter();
    let codes = codes.map(|code| code.as_str().unwrap().to_owned()).collect();
    (secret, codes)
}

async fn confirm(app: &TestApp, traveller: &Traveller, code: &str) -> Reply {
    let call = app.post("/api/v1/auth/mfa/totp/confirm").bearer(&traveller.token);
    call.json(&json!({ "code": code })).send().await
}

/// Signs in with the password only; gives the ticket.
pub async fn ticket(app: &TestApp, email: &str) -> String {
    let reply = app.try_login(email, PASSWORD).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["data"]["mfaRequired"], true);
    reply.body["data"]["ticket"].as_str().unwrap().to_owned()
}

pub async fn verify(app: &TestApp, body: Value) -> Reply {
    app.post("/api/v1/auth/mfa/verify").json(&body).send().await
}

fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[sqlx::test(migrations = false)]
async fn an_account_without_a_second_factor_signs_in_as_ever(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    let reply = app.try_login("ada@example.com", PASSWORD).await;
    assert_eq!(reply.status, 200);
    let mut keys: Vec<_> = reply.body["data"].as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["tokens", "user"], "nothing is added for those who do not use it");
    assert_eq!(claims(&reply.token())["amr"], json!(["pwd"]));
    assert_eq!(claims(&reply.token())["auth_time"], app.now());
    assert_eq!(app.count("select count(*) from auth.ceremonies").await, 0);
}

#[sqlx::test(migrations = false)]
async fn an_app_is_on_only_after_a_code_of_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let begun = app.post("/api/v1/auth/mfa/totp").bearer(&ada.token).send().await;
    let secret = begun.body["data"]["secret"].as_str().unwrap().to_owned();
    let uri = begun.body["data"]["otpauthUri"].as_str().unwrap();
    assert!(
        uri.starts_with("otpauth://totp/DreamScape:ada%40example.com?secret="),
        "{uri}"
    );
    let picture = begun.body["data"]["qrCode"].as_str().unwrap();
    assert!(picture.starts_with("data:image/svg+xml;base64,"));
    app.login("ada@example.com").await;

    confirm(&app, &ada, "000000").await.refused(400, "INVALID_CODE");
    confirm(&app, &ada, "").await.refused(400, "VALIDATION");
    let stranger = app.register("eve@example.com").await;
    confirm(&app, &stranger, &code_at(&app, &secret, 0))
        .await
        .refused(400, "MFA_NOT_STARTED");
    let confirmed = confirm(&app, &ada, &code_at(&app, &secret, 0)).await;
    assert_eq!(confirmed.body["data"]["recoveryCodes"].as_array().unwrap().len(), 10);
    confirm(&app, &ada, &code_at(&app, &secret, 1))
        .await
        .refused(400, "MFA_NOT_STARTED");
    app.post("/api/v1/auth/mfa/totp")
        .bearer(&ada.token)
        .send()
        .await
        .refused(409, "MFA_ALREADY_ENABLED");

    assert_eq!(
        app.count("select count(*) from mail.messages where template = 'protection-changed'")
            .await,
        1
    );
    let status = app.get("/api/v1/auth/mfa").bearer(&ada.token).send().await;
    assert_eq!(status.body["data"]["enabled"], true);
    assert_eq!(status.body["data"]["recoveryCodesLeft"], 10);
    assert_eq!(
        status.body["data"]["enabledAt"],
        shared::sources::iso_millis(app.time())
    );
}

#[sqlx::test(migrations = false)]
async fn secrets_are_sealed_and_codes_are_digests_in_the_database(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected {
        secret, recovery_codes, ..
    } = protect(&app, "ada@example.com").await;
    let raw = Secret::try_from_base32(&secret).unwrap();
    let stored: Vec<u8> = sqlx::query_scalar("select secret_sealed from auth.mfa_totp")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert!(!stored.windows(20).any(|part| part == raw.as_bytes()));
    let dump: String = sqlx::query_scalar(
        "select string_agg(row::text, ' ') from (
             select t::text as row from auth.mfa_totp t union all select c::text from auth.mfa_recovery_codes c
             union all select e::text from auth.security_events e) as rows",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!(!dump.contains(&secret));
    for code in recovery_codes {
        assert!(!dump.contains(&code) && !dump.contains(&code.replace('-', "")));
    }
}

#[sqlx::test(migrations = false)]
async fn the_password_alone_gets_a_ticket_and_nothing_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let before = app.events("auth").await.len();
    let reply = app.try_login("ada@example.com", PASSWORD).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["data"]["methods"], json!(["totp", "recoveryCode"]));
    assert!(reply.body["data"].get("tokens").is_none() && reply.body["data"].get("user").is_none());
    assert!(reply.cookie("refreshToken").is_none() && reply.cookie("ds_session").is_none());
    assert_eq!(app.events("auth").await.len(), before, "it is not a sign-in yet");
    app.try_login("ada@example.com", "Wrong0rd!")
        .await
        .refused(401, "INVALID_CREDENTIALS");

    let ticket = reply.body["data"]["ticket"].as_str().unwrap();
    app.profile(ticket).await.refused(401, "INVALID_TOKEN");
    let body = json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) });
    let done = verify(&app, body.clone()).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.body["message"], "Login successful");
    assert_eq!(done.body["data"]["user"]["isSuspended"], false);
    let session = Traveller::from(&done);
    assert_eq!(app.profile(&session.token).await.status, 200);
    assert_eq!(claims(&session.token)["amr"], json!(["pwd", "otp", "mfa"]));
    let events = app.events("auth").await;
    let (topic, login) = events.last().unwrap();
    assert_eq!(
        (topic.as_str(), &login["payload"]["method"]),
        ("auth.login", &json!("password"))
    );
    verify(&app, body).await.refused(401, "MFA_TICKET_INVALID");

    // a refresh keeps what the session knows
    let refreshed = app
        .post("/api/v1/auth/refresh")
        .cookie("refreshToken", &session.refresh)
        .send()
        .await;
    assert_eq!(claims(&refreshed.token())["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(
        claims(&refreshed.token())["auth_time"],
        claims(&session.token)["auth_time"]
    );
}

#[sqlx::test(migrations = false)]
async fn remember_me_is_kept_until_the_second_factor(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let body = json!({ "email": "ada@example.com", "password": PASSWORD, "rememberMe": true });
    let reply = app.post("/api/v1/auth/login").json(&body).send().await;
    let ticket = reply.body["data"]["ticket"].as_str().unwrap();
    let done = verify(&app, json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) })).await;
    assert!(done.cookie_line("refreshToken").unwrap().contains("Max-Age=2592000"));
}

#[sqlx::test(migrations = false)]
async fn a_code_is_good_once_and_one_step_around_now(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let attempt = async |code: String| {
        let ticket = ticket(&app, "ada@example.com").await;
        verify(&app, json!({ "ticket": ticket, "code": code })).await
    };
    app.advance(10 * 30);
    for outside in [-2, 2] {
        attempt(code_at(&app, &secret, outside))
            .await
            .refused(401, "INVALID_SECOND_FACTOR");
    }
    let code = code_at(&app, &secret, 0);
    assert_eq!(attempt(code.clone()).await.status, 200);
    attempt(code).await.refused(401, "INVALID_SECOND_FACTOR");
    attempt(code_at(&app, &secret, -1))
        .await
        .refused(401, "INVALID_SECOND_FACTOR");
    assert_eq!(attempt(code_at(&app, &secret, 1)).await.status, 200);
    app.advance(30);
    attempt(code_at(&app, &secret, 0))
        .await
        .refused(401, "INVALID_SECOND_FACTOR");
}

#[sqlx::test(migrations = false)]
async fn of_many_uses_of_one_code_at_the_same_time_one_wins(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let code = code_at(&app, &secret, 0);
    let tickets = join_all((0..8).map(|_| ticket(&app, "ada@example.com"))).await;
    let tries = tickets
        .into_iter()
        .map(|ticket| verify(&app, json!({ "ticket": ticket, "code": code })));
    let replies = join_all(tries).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    assert!(replies.iter().all(|reply| reply.status == 200 || reply.status == 401));
}

#[sqlx::test(migrations = false)]
async fn a_ticket_has_five_tries_five_minutes_one_address_and_one_use(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected {
        secret, recovery_codes, ..
    } = protect(&app, "ada@example.com").await;
    let spent = ticket(&app, "ada@example.com").await;
    for _ in 0..5 {
        verify(&app, json!({ "ticket": spent, "code": "000000" }))
            .await
            .refused(401, "INVALID_SECOND_FACTOR");
    }
    verify(&app, json!({ "ticket": spent, "code": code_at(&app, &secret, 0) }))
        .await
        .refused(401, "MFA_TICKET_INVALID");

    let elsewhere = ticket(&app, "ada@example.com").await;
    let body = json!({ "ticket": elsewhere, "code": code_at(&app, &secret, 0) });
    let call = app.post("/api/v1/auth/mfa/verify").at_address([198, 51, 100, 9]);
    call.json(&body).send().await.refused(401, "MFA_TICKET_INVALID");

    // two right factors at the same time open one session
    let before = app.count("select count(*) from auth.sessions").await;
    let by_code = verify(&app, body);
    let by_recovery = verify(&app, json!({ "ticket": elsewhere, "recoveryCode": recovery_codes[0] }));
    let (one, other) = tokio::join!(by_code, by_recovery);
    assert_eq!(u8::from(one.status == 200) + u8::from(other.status == 200), 1);
    assert_eq!(app.count("select count(*) from auth.sessions").await, before + 1);

    let late = ticket(&app, "ada@example.com").await;
    app.advance(5 * 60);
    verify(&app, json!({ "ticket": late, "code": code_at(&app, &secret, 0) }))
        .await
        .refused(401, "MFA_TICKET_INVALID");
    for nonsense in ["", "x", &"y".repeat(43)] {
        let reply = verify(&app, json!({ "ticket": nonsense, "code": "123456" })).await;
        assert!(matches!(reply.status.as_u16(), 400 | 401), "{}", reply.body);
    }
}

#[sqlx::test(migrations = false)]
async fn a_ticket_is_for_the_password_it_was_given_for_and_for_accounts_in_good_standing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let suspended = ticket(&app, "ada@example.com").await;
    app.execute("update auth.users set suspended_at = now()").await;
    verify(&app, json!({ "ticket": suspended, "code": code_at(&app, &secret, 0) }))
        .await
        .refused(401, "ACCOUNT_SUSPENDED");
    app.execute("update auth.users set suspended_at = null").await;
    let old = ticket(&app, "ada@example.com").await;
    app.execute("update auth.users set password_hash = replace(password_hash, 'm=19456', 'm=19457')")
        .await;
    verify(&app, json!({ "ticket": old, "code": code_at(&app, &secret, 0) }))
        .await
        .refused(401, "MFA_TICKET_INVALID");
}

#[sqlx::test(migrations = false)]
async fn guesses_count_per_account_whatever_the_ticket(pool: PgPool) {
    let app = TestApp::with(pool, &[("RATE_LIMIT_AUTH_MAX", "1000"), ("LOCKOUT_FAILURES", "1000")]).await;
    protect(&app, "ada@example.com").await;
    let mut refusals = Vec::new();
    for _ in 0..4 {
        let ticket = ticket(&app, "ada@example.com").await;
        for _ in 0..3 {
            let reply = verify(&app, json!({ "ticket": ticket, "code": "000000" })).await;
            refusals.push(reply.status.as_u16());
        }
    }
    assert_eq!(refusals[..10], [401; 10]);
    assert_eq!(refusals[10..], [429; 2]);
}

#[sqlx::test(migrations = false)]
async fn wrong_second_factors_lock_the_account_as_wrong_passwords_do(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    for _ in 0..2 {
        let ticket = ticket(&app, "ada@example.com").await;
        for _ in 0..5 {
            verify(&app, json!({ "ticket": ticket, "code": "000000" })).await;
        }
    }
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    let events = app.events("auth").await;
    assert!(events.iter().any(|(topic, _)| topic == "auth.account.locked"));
    app.advance(15 * 60);
    let ticket = ticket(&app, "ada@example.com").await;
    let done = verify(&app, json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) })).await;
    assert_eq!(done.status, 200, "{}", done.body);
}

#[sqlx::test(migrations = false)]
async fn a_right_password_does_not_forgive_wrong_second_factors(pool: PgPool) {
    let app = TestApp::start(pool).await;
    protect(&app, "ada@example.com").await;
    // whoever knows the password gets a new ticket after each wrong code
    for _ in 0..10 {
        let ticket = ticket(&app, "ada@example.com").await;
        verify(&app, json!({ "ticket": ticket, "code": "000000" })).await;
    }
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
}

#[sqlx::test(migrations = false)]
async fn a_recovery_code_is_good_once_and_its_use_is_noted(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { recovery_codes, .. } = protect(&app, "ada@example.com").await;
    let attempt = async |code: &str| {
        let ticket = ticket(&app, "ada@example.com").await;
        verify(&app, json!({ "ticket": ticket, "recoveryCode": code })).await
    };
    let done = attempt(&recovery_codes[3].to_lowercase()).await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(claims(&done.token())["amr"], json!(["pwd", "rc", "mfa"]));
    attempt(&recovery_codes[3]).await.refused(401, "INVALID_SECOND_FACTOR");
    attempt(&"A".repeat(24)).await.refused(401, "INVALID_SECOND_FACTOR");
    attempt("no code").await.refused(401, "INVALID_SECOND_FACTOR");
    let left: Value = sqlx::query_scalar("select data from auth.security_events where kind = 'recovery_code_used'")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(left, json!({ "left": 9 }));
    while app.services.mail.worker().run_once().await.unwrap() > 0 {}
    let mails = app.services.mail.mailbox().unwrap().mails();
    let told: Vec<_> = mails
        .iter()
        .filter(|mail| mail.template == "recovery-code-used")
        .collect();
    assert_eq!(told.len(), 1, "the owner is told by mail, once");
    assert!(
        told[0].to == "ada@example.com" && told[0].text.contains("Codes restants : 9"),
        "{}",
        told[0].text
    );
}

#[sqlx::test(migrations = false)]
async fn new_recovery_codes_end_the_old_ones(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected {
        traveller,
        recovery_codes,
        ..
    } = protect(&app, "ada@example.com").await;
    let regenerate = || {
        app.post("/api/v1/auth/mfa/recovery-codes")
            .bearer(&traveller.token)
            .send()
    };
    let new = regenerate().await;
    let new = new.body["data"]["recoveryCodes"].as_array().unwrap();
    assert_eq!(new.len(), 10);
    let old = ticket(&app, "ada@example.com").await;
    verify(&app, json!({ "ticket": old, "recoveryCode": recovery_codes[0] }))
        .await
        .refused(401, "INVALID_SECOND_FACTOR");
    let done = verify(&app, json!({ "ticket": old, "recoveryCode": new[0] })).await;
    assert_eq!(done.status, 200);
    let eve = app.register("eve@example.com").await;
    app.post("/api/v1/auth/mfa/recovery-codes")
        .bearer(&eve.token)
        .send()
        .await
        .refused(404, "MFA_NOT_ENABLED");
}

#[sqlx::test(migrations = false)]
async fn what_protects_an_account_is_changed_after_a_fresh_proof_only(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { traveller, secret, .. } = protect(&app, "ada@example.com").await;
    app.advance(10 * 60);
    let sensitive = [
        (http::Method::DELETE, "/api/v1/auth/mfa/totp"),
        (http::Method::POST, "/api/v1/auth/mfa/totp"),
        (http::Method::POST, "/api/v1/auth/mfa/recovery-codes"),
        (http::Method::POST, "/api/v1/auth/passkeys/register/begin"),
        (
            http::Method::DELETE,
            "/api/v1/auth/passkeys/00000000-0000-7000-8000-000000000000",
        ),
    ];
    for (method, path) in sensitive.clone() {
        app.call(method, path)
            .bearer(&traveller.token)
            .send()
            .await
            .refused(403, "REAUTH_REQUIRED");
    }
    let again = |body: Value| {
        app.post("/api/v1/auth/reauthenticate")
            .bearer(&traveller.token)
            .json(&body)
            .send()
    };
    again(json!({ "password": PASSWORD }))
        .await
        .refused(400, "SECOND_FACTOR_REQUIRED");
    again(json!({ "code": "000000" })).await.refused(400, "INVALID_PROOF");
    again(json!({})).await.refused(400, "VALIDATION");
    again(json!({ "code": "000000", "password": "x" }))
        .await
        .refused(400, "VALIDATION");
    let proven = again(json!({ "code": code_at(&app, &secret, 0) })).await;
    assert_eq!(proven.status, 200, "{}", proven.body);
    let token = proven.body["data"]["accessToken"].as_str().unwrap();
    assert_eq!(claims(token)["auth_time"], app.now());
    assert!(claims(token)["amr"].as_array().unwrap().contains(&json!("otp")));
    assert_eq!(proven.body["data"]["accessTokenExpiresIn"], "15m");
    again(json!({ "code": code_at(&app, &secret, 0) }))
        .await
        .refused(400, "INVALID_PROOF");
    let off = app
        .call(http::Method::DELETE, "/api/v1/auth/mfa/totp")
        .bearer(&traveller.token)
        .send()
        .await;
    assert_eq!(off.status, 200, "{}", off.body);
    app.call(http::Method::DELETE, "/api/v1/auth/mfa/totp")
        .bearer(&traveller.token)
        .send()
        .await
        .refused(404, "MFA_NOT_ENABLED");
    app.login("ada@example.com").await;
    assert_eq!(app.count("select count(*) from auth.mfa_recovery_codes").await, 0);
}

#[sqlx::test(migrations = false)]
async fn an_account_without_a_second_factor_proves_itself_with_its_password(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.advance(10 * 60);
    let enrol = || app.post("/api/v1/auth/mfa/totp").bearer(&ada.token).send();
    enrol().await.refused(403, "REAUTH_REQUIRED");
    let again = |body: Value| {
        app.post("/api/v1/auth/reauthenticate")
            .bearer(&ada.token)
            .json(&body)
            .send()
    };
    again(json!({ "password": "Wrong0rd!" }))
        .await
        .refused(400, "INVALID_PROOF");
    assert_eq!(again(json!({ "password": PASSWORD })).await.status, 200);
    assert_eq!(enrol().await.status, 200);
    app.post("/api/v1/auth/reauthenticate")
        .json(&json!({ "password": PASSWORD }))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    // the proof is of one session: another is as old as it was
    let other = app.login("ada@example.com").await;
    app.advance(10 * 60 - 1);
    assert_eq!(
        app.post("/api/v1/auth/mfa/totp")
            .bearer(&other.token)
            .send()
            .await
            .status,
        200
    );
    app.advance(1);
    app.post("/api/v1/auth/mfa/totp")
        .bearer(&other.token)
        .send()
        .await
        .refused(403, "REAUTH_REQUIRED");
}

#[sqlx::test(migrations = false)]
async fn the_session_limit_holds_for_sign_ins_with_a_second_factor(pool: PgPool) {
    let settings = [("MAX_SESSIONS_PER_USER", "2"), ("RATE_LIMIT_MULTIPLIER", "1000")];
    let app = TestApp::with(pool, &settings).await;
    let Protected { traveller, secret, .. } = protect(&app, "ada@example.com").await;
    for _ in 0..2 {
        let ticket = ticket(&app, "ada@example.com").await;
        let done = verify(&app, json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) })).await;
        assert_eq!(done.status, 200);
        app.advance(30);
    }
    app.profile(&traveller.token).await.refused(401, "TOKEN_REVOKED");
}

#[sqlx::test(migrations = false)]
async fn a_database_that_is_away_lets_nobody_past_the_second_factor(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let ticket = ticket(&app, "ada@example.com").await;
    app.pool.close().await;
    verify(&app, json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) }))
        .await
        .refused(503, "SERVICE_UNAVAILABLE");
}

#[sqlx::test(migrations = false)]
async fn an_imported_account_with_a_second_factor_gets_its_hash_upgraded_at_the_first_password(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    // `Passw0rd!`, made by libxcrypt
    let old = "$2b$04$abcdefghijklmnopqrstuuchGdllX0O2ZthG6oyaPSbmBrCIbnHlu";
    sqlx::query("update auth.users set password_hash = $1")
        .bind(old)
        .execute(&app.pool)
        .await
        .unwrap();
    let ticket = ticket(&app, "ada@example.com").await;
    assert_eq!(
        app.count("select count(*) from auth.users where password_hash like '$argon2id$%'")
            .await,
        1
    );
    let done = verify(&app, json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) })).await;
    assert_eq!(done.status, 200, "{}", done.body);
}

#[sqlx::test(migrations = false)]
async fn an_administrator_can_take_lost_second_factors_away(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { traveller, .. } = protect(&app, "ada@example.com").await;
    let accounts = Accounts::new(app.services.auth.clone());
    let user = traveller.id.parse().unwrap();
    accounts.reset_second_factors(user).await.unwrap();
    app.profile(&traveller.token).await.refused(401, "TOKEN_REVOKED");
    app.login("ada@example.com").await;
    for table in ["auth.mfa_totp", "auth.mfa_recovery_codes", "auth.webauthn_credentials"] {
        let sql = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    accounts.reset_second_factors(user).await.unwrap();
    let nobody = "00000000-0000-7000-8000-000000000000".parse().unwrap();
    assert!(accounts.reset_second_factors(nobody).await.is_err());
}

#[sqlx::test(migrations = false)]
async fn what_was_begun_and_never_ended_is_cleared_away_by_what_begins_later(pool: PgPool) {
    let app = TestApp::start(pool).await;
    protect(&app, "ada@example.com").await;
    for _ in 0..3 {
        ticket(&app, "ada@example.com").await;
    }
    app.advance(5 * 60 + 1);
    ticket(&app, "ada@example.com").await;
    assert_eq!(app.count("select count(*) from auth.ceremonies").await, 1);
}

/// Wrong codes, each with a ticket that has tries left.
async fn fail(app: &TestApp, times: usize) {
    for _ in 0..times {
        let ticket = ticket(app, "ada@example.com").await;
        verify(app, json!({ "ticket": ticket, "code": "000000" }))
            .await
            .refused(401, "INVALID_SECOND_FACTOR");
    }
}

#[sqlx::test(migrations = false)]
async fn a_lockout_holds_for_tickets_from_before_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let early = ticket(&app, "ada@example.com").await;
    fail(&app, 10).await;
    verify(&app, json!({ "ticket": early, "code": code_at(&app, &secret, 0) }))
        .await
        .refused(401, "INVALID_SECOND_FACTOR");
}

#[sqlx::test(migrations = false)]
async fn a_right_second_factor_forgives_the_wrong_ones_before_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    for _ in 0..2 {
        fail(&app, 9).await;
        let ticket = ticket(&app, "ada@example.com").await;
        let done = verify(&app, json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) })).await;
        assert_eq!(done.status, 200, "{}", done.body);
        app.advance(30);
    }
}

/// The mailbox after the workers have run, oldest first.
async fn mails(app: &TestApp) -> Vec<Outgoing> {
    while app.services.answer_recovery_requests().await.unwrap() > 0 {}
    let worker = app.services.mail.worker();
    while worker.run_once().await.unwrap() > 0 {}
    let mut mails = app.services.mail.mailbox().unwrap().mails();
    mails.reverse();
    mails
}

#[sqlx::test(migrations = false)]
async fn the_owner_reads_of_every_change_in_their_mailbox(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { traveller, .. } = protect(&app, "ada@example.com").await;
    for (method, path) in [
        (http::Method::POST, "/api/v1/auth/mfa/recovery-codes"),
        (http::Method::DELETE, "/api/v1/auth/mfa/totp"),
    ] {
        let reply = app.call(method, path).bearer(&traveller.token).send().await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        app.advance(1);
    }
    let accounts = Accounts::new(app.services.auth.clone());
    accounts
        .reset_second_factors(traveller.id.parse().unwrap())
        .await
        .unwrap();
    let told = mails(&app).await;
    let told: Vec<_> = told
        .iter()
        .filter(|mail| mail.template == "protection-changed")
        .collect();
    for words in ["est activée", "codes de secours", "est désactivée", "service client"] {
        assert_eq!(
            told.iter().filter(|mail| mail.text.contains(words)).count(),
            1,
            "{words}"
        );
    }
    assert!(told.iter().all(|mail| mail.to == "ada@example.com"));
}

#[sqlx::test(migrations = false)]
async fn a_new_password_by_mail_does_not_replace_the_second_factor(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Protected { secret, .. } = protect(&app, "ada@example.com").await;
    let forgot = app.post("/api/v1/auth/forgot-password");
    forgot.json(&json!({ "email": "ada@example.com" })).send().await;
    let mails = mails(&app).await;
    let mail = mails.iter().find(|mail| mail.template == "reset-password").unwrap();
    let token = mail.text.split("#token=").nth(1).unwrap();
    let token = token.split_whitespace().next().unwrap();
    let new = "An0ther!Secret-42";
    let reset = app.post("/api/v1/auth/reset-password");
    let reset = reset.json(&json!({ "token": token, "password": new })).send().await;
    assert_eq!(reset.status, 200, "{}", reset.body);
    let reply = app.try_login("ada@example.com", new).await;
    assert_eq!(reply.body["data"]["mfaRequired"], true, "{}", reply.body);
    let ticket = reply.body["data"]["ticket"].as_str().unwrap();
    let done = verify(&app, json!({ "ticket": ticket, "code": code_at(&app, &secret, 0) })).await;
    assert_eq!(done.status, 200, "{}", done.body);
}
