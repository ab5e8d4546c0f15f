//! The queue of outgoing mail, its ways out, and the consumer of mail requests.
//!
//! contract: core §9, §13 line 15, §7

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use core_pod::{
    auth::Auth,
    mail::{BookingFacts, BookingKind, Letter, Mail, NewMail, Outgoing, SendError, Token, Transport},
};
use serde_json::{Value, json};
use shared::{
    db::Db,
    events::{
        Envelope, NewEvent, Topic,
        consumer::{Consumer, Failure, Handler},
        kafka::{KafkaConfig, Producer},
        outbox,
        relay::Relay,
    },
    id::UserId,
    lifecycle::Shutdown,
    money::{Currency, Money},
    sources::{Clock as _, Sources},
};
use sqlx::PgPool;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use crate::{
    smtp_peer::{CA_FILE, SmtpPeer},
    support::{TestApp, eventually},
};

const SENDGRID_KEY: &str = "SG.0123456789.abcdefghij";

fn booking(reference: &str) -> Letter {
    Letter::BookingConfirmed(BookingFacts {
        reference: reference.to_owned(),
        kind: Some(BookingKind::Flight),
        destination: Some("Tokyo".to_owned()),
        amount: Some(Money::new(123_450, Currency::EUR).into()),
    })
}

async fn enqueue(app: &TestApp, mail: &NewMail) -> bool {
    let mut tx = Db::<Auth>::new(app.pool.clone()).begin().await.unwrap();
    let added = app.services.mail.mailer().enqueue(&mut tx, mail).await.unwrap();
    tx.commit().await.unwrap();
    added
}

/// Sends all that is due and gives what is in the mailbox, newest first.
async fn delivered(app: &TestApp) -> Vec<Outgoing> {
    let worker = app.services.mail.worker();
    while worker.run_once().await.unwrap() > 0 {}
    app.services.mail.mailbox().unwrap().mails()
}

async fn states(app: &TestApp) -> BTreeMap<String, i64> {
    sqlx::query_as::<_, (String, i64)>("select state, count(*) from mail.messages group by state")
        .fetch_all(&app.pool)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

/// A way out that does as it is told.
#[derive(Default)]
struct Told {
    answers: Mutex<Vec<Result<(), SendError>>>,
    sent: Mutex<Vec<Outgoing>>,
    tries: AtomicUsize,
    hangs: bool,
}

impl Told {
    fn answering(answers: impl IntoIterator<Item = Result<(), SendError>>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            ..Self::default()
        })
    }

    fn sent(&self) -> Vec<Outgoing> {
        self.sent.lock().unwrap().clone()
    }
}

#[async_trait]
impl Transport for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.is_empty() { Ok(()) } else { answers.remove(0) }
        };
        tokio::task::yield_now().await;
        if answer.is_ok() {
            self.sent.lock().unwrap().push(mail.clone());
        }
        answer
    }
}

#[sqlx::test(migrations = false)]
async fn a_mail_and_the_change_it_tells_of_commit_together(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let mail = NewMail::new("k1", "ada@example.com", booking("BOOK-1"));
    let mut tx = Db::<Auth>::new(pool).begin().await.unwrap();
    assert!(app.services.mail.mailer().enqueue(&mut tx, &mail).await.unwrap());
    tx.rollback().await.unwrap();
    assert!(delivered(&app).await.is_empty());

    assert!(enqueue(&app, &mail).await);
    assert_eq!(delivered(&app).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn of_several_mails_with_one_key_the_first_is_sent(pool: PgPool) {
    let app = TestApp::start(pool).await;
    assert!(enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await);
    assert!(!enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-2"))).await);
    let mails = delivered(&app).await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject.contains("BOOK-1"), "{}", mails[0].subject);
    assert!(
        !enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-3"))).await,
        "after it was sent"
    );
}

#[sqlx::test(migrations = false)]
async fn nothing_of_a_mail_can_be_read_in_the_database_and_nothing_is_left_once_it_is_sent(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let letter = Letter::VerifyEmail {
        token: Token::new("the-secret-of-the-link"),
    };
    enqueue(
        &app,
        &NewMail::new("k", "ada@example.com", letter).greeting(Some("Ada")),
    )
    .await;
    let waiting: (String, Vec<u8>) = sqlx::query_as("select to_jsonb(m)::text, sealed from mail.messages m")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    for secret in ["the-secret-of-the-link", "ada@example.com", "Ada"] {
        assert!(!waiting.0.contains(secret), "{secret}");
        assert!(
            !waiting.1.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "{secret}"
        );
    }
    let mails = delivered(&app).await;
    assert!(mails[0].text.contains("#token=the-secret-of-the-link"));
    assert_eq!(
        app.count("select count(*) from mail.messages where state = 'sent' and sealed is null")
            .await,
        1
    );
}

#[sqlx::test(migrations = false)]
async fn any_number_of_workers_send_each_mail_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for number in 0..60 {
        enqueue(
            &app,
            &NewMail::new(format!("k{number}"), "ada@example.com", booking("BOOK-1")),
        )
        .await;
    }
    let told = Told::answering([]);
    let worker = app.services.mail.worker_over(told.clone());
    let drain = || async { while worker.run_once().await.unwrap() > 0 {} };
    tokio::join!(drain(), drain(), drain(), drain());
    let mut ids: Vec<String> = told.sent().into_iter().map(|mail| mail.message_id).collect();
    assert_eq!(ids.len(), 60);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 60);
    assert_eq!(states(&app).await, BTreeMap::from([("sent".to_owned(), 60)]));
}

