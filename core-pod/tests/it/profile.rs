//! The profile, settings and profile rows (core §5.1, §5.3, §5.4).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Reply, TestApp, Traveller};

const PROFILE: &str = "/api/v1/users/profile";
const SETTINGS: &str = "/api/v1/users/settings";
const PREFERENCES: &str = "/api/v1/users/preferences";

async fn get(app: &TestApp, who: &Traveller, path: &str) -> Reply {
    app.get(path).bearer(&who.token).send().await
}

async fn put(app: &TestApp, who: &Traveller, path: &str, body: Value) -> Reply {
    app.put(path).bearer(&who.token).json(&body).send().await
}

fn of(who: &Traveller) -> String {
    format!("{PROFILE}/{}", who.id)
}

/// Events of a service of this kind, oldest first.
async fn told(app: &TestApp, schema: &str, kind: &str) -> Vec<Value> {
    let events = app.events(schema).await.into_iter().filter(|(topic, _)| topic == kind);
    events.map(|(_, event)| event).collect()
}

#[sqlx::test(migrations = false)]
async fn a_whole_profile_sent_back_changes_what_differs_and_tells_of_that(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let mut profile = get(&app, &ada, PROFILE).await.body;
    let same = put(&app, &ada, PROFILE, profile.clone()).await;
    assert_eq!(same.status, 200, "{}", same.body);
    assert_eq!(
        (&same.body["message"], &same.body["profile"]["name"]),
        (&json!("Profile updated successfully"), &json!(""))
    );
    // the language is now chosen, and nothing else is
    assert_eq!(put(&app, &ada, PROFILE, profile.clone()).await.body, same.body);
    let chosen = told(&app, "users", "user.preferences.updated").await;
    assert_eq!(
        (chosen.len(), &chosen[0]["payload"]["preferences"]),
        (1, &json!({ "language": "English" }))
    );
    assert!(told(&app, "auth", "user.updated").await.is_empty());
    assert_eq!(
        app.count("select count(*) from auth.users where username is null")
            .await,
        1
    );

    profile["profile"]["name"] = json!("countess");
    profile["preferences"]["language"] = json!("fr");
    profile["preferences"]["preferredCurrency"] = json!("unknown keys are ignored");
    profile["notifications"]["newsletter"] = json!(true);
    let changed = put(&app, &ada, PROFILE, profile).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(
        changed.body["profile"],
        json!({ "name": "countess", "email": "ada@example.com", "photo": null })
    );
    assert_eq!(
        (
            &changed.body["preferences"]["language"],
            &changed.body["notifications"]["newsletter"]
        ),
        (&json!("French"), &json!(true))
    );
    let mut shown = get(&app, &ada, PROFILE).await.body;
    shown["message"] = changed.body["message"].clone();
    assert_eq!(shown, changed.body);

    let updated = told(&app, "auth", "user.updated").await;
    assert_eq!(updated.len(), 1);
    assert_eq!(updated[0]["source"], "user-service");
    assert_eq!(
        updated[0]["payload"]["changes"],
        json!({ "username": { "old": null, "new": "countess" } })
    );
    let preferences = told(&app, "users", "user.preferences.updated").await;
    assert_eq!(preferences.len(), 2);
    let told_of = preferences[1]["payload"]["preferences"].as_object().unwrap();
    let keys: Vec<_> = told_of.keys().map(String::as_str).collect();
    assert_eq!(
        (keys, &told_of["language"]),
        (vec!["language", "notifications"], &json!("French"))
    );
}

#[sqlx::test(migrations = false)]
async fn two_travellers_called_alike_may_both_save_and_a_user_name_is_taken_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let one = app.register("one@example.com").await;
    let two = app.register("two@example.com").await;
    for who in [&one, &two] {
        let body = json!({ "profile": { "name": "Ada Lovelace" }, "preferences": { "currency": "EUR" } });
        assert_eq!(put(&app, who, PROFILE, body).await.status, 200);
    }
    assert_eq!(
        put(&app, &one, PROFILE, json!({ "profile": { "name": "ada" } }))
            .await
            .status,
        200
    );
    let taken = json!({ "profile": { "name": "ada", "photo": "https://cdn.example/x.png" }, "preferences": { "currency": "GBP" } });
    put(&app, &two, PROFILE, taken).await.refused(409, "USERNAME_TAKEN");
    let taken = json!({ "profile": { "email": "ONE@example.com" }, "preferences": { "currency": "GBP" } });
    put(&app, &two, PROFILE, taken).await.refused(409, "EMAIL_TAKEN");
    let shown = get(&app, &two, PROFILE).await.body;
    assert_eq!(
        (&shown["preferences"]["currency"], &shown["profile"]["photo"]),
        (&json!("EUR"), &Value::Null),
        "nothing is half-done"
    );
    assert_eq!(app.count("select count(*) from users.doomed_objects").await, 0);
}

