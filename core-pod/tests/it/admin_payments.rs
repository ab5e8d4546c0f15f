//! Payments for administrators (core §5.12, payment §9).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::admin_support::{AdminApp, Booking, Payment};

const NOBODY: &str = "0192f0c1-0000-7000-8000-000000000000";

fn numbers(data: &Value) -> Vec<u32> {
    let payments = data["payments"].as_array().unwrap();
    let number = |payment: &Value| payment["paymentIntentId"].as_str().unwrap()[3..].parse().unwrap();
    payments.iter().map(number).collect()
}

async fn several(app: &AdminApp) -> Vec<String> {
    let ada = app.app.register("ada@example.com").await;
    let payments = [
        Payment {
            number: 1,
            user: &ada.id,
            at: "2027-01-10T10:00:00Z",
            ..Payment::default()
        },
        Payment {
            number: 2,
            status: "FAILED",
            minor: 25_050,
            at: "2027-01-11T10:00:00Z",
            ..Payment::default()
        },
        Payment {
            number: 3,
            minor: 500,
            currency: "JPY",
            at: "2027-01-12T10:00:00Z",
            ..Payment::default()
        },
        Payment {
            number: 4,
            status: "REFUNDED",
            refunded: 10_000,
            at: "2027-01-13T10:00:00Z",
            ..Payment::default()
        },
    ];
    let mut ids = Vec::new();
    for payment in payments {
        ids.push(app.payment(payment).await);
    }
    // one that the provider has not answered yet: nobody sees it
    app.app
        .execute(
            "insert into payment.payment_transactions (id, booking_id, booking_reference, user_id, amount_minor, currency,
                                                       currency_exponent, livemode, created_at, updated_at)
             values (gen_random_uuid(), gen_random_uuid(), 'BOOK-X', gen_random_uuid(), 1, 'EUR', 2, false, now(), now())",
        )
        .await;
    ids
}

#[sqlx::test(migrations = false)]
async fn payments_are_found_filtered_and_ordered(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    several(&app).await;
    let all = app.read("/payments").await;
    assert_eq!(
        all["pagination"],
        json!({ "page": 1, "limit": 20, "total": 4, "totalPages": 1 })
    );
    let row = &all["payments"][3];
    for key in [
        "id",
        "paymentIntentId",
        "bookingId",
        "bookingReference",
        "userId",
        "amount",
        "currency",
        "status",
        "paymentMethod",
        "stripeCustomerId",
        "createdAt",
        "updatedAt",
        "confirmedAt",
        "failedAt",
        "refundedAt",
        "failureReason",
        "metadata",
        "user",
    ] {
        assert!(row.get(key).is_some(), "no {key} in {row}");
    }
    assert_eq!(
        (&row["amount"], &row["user"]["email"]),
        (&json!(100.0), &json!("ada@example.com"))
    );
    assert_eq!(
        (&all["payments"][1]["amount"], &all["payments"][1]["user"]),
        (&json!(500.0), &Value::Null)
    );
    for (query, found) in [
        ("search=pi_2", &[2][..]),
        ("search=00003", &[3]),
        ("search=PI_", &[4, 3, 2, 1]),
        ("search=p%25", &[]),
        ("status=FAILED", &[2]),
        ("status=refunded", &[4]),
        ("startDate=2027-01-11&endDate=2027-01-12", &[3, 2]),
        ("minAmount=250.5", &[3, 2]),
        ("maxAmount=100.00", &[4, 1]),
        ("sortBy=amount&sortOrder=asc", &[4, 1, 2, 3]),
        ("sortBy=nonsense&sortOrder=asc&limit=1", &[1]),
        ("sortBy=user&sortOrder=asc&limit=1", &[1]),
        ("limit=3&page=2", &[1]),
    ] {
        assert_eq!(
            numbers(&app.read(&format!("/payments?{query}")).await),
            found,
            "{query}"
        );
    }
    for query in ["status=LOST", "startDate=x", "minAmount=-1", "endDate=2027-13-01"] {
        app.get(&format!("/payments?{query}")).await.refused(400, "VALIDATION");
    }
}