#[sqlx::test(migrations = false)]
async fn a_mail_whose_worker_was_killed_is_sent_by_another_under_the_same_message_id(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    let hanging = Arc::new(Told {
        hangs: true,
        ..Told::default()
    });
    let doomed = app.services.mail.worker_over(hanging.clone());
    let attempt = tokio::spawn(async move { doomed.run_once().await });
    eventually("the mail is being sent", async || {
        hanging.tries.load(Ordering::SeqCst) == 1
    })
    .await;
    attempt.abort();
    assert!(attempt.await.is_err());

    let told = Told::answering([]);
    let other = TestApp::again(pool, &[]).services.mail.worker_over(told.clone());
    assert_eq!(other.run_once().await.unwrap(), 0, "the claim still holds");
    let id: uuid::Uuid = sqlx::query_scalar("select id from mail.messages")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    app.execute("update mail.messages set next_attempt_at = next_attempt_at - interval '61 seconds'")
        .await;
    assert_eq!(other.run_once().await.unwrap(), 1);
    assert_eq!(told.sent()[0].message_id, format!("<{id}@dreamscape.app>"));
}

#[sqlx::test(migrations = false)]
async fn a_passing_failure_is_tried_again_later_and_ever_later(pool: PgPool) {
    let app = TestApp::start(pool).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    let told = Told::answering([Err(SendError::later("smtp 451")), Err(SendError::later("smtp 451"))]);
    let worker = app.services.mail.worker_over(told.clone());
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!(worker.run_once().await.unwrap(), 0, "not at once");
    app.advance(3);
    assert_eq!(
        worker.run_once().await.unwrap(),
        0,
        "the first pause is about five seconds"
    );
    app.advance(4);
    assert_eq!(worker.run_once().await.unwrap(), 1);
    app.advance(7);
    assert_eq!(worker.run_once().await.unwrap(), 0, "the second is about ten");
    app.advance(6);
    assert_eq!(worker.run_once().await.unwrap(), 1);
    assert_eq!(told.sent().len(), 1);
    assert_eq!(states(&app).await, BTreeMap::from([("sent".to_owned(), 1)]));
}

#[sqlx::test(migrations = false)]
async fn a_mail_that_never_leaves_is_given_up_after_a_bounded_number_of_attempts(pool: PgPool) {
    let app = TestApp::start(pool).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    let told = Told::answering(std::iter::repeat_n(Err(SendError::later("smtp 451")), 100));
    let worker = app.services.mail.worker_over(told.clone());
    for _ in 0..40 {
        worker.run_once().await.unwrap();
        app.advance(75 * 60);
    }
    assert_eq!(told.tries.load(Ordering::SeqCst), 24);
    assert_eq!(states(&app).await, BTreeMap::from([("dead".to_owned(), 1)]));
    assert_eq!(
        app.count("select count(*) from mail.messages where sealed is not null")
            .await,
        1,
        "for a repair"
    );
    app.advance(8 * 24 * 3600);
    worker.tidy().await.unwrap();
    assert_eq!(
        app.count("select count(*) from mail.messages where sealed is not null")
            .await,
        0
    );
    app.advance(24 * 24 * 3600);
    worker.tidy().await.unwrap();
    assert_eq!(states(&app).await, BTreeMap::new());
}

