//! What identity must carry (issue of the core pod, point 8): token checks at a steady rate, lists in one round trip, and
//! sign-ins that take every core without starving those who only read.
//!
//! Steady rates are driven open-loop: each request has its time on the schedule, and a late answer counts from there, so a
//! stall is seen by all the requests that it held up.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::{
    Plan,
    load::{Case, drive},
    platform::{Platform, Service},
    report::{Figure, Report},
    scenario::{SignIns, Travellers},
};

/// What the issue asks for, in milliseconds.
const VERIFY_P99: f64 = 5.0;
const BESIDE_SIGN_INS_P99: f64 = 50.0;
/// Enough for a page of them.
const FAVOURITES: usize = 20;

/// All cases of identity.
pub async fn measure(
    platform: &Platform,
    travellers: &Travellers,
    plan: &Plan,
    report: &mut Report,
) -> anyhow::Result<()> {
    lists(platform, travellers, plan, report).await?;
    token_checks(platform, plan, report).await?;
    reads_beside_sign_ins(platform, travellers, plan, report).await
}

/// Favourites and notifications of a traveller who has some.
async fn lists(platform: &Platform, travellers: &Travellers, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (http, base) = (reqwest::Client::new(), platform.base(Service::User));
    for number in 0..FAVOURITES {
        let item =
            json!({ "entityType": "HOTEL", "entityId": format!("hotel-{number}"), "notes": "seen in the bench" });
        let call = http.post(format!("{base}/api/v1/users/favorites")).json(&item);
        let answer = call.bearer_auth(travellers.bearer()).send().await?;
        ensure!(
            matches!(answer.status(), StatusCode::CREATED | StatusCode::CONFLICT),
            "a favourite answered {}",
            answer.status()
        );
    }
    for (name, path) in [
        ("favourites list", "/api/v1/users/favorites"),
        ("notification list", "/api/v1/users/notifications"),
    ] {
        let case = Case {
            name,
            url: format!("{base}{path}"),
            headers: vec![("Authorization", format!("Bearer {}", travellers.bearer()))],
            ..Case::default()
        };
        report.add(drive(plan, &case).await?);
    }
    Ok(())
}

/// `verify-token` as the web client calls it, a thousand times a second.
async fn token_checks(platform: &Platform, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let url = format!("{}/api/v1/auth/verify-token", platform.base(Service::Auth));
    let (http, (bearer, cookie)) = (reqwest::Client::new(), browser(platform).await?);
    let ask = move || {
        // with its cookie, as a browser has one after the first time
        let call = http.post(&url).bearer_auth(&bearer).header("cookie", &cookie);
        async move { is_ok(call.send().await?).await }
    };
    paced(100, Duration::from_secs(1), ask.clone()).await?;
    let figure = paced(1_000, plan.time, ask).await?.named("verify-token at 1,000/s");
    report.fact("verify-token p99 at 1,000/s", figure.p99, "ms", Some(VERIFY_P99));
    report.add(figure);
    Ok(())
}

/// Profiles read at a steady rate while sign-ins take all the hashing there is.
async fn reads_beside_sign_ins(
    platform: &Platform,
    travellers: &Travellers,
    plan: &Plan,
    report: &mut Report,
) -> anyhow::Result<()> {
    let url = format!("{}/api/v1/users/profile", platform.base(Service::User));
    let (http, bearer) = (reqwest::Client::new(), travellers.bearer().to_owned());
    let read = move || {
        let call = http.get(&url).bearer_auth(&bearer);
        async move { is_ok(call.send().await?).await }
    };
    let reads = paced(200, plan.time, read);
    let sign_ins = SignIns::prepare(platform).await?;
    let (signed_in, read) = tokio::join!(sign_ins.run("login beside profile reads", plan.time), reads);
    report.add(signed_in?);
    let figure = read?.named("profile at 200/s beside sign-ins");
    report.fact(
        "profile p99 beside sign-ins at their limit",
        figure.p99,
        "ms",
        Some(BESIDE_SIGN_INS_P99),
    );
    report.add(figure);
    Ok(())
}

/// The access token and the `Cookie` header of a browser that signed up.
async fn browser(platform: &Platform) -> anyhow::Result<(String, String)> {
    let body = json!({
        "email": format!("browser.{}@example.com", shared::Sources::system().uuid_v4()),
        "password": "Dream-scape-1!",
        "firstName": "Bench",
    });
    let url = format!("{}/api/v1/auth/register", platform.base(Service::Auth));
    let answer = reqwest::Client::new().post(url).json(&body).send().await?;
    ensure!(
        answer.status() == StatusCode::CREATED,
        "register answered {}",
        answer.status()
    );
    let lines = answer.headers().get_all("set-cookie").iter();
    let cookie = lines
        .filter_map(|line| line.to_str().ok()?.split(';').next())
        .find(|pair| pair.starts_with("ds_session="))
        .map(str::to_owned)
        .context("register set no ds_session")?;
    let body: serde_json::Value = answer.json().await?;
    let token = body
        .pointer("/data/tokens/accessToken")
        .and_then(|token| token.as_str());
    Ok((token.context("register gave no token")?.to_owned(), cookie))
}

async fn is_ok(answer: reqwest::Response) -> anyhow::Result<()> {
    ensure!(answer.status() == StatusCode::OK, "answered {}", answer.status());
    answer.bytes().await?;
    Ok(())
}

impl Figure {
    fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

/// Sends `rate` requests a second for `time`, whether the earlier ones were answered or not.
async fn paced<F, Fut>(rate: u32, time: Duration, work: F) -> anyhow::Result<Figure>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let work = Arc::new(work);
    // several at each tick, because a timer is good for milliseconds only
    let ticks_per_second = rate.min(200);
    let each = rate / ticks_per_second;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / ticks_per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = tokio::task::JoinSet::new();
    let started = Instant::now();
    while started.elapsed() < time {
        let due = ticks.tick().await.into_std();
        for _ in 0..each {
            let work = work.clone();
            asked.spawn(async move { work().await.map(|()| due.elapsed()) });
        }
    }
    let (mut times, mut errors, mut last) = (Vec::new(), 0_u64, None);
    while let Some(done) = asked.join_next().await {
        match done? {
            Ok(took) => times.push(took),
            Err(error) => {
                errors += 1;
                last = Some(error);
            }
        }
    }
    if let Some(error) = last {
        eprintln!("  {errors} failed, the last: {error:#}");
    }
    ensure!(!times.is_empty(), "nothing succeeded");
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    #[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
    let reached = times.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Figure {
        name: "",
        rate: reached,
        p50: at(50),
        p99: at(99),
        errors,
    })
}
