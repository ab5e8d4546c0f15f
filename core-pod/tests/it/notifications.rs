//! Notifications: what their owner does with them, what other services may make, and who wants which (core §5.8, §5.9).

use http::Method;
use serde_json::{Value, json};
use shared::{events::Topic, sources::Sources};
use sqlx::PgPool;

use crate::{
    support::{Reply, TestApp, Traveller},
    told::{apply, payment},
};

const PATH: &str = "/api/v1/users/notifications";
const PREFERENCES: &str = "/api/v1/users/notification-preferences";
const INTERNAL: &str = "/api/v1/users/notifications/internal";

async fn list(app: &TestApp, ada: &Traveller, query: &str) -> Value {
    let reply = app.get(&format!("{PATH}{query}")).bearer(&ada.token).send().await;
    assert_eq!((reply.status.as_u16(), &reply.body["success"]), (200, &json!(true)));
    reply.body["data"].clone()
}

async fn prefer(app: &TestApp, ada: &Traveller, method: Method, body: &Value) -> Reply {
    app.call(method, PREFERENCES).bearer(&ada.token).json(body).send().await
}

fn defaults() -> Value {
    let both = json!({ "inApp": true, "email": true });
    let quiet = json!({ "inApp": true, "email": false });
    json!({
        "booking_confirmed": both, "booking_cancelled": both, "payment_succeeded": both, "payment_failed": both,
        "refund_processed": both, "promo_offer": quiet, "platform_update": quiet,
    })
}

