//! The cases: what is asked of the platform, by whom, with which data.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    Plan,
    limits::{self, LimitServer},
    load::{Case, TURNS, drive, drive_beside, repeat},
    platform::{Addresses, Platform, Service},
    report::{Figure, Report},
};

const PASSWORD: &str = "Dream-scape-1!";
/// Enough that nobody signs in more often than sessions are kept of an account.
const TRAVELLERS: usize = 512;
const SEARCH: &str =
    "/api/v1/flights/search?originLocationCode=PAR&destinationLocationCode=TYO&adults=1&departureDate=";

/// A signed-in traveller with something in the cart, and the bytes of two answers for the limits.
#[derive(Debug)]
pub struct Travellers {
    bearer: String,
    day: String,
    /// The profile, as answered.
    pub profile_bytes: String,
    /// A cached search, as answered.
    pub search_bytes: Vec<u8>,
}

impl Travellers {
    /// The reader's access token.
    pub fn bearer(&self) -> &str {
        &self.bearer
    }

    /// Signs a traveller up and fills the cart.
    pub async fn prepare(platform: &Platform) -> anyhow::Result<Self> {
        let http = reqwest::Client::new();
        let bearer = register(&http, platform, "reader").await?;
        let day = (shared::Sources::system().now() + Duration::from_secs(60 * 86_400))
            .format("%Y-%m-%d")
            .to_string();
        let search = http
            .get(format!("{}{SEARCH}{day}", platform.base(Service::Voyage)))
            .send()
            .await?;
        ensure!(
            search.status() == StatusCode::OK,
            "the search answered {}",
            search.status()
        );
        let search_bytes = search.bytes().await?.to_vec();
        add_to_cart(&http, &platform.addresses(), &bearer, &search_bytes).await?;
        let profile = http
            .get(format!("{}/api/v1/users/profile", platform.base(Service::User)))
            .bearer_auth(&bearer)
            .send()
            .await?;
        Ok(Self {
            bearer,
            day,
            profile_bytes: profile.text().await?,
            search_bytes,
        })
    }
}

pub async fn register(http: &reqwest::Client, platform: &Platform, name: &str) -> anyhow::Result<String> {
    let unique = shared::Sources::system().uuid_v4();
    let body = json!({ "email": format!("{name}.{unique}@example.com"), "password": PASSWORD, "firstName": "Bench" });
    let answer = http
        .post(format!("{}/api/v1/auth/register", platform.base(Service::Auth)))
        .json(&body)
        .send()
        .await?;
    let status = answer.status();
    let answer: Value = answer.json().await?;
    ensure!(status == StatusCode::CREATED, "register answered {status}: {answer}");
    answer
        .pointer("/data/tokens/accessToken")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .context("register gave no token")
}

async fn add_to_cart(http: &reqwest::Client, platform: &Addresses, bearer: &str, search: &[u8]) -> anyhow::Result<()> {
    let found: Value = serde_json::from_slice(search)?;
    let offer = found.pointer("/data/0").context("the search found nothing")?;
    let item = json!({
        "type": "FLIGHT", "itemId": offer["id"], "itemData": { "offer": offer["id"] }, "quantity": 1,
        "price": offer["price"]["total"], "currency": offer["price"]["currency"],
    });
    let url = format!("{}/api/v1/cart/items", platform.base(Service::Voyage));
    let answer = http.post(url).bearer_auth(bearer).json(&item).send().await?;
    let status = answer.status();
    ensure!(
        status == StatusCode::CREATED,
        "the cart answered {status}: {}",
        answer.text().await?
    );
    Ok(())
}

/// Everything that only reads.
pub async fn reads(
    platform: &Platform,
    travellers: &Travellers,
    limits: &LimitServer,
    plan: &Plan,
    report: &mut Report,
) -> anyhow::Result<()> {
    let bearer = || vec![("Authorization", format!("Bearer {}", travellers.bearer))];
    let voyage = platform.base(Service::Voyage);
    let cases = [
        Case {
            name: "health",
            url: format!("{}/health/live", platform.base(Service::User)),
            ..Case::default()
        },
        Case {
            name: "profile with token",
            url: format!("{}/api/v1/users/profile", platform.base(Service::User)),
            headers: bearer(),
            ..Case::default()
        },
        Case {
            name: "flight search, cached",
            url: format!("{voyage}{SEARCH}{}", travellers.day),
            ..Case::default()
        },
        Case {
            name: "flight search, cold",
            url: voyage.clone(),
            script: Some(cold_searches(&travellers.day)),
            ..Case::default()
        },
        Case {
            name: "popular",
            url: format!("{}/api/v1/ai/recommendations/popular", platform.base(Service::Ai)),
            ..Case::default()
        },
        Case {
            name: "cart read",
            url: format!("{voyage}/api/v1/cart"),
            headers: bearer(),
            ..Case::default()
        },
    ];
    for case in &cases {
        let limit = match case.name {
            "profile with token" => limits.case("limit: select by primary key", "/row"),
            "cart read" => limits.case("limit: select, beside the cart", "/row"),
            "flight search, cached" => limits.case("limit: bare route, search bytes", "/bytes"),
            "health" => limits.case("limit: bare route, small", "/small"),
            _ => {
                report.add(drive(plan, case).await?);
                continue;
            }
        };
        for figure in drive_beside(plan, &limit, case).await? {
            report.add(figure);
        }
    }
    Ok(())
}

