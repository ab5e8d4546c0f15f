//! Who comes in, and how many at once.
//!
//! contract: core §5.10 (at most ten sockets per account, the oldest go)
//!
//! The limit holds over all replicas: `sio:open:<userId>` lists the sockets of an account with the order in which they came.
//! A replica that crashes leaves its sockets on the list; they are the oldest, so they are the first to be struck out.

use std::{sync::Arc, time::Duration};

use shared::{
    auth::Authenticator,
    id::UserId,
    redis::{
        Redis, RedisError, Reply, Script, View,
        script::{arg, int_arg, key},
    },
    sources::Sources,
};
use socketioxide::{SocketIo, extract::SocketRef, socket::Sid};

use super::{
    NAMESPACE, fanout,
    identity::{Identity, Offered, Refusal},
    registry::Registry,
    room,
};

/// How long the list of an account is kept after its newest socket came.
const LIST_LIFE: Duration = Duration::from_hours(24);

/// What handshakes are checked against.
pub struct Gate {
    pub authenticator: Authenticator,
    pub redis: Redis,
    pub sockets: Registry,
    pub sources: Sources,
    pub per_user: usize,
}

impl Gate {
    /// Before the client is told that it is connected. From here on it hears what its account is told.
    pub async fn admit(&self, socket: &SocketRef, offered: Offered) -> Result<(), Refusal> {
        let identity = Identity::of(&self.authenticator, &socket.req_parts().headers, &offered).await;
        let identity = identity.inspect_err(|refusal| {
            metrics::counter!("dreamscape_socket_refusals_total", "reason" => refusal.to_string()).increment(1);
        })?;
        socket.extensions.insert(identity);
        socket.join(room(identity.user));
        Ok(())
    }

    /// After the client was told. Makes room where the account has too many.
    pub async fn welcome(self: Arc<Self>, io: &SocketIo, socket: SocketRef) {
        let Some(identity) = socket.extensions.get::<Identity>() else {
            return;
        };
        let (sid, gate) = (socket.id, self.clone());
        socket.on_disconnect(move |socket: SocketRef| async move { gate.farewell(socket.id).await });
        for evicted in self.sockets.enter(sid, identity, self.per_user) {
            close(io, evicted);
        }
        if !socket.connected() {
            // gone before the handler above was there
            self.farewell(sid).await;
            return;
        }
        if self.redis.is_shared() {
            self.enter_everywhere(identity.user, sid).await;
        }
    }

    async fn farewell(&self, socket: Sid) {
        let Some(user) = self.sockets.leave(socket) else { return };
        if self.redis.is_shared()
            && let Err(error) = self.redis.eval(&LEAVE, &[&list(user)], &[socket.as_str()]).await
        {
            tracing::debug!(%error, "a closed socket stays on the list of its account");
        }
    }

    async fn enter_everywhere(&self, user: UserId, socket: Sid) {
        let now = self.sources.now().timestamp_millis().to_string();
        let (limit, life) = (self.per_user.to_string(), LIST_LIFE.as_millis().to_string());
        let args = [socket.as_str(), &now, &limit, &life];
        let evicted = match self.redis.eval(&ENTER, &[&list(user)], &args).await {
            Ok(reply) => texts(&reply),
            Err(error) => {
                tracing::debug!(%error, "the limit of sockets holds for this replica only");
                return;
            }
        };
        if !evicted.is_empty() {
            fanout::announce_closed(&self.redis, &evicted).await;
        }
    }
}

/// Closes a socket of this process for good: its client does not come back by itself.
pub fn close(io: &SocketIo, socket: Sid) {
    if let Some(socket) = io.of(NAMESPACE).and_then(|open| open.get_socket(socket)) {
        // a client so slow that nothing more fits is found by its missing pong
        let _ = socket.disconnect();
    }
}

fn list(user: UserId) -> String {
    format!("sio:open:{user}")
}

fn texts(reply: &Reply) -> Vec<String> {
    let items = reply.list().unwrap_or_default();
    items.iter().filter_map(|item| item.text().ok().flatten()).collect()
}

