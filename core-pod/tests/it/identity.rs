//! The caller's account and password: changing them, and what follows (core §4.4, §4.5, §4.9, §2.5).

use core_pod::auth::client::{AccountError, Accounts, Changes, Email, PersonName, Username};
use serde_json::{Value, json};
use shared::{auth::Role, id::UserId};
use sqlx::PgPool;

use crate::support::{PASSWORD, TestApp, Traveller, eventually};

const NEXT: &str = "Tr4velling!";

fn accounts(app: &TestApp) -> Accounts {
    Accounts::new(app.services.auth.clone())
}

fn id(traveller: &Traveller) -> UserId {
    traveller.id.parse().unwrap()
}

async fn told(app: &TestApp, topic: &str) -> Vec<Value> {
    let events = app.events("auth").await.into_iter();
    events
        .filter(|(kind, _)| kind == topic)
        .map(|(_, envelope)| envelope)
        .collect()
}

fn change_password(app: &TestApp, traveller: &Traveller, current: &str, next: &str) -> crate::support::Call {
    app.post("/api/v1/auth/change-password")
        .bearer(&traveller.token)
        .json(&json!({ "currentPassword": current, "newPassword": next }))
}

#[sqlx::test(migrations = false)]
async fn a_traveller_changes_what_may_be_said_of_them_and_nothing_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.advance(5);
    let body = json!({
        "firstName": " Augusta ", "username": "ada", "phoneNumber": "+44 20 7946 0000", "dateOfBirth": "1990-12-10",
        "nationality": "gb", "userCategory": "BUSINESS", "role": "ADMIN", "isVerified": true, "password": "x", "id": "y",
    });
    let put = || app.call(http::Method::PUT, "/api/v1/auth/profile");
    let reply = put().bearer(&ada.token).json(&body).send().await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["message"]),
        (200, &json!("Profile updated successfully"))
    );
    assert_eq!(
        reply.body["data"]["user"],
        json!({
            "id": ada.id, "email": "ada@example.com", "username": "ada", "firstName": "Augusta", "lastName": "Lovelace",
            "phoneNumber": "+44 20 7946 0000", "dateOfBirth": "1990-12-10T00:00:00.000Z", "nationality": "GB",
            "userCategory": "BUSINESS", "isVerified": false, "role": "USER",
            "createdAt": "2027-01-15T08:00:00.000Z", "updatedAt": "2027-01-15T08:00:05.000Z",
        })
    );
    let updated = told(&app, "user.updated").await;
    assert_eq!(
        updated[0]["payload"]["changes"],
        json!({
            "username": { "old": null, "new": "ada" }, "firstName": { "old": "Ada", "new": "Augusta" },
            "userCategory": { "old": "LEISURE", "new": "BUSINESS" },
        })
    );
    assert!(
        !updated[0].to_string().contains("7946"),
        "the number is nobody else's business"
    );

    // the same again changes nothing and tells nobody
    app.advance(5);
    let again = put().bearer(&ada.token).json(&body).send().await;
    assert_eq!(again.body["data"]["user"]["updatedAt"], "2027-01-15T08:00:05.000Z");
    assert_eq!(told(&app, "user.updated").await.len(), 1);
    put().json(&body).send().await.refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn bad_fields_of_a_profile_are_named_and_nothing_is_half_done(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let body = json!({
        "email": "nobody", "firstName": "", "lastName": 7, "username": "<b>", "phoneNumber": "call me",
        "dateOfBirth": "3000-01-01", "nationality": "ZZ", "userCategory": "VIP",
    });
    let put = |body: &Value| {
        app.call(http::Method::PUT, "/api/v1/auth/profile")
            .bearer(&ada.token)
            .json(body)
            .send()
    };
    let reply = put(&body).await;
    reply.refused(400, "VALIDATION");
    let errors = reply.body["errors"].as_array().unwrap();
    let mut paths: Vec<_> = errors.iter().map(|error| error["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "dateOfBirth",
            "email",
            "firstName",
            "lastName",
            "nationality",
            "phoneNumber",
            "userCategory",
            "username",
        ]
    );
    assert!(told(&app, "user.updated").await.is_empty());
    assert_eq!(put(&json!({})).await.status, 200, "nothing to change is no mistake");
}

