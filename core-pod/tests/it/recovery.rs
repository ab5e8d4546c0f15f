//! Password reset, e-mail verification, the change of an address and the "not me" link, with the mails that carry them.
//!
//! contract: core §14, §4.4, §7

use core_pod::mail::{Mail, Outgoing};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::{
    db::Db,
    events::{Envelope, Topic, consumer::Handler},
    sources::Sources,
};
use sqlx::PgPool;

use crate::support::{PASSWORD, Reply, TestApp, Traveller};

const NEW_PASSWORD: &str = "An0ther!Secret-42";
const ADA: &str = "ada@example.com";

/// Does what the workers do, and gives the mailbox, newest first.
async fn mails(app: &TestApp) -> Vec<Outgoing> {
    while app.services.answer_recovery_requests().await.unwrap() > 0 {}
    let worker = app.services.mail.worker();
    while worker.run_once().await.unwrap() > 0 {}
    app.services.mail.mailbox().unwrap().mails()
}

/// The newest mail of this template to this address.
async fn mail(app: &TestApp, template: &str, to: &str) -> Outgoing {
    let mails = mails(app).await;
    let mail = mails.iter().find(|mail| mail.template == template && mail.to == to);
    mail.cloned()
        .unwrap_or_else(|| panic!("no {template} for {to} in {mails:?}"))
}

async fn count(app: &TestApp, template: &str) -> usize {
    mails(app).await.iter().filter(|mail| mail.template == template).count()
}

/// The token of the first link of a mail.
fn token(mail: &Outgoing) -> String {
    let start = mail.text.find("#token=").expect("a link with a token") + "#token=".len();
    mail.text[start..].split_whitespace().next().unwrap().to_owned()
}

async fn post(app: &TestApp, path: &str, body: Value) -> Reply {
    app.post(&format!("/api/v1/auth/{path}")).json(&body).send().await
}

async fn forgot(app: &TestApp, email: &str) -> Reply {
    post(app, "forgot-password", json!({ "email": email })).await
}

async fn reset_token(app: &TestApp, email: &str) -> String {
    assert_eq!(forgot(app, email).await.status, 202);
    token(&mail(app, "reset-password", email).await)
}

async fn reset(app: &TestApp, token: &str, password: &str) -> Reply {
    post(app, "reset-password", json!({ "token": token, "password": password })).await
}

async fn change_email(app: &TestApp, who: &Traveller, email: &str) -> Reply {
    app.call(Method::PUT, "/api/v1/auth/profile")
        .bearer(&who.token)
        .json(&json!({ "email": email }))
        .send()
        .await
}

async fn is_verified(app: &TestApp, who: &Traveller) -> bool {
    app.profile(&who.token).await.body["data"]["user"]["isVerified"]
        .as_bool()
        .unwrap()
}

