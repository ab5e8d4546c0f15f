//! What is kept in Redis: PINs with their tombstones, pictures, uses of links, wrong guesses.
//!
//! contract: core §8 (`vr:pin:<pin>`: hash, 20 minutes, atomic scripts for create-if-absent and consume). Each change of a PIN
//! is one script, written in Lua for Redis and in Rust for the store in this process.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use shared::{
    http::limit::{RateLimiter, Rule},
    redis::{
        Redis, RedisError, Reply, Script,
        script::{arg, int_arg, key},
    },
};

use super::model::{LIFE, Pin, Place, TOMBSTONE};

/// A new PIN with what is kept of it.
pub struct NewPin<'a> {
    pub destination: &'a Place,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// The creator's secret; its digest is kept.
    pub owner: &'a str,
    /// The id of the pairing.
    pub session: &'a str,
}

/// What a reader of a PIN finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// Nobody had it before: here is where to go.
    Live(String),
    Used,
    Expired,
    Unknown,
}

/// Arguments: destination, created, expires, digest of the owner's secret, session, life. 1 if the PIN was free.
static CREATE: Script = Script::new(
    "vr_pin_create",
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
     redis.call('HSET', KEYS[1], 'destination', ARGV[1], 'createdAt', ARGV[2], 'expiresAt', ARGV[3],
         'state', 'live', 'ownerHash', ARGV[4], 'session', ARGV[5])
     redis.call('PEXPIRE', KEYS[1], ARGV[6])
     return 1",
    |view, keys, args| {
        let key = key(keys, 0)?;
        if view.exists(key) {
            return Ok(Reply::Int(0));
        }
        for (index, field) in ["destination", "createdAt", "expiresAt"].into_iter().enumerate() {
            view.hset(key, field, arg(args, index)?)?;
        }
        view.hset(key, "state", "live")?;
        view.hset(key, "ownerHash", arg(args, 3)?)?;
        view.hset(key, "session", arg(args, 4)?)?;
        view.expire(key, millis(int_arg(args, 5)?));
        Ok(Reply::Int(1))
    },
);

/// Arguments: now, whether to consume, life of the tombstone. Answers the state before, and the destination.
static REDEEM: Script = Script::new(
    "vr_pin_redeem",
    "local state = redis.call('HGET', KEYS[1], 'state')
     if not state then return {'unknown', ''} end
     local expires = tonumber(redis.call('HGET', KEYS[1], 'expiresAt'))
     if state == 'withdrawn' or tonumber(ARGV[1]) >= expires then return {'expired', ''} end
     if state == 'used' then return {'used', ''} end
     if ARGV[2] == '1' then
         redis.call('HSET', KEYS[1], 'state', 'used')
         redis.call('PEXPIRE', KEYS[1], ARGV[3])
     end
     return {'live', redis.call('HGET', KEYS[1], 'destination')}",
    |view, keys, args| {
        let answer = |state: &str, destination: &str| {
            Ok(Reply::List(
                [state, destination]
                    .map(|text| Reply::Bytes(text.as_bytes().to_vec()))
                    .to_vec(),
            ))
        };
        let key = key(keys, 0)?;
        let Some(state) = view.hget(key, "state")? else {
            return answer("unknown", "");
        };
        let expires: i64 = view
            .hget(key, "expiresAt")?
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        if state == "withdrawn" || int_arg(args, 0)? >= expires {
            return answer("expired", "");
        }
        if state == "used" {
            return answer("used", "");
        }
        if arg(args, 1)? == "1" {
            view.hset(key, "state", "used")?;
            view.expire(key, millis(int_arg(args, 2)?));
        }
        let destination = view.hget(key, "destination")?.unwrap_or_default();
        answer("live", &destination)
    },
);

/// Argument: digest of the owner's secret. Answers the session if the PIN was withdrawn.
static WITHDRAW: Script = Script::new(
    "vr_pin_withdraw",
    "if redis.call('HGET', KEYS[1], 'ownerHash') ~= ARGV[1] then return false end
     redis.call('HSET', KEYS[1], 'state', 'withdrawn')
     return redis.call('HGET', KEYS[1], 'session')",
    |view, keys, args| {
        let key = key(keys, 0)?;
        if view.hget(key, "ownerHash")?.as_deref() != Some(arg(args, 0)?) {
            return Ok(Reply::Nil);
        }
        view.hset(key, "state", "withdrawn")?;
        let session = view.hget(key, "session")?.unwrap_or_default();
        Ok(Reply::Bytes(session.into_bytes()))
    },
);

/// 1 if the link had a use left, 0 if not, -1 if nothing is known of it.
static USE_LINK: Script = Script::new(
    "vr_link_use",
    "local left = redis.call('GET', KEYS[1])
     if not left then return -1 end
     if tonumber(left) < 1 then return 0 end
     redis.call('DECR', KEYS[1])
     return 1",
    |view, keys, _| {
        let key = key(keys, 0)?;
        Ok(Reply::Int(match view.get_int(key)? {
            None => -1,
            Some(left) if left < 1 => 0,
            Some(_) => {
                view.incr_by(key, -1)?;
                1
            }
        }))
    },
);

