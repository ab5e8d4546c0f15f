//! Travel onboarding (core §5.5).

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Reply, TestApp, Traveller};

const PATH: &str = "/api/v1/users/onboarding";

async fn ask(app: &TestApp, ada: &Traveller, method: Method, tail: &str, body: Value) -> Reply {
    let call = app.call(method, &format!("{PATH}{tail}")).bearer(&ada.token);
    if body.is_null() {
        call.send().await
    } else {
        call.json(&body).send().await
    }
}

async fn save(app: &TestApp, ada: &Traveller, step: &str, data: Value) -> Reply {
    let body = json!({ "step": step, "data": data, "markCompleted": true });
    ask(app, ada, Method::PUT, "/step", body).await
}

async fn complete_required(app: &TestApp, ada: &Traveller) {
    for step in ["destinations", "budget", "travel_types", "accommodation", "transport"] {
        assert_eq!(save(app, ada, step, json!({})).await.status, 200, "{step}");
    }
}

#[sqlx::test(migrations = false)]
async fn onboarding_goes_from_its_beginning_to_its_end_and_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    for (method, tail) in [
        (Method::GET, "/"),
        (Method::GET, "/progress"),
        (Method::POST, "/complete"),
        (Method::DELETE, "/"),
    ] {
        let missing = ask(&app, &ada, method, tail, Value::Null).await;
        missing.refused(404, "NOT_FOUND");
        assert_eq!(missing.body["message"], "Onboarding profile not found");
    }
    let early = save(&app, &ada, "budget", json!({})).await;
    early.refused(404, "NOT_FOUND");
    assert_eq!(
        early.body["message"],
        "Onboarding profile not found. Create profile first."
    );

    let begun = ask(&app, &ada, Method::POST, "/", json!({ "ignored": true })).await;
    assert_eq!(
        (begun.status.as_u16(), &begun.body["message"]),
        (200, &json!("Onboarding profile created successfully"))
    );
    let data = &begun.body["data"];
    assert_eq!(
        (
            &data["userId"],
            &data["currentStep"],
            &data["stepData"],
            &data["version"]
        ),
        (&json!(ada.id), &json!("destinations"), &json!({}), &json!(1))
    );
    assert_eq!(
        data["user"],
        json!({ "onboardingCompleted": false, "onboardingCompletedAt": null })
    );
    assert_eq!((&data["travelTypes"], &data["travelStyle"]), (&json!([]), &Value::Null));
    assert!(
        data.get("globalBudgetRange").is_none(),
        "JSON columns without a value are left out"
    );
    let again = ask(&app, &ada, Method::POST, "/", Value::Null).await;
    again.refused(409, "ONBOARDING_EXISTS");
    assert_eq!(again.body["message"], "Onboarding profile already exists");

    app.advance(60);
    let budget = json!({ "globalBudgetRange": { "min": 1000, "max": 5000, "currency": "EUR" } });
    let saved = save(&app, &ada, "budget", budget.clone()).await;
    assert_eq!(saved.body["message"], "Step 'budget' updated successfully");
    assert_eq!(saved.body["data"]["globalBudgetRange"], budget["globalBudgetRange"]);
    assert_eq!(saved.body["data"]["completedSteps"], json!(["budget"]));
    assert_eq!(saved.body["data"]["stepData"]["budget"], budget);
    assert_eq!(saved.body["data"]["lastUpdatedAt"], "2027-01-15T08:01:00.000Z");
    assert_eq!(saved.body["data"]["startedAt"], "2027-01-15T08:00:00.000Z");

    let incomplete = ask(&app, &ada, Method::POST, "/complete", Value::Null).await;
    incomplete.refused(400, "VALIDATION");
    assert_eq!(
        incomplete.body["message"],
        "Cannot complete onboarding. Missing required steps: destinations, travel_types, accommodation, transport"
    );
    assert_eq!(
        app.profile(&ada.token).await.body["data"]["user"]["onboardingCompleted"],
        false
    );

    complete_required(&app, &ada).await;
    let progress = ask(&app, &ada, Method::GET, "/progress", Value::Null).await.body["data"].clone();
    assert_eq!(
        (&progress["totalSteps"], &progress["progressPercentage"]),
        (&json!(13), &json!(38))
    );
    assert_eq!(
        (&progress["nextRecommendedStep"], &progress["currentStep"]),
        (&json!("timing"), &json!("timing"))
    );
    assert!(progress.get("completedAt").is_none());

    let done = ask(&app, &ada, Method::POST, "/complete", Value::Null).await;
    let at = done.body["data"]["completedAt"].clone();
    assert_eq!(
        done.body,
        json!({
            "success": true, "message": "Onboarding completed successfully",
            "data": {
                "message": "Onboarding completed successfully", "completedAt": at,
                "user": { "id": ada.id, "onboardingCompleted": true, "onboardingCompletedAt": at },
                "profile": { "isCompleted": true, "completedAt": at },
            },
        })
    );
    let account = app.profile(&ada.token).await.body["data"]["user"].clone();
    assert_eq!(
        (&account["onboardingCompleted"], &account["onboardingCompletedAt"]),
        (&json!(true), &at)
    );
    app.advance(60);
    let repeated = ask(&app, &ada, Method::POST, "/complete", Value::Null).await;
    assert_eq!(repeated.body["data"]["completedAt"], at, "completed once");
    let progress = ask(&app, &ada, Method::GET, "/progress", Value::Null).await.body["data"].clone();
    assert_eq!(
        (&progress["progressPercentage"], &progress["isCompleted"]),
        (&json!(100), &json!(true))
    );
    assert!(progress.get("nextRecommendedStep").is_none());

    let gone = ask(&app, &ada, Method::DELETE, "", Value::Null).await;
    assert_eq!((gone.status.as_u16(), gone.body.get("data")), (200, Some(&Value::Null)));
    assert_eq!(
        app.profile(&ada.token).await.body["data"]["user"]["onboardingCompleted"],
        false
    );
    ask(&app, &ada, Method::GET, "/", Value::Null)
        .await
        .refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn every_saved_step_and_the_completion_tell_the_ai_service_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    ask(&app, &ada, Method::POST, "", Value::Null).await;
    assert!(app.events("users").await.is_empty());
    complete_required(&app, &ada).await;
    save(&app, &ada, "timing", json!({ "dateFlexibility": "odd" }))
        .await
        .refused(400, "VALIDATION");
    for _ in 0..2 {
        ask(&app, &ada, Method::POST, "/complete", Value::Null).await;
    }
    let events = app.events("users").await;
    assert_eq!(
        events.len(),
        6,
        "five steps, one completion, nothing for what was refused or repeated"
    );
    assert!(
        events
            .iter()
            .all(|(kind, event)| kind == "user.preferences.updated" && event["payload"]["userId"] == ada.id.as_str())
    );
    assert_eq!(events[1].1["payload"]["preferences"]["onboarding"]["step"], "budget");
    let last = &events[5].1["payload"];
    assert_eq!(last["preferences"]["onboarding"]["isCompleted"], true);
    assert!(last["updatedAt"].is_string());
    assert_eq!(
        app.count("select count(*) from users.analytics").await,
        0,
        "no consent, no statistics"
    );
}

