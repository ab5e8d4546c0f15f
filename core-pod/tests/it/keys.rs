//! Signing keys: rotation with overlap, emergency, retirement, here and in another pod (core §14, §13 line 8).

use core_pod::auth::{KeyError, KeyStatus, SigningKeys};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    pods::{another_pod, bearer},
    support::{TestApp, eventually},
};

const SEED_A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const SEED_B: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

fn settings() -> [(&'static str, String); 2] {
    let set = json!([
        { "kid": "env", "seed": SEED_A, "use": "sign" },
        { "kid": "older", "seed": SEED_B, "use": "verify" },
    ]);
    [
        ("JWT_KEYSET", set.to_string()),
        ("RATE_LIMIT_MULTIPLIER", "1000".to_owned()),
    ]
}

async fn start(pool: &PgPool) -> TestApp {
    let settings = settings();
    TestApp::with(
        pool.clone(),
        &settings.each_ref().map(|(name, value)| (*name, value.as_str())),
    )
    .await
}

fn again(pool: &PgPool) -> TestApp {
    let settings = settings();
    TestApp::again(
        pool.clone(),
        &settings.each_ref().map(|(name, value)| (*name, value.as_str())),
    )
}

fn keys(app: &TestApp) -> SigningKeys {
    app.services.auth.signing_keys()
}

/// What the job of a running pod does every few seconds.
async fn look(app: &TestApp) {
    keys(app).refresh().await.unwrap();
}

fn kid(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

async fn statuses(app: &TestApp) -> Vec<(String, KeyStatus)> {
    let mut list: Vec<_> = keys(app)
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|key| (key.kid, key.status))
        .collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    list
}

#[sqlx::test(migrations = false)]
async fn a_new_key_is_published_first_signs_later_and_the_old_tokens_stay_good_for_their_life(pool: PgPool) {
    let (app, replica) = (start(&pool).await, again(&pool));
    let (other_pod, _shutdown) = another_pod(&app).await;
    let ada = app.register("ada@example.com").await;
    assert_eq!(kid(&ada.token), "env");
    assert!(bearer(&other_pod, &ada.token).await.is_ok());

    let new = keys(&app).rotate(false).await.unwrap().kid;
    let refused = keys(&replica).rotate(false).await.unwrap_err();
    assert!(matches!(refused, KeyError::UnderWay(kid, _) if kid == new));
    for pod in [&app, &replica] {
        look(pod).await;
        let published = pod.get("/.well-known/jwks.json").send().await.body.to_string();
        assert!(published.contains(&new) && published.contains("env"));
        assert_eq!(
            kid(&pod.login("ada@example.com").await.token),
            "env",
            "published, not signing"
        );
    }
    for pod in [&app, &replica] {
        pod.advance(91);
        look(pod).await;
    }
    let fresh = app.login("ada@example.com").await;
    assert_eq!(kid(&fresh.token), new);
    for token in [&ada.token, &fresh.token] {
        assert_eq!(replica.profile(token).await.status, 200);
        eventually("another pod knows both keys", async || {
            bearer(&other_pod, token).await.is_ok()
        })
        .await;
    }
    // the last token of the old key is over before the key is
    for pod in [&app, &replica] {
        pod.advance(15 * 60 + 11);
        look(pod).await;
    }
    let expected = [
        ("env".to_owned(), KeyStatus::Retired),
        (new.clone(), KeyStatus::Signing),
        ("older".to_owned(), KeyStatus::Retired),
    ];
    let mut expected = expected.to_vec();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(statuses(&app).await, expected);
    replica.profile(&ada.token).await.refused(401, "INVALID_TOKEN");
    // a pod that starts now, with the old key still in its environment
    let late = again(&pool);
    late.advance(91 + 15 * 60 + 11);
    look(&late).await;
    late.profile(&ada.token).await.refused(401, "INVALID_TOKEN");
    assert_eq!(kid(&late.login("ada@example.com").await.token), new);
}

#[sqlx::test(migrations = false)]
async fn in_an_emergency_what_the_old_keys_signed_is_worth_nothing_at_once_in_every_pod(pool: PgPool) {
    let (app, replica) = (start(&pool).await, again(&pool));
    let (other_pod, _shutdown) = another_pod(&app).await;
    let ada = app.register("ada@example.com").await;
    assert!(bearer(&other_pod, &ada.token).await.is_ok());
    let new = keys(&app).rotate(true).await.unwrap();
    assert_eq!(new.status, KeyStatus::Signing);
    for pod in [&app, &replica] {
        look(pod).await;
        pod.profile(&ada.token).await.refused(401, "INVALID_TOKEN");
    }
    // the browser's session is not its token: the next one is signed with the new key
    let refreshed = app
        .post("/api/v1/auth/refresh")
        .cookie("refreshToken", &ada.refresh)
        .send()
        .await;
    assert_eq!(kid(&refreshed.token()), new.kid);
    eventually("the other pod takes the new key", async || {
        bearer(&other_pod, &refreshed.token()).await.is_ok()
    })
    .await;
    // with the new key set came the end of the old keys
    let gone = bearer(&other_pod, &ada.token).await.unwrap_err();
    assert_eq!(gone.code(), "INVALID_TOKEN");
    assert_eq!(
        app.count("select count(*) from auth.signing_keys where private_key_enc is null")
            .await,
        2,
        "private parts that are not to be trusted are not kept"
    );
}

#[sqlx::test(migrations = false)]
async fn one_key_can_be_retired_but_not_the_one_that_signs(pool: PgPool) {
    let app = start(&pool).await;
    let refused = keys(&app).retire("env").await.unwrap_err();
    assert!(matches!(refused, KeyError::Signs(_)));
    let refused = keys(&app).retire("nobody").await.unwrap_err();
    assert!(matches!(refused, KeyError::Unknown(_)));
    keys(&app).retire("older").await.unwrap();
    let again = keys(&app).retire("older").await.unwrap_err();
    assert!(matches!(again, KeyError::Unknown(_)));
    look(&app).await;
    let published = app.get("/.well-known/jwks.json").send().await.body;
    assert_eq!(published["keys"].as_array().unwrap().len(), 1);
    let ada = app.register("ada@example.com").await;
    assert_eq!(kid(&ada.token), "env");
}

#[sqlx::test(migrations = false)]
async fn a_running_pod_finds_new_keys_by_itself(pool: PgPool) {
    let (app, replica) = (start(&pool).await, again(&pool));
    let shutdown = shared::lifecycle::Shutdown::new();
    let (job, watched) = (keys(&replica), shutdown.clone());
    let job = tokio::spawn(async move { job.keep_fresh(watched).await });
    let new = keys(&app).rotate(true).await.unwrap().kid;
    eventually("the replica signs with the new key", async || {
        kid(&replica.login_or_register("ada@example.com").await.token) == new
    })
    .await;
    shutdown.drain();
    job.await.unwrap().unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_key_that_has_signed_for_ninety_days_is_replaced_once_however_many_pods_find_out(pool: PgPool) {
    const DAY: i64 = 86_400;
    let (app, replica) = (start(&pool).await, again(&pool));
    let never = settings();
    let never = TestApp::again(
        pool.clone(),
        &[("JWT_KEYSET", never[0].1.as_str()), ("JWT_KEY_ROTATION_DAYS", "0")],
    );
    let pods = [&app, &replica, &never];
    let pass = |seconds: i64| pods.iter().for_each(|pod| pod.advance(seconds));
    let is_due = async |app: &TestApp| keys(app).refresh().await.unwrap();
    pass(91 * DAY);
    assert!(!is_due(&app).await, "the environment's");
    let first = keys(&app).rotate(false).await.unwrap().kid;
    pass(90 + 90 * DAY - 1);
    assert!(!is_due(&app).await, "a second early");
    pass(1);
    assert!(!is_due(&never).await, "switched off");
    assert!(is_due(&app).await && is_due(&replica).await);
    let (one, other) = (keys(&app), keys(&replica));
    let (one, other) = tokio::join!(one.rotate_when_due(), other.rotate_when_due());
    let made: Vec<_> = [one.unwrap(), other.unwrap()].into_iter().flatten().collect();
    let [second] = made.as_slice() else { panic!("{made:?}") };
    let of = |list: &[(String, KeyStatus)], kid: &str| list.iter().find(|key| key.0 == kid).unwrap().1;
    let list = statuses(&app).await;
    assert_eq!(
        (of(&list, &first), of(&list, &second.kid)),
        (KeyStatus::Signing, KeyStatus::Pending)
    );
    assert!(!is_due(&replica).await, "under way");
    pass(91);
    assert!(!is_due(&replica).await, "done");
    let list = statuses(&app).await;
    assert_eq!(
        (of(&list, &first), of(&list, &second.kid)),
        (KeyStatus::Verifying, KeyStatus::Signing)
    );
}

#[sqlx::test(migrations = false)]
async fn private_keys_are_sealed_and_open_with_the_key_of_the_platform_only(pool: PgPool) {
    let app = start(&pool).await;
    keys(&app).rotate(false).await.unwrap();
    let stored: Vec<Vec<u8>> = sqlx::query_scalar("select private_key_enc from auth.signing_keys")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(stored.len(), 3);
    assert!(
        stored
            .iter()
            .all(|sealed| !sealed.windows(32).any(|part| part == [0; 32] || part == [1; 32]))
    );
    let foreign = [("DATA_ENCRYPTION_KEY", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=")];
    let stranger = TestApp::again(pool, &foreign);
    let error = keys(&stranger).refresh().await.unwrap_err();
    assert!(matches!(error, KeyError::Crypto(_)), "{error}");
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_08_only_asymmetric_keys_sign_and_no_secret_is_ever_shared(pool: PgPool) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let app = start(&pool).await;
    let ada = app.register("ada@example.com").await;
    let published = app.get("/.well-known/jwks.json").send().await.body;
    let public = published["keys"][0]["x"].as_str().unwrap().to_owned();
    assert!(
        published["keys"]
            .as_array()
            .unwrap()
            .iter()
            .all(|key| key.get("d").is_none() && key["alg"] == "EdDSA")
    );
    // the old trick: HS256 with the public key, or with the original's default secrets, as the secret
    let claims = ada.token.split('.').nth(1).unwrap();
    for secret in [
        public.as_bytes(),
        &B64.decode(&public).unwrap(),
        b"your-secret-key",
        b"secret",
        b"",
    ] {
        for kid in ["env", "older"] {
            let header = B64.encode(json!({ "alg": "HS256", "typ": "JWT", "kid": kid }).to_string());
            let signed = format!("{header}.{claims}");
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
            mac.update(signed.as_bytes());
            let forged = format!("{signed}.{}", B64.encode(mac.finalize().into_bytes()));
            app.profile(&forged).await.refused(401, "INVALID_TOKEN");
        }
    }
    // and an opaque refresh token is no access token, nor the other way round
    app.profile(&ada.refresh).await.refused(401, "INVALID_TOKEN");
    let refresh = app.post("/api/v1/auth/refresh").cookie("refreshToken", &ada.token);
    refresh.send().await.refused(401, "INVALID_REFRESH_TOKEN");
}

#[test]
fn must_not_copy_08_production_starts_without_any_default_key() {
    let pairs = [
        ("APP_ENV", "production"),
        ("JWT_SECRET", "x"),
        ("JWT_REFRESH_SECRET", "x"),
    ];
    let mut reader = shared::config::Reader::from_pairs(pairs.map(|(name, value)| (name.into(), value.into())));
    core_pod::Config::read(&mut reader);
    let problems = reader.finish().unwrap_err().to_string();
    for needed in ["JWT_KEYSET", "DATA_ENCRYPTION_KEY", "SERVICE_CLIENTS"] {
        assert!(problems.contains(needed), "{problems}");
    }
}
