//! Scripts: one atomic step over keys of one slot, written twice, in Lua for Redis and in Rust for the in-process store.

use std::{sync::OnceLock, time::Duration};

use super::{RedisError, View};

/// A named script. Declared as a `static`, so that its digest is made once.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    lua: &'static str,
    memory: fn(&mut View<'_>, &[&str], &[&str]) -> Result<Reply, RedisError>,
    compiled: OnceLock<::redis::Script>,
}

impl Script {
    /// Pairs the Lua text with what does the same in process.
    pub const fn new(
        name: &'static str,
        lua: &'static str,
        memory: fn(&mut View<'_>, &[&str], &[&str]) -> Result<Reply, RedisError>,
    ) -> Self {
        Self {
            name,
            lua,
            memory,
            compiled: OnceLock::new(),
        }
    }

    /// The name in metrics.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) const fn lua(&self) -> &'static str {
        self.lua
    }

    /// The SHA-1 by which the server knows the script.
    pub(super) fn digest(&self) -> &str {
        self.compiled.get_or_init(|| ::redis::Script::new(self.lua)).get_hash()
    }

    pub(super) fn run(&self, view: &mut View<'_>, keys: &[&str], args: &[&str]) -> Result<Reply, RedisError> {
        (self.memory)(view, keys, args)
    }
}

/// What a script answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A whole number.
    Int(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several answers.
    List(Vec<Reply>),
}

impl Reply {
    /// A whole number, also one written as text.
    pub fn int(&self) -> Result<i64, RedisError> {
        match self {
            Self::Int(number) => Ok(*number),
            Self::Bytes(bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// Text, if there is any.
    pub fn text(&self) -> Result<Option<String>, RedisError> {
        match self {
            Self::Nil => Ok(None),
            Self::Int(number) => Ok(Some(number.to_string())),
            Self::Bytes(bytes) => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
            Self::List(_) => Err(unexpected()),
        }
    }

    /// The answers of a list.
    pub fn list(&self) -> Result<&[Self], RedisError> {
        match self {
            Self::List(items) => Ok(items),
            _ => Err(unexpected()),
        }
    }

    /// A list of whole numbers.
    pub fn ints(&self) -> Result<Vec<i64>, RedisError> {
        self.list()?.iter().map(Self::int).collect()
    }
}

fn unexpected() -> RedisError {
    RedisError::Command("the script answered in an unexpected shape".to_owned())
}

/// The key of a script by position.
pub fn key<'a>(keys: &[&'a str], index: usize) -> Result<&'a str, RedisError> {
    keys.get(index)
        .copied()
        .ok_or_else(|| RedisError::Command("the script misses a key".to_owned()))
}

/// The argument of a script by position.
pub fn arg<'a>(args: &[&'a str], index: usize) -> Result<&'a str, RedisError> {
    args.get(index)
        .copied()
        .ok_or_else(|| RedisError::Command("the script misses an argument".to_owned()))
}

/// The whole-number argument of a script by position.
pub fn int_arg(args: &[&str], index: usize) -> Result<i64, RedisError> {
    arg(args, index)?
        .parse()
        .map_err(|_| RedisError::Command("value is not an integer or out of range".to_owned()))
}

/// A life in milliseconds, at least one: Redis refuses 0.
pub(super) fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// The life that an argument in milliseconds means; 0 is none.
pub(super) fn life(millis: i64) -> Option<Duration> {
    u64::try_from(millis)
        .ok()
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis)
}

/// The part of a key that decides its slot: between the first `{` and the next `}`, if that is not empty.
pub(super) fn hash_tag(key: &str) -> &str {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// Refuses keys of different slots, as a Cluster would, in every back end.
pub(super) fn require_one_slot(keys: &[&str]) -> Result<(), RedisError> {
    let mut tags = keys.iter().map(|key| hash_tag(key));
    let Some(first) = tags.next() else {
        return Err(RedisError::Command("a script needs at least one key".to_owned()));
    };
    if tags.all(|tag| tag == first) {
        return Ok(());
    }
    Err(RedisError::Command(
        "CROSSSLOT the keys of one script must share a hash tag".to_owned(),
    ))
}

pub(super) static INCR_BY: Script = Script::new(
    "incr_by",
    "local value = redis.call('INCRBY', KEYS[1], ARGV[1])
     if tonumber(ARGV[2]) > 0 and value == tonumber(ARGV[1]) and redis.call('PTTL', KEYS[1]) == -1 then
         redis.call('PEXPIRE', KEYS[1], ARGV[2])
     end
     return value",
    |view, keys, args| {
        let (key, n, ttl) = (key(keys, 0)?, int_arg(args, 0)?, life(int_arg(args, 1)?));
        let value = view.incr_by(key, n)?;
        if let (Some(ttl), true, None) = (ttl, value == n, view.ttl(key)) {
            view.expire(key, ttl);
        }
        Ok(Reply::Int(value))
    },
);

pub(super) static HSET: Script = Script::new(
    "hset",
    "for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
     if tonumber(ARGV[1]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
     return 1",
    |view, keys, args| {
        let (key, ttl) = (key(keys, 0)?, life(int_arg(args, 0)?));
        for pair in args.get(1..).unwrap_or_default().chunks_exact(2) {
            view.hset(key, arg(pair, 0)?, arg(pair, 1)?)?;
        }
        if let Some(ttl) = ttl {
            view.expire(key, ttl);
        }
        Ok(Reply::Int(1))
    },
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tag_follows_the_rules_of_a_cluster() {
        for (key, tag) in [
            ("{user:1}:a", "user:1"),
            ("rl:{x}", "x"),
            ("plain", "plain"),
            ("{}x", "{}x"),
            ("{a", "{a"),
            ("{{b}}", "{b"),
        ] {
            assert_eq!(hash_tag(key), tag, "{key}");
        }
    }

    #[test]
    fn keys_of_different_slots_are_refused() {
        assert!(require_one_slot(&["{a}:1", "{a}:2"]).is_ok());
        assert!(require_one_slot(&["a", "b"]).is_err());
        assert!(require_one_slot(&[]).is_err());
    }
}