#[sqlx::test(migrations = false)]
async fn a_new_address_is_normalised_unconfirmed_and_told_with_the_old_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@gmail.com").await;
    app.execute("update auth.users set is_verified = true").await;
    let put = |token: &str, body: Value| {
        app.call(http::Method::PUT, "/api/v1/auth/profile")
            .bearer(token)
            .json(&body)
            .send()
    };
    let taken = put(&ada.token, json!({ "email": "E.ve+x@googlemail.com" })).await;
    taken.refused(400, "CONFLICT");
    assert_eq!(taken.body["message"], "Email or username already exists");

    let reply = put(&ada.token, json!({ "email": "Ada.Love+trips@Gmail.com" })).await;
    let user = &reply.body["data"]["user"];
    assert_eq!(
        (&user["email"], &user["isVerified"]),
        (&json!("adalove@gmail.com"), &json!(false))
    );
    let updated = told(&app, "user.updated").await;
    assert_eq!(
        updated[0]["payload"]["changes"]["email"],
        json!({ "old": "ada@example.com", "new": "adalove@gmail.com" })
    );
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    app.login("adalove@gmail.com").await;
    assert_eq!(
        app.count("select count(*) from auth.users where email_display = 'Ada.Love+trips@Gmail.com'")
            .await,
        1
    );
    assert_eq!(
        app.count("select count(*) from auth.security_events where kind = 'email_changed'")
            .await,
        1
    );
    // another spelling of the same mailbox stays confirmed
    let respelled = put(&eve.token, json!({ "email": "EVE@gmail.com" })).await;
    assert_eq!(respelled.body["data"]["user"]["isVerified"], true);
}

#[sqlx::test(migrations = false)]
async fn after_a_change_of_password_the_calling_session_lives_with_a_new_cookie_and_all_others_are_dead(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let (phone, tablet) = (app.login("ada@example.com").await, app.login("ada@example.com").await);
    let by_cookie = |cookie: &str| app.get("/api/v1/auth/profile").cookie("ds_session", cookie).send();
    for session in [&ada, &phone, &tablet] {
        assert_eq!(app.profile(&session.token).await.status, 200);
        assert_eq!(by_cookie(&session.session).await.status, 200);
    }
    let reply = change_password(&app, &ada, PASSWORD, NEXT).send().await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body),
        (
            200,
            &json!({ "success": true, "message": "Password changed successfully" })
        )
    );
    assert_eq!(reply.cookie("refreshToken").as_deref(), Some(""));
    let new_cookie = reply.cookie("ds_session").unwrap();
    assert!(reply.cookie_line("ds_session").unwrap().contains("Max-Age=604800"));

    assert_eq!(
        app.profile(&ada.token).await.status,
        200,
        "the client goes on with its token"
    );
    assert_eq!(by_cookie(&new_cookie).await.status, 200);
    by_cookie(&ada.session).await.refused(401, "TOKEN_MISSING");
    for other in [&phone, &tablet] {
        app.profile(&other.token).await.refused(401, "TOKEN_REVOKED");
        by_cookie(&other.session).await.refused(401, "TOKEN_MISSING");
    }
    for dead in [&ada, &phone, &tablet] {
        let refresh = app.post("/api/v1/auth/refresh").cookie("refreshToken", &dead.refresh);
        refresh.send().await.refused(401, "INVALID_REFRESH_TOKEN");
    }
    assert_eq!(
        app.profile(&ada.token).await.status,
        200,
        "a dead refresh token was no theft"
    );

    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    assert_eq!(app.try_login("ada@example.com", NEXT).await.status, 200);
    let changed = told(&app, "auth.password.changed").await;
    assert_eq!(
        (changed.len(), &changed[0]["payload"]["method"]),
        (1, &json!("user_initiated"))
    );
    assert_eq!(told(&app, "auth.logout").await.len(), 2);
    assert!(
        told(&app, "auth.logout")
            .await
            .iter()
            .all(|end| end["payload"]["reason"] == "user_initiated")
    );
}

#[sqlx::test(migrations = false)]
async fn a_change_of_password_is_refused_with_400_and_never_with_401(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let wrong = change_password(&app, &ada, "Wrong0ne!", NEXT).send().await;
    wrong.refused(400, "INCORRECT_PASSWORD");
    assert_eq!(wrong.body["message"], "Current password is incorrect");
    let same = change_password(&app, &ada, PASSWORD, PASSWORD).send().await;
    assert_eq!(same.body["errors"][0]["path"], "newPassword");
    change_password(&app, &ada, PASSWORD, "short")
        .send()
        .await
        .refused(400, "VALIDATION");
    change_password(&app, &ada, PASSWORD, "P@ssw0rd")
        .send()
        .await
        .refused(400, "PASSWORD_BREACHED");
    let nothing = app.post("/api/v1/auth/change-password").bearer(&ada.token).send().await;
    assert_eq!(nothing.body["errors"].as_array().unwrap().len(), 2);
    let stranger = app.post("/api/v1/auth/change-password").json(&json!({}));
    stranger.send().await.refused(401, "TOKEN_MISSING");
    assert_eq!(app.profile(&ada.token).await.status, 200);
    assert!(told(&app, "auth.password.changed").await.is_empty());
}

