//! The figures of the dashboard (core §5.12). The clock stands at 2027-01-15T08:00:00Z.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::admin_support::{AdminApp, Booking, Payment};

/// This week: three bookings (two won), 9 searches, 100 EUR - 25 EUR and 500 JPY; the week before: one booking, 2 searches, 50 EUR.
async fn two_weeks(app: &AdminApp) {
    let ada = app.app.register("ada@example.com").await;
    app.app
        .execute("update auth.users set is_verified = true where email = 'ada@example.com'")
        .await;
    app.app
        .execute("update auth.users set created_at = '2027-01-03T00:00:00Z' where email = 'grace@example.com'")
        .await;
    let (now, before) = ("2027-01-14T12:00:00Z", "2027-01-05T12:00:00Z");
    for (number, status, destination, at) in [
        (1, "CONFIRMED", Some("JFK"), now),
        (2, "COMPLETED", Some("FCO"), now),
        (3, "DRAFT", Some("JFK"), now),
        (4, "CONFIRMED", Some("JFK"), before),
        (5, "PENDING", Some("JFK"), "2027-01-15T07:00:00Z"),
    ] {
        app.booking(Booking {
            number,
            status,
            destination,
            user: &ada.id,
            at,
            ..Booking::default()
        })
        .await;
    }
    app.searches(&ada.id, 9, now).await;
    app.searches(&ada.id, 2, before).await;
    app.app.advance(1);
    for payment in [
        Payment {
            number: 1,
            user: &ada.id,
            refunded: 2_500,
            at: now,
            ..Payment::default()
        },
        Payment {
            number: 2,
            status: "REFUNDED",
            refunded: 10_000,
            at: now,
            ..Payment::default()
        },
        Payment {
            number: 3,
            status: "FAILED",
            at: now,
            ..Payment::default()
        },
        Payment {
            number: 4,
            minor: 500,
            currency: "JPY",
            at: now,
            ..Payment::default()
        },
        Payment {
            number: 5,
            minor: 5_000,
            at: before,
            ..Payment::default()
        },
        Payment {
            number: 6,
            minor: 1_001,
            at: "2027-01-15T00:00:00Z",
            ..Payment::default()
        },
    ] {
        app.payment(payment).await;
    }
}

#[sqlx::test(migrations = false)]
async fn figures_compare_a_period_with_the_one_before_it(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    two_weeks(&app).await;
    let stats = app.read("/dashboard/stats").await;
    assert_eq!(
        stats["users"],
        json!({ "total": 2, "active": 1, "inactive": 1, "newInPeriod": 1, "evolution": 0 })
    );
    assert_eq!(
        (&stats["bookings"]["total"], &stats["bookings"]["evolution"]),
        (&json!(4), &json!(300))
    );
    assert_eq!(
        (
            &stats["bookings"]["byStatus"]["CONFIRMED"],
            &stats["bookings"]["byStatus"]["FAILED"]
        ),
        (&json!(1), &json!(0))
    );
    // 75.00 and 10.01; the week before 50.00
    assert_eq!(
        stats["revenue"],
        json!({ "total": 85.01, "currency": "EUR", "evolution": 70, "byCurrency": { "EUR": 85.01, "JPY": 500.0 } })
    );
    assert_eq!(stats["conversionRate"], json!({ "rate": 22.22, "evolution": -27.78 }));
    assert_eq!(stats["avgBookingValue"], json!({ "amount": 21.25, "currency": "EUR" }));
    assert_eq!(app.read("/stats").await, stats, "the alias");

    let day = app.read("/dashboard/stats?period=24h").await;
    assert_eq!(
        (&day["bookings"]["total"], &day["revenue"]["total"]),
        (&json!(4), &json!(85.01))
    );
    let custom = app
        .read("/dashboard/stats?period=custom&startDate=2027-01-05&endDate=2027-01-05")
        .await;
    assert_eq!(
        (&custom["bookings"]["total"], &custom["revenue"]["total"]),
        (&json!(1), &json!(50.0))
    );
    assert_eq!(custom["revenue"]["evolution"], 100);
    let odd = app.read("/dashboard/stats?period=eternity").await;
    assert_eq!(odd, stats, "the fallback is seven days");
    for query in [
        "period=custom",
        "period=custom&startDate=2027-01-01",
        "period=custom&startDate=x&endDate=y",
    ] {
        app.get(&format!("/dashboard/stats?{query}"))
            .await
            .refused(400, "VALIDATION");
    }
}

#[sqlx::test(migrations = false)]
async fn figures_are_good_for_a_minute(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let before = app.read("/dashboard/stats?period=30d").await;
    app.app.register("ada@example.com").await;
    assert_eq!(app.read("/dashboard/stats?period=30d").await, before);
    let other = app.read("/dashboard/stats?period=24h").await;
    assert_eq!(other["users"]["total"], 2, "another question has another answer");
}

#[sqlx::test(migrations = false)]
async fn charts_show_days_places_and_the_newest_payments(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    two_weeks(&app).await;
    assert_eq!(
        app.read("/dashboard/revenue-chart").await,
        json!([{ "date": "2027-01-14", "revenue": 75.0 }, { "date": "2027-01-15", "revenue": 10.01 }])
    );
    let month = app.read("/dashboard/revenue-chart?period=30d").await;
    assert_eq!(month.as_array().unwrap().len(), 3);
    assert_eq!(
        app.read("/dashboard/bookings-by-destination").await,
        json!([{ "destination": "JFK", "count": 2 }, { "destination": "FCO", "count": 1 }]),
        "drafts do not count"
    );
    let one = app.read("/dashboard/bookings-by-destination?limit=1&period=30d").await;
    assert_eq!(one, json!([{ "destination": "JFK", "count": 3 }]));

    let newest = app.read("/dashboard/recent-transactions?limit=2").await;
    let newest = newest.as_array().unwrap();
    assert_eq!(newest.len(), 2);
    assert_eq!(
        (&newest[0]["amount"], &newest[0]["userEmail"], &newest[0]["userName"]),
        (&json!(10.01), &json!("Unknown"), &json!("Unknown"))
    );
    let all = app.read("/dashboard/recent-transactions?limit=1000").await;
    let ada = all
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["userEmail"] == "ada@example.com")
        .unwrap();
    assert_eq!(
        (&ada["userName"], &ada["bookingReference"]),
        (&json!("Ada Lovelace"), &json!("BOOK-20270115-00001"))
    );
    for key in ["id", "currency", "status", "paymentMethod", "createdAt"] {
        assert!(ada.get(key).is_some(), "{key}");
    }
    app.get("/dashboard/revenue-chart?period=custom")
        .await
        .refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn an_empty_platform_has_figures_too(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let stats = app.read("/dashboard/stats").await;
    assert_eq!(stats["conversionRate"], json!({ "rate": 0.0, "evolution": 0.0 }));
    assert_eq!(stats["revenue"]["byCurrency"], json!({}));
    for path in ["revenue-chart", "bookings-by-destination", "recent-transactions"] {
        assert_eq!(app.read(&format!("/dashboard/{path}")).await, Value::Array(Vec::new()));
    }
}