/// A different pair of cities or another day each time: nothing is answered from the cache.
fn cold_searches(day: &str) -> String {
    let year_month = day.get(..7).unwrap_or("2030-01");
    format!(
        r#"
local cities = {{ "PAR", "LON", "NYC", "TYO", "ROM", "BER", "MAD", "SYD", "SFO", "CHI", "BKK", "SIN", "DXB", "IST", "GRU", "JNB", "YTO", "LIS", "ATH", "CPH" }}
local n = math.floor(os.time() % 1000) * 7919
request = function()
  n = n + 1
  local a = n % 20
  local b = (a + 1 + math.floor(n / 20) % 19) % 20
  local d = 1 + math.floor(n / 380) % 28
  local p = 1 + math.floor(n / 10640) % 9
  return wrk.format("GET", string.format("/api/v1/flights/search?originLocationCode=%s&destinationLocationCode=%s&adults=%d&departureDate={year_month}-%02d",
    cities[a + 1], cities[b + 1], p, d))
end
"#
    )
}

/// How many sign in at once: enough that a password always waits to be hashed.
const SIGNING_IN: usize = 32;

/// Accounts that sign in with the right password: the hashing limit is the only thing that should hold them back.
pub struct SignIns<'p> {
    platform: &'p Platform,
    http: reqwest::Client,
    emails: Arc<[String]>,
}

impl<'p> SignIns<'p> {
    /// Makes the accounts.
    pub async fn prepare(platform: &'p Platform) -> anyhow::Result<Self> {
        let http = reqwest::Client::new();
        let url = format!("{}/api/v1/auth/register", platform.base(Service::Auth));
        let register = async || {
            let email = format!("signin.{}@example.com", shared::Sources::system().uuid_v4());
            let body = json!({ "email": email, "password": PASSWORD, "firstName": "Bench" });
            let answer = http.post(&url).json(&body).send().await?;
            ensure!(answer.status() == StatusCode::CREATED, "register refused");
            Ok(email)
        };
        let emails: Vec<_> = futures_util::stream::iter(0..TRAVELLERS)
            .map(|_| register())
            .buffer_unordered(SIGNING_IN)
            .try_collect()
            .await?;
        Ok(Self {
            platform,
            http,
            emails: emails.into(),
        })
    }

    /// Signs in for so long.
    pub async fn run(&self, name: &'static str, time: Duration) -> anyhow::Result<Figure> {
        let (http, emails) = (self.http.clone(), Arc::clone(&self.emails));
        let url = format!("{}/api/v1/auth/login", self.platform.base(Service::Auth));
        let work = move |turn: u64| {
            let (http, url) = (http.clone(), url.clone());
            let email = emails[usize::try_from(turn).unwrap_or_default() % emails.len()].clone();
            async move {
                let started = Instant::now();
                let answer = http
                    .post(url)
                    .json(&json!({ "email": email, "password": PASSWORD }))
                    .send()
                    .await?;
                ensure!(answer.status() == StatusCode::OK, "login answered {}", answer.status());
                answer.bytes().await?;
                Ok(started.elapsed())
            }
        };
        repeat(name, SIGNING_IN, time, work).await
    }

    /// Sign-ins and hashes in turns, the hashes first, and the CPU time that the core pod took for each sign-in.
    pub async fn beside_hashes(&self, plan: &Plan) -> anyhow::Result<([Figure; 2], Duration)> {
        let turn = plan.time / 2;
        let (mut hashes, mut sign_ins) = (Vec::new(), Vec::new());
        let (mut cpu, mut count) = (0.0, 0.0);
        for _ in 0..TURNS {
            hashes.push(limits::hashes(turn).await?);
            let (started, before) = (Instant::now(), self.platform.cpu_seconds("core-pod")?);
            let figure = self.run("login", turn).await?;
            count += figure.rate * started.elapsed().as_secs_f64();
            cpu += self.platform.cpu_seconds("core-pod")? - before;
            sign_ins.push(figure);
        }
        let figures = [Figure::of_turns(&hashes)?, Figure::of_turns(&sign_ins)?];
        Ok((figures, Duration::from_secs_f64(cpu / count.max(1.0))))
    }
}

/// Whole checkouts: each by a new traveller with one flight; the time counted is that of `POST /cart/checkout`.
pub async fn checkouts(platform: &Platform, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let http = reqwest::Client::new();
    let day = (shared::Sources::system().now() + Duration::from_secs(45 * 86_400))
        .format("%Y-%m-%d")
        .to_string();
    let search = http
        .get(format!("{}{SEARCH}{day}", platform.base(Service::Voyage)))
        .send()
        .await?
        .bytes()
        .await?;
    let mut bearers = Vec::new();
    for _ in 0..8 {
        bearers.push(register(&http, platform, "buyer").await?);
    }
    let base = platform.base(Service::Voyage);
    let shared_platform = platform.addresses();
    let work = move |turn: u64| {
        let (http, base, search, platform) = (http.clone(), base.clone(), search.clone(), shared_platform.clone());
        let bearer = bearers[usize::try_from(turn).unwrap_or_default() % bearers.len()].clone();
        async move {
            let _ = http
                .delete(format!("{base}/api/v1/cart"))
                .bearer_auth(&bearer)
                .send()
                .await?;
            add_to_cart(&http, &platform, &bearer, &search).await?;
            let started = Instant::now();
            let answer = http
                .post(format!("{base}/api/v1/cart/checkout"))
                .bearer_auth(&bearer)
                .json(&json!({}))
                .send()
                .await?;
            let status = answer.status();
            let body = answer.text().await?;
            ensure!(status == StatusCode::OK, "checkout answered {status}: {body}");
            Ok(started.elapsed())
        }
    };
    report.add(repeat("checkout", 4, plan.time, work).await?);
    Ok(())
}