#[sqlx::test(migrations = false)]
async fn of_two_changes_of_one_password_at_once_one_wins(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let calls = ["Tr4velling!", "Tr4vellers!", "Tr4veller?!"]
        .map(|next| tokio::spawn(change_password(&app, &ada, PASSWORD, next).send()));
    let mut changed = 0;
    for call in calls {
        let reply = call.await.unwrap();
        if reply.status == 200 {
            changed += 1;
        } else {
            reply.refused(400, "INCORRECT_PASSWORD");
        }
    }
    assert_eq!(changed, 1);
    assert_eq!(told(&app, "auth.password.changed").await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn signing_out_everywhere_ends_every_session_and_tells_of_each(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let phone = app.login("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let out = || app.post("/api/v1/auth/logout-all").bearer(&ada.token);
    let reply = out().send().await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["message"]),
        (200, &json!("Logged out from all devices successfully"))
    );
    for cookie in ["refreshToken", "ds_session"] {
        assert_eq!(reply.cookie(cookie).as_deref(), Some(""));
    }
    for dead in [&ada, &phone] {
        app.profile(&dead.token).await.refused(401, "TOKEN_REVOKED");
    }
    assert_eq!(app.profile(&eve.token).await.status, 200);
    out().send().await.refused(401, "TOKEN_REVOKED");
    app.post("/api/v1/auth/logout-all")
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    let ended = told(&app, "auth.logout").await;
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|end| end["payload"]["reason"] == "user_initiated"));
}

#[sqlx::test(migrations = false)]
async fn the_other_services_find_and_change_accounts_with_the_words_of_each_refusal(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let accounts = accounts(&app);
    let nobody: UserId = shared::Sources::system().id();
    assert!(accounts.find(nobody).await.unwrap().is_none());
    assert_eq!(
        accounts.find_many(&[id(&ada), nobody, id(&eve)]).await.unwrap().len(),
        2
    );

    let to = |email: &str, name: &str| Changes {
        email: Email::parse(email),
        username: Some(Some(Username::parse(name).unwrap())),
        first_name: Some(None),
        last_name: Some(PersonName::parse("King").ok()),
        ..Changes::default()
    };
    let changed = accounts.change(id(&ada), &to("ada@example.org", "ada")).await.unwrap();
    assert_eq!(
        (changed.before.email.as_str(), changed.after.email.as_str()),
        ("ada@example.com", "ada@example.org")
    );
    assert_eq!(changed.after.first_name, None);
    assert_eq!(told(&app, "user.updated").await[0]["source"], "user-service");
    let taken = accounts
        .change(id(&eve), &to("ADA@example.org", "eve"))
        .await
        .unwrap_err();
    assert!(matches!(taken, AccountError::EmailTaken));
    let taken = accounts
        .change(id(&eve), &to("eve@example.org", "ada"))
        .await
        .unwrap_err();
    assert!(matches!(taken, AccountError::UsernameTaken));
    let missing = accounts.change(nobody, &Changes::default()).await.unwrap_err();
    assert!(matches!(missing, AccountError::NotFound));

    let at = shared::sources::Clock::now(&*app.clock);
    accounts.set_onboarding_completed(id(&ada), Some(at)).await.unwrap();
    assert_eq!(
        app.profile(&ada.token).await.body["data"]["user"]["onboardingCompleted"],
        true
    );
    accounts.set_onboarding_completed(id(&ada), None).await.unwrap();
    assert_eq!(
        accounts.find(id(&ada)).await.unwrap().unwrap().onboarding_completed_at,
        None
    );
    let missing = accounts.set_onboarding_completed(nobody, None).await.unwrap_err();
    assert!(matches!(missing, AccountError::NotFound));
}

