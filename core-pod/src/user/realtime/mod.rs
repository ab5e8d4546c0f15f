//! Open sockets: Socket.IO for browsers and apps, one event, any number of replicas.
//!
//! contract: core §2.3, §2.5 (30 s), §5.10, §8 (`sio:*`), experience c.6; docs/decisions/0053
//!
//! A socket belongs to an account and to the session that opened it. Replicas tell each other over Redis; each hands on
//! what is for its own sockets. Without Redis a replica serves its own sockets only.

mod config;
mod entrance;
mod fanout;
mod gate;
mod identity;
mod registry;
mod store;
mod watch;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response, routing::any};
use shared::{
    auth::{Authenticator, authenticator::Origins},
    id::UserId,
    redis::Redis,
    sources::Sources,
};
use socketioxide::{
    ParserConfig, SocketIo,
    extract::{SocketRef, TryData},
    handler::ConnectHandler as _,
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, util::BoxCloneSyncService};
use utoipa_axum::router::OpenApiRouter;

use self::{gate::Gate, identity::Offered, registry::Registry};
use super::UserState;

pub use config::RealtimeConfig;
pub use fanout::keep_listening;
pub use watch::keep_watching;

/// There is one namespace. It is gone once the sockets were closed, so it is asked for by name.
const NAMESPACE: &str = "/";
/// The most that a client may say at once: it has nothing to say but its token.
const MAX_MESSAGE: usize = 4 * 1024;
/// What we may say at once over polling, as the original announces it.
const MAX_PAYLOAD: u64 = 1_000_000;
/// What is read from a WebSocket at once. Clients say little, and every idle socket pays for this buffer.
const READ_BUFFER: usize = 1024;
/// A connection that has not offered an identity by then is closed.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// The sockets of this process. Cheap to clone.
#[derive(Clone)]
pub struct Realtime(Arc<Inner>);

struct Inner {
    io: SocketIo,
    service: BoxCloneSyncService<Request, Response, Infallible>,
    sockets: Registry,
    redis: Redis,
    origins: Origins,
    closing: CancellationToken,
}

impl fmt::Debug for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime")
            .field("sockets", &self.0.sockets.len())
            .finish_non_exhaustive()
    }
}

impl Realtime {
    /// Without sockets yet. `origins` is the allow-list of the CORS policy.
    pub fn new(
        config: RealtimeConfig,
        redis: Redis,
        authenticator: Authenticator,
        origins: &[String],
        sources: Sources,
    ) -> Self {
        let parser = ParserConfig::common()
            .max_incoming_binaries(1)
            .max_incoming_binary_buf_size(MAX_MESSAGE);
        let (service, io) = SocketIo::builder()
            .with_parser(parser)
            .ping_interval(config.ping_interval)
            .ping_timeout(config.ping_timeout)
            .connect_timeout(CONNECT_WITHIN)
            .max_payload(MAX_PAYLOAD)
            .ws_read_buffer_size(READ_BUFFER)
            .ws_max_message_size(MAX_MESSAGE)
            .ws_max_frame_size(MAX_MESSAGE)
            .build_svc();
        let (sockets, closing) = (Registry::default(), CancellationToken::new());
        let gate = Arc::new(Gate {
            authenticator,
            redis: redis.clone(),
            sockets: sockets.clone(),
            sources,
            per_user: config.per_user,
        });
        open_namespace(&io, gate);
        let service = tower::service_fn(move |request: Request| {
            let answer = service.clone().oneshot(request);
            async move { answer.await.map(|response| response.map(Body::new)) }
        });
        let service = BoxCloneSyncService::new(service);
        Self(Arc::new(Inner {
            io,
            service,
            sockets,
            redis,
            origins: Origins::new(origins),
            closing,
        }))
    }

    /// How many sockets are open here.
    pub fn open_sockets(&self) -> usize {
        self.0.sockets.len()
    }

    /// Closes all connections, so that clients look for another replica, and opens no more.
    pub async fn close(&self) {
        self.0.closing.cancel();
        let Some(namespace) = self.0.io.of(NAMESPACE) else {
            return;
        };
        let open = namespace.sockets();
        self.0.io.close().await;
        // the namespace is forgotten before it hears that its sockets are gone, so they are told one by one
        for socket in open {
            let _ = socket.disconnect();
        }
    }
}

/// The default namespace, which is the only one.
fn open_namespace(io: &SocketIo, gate: Arc<Gate>) {
    let doorkeeper = gate.clone();
    let admit = move |socket: SocketRef, TryData(offered): TryData<Offered>| {
        let gate = doorkeeper.clone();
        async move { gate.admit(&socket, offered.unwrap_or_default()).await }
    };
    let welcome = move |io: SocketIo, socket: SocketRef| {
        let gate = gate.clone();
        async move { gate.welcome(&io, socket).await }
    };
    io.ns(NAMESPACE, welcome.with(admit));
}

/// The room of an account.
fn room(user: UserId) -> String {
    format!("user:{user}")
}

/// The routes of sockets, which have a kit of their own: a poll waits longer than other requests may.
pub fn router(state: &UserState) -> Router {
    Router::new()
        .route("/socket.io", any(entrance::enter))
        .route("/socket.io/", any(entrance::enter))
        .with_state(state.clone())
}

/// This area has no route that the description could show.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
