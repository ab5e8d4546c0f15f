//! Tokens, published keys and shared session checks, each against the real thing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use devkit::redis::RedisServer;
use http::{HeaderMap, Method, header};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use super::{
    Role,
    jwks::JwksCache,
    session::{CookieSecret, SessionSource, SessionState, SessionView, Sessions, Unchecked},
    testing::Issuer,
    tokens::{Grant, KeySet, Signer, TokenError, TokenPolicy, Verifier},
};
use crate::{
    id::{SessionId, UserId},
    redis::{Redis, RedisConfig},
    sources::{FixedClock, Sources},
};

fn clock() -> Arc<FixedClock> {
    FixedClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap())
}

fn sources(clock: &Arc<FixedClock>) -> Sources {
    Sources {
        clock: clock.clone(),
        entropy: Sources::system().entropy,
    }
}

fn grant() -> Grant {
    let uuid = uuid::Uuid::from_u128;
    Grant {
        user: UserId(uuid(1)),
        email: "ada@example.com".into(),
        role: Role::User,
        session: SessionId(uuid(2)),
        amr: vec!["pwd".into()],
        auth_time: Some(1_700_000_000),
    }
}

struct Authority {
    clock: Arc<FixedClock>,
    keys: KeySet,
    signer: Signer,
    verifier: Verifier,
}

fn authority() -> Authority {
    let clock = clock();
    let sources = sources(&clock);
    let keys = KeySet::generate(&sources).unwrap();
    let signer = Signer::new(keys.clone(), TokenPolicy::default(), sources.clone());
    let verifier = Verifier::own(keys.clone(), TokenPolicy::default(), sources);
    Authority {
        clock,
        keys,
        signer,
        verifier,
    }
}

#[tokio::test]
async fn a_token_says_what_it_was_made_for_until_it_expires() {
    let Authority {
        clock,
        signer,
        verifier,
        ..
    } = authority();
    let token = signer.access(&grant()).unwrap();
    let claims = verifier.access(&token).await.unwrap();
    assert_eq!(
        (claims.sub, claims.user_id, claims.sid),
        (grant().user, grant().user, grant().session)
    );
    assert_eq!(
        (claims.kind.as_str(), claims.exp - claims.iat, claims.jti.len()),
        ("access", 900, 32)
    );
    // the second look is from memory, and memory does not outlive the token
    assert!(verifier.access(&token).await.is_ok());
    clock.advance(TimeDelta::seconds(904));
    assert!(verifier.access(&token).await.is_ok());
    clock.advance(TimeDelta::seconds(1));
    assert!(matches!(verifier.access(&token).await, Err(TokenError::Expired(claims)) if claims.sub == grant().user));
    clock.advance(TimeDelta::seconds(-1_000));
    assert!(
        matches!(verifier.access(&token).await, Err(TokenError::Invalid)),
        "not valid yet"
    );
}