#[sqlx::test(migrations = false)]
async fn another_address_is_normalised_and_told_with_the_old_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@gmail.com").await;
    assert_eq!(
        put(
            &app,
            &ada,
            PROFILE,
            json!({ "profile": { "email": "A.D.A@googlemail.com" } })
        )
        .await
        .status,
        200
    );
    assert!(
        told(&app, "auth", "user.updated").await.is_empty(),
        "another spelling of one address is no change"
    );
    let moved = put(
        &app,
        &ada,
        PROFILE,
        json!({ "profile": { "email": "Ada.New+x@Gmail.com" } }),
    )
    .await;
    assert_eq!(
        (moved.status.as_u16(), &moved.body["profile"]["email"]),
        (200, &json!("adanew@gmail.com"))
    );
    let updated = told(&app, "auth", "user.updated").await;
    assert_eq!(
        updated[0]["payload"]["changes"]["email"],
        json!({ "old": "ada@gmail.com", "new": "adanew@gmail.com" })
    );
    assert_eq!(app.login("ada.new@gmail.com").await.id, ada.id);
}

#[sqlx::test(migrations = false)]
async fn a_bad_profile_is_400_and_changes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let good = json!({ "currency": "EUR" });
    for (path, bad) in [
        (
            "profile.name",
            json!({ "profile": { "name": "<b>" }, "preferences": good }),
        ),
        (
            "profile.name",
            json!({ "profile": { "name": "" }, "preferences": good }),
        ),
        (
            "profile.name",
            json!({ "profile": { "name": "x".repeat(101) }, "preferences": good }),
        ),
        ("profile.name", json!({ "profile": { "name": 7 }, "preferences": good })),
        (
            "profile.email",
            json!({ "profile": { "email": "nobody" }, "preferences": good }),
        ),
        (
            "profile.photo",
            json!({ "profile": { "photo": "javascript:alert(1)" }, "preferences": good }),
        ),
        (
            "profile.photo",
            json!({ "profile": { "photo": "/uploads/avatars/avatar-1-2.png" }, "preferences": good }),
        ),
        ("profile", json!({ "profile": ["name"], "preferences": good })),
        (
            "travel.activities",
            json!({ "travel": { "activities": "ski" }, "preferences": good }),
        ),
        (
            "notifications.dealAlerts",
            json!({ "notifications": { "dealAlerts": 1 }, "preferences": good }),
        ),
        (
            "privacy.profileVisibility",
            json!({ "privacy": { "profileVisibility": "friends" }, "preferences": good }),
        ),
    ] {
        let reply = put(&app, &ada, PROFILE, bad).await;
        reply.refused(400, "VALIDATION");
        assert_eq!(reply.body["errors"][0]["path"], path, "{}", reply.body);
    }
    for bad in [
        json!([]),
        json!({ "profile": { "photo": "data:image/svg+xml;base64,AAAA" }, "preferences": good }),
        json!({ "profile": { "photo": "data:image/png;base64,AAAA" } }),
    ] {
        assert_eq!(put(&app, &ada, PROFILE, bad).await.status, 400);
    }
    let shown = get(&app, &ada, PROFILE).await.body;
    assert_eq!(shown["preferences"]["currency"], "USD");
    assert!(app.events("users").await.is_empty());
    let call = || app.put(PROFILE).bearer(&ada.token);
    call()
        .raw("application/json", "{")
        .send()
        .await
        .refused(400, "INVALID_JSON");
    assert_eq!(call().send().await.status, 200, "no body is an empty object");
    let large = json!({ "x": "y".repeat(3 * 1024 * 1024) });
    assert_eq!(call().json(&large).send().await.status, 200);
    let larger = json!({ "x": "y".repeat(5 * 1024 * 1024) });
    call().json(&larger).send().await.refused(413, "PAYLOAD_TOO_LARGE");
}