#[sqlx::test(migrations = false)]
async fn pages_filters_and_counts_agree(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    for _ in 0..7 {
        app.advance(1);
        apply(&app, Topic::PaymentCompleted, payment(&ada.id)).await.unwrap();
    }
    let first = list(&app, &ada, "?limit=3").await;
    assert_eq!(
        first["pagination"],
        json!({ "total": 7, "page": 1, "limit": 3, "hasMore": true })
    );
    let third = list(&app, &ada, "?limit=3&page=3").await;
    assert_eq!(third["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(third["pagination"]["hasMore"], false);
    let beyond = list(&app, &ada, "?page=99999999999999999999").await;
    assert_eq!(beyond["pagination"]["total"], 7);
    for odd in ["?page=-1&limit=0", "?page=x&limit=y", "?filter=odd", "?page=%00"] {
        assert_eq!(list(&app, &ada, odd).await["pagination"]["total"], 7, "{odd}");
    }

    let newest = first["notifications"][0]["id"].as_str().unwrap().to_owned();
    let mark =
        |traveller: &Traveller, id: &str| app.patch(&format!("{PATH}/{id}/read")).bearer(&traveller.token).send();
    app.advance(5);
    let read = mark(&ada, &newest).await;
    assert_eq!((read.status.as_u16(), &read.body["data"]["read"]), (200, &json!(true)));
    app.advance(5);
    assert_eq!(
        mark(&ada, &newest).await.body["data"]["readAt"],
        read.body["data"]["readAt"],
        "read once"
    );
    mark(&eve, &newest).await.refused(404, "NOT_FOUND");
    mark(&ada, "no-such-id").await.refused(404, "NOT_FOUND");
    mark(&ada, &ada.id).await.refused(404, "NOT_FOUND");
    let put = app
        .call(http::Method::PUT, &format!("{PATH}/{newest}/read"))
        .bearer(&ada.token)
        .send()
        .await;
    assert_eq!(put.status, 200);

    assert_eq!(list(&app, &ada, "?filter=unread").await["pagination"]["total"], 6);
    assert_eq!(
        list(&app, &ada, "?status=read").await["notifications"][0]["id"],
        newest.as_str()
    );
    let count = || app.get(&format!("{PATH}/unread-count")).bearer(&ada.token).send();
    assert_eq!(count().await.body, json!({ "success": true, "data": { "count": 6 } }));
    let all = || app.patch(&format!("{PATH}/mark-all-read/")).bearer(&ada.token).send();
    assert_eq!(all().await.body, json!({ "success": true, "data": { "updated": 6 } }));
    assert_eq!(all().await.body["data"]["updated"], 0);
    assert_eq!(count().await.body["data"]["count"], 0);
    assert_eq!(list(&app, &eve, "").await["pagination"]["total"], 0);
}

#[sqlx::test(migrations = false)]
async fn every_notification_route_needs_a_caller(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.get(PATH).send().await.refused(401, "TOKEN_MISSING");
    app.get(&format!("{PATH}/unread-count"))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    app.patch(&format!("{PATH}/mark-all-read"))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    app.patch(&format!("{PATH}/x/read"))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    app.call(Method::DELETE, PATH)
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    for method in [Method::GET, Method::PUT, Method::PATCH] {
        app.call(method, PREFERENCES).send().await.refused(401, "TOKEN_MISSING");
    }
    app.post(PATH).send().await.refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn what_was_read_can_be_deleted_and_nothing_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    for traveller in [&ada, &ada, &ada, &eve] {
        app.advance(1);
        apply(&app, Topic::PaymentCompleted, payment(&traveller.id))
            .await
            .unwrap();
    }
    let newest = list(&app, &ada, "").await["notifications"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let delete = || app.call(Method::DELETE, PATH).bearer(&ada.token).send();
    assert_eq!(
        delete().await.body,
        json!({ "success": true, "data": { "deleted": 0 } })
    );
    app.patch(&format!("{PATH}/{newest}/read"))
        .bearer(&ada.token)
        .send()
        .await;
    app.patch(&format!("{PATH}/mark-all-read"))
        .bearer(&eve.token)
        .send()
        .await;
    assert_eq!(delete().await.body["data"]["deleted"], 1);
    assert_eq!(list(&app, &ada, "").await["pagination"]["total"], 2);
    assert_eq!(
        list(&app, &eve, "").await["pagination"]["total"],
        1,
        "somebody else's stay"
    );
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_04_notifications_are_made_with_a_service_token_only(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let own_listener = app.router.clone();
    let app = app.at_the_edge();
    let wanted = json!({ "userId": ada.id, "title": "Hello", "message": "World" });
    // the service's own listener says why not, the public one that there is nothing
    let own = || app.on(&own_listener, Method::POST, INTERNAL).json(&wanted);
    own().send().await.refused(401, "TOKEN_MISSING");
    own().bearer(&ada.token).send().await.refused(401, "INVALID_TOKEN");
    own()
        .header("x-internal-service", "ai-service")
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    for spelling in [
        INTERNAL,
        "/api/users/notifications/internal/",
        "/api/api/v1/users/notifications/internal",
    ] {
        app.post(spelling).json(&wanted).send().await.refused(404, "NOT_FOUND");
        app.post(spelling)
            .bearer(&ada.token)
            .json(&wanted)
            .send()
            .await
            .refused(404, "NOT_FOUND");
    }
    let experience = app.service_token("experience-pod").await;
    own().bearer(&experience).send().await.refused(403, "FORBIDDEN");
    assert_eq!(app.count("select count(*) from users.notifications").await, 0);

    let business = app.service_token("business-pod").await;
    for call in [own(), app.post(INTERNAL).json(&wanted)] {
        let made = call.bearer(&business).send().await;
        assert_eq!(
            (made.status.as_u16(), &made.body["data"]["type"]),
            (201, &json!("SYSTEM")),
            "{}",
            made.body
        );
    }
    let listed = list(&app, &ada, "").await;
    assert_eq!(listed["pagination"]["total"], 2);
    assert_eq!(listed["notifications"][0]["message"], "World");
}

#[sqlx::test(migrations = false)]
async fn a_service_is_told_what_is_wrong_with_its_notification(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let business = app.service_token("business-pod").await;
    let make = async |change: Value| {
        let mut wanted = json!({ "userId": ada.id, "type": "PROMO_OFFER", "title": "Hello", "message": "World" });
        wanted
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        app.post(INTERNAL).bearer(&business).json(&wanted).send().await
    };
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    for odd in [
        json!({ "userId": null }),
        json!({ "title": " " }),
        json!({ "message": "" }),
        json!({ "title": 5 }),
        json!({ "type": "promo" }),
        json!({ "type": "" }),
        json!({ "title": "x".repeat(201) }),
        json!({ "message": "x".repeat(2_001) }),
        json!({ "message": "a\0b" }),
        json!({ "metadata": [1] }),
        json!({ "metadata": { "a": "\0" } }),
        json!({ "metadata": { "a": "x".repeat(20_000) } }),
    ] {
        let refused = make(odd.clone()).await;
        assert_eq!(refused.status, 400, "{odd}: {}", refused.body);
        assert!(refused.body["message"].is_string() && refused.body["success"] == false);
    }
    for nobody in [json!("nobody"), json!(Sources::system().uuid_v4())] {
        make(json!({ "userId": nobody })).await.refused(404, "USER_NOT_FOUND");
    }
    assert_eq!(app.count("select count(*) from users.notifications").await, 0);
    let made =
        make(json!({ "title": "é".repeat(200), "message": "x".repeat(2_000), "metadata": { "deep": deep } })).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let not_json = app
        .post(INTERNAL)
        .bearer(&business)
        .raw("application/json", "{")
        .send()
        .await;
    assert_eq!(not_json.status, 400);
}

#[sqlx::test(migrations = false)]
async fn preferences_have_seven_keys_and_their_defaults(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let read = async || app.get(PREFERENCES).bearer(&ada.token).send().await.body["data"].clone();
    assert_eq!(read().await, defaults());

    let mut wanted = defaults();
    wanted["promo_offer"]["email"] = json!(true);
    wanted["payment_failed"]["inApp"] = json!(false);
    let mut sent = wanted.clone();
    sent["unknown"] = json!({ "inApp": true });
    let replaced = prefer(&app, &ada, Method::PUT, &sent).await;
    assert_eq!(replaced.body, json!({ "success": true, "data": wanted }));
    assert_eq!(read().await, wanted);

    let changed = prefer(
        &app,
        &ada,
        Method::PATCH,
        &json!({ "payment_failed": { "inApp": true } }),
    )
    .await;
    assert_eq!(
        changed.body["data"]["payment_failed"],
        json!({ "inApp": true, "email": true })
    );
    assert_eq!(
        changed.body["data"]["promo_offer"]["email"], true,
        "what was not named stays"
    );
    assert_eq!(read().await, changed.body["data"]);

    for (method, odd) in [
        (Method::PUT, json!({ "promo_offer": { "inApp": true, "email": true } })),
        (Method::PUT, json!([])),
        (Method::PUT, json!({ "promo_offer": 1 })),
        (Method::PATCH, json!({})),
        (Method::PATCH, json!({ "promo_offer": { "email": "yes" } })),
    ] {
        let refused = prefer(&app, &ada, method, &odd).await;
        refused.refused(400, "VALIDATION");
    }
    assert_eq!(read().await, changed.body["data"], "nothing half-done");
    let eve = app.register("eve@example.com").await;
    assert_eq!(
        app.get(PREFERENCES).bearer(&eve.token).send().await.body["data"],
        defaults()
    );
}

#[sqlx::test(migrations = false)]
async fn changes_at_the_same_time_do_not_undo_each_other(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let keys = [
        "booking_confirmed",
        "booking_cancelled",
        "payment_succeeded",
        "payment_failed",
        "refund_processed",
    ];
    let changes = keys.map(|key| {
        let (app, ada) = (&app, &ada);
        async move { prefer(app, ada, Method::PATCH, &json!({ key: { "email": false } })).await }
    });
    for changed in futures_util::future::join_all(changes).await {
        assert_eq!(changed.status, 200, "{}", changed.body);
    }
    let read = app.get(PREFERENCES).bearer(&ada.token).send().await;
    for key in keys {
        assert_eq!(
            read.body["data"][key],
            json!({ "inApp": true, "email": false }),
            "{key}"
        );
    }
}

#[sqlx::test(migrations = false)]
async fn preferences_are_kept_in_redis_for_five_minutes_and_forgotten_when_they_change(pool: PgPool) {
    let first = TestApp::start(pool.clone()).await;
    let redis = shared::redis::Redis::memory();
    let app = TestApp::over(pool, &[("RATE_LIMIT_MULTIPLIER", "1000")], redis.clone());
    drop(first);
    let ada = app.register("ada@example.com").await;
    let key = format!("pref:notif:{}", ada.id);
    app.get(PREFERENCES).bearer(&ada.token).send().await;
    let life = redis.ttl(&key).await.unwrap().unwrap();
    assert!((290..=300).contains(&life.as_secs()), "{life:?}");
    app.execute("drop table users.pushes cascade").await; // whatever is read now comes from Redis or fails elsewhere
    app.execute("alter table users.settings rename to away").await;
    let cached = app.get(PREFERENCES).bearer(&ada.token).send().await;
    assert_eq!(cached.body["data"], defaults());
    app.execute("alter table users.away rename to settings").await;
    prefer(&app, &ada, Method::PUT, &defaults()).await;
    assert_eq!(redis.get(&key).await.unwrap(), None);
    redis.set(&key, "not what we wrote", None).await.unwrap();
    assert_eq!(
        app.get(PREFERENCES).bearer(&ada.token).send().await.body["data"],
        defaults()
    );
}

#[sqlx::test(migrations = false)]
async fn each_channel_can_be_switched_off_by_itself(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let told = async |in_app: bool, email: bool| {
        app.execute("delete from users.outbox").await;
        let wish = json!({ "payment_succeeded": { "inApp": in_app, "email": email } });
        assert_eq!(prefer(&app, &ada, Method::PATCH, &wish).await.status, 200);
        let before = app.count("select count(*) from users.notifications").await;
        apply(&app, Topic::PaymentCompleted, payment(&ada.id)).await.unwrap();
        let made = app.count("select count(*) from users.notifications").await - before;
        let events = app.events("users").await;
        let kinds: Vec<String> = events
            .iter()
            .map(|(kind, _)| kind.trim_start_matches("notification.").to_owned())
            .collect();
        (made, kinds.join("+"), events)
    };
    let (made, kinds, _) = told(true, false).await;
    assert_eq!((made, kinds.as_str()), (1, "inapp.created"));
    let (made, kinds, events) = told(false, true).await;
    assert_eq!((made, kinds.as_str()), (0, "email.requested"));
    assert!(
        events[0].1["payload"].get("notificationId").is_none(),
        "there is none to name"
    );
    let (made, kinds, _) = told(false, false).await;
    assert_eq!((made, kinds.as_str()), (0, ""));
    let (made, kinds, _) = told(true, true).await;
    assert_eq!((made, kinds.as_str()), (1, "inapp.created+email.requested"));

    // the internal route says null where nothing is shown
    prefer(
        &app,
        &ada,
        Method::PATCH,
        &json!({ "platform_update": { "inApp": false } }),
    )
    .await;
    let business = app.service_token("business-pod").await;
    let wanted = json!({ "userId": ada.id, "type": "PLATFORM_UPDATE", "title": "News", "message": "Text" });
    let made = app.post(INTERNAL).bearer(&business).json(&wanted).send().await;
    assert_eq!(
        (made.status.as_u16(), &made.body),
        (201, &json!({ "success": true, "data": null }))
    );
}

#[sqlx::test(migrations = false)]
async fn offers_are_mailed_only_to_those_who_agreed_to_marketing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    apply(&app, Topic::UserCreated, json!({ "userId": ada.id }))
        .await
        .unwrap();
    prefer(&app, &ada, Method::PATCH, &json!({ "promo_offer": { "email": true } })).await;
    let business = app.service_token("business-pod").await;
    let offer = json!({ "userId": ada.id, "type": "PROMO_OFFER", "title": "Rome", "message": "From 40 EUR" });
    let mails = async || {
        let made = app.post(INTERNAL).bearer(&business).json(&offer).send().await;
        assert_eq!(made.body["data"]["type"], "PROMO_OFFER", "shown in any case");
        let events = app.events("users").await;
        events
            .iter()
            .filter(|(kind, _)| kind == "notification.email.requested")
            .count()
    };
    assert_eq!(mails().await, 0);
    app.execute("update users.consents set marketing = true").await;
    assert_eq!(mails().await, 1);
}