#[tokio::test]
async fn a_token_for_another_audience_issuer_or_purpose_is_refused() {
    let Authority {
        clock,
        keys,
        signer,
        verifier,
    } = authority();
    let other = |change: fn(&mut TokenPolicy)| {
        let mut policy = TokenPolicy::default();
        change(&mut policy);
        Signer::new(keys.clone(), policy, sources(&clock))
            .access(&grant())
            .unwrap()
    };
    for token in [
        other(|policy| policy.issuer = "elsewhere".into()),
        other(|policy| policy.audience = "somebody".into()),
        signer.service("voyage-service").unwrap(),
        format!("{}x", signer.access(&grant()).unwrap()),
        "x".repeat(10_000),
    ] {
        assert!(
            matches!(verifier.access(&token).await, Err(TokenError::Invalid)),
            "{token:.40}"
        );
    }
    let mut claims = verifier
        .access(&signer.access(&grant()).unwrap())
        .await
        .unwrap()
        .as_ref()
        .clone();
    claims.kind = "refresh".into();
    assert!(matches!(
        verifier.access(&signer.sign(&claims).unwrap()).await,
        Err(TokenError::WrongType)
    ));
    claims.kind = "access".into();
    claims.user_id = UserId(uuid::Uuid::from_u128(9));
    assert!(matches!(
        verifier.access(&signer.sign(&claims).unwrap()).await,
        Err(TokenError::Invalid)
    ));
    assert!(verifier.service(&signer.access(&grant()).unwrap()).await.is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_is_a_token(text in "[ -~]{0,300}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let verifier = authority().verifier;
        proptest::prop_assert!(runtime.block_on(verifier.access(&text)).is_err());
        proptest::prop_assert!(runtime.block_on(verifier.service(&text)).is_err());
    }
}

#[tokio::test]
async fn published_keys_are_fetched_for_an_unknown_key_and_kept_while_the_publisher_is_away() {
    let first = authority();
    let server = MockServer::start().await;
    let publish = |keys: &KeySet| {
        let answer = ResponseTemplate::new(200).set_body_json(keys.jwks());
        Mock::given(method("GET"))
            .and(path("/.well-known/jwks.json"))
            .respond_with(answer)
    };
    let published = publish(&first.keys).expect(1).mount_as_scoped(&server).await;
    let jwks = JwksCache::new(
        format!("{}/.well-known/jwks.json", server.uri()),
        reqwest::Client::new(),
    );
    let verifier = Verifier::published(jwks.clone(), TokenPolicy::default(), sources(&first.clock));
    let token = first.signer.access(&grant()).unwrap();
    let stranger = authority().signer.access(&grant()).unwrap();

    assert!(!jwks.is_ready());
    assert!(verifier.access(&token).await.is_ok());
    for _ in 0..20 {
        assert!(
            matches!(verifier.access(&stranger).await, Err(TokenError::Invalid)),
            "a forged key fetches nothing"
        );
    }
    drop(published);
    // the publisher is gone: what is known stays known
    assert!(verifier.access(&first.signer.access(&grant()).unwrap()).await.is_ok());
    // the fetch that unknown keys cause is allowed again after a pause
    let rotated = authority();
    let _published = publish(&rotated.keys).mount_as_scoped(&server).await;
    let fresh = rotated.signer.access(&grant()).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while verifier.access(&fresh).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the new key never arrived");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        verifier.access(&token).await.is_err(),
        "a withdrawn key takes its tokens along, remembered or not"
    );
}

#[tokio::test]
async fn without_keys_nobody_can_tell() {
    let jwks = JwksCache::new("http://127.0.0.1:9/jwks.json", reqwest::Client::new());
    let verifier = Verifier::published(jwks, TokenPolicy::default(), Sources::system());
    let token = authority().signer.access(&grant()).unwrap();
    assert!(matches!(
        verifier.access(&token).await,
        Err(TokenError::KeysUnavailable)
    ));
}

/// An owner of one session who counts the questions.
struct Owner {
    view: SessionView,
    live: std::sync::atomic::AtomicBool,
    asked: AtomicUsize,
}

impl Owner {
    fn new() -> Arc<Self> {
        let Grant {
            user, role, session, ..
        } = grant();
        let session = Sources::system().id::<SessionId>().max(session);
        let view = SessionView { session, user, role };
        Arc::new(Self {
            view,
            live: true.into(),
            asked: AtomicUsize::new(0),
        })
    }

    fn state(&self) -> SessionState {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.live.load(Ordering::SeqCst) {
            SessionState::Live(self.view)
        } else {
            SessionState::Revoked
        }
    }
}

/// The same owner as seen by one pod.
struct Seen(Arc<Owner>);

#[async_trait]
impl SessionSource for Seen {
    async fn by_id(&self, _: SessionId) -> Result<SessionState, Unchecked> {
        Ok(self.0.state())
    }

    async fn by_cookie(&self, _: &CookieSecret) -> Result<SessionState, Unchecked> {
        Ok(self.0.state())
    }
}

fn pod(owner: &Arc<Owner>, redis: &Redis) -> Sessions {
    Sessions::new(Arc::new(Seen(owner.clone()))).sharing(redis.clone())
}

fn redis_at(server: &RedisServer) -> Redis {
    Redis::connect(&RedisConfig::single(server.url())).unwrap()
}

