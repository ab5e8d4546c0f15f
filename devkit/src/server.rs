//! A small HTTP/1 server on loopback whose handlers can also break their connection, as a failing network would.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use axum::Router;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

/// A listening server; dropping it closes the listener and every connection.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    _on_drop: DropGuard,
}

/// The connection a request came in on, as a request extension.
#[derive(Clone)]
pub(crate) struct Connection {
    raw: Arc<std::net::TcpStream>,
    gone: CancellationToken,
}

impl Connection {
    /// Breaks the connection with a TCP reset, without an answer.
    pub(crate) fn reset(&self) {
        let _ = reset_on_close(&self.raw);
        self.gone.cancel();
    }
}

/// Arranges that closing the socket sends a reset instead of an orderly end.
pub(crate) fn reset_on_close(stream: &std::net::TcpStream) -> std::io::Result<()> {
    TcpStream::from_std(stream.try_clone()?)?.set_zero_linger()
}

/// Binds a port on loopback: `wanted` if it is free, else any. 0 asks for any.
pub(crate) async fn bind(wanted: u16) -> anyhow::Result<TcpListener> {
    if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).await {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("failed to bind a port on loopback")
}

impl Server {
    /// Serves `router` on `listener` until this value is dropped.
    pub(crate) fn start(listener: TcpListener, router: Router) -> anyhow::Result<Self> {
        let address = listener
            .local_addr()
            .context("failed to read the address of a listener")?;
        let stop = CancellationToken::new();
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(accept(listener, router, stop.clone())),
        );
        Ok(Self {
            address,
            stop: stop.clone(),
            _on_drop: stop.drop_guard(),
        })
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cancelled when the server stops; work that belongs to the server ends with it.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let router = router.clone();
        let gone = stop.child_token();
        tokio::spawn(async move {
            let outcome = gone.clone().run_until_cancelled(serve(stream, router, gone)).await;
            if let Some(Err(error)) = outcome {
                tracing::debug!(%error, "connection ended early");
            }
        });
    }
}

async fn serve(stream: TcpStream, router: Router, gone: CancellationToken) -> anyhow::Result<()> {
    let raw = stream.into_std()?;
    let connection = Connection {
        raw: Arc::new(raw.try_clone()?),
        gone,
    };
    let stream = TcpStream::from_std(raw)?;
    let _ = stream.set_nodelay(true);
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        let answer = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await?;
    Ok(())
}

/// Replaces a file in one step; nobody but its owner may read it.
pub(crate) fn write_private(file: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = file.with_file_name(name);
    let mut new = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    new.write_all(content)?;
    std::fs::rename(beside, file)
}
