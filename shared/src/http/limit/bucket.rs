//! The counting itself: one bucket per subject, one atomic step, in Lua and in Rust.

use std::time::Duration;

use crate::redis::{
    RedisError, Reply, Script, View,
    script::{int_arg, key},
};

/// What a step does with the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Peek,
    Take,
    Count,
    Refund,
}

impl Step {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Peek => "0",
            Self::Take => "1",
            Self::Count => "2",
            Self::Refund => "3",
        }
    }
}

/// One bucket: the instant at which it is full again. Arguments: microseconds per request, capacity, step, how many requests
/// to take at once where there are as many, microseconds that are given back first of what was taken before. Answers: how
/// many were taken (or might pass), remaining, microseconds until full, microseconds until the next may pass.
pub(super) static BUCKET: Script = Script::new(
    "rate_limit",
    r"
    local interval, capacity, step = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local wanted, unused = tonumber(ARGV[4]), tonumber(ARGV[5])
    local time = redis.call('TIME')
    local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
    local depth = interval * capacity
    local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
    full = math.min(full, now + depth)
    local found = full
    full = math.max(full - unused, now)
    local fits = full + interval <= now + depth
    local before = full
    local taken = fits and 1 or 0
    if step == 1 and fits then
        taken = math.min(wanted, math.floor((now + depth - full) / interval))
        full = full + interval * taken
    end
    if step == 2 then full = math.min(full + interval, now + depth) end
    if step == 3 then full = math.max(full - interval, now) end
    if full ~= found then
        if full > now then
            redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.max(1, math.ceil((full - now) / 1000)))
        else
            redis.call('DEL', KEYS[1])
        end
    end
    local wait = 0
    if not fits then wait = before + interval - now - depth end
    return { taken, math.floor((now + depth - full) / interval), full - now, wait }
    ",
    count_in_process,
);

fn count_in_process(view: &mut View<'_>, keys: &[&str], args: &[&str]) -> Result<Reply, RedisError> {
    let (key, interval, capacity, step, wanted, unused) = (
        key(keys, 0)?,
        int_arg(args, 0)?.max(1),
        int_arg(args, 1)?,
        int_arg(args, 2)?,
        int_arg(args, 3)?.max(1),
        int_arg(args, 4)?.max(0),
    );
    let now = view.now_micros();
    let depth = interval.saturating_mul(capacity);
    let found = view.get_int(key)?.unwrap_or(now).clamp(now, now.saturating_add(depth));
    let before = found.saturating_sub(unused).max(now);
    let fits = before.saturating_add(interval) <= now.saturating_add(depth);
    let there = now.saturating_add(depth).saturating_sub(before) / interval;
    let taken = match step {
        1 if fits => wanted.min(there),
        _ => i64::from(fits),
    };
    let full = match step {
        1 if fits => before.saturating_add(interval.saturating_mul(taken)),
        2 => (before + interval).min(now.saturating_add(depth)),
        3 => (before - interval).max(now),
        _ => before,
    };
    if full > now && full != found {
        let life = u64::try_from(full - now).unwrap_or_default().div_ceil(1000).max(1);
        view.set(key, full.to_string(), Some(Duration::from_millis(life)));
    } else if full != found {
        view.del(key);
    }
    let wait = if fits { 0 } else { before + interval - now - depth };
    let remaining = (now + depth - full) / interval;
    Ok(Reply::List(
        [taken, remaining, full - now, wait].map(Reply::Int).to_vec(),
    ))
}