#[tokio::test]
async fn a_revocation_reaches_another_pod_through_redis_within_a_second() {
    let server = RedisServer::start().await.unwrap();
    let redis = redis_at(&server);
    let owner = Owner::new();
    let (here, there) = (pod(&owner, &redis), pod(&owner, &redis));
    let session = owner.view.session;
    assert!(matches!(here.by_id(session).await, Ok(SessionState::Live(_))));
    assert!(matches!(there.by_id(session).await, Ok(SessionState::Live(_))));
    assert_eq!(owner.asked.load(Ordering::SeqCst), 1, "the second pod read Redis");

    owner.live.store(false, Ordering::SeqCst);
    here.announce_revoked(&[session]).await;
    let revoked = tokio::time::Instant::now();
    assert!(
        matches!(here.by_id(session).await, Ok(SessionState::Revoked)),
        "at once where it happened"
    );
    while !matches!(there.by_id(session).await, Ok(SessionState::Revoked)) {
        assert!(revoked.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        redis
            .get_text(&format!("revoked:sid:{session}"))
            .await
            .unwrap()
            .is_some()
    );
}

/// An owner whose answer arrives after the revocation it did not see.
struct Overtaken(SessionView, Redis);

#[async_trait]
impl SessionSource for Overtaken {
    async fn by_id(&self, session: SessionId) -> Result<SessionState, Unchecked> {
        let other = pod(&Owner::new(), &self.1);
        other.announce_revoked(&[session]).await;
        Ok(SessionState::Live(self.0))
    }

    async fn by_cookie(&self, _: &CookieSecret) -> Result<SessionState, Unchecked> {
        self.by_id(self.0.session).await
    }
}

#[tokio::test]
async fn an_old_answer_never_overwrites_a_revocation() {
    let server = RedisServer::start().await.unwrap();
    let redis = redis_at(&server);
    let view = Owner::new().view;
    let source = Overtaken(view, redis.clone());
    let sessions = Sessions::new(Arc::new(source)).sharing(redis);
    assert!(matches!(sessions.by_id(view.session).await, Ok(SessionState::Revoked)));
}

#[tokio::test]
async fn while_redis_is_away_the_owner_is_asked() {
    let mut server = RedisServer::start().await.unwrap();
    let redis = redis_at(&server);
    let owner = Owner::new();
    let session = owner.view.session;
    assert!(matches!(
        pod(&owner, &redis).by_id(session).await,
        Ok(SessionState::Live(_))
    ));
    server.kill().await.unwrap();
    assert!(matches!(
        pod(&owner, &redis).by_id(session).await,
        Ok(SessionState::Live(_))
    ));
    let cookie = CookieSecret::parse(&"x".repeat(43)).unwrap();
    assert!(matches!(
        pod(&owner, &redis).by_cookie(&cookie).await,
        Ok(SessionState::Live(_))
    ));
    assert!(owner.asked.load(Ordering::SeqCst) >= 3);
    owner.live.store(false, Ordering::SeqCst);
    assert!(matches!(
        pod(&owner, &redis).by_id(session).await,
        Ok(SessionState::Revoked)
    ));
}

#[tokio::test]
async fn the_issuer_of_tests_is_checked_like_production() {
    let issuer = Issuer::new();
    let user = UserId(uuid::Uuid::from_u128(5));
    let ada = issuer.sign_in_as(user, Role::Admin);
    let authenticator = issuer.authenticator();
    let ask = async |name: header::HeaderName, value: String| {
        let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
        authenticator.0.user(&Method::GET, &headers).await
    };
    let bearer = || format!("Bearer {}", ada.token);
    let caller = ask(header::AUTHORIZATION, bearer()).await.unwrap().unwrap();
    assert_eq!((caller.user, caller.role), (user, Role::Admin));
    let caller = ask(header::COOKIE, format!("ds_session={}", ada.cookie))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((caller.user, caller.email), (user, None));
    issuer.set(ada.session, SessionState::Suspended).await;
    assert_eq!(
        ask(header::AUTHORIZATION, bearer()).await.unwrap_err().code(),
        "ACCOUNT_SUSPENDED"
    );
    issuer.set(ada.session, SessionState::Gone).await;
    assert_eq!(
        ask(header::AUTHORIZATION, bearer()).await.unwrap_err().code(),
        "USER_INACTIVE"
    );
    let away = issuer.sign_in(user);
    issuer.set_away(true);
    assert_eq!(
        ask(header::AUTHORIZATION, format!("Bearer {away}"))
            .await
            .unwrap_err()
            .status(),
        503
    );
}