#[sqlx::test(migrations = false)]
async fn a_refused_mail_is_given_up_at_once_and_wiped(pool: PgPool) {
    let app = TestApp::start(pool).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    let worker = app
        .services
        .mail
        .worker_over(Told::answering([Err(SendError::Never("smtp 550".to_owned()))]));
    worker.run_once().await.unwrap();
    let dead = "select count(*) from mail.messages where state = 'dead' and sealed is null and outcome = 'smtp 550'";
    assert_eq!(app.count(dead).await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_link_that_would_not_work_any_more_is_not_sent(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let reset = |minutes| Letter::ResetPassword {
        token: Token::new("secret"),
        until: app.clock.now() + TimeDelta::minutes(minutes),
    };
    enqueue(&app, &NewMail::new("k1", "ada@example.com", reset(30))).await;
    enqueue(&app, &NewMail::new("k2", "ada@example.com", reset(90))).await;
    app.advance(31 * 60);
    assert_eq!(delivered(&app).await.len(), 1);
    let overdue = "select count(*) from mail.messages where state = 'dead' and sealed is null and outcome = 'overdue'";
    assert_eq!(app.count(overdue).await, 1);
}

#[sqlx::test(migrations = false)]
async fn where_nothing_is_configured_mail_waits_until_it_is_of_no_use(pool: PgPool) {
    let app = TestApp::start(pool).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    app.services.mail.worker().tidy().await.unwrap();
    assert_eq!(states(&app).await, BTreeMap::from([("pending".to_owned(), 1)]));
    app.advance(3 * 24 * 3600 + 1);
    app.services.mail.worker().tidy().await.unwrap();
    assert_eq!(states(&app).await, BTreeMap::from([("dead".to_owned(), 1)]));
}

#[sqlx::test(migrations = false)]
async fn a_commit_wakes_the_worker(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let shutdown = Shutdown::new();
    let working = tokio::spawn(app.services.mail.worker().run(shutdown.clone()));
    for number in 0..3 {
        let before = tokio::time::Instant::now();
        enqueue(
            &app,
            &NewMail::new(format!("k{number}"), "ada@example.com", booking("BOOK-1")),
        )
        .await;
        let mailbox = app.services.mail.mailbox().unwrap();
        eventually("the mail", async || mailbox.mails().len() > number).await;
        if number > 0 {
            // the first one may have come before the worker listened
            assert!(
                before.elapsed() < Duration::from_millis(1_500),
                "woken, not polled: {:?}",
                before.elapsed()
            );
        }
    }
    shutdown.halt();
    working.await.unwrap().unwrap();
}

async fn smtp_app(pool: PgPool, peer: &SmtpPeer, more: &[(&str, &str)]) -> TestApp {
    let port = peer.port.to_string();
    let settings = [
        ("SMTP_HOST", "localhost"),
        ("SMTP_PORT", port.as_str()),
        ("SMTP_CA_FILE", CA_FILE),
        ("SMTP_TIMEOUT_SECONDS", "5"),
    ];
    let settings: Vec<_> = settings.into_iter().chain(more.iter().copied()).collect();
    TestApp::with(pool, &settings).await
}

#[sqlx::test(migrations = false)]
async fn smtp_carries_the_mail_encrypted_to_a_server_that_knows_us(pool: PgPool) {
    let peer = SmtpPeer::start().await;
    let app = smtp_app(
        pool,
        &peer,
        &[("SMTP_USERNAME", "dreamscape"), ("SMTP_PASSWORD", "p4ss")],
    )
    .await;
    enqueue(
        &app,
        &NewMail::new("k1", "ada@example.com", booking("BOOK-1")).greeting(Some("Zoé")),
    )
    .await;
    enqueue(&app, &NewMail::new("k2", "ibn@example.com", booking("BOOK-2"))).await;
    while app.services.mail.worker().run_once().await.unwrap() > 0 {}

    let mut received = peer.received();
    received.sort_by(|a, b| a.to.cmp(&b.to));
    assert_eq!(received.len(), 2);
    let first = &received[0];
    assert!(first.encrypted);
    assert_eq!(first.credentials.as_deref(), Some("dreamscape:p4ss"));
    assert_eq!(
        (first.from.as_str(), first.to.as_str()),
        ("noreply@dreamscape.app", "ada@example.com")
    );
    assert_eq!(first.header("From").unwrap(), "Dreamscape <noreply@dreamscape.app>");
    assert!(first.header("Message-ID").unwrap().ends_with("@dreamscape.app>"));
    assert_eq!(first.header("Auto-Submitted").unwrap(), "auto-generated");
    assert!(
        first
            .header("Content-Type")
            .unwrap()
            .starts_with("multipart/alternative")
    );
    assert!(first.data.contains("text/plain") && first.data.contains("text/html"));
    assert_eq!(states(&app).await, BTreeMap::from([("sent".to_owned(), 2)]));
}

#[sqlx::test(migrations = false)]
async fn a_server_that_cannot_encrypt_is_told_nothing(pool: PgPool) {
    let peer = SmtpPeer::without_tls().await;
    let app = smtp_app(
        pool,
        &peer,
        &[("SMTP_USERNAME", "dreamscape"), ("SMTP_PASSWORD", "p4ss")],
    )
    .await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    app.services.mail.worker().run_once().await.unwrap();
    assert!(peer.received().is_empty());
    let said = peer.commands();
    assert!(
        !said
            .iter()
            .any(|verb| verb == "AUTH" || verb == "MAIL" || verb == "DATA"),
        "{said:?}"
    );
    assert_eq!(
        states(&app).await,
        BTreeMap::from([("pending".to_owned(), 1)]),
        "an operator can mend this"
    );
}

#[sqlx::test(migrations = false)]
async fn with_implicit_tls_the_mail_is_encrypted_from_the_first_byte(pool: PgPool) {
    let peer = SmtpPeer::over_tls().await;
    let settings = [
        ("SMTP_TLS", "implicit"),
        ("SMTP_USERNAME", "dreamscape"),
        ("SMTP_PASSWORD", "p4ss"),
    ];
    let app = smtp_app(pool, &peer, &settings).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    while app.services.mail.worker().run_once().await.unwrap() > 0 {}

    let received = peer.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].encrypted);
    assert_eq!(received[0].to, "ada@example.com");
    assert_eq!(received[0].credentials.as_deref(), Some("dreamscape:p4ss"));
    let said = peer.commands();
    assert!(!said.iter().any(|verb| verb == "STARTTLS"), "{said:?}");
    assert_eq!(states(&app).await, BTreeMap::from([("sent".to_owned(), 1)]));
}

