//! Bookings for administrators (core §5.12).

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::admin_support::{AdminApp, Booking, Payment};

const NOBODY: &str = "0192f0c1-0000-7000-8000-000000000000";

fn references(data: &Value) -> Vec<u32> {
    let bookings = data["bookings"].as_array().unwrap();
    let number = |booking: &Value| booking["reference"].as_str().unwrap()[14..].parse().unwrap();
    bookings.iter().map(number).collect()
}

/// Four bookings of two travellers and one of nobody.
async fn several(app: &AdminApp) -> [String; 4] {
    let ada = app.app.register("ada@example.com").await;
    let bob = app.app.register("bob@example.com").await;
    let first = Booking {
        number: 1,
        user: &ada.id,
        item: json!({ "to": "JFK" }),
        destination: Some("XXX"),
        intent: Some("pi_1"),
        at: "2027-01-10T10:00:00Z",
        ..Booking::default()
    };
    let second = Booking {
        number: 2,
        user: &bob.id,
        kind: "HOTEL",
        status: "DRAFT",
        minor: 25_050,
        item: json!({ "hotel": "=Ritz", "city": "Paris" }),
        at: "2027-01-11T10:00:00Z",
        ..Booking::default()
    };
    let third = Booking {
        number: 3,
        kind: "ACTIVITY",
        status: "COMPLETED",
        minor: 500,
        currency: "JPY",
        item: json!({ "city": "Tokyo", "location": "50%_off" }),
        at: "2027-01-12T23:59:59.999Z",
        ..Booking::default()
    };
    let fourth = Booking {
        number: 4,
        user: &ada.id,
        kind: "PACKAGE",
        status: "CANCELLED",
        at: "2027-01-13T10:00:00Z",
        ..Booking::default()
    };
    let mut ids = Vec::new();
    for booking in [first, second, third, fourth] {
        ids.push(app.booking(booking).await);
    }
    ids.try_into().unwrap()
}

#[sqlx::test(migrations = false)]
async fn bookings_are_found_filtered_and_ordered(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    several(&app).await;
    let all = app.read("/bookings").await;
    assert_eq!(
        all["pagination"],
        json!({ "page": 1, "limit": 50, "total": 4, "totalPages": 1 })
    );
    let row = &all["bookings"][3];
    for key in [
        "id",
        "userId",
        "type",
        "reference",
        "status",
        "paymentIntentId",
        "confirmedAt",
        "totalAmount",
        "currency",
        "data",
        "createdAt",
        "updatedAt",
        "destination",
        "user",
    ] {
        assert!(row.get(key).is_some(), "no {key} in {row}");
    }
    assert_eq!(
        (&row["totalAmount"], &row["destination"]),
        (&json!(100.0), &json!("JFK"))
    );
    assert_eq!(
        (&row["user"]["email"], row["user"].get("username")),
        (&json!("ada@example.com"), None)
    );
    assert_eq!(row["data"]["items"][0]["itemData"], json!({ "to": "JFK" }));
    assert_eq!(all["bookings"][1]["totalAmount"], json!(500.0), "yen have no cents");
    assert_eq!(all["bookings"][1]["user"], Value::Null);
    assert_eq!(all["bookings"][0]["destination"], Value::Null);

    for (query, found) in [
        ("", &[4, 3, 2, 1][..]),
        ("search=00002", &[2]),
        ("search=book-20270115-00002", &[2]),
        ("search=ADA@", &[4, 1]),
        ("search=lovelace", &[4, 2, 1]),
        ("search=BOOK%25", &[]),
        ("status=DRAFT", &[2]),
        ("type=activity", &[3]),
        ("startDate=2027-01-11&endDate=2027-01-12", &[3, 2]),
        (
            "startDate=2027-01-12T23:59:59.999Z&endDate=2027-01-12T23:59:59.999Z",
            &[3],
        ),
        ("minAmount=100.01", &[3, 2]),
        ("maxAmount=100", &[4, 1]),
        ("minAmount=250.5&maxAmount=250.5", &[2]),
        ("destination=ritz", &[2]),
        ("destination=50%25_off", &[3]),
        ("destination=50%25x", &[]),
        ("sortBy=totalAmount&sortOrder=asc", &[4, 1, 2, 3]),
        ("sortBy=destination&sortOrder=asc", &[3, 2, 1, 4]),
        ("sortBy=nonsense&sortOrder=asc", &[1, 2, 3, 4]),
        ("sortBy=user&sortOrder=desc&limit=1", &[2]),
        ("limit=2&page=2", &[2, 1]),
        ("page=99", &[]),
    ] {
        assert_eq!(
            references(&app.read(&format!("/bookings?{query}")).await),
            found,
            "{query}"
        );
    }
    for query in [
        "status=LOST",
        "type=SHIP",
        "startDate=x",
        "minAmount=x",
        "maxAmount=1e3",
        "destination=%00",
    ] {
        app.get(&format!("/bookings?{query}")).await.refused(400, "VALIDATION");
    }
}

