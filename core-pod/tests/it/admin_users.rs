//! Accounts for administrators, and who is one (core §2.7, §5.12).

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    admin_support::{AdminApp, Booking, Payment, promoted},
    support::PASSWORD,
};

const NOBODY: &str = "0192f0c1-0000-7000-8000-000000000000";

async fn set(app: &AdminApp, email: &str, column: &str, value: &str) {
    let sql = format!("update auth.users set {column} = {value} where email = $1");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(email)
        .execute(&app.app.pool)
        .await
        .unwrap();
}

fn emails(data: &Value) -> Vec<String> {
    let users = data["users"].as_array().unwrap();
    users
        .iter()
        .map(|user| user["email"].as_str().unwrap().to_owned())
        .collect()
}

#[sqlx::test(migrations = false)]
async fn every_admin_route_refuses_whoever_is_no_administrator(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let (ada, mod_) = (
        app.app.register("ada@example.com").await,
        promoted(&app.app, "moda@example.com", "MODERATOR").await,
    );
    let document: Value =
        serde_json::from_str(&<core_pod::CorePod as shared::pod::Pod>::openapi().to_json().unwrap()).unwrap();
    let mut seen = 0;
    for (template, item) in document["paths"].as_object().unwrap() {
        if !template.starts_with("/api/v1/admin") {
            continue;
        }
        let path = template.replace("{id}", NOBODY);
        for method in item.as_object().unwrap().keys() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else {
                continue;
            };
            let nobody = app.app.call(method.clone(), &path).send().await;
            nobody.refused(401, "TOKEN_MISSING");
            assert_eq!(nobody.body["message"], "Authentication required", "{method} {path}");
            for other in [&ada, &mod_] {
                let refused = app.app.call(method.clone(), &path).bearer(&other.token).send().await;
                refused.refused(403, "FORBIDDEN");
                assert_eq!(refused.body["message"], "Admin access required", "{method} {path}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 24, "the walk found only {seen} admin operations");
}

#[sqlx::test(migrations = false)]
async fn the_role_is_that_of_the_account_and_not_that_of_the_token(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let other = promoted(&app.app, "other@example.com", "ADMIN").await;
    let reply = app
        .put(&format!("/users/{}", other.id), json!({ "role": "USER" }))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]["role"]),
        (200, &json!("USER"))
    );
    // the old token still says ADMIN; its session is over
    let with_old = app.app.get("/api/v1/admin/users").bearer(&other.token).send().await;
    with_old.refused(401, "TOKEN_REVOKED");
    let again = app.app.login("other@example.com").await;
    app.app
        .get("/api/v1/admin/users")
        .bearer(&again.token)
        .send()
        .await
        .refused(403, "FORBIDDEN");
    let told = app.app.events("auth").await;
    let (_, updated) = told.iter().find(|(topic, _)| topic == "user.updated").unwrap();
    assert_eq!(
        updated["payload"]["changes"]["role"],
        json!({ "old": "ADMIN", "new": "USER" })
    );
}