/// Puts a socket behind all others of its account and gives those that are too many.
static ENTER: Script = Script::new(
    "sio_enter",
    "local last, open = tonumber(ARGV[2]), {}
     local all = redis.call('HGETALL', KEYS[1])
     for i = 1, #all, 2 do
         local place = tonumber(all[i + 1])
         if all[i] ~= ARGV[1] then
             open[#open + 1] = { all[i], place }
             if place >= last then last = place + 1 end
         end
     end
     redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', last))
     redis.call('PEXPIRE', KEYS[1], ARGV[4])
     table.sort(open, function(a, b) return a[2] < b[2] end)
     local gone = {}
     for i = 1, #open + 1 - tonumber(ARGV[3]) do
         redis.call('HDEL', KEYS[1], open[i][1])
         gone[i] = open[i][1]
     end
     return gone",
    |view, keys, args| {
        let (list, socket) = (key(keys, 0)?, arg(args, 0)?);
        let mut open = places(view, list, socket)?;
        let last = open.last().map_or(0, |(place, _)| place + 1).max(int_arg(args, 1)?);
        let limit = usize::try_from(int_arg(args, 2)?).unwrap_or(usize::MAX);
        open.push((last, socket.to_owned()));
        let gone: Vec<_> = open.drain(..open.len().saturating_sub(limit)).collect();
        let life = Duration::from_millis(u64::try_from(int_arg(args, 3)?).unwrap_or_default());
        rewrite(view, list, &open)?;
        view.expire(list, life);
        let gone = gone.into_iter().map(|(_, socket)| Reply::Bytes(socket.into_bytes()));
        Ok(Reply::List(gone.collect()))
    },
);

/// Strikes a socket out.
static LEAVE: Script = Script::new(
    "sio_leave",
    "return redis.call('HDEL', KEYS[1], ARGV[1])",
    |view, keys, args| {
        let list = key(keys, 0)?;
        let left = places(view, list, arg(args, 0)?)?;
        let life = view.ttl(list);
        rewrite(view, list, &left)?;
        if let Some(life) = life {
            view.expire(list, life);
        }
        Ok(Reply::Int(1))
    },
);

/// The list of an account without one of its sockets, oldest first.
fn places(view: &mut View<'_>, list: &str, without: &str) -> Result<Vec<(i64, String)>, RedisError> {
    let all = view.hgetall(list)?;
    let others = all.into_iter().filter(|(socket, _)| socket != without);
    let mut open: Vec<(i64, String)> = others
        .filter_map(|(socket, place)| Some((place.parse().ok()?, socket)))
        .collect();
    open.sort_unstable();
    Ok(open)
}

fn rewrite(view: &mut View<'_>, list: &str, open: &[(i64, String)]) -> Result<(), RedisError> {
    view.del(list);
    for (place, socket) in open {
        view.hset(list, socket, &place.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use devkit::redis::RedisServer;
    use shared::redis::RedisConfig;
    use uuid::Uuid;

    use super::*;

    async fn keeps_the_newest(redis: Redis) {
        let user = list(UserId(Uuid::from_u128(1)));
        let enter = async |socket: &str| {
            let reply = redis
                .eval(&ENTER, &[&user], &[socket, "1800000000000", "3", "60000"])
                .await;
            texts(&reply.unwrap())
        };
        for socket in ["c", "b", "a"] {
            assert!(enter(socket).await.is_empty());
        }
        assert_eq!(
            enter("z").await,
            ["c"],
            "the first to come, whatever its name, at one and the same instant"
        );
        assert!(enter("z").await.is_empty(), "entered twice is one");
        redis.eval(&LEAVE, &[&user], &["a"]).await.unwrap();
        assert!(enter("y").await.is_empty());
        assert_eq!(enter("x").await, ["b"]);
        assert!(redis.ttl(&user).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_list_of_an_account_keeps_the_newest_in_both_stores() {
        keeps_the_newest(Redis::memory()).await;
        let server = RedisServer::start().await.unwrap();
        keeps_the_newest(Redis::connect(&RedisConfig::single(server.url())).unwrap()).await;
    }
}