#[sqlx::test(migrations = false)]
async fn a_server_whose_certificate_nobody_vouches_for_is_told_nothing(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    for (tls, peer) in [
        ("implicit", SmtpPeer::over_tls().await),
        ("starttls", SmtpPeer::start().await),
    ] {
        let port = peer.port.to_string();
        // the authority of these tests is none of the system's
        let settings = [
            ("SMTP_HOST", "localhost"),
            ("SMTP_PORT", port.as_str()),
            ("SMTP_TLS", tls),
            ("SMTP_USERNAME", "dreamscape"),
            ("SMTP_PASSWORD", "p4ss"),
            ("SMTP_TIMEOUT_SECONDS", "5"),
        ];
        let sending = TestApp::again(pool.clone(), &settings);
        enqueue(&sending, &NewMail::new(tls, "ada@example.com", booking("BOOK-1"))).await;
        assert_eq!(sending.services.mail.worker().run_once().await.unwrap(), 1, "{tls}");

        assert!(peer.connections() > 0, "{tls}: the server was tried");
        assert!(peer.received().is_empty(), "{tls}");
        let said = peer.commands();
        assert!(
            !said.iter().any(|verb| verb == "AUTH" || verb == "MAIL"),
            "{tls}: {said:?}"
        );
    }
    assert_eq!(
        states(&app).await,
        BTreeMap::from([("pending".to_owned(), 2)]),
        "an operator can mend this"
    );
}

#[sqlx::test(migrations = false)]
async fn smtp_answers_decide_whether_a_mail_is_tried_again(pool: PgPool) {
    let peer = SmtpPeer::start().await;
    let app = smtp_app(pool, &peer, &[("SMTP_POOL_MAX", "1")]).await;
    peer.answer(&["451 4.3.0 later ada@example.com"]);
    enqueue(&app, &NewMail::new("k1", "ada@example.com", booking("BOOK-1"))).await;
    app.services.mail.worker().run_once().await.unwrap();
    app.advance(10);
    app.services.mail.worker().run_once().await.unwrap();
    assert_eq!(peer.received().len(), 1);

    peer.answer(&["550 5.1.1 no such user ada@example.com"]);
    enqueue(&app, &NewMail::new("k2", "nobody@example.com", booking("BOOK-2"))).await;
    app.services.mail.worker().run_once().await.unwrap();
    let dead = "select count(*) from mail.messages where state = 'dead' and outcome = 'smtp 550'";
    assert_eq!(
        app.count(dead).await,
        1,
        "a class is kept, not the server's text, which quotes the address"
    );
}

async fn sendgrid_app(pool: PgPool, server: &MockServer) -> TestApp {
    let uri = server.uri();
    let settings = [("SENDGRID_API_KEY", SENDGRID_KEY), ("SENDGRID_API_URL", uri.as_str())];
    TestApp::with(pool, &settings).await
}

async fn sendgrid_answers(server: &MockServer, template: ResponseTemplate) {
    server.reset().await;
    let call = Mock::given(method("POST")).and(path("/v3/mail/send"));
    call.respond_with(template).mount(server).await;
}

#[sqlx::test(migrations = false)]
async fn sendgrid_gets_the_mail_once_and_never_rewrites_its_links(pool: PgPool) {
    let server = MockServer::start().await;
    sendgrid_answers(&server, ResponseTemplate::new(202)).await;
    let app = sendgrid_app(pool, &server).await;
    let letter = Letter::VerifyEmail {
        token: Token::new("t0ken"),
    };
    enqueue(&app, &NewMail::new("k", "ada@example.com", letter)).await;
    while app.services.mail.worker().run_once().await.unwrap() > 0 {}

    let calls = server.received_requests().await.unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].headers["authorization"], format!("Bearer {SENDGRID_KEY}"));
    let body: Value = calls[0].body_json().unwrap();
    assert_eq!(
        body["personalizations"],
        json!([{ "to": [{ "email": "ada@example.com" }] }])
    );
    assert_eq!(
        body["from"],
        json!({ "email": "noreply@dreamscape.app", "name": "Dreamscape" })
    );
    assert_eq!(body["content"][0]["type"], "text/plain");
    assert_eq!(body["content"][1]["type"], "text/html");
    assert!(body["content"][0]["value"].as_str().unwrap().contains("#token=t0ken"));
    assert_eq!(
        body["tracking_settings"]["click_tracking"],
        json!({ "enable": false, "enable_text": false })
    );
    assert!(
        body["headers"]["Message-ID"]
            .as_str()
            .unwrap()
            .ends_with("@dreamscape.app>")
    );
    assert!(
        body["headers"].get("List-Unsubscribe").is_none(),
        "only marketing can be unsubscribed from"
    );
    assert_eq!(states(&app).await, BTreeMap::from([("sent".to_owned(), 1)]));
}