#[sqlx::test(migrations = false)]
async fn a_completion_is_counted_with_the_consent_to_analytics(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    crate::told::apply(&app, shared::events::Topic::UserCreated, json!({ "userId": ada.id }))
        .await
        .unwrap();
    app.execute("update users.consents set analytics = true").await;
    ask(&app, &ada, Method::POST, "", Value::Null).await;
    complete_required(&app, &ada).await;
    ask(&app, &ada, Method::POST, "/complete", Value::Null).await;
    assert_eq!(
        app.count("select count(*) from users.analytics where event = 'onboarding_completed'")
            .await,
        1
    );
}

#[sqlx::test(migrations = false)]
async fn the_names_of_the_documents_work_as_well(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    assert_eq!(ask(&app, &ada, Method::POST, "/init", Value::Null).await.status, 200);
    let put = ask(
        &app,
        &ada,
        Method::PUT,
        "/",
        json!({ "step": "climate", "data": { "climatePreferences": ["warm"] } }),
    )
    .await;
    assert_eq!(
        (
            &put.body["data"]["climatePreferences"],
            &put.body["data"]["completedSteps"]
        ),
        (&json!(["warm"]), &json!([]))
    );
    let post = ask(
        &app,
        &ada,
        Method::POST,
        "/progress",
        json!({ "step": "climate", "data": {} }),
    )
    .await;
    assert_eq!(post.body["data"]["completedSteps"], json!(["climate"]));
    assert_eq!(
        post.body["data"]["climatePreferences"],
        json!(["warm"]),
        "what is not named stays"
    );
    let short = app.get("/api/onboarding/progress").bearer(&ada.token).send().await;
    assert_eq!(short.body["data"]["completedSteps"], json!(["climate"]));
    let own = ask(
        &app,
        &ada,
        Method::PUT,
        "/step",
        json!({ "step": "style_comfort", "data": { "comfortLevel": "LUXURY" }, "markCompleted": true }),
    )
    .await;
    assert_eq!(own.body["data"]["completedSteps"], json!(["climate", "style_comfort"]));
    let progress = ask(&app, &ada, Method::GET, "/progress", Value::Null).await;
    assert_eq!(
        progress.body["data"]["progressPercentage"], 8,
        "a step of the client's own does not count"
    );
}