#[sqlx::test(migrations = false)]
async fn a_payment_comes_with_its_traveller_and_its_booking(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ids = several(&app).await;
    app.booking(Booking {
        number: 1,
        status: "DRAFT",
        ..Booking::default()
    })
    .await;
    let detail = app.read(&format!("/payments/{}", ids[0])).await;
    assert_eq!(
        (
            &detail["booking"]["reference"],
            &detail["booking"]["status"],
            &detail["booking"]["totalAmount"]
        ),
        (&json!("BOOK-20270115-00001"), &json!("DRAFT"), &json!(100.0))
    );
    assert!(detail["user"].get("username").is_some());
    assert_eq!(app.read(&format!("/payments/{}", ids[1])).await["booking"], Value::Null);
    for id in [NOBODY, "x"] {
        let reply = app.get(&format!("/payments/{id}")).await;
        reply.refused(404, "NOT_FOUND");
        assert_eq!(reply.body["message"], "Payment not found");
    }
}

#[sqlx::test(migrations = false)]
async fn a_status_is_asked_of_the_owner_with_what_was_seen_and_why(pool: PgPool) {
    let app = AdminApp::start(pool).await;
    let ids = several(&app).await;
    for id in &ids[..2] {
        app.business_answers(
            "PUT",
            &format!("payments/{id}/status"),
            200,
            json!({ "success": true, "data": {} }),
        )
        .await;
    }
    let contradiction = json!({ "error": "The payment provider says otherwise", "message": "At the payment provider the payment is succeeded",
                                "code": "PROVIDER_CONTRADICTS" });
    app.business_answers("PUT", &format!("payments/{}/status", ids[2]), 409, contradiction)
        .await;

    let reply = app
        .put(&format!("/payments/{}/status", ids[0]), json!({ "status": "FAILED" }))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]["id"]),
        (200, &json!(ids[0]))
    );
    let body = json!({ "status": "SUCCEEDED", "reason": "seen at the bank", "expectedStatus": "PENDING" });
    app.put(&format!("/payments/{}/status", ids[1]), body).await;
    let asked = app.asked().await;
    assert_eq!(
        asked[0].2,
        json!({ "status": "FAILED", "expected": "SUCCEEDED", "reason": "no reason given", "actor": app.grace.id,
                "ipAddress": "203.0.113.7" })
    );
    assert_eq!(
        (&asked[1].2["expected"], &asked[1].2["reason"]),
        (&json!("PENDING"), &json!("seen at the bank"))
    );
    app.put(&format!("/payments/{}/status", ids[2]), json!({ "status": "PENDING" }))
        .await
        .refused(409, "PROVIDER_CONTRADICTS");

    for (body, text) in [
        (json!({}), "Status is required"),
        (json!({ "status": "CANCELED" }), "Invalid status"),
        (json!({ "status": "PROCESSING" }), "Invalid status"),
        (json!({ "status": "LOST" }), "Invalid status"),
        (json!({ "status": "FAILED", "expectedStatus": "x" }), "Invalid status"),
    ] {
        let reply = app.put(&format!("/payments/{}/status", ids[0]), body).await;
        reply.refused(400, "VALIDATION");
        assert_eq!(reply.body["message"], text);
    }
    app.put(
        &format!("/payments/{}/status", ids[0]),
        json!({ "status": "FAILED", "reason": 7 }),
    )
    .await
    .refused(400, "VALIDATION");
    app.put(&format!("/payments/{NOBODY}/status"), json!({ "status": "FAILED" }))
        .await
        .refused(404, "NOT_FOUND");
    app.app.services.flush_audit().await.unwrap();
    let logged = "select count(*) from users.data_access_logs
                  where resource = 'Payment' and action = 'UPDATE' and reason = 'seen at the bank' and after_digest is not null";
    assert_eq!(app.app.count(logged).await, 1);
}