#[sqlx::test(migrations = false)]
async fn sendgrid_is_asked_again_when_it_says_so_and_not_before(pool: PgPool) {
    let server = MockServer::start().await;
    let app = sendgrid_app(pool, &server).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    sendgrid_answers(&server, ResponseTemplate::new(429).insert_header("retry-after", "120")).await;
    app.services.mail.worker().run_once().await.unwrap();
    app.advance(100);
    assert_eq!(app.services.mail.worker().run_once().await.unwrap(), 0);
    app.advance(60);
    // a wrong key must not kill mail either
    sendgrid_answers(&server, ResponseTemplate::new(401)).await;
    assert_eq!(app.services.mail.worker().run_once().await.unwrap(), 1);
    app.advance(60);
    sendgrid_answers(&server, ResponseTemplate::new(400)).await;
    assert_eq!(app.services.mail.worker().run_once().await.unwrap(), 1);
    let dead = "select count(*) from mail.messages where state = 'dead' and outcome = 'sendgrid 400'";
    assert_eq!(app.count(dead).await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_mail_is_written_in_the_language_and_the_zone_of_its_reader(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    delivered(&app).await;
    app.services.mail.mailbox().unwrap().clear();
    let user: UserId = ada.id.parse().unwrap();
    let at: DateTime<Utc> = "2026-11-25T18:05:00Z".parse().unwrap();
    let changed = |key: &str| NewMail::new(key, "ada@example.com", Letter::PasswordChanged { at }).for_user(user);
    enqueue(&app, &changed("k1")).await;
    let french = delivered(&app).await.remove(0);
    assert_eq!(french.subject, "Votre mot de passe a été changé – DreamScape");
    assert!(
        french.text.contains("25 novembre 2026 à 18:05 (UTC)"),
        "{}",
        french.text
    );

    app.execute(
        "insert into users.settings (user_id, language, timezone, created_at, updated_at)
         select id, 'English', 'Asia/Tokyo', now(), now() from auth.users
         on conflict (user_id) do update set language = 'English', timezone = 'Asia/Tokyo'",
    )
    .await;
    enqueue(&app, &changed("k2")).await;
    let english = delivered(&app).await.remove(0);
    assert_eq!(english.subject, "Your password was changed – DreamScape");
    assert!(
        english.text.contains("26 November 2026 at 03:05 (JST)"),
        "{}",
        english.text
    );
    assert!(english.html.contains("<html lang=\"en\""));
}

#[sqlx::test(migrations = false)]
async fn a_booking_confirmation_names_reference_kind_destination_and_amount(pool: PgPool) {
    let app = TestApp::start(pool).await;
    enqueue(
        &app,
        &NewMail::new("k", "ada@example.com", booking("BOOK-20261201-ABCDE")).greeting(Some("Ada")),
    )
    .await;
    let mail = delivered(&app).await.remove(0);
    assert_eq!(mail.subject, "Réservation BOOK-20261201-ABCDE confirmée – DreamScape");
    for part in [&mail.text, &mail.html] {
        for fact in [
            "Bonjour Ada",
            "BOOK-20261201-ABCDE",
            "Vol",
            "Tokyo",
            "1\u{202f}234,50\u{a0}€",
        ] {
            assert!(part.contains(fact), "{fact} is not in\n{part}");
        }
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_15_html_in_any_value_is_escaped_in_mail(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let evil = "<img src=x onerror=alert(1)>\"'&\r\nBcc: eve@example.com";
    let facts = BookingFacts {
        reference: evil.to_owned(),
        destination: Some(evil.to_owned()),
        ..BookingFacts::default()
    };
    let letters = [
        Letter::BookingConfirmed(facts),
        Letter::Notification {
            title: evil.to_owned(),
            message: evil.to_owned(),
        },
        Letter::NewDevice {
            at: app.clock.now(),
            device: Some(evil.to_owned()),
            ip_address: Some(evil.to_owned()),
            token: Some(Token::new(evil)),
        },
        Letter::EmailChanged {
            new_address: evil.to_owned(),
            token: Token::new("t"),
            until: app.clock.now() + TimeDelta::hours(1),
        },
    ];
    for (number, letter) in letters.into_iter().enumerate() {
        let mail = NewMail::new(format!("k{number}"), "ada@example.com", letter).greeting(Some(evil));
        enqueue(&app, &mail).await;
    }
    let mails = delivered(&app).await;
    assert_eq!(mails.len(), 4);
    for mail in mails {
        assert!(!mail.html.contains("<img"), "{}", mail.html);
        assert!(!mail.html.contains("alert(1)>\""), "{}", mail.html);
        assert!(
            mail.html.contains("&#60;img src=x onerror=alert(1)&#62;"),
            "shown as text"
        );
        assert!(
            !mail.subject.contains(['\r', '\n']),
            "no second header: {}",
            mail.subject
        );
        // the text of a notification has paragraphs; nothing else has lines that a value could add to
        let may_have_lines = mail.template == "notification";
        assert!(
            may_have_lines || !mail.text.contains("\nBcc:"),
            "no line of its own: {}",
            mail.text
        );
    }
}

#[sqlx::test(migrations = false)]
async fn nobody_is_greeted_by_a_name_that_is_an_advertisement(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let letter = Letter::VerifyEmail { token: Token::new("t") };
    let mail = NewMail::new("k", "victim@example.com", letter).greeting(Some("Win now at evil.example/x"));
    enqueue(&app, &mail).await;
    let mail = delivered(&app).await.remove(0);
    assert!(
        !mail.text.contains("evil.example") && mail.text.contains("Bonjour,"),
        "{}",
        mail.text
    );
}

fn requested(user: &str, fields: Value) -> Envelope {
    let mut payload = json!({ "userId": user, "requestedAt": "2026-11-25T18:05:00.000Z", "priority": "normal" });
    payload
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let envelope = json!({
        "eventId": Sources::system().uuid_v4(), "eventType": "notification.email.requested",
        "timestamp": "2026-11-25T18:05:00.000Z", "version": "1.0", "source": "user-service", "payload": payload,
    });
    Envelope::parse(envelope.to_string().as_bytes()).unwrap()
}

async fn consume(app: &TestApp, topic: Topic, event: &Envelope) -> Result<(), Failure> {
    let mut tx = Db::<Mail>::new(app.pool.clone()).begin().await.unwrap();
    app.services.mail.events().handle(&mut tx, topic, event).await?;
    tx.commit().await.unwrap();
    Ok(())
}

async fn consumed(app: &TestApp, user: &str, fields: Value) -> Outgoing {
    delivered(app).await;
    app.services.mail.mailbox().unwrap().clear();
    let event = requested(user, fields);
    // at-least-once delivery beyond what the inbox remembers
    for _ in 0..2 {
        consume(app, Topic::NotificationEmailRequested, &event).await.unwrap();
    }
    let mut mails = delivered(app).await;
    assert_eq!(mails.len(), 1, "one mail per event");
    mails.remove(0)
}

#[sqlx::test(migrations = false)]
async fn a_request_of_either_shape_becomes_one_mail_to_the_address_as_typed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("Ada.Lovelace+trips@gmail.com").await;
    let original = json!({
        "type": "PAYMENT_RECEIVED", "title": "Paiement confirmé", "message": "…",
        "metadata": { "paymentId": "pi_1", "bookingId": "BOOK-1" },
    });
    let mail = consumed(&app, &ada.id, original).await;
    assert_eq!(mail.to, "Ada.Lovelace+trips@gmail.com");
    assert_eq!(mail.subject, "Paiement reçu pour la réservation BOOK-1 – DreamScape");

    let declared = json!({
        "templateId": "booking-confirmed", "subject": "x", "email": "eve@example.com",
        "variables": { "bookingReference": "BOOK-2", "bookingType": "HOTEL", "totalAmount": 99.5, "currency": "EUR" },
    });
    let mail = consumed(&app, &ada.id, declared).await;
    assert_eq!(
        mail.to, "Ada.Lovelace+trips@gmail.com",
        "never to an address out of an event"
    );
    assert!(
        mail.text.contains("Hôtel") && mail.text.contains("99,50"),
        "{}",
        mail.text
    );

    let ours = json!({
        "type": "BOOKING_CONFIRMED", "templateId": "booking-confirmed", "title": "t", "message": "m",
        "variables": { "bookingReference": "BOOK-3" },
        "metadata": { "bookingType": "FLIGHT", "totalAmount": 658.59, "currency": "EUR", "destinations": ["HND", "KIX"] },
    });
    let mail = consumed(&app, &ada.id, ours).await;
    for fact in ["BOOK-3", "Vol", "HND, KIX", "658,59\u{a0}€"] {
        assert!(mail.text.contains(fact), "{fact} is not in\n{}", mail.text);
    }

    let unknown = json!({ "type": "PRICE_ALERT", "title": "Prix en baisse", "message": "Tokyo\nà 450 €" });
    let mail = consumed(&app, &ada.id, unknown).await;
    assert_eq!(
        (mail.template.as_str(), mail.subject.as_str()),
        ("notification", "Prix en baisse – DreamScape")
    );
}

#[sqlx::test(migrations = false)]
async fn security_letters_follow_their_template(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    for (template, variables, words) in [
        (
            "password-changed",
            json!({ "changedAt": "2026-11-25T18:00:00.000Z" }),
            "mot de passe",
        ),
        (
            "account-locked",
            json!({ "unlockAt": "2026-11-25T18:15:00.000Z" }),
            "18:15",
        ),
        ("account-locked", json!({}), "service client"),
        ("session-closed", json!({}), "fermée"),
        ("recovery-code-used", json!({ "remaining": 4 }), "4"),
    ] {
        let fields = json!({
            "type": "ACCOUNT_SECURITY", "templateId": template, "title": "t", "message": "m", "metadata": variables,
        });
        let mail = consumed(&app, &ada.id, fields).await;
        assert_eq!(mail.template, template);
        assert!(mail.text.contains(words), "{words} is not in\n{}", mail.text);
    }
}

#[sqlx::test(migrations = false)]
async fn only_marketing_carries_a_link_to_unsubscribe(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let offer = json!({ "type": "PROMO_OFFER", "title": "-20 %", "message": "Cette semaine" });
    let mail = consumed(&app, &ada.id, offer).await;
    let link = mail.unsubscribe.unwrap();
    assert!(
        link.starts_with("http://localhost:5173/api/v1/users/unsubscribe/"),
        "{link}"
    );
    assert!(mail.text.contains(&link) && !link.contains(&ada.id));
    let update = json!({ "type": "PLATFORM_UPDATE", "title": "Nouveau", "message": "Cette semaine" });
    assert_eq!(consumed(&app, &ada.id, update).await.unsubscribe, None);
}

#[sqlx::test(migrations = false)]
async fn one_click_ends_offers_by_mail_and_looking_does_not(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let offer = json!({ "type": "PROMO_OFFER", "title": "-20 %", "message": "Cette semaine" });
    let link = consumed(&app, &ada.id, offer).await.unsubscribe.unwrap();
    let path = link.strip_prefix("http://localhost:5173").unwrap();
    let wants = async || {
        let preferences = app
            .get("/api/v1/users/notification-preferences")
            .bearer(&ada.token)
            .send()
            .await;
        preferences.body["data"]["promo_offer"].clone()
    };
    app.execute(
        r#"insert into users.settings (user_id, notification_preferences, created_at, updated_at)
           select id, '{"promo_offer": {"inApp": true, "email": true}, "platform_update": {"inApp": false, "email": true}}',
                  now(), now() from auth.users"#,
    )
    .await;
    let page = app.get(path).send().await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(
        wants().await,
        json!({ "inApp": true, "email": true }),
        "scanners follow every link"
    );

    // as a mail program does it, without any cookie, and again
    for _ in 0..2 {
        let call = app
            .post(path)
            .raw("application/x-www-form-urlencoded", "List-Unsubscribe=One-Click");
        assert_eq!(call.send().await.status, 200);
        assert_eq!(wants().await, json!({ "inApp": true, "email": false }));
    }
    let others = "select count(*) from users.settings
                  where notification_preferences -> 'platform_update' = '{\"inApp\": false, \"email\": true}'::jsonb";
    assert_eq!(app.count(others).await, 1, "everything else stays");
    for wrong in ["x", "00000000-0000-0000-0000-000000000001"] {
        let path = format!("/api/v1/users/unsubscribe/{wrong}");
        assert_eq!(app.get(&path).send().await.status, 404);
        assert_eq!(app.post(&path).send().await.status, 404);
    }
}

#[sqlx::test(migrations = false)]
async fn a_request_for_nobody_or_without_words_sends_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let stranger = requested(
        "00000000-0000-0000-0000-000000000001",
        json!({ "type": "SYSTEM", "title": "t" }),
    );
    consume(&app, Topic::NotificationEmailRequested, &stranger)
        .await
        .unwrap();
    let ada = app.register("ada@example.com").await;
    delivered(&app).await;
    for empty in [
        json!({ "type": "SYSTEM" }),
        json!({ "type": "BOOKING_CONFIRMED", "title": "t" }),
    ] {
        let failure = consume(&app, Topic::NotificationEmailRequested, &requested(&ada.id, empty)).await;
        assert!(matches!(failure, Err(Failure::Permanent(_))), "{failure:?}");
    }
    let mails = app.services.mail.mailbox().unwrap().mails();
    assert!(mails.iter().all(|mail| mail.template == "verify-email"), "{mails:?}");
}

#[sqlx::test(migrations = false)]
async fn an_erased_account_gets_no_mail_but_the_one_that_says_so(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let user: UserId = ada.id.parse().unwrap();
    enqueue(
        &app,
        &NewMail::new("k1", "ada@example.com", booking("BOOK-1")).for_user(user),
    )
    .await;
    enqueue(
        &app,
        &NewMail::new("k2", "ada@example.com", Letter::DeletionDone).for_user(user),
    )
    .await;
    let deleted = requested(&ada.id, json!({}));
    consume(&app, Topic::UserDeleted, &deleted).await.unwrap();
    let mails = delivered(&app).await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].template, "deletion-done");
    assert_eq!(
        app.count("select count(*) from mail.messages where user_id is not null")
            .await,
        0
    );
}