#[sqlx::test(migrations = false)]
async fn a_suspension_kills_every_session_at_once_and_is_taken_back_by_a_new_sign_in_only(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    assert_eq!(app.profile(&ada.token).await.status, 200);
    let accounts = accounts(&app);
    let account = accounts.suspend(id(&ada), Some("spam")).await.unwrap();
    assert_eq!(account.suspended_reason.as_deref(), Some("spam"));
    app.profile(&ada.token).await.refused(401, "ACCOUNT_SUSPENDED");
    let suspended = app.get("/api/v1/users/profile").bearer(&ada.token).send().await;
    suspended.refused(401, "ACCOUNT_SUSPENDED");
    assert_eq!(
        suspended.body["message"],
        "Your account has been suspended. Please contact support."
    );
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "ACCOUNT_SUSPENDED");
    let refresh = app.post("/api/v1/auth/refresh").cookie("refreshToken", &ada.refresh);
    assert_eq!(refresh.send().await.status, 401);
    let again = accounts.suspend(id(&ada), None).await.unwrap_err();
    assert!(matches!(again, AccountError::AlreadySuspended));
    let locked = told(&app, "auth.account.locked").await;
    assert_eq!(
        (locked.len(), &locked[0]["payload"]["reason"]),
        (1, &json!("admin_action"))
    );
    assert_eq!(told(&app, "auth.logout").await[0]["payload"]["reason"], "forced");

    accounts.reactivate(id(&ada)).await.unwrap();
    app.profile(&ada.token).await.refused(401, "TOKEN_REVOKED");
    let again = accounts.reactivate(id(&ada)).await.unwrap_err();
    assert!(matches!(again, AccountError::NotSuspended));
    let back = app.login("ada@example.com").await;
    assert_eq!(app.profile(&back.token).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn the_last_administrator_can_neither_be_demoted_nor_suspended_nor_erased(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, grace) = (
        app.register("ada@example.com").await,
        app.register("grace@example.com").await,
    );
    let accounts = accounts(&app);
    let role = |role| Changes {
        role: Some(role),
        ..Changes::default()
    };
    accounts.change(id(&ada), &role(Role::Admin)).await.unwrap();
    app.profile(&ada.token).await.refused(401, "TOKEN_REVOKED");
    for refused in [
        accounts.change(id(&ada), &role(Role::User)).await.map(drop),
        accounts.suspend(id(&ada), None).await.map(drop),
        accounts.erase(id(&ada)).await.map(drop),
    ] {
        assert!(matches!(refused, Err(AccountError::LastAdmin)), "{refused:?}");
    }
    accounts.change(id(&grace), &role(Role::Admin)).await.unwrap();
    // both at once: one of them stays
    let demotion = role(Role::User);
    let (first, second) = tokio::join!(accounts.change(id(&ada), &demotion), accounts.suspend(id(&grace), None),);
    assert_ne!(first.is_ok(), second.is_ok());
    assert_eq!(
        app.count("select count(*) from auth.users where role = 'ADMIN' and suspended_at is null")
            .await,
        1
    );
}

#[sqlx::test(migrations = false)]
async fn an_erased_account_leaves_nothing_of_itself(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let accounts = accounts(&app);
    assert!(accounts.erase(id(&ada)).await.unwrap());
    assert!(!accounts.erase(id(&ada)).await.unwrap(), "once is enough");
    app.profile(&ada.token).await.refused(401, "USER_INACTIVE");
    for table in [
        "select count(*) from auth.users",
        "select count(*) from auth.sessions",
        "select count(*) from auth.refresh_tokens",
        "select count(*) from auth.session_cookies",
        "select count(*) from auth.security_events",
        "select count(*) from auth.known_devices",
    ] {
        assert_eq!(app.count(table).await, 0, "{table}");
    }
    app.register("ada@example.com").await;
}

#[sqlx::test(migrations = false)]
async fn ending_sessions_from_outside_spares_the_one_that_is_named(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.advance(1);
    let phone = app.login("ada@example.com").await;
    let accounts = accounts(&app);
    let sessions = accounts.sessions(id(&ada)).await.unwrap();
    assert_eq!(sessions.len(), 2);
    let kept = app.post("/api/v1/auth/verify-token").bearer(&phone.token).send().await;
    assert_eq!(kept.status, 200);
    let oldest = sessions.last().unwrap().id;
    assert_eq!(accounts.end_sessions(id(&ada), Some(oldest)).await.unwrap(), 1);
    eventually("the other session is over", async || {
        app.profile(&phone.token).await.status == 401
    })
    .await;
    assert_eq!(app.profile(&ada.token).await.status, 200);
    let (events, total) = accounts.security_events(id(&ada), 1, 0).await.unwrap();
    assert_eq!((events.len(), total), (1, 2));
}