#[sqlx::test(migrations = false)]
async fn accounts_are_found_filtered_and_ordered(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    for (number, email) in [
        "zoe@example.com",
        "bob@example.com",
        "a_b@example.com",
        "axb@example.com",
    ]
    .iter()
    .enumerate()
    {
        app.app.advance(i64::try_from(number).unwrap() + 1);
        app.app.register(email).await;
    }
    set(&app, "zoe@example.com", "last_name", "'Ångström'").await;
    set(&app, "bob@example.com", "first_name", "'50%'").await;
    set(&app, "bob@example.com", "username", "'builder'").await;
    set(&app, "axb@example.com", "suspended_at", "now()").await;

    let all = app.read("/users").await;
    assert_eq!(emails(&all)[..2], ["axb@example.com", "a_b@example.com"]);
    assert_eq!(
        all["pagination"],
        json!({ "page": 1, "limit": 50, "total": 5, "totalPages": 1 })
    );
    for (query, found) in [
        ("search=a_b", &["a_b@example.com"][..]),
        ("search=50%25", &["bob@example.com"]),
        ("search=BUILDER", &["bob@example.com"]),
        ("search=%C3%85ngstr", &["zoe@example.com"]),
        ("search=%C3%85NGSTR", &["zoe@example.com"]),
        ("search=com%20zoe", &[]),
        ("search=nobody", &[]),
        ("role=ADMIN", &["grace@example.com"]),
        ("role=moderator", &[]),
        ("status=suspended", &["axb@example.com"]),
        ("status=active&search=axb", &[]),
        (
            "sortBy=email&sortOrder=asc&limit=2",
            &["a_b@example.com", "axb@example.com"],
        ),
        ("sortBy=email&sortOrder=asc&limit=2&page=3", &["zoe@example.com"]),
        ("sortBy=destination&limit=1", &["axb@example.com"]),
        ("sortBy=user&sortOrder=desc&limit=1", &["zoe@example.com"]),
        ("sortBy=status&sortOrder=desc&limit=1", &["axb@example.com"]),
        ("sortBy=lastLoginAt&sortOrder=asc&limit=1", &["grace@example.com"]),
        (
            "startDate=2027-01-15&endDate=2027-01-15&role=ADMIN",
            &["grace@example.com"],
        ),
        ("endDate=2027-01-14", &[]),
        ("page=-1&limit=0&role=ADMIN", &["grace@example.com"]),
    ] {
        assert_eq!(emails(&app.read(&format!("/users?{query}")).await), found, "{query}");
    }
    let far = app.read("/users?page=9").await;
    assert_eq!((emails(&far).len(), &far["pagination"]["total"]), (0, &json!(5)));
    for query in [
        "role=root",
        "status=gone",
        "startDate=x",
        "endDate=2027-02-30",
        "search=%00",
    ] {
        app.get(&format!("/users?{query}")).await.refused(400, "VALIDATION");
    }
}

#[sqlx::test(migrations = false)]
async fn an_account_tells_what_it_has_and_when_it_was_last_there(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    app.searches(&ada.id, 3, "2027-01-15T07:00:00Z").await;
    app.booking(Booking {
        user: &ada.id,
        ..Booking::default()
    })
    .await;
    app.payment(Payment {
        user: &ada.id,
        minor: 10_000,
        refunded: 2_550,
        ..Payment::default()
    })
    .await;
    app.payment(Payment {
        number: 2,
        user: &ada.id,
        currency: "USD",
        ..Payment::default()
    })
    .await;
    app.payment(Payment {
        number: 3,
        user: &ada.id,
        status: "FAILED",
        ..Payment::default()
    })
    .await;
    sqlx::query(
        "insert into users.favorites (id, user_id, entity_type, entity_id, created_at, updated_at)
         values (gen_random_uuid(), $1::uuid, 'HOTEL', 'h1', now(), now())",
    )
    .bind(&ada.id)
    .execute(&app.app.pool)
    .await
    .unwrap();

    let detail = app.read(&format!("/users/{}", ada.id)).await;
    assert_eq!(
        detail["_count"],
        json!({ "searches": 3, "favorites": 1, "notifications": 0, "history": 0 })
    );
    assert_eq!(
        (&detail["revenueGenerated"], &detail["bookingsCount"]),
        (&json!(74.5), &json!(1))
    );
    for (key, value) in [
        ("email", json!("ada@example.com")),
        ("role", json!("USER")),
        ("userCategory", json!("LEISURE")),
        ("isSuspended", json!(false)),
        ("phoneNumber", Value::Null),
        ("dateOfBirth", Value::Null),
        ("nationality", Value::Null),
        ("onboardingCompletedAt", Value::Null),
        ("createdAt", json!("2027-01-15T08:00:00.000Z")),
    ] {
        assert_eq!(detail[key], value, "{key}");
    }
    let listed = app.read("/users?search=ada@").await;
    assert_eq!(
        listed["users"][0]["_count"],
        json!({ "searches": 3, "favorites": 1, "notifications": 0 })
    );
    assert!(!listed.to_string().to_lowercase().contains("password"));
    for id in [NOBODY, "bulk", "%00"] {
        app.get(&format!("/users/{id}")).await.refused(404, "USER_NOT_FOUND");
        app.get(&format!("/users/{id}/activity"))
            .await
            .refused(404, "USER_NOT_FOUND");
    }
}