#[sqlx::test(migrations = false)]
async fn the_mailbox_of_development_is_read_on_this_machine_only(pool: PgPool) {
    let app = TestApp::start(pool).await;
    enqueue(&app, &NewMail::new("k", "ada@example.com", booking("BOOK-1"))).await;
    delivered(&app).await;
    let local = |path: &str| app.get(path).at_address([127, 0, 0, 1]);
    let messages = local("/dev/mail/messages")
        .header("host", "127.0.0.1:3002")
        .send()
        .await;
    assert_eq!(messages.status, 200);
    let first = &messages.body[0];
    assert_eq!(
        (&first["to"], &first["template"]),
        (&json!("ada@example.com"), &json!("booking-confirmed"))
    );
    assert!(first["links"][0].as_str().unwrap().ends_with("/bookings"));
    let id = first["id"].as_str().unwrap();
    for path in [
        "/dev/mail".to_owned(),
        format!("/dev/mail/{id}"),
        format!("/dev/mail/{id}/html"),
    ] {
        let page = local(&path).send().await;
        assert_eq!(page.status, 200, "{path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("script-src"),
            "{policy}"
        );
    }
    assert_eq!(
        app.get("/dev/mail/messages").send().await.status,
        404,
        "from another machine"
    );
    let rebound = local("/dev/mail/messages").header("host", "evil.example").send().await;
    assert_eq!(rebound.status, 404, "by a name that is not ours");
    assert_eq!(local("/dev/mail/none").send().await.status, 404);
}