#[sqlx::test(migrations = false)]
async fn a_picture_elsewhere_on_the_web_is_referred_to(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let url = "https://cdn.example/me.png";
    for photo in [
        json!(url),
        json!({ "success": true, "avatar": url }),
        json!({}),
        json!(null),
    ] {
        let reply = put(&app, &ada, PROFILE, json!({ "profile": { "photo": photo } })).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body["profile"]["photo"]),
            (200, &json!(url))
        );
    }
    let events = told(&app, "users", "user.profile.updated").await;
    assert_eq!(
        (events.len(), &events[0]["payload"]["profile"]),
        (1, &json!({ "avatar": url }))
    );
}

#[sqlx::test(migrations = false)]
async fn deleting_the_profile_asks_for_the_deletion_of_the_account(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.delete(PROFILE).send().await.refused(401, "TOKEN_MISSING");
    let asked = app.delete(PROFILE).bearer(&ada.token).send().await;
    assert_eq!(
        (asked.status.as_u16(), &asked.body["data"]["requestType"]),
        (200, &json!("DATA_DELETION"))
    );
    assert_eq!(
        (&asked.body["data"]["status"], &asked.body["success"]),
        (&json!("PENDING"), &json!(true))
    );
    assert_eq!(
        get(&app, &ada, PROFILE).await.status,
        200,
        "the account goes on until the grace is over"
    );
}

#[sqlx::test(migrations = false)]
async fn settings_begin_with_the_defaults_and_change_one_by_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let settings = get(&app, &ada, SETTINGS).await;
    assert_eq!(
        settings.body,
        json!({ "success": true, "data": { "settings": {
            "language": "English", "currency": "USD", "timezone": "UTC",
            "notifications": {
                "dealAlerts": true, "tripReminders": true, "priceAlerts": true, "newsletter": false,
                "email": true, "push": true, "sms": false,
            },
            "privacy": { "profileVisibility": "public", "dataSharing": false, "marketing": true },
            "travel": { "preferredDestinations": [], "accommodationType": [], "activities": [], "dietary": [] },
        } } })
    );
    let change = json!({ "currency": "EUR", "notifications": { "sms": true, "dealAlerts": false }, "travel": { "dietary": ["vegan"] }, "x": 1 });
    let changed = put(&app, &ada, SETTINGS, change.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let settings = &changed.body["data"]["settings"];
    assert_eq!(
        (&settings["currency"], &settings["language"]),
        (&json!("EUR"), &json!("English"))
    );
    assert_eq!(
        (&settings["notifications"]["sms"], &settings["notifications"]["email"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(get(&app, &ada, SETTINGS).await.body, changed.body);
    let shown = get(&app, &ada, PROFILE).await;
    assert_eq!(
        (&shown.body["notifications"], &shown.body["travel"]["dietary"]),
        (
            &json!({ "dealAlerts": false, "tripReminders": true, "priceAlerts": true, "newsletter": false }),
            &json!(["vegan"])
        )
    );

    let events = app.events("users").await;
    assert_eq!(events.len(), 1);
    let (kind, event) = &events[0];
    assert_eq!(kind, "user.preferences.updated");
    assert_eq!(
        event["payload"],
        json!({ "userId": ada.id, "updatedAt": "2027-01-15T08:00:00.000Z", "preferences": {
            "currency": "EUR",
            "notifications": {
                "dealAlerts": false, "tripReminders": true, "priceAlerts": true, "newsletter": false,
                "email": true, "push": true, "sms": true,
            },
            "travelPreferences": {
                "mealPreference": "vegan", "preferredDestinations": [], "accommodationType": [], "activities": [],
                "dietary": ["vegan"],
            },
            "travel": { "preferredDestinations": [], "accommodationType": [], "activities": [], "dietary": ["vegan"] },
        } })
    );
    assert_eq!(put(&app, &ada, SETTINGS, change).await.body, changed.body);
    assert_eq!(put(&app, &ada, SETTINGS, json!({})).await.status, 200);
    assert_eq!(
        app.events("users").await.len(),
        1,
        "nothing changed, so nothing is told"
    );
}

#[sqlx::test(migrations = false)]
async fn preferences_take_a_language_by_name_or_code(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let first = get(&app, &ada, PREFERENCES).await;
    assert_eq!(
        first.body,
        json!({ "success": true, "data": { "preferences": { "language": "English", "currency": "USD", "timezone": "UTC" } } })
    );
    let reply = put(
        &app,
        &ada,
        PREFERENCES,
        json!({ "language": "fr", "timezone": "Europe/Paris", "travelStyle": "slow travel" }),
    )
    .await;
    let expected =
        json!({ "language": "French", "currency": "USD", "timezone": "Europe/Paris", "travelStyle": "slow travel" });
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]["preferences"]),
        (200, &expected)
    );
    assert_eq!(get(&app, &ada, PREFERENCES).await.body, reply.body);
    for bad in [
        json!({ "language": "Klingon" }),
        json!({ "currency": "euro" }),
        json!({ "timezone": 5 }),
        json!({ "travelStyle": "<b>" }),
    ] {
        put(&app, &ada, PREFERENCES, bad).await.refused(400, "VALIDATION");
    }
    let bad = put(
        &app,
        &ada,
        SETTINGS,
        json!({ "privacy": { "marketing": "no" }, "currency": "EUR" }),
    )
    .await;
    bad.refused(400, "VALIDATION");
    assert_eq!(bad.body["errors"][0]["path"], "privacy.marketing");
    assert_eq!(
        get(&app, &ada, PREFERENCES).await.body["data"]["preferences"]["currency"],
        "USD"
    );
    for path in [SETTINGS, PREFERENCES, PROFILE] {
        app.get(path).send().await.refused(401, "TOKEN_MISSING");
        app.put(path)
            .json(&json!({}))
            .send()
            .await
            .refused(401, "TOKEN_MISSING");
    }
}