#[sqlx::test(migrations = false)]
async fn asking_for_a_reset_says_and_does_the_same_for_a_known_and_an_unknown_address(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    mails(&app).await;
    app.services.mail.mailbox().unwrap().clear();
    let traces = "select (select count(*) from auth.one_time_tokens) + (select count(*) from mail.messages)
                       + (select count(*) from auth.outbox)";
    let before = app.count(traces).await;

    let known = forgot(&app, ADA).await;
    let unknown = forgot(&app, "nobody@example.com").await;
    assert_eq!((known.status.as_u16(), unknown.status.as_u16()), (202, 202));
    assert_eq!(known.body, unknown.body);
    let names = |reply: &Reply| {
        let mut names: Vec<String> = reply.headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(names(&known), names(&unknown));
    // one row each and nothing else: there is no difference whose time could be taken
    assert_eq!(app.count(traces).await, before);
    assert_eq!(app.count("select count(*) from auth.recovery_requests").await, 2);

    let sent = mails(&app).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].to.as_str(), sent[0].template.as_str()),
        (ADA, "reset-password")
    );
    assert_eq!(app.count("select count(*) from auth.recovery_requests").await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_reset_sets_the_password_ends_every_session_and_is_told(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = app.register("Ada@example.com").await;
    let second = app.login(ADA).await;
    assert_eq!(
        forgot(&app, "ADA@Example.com").await.status,
        202,
        "another spelling is the same account"
    );
    let mail = mail(&app, "reset-password", "Ada@example.com").await;
    assert!(
        mail.text.contains("http://localhost:5173/reset-password#token="),
        "{}",
        mail.text
    );
    let token = token(&mail);

    let reply = reset(&app, &token, NEW_PASSWORD).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["message"], "Password reset successfully");
    for session in [&first, &second] {
        app.profile(&session.token).await.refused(401, "TOKEN_REVOKED");
        let refreshed = app
            .post("/api/v1/auth/refresh")
            .json(&json!({ "refreshToken": session.refresh }))
            .send()
            .await;
        assert_eq!(refreshed.status, 401);
    }
    app.try_login(ADA, PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    assert_eq!(app.try_login(ADA, NEW_PASSWORD).await.status, 200);

    let events = app.events("auth").await;
    let of = |topic: &str| {
        events
            .iter()
            .filter(|(name, _)| name == topic)
            .map(|(_, event)| &event["payload"])
            .collect::<Vec<_>>()
    };
    let requested = of("auth.password.reset.requested");
    assert_eq!(requested.len(), 1);
    assert_eq!(
        requested[0]["resetToken"],
        hex::encode(Sha256::digest(token.as_bytes())),
        "the digest only"
    );
    assert_eq!(requested[0]["email"], ADA);
    let changed = of("auth.password.changed");
    assert_eq!(changed.len(), 1);
    assert_eq!(
        (&changed[0]["method"], &changed[0]["userId"]),
        (&json!("forgot_password"), &json!(first.id))
    );
    assert_eq!(of("auth.logout").len(), 2);
}

#[sqlx::test(migrations = false)]
async fn a_link_works_once_whoever_and_however_many_try(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    let token = reset_token(&app, ADA).await;
    let tries = (0..12).map(|_| reset(&app, &token, NEW_PASSWORD));
    let replies = futures_util::future::join_all(tries).await;
    let won = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(won, 1);
    for lost in replies.iter().filter(|reply| reply.status != 200) {
        lost.refused(400, "INVALID_OR_EXPIRED_TOKEN");
    }
}

#[sqlx::test(migrations = false)]
async fn a_reset_voids_the_other_links_and_a_link_runs_out_after_half_an_hour(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    let first = reset_token(&app, ADA).await;
    app.advance(60);
    let second = reset_token(&app, ADA).await;
    assert_ne!(first, second);
    assert_eq!(reset(&app, &first, NEW_PASSWORD).await.status, 200);
    reset(&app, &second, NEW_PASSWORD)
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");

    app.advance(3600);
    let late = reset_token(&app, ADA).await;
    app.advance(30 * 60);
    reset(&app, &late, NEW_PASSWORD)
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");
}

#[sqlx::test(migrations = false)]
async fn a_password_that_is_refused_does_not_use_the_link_up(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    let token = reset_token(&app, ADA).await;
    for bad in ["short", "alllowercase1!", "NoSpecial123"] {
        let refused = reset(&app, &token, bad).await;
        assert_eq!(refused.status, 400, "{bad}");
        assert!(!refused.body.to_string().contains(bad), "never echoed");
    }
    assert_eq!(reset(&app, &token, NEW_PASSWORD).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_reset_ends_a_lockout_and_proves_the_address(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    for _ in 0..10 {
        app.try_login(ADA, "Wr0ng!password")
            .await
            .refused(401, "INVALID_CREDENTIALS");
    }
    app.try_login(ADA, PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    let token = reset_token(&app, ADA).await;
    assert_eq!(reset(&app, &token, NEW_PASSWORD).await.status, 200);
    let back = app.try_login(ADA, NEW_PASSWORD).await;
    assert_eq!(back.status, 200, "{}", back.body);
    assert_eq!(back.body["data"]["user"]["isVerified"], true);
}

#[sqlx::test(migrations = false)]
async fn what_is_no_token_of_ours_is_refused_without_work_and_never_with_a_401(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    let verification = token(&mail(&app, "verify-email", ADA).await);
    for wrong in [
        "x",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        verification.as_str(),
    ] {
        reset(&app, wrong, NEW_PASSWORD)
            .await
            .refused(400, "INVALID_OR_EXPIRED_TOKEN");
    }
    let reset_link = reset_token(&app, ADA).await;
    for path in ["verify-email", "revert-email", "revoke-session"] {
        for wrong in ["x", reset_link.as_str()] {
            post(&app, path, json!({ "token": wrong }))
                .await
                .refused(400, "INVALID_OR_EXPIRED_TOKEN");
        }
        for malformed in [json!({}), json!({ "token": 7 }), json!({ "token": "" })] {
            post(&app, path, malformed).await.refused(400, "VALIDATION");
        }
    }
    for malformed in [json!({}), json!({ "email": "nobody" }), json!({ "email": ["a"] })] {
        post(&app, "forgot-password", malformed.clone())
            .await
            .refused(400, "VALIDATION");
        post(&app, "resend-verification", malformed)
            .await
            .refused(400, "VALIDATION");
    }
    assert_eq!(
        reset(&app, &reset_link, NEW_PASSWORD).await.status,
        200,
        "none of that used it up"
    );
}

#[sqlx::test(migrations = false)]
async fn nobodys_mailbox_is_flooded(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    for _ in 0..8 {
        assert_eq!(forgot(&app, ADA).await.status, 202, "the answer never changes");
    }
    assert_eq!(count(&app, "reset-password").await, 3);
    app.advance(3601);
    forgot(&app, ADA).await;
    assert_eq!(count(&app, "reset-password").await, 4);
}

#[sqlx::test(migrations = false)]
async fn one_address_asks_for_a_bounded_number_of_links(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await;
    for number in 0..10 {
        assert_eq!(forgot(&app, &format!("a{number}@example.com")).await.status, 202);
    }
    let refused = forgot(&app, "a10@example.com").await;
    refused.refused(429, "RATE_LIMIT_EXCEEDED");
    assert!(refused.headers.contains_key("retry-after"));
}

#[sqlx::test(migrations = false)]
async fn a_suspended_account_gets_no_link(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    app.execute("update auth.users set suspended_at = now()").await;
    assert_eq!(forgot(&app, ADA).await.status, 202);
    assert_eq!(count(&app, "reset-password").await, 0);
}

#[sqlx::test(migrations = false)]
async fn tokens_are_in_mails_and_nowhere_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register(ADA).await;
    let verification = token(&mail(&app, "verify-email", ADA).await);
    assert_eq!(forgot(&app, ADA).await.status, 202);
    while app.services.answer_recovery_requests().await.unwrap() > 0 {}
    let reset_link = {
        let everything: String = sqlx::query_scalar(
            "select coalesce(string_agg(t, ' '), '') from (
                 select to_jsonb(x)::text as t from auth.one_time_tokens x
                 union all select to_jsonb(x)::text from auth.outbox x
                 union all select to_jsonb(x)::text from auth.security_events x
                 union all select to_jsonb(x)::text from mail.messages x
             ) as rows",
        )
        .fetch_one(&app.pool)
        .await
        .unwrap();
        let reset_link = token(&mail(&app, "reset-password", ADA).await);
        for secret in [&verification, &reset_link] {
            assert_eq!(secret.len(), 43, "256 bits");
            assert!(!everything.contains(secret.as_str()));
        }
        reset_link
    };
    assert_eq!(reset(&app, &reset_link, NEW_PASSWORD).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_new_account_confirms_its_address_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("Ada+x@gmail.com").await;
    assert!(!is_verified(&app, &ada).await);
    let mail = mail(&app, "verify-email", "Ada+x@gmail.com").await;
    assert!(mail.text.contains("http://localhost:5173/verify-email#token="));
    let token = token(&mail);
    let verified = post(&app, "verify-email", json!({ "token": token })).await;
    assert_eq!(
        (verified.status.as_u16(), &verified.body["success"]),
        (200, &json!(true)),
        "{}",
        verified.body
    );
    assert!(is_verified(&app, &ada).await);
    post(&app, "verify-email", json!({ "token": token }))
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");
    let updated = app
        .events("auth")
        .await
        .into_iter()
        .find(|(topic, _)| topic == "user.updated")
        .unwrap()
        .1;
    assert_eq!(
        updated["payload"]["changes"],
        json!({ "isVerified": { "old": false, "new": true } })
    );
}

#[sqlx::test(migrations = false)]
async fn a_verification_link_is_sent_again_three_times_an_hour_and_only_where_it_is_needed(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await;
    let ada = app.register(ADA).await;
    let resend = || {
        app.post("/api/v1/auth/resend-verification")
            .bearer(&ada.token)
            .json(&json!({}))
    };
    for _ in 0..3 {
        assert_eq!(resend().send().await.status, 202);
    }
    resend().send().await.refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(count(&app, "verify-email").await, 3, "that of the sign-up included");

    let unknown = post(&app, "resend-verification", json!({ "email": "nobody@example.com" })).await;
    assert_eq!(unknown.status, 202);
    let ibn = app.register("ibn@example.com").await;
    let link = token(&mail(&app, "verify-email", "ibn@example.com").await);
    assert_eq!(post(&app, "verify-email", json!({ "token": link })).await.status, 200);
    let before = count(&app, "verify-email").await;
    let verified = post(&app, "resend-verification", json!({ "email": "ibn@example.com" })).await;
    assert_eq!((verified.status.as_u16(), &verified.body), (202, &unknown.body));
    assert_eq!(count(&app, "verify-email").await, before);
    assert!(is_verified(&app, &ibn).await);
}

#[sqlx::test(migrations = false)]
async fn a_changed_address_is_asked_to_confirm_and_the_old_mailbox_is_told(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register(ADA).await;
    let old_link = token(&mail(&app, "verify-email", ADA).await);
    let changed = change_email(&app, &ada, "lovelace@example.org").await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.body["data"]["user"]["email"], "lovelace@example.org");
    assert_eq!(changed.body["data"]["user"]["isVerified"], false);

    let notice = mail(&app, "email-changed", ADA).await;
    assert!(
        notice.text.contains("l***@e***.org") && !notice.text.contains("lovelace@"),
        "{}",
        notice.text
    );
    post(&app, "verify-email", json!({ "token": old_link }))
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");
    let confirm = token(&mail(&app, "confirm-new-email", "lovelace@example.org").await);
    assert_eq!(
        post(&app, "verify-email", json!({ "token": confirm })).await.status,
        200
    );
    assert!(is_verified(&app, &ada).await);
}

#[sqlx::test(migrations = false)]
async fn the_other_profile_route_writes_to_both_mailboxes_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register(ADA).await;
    let changed = app
        .call(Method::PUT, "/api/v1/users/profile")
        .bearer(&ada.token)
        .json(&json!({ "profile": { "email": "lovelace@example.org" } }))
        .send()
        .await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let confirm = token(&mail(&app, "confirm-new-email", "lovelace@example.org").await);
    let revert = token(&mail(&app, "email-changed", ADA).await);
    assert_eq!(
        post(&app, "verify-email", json!({ "token": confirm })).await.status,
        200
    );
    assert_eq!(post(&app, "revert-email", json!({ "token": revert })).await.status, 200);
    assert_eq!(app.try_login(ADA, PASSWORD).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn the_old_mailbox_takes_a_change_back_within_three_days_and_everybody_is_out(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register(ADA).await;
    let link = token(&mail(&app, "verify-email", ADA).await);
    post(&app, "verify-email", json!({ "token": link })).await;
    assert_eq!(change_email(&app, &ada, "eve@example.org").await.status, 200);
    let eves_reset = reset_token(&app, "eve@example.org").await;

    app.advance(71 * 3600);
    let revert = token(&mail(&app, "email-changed", ADA).await);
    let eve = app.login("eve@example.org").await;
    let reply = post(&app, "revert-email", json!({ "token": revert })).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    app.profile(&eve.token).await.refused(401, "TOKEN_REVOKED");
    app.try_login("eve@example.org", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    reset(&app, &eves_reset, NEW_PASSWORD)
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");
    let back = app.login(ADA).await;
    assert!(is_verified(&app, &back).await, "as it was before the change");
    assert_eq!(
        count(&app, "email-changed").await,
        1,
        "taking back is no change to be taken back"
    );
    let own_reset = token(&mail(&app, "reset-password", ADA).await);
    assert_eq!(reset(&app, &own_reset, NEW_PASSWORD).await.status, 200);
    post(&app, "revert-email", json!({ "token": revert }))
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");
}

#[sqlx::test(migrations = false)]
async fn a_thief_who_moves_on_cannot_shake_the_owner_off(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register(ADA).await;
    assert_eq!(change_email(&app, &ada, "eve@example.org").await.status, 200);
    let owners = token(&mail(&app, "email-changed", ADA).await);
    app.advance(60);
    assert_eq!(change_email(&app, &ada, "mallory@example.org").await.status, 200);
    let thiefs = token(&mail(&app, "email-changed", "eve@example.org").await);

    assert_eq!(post(&app, "revert-email", json!({ "token": thiefs })).await.status, 200);
    assert_eq!(app.try_login("eve@example.org", PASSWORD).await.status, 200);
    assert_eq!(post(&app, "revert-email", json!({ "token": owners })).await.status, 200);
    assert_eq!(app.try_login(ADA, PASSWORD).await.status, 200);
    post(&app, "revert-email", json!({ "token": thiefs }))
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");
}

#[sqlx::test(migrations = false)]
async fn a_change_is_not_taken_back_after_three_days_or_onto_somebody_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register(ADA).await;
    assert_eq!(change_email(&app, &ada, "lovelace@example.org").await.status, 200);
    let revert = token(&mail(&app, "email-changed", ADA).await);
    app.register(ADA).await;
    post(&app, "revert-email", json!({ "token": revert }))
        .await
        .refused(409, "EMAIL_TAKEN");
    app.execute("delete from auth.users where email = 'ada@example.com'")
        .await;
    app.advance(72 * 3600);
    post(&app, "revert-email", json!({ "token": revert }))
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");
}

#[sqlx::test(migrations = false)]
async fn a_new_address_can_be_made_to_wait_for_its_confirmation(pool: PgPool) {
    let settings = [("EMAIL_CHANGE", "confirmed"), ("RATE_LIMIT_MULTIPLIER", "1000")];
    let app = TestApp::with(pool, &settings).await;
    let ada = app.register(ADA).await;
    let taken = app.register("taken@example.org").await;
    let changed = change_email(&app, &ada, "Lovelace@example.org").await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.body["data"]["user"]["email"], ADA, "not yet");
    assert_eq!(count(&app, "email-changed").await, 0);
    change_email(&app, &ada, "taken@example.org")
        .await
        .refused(400, "CONFLICT");

    let confirm = token(&mail(&app, "confirm-new-email", "Lovelace@example.org").await);
    assert_eq!(
        post(&app, "verify-email", json!({ "token": confirm })).await.status,
        200
    );
    let profile = app.profile(&ada.token).await.body;
    assert_eq!(profile["data"]["user"]["email"], "lovelace@example.org");
    assert_eq!(profile["data"]["user"]["isVerified"], true);
    let revert = token(&mail(&app, "email-changed", ADA).await);
    assert_eq!(post(&app, "revert-email", json!({ "token": revert })).await.status, 200);
    assert_eq!(app.try_login(ADA, PASSWORD).await.status, 200);

    // taken in the meantime
    assert_eq!(change_email(&app, &taken, "free@example.org").await.status, 200);
    let late = token(&mail(&app, "confirm-new-email", "free@example.org").await);
    app.register("free@example.org").await;
    post(&app, "verify-email", json!({ "token": late }))
        .await
        .refused(409, "EMAIL_TAKEN");
}

#[sqlx::test(migrations = false)]
async fn where_it_is_required_nobody_signs_in_before_the_address_is_confirmed(pool: PgPool) {
    let settings = [
        ("REQUIRE_EMAIL_VERIFICATION", "true"),
        ("RATE_LIMIT_MULTIPLIER", "1000"),
    ];
    let app = TestApp::with(pool, &settings).await;
    app.register(ADA).await;
    app.try_login(ADA, PASSWORD).await.refused(403, "EMAIL_NOT_VERIFIED");
    app.try_login(ADA, "Wr0ng!password")
        .await
        .refused(401, "INVALID_CREDENTIALS");
    let link = token(&mail(&app, "verify-email", ADA).await);
    assert_eq!(post(&app, "verify-email", json!({ "token": link })).await.status, 200);
    assert_eq!(app.try_login(ADA, PASSWORD).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn not_me_ends_the_session_the_mail_is_about_and_no_other(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register(ADA).await;
    app.advance(1);
    let stranger = app.login(ADA).await;
    let session: String =
        sqlx::query_scalar("select id::text from auth.sessions order by created_at desc, id desc limit 1")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    let told = |user: &str, session: &str| {
        let payload = json!({
            "userId": user, "type": "ACCOUNT_SECURITY", "title": "t", "message": "m", "templateId": "new-device",
            "metadata": { "sessionId": session, "loginAt": "2026-11-25T18:05:00.000Z", "ipAddress": "198.51.100.7",
                          "device": "Firefox on Linux" },
            "requestedAt": "2026-11-25T18:05:00.000Z", "priority": "high",
        });
        let envelope = json!({
            "eventId": Sources::system().uuid_v4(), "eventType": "notification.email.requested", "version": "1.0",
            "timestamp": "2026-11-25T18:05:00.000Z", "source": "user-service", "payload": payload,
        });
        Envelope::parse(envelope.to_string().as_bytes()).unwrap()
    };
    let consume = async |event: &Envelope| {
        let mut tx = Db::<Mail>::new(app.pool.clone()).begin().await.unwrap();
        let handler = app.services.mail.events();
        handler
            .handle(&mut tx, Topic::NotificationEmailRequested, event)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    consume(&told(&ada.id, &session)).await;
    let mail = mail(&app, "new-device", ADA).await;
    for fact in ["Firefox on Linux", "198.51.100.7", "/revoke-session#token="] {
        assert!(mail.text.contains(fact), "{fact} is not in\n{}", mail.text);
    }
    let link = token(&mail);
    let reply = post(&app, "revoke-session", json!({ "token": link })).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    app.profile(&stranger.token).await.refused(401, "TOKEN_REVOKED");
    assert_eq!(app.profile(&ada.token).await.status, 200);
    post(&app, "revoke-session", json!({ "token": link }))
        .await
        .refused(400, "INVALID_OR_EXPIRED_TOKEN");

    // a mail about somebody else's session carries no power over it
    let ibn = app.register("ibn@example.com").await;
    consume(&told(&ibn.id, &session)).await;
    let mail = self::mail(&app, "new-device", "ibn@example.com").await;
    assert!(!mail.text.contains("#token="), "{}", mail.text);
}
