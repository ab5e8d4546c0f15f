//! The listener: metrics and health. Nothing that comes in can change anything.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use axum::{Router, http::StatusCode, http::header, response::IntoResponse, routing::get};

use crate::{metrics::Metrics, round::Pulse};

/// Its routes.
pub fn router(metrics: Metrics, pulse: Arc<Pulse>) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(async move || {
                let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
                (kind, metrics.render()).into_response()
            }),
        )
        .route(
            "/health/live",
            get(async move || {
                if pulse.is_alive() {
                    (StatusCode::OK, "alive\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "no round has ended for too long\n")
                }
            }),
        )
}

/// Whether an autoscaler on this machine says that it is alive.
pub fn is_healthy(port: u16) -> std::io::Result<bool> {
    let patience = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}