#[sqlx::test(migrations = false)]
async fn other_services_may_add_to_the_queue_and_nothing_else(pool: PgPool) {
    use shared::db::migrate::{self, Roles};
    use shared::pod::Pod as _;
    let mut conn = pool.acquire().await.unwrap();
    // roles belong to the server, which other tests use at the same time
    for role in ["auth_service", "user_service", "mail_service"] {
        let create = format!("do $$ begin create role {role}; exception when others then null; end $$");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create))
            .execute(&mut *conn)
            .await
            .unwrap();
    }
    migrate::run_on(&mut conn, &core_pod::CorePod::migrations(), Roles::GrantExisting)
        .await
        .unwrap();
    let allowed = |role: &'static str, statement: &'static str| {
        let pool = pool.clone();
        async move {
            let mut tx = Db::<Auth>::new(pool).begin().await.unwrap();
            let text = format!("set local role {role}; {statement}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *tx).await.is_ok()
        }
    };
    let enqueue = "select mail.enqueue(gen_random_uuid(), 'k', null, 't', '\\x00', now(), now())";
    for role in ["auth_service", "user_service", "mail_service"] {
        assert!(allowed(role, enqueue).await, "{role} enqueues");
    }
    for role in ["auth_service", "user_service"] {
        for foreign in [
            "select * from mail.messages",
            "delete from mail.messages",
            "select * from mail.inbox",
        ] {
            assert!(!allowed(role, foreign).await, "{role}: {foreign}");
        }
    }
    for own in [
        "select * from mail.messages",
        "select * from auth.accounts",
        "select * from users.mail_readers",
    ] {
        assert!(allowed("mail_service", own).await, "{own}");
    }
    for foreign in [
        "select * from auth.users",
        "select * from auth.one_time_tokens",
        "select * from users.settings",
    ] {
        assert!(!allowed("mail_service", foreign).await, "{foreign}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_request_over_kafka_becomes_one_mail_however_often_it_is_delivered(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let brokers = rdkafka::mocking::MockCluster::new(3).unwrap();
    for topic in Topic::ALL {
        brokers.create_topic(topic.name(), 3, 3).unwrap();
        brokers.create_topic(&topic.dead_letters(), 1, 3).unwrap();
    }
    let kafka = KafkaConfig::read(&mut shared::config::Reader::from_pairs([
        ("KAFKA_BROKERS".to_owned(), brokers.bootstrap_servers()),
        ("KAFKA_AUTO_OFFSET_RESET".to_owned(), "earliest".to_owned()),
    ]));
    let producer = Producer::new(&kafka, "test-service").unwrap();
    let shutdown = Shutdown::new();
    let mail_db = Db::<Mail>::new(pool.clone());
    let consumer = Consumer::<Mail>::new(mail_db, &kafka, producer.clone(), app.services.mail.events());
    let consuming = tokio::spawn(consumer.run(shutdown.clone()));
    let relay = Relay::<Auth>::new(Db::new(pool.clone()), producer, Sources::system());

    let ada = app.register("ada@example.com").await;
    let publish = async |event: &NewEvent| {
        let mut tx = Db::<Auth>::new(pool.clone()).begin().await.unwrap();
        sqlx::query("delete from auth.outbox").execute(&mut *tx).await.unwrap();
        outbox::append::<Auth>(&mut tx, std::slice::from_ref(event))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        while relay.run_once().await.unwrap() {}
    };
    let request = |title: &str| {
        let payload = json!({ "userId": ada.id, "type": "SYSTEM", "title": title, "message": "m" });
        NewEvent::new::<Auth>(&Sources::system(), Topic::NotificationEmailRequested, &ada.id, &payload)
    };
    let first = request("first");
    publish(&first).await;
    publish(&first).await;
    // a later one under the same key is applied only after both deliveries
    publish(&request("second")).await;
    eventually("the second request", async || {
        app.count("select count(*) from mail.messages where template = 'notification'")
            .await
            >= 2
    })
    .await;
    let mails = delivered(&app).await;
    let titles: Vec<&str> = mails
        .iter()
        .filter(|mail| mail.template == "notification")
        .map(|mail| mail.subject.as_str())
        .collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
    shutdown.halt();
    consuming.await.unwrap().unwrap();
}
