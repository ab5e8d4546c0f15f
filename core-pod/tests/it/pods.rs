//! The other pods: keys, sessions and service tokens over real HTTP (core §2.3, §2.8, §4.7).

use std::time::{Duration, Instant};

use http::{HeaderMap, Method, header};
use shared::{
    auth::{
        AuthUser, Via,
        config::{RemoteIdentity, RemoteIdentityConfig},
    },
    config::Reader,
    error::ApiError,
    http::server::{self, ServerConfig},
    lifecycle::Shutdown,
    redis::Redis,
};
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::support::{OWN_ORIGIN, TestApp, eventually};

/// The core pod on a socket, and the identity of another pod that knows only its address.
pub async fn another_pod(app: &TestApp) -> (RemoteIdentity, Shutdown) {
    another_pod_sharing(app, Redis::memory()).await
}

/// The same over this Redis.
pub async fn another_pod_sharing(app: &TestApp, redis: Redis) -> (RemoteIdentity, Shutdown) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    tokio::spawn(server::serve(
        listener,
        app.router.clone(),
        ServerConfig::default(),
        shutdown.clone(),
    ));
    (identity(app, &address.to_string(), redis), shutdown)
}

fn identity(app: &TestApp, address: &str, redis: Redis) -> RemoteIdentity {
    let settings = [("AUTH_SERVICE_URL".to_owned(), format!("http://{address}"))];
    let mut reader = Reader::from_pairs(settings);
    let config = RemoteIdentityConfig::read(&mut reader, "business-pod");
    reader.finish().unwrap();
    let sources = shared::sources::Sources {
        clock: app.clock.clone(),
        entropy: shared::sources::Sources::system().entropy,
    };
    config.build(&reqwest::Client::new(), redis, &[OWN_ORIGIN.to_owned()], sources)
}

pub async fn ask(pod: &RemoteIdentity, name: header::HeaderName, value: &str) -> Result<Option<AuthUser>, ApiError> {
    let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
    pod.authenticator.0.user(&Method::GET, &headers).await
}

pub async fn bearer(pod: &RemoteIdentity, token: &str) -> Result<Option<AuthUser>, ApiError> {
    ask(pod, header::AUTHORIZATION, &format!("Bearer {token}")).await
}

#[sqlx::test(migrations = false)]
async fn another_pod_knows_a_traveller_by_token_and_by_cookie(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (pod, _shutdown) = another_pod(&app).await;
    let ada = app.register("ada@example.com").await;
    let by_token = bearer(&pod, &ada.token).await.unwrap().unwrap();
    assert_eq!((by_token.user.to_string(), by_token.via), (ada.id.clone(), Via::Bearer));
    assert_eq!(by_token.email.as_deref(), Some("ada@example.com"));
    let cookie = format!("other=1; ds_session={}", ada.session);
    let by_cookie = ask(&pod, header::COOKIE, &cookie).await.unwrap().unwrap();
    assert_eq!((by_cookie.user.to_string(), by_cookie.via), (ada.id, Via::Cookie));
    let stranger = format!("ds_session={}", "x".repeat(43));
    assert!(ask(&pod, header::COOKIE, &stranger).await.unwrap().is_none());
    assert_eq!(bearer(&pod, "x.y.z").await.unwrap_err().code(), "INVALID_TOKEN");
}

#[sqlx::test(migrations = false)]
async fn a_revoked_session_is_refused_by_another_pod_within_a_second(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (pod, _shutdown) = another_pod(&app).await;
    let ada = app.register("ada@example.com").await;
    assert!(bearer(&pod, &ada.token).await.is_ok());
    app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    let revoked = Instant::now();
    eventually("the revocation elsewhere", async || {
        bearer(&pod, &ada.token).await.is_err()
    })
    .await;
    assert!(
        revoked.elapsed() < Duration::from_secs(1),
        "took {:?}",
        revoked.elapsed()
    );
    assert_eq!(bearer(&pod, &ada.token).await.unwrap_err().code(), "TOKEN_REVOKED");
}

#[sqlx::test(migrations = false)]
async fn suspension_and_deletion_keep_their_codes_across_pods(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (pod, _shutdown) = another_pod(&app).await;
    let ada = app.register("ada@example.com").await;
    app.execute("update auth.users set suspended_at = now()").await;
    assert_eq!(bearer(&pod, &ada.token).await.unwrap_err().code(), "ACCOUNT_SUSPENDED");
    app.execute("update auth.users set suspended_at = null, deleted_at = now()")
        .await;
    eventually("deletion elsewhere", async || {
        bearer(&pod, &ada.token)
            .await
            .is_err_and(|error| error.code() == "USER_INACTIVE")
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn without_the_core_pod_nothing_is_allowed_that_cannot_be_checked(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let lonely = identity(&app, &gone.to_string(), Redis::memory());
    assert_eq!(
        bearer(&lonely, &ada.token).await.unwrap_err().status(),
        503,
        "no keys yet"
    );

    let (pod, shutdown) = another_pod(&app).await;
    assert!(bearer(&pod, &ada.token).await.is_ok());
    shutdown.halt();
    eventually("503 for what nobody can check", async || {
        bearer(&pod, &ada.token).await.is_err_and(|error| error.status() == 503)
    })
    .await;
    // the keys are kept: what is plainly wrong is still plainly wrong
    let (head, _) = ada.token.rsplit_once('.').unwrap();
    assert_eq!(
        bearer(&pod, &format!("{head}.{}", "A".repeat(86)))
            .await
            .unwrap_err()
            .code(),
        "INVALID_TOKEN"
    );
    let anonymous = pod.authenticator.0.user(&Method::GET, &HeaderMap::new()).await;
    assert!(anonymous.unwrap().is_none());
}

#[sqlx::test(migrations = false)]
async fn the_service_token_of_a_pod_is_held_and_accepted(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (pod, _shutdown) = another_pod(&app).await;
    let first = pod.tokens.token().await.unwrap();
    assert_eq!(first, pod.tokens.token().await.unwrap());
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {first}").parse().unwrap())]);
    assert_eq!(
        pod.authenticator.0.service(&headers).await.unwrap().service,
        "business-pod"
    );
    let ada = app.register("ada@example.com").await;
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {}", ada.token).parse().unwrap())]);
    assert_eq!(pod.authenticator.0.service(&headers).await.unwrap_err().status(), 401);
}
