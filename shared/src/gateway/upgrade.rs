//! WebSocket upgrades: both connections are joined byte by byte, so pings, pongs and close codes pass untouched.

use std::{io, time::Duration};

use http::{HeaderMap, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::Instant;

use crate::lifecycle::Tasks;

/// Whether the request asks to leave HTTP.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let connection = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    headers.contains_key(header::UPGRADE)
        && connection
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Joins the two sides on a tracked task until one closes, both have been silent for `idle`, or the pod stops.
pub(super) fn join(tasks: &Tasks, client: OnUpgrade, service: OnUpgrade, idle: Duration) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("gateway.socket", async move {
        let (client, service) = match tokio::try_join!(client, service) {
            Ok(sides) => sides,
            Err(error) => {
                tracing::debug!(%error, "upgrade did not complete");
                return;
            }
        };
        let joined = pump(TokioIo::new(client), TokioIo::new(service), idle);
        tokio::select! {
            result = joined => if let Err(error) = result { tracing::debug!(%error, "socket closed"); },
            () = shutdown.halting() => {}
        }
    });
}

async fn pump<A, B>(client: A, service: B, idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin + Send,
    B: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (service_read, service_write) = tokio::io::split(service);
    let last = std::sync::Mutex::new(Instant::now());
    let touch = || {
        if let Ok(mut last) = last.lock() {
            *last = Instant::now();
        }
    };
    let silence = async {
        loop {
            let since = last.lock().map_or_else(|_| Instant::now(), |last| *last);
            if since.elapsed() >= idle {
                return;
            }
            tokio::time::sleep_until(since + idle).await;
        }
    };
    tokio::select! {
        result = async { tokio::try_join!(copy(client_read, service_write, &touch), copy(service_read, client_write, &touch)) } => {
            result.map(|_| ())
        }
        () = silence => Ok(()),
    }
}

async fn copy<R: AsyncRead, W: AsyncWrite>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    touch: &(impl Fn() + Sync),
) -> io::Result<()> {
    let mut buffer = vec![0_u8; 4096];
    loop {
        let count = from.read(&mut buffer).await?;
        touch();
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        to.flush().await?;
    }
}
