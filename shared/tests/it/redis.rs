//! One suite over the three back ends, so that they behave alike, and what happens when a server goes away.
//!
//! The servers are real processes; without `redis-server` the tests say SKIP and why.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use devkit::redis::{RedisCluster, RedisServer};
use shared::redis::{
    Received, Redis, RedisConfig, RedisError, Reply, Script,
    script::{int_arg, key},
};

/// Patience with slow machines; conditions are met long before.
const PATIENCE: Duration = Duration::from_secs(20);
/// A time-out for suites that are not about time-outs.
const GENEROUS: Duration = Duration::from_secs(5);

/// Whether real servers can be started; says so if not.
pub async fn servers_or_skip() -> bool {
    let installed = devkit::redis::is_installed().await;
    if !installed {
        println!("SKIP: redis-server is not installed (make test installs it)");
    }
    installed
}

/// All back ends that this machine has, with their guards.
pub struct BackEnds {
    pub each: Vec<(&'static str, Redis)>,
    _single: Option<RedisServer>,
    _cluster: Option<RedisCluster>,
}

impl BackEnds {
    pub async fn start() -> Self {
        let mut each = vec![("in process", Redis::memory())];
        if !servers_or_skip().await {
            return Self {
                each,
                _single: None,
                _cluster: None,
            };
        }
        let (single, cluster) = (
            RedisServer::start().await.unwrap(),
            RedisCluster::start().await.unwrap(),
        );
        each.push(("single", connect(&RedisConfig::single(single.url()))));
        each.push(("cluster", connect(&RedisConfig::cluster(cluster.urls()))));
        Self {
            each,
            _single: Some(single),
            _cluster: Some(cluster),
        }
    }
}

fn connect(config: &RedisConfig) -> Redis {
    Redis::connect(&config.clone().with_timeout(GENEROUS)).unwrap()
}

/// A key that no other test uses.
pub fn fresh(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}:{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for a condition, not for a time.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn all_back_ends_behave_alike() {
    let back_ends = BackEnds::start().await;
    for (name, redis) in &back_ends.each {
        println!("{name}");
        redis.ping().await.unwrap();
        values(redis).await;
        lives(redis).await;
        counters(redis).await;
        hashes(redis).await;
        wrong_types(redis).await;
        scripts(redis).await;
        channels(redis).await;
    }
}

async fn values(redis: &Redis) {
    let key = fresh("value");
    assert_eq!(redis.get(&key).await.unwrap(), None);
    redis.set(&key, [0_u8, 255, 10], None).await.unwrap();
    assert_eq!(redis.get(&key).await.unwrap(), Some(vec![0, 255, 10]));
    redis.set(&key, "text", None).await.unwrap();
    assert_eq!(redis.get_text(&key).await.unwrap().as_deref(), Some("text"));
    assert!(!redis.set_nx(&key, "other", None).await.unwrap());
    assert!(redis.del(&key).await.unwrap());
    assert!(!redis.del(&key).await.unwrap());
    assert!(redis.set_nx(&key, "other", None).await.unwrap());
    assert_eq!(redis.get_text(&key).await.unwrap().as_deref(), Some("other"));
}

async fn lives(redis: &Redis) {
    let (short, long) = (fresh("life"), fresh("life"));
    redis.set(&short, "x", Some(Duration::from_millis(30))).await.unwrap();
    eventually("the value has expired", async || {
        redis.get(&short).await.unwrap().is_none()
    })
    .await;
    assert!(
        redis.set_nx(&short, "y", Some(Duration::from_secs(60))).await.unwrap(),
        "an expired key is free"
    );

    redis.set(&long, "x", Some(Duration::from_secs(60))).await.unwrap();
    let left = redis.ttl(&long).await.unwrap().unwrap();
    assert!(
        left > Duration::from_secs(50) && left <= Duration::from_secs(60),
        "{left:?}"
    );
    redis.set(&long, "x", None).await.unwrap();
    assert_eq!(
        redis.ttl(&long).await.unwrap(),
        None,
        "a new value has no life of the old one"
    );
    assert!(redis.expire(&long, Duration::from_millis(30)).await.unwrap());
    eventually("the new life has ended", async || {
        redis.get(&long).await.unwrap().is_none()
    })
    .await;
    assert!(!redis.expire(&long, Duration::from_secs(1)).await.unwrap());
    assert_eq!(redis.ttl(&long).await.unwrap(), None);
}

async fn counters(redis: &Redis) {
    let key = fresh("counter");
    assert_eq!(redis.incr_by(&key, 2, Some(Duration::from_secs(60))).await.unwrap(), 2);
    assert_eq!(
        redis.incr_by(&key, -3, Some(Duration::from_secs(6000))).await.unwrap(),
        -1
    );
    let left = redis.ttl(&key).await.unwrap().unwrap();
    assert!(
        left <= Duration::from_secs(60),
        "only the creation gives a life: {left:?}"
    );
    assert_eq!(redis.get_text(&key).await.unwrap().as_deref(), Some("-1"));
}

async fn hashes(redis: &Redis) {
    let key = fresh("hash");
    assert_eq!(redis.hgetall(&key).await.unwrap(), BTreeMap::new());
    redis
        .hset(&key, &[("a", "1"), ("b", "ü")], Some(Duration::from_secs(60)))
        .await
        .unwrap();
    redis.hset(&key, &[("a", "2")], None).await.unwrap();
    let expected = [("a", "2"), ("b", "ü")].map(|(field, value)| (field.to_owned(), value.to_owned()));
    assert_eq!(redis.hgetall(&key).await.unwrap(), BTreeMap::from(expected));
    assert!(
        redis.ttl(&key).await.unwrap().is_some(),
        "a further field keeps the life"
    );
}

async fn wrong_types(redis: &Redis) {
    let key = fresh("type");
    redis.set(&key, "text", None).await.unwrap();
    let refused = |error: RedisError| matches!(error, RedisError::Command(_));
    assert!(refused(redis.hgetall(&key).await.unwrap_err()));
    assert!(refused(redis.hset(&key, &[("a", "1")], None).await.unwrap_err()));
    assert!(refused(redis.incr_by(&key, 1, None).await.unwrap_err()));
    assert_eq!(
        redis.get_text(&key).await.unwrap().as_deref(),
        Some("text"),
        "a refused command changes nothing"
    );
    let hash = fresh("type");
    redis.hset(&hash, &[("a", "1")], None).await.unwrap();
    assert!(refused(redis.get(&hash).await.unwrap_err()));
}

/// Moves one piece from the first counter to the second, if there is one.
static SELL: Script = Script::new(
    "sell",
    "if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then return 0 end
     redis.call('DECRBY', KEYS[1], ARGV[1])
     redis.call('INCRBY', KEYS[2], ARGV[1])
     return 1",
    |view, keys, args| {
        let (stock, sold, n) = (key(keys, 0)?, key(keys, 1)?, int_arg(args, 0)?);
        if view.get_int(stock)?.unwrap_or_default() < n {
            return Ok(Reply::Int(0));
        }
        view.incr_by(stock, -n)?;
        view.incr_by(sold, n)?;
        Ok(Reply::Int(1))
    },
);

async fn scripts(redis: &Redis) {
    let tag = fresh("shop");
    let (stock, sold) = (format!("{{{tag}}}:stock"), format!("{{{tag}}}:sold"));
    redis.set(&stock, "40", None).await.unwrap();
    let buyers: Vec<_> = (0..100)
        .map(|_| {
            let (redis, stock, sold) = (redis.clone(), stock.clone(), sold.clone());
            tokio::spawn(async move {
                redis
                    .eval(&SELL, &[&stock, &sold], &["1"])
                    .await
                    .unwrap()
                    .int()
                    .unwrap()
            })
        })
        .collect();
    let mut bought = 0;
    for buyer in buyers {
        bought += buyer.await.unwrap();
    }
    assert_eq!(bought, 40, "no piece is sold twice");
    assert_eq!(redis.get_text(&sold).await.unwrap().as_deref(), Some("40"));

    let refused = redis.eval(&SELL, &["one", "two"], &["1"]).await.unwrap_err();
    assert!(matches!(refused, RedisError::Command(_)), "keys of two slots");
}

async fn channels(redis: &Redis) {
    let (news, other) = (fresh("news"), fresh("other"));
    let mut first = redis.subscribe(&[&news, &other]).await;
    let mut second = redis.subscribe(&[&news]).await;
    redis.publish(&news, "one").await.unwrap();
    redis.publish(&news, [0_u8, 1]).await.unwrap();
    redis.publish(&other, "three").await.unwrap();
    let (mut news_seen, mut other_seen) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        match next(&mut first).await {
            Received::Message(message) if message.channel == news => news_seen.push(message.payload),
            Received::Message(message) => other_seen.push(message.payload),
            Received::Gap => panic!("nothing was lost"),
        }
    }
    assert_eq!(
        (news_seen, other_seen),
        (vec![b"one".to_vec(), vec![0, 1]], vec![b"three".to_vec()])
    );
    for expected in [b"one".to_vec(), vec![0, 1]] {
        let Received::Message(message) = next(&mut second).await else {
            panic!("nothing was lost")
        };
        assert_eq!((message.channel.as_str(), message.payload), (news.as_str(), expected));
    }
}

async fn next(subscription: &mut shared::redis::Subscription) -> Received {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a message in time")
        .unwrap()
}

#[tokio::test]
async fn the_in_process_store_drops_what_was_used_least_recently() {
    let mut config = RedisConfig::memory();
    config.memory_bytes = 256 * 1024;
    let redis = Redis::connect(&config).unwrap();
    redis.set("{x}:kept", "x", None).await.unwrap();
    for number in 0..1000 {
        redis
            .set(&format!("{{x}}:{number}"), "y".repeat(100), None)
            .await
            .unwrap();
        redis.get("{x}:kept").await.unwrap();
    }
    assert_eq!(redis.get_text("{x}:kept").await.unwrap().as_deref(), Some("x"));
    assert_eq!(redis.get("{x}:0").await.unwrap(), None);
    let Redis::Memory(memory) = &redis else {
        panic!("in process")
    };
    assert!(memory.len() < 1000);
}

#[tokio::test]
async fn an_absent_server_costs_next_to_nothing() {
    // a port that was free a moment ago
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for config in [
        RedisConfig::single(format!("redis://127.0.0.1:{port}")),
        RedisConfig::cluster(vec![format!("redis://127.0.0.1:{port}")]),
    ] {
        let redis = Redis::connect(&config).unwrap();
        for _ in 0..3 {
            assert!(redis.get("key").await.unwrap_err().is_unavailable());
        }
        let started = Instant::now();
        for _ in 0..1000 {
            assert!(redis.get("key").await.unwrap_err().is_unavailable());
        }
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert!(redis.ping().await.unwrap_err().is_unavailable());
    }
}

#[tokio::test]
async fn a_killed_server_is_found_again_after_its_restart() {
    if !servers_or_skip().await {
        return;
    }
    let mut server = RedisServer::start().await.unwrap();
    let redis = Redis::connect(&RedisConfig::single(server.url())).unwrap();
    let mut subscription = redis.subscribe(&["news"]).await;
    eventually("the first command succeeds", async || {
        redis.set("key", "x", None).await.is_ok()
    })
    .await;

    server.kill().await.unwrap();
    eventually("the loss is noticed", async || {
        redis.get("key").await.is_err_and(|error| error.is_unavailable())
    })
    .await;
    assert_eq!(
        next(&mut subscription).await,
        Received::Gap,
        "a subscriber hears of the loss"
    );

    server.restart().await.unwrap();
    eventually("commands succeed again", async || {
        redis.set("key", "y", None).await.is_ok()
    })
    .await;
    eventually("messages arrive again", async || {
        redis.publish("news", "back").await.ok();
        let message = tokio::time::timeout(Duration::from_millis(50), subscription.next()).await;
        matches!(message, Ok(Some(Received::Message(_))))
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_costs_its_time_out_and_then_nothing() {
    if !servers_or_skip().await {
        return;
    }
    let server = RedisServer::start().await.unwrap();
    let redis = Redis::connect(&RedisConfig::single(server.url()).with_timeout(Duration::from_millis(100))).unwrap();
    eventually("the first command succeeds", async || {
        redis.set("key", "x", None).await.is_ok()
    })
    .await;

    server.freeze().unwrap();
    let started = Instant::now();
    for _ in 0..3 {
        assert!(redis.get("key").await.unwrap_err().is_unavailable());
    }
    assert!(
        started.elapsed() >= Duration::from_millis(300),
        "each has its own time-out"
    );
    let paused = Instant::now();
    for _ in 0..100 {
        assert!(redis.get("key").await.is_err());
    }
    assert!(
        // each waiting for its time-out would take ten seconds
        paused.elapsed() < Duration::from_secs(3),
        "while it is silent nobody waits: {:?}",
        paused.elapsed()
    );

    server.thaw().unwrap();
    eventually("it answers again", async || {
        redis
            .get_text("key")
            .await
            .is_ok_and(|text| text.as_deref() == Some("x"))
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_an_absent_server() {
    if !servers_or_skip().await {
        return;
    }
    let server = RedisServer::start_with(&["--requirepass", "right"]).await.unwrap();
    let mut config = RedisConfig::single(server.url()).with_timeout(GENEROUS);
    config.password = Some("wrong".to_owned().into());
    let error = Redis::connect(&config).unwrap().get("key").await.unwrap_err();
    assert!(
        error.is_unavailable() && !error.to_string().contains("wrong"),
        "{error}"
    );
    config.password = Some("right".to_owned().into());
    Redis::connect(&config).unwrap().set("key", "x", None).await.unwrap();
}

#[tokio::test]
async fn losing_one_node_of_a_cluster_costs_its_keys_only() {
    if !servers_or_skip().await {
        return;
    }
    let mut cluster = RedisCluster::start().await.unwrap();
    let redis = Redis::connect(&RedisConfig::cluster(cluster.urls())).unwrap();
    eventually("the first command succeeds", async || redis.ping().await.is_ok()).await;
    let keys: Vec<String> = (0..60).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        eventually("the key is written", async || redis.set(key, "x", None).await.is_ok()).await;
    }

    cluster.nodes_mut()[1].kill().await.unwrap();
    eventually("the keys of the other nodes are served", async || {
        let mut served = 0;
        for key in &keys {
            served += usize::from(redis.get(key).await.is_ok_and(|value| value.is_some()));
        }
        (25..60).contains(&served)
    })
    .await;

    cluster.nodes_mut()[1].restart().await.unwrap();
    cluster.settled().await.unwrap();
    eventually("all keys can be written again", async || {
        for key in &keys {
            if redis.set(key, "y", None).await.is_err() {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_was_down_altogether_is_found_again() {
    if !servers_or_skip().await {
        return;
    }
    let mut cluster = RedisCluster::start().await.unwrap();
    let redis = Redis::connect(&RedisConfig::cluster(cluster.urls())).unwrap();
    eventually("the first command succeeds", async || {
        redis.set("key", "x", None).await.is_ok()
    })
    .await;
    for node in cluster.nodes_mut() {
        node.kill().await.unwrap();
    }
    eventually("the loss is noticed", async || {
        redis.get("key").await.is_err_and(|error| error.is_unavailable())
    })
    .await;
    for node in cluster.nodes_mut() {
        node.restart().await.unwrap();
    }
    cluster.settled().await.unwrap();
    eventually("commands succeed again", async || {
        redis.set("key", "y", None).await.is_ok()
    })
    .await;
    // the scripts of the old processes are gone
    assert_eq!(redis.incr_by(&fresh("counter"), 1, None).await.unwrap(), 1);
}