#[sqlx::test(migrations = false)]
async fn what_is_not_valid_is_named_and_nothing_is_saved(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    ask(&app, &ada, Method::POST, "", Value::Null).await;
    let put = async |body: Value| ask(&app, &ada, Method::PUT, "/step", body).await;
    for (body, text) in [
        (json!({}), "Step is required"),
        (json!({ "step": "", "data": {} }), "Step is required"),
        (json!({ "step": 5, "data": {} }), "Step is required"),
        (json!({ "step": "budget" }), "Step data is required"),
        (json!({ "step": "budget", "data": null }), "Step data is required"),
        (json!({ "step": "budget", "data": [] }), "Step data is required"),
        (json!({ "step": "a b", "data": {} }), "Validation failed"),
        (json!({ "step": "budget", "data": {}, "markCompleted": "yes" }), ""),
        (json!([]), ""),
    ] {
        let refused = put(body.clone()).await;
        refused.refused(400, "VALIDATION");
        assert!(
            text.is_empty() || refused.body["message"] == text,
            "{body}: {}",
            refused.body
        );
    }
    let data = json!({
        "globalBudgetRange": { "min": -5, "max": "a lot", "currency": 7 }, "travelTypes": ["BEACH"], "comfortLevel": "GRAND",
    });
    let refused = put(json!({ "step": "budget", "data": data, "markCompleted": true })).await;
    refused.refused(400, "VALIDATION");
    let errors = refused.body["validationErrors"].as_array().unwrap();
    let fields: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "globalBudgetRange.min",
            "globalBudgetRange.max",
            "globalBudgetRange.currency",
            "comfortLevel"
        ]
    );
    assert!(
        errors
            .iter()
            .all(|error| error["step"] == "budget" && error["error"].is_string())
    );
    assert_eq!(
        (&errors[0]["value"], &errors[3]["value"]),
        (&json!(-5), &json!("GRAND"))
    );
    let read = ask(&app, &ada, Method::GET, "", Value::Null).await;
    assert_eq!(
        (&read.body["data"]["completedSteps"], &read.body["data"]["travelTypes"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(read.body["data"]["stepData"], json!({}));
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_05_a_step_writes_nothing_but_answers(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    for traveller in [&ada, &eve] {
        ask(&app, traveller, Method::POST, "", Value::Null).await;
    }
    let before = ask(&app, &ada, Method::GET, "", Value::Null).await.body["data"].clone();
    let attack = json!({
        "user": { "update": { "role": "ADMIN", "isVerified": true } }, "userId": eve.id, "user_id": eve.id, "id": eve.id,
        "role": "ADMIN", "isCompleted": true, "is_completed": true, "completedSteps": ["destinations", "budget"],
        "completed_steps": ["x"], "completedAt": "2020-01-01T00:00:00Z", "version": 99, "createdAt": "2020-01-01T00:00:00Z",
        "updatedAt": "2020-01-01T00:00:00Z", "step_data": { "x": 1 }, "travelStyle": "PLANNED", "travel_types": ["BEACH"],
    });
    let saved = save(&app, &ada, "travel_types", attack.clone()).await;
    assert_eq!(saved.status, 200, "{}", saved.body);
    let after = saved.body["data"].clone();
    for kept in [
        "id",
        "userId",
        "isCompleted",
        "completedAt",
        "version",
        "createdAt",
        "user",
        "travelTypes",
    ] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    assert_eq!(after["completedSteps"], json!(["travel_types"]));
    assert_eq!(after["travelStyle"], "PLANNED", "the answer among them is saved");
    assert_eq!(after["stepData"]["travel_types"], json!({ "travelStyle": "PLANNED" }));
    assert_eq!(
        app.count("select count(*) from auth.users where role <> 'USER' or is_verified")
            .await,
        0
    );
    let others = ask(&app, &eve, Method::GET, "", Value::Null).await.body["data"].clone();
    assert_eq!(
        (&others["travelStyle"], &others["completedSteps"]),
        (&Value::Null, &json!([]))
    );
    // the step itself is no way in either
    let step = json!({ "step": "user", "data": attack, "markCompleted": true });
    assert_eq!(
        ask(&app, &ada, Method::PUT, "/step", step).await.body["data"]["isCompleted"],
        false
    );
}

#[sqlx::test(migrations = false)]
async fn steps_saved_at_the_same_time_are_all_kept(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    ask(&app, &ada, Method::POST, "", Value::Null).await;
    let steps = [
        (
            "destinations",
            json!({ "preferredDestinations": { "countries": ["FR"] } }),
        ),
        ("budget", json!({ "budgetFlexibility": "STRICT" })),
        ("travel_types", json!({ "travelTypes": ["BEACH"] })),
        ("timing", json!({ "dateFlexibility": "FIXED" })),
        ("accommodation", json!({ "accommodationLevel": "BASIC" })),
        ("transport", json!({ "preferredAirlines": ["AF"] })),
        ("activities", json!({ "activityLevel": "LOW" })),
        ("group_travel", json!({ "groupSize": 4 })),
        ("climate", json!({ "climatePreferences": ["warm"] })),
        ("experience", json!({ "riskTolerance": "MODERATE" })),
    ];
    let at_once = steps
        .iter()
        .chain(&steps)
        .map(|(step, data)| save(&app, &ada, step, data.clone()));
    for saved in futures_util::future::join_all(at_once).await {
        assert_eq!(saved.status, 200, "{}", saved.body);
    }
    let read = ask(&app, &ada, Method::GET, "", Value::Null).await.body["data"].clone();
    let mut completed: Vec<_> = read["completedSteps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step.as_str().unwrap())
        .collect();
    completed.sort_unstable();
    let mut expected = steps.each_ref().map(|(step, _)| *step);
    expected.sort_unstable();
    assert_eq!(completed, expected, "each step once");
    assert_eq!(read["stepData"].as_object().unwrap().len(), 10);
    for (step, data) in &steps {
        for (name, value) in data.as_object().unwrap() {
            assert_eq!(&read[name], value, "{step}");
        }
    }
}

#[sqlx::test(migrations = false)]
async fn onboarding_begins_once_however_often_it_is_begun_at_the_same_time(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let begun = futures_util::future::join_all((0..8).map(|_| ask(&app, &ada, Method::POST, "", Value::Null))).await;
    assert_eq!(begun.iter().filter(|reply| reply.status == 200).count(), 1);
    assert_eq!(begun.iter().filter(|reply| reply.status == 409).count(), 7);
}

#[sqlx::test(migrations = false)]
async fn the_number_of_steps_is_bounded(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    ask(&app, &ada, Method::POST, "", Value::Null).await;
    for number in 0..40 {
        assert_eq!(save(&app, &ada, &format!("own-{number}"), json!({})).await.status, 200);
    }
    save(&app, &ada, "own-40", json!({})).await.refused(400, "VALIDATION");
    assert_eq!(save(&app, &ada, "own-3", json!({})).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn every_onboarding_route_needs_a_caller(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (method, tail) in [
        (Method::GET, ""),
        (Method::POST, ""),
        (Method::PUT, ""),
        (Method::DELETE, ""),
        (Method::POST, "/init"),
        (Method::PUT, "/step"),
        (Method::GET, "/progress"),
        (Method::POST, "/progress"),
        (Method::POST, "/complete"),
    ] {
        let call = app.call(method.clone(), &format!("{PATH}{tail}"));
        call.send().await.refused(401, "TOKEN_MISSING");
    }
}