#[sqlx::test(migrations = false)]
async fn a_booking_comes_with_its_traveller_and_its_payment(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [first, second, ..] = several(&app).await;
    app.payment(Payment::default()).await;
    let detail = app.read(&format!("/bookings/{first}")).await;
    assert_eq!(
        (&detail["payment"]["paymentIntentId"], &detail["payment"]["amount"]),
        (&json!("pi_1"), &json!(100.0))
    );
    assert_eq!(detail["user"]["username"], Value::Null);
    assert_eq!(app.read(&format!("/bookings/{second}")).await["payment"], Value::Null);
    for id in [NOBODY, "x", "bulk"] {
        let reply = app.get(&format!("/bookings/{id}")).await;
        reply.refused(404, "NOT_FOUND");
        assert_eq!(reply.body["message"], "Booking not found");
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_15_a_file_of_bookings_runs_nothing_in_a_spreadsheet(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [_, second, ..] = several(&app).await;
    let (headers, text) = app.file("/bookings/export?destination=ritz").await;
    assert_eq!(
        headers["content-disposition"],
        "attachment; filename=\"bookings-export.csv\""
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "\"id\",\"reference\",\"type\",\"status\",\"destination\",\"userId\",\"userEmail\",\"totalAmount\",\"currency\",\"confirmedAt\",\"createdAt\""
    );
    assert_eq!(lines.len(), 2, "the filter counts here as well");
    assert!(
        lines[1].starts_with(&format!(
            "\"{second}\",\"BOOK-20270115-00002\",\"HOTEL\",\"DRAFT\",\"'=Ritz\","
        )),
        "{}",
        lines[1]
    );
    assert!(
        lines[1].ends_with(",\"bob@example.com\",\"250.50\",\"EUR\",\"\",\"2027-01-11T10:00:00.000Z\""),
        "{}",
        lines[1]
    );
    let (_, all) = app.file("/bookings/export").await;
    assert_eq!(all.lines().count(), 5);
    assert!(all.contains("\"500\",\"JPY\""));
}

#[sqlx::test(migrations = false)]
async fn a_status_is_asked_of_the_owner_and_its_refusal_is_passed_on(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [first, second, ..] = several(&app).await;
    app.business_answers(
        "PUT",
        &format!("bookings/{first}/status"),
        200,
        json!({ "success": true, "data": {} }),
    )
    .await;
    let refusal = json!({ "success": false, "error": "Cannot change status from DRAFT to CONFIRMED",
                          "message": "Cannot change status from DRAFT to CONFIRMED", "code": "INVALID_TRANSITION",
                          "data": { "from": "DRAFT", "to": "CONFIRMED" } });
    app.business_answers("PUT", &format!("bookings/{second}/status"), 409, refusal)
        .await;

    let reply = app
        .put(&format!("/bookings/{first}/status"), json!({ "status": "COMPLETED" }))
        .await;
    assert_eq!((reply.status.as_u16(), &reply.body["data"]["id"]), (200, &json!(first)));
    let refused = app
        .put(&format!("/bookings/{second}/status"), json!({ "status": "CONFIRMED" }))
        .await;
    refused.refused(409, "INVALID_TRANSITION");
    assert_eq!(refused.body["data"]["from"], "DRAFT");
    let asked = app.asked().await;
    let body = json!({ "status": "COMPLETED", "actor": app.grace.id });
    assert_eq!(asked[0], ("PUT".to_owned(), format!("bookings/{first}/status"), body));

    for (body, text) in [
        (json!({}), "Status is required"),
        (json!({ "status": "" }), "Status is required"),
        (json!({ "status": "LOST" }), "Invalid status"),
        (json!({ "status": 7 }), "Invalid status"),
    ] {
        let reply = app.put(&format!("/bookings/{first}/status"), body).await;
        reply.refused(400, "VALIDATION");
        assert_eq!(reply.body["message"], text);
    }
    app.put(&format!("/bookings/{NOBODY}/status"), json!({ "status": "CANCELLED" }))
        .await
        .refused(404, "NOT_FOUND");
    assert_eq!(app.asked().await.len(), 2, "what is refused here is not asked");
}

#[sqlx::test(migrations = false)]
async fn a_bulk_change_is_no_booking_called_bulk(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [first, second, ..] = several(&app).await;
    app.business_answers(
        "PUT",
        "bookings/status",
        200,
        json!({ "success": true, "data": { "updated": 1, "refused": [second] } }),
    )
    .await;
    let body = json!({ "ids": [first, second, first, "x"], "status": "CANCELLED" });
    let reply = app.put("/bookings/bulk/status", body).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]),
        (200, &json!({ "updated": 1, "refused": [second] }))
    );
    let asked = app.asked().await;
    assert_eq!(asked[0].2["ids"].as_array().unwrap().len(), 2, "each once");
    let nothing = app
        .put("/bookings/bulk/status", json!({ "ids": ["x"], "status": "CANCELLED" }))
        .await;
    assert_eq!(nothing.body["data"]["updated"], 0);
    for bad in [
        json!({}),
        json!({ "ids": [], "status": "CANCELLED" }),
        json!({ "ids": [first], "status": "LOST" }),
        json!({ "ids": first, "status": "CANCELLED" }),
        json!({ "ids": vec![first.clone(); 501], "status": "CANCELLED" }),
    ] {
        app.put("/bookings/bulk/status", bad).await.refused(400, "VALIDATION");
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_22_what_became_of_a_refund_is_told(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [first, _, third, fourth] = several(&app).await;
    let path = format!("bookings/{first}/cancel");
    app.business_answers(
        "POST",
        &path,
        200,
        json!({ "success": true, "data": { "refundStatus": "failed" } }),
    )
    .await;
    let gone = json!({ "error": "Booking already cancelled", "message": "Booking already cancelled", "code": "BOOKING_CANCELLED" });
    app.business_answers("POST", &format!("bookings/{fourth}/cancel"), 409, gone)
        .await;
    let over = json!({ "error": "Cannot cancel a completed booking", "message": "Cannot cancel a completed booking", "code": "BOOKING_COMPLETED" });
    app.business_answers("POST", &format!("bookings/{third}/cancel"), 409, over)
        .await;

    let body = json!({ "refund": true, "reason": "strike\nof the crew" });
    let reply = app.put(&format!("/bookings/{first}/cancel"), body).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]["refundStatus"]),
        (200, &json!("failed"))
    );
    assert_eq!(reply.body["data"]["id"], json!(first));
    let asked = app.asked().await;
    assert_eq!(
        asked[0].2,
        json!({ "refund": true, "reason": "strike of the crew", "actor": app.grace.id })
    );
    let requests = app.business.received_requests().await.unwrap();
    assert_eq!(requests[0].headers["idempotency-key"], "cancel:BOOK-20270115-00001");

    let again = app.put(&format!("/bookings/{fourth}/cancel"), json!({})).await;
    again.refused(409, "BOOKING_CANCELLED");
    assert_eq!(again.body["message"], "Booking already cancelled");
    let late = app.put(&format!("/bookings/{third}/cancel"), json!({})).await;
    assert_eq!(
        (late.status.as_u16(), &late.body["message"]),
        (409, &json!("Cannot cancel a completed booking"))
    );
    for bad in [
        json!({ "refund": "yes" }),
        json!({ "reason": 7 }),
        json!({ "reason": "x".repeat(501) }),
    ] {
        app.put(&format!("/bookings/{first}/cancel"), bad)
            .await
            .refused(400, "VALIDATION");
    }
    app.put(&format!("/bookings/{NOBODY}/cancel"), json!({}))
        .await
        .refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn a_correction_is_asked_of_the_owner(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [first, ..] = several(&app).await;
    app.business_answers(
        "PUT",
        &format!("bookings/{first}/modify"),
        200,
        json!({ "success": true, "data": {} }),
    )
    .await;
    let change = json!({ "totalAmount": 90.5, "notes": null, "data": { "seat": "12A" }, "status": "CONFIRMED", "actor": NOBODY });
    let reply = app.put(&format!("/bookings/{first}/modify"), change).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let sent = json!({ "totalAmount": 90.5, "notes": null, "data": { "seat": "12A" }, "actor": app.grace.id });
    assert_eq!(app.asked().await[0].2, sent);
    app.put(&format!("/bookings/{first}/modify"), json!({ "status": "x" }))
        .await
        .refused(400, "VALIDATION");
    app.call(Method::PUT, &format!("/bookings/{first}/modify"))
        .send()
        .await
        .refused(400, "VALIDATION");
    app.put(&format!("/bookings/{NOBODY}/modify"), json!({ "notes": "x" }))
        .await
        .refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_16_what_fails_behind_us_is_told_in_general_words(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [first, second, ..] = several(&app).await;
    let secret = json!({ "error": "boom", "message": "postgres://secret@db", "stack": "at x" });
    for (id, status) in [(&first, 500), (&second, 401)] {
        app.business_answers("PUT", &format!("bookings/{id}/status"), status, secret.clone())
            .await;
        let reply = app
            .put(&format!("/bookings/{id}/status"), json!({ "status": "CANCELLED" }))
            .await;
        reply.refused(502, "UPSTREAM_FAILED");
        assert!(!reply.body.to_string().contains("secret"), "{}", reply.body);
    }
    app.app
        .execute("alter table voyage.bookings rename column kind to kinds")
        .await;
    app.app.execute("drop view voyage.booking_data").await;
    let away = app.get("/bookings").await;
    away.refused(503, "SERVICE_UNAVAILABLE");
    assert!(!away.body.to_string().contains("booking_data"), "{}", away.body);
}

#[sqlx::test(migrations = false)]
async fn without_the_business_pod_nothing_is_changed_and_reading_goes_on(pool: PgPool) {
    let app = AdminApp::with(pool, &[("VOYAGE_SERVICE_URL", "http://127.0.0.1:9")]).await;
    let [first, ..] = several(&app).await;
    let reply = app
        .put(&format!("/bookings/{first}/cancel"), json!({ "refund": true }))
        .await;
    reply.refused(503, "UPSTREAM_UNAVAILABLE");
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(app.read(&format!("/bookings/{first}")).await["status"], "CONFIRMED");
}

#[sqlx::test(migrations = false)]
async fn a_mail_is_sent_again_where_there_is_one(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let [first, second, third, fourth] = several(&app).await;
    let resend = async |id: &str| {
        app.call(Method::POST, &format!("/bookings/{id}/resend-email"))
            .send()
            .await
    };
    let reply = resend(&first).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]),
        (200, &json!({ "success": true })),
        "{}",
        reply.body
    );
    app.app.advance(1);
    assert_eq!(resend(&fourth).await.status, 200);
    let letters: Vec<String> =
        sqlx::query_scalar("select template from mail.messages where template like 'booking%' order by created_at, id")
            .fetch_all(&app.app.pool)
            .await
            .unwrap();
    assert_eq!(letters, ["booking-confirmed", "booking-cancelled"]);
    resend(&second).await.refused(409, "NO_LETTER");
    resend(&third).await.refused(409, "NO_RECIPIENT");
    resend(NOBODY).await.refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn without_a_mail_service_the_missing_setting_is_named(pool: PgPool) {
    let app = AdminApp::with(pool, &PRODUCTION).await;
    let [first, ..] = several(&app).await;
    let reply = app
        .call(Method::POST, &format!("/bookings/{first}/resend-email"))
        .send()
        .await;
    reply.refused(503, "MAIL_NOT_CONFIGURED");
    assert!(reply.body["message"].as_str().unwrap().contains("SENDGRID_API_KEY"));
}

/// Production sends no mail unless it is told how.
const PRODUCTION: [(&str, &str); 10] = [
    ("APP_ENV", "production"),
    ("JWT_SIGNING_KEY", "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI"),
    ("SERVICE_CLIENTS", "business-pod=a-secret-that-is-long-enough"),
    ("DATA_ENCRYPTION_KEY", "Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0M="),
    ("CORS_ORIGIN", "https://dreamscape.example"),
    ("REDIS_ENABLED", "false"),
    ("KAFKA_BROKERS", "127.0.0.1:9"),
    ("S3_ENDPOINT", "http://127.0.0.1:9"),
    ("S3_ACCESS_KEY", "test-access-key"),
    ("S3_SECRET_KEY", "test-secret-key-0"),
];
