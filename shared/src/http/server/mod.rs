//! One listener: accepts, limits, serves, drains.
//!
//! contract: operations §6.5 (drain), issue of slow clients: a connection must send its first request in time. HTTP/1.1 and
//! HTTP/2 in clear text; TLS ends in front of us. Keep-alive and WebSocket connections do not close by themselves: the
//! drain tells them to, the halt makes them.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{
    sync::WaitForCancellationFutureOwned,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{client_address::PeerAddress, progress::Nudge};
use crate::{
    config::Reader,
    lifecycle::{DrainConfig, Shutdown},
};

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ServerConfig {
    /// Connections at once; more wait in the kernel.
    pub max_connections: usize,
    /// From the opening of a connection to the end of its first request's header.
    pub header_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a client may take no byte of an answer that waits for it.
    pub write_timeout: Duration,
    /// The end.
    pub drain: DrainConfig,
}

impl ServerConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let max_connections = reader.or(
            "HTTP_MAX_CONNECTIONS",
            10_000,
            "connections per listener; more wait until one is closed",
        );
        let header = reader.or(
            "HTTP_HEADER_TIMEOUT_SECONDS",
            10_u64,
            "time for a new connection to send the header of a request",
        );
        let idle = reader.or(
            "HTTP_IDLE_TIMEOUT_SECONDS",
            120_u64,
            "time a connection may stay without a request; longer than the proxy in front keeps its own",
        );
        let write = reader.or(
            "HTTP_WRITE_TIMEOUT_SECONDS",
            30_u64,
            "time a client may take no byte of an answer that waits for it",
        );
        Self {
            max_connections,
            header_timeout: Duration::from_secs(header.max(1)),
            idle_timeout: Duration::from_secs(idle.max(1)),
            write_timeout: Duration::from_secs(write.max(1)),
            drain: DrainConfig::read(reader),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_secs(30),
            drain: DrainConfig::default(),
        }
    }
}

/// The largest header of a request, and the buffer of a connection.
const HEADER_BYTES: u32 = 64 * 1024;

/// Serves until the drain is over. While draining, new connections are still accepted (they find readiness false) until
/// the linger time has passed and the connections from before are done; the halt ends everything at once.
pub async fn serve(listener: TcpListener, router: Router, config: ServerConfig, shutdown: Shutdown) {
    let server = Arc::new(Server {
        router,
        config,
        shutdown: shutdown.clone(),
    });
    let places = Arc::new(Semaphore::new(config.max_connections.max(1)));
    let (before, late) = (TaskTracker::new(), TaskTracker::new());
    let mut end_of_accepting = pin!(end_of_accepting(&shutdown, config.drain.linger, &before));
    loop {
        let (stream, peer, place) = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut end_of_accepting => break,
        };
        let tracker = if shutdown.is_draining() { &late } else { &before };
        let io = Guarded {
            stream,
            halted: Box::pin(shutdown.halt_token().cancelled_owned()),
            write_timeout: config.write_timeout,
            stalled: None,
            _place: place,
            _tracked: tracker.token(),
        };
        tracker.spawn(server.clone().connection(io, peer));
    }
    drop(listener);
    late.close();
    tokio::select! {
        () = async { tokio::join!(before.wait(), late.wait()); } => {}
        () = shutdown.halting() => {}
    }
}

/// Waits until nothing speaks for accepting any longer.
async fn end_of_accepting(shutdown: &Shutdown, linger: Duration, before: &TaskTracker) {
    shutdown.draining().await;
    before.close();
    tokio::select! {
        () = shutdown.halting() => {}
        () = async { tokio::join!(tokio::time::sleep(linger), before.wait()); } => {}
    }
}

/// The next connection, when there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // the semaphore is never closed
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                stream.set_nodelay(true).ok();
                return (stream, peer, place);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // out of file descriptors, most likely: others have to be closed first
                tracing::error!(error = error.to_string(), "connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// What all connections of a listener share.
struct Server {
    router: Router,
    config: ServerConfig,
    shutdown: Shutdown,
}

impl Server {
    async fn connection(self: Arc<Self>, io: Guarded, peer: SocketAddr) {
        let is_late = self.shutdown.is_draining();
        let (spoke, nudge) = (Arc::new(AtomicBool::new(false)), Nudge::default());
        let service = Requests {
            router: self.router.clone(),
            peer: PeerAddress(peer.ip()),
            spoke: spoke.clone(),
            nudge: nudge.clone(),
        };
        let builder = self.builder(is_late);
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
        let mut draining = pin!(self.shutdown.draining());
        let mut first_header = pin!(tokio::time::sleep(self.config.header_timeout));
        let (mut is_told, mut is_checked) = (is_late, false);
        loop {
            tokio::select! {
                outcome = connection.as_mut() => {
                    if let Err(error) = outcome {
                        tracing::trace!(error = error.to_string(), "connection ended");
                    }
                    return;
                }
                () = self.shutdown.halting() => return,
                // the next turn looks at the connection
                () = nudge.nudged() => {}
                () = &mut draining, if !is_told => {
                    is_told = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut first_header, if !is_checked => {
                    is_checked = true;
                    if !spoke.load(Ordering::Relaxed) {
                        return;
                    }
                    if is_late {
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }

    /// A connection that comes while we drain gets one answer.
    fn builder(&self, is_late: bool) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .keep_alive(!is_late)
            .header_read_timeout(self.config.idle_timeout)
            .max_buf_size(HEADER_BYTES as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(256)
            .max_header_list_size(HEADER_BYTES)
            .keep_alive_interval(self.config.idle_timeout)
            .keep_alive_timeout(Duration::from_secs(10));
        builder
    }
}

/// The requests of one connection.
struct Requests {
    router: Router,
    peer: PeerAddress,
    spoke: Arc<AtomicBool>,
    nudge: Nudge,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = <Router as tower::Service<Request>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.spoke.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.nudge.clone());
        tower::Service::call(&mut self.router.clone(), request)
    }
}

/// A connection that knows when it must end, also after an upgrade has taken it out of the server's hands, and that
/// counts until it is closed.
struct Guarded {
    stream: TcpStream,
    halted: Pin<Box<WaitForCancellationFutureOwned>>,
    write_timeout: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    _place: Option<OwnedSemaphorePermit>,
    _tracked: TaskTrackerToken,
}

impl Guarded {
    /// Passes on what writing gave; a client that takes nothing for too long is cut off.
    fn in_time(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if stalled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.halted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