#[sqlx::test(migrations = false)]
async fn a_row_is_made_once_with_the_names_it_is_given(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let create = |body: Value| app.post(&of(&ada)).bearer(&ada.token).json(&body).send();
    let missing = create(json!({ "phone": "call me", "dateOfBirth": "soon" })).await;
    missing.refused(400, "VALIDATION");
    let text = "firstName is required, lastName is required, phone must be a valid phone number, \
                dateOfBirth must be a date of birth as YYYY-MM-DD";
    assert_eq!(missing.body["error"], text);

    let body = json!({ "firstName": " Augusta ", "lastName": "King", "phone": "+44 (20) 7946-0000", "dateOfBirth": "1990-12-10", "role": "ADMIN" });
    let made = create(body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(
        made.body,
        json!({
            "id": made.body["id"], "userId": ada.id, "firstName": "Augusta", "lastName": "King", "phone": "+44 (20) 7946-0000",
            "dateOfBirth": "1990-12-10T00:00:00.000Z", "avatar": null, "preferences": null, "bio": null, "location": null,
            "website": null, "createdAt": "2027-01-15T08:00:00.000Z", "updatedAt": "2027-01-15T08:00:00.000Z",
            "user": { "email": "ada@example.com", "firstName": "Ada", "lastName": "Lovelace" },
        })
    );
    let again = create(body).await;
    again.refused(409, "PROFILE_EXISTS");
    assert_eq!(again.body["error"], "Profile already exists");
    let events = app.events("users").await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        events[0].1["payload"]["profile"],
        json!({ "firstName": "Augusta", "lastName": "King", "phone": "+44 (20) 7946-0000", "dateOfBirth": "1990-12-10T00:00:00.000Z" })
    );

    let gone = app.delete(&of(&ada)).bearer(&ada.token).send().await;
    assert_eq!(gone.body, json!({ "message": "Profile deleted successfully" }));
    app.delete(&of(&ada))
        .bearer(&ada.token)
        .send()
        .await
        .refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn the_suites_route_makes_and_changes_a_row(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let upsert = |body: Value| app.post(PROFILE).bearer(&ada.token).json(&body).send();
    let made = upsert(
        json!({ "userId": ada.id, "bio": "I <3 trains", "website": "https://ada.example", "location": "London" }),
    )
    .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let row = &made.body["data"]["profile"];
    assert_eq!(
        (&row["bio"], &row["firstName"], &row["website"]),
        (&json!("I <3 trains"), &json!("Ada"), &json!("https://ada.example"))
    );
    assert!(row.get("user").is_none());
    let changed = upsert(json!({ "userId": ada.id, "bio": null, "location": "" })).await;
    let row = &changed.body["data"]["profile"];
    assert_eq!(
        (changed.status.as_u16(), &row["bio"], &row["location"]),
        (200, &Value::Null, &Value::Null)
    );
    assert_eq!(row["website"], "https://ada.example");

    upsert(json!({ "bio": "x" })).await.refused(400, "VALIDATION");
    upsert(json!({ "userId": "" })).await.refused(400, "VALIDATION");
    upsert(json!({ "userId": eve.id, "bio": "x" }))
        .await
        .refused(403, "FORBIDDEN");
    for bad in [
        json!({ "bio": "<script>alert(1)</script>" }),
        json!({ "bio": "x".repeat(1_001) }),
        json!({ "location": "</b>" }),
        json!({ "website": "javascript:alert(1)" }),
        json!({ "website": "ada.example" }),
        json!({ "bio": 5 }),
        json!({ "firstName": "\u{0}" }),
    ] {
        put(&app, &ada, &of(&ada), bad).await.refused(400, "VALIDATION");
    }
    let mine = format!("{PROFILE}/me");
    let put_back = put(&app, &ada, &mine, json!({ "bio": "Analyst" })).await;
    assert_eq!(
        (put_back.status.as_u16(), &put_back.body["data"]["profile"]["bio"]),
        (200, &json!("Analyst"))
    );
    assert_eq!(get(&app, &ada, &mine).await.body, put_back.body);
    assert_eq!(get(&app, &ada, &of(&ada)).await.body, put_back.body);
}

#[sqlx::test(migrations = false)]
async fn a_row_that_is_read_first_is_made_from_the_account(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let reads: Vec<_> = (0..6)
        .map(|_| tokio::spawn(app.get(&of(&ada)).bearer(&ada.token).send()))
        .collect();
    for read in reads {
        let reply = read.await.unwrap();
        let row = &reply.body["data"]["profile"];
        assert_eq!(
            (reply.status.as_u16(), &row["firstName"], &row["phone"]),
            (200, &json!("Ada"), &Value::Null)
        );
    }
    for nobody in [
        of(&ada),
        format!("{PROFILE}/nobody"),
        format!("{PROFILE}/00000000-0000-7000-8000-000000000000"),
    ] {
        get(&app, &eve, &nobody).await.refused(404, "NOT_FOUND");
    }
    app.execute("update auth.users set role = 'ADMIN' where email = 'eve@example.com'")
        .await;
    let admin = app.login("eve@example.com").await;
    assert_eq!(get(&app, &admin, &of(&ada)).await.status, 200);
    put(&app, &admin, &of(&ada), json!({ "bio": "x" }))
        .await
        .refused(403, "FORBIDDEN");
    assert_eq!(app.delete(&of(&ada)).bearer(&admin.token).send().await.status, 200);
    assert_eq!(app.count("select count(*) from users.profiles").await, 0);
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_03_a_profile_is_reached_by_its_owner_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let body = json!({ "firstName": "Eve", "lastName": "Il" });
    for path in [
        of(&ada),
        format!("{PROFILE}/x"),
        format!("{PROFILE}/x/y"),
        format!("{PROFILE}/{}/settings/z", ada.id),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let call = app.call(method.parse().unwrap(), &path).json(&body);
            call.send().await.refused(401, "TOKEN_MISSING");
        }
    }
    app.post(PROFILE)
        .json(&json!({ "userId": ada.id }))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    for method in ["POST", "PUT", "DELETE"] {
        let call = app
            .call(method.parse().unwrap(), &of(&ada))
            .bearer(&eve.token)
            .json(&body);
        call.send().await.refused(403, "FORBIDDEN");
    }
    get(&app, &eve, &format!("{PROFILE}/x/y"))
        .await
        .refused(404, "NOT_FOUND");
    assert_eq!(app.count("select count(*) from users.profiles").await, 0);
}