#[sqlx::test(migrations = false)]
async fn activity_is_one_line_of_time_out_of_three_sources(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    app.booking(Booking {
        user: &ada.id,
        destination: Some("JFK"),
        at: "2027-01-02T00:00:00Z",
        ..Booking::default()
    })
    .await;
    app.payment(Payment {
        user: &ada.id,
        at: "2027-01-03T00:00:00Z",
        ..Payment::default()
    })
    .await;
    sqlx::query(
        "insert into users.history (id, user_id, action_type, entity_type, entity_id, created_at)
         select gen_random_uuid(), $1::uuid, 'VIEWED', 'hotel', 'h' || n, timestamptz '2027-01-01' + n * interval '1 minute'
         from generate_series(1, 150) as n",
    )
    .bind(&ada.id)
    .execute(&app.app.pool)
    .await
    .unwrap();
    let first = app.read(&format!("/users/{}/activity", ada.id)).await;
    assert_eq!(
        first["pagination"],
        json!({ "page": 1, "limit": 20, "total": 102, "totalPages": 6 })
    );
    let items = first["items"].as_array().unwrap();
    assert_eq!(
        (&items[0]["type"], &items[0]["amount"], &items[0]["status"]),
        (&json!("payment"), &json!(100.0), &json!("SUCCEEDED"))
    );
    assert!(items[0]["id"].as_str().unwrap().starts_with("payment-"));
    assert_eq!(
        (&items[1]["type"], &items[1]["detail"]),
        (&json!("booking"), &json!("FLIGHT to JFK"))
    );
    assert_eq!(
        (&items[2]["label"], &items[2]["detail"]),
        (&json!("VIEWED hotel"), &json!("h150"))
    );
    assert!(items[2].get("amount").is_none() && items[2].get("status").is_none());
    let last = app.read(&format!("/users/{}/activity?page=6&limit=20", ada.id)).await;
    assert_eq!(last["items"].as_array().unwrap().len(), 2);
    let beyond = app.read(&format!("/users/{}/activity?page=7", ada.id)).await;
    assert_eq!(
        (
            beyond["items"].as_array().unwrap().len(),
            &beyond["pagination"]["total"]
        ),
        (0, &json!(102))
    );
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_15_a_file_of_accounts_runs_nothing_in_a_spreadsheet(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    let bob = app.app.register("bob@example.com").await;
    app.app.execute("update auth.users set first_name = '=cmd|'' /C calc''!A0', last_name = '@SUM(1,2)' where email = 'ada@example.com'").await;
    app.app
        .execute(
            "update auth.users set first_name = E'\\t-1', last_name = 'O\"Neil, Bob' where email = 'bob@example.com'",
        )
        .await;
    app.payment(Payment {
        user: &ada.id,
        ..Payment::default()
    })
    .await;

    let (headers, text) = app.file("/users/export?sortBy=email&sortOrder=asc&role=USER").await;
    assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(
        headers["content-disposition"],
        "attachment; filename=\"users-export.csv\""
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "id,email,firstName,lastName,role,isVerified,isSuspended,createdAt,lastLoginAt,bookingsCount,revenueGenerated"
    );
    assert_eq!(lines.len(), 3);
    let ada_line = format!(
        "{},ada@example.com,'=cmd|' /C calc'!A0,\"'@SUM(1,2)\",USER,false,false,2027-01-15T08:00:00.000Z,2027-01-15T08:00:00.000Z,0,100.00",
        ada.id
    );
    assert!(lines[1].starts_with(&ada_line[..60]), "{}", lines[1]);
    assert!(
        lines[1].contains(",\"'@SUM(1,2)\",USER,false,false,2027-01-15T08:00:00.000Z,"),
        "{}",
        lines[1]
    );
    assert!(lines[1].ends_with(",0,100.00"));
    assert!(lines[2].contains(",'\t-1,\"O\"\"Neil, Bob\","), "{}", lines[2]);
    assert!(text.ends_with('\n') && !text.contains('\r'));

    let (_, ticked) = app.file(&format!("/users/export?ids={},{NOBODY},x", bob.id)).await;
    assert_eq!(ticked.lines().count(), 2);
    assert!(ticked.contains("bob@example.com") && !ticked.contains("ada@example.com"));
    app.get("/users/export?role=root").await.refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn a_file_may_be_compressed_on_its_way(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    for encoding in ["gzip", "br"] {
        let call = app
            .call(Method::GET, "/users/export")
            .header("accept-encoding", encoding);
        let (status, headers, bytes) = call.send_raw().await;
        assert_eq!(
            (status.as_u16(), headers["content-encoding"].to_str().unwrap()),
            (200, encoding)
        );
        assert!(!bytes.is_empty() && !bytes.starts_with(b"id,email"));
    }
}

#[sqlx::test(migrations = false)]
async fn a_file_is_bounded_and_comes_whole(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    app.app
        .execute(
            "insert into auth.users (id, email, email_display, password_hash, first_name, created_at, updated_at)
             select gen_random_uuid(), 'u' || n || '@example.com', 'u' || n || '@example.com', 'x', repeat('é', 40), now(), now()
             from generate_series(1, 10050) as n",
        )
        .await;
    let (_, text) = app.file("/users/export").await;
    assert_eq!(text.lines().count(), 10_001);
    assert!(text.lines().skip(1).all(|line| line.split(',').count() == 11));
}

#[sqlx::test(migrations = false)]
async fn an_account_is_edited_within_the_rules(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    app.app.register("bob@example.com").await;
    let path = format!("/users/{}", ada.id);

    let reply = app
        .put(
            &path,
            json!({ "firstName": " Augusta ", "lastName": null, "email": "Ada.King+x@gmail.com", "isVerified": true,
                            "userCategory": "BUSINESS", "password": "x", "id": NOBODY }),
        )
        .await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let data = &reply.body["data"];
    assert_eq!(
        (
            &data["firstName"],
            &data["lastName"],
            &data["email"],
            &data["isVerified"],
            &data["userCategory"]
        ),
        (
            &json!("Augusta"),
            &Value::Null,
            &json!("adaking@gmail.com"),
            &json!(true),
            &json!("BUSINESS")
        )
    );
    // an address that was stored here is one that can be signed in with
    app.app.login("ada.king@gmail.com").await;

    let taken = app.put(&path, json!({ "email": "bob@example.com" })).await;
    taken.refused(409, "EMAIL_TAKEN");
    assert_eq!(taken.body["message"], "Email already in use");
    for bad in [
        json!({ "role": "ROOT" }),
        json!({ "email": "x" }),
        json!({ "isVerified": "yes" }),
        json!({ "userCategory": 1 }),
        json!({ "firstName": "<b>" }),
        json!({ "firstName": "" }),
    ] {
        let reply = app.put(&path, bad.clone()).await;
        reply.refused(400, "VALIDATION");
        assert!(reply.body["errors"][0]["msg"].is_string(), "{bad}");
    }
    app.put(&format!("/users/{NOBODY}"), json!({}))
        .await
        .refused(404, "USER_NOT_FOUND");
    app.put("/users/x", json!({})).await.refused(404, "USER_NOT_FOUND");
    let same = app.put(&path, json!({})).await;
    assert_eq!(
        (same.status.as_u16(), &same.body["data"]["firstName"]),
        (200, &json!("Augusta"))
    );
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_21_nobody_locks_themselves_or_everybody_out(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let own = format!("/users/{}", app.grace.id);
    for (path, body, text) in [
        (own.clone(), json!({ "role": "USER" }), "Cannot change your own role"),
        (format!("{own}/suspend"), json!({}), "Cannot suspend your own account"),
    ] {
        let reply = app.put(&path, body).await;
        reply.refused(400, "VALIDATION");
        assert_eq!(reply.body["message"], text);
    }
    let form = app.put(&own, json!({ "role": "ADMIN", "firstName": "Grace" })).await;
    assert_eq!(form.status, 200, "a form that is sent back unchanged is no offence");

    // two administrators demote, or suspend, each other at the same moment
    for round in 0..3 {
        let email = format!("other{round}@example.com");
        let other = promoted(&app.app, &email, "ADMIN").await;
        let grace = app.app.login("grace@example.com").await;
        let (first, second) = if round == 1 {
            let suspend = |by: &str, whom: &str| {
                app.app
                    .call(Method::PUT, &format!("/api/v1/admin/users/{whom}/suspend"))
                    .bearer(by)
                    .json(&json!({}))
                    .send()
            };
            tokio::join!(suspend(&grace.token, &other.id), suspend(&other.token, &grace.id))
        } else {
            let demote = |by: &str, whom: &str| {
                app.app
                    .call(Method::PUT, &format!("/api/v1/admin/users/{whom}"))
                    .bearer(by)
                    .json(&json!({ "role": "USER" }))
                    .send()
            };
            tokio::join!(demote(&grace.token, &other.id), demote(&other.token, &grace.id))
        };
        let left = app
            .app
            .count("select count(*) from auth.users where role = 'ADMIN' and suspended_at is null")
            .await;
        assert_eq!(left, 1, "{} {}", first.body, second.body);
        app.app
            .execute("update auth.users set role = 'USER', suspended_at = null where email <> 'grace@example.com'")
            .await;
        app.app
            .execute("update auth.users set role = 'ADMIN', suspended_at = null where email = 'grace@example.com'")
            .await;
    }
}

#[sqlx::test(migrations = false)]
async fn a_suspended_account_is_out_at_once_and_comes_back_by_signing_in(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    let path = format!("/users/{}", ada.id);
    let reply = app
        .put(&format!("{path}/suspend"), json!({ "reason": "chargeback" }))
        .await;
    let data = &reply.body["data"];
    assert_eq!(
        (reply.status.as_u16(), &data["id"], &data["isSuspended"]),
        (200, &json!(ada.id), &json!(true))
    );
    assert_eq!(
        (&data["suspendedReason"], &data["suspendedAt"]),
        (&json!("chargeback"), &json!("2027-01-15T08:00:00.000Z"))
    );

    app.app.profile(&ada.token).await.refused(401, "ACCOUNT_SUSPENDED");
    app.app
        .try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "ACCOUNT_SUSPENDED");
    let told = app.app.events("auth").await;
    let (_, locked) = told.iter().find(|(topic, _)| topic == "auth.account.locked").unwrap();
    assert_eq!(
        (&locked["payload"]["userId"], &locked["payload"]["reason"]),
        (&json!(ada.id), &json!("admin_action"))
    );

    let again = app.put(&format!("{path}/suspend"), json!({})).await;
    again.refused(409, "ALREADY_SUSPENDED");
    assert_eq!(again.body["message"], "User already suspended");
    let back = app.call(Method::PUT, &format!("{path}/reactivate")).send().await;
    assert_eq!(
        (back.status.as_u16(), &back.body["data"]["isSuspended"]),
        (200, &json!(false))
    );
    let twice = app.call(Method::POST, &format!("{path}/unsuspend")).send().await;
    twice.refused(409, "NOT_SUSPENDED");
    assert_eq!(twice.body["message"], "User is not suspended");
    app.app.profile(&ada.token).await.refused(401, "TOKEN_REVOKED");
    app.app.login("ada@example.com").await;

    let by_post = app.call(Method::POST, &format!("{path}/suspend")).send().await;
    assert_eq!(by_post.status, 200);
    for bad in [json!({ "reason": 1 }), json!({ "reason": "x".repeat(501) })] {
        app.put(&format!("{path}/suspend"), bad)
            .await
            .refused(400, "VALIDATION");
    }
    app.put(&format!("/users/{NOBODY}/suspend"), json!({}))
        .await
        .refused(404, "USER_NOT_FOUND");
    app.put(&format!("/users/{NOBODY}/reactivate"), json!({}))
        .await
        .refused(404, "USER_NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn an_administrator_ends_a_lockout(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    for _ in 0..10 {
        app.app.try_login("ada@example.com", "Wrong-passw0rd!").await;
    }
    app.app
        .try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    let reply = app.call(Method::PUT, &format!("/users/{}/unlock", ada.id)).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    app.app.login("ada@example.com").await;
    app.call(Method::PUT, &format!("/users/{NOBODY}/unlock"))
        .send()
        .await
        .refused(404, "USER_NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn a_lost_second_factor_is_taken_away_by_an_administrator_and_by_nobody_for_themselves(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = crate::mfa::protect(&app.app, "ada@example.com").await;
    let reset = |id: &str| app.call(Method::DELETE, &format!("/users/{id}/mfa")).send();
    let own: String = sqlx::query_scalar("select id::text from auth.users where role = 'ADMIN'")
        .fetch_one(&app.app.pool)
        .await
        .unwrap();
    reset(&own).await.refused(400, "VALIDATION");
    reset(NOBODY).await.refused(404, "USER_NOT_FOUND");
    let reply = reset(&ada.traveller.id).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    app.app
        .profile(&ada.traveller.token)
        .await
        .refused(401, "TOKEN_REVOKED");
    app.app.login("ada@example.com").await;
}

#[sqlx::test(migrations = false)]
async fn what_administrators_read_and_change_is_in_the_log(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    app.read("/users").await;
    app.app.advance(1);
    app.read(&format!("/users/{}", ada.id)).await;
    app.app.advance(1);
    app.file("/users/export").await;
    app.app.advance(1);
    app.read("/dashboard/stats").await;
    app.app.advance(1);
    app.put(&format!("/users/{}", ada.id), json!({ "firstName": "Augusta" }))
        .await;
    app.app.advance(1);
    app.put(&format!("/users/{}/suspend", ada.id), json!({ "reason": "fraud" }))
        .await;
    app.get(&format!("/users/{NOBODY}"))
        .await
        .refused(404, "USER_NOT_FOUND");
    app.app.services.flush_audit().await.unwrap();
    let rows: Vec<(String, String, Option<String>, Option<String>, Option<String>, bool)> = sqlx::query_as(
        "select action, resource, user_id::text, accessor_id, reason, before_digest is not null and after_digest is not null
         from users.data_access_logs where accessor_type = 'admin' order by accessed_at, id",
    )
    .fetch_all(&app.app.pool)
    .await
    .unwrap();
    let lines: Vec<String> = rows
        .iter()
        .map(|(action, resource, subject, accessor, reason, digests)| {
            assert_eq!(accessor.as_deref(), Some(app.grace.id.as_str()));
            let subject = if subject.as_deref() == Some(&ada.id) {
                "ada"
            } else {
                "-"
            };
            format!(
                "{action} {resource} {subject} {} {digests}",
                reason.as_deref().unwrap_or("-")
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "READ User - - false",
            "READ User ada - false",
            "EXPORT User - - false",
            "READ Dashboard - - false",
            "UPDATE User ada - true",
            "UPDATE User ada fraud true",
        ]
    );
}

#[sqlx::test(migrations = false)]
async fn a_deleted_account_is_erased_at_once_and_its_purchases_stay_without_it(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ada = app.app.register("ada@example.com").await;
    let path = format!("/users/{}", ada.id);
    let own = app
        .call(Method::DELETE, &format!("/users/{}", app.grace.id))
        .send()
        .await;
    own.refused(400, "VALIDATION");
    assert_eq!(own.body["message"], "Cannot delete your own account");

    let reply = app
        .call(Method::DELETE, &path)
        .json(&json!({ "reason": "asked by letter" }))
        .send()
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]),
        (200, &json!({ "id": ada.id })),
        "{}",
        reply.body
    );
    assert_eq!(app.app.profile(&ada.token).await.status, 401);
    app.get(&path).await.refused(404, "USER_NOT_FOUND");
    // begun, and where every store can be reached done as well: what is left is the worker's
    let begun = "select (select count(*) from users.erasures where origin = 'admin') + (select count(*) from users.erasure_log)";
    assert_eq!(app.app.count(begun).await, 1);
    app.call(Method::DELETE, &path)
        .send()
        .await
        .refused(404, "USER_NOT_FOUND");
    app.call(Method::DELETE, "/users/x")
        .send()
        .await
        .refused(404, "USER_NOT_FOUND");
}