fn millis(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or_default().max(1))
}

fn text_of(time: Duration) -> String {
    time.as_millis().to_string()
}

fn pin_key(pin: &Pin) -> String {
    format!("vr:pin:{}", pin.as_str())
}

fn picture_key(id: &str) -> String {
    format!("vr:qr:{id}")
}

fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// Keeps a PIN if nobody has it, also nobody who had it a while ago. Says whether it was free.
pub async fn create(redis: &Redis, pin: &Pin, new: &NewPin<'_>) -> Result<bool, RedisError> {
    let args = [
        new.destination.as_str().to_owned(),
        new.created_at.timestamp_millis().to_string(),
        new.expires_at.timestamp_millis().to_string(),
        digest(new.owner),
        new.session.to_owned(),
        text_of(LIFE + TOMBSTONE),
    ];
    let args = args.each_ref().map(String::as_str);
    Ok(redis.eval(&CREATE, &[&pin_key(pin)], &args).await?.int()? == 1)
}

/// Redeems a PIN, or only looks at it.
pub async fn redeem(redis: &Redis, pin: &Pin, now: DateTime<Utc>, consume: bool) -> Result<Redeemed, RedisError> {
    let (now, consume) = (now.timestamp_millis().to_string(), if consume { "1" } else { "0" });
    let reply = redis
        .eval(&REDEEM, &[&pin_key(pin)], &[&now, consume, &text_of(TOMBSTONE)])
        .await?;
    let mut parts = reply.list()?.iter();
    let mut next = || parts.next().map_or(Ok(None), Reply::text);
    let (state, destination) = (next()?.unwrap_or_default(), next()?.unwrap_or_default());
    Ok(match state.as_str() {
        "live" => Redeemed::Live(destination),
        "used" => Redeemed::Used,
        "expired" => Redeemed::Expired,
        _ => Redeemed::Unknown,
    })
}

/// Withdraws a PIN for its creator, picture and all. Says whether it was the creator's.
pub async fn withdraw(redis: &Redis, pin: &Pin, owner: &str) -> Result<bool, RedisError> {
    let reply = redis.eval(&WITHDRAW, &[&pin_key(pin)], &[&digest(owner)]).await?;
    let Some(session) = reply.text()? else { return Ok(false) };
    redis.del(&picture_key(&session)).await?;
    Ok(true)
}

/// Keeps what a QR code shall say.
pub async fn keep_picture(redis: &Redis, id: &str, url: &str, life: Duration) -> Result<(), RedisError> {
    redis.set(&picture_key(id), url, Some(life)).await
}

/// What a QR code says.
pub async fn picture(redis: &Redis, id: &str) -> Result<Option<String>, RedisError> {
    redis.get_text(&picture_key(id)).await
}

/// Notes how often a link may be used.
pub async fn keep_link(redis: &Redis, id: &str, uses: u32, life: Duration) -> Result<(), RedisError> {
    redis.set(&format!("vr:link:{id}"), uses.to_string(), Some(life)).await
}

/// Uses a link once. `None`: nothing is known of it.
pub async fn use_link(redis: &Redis, id: &str) -> Result<Option<bool>, RedisError> {
    let answer = redis.eval(&USE_LINK, &[&format!("vr:link:{id}")], &[]).await?.int()?;
    Ok((answer >= 0).then_some(answer == 1))
}

/// The key that links are signed with, made by whoever needs it first. It lives where the uses of links are counted: who
/// loses one loses both, and links live an hour at most.
pub async fn link_key(redis: &Redis, fresh: &str) -> Result<String, RedisError> {
    const KEY: &str = "vr:link-key";
    if let Some(key) = redis.get_text(KEY).await? {
        return Ok(key);
    }
    redis.set_nx(KEY, fresh, None).await?;
    Ok(redis.get_text(KEY).await?.unwrap_or_else(|| fresh.to_owned()))
}

/// Wrong guesses of one address (core §1.10): so many within the window, and it is shut out for as long as the window.
#[derive(Debug, Clone)]
pub struct Guesses {
    redis: Redis,
    max: i64,
    window: Duration,
}

impl Guesses {
    /// Counts by this rule.
    pub fn new(redis: Redis, limiter: &RateLimiter, rule: &Rule) -> Self {
        Self {
            redis,
            max: i64::from(limiter.scaled(rule.max)),
            window: rule.window,
        }
    }

    /// How long the address is still shut out.
    pub async fn blocked(&self, subject: &str) -> Result<Option<Duration>, RedisError> {
        self.redis.ttl(&Self::key("blocked", subject)).await
    }

    /// Counts a wrong guess.
    pub async fn count(&self, subject: &str) -> Result<(), RedisError> {
        let key = Self::key("wrong", subject);
        if self.redis.incr_by(&key, 1, Some(self.window)).await? >= self.max {
            let key = Self::key("blocked", subject);
            self.redis.set(&key, "1", Some(self.window)).await?;
        }
        Ok(())
    }

    fn key(what: &str, subject: &str) -> String {
        let digest = Sha256::digest(subject.as_bytes());
        let short = digest.get(..16).unwrap_or_default();
        format!("rl:vr.guess.{what}:{}", hex::encode(short))
    }
}
