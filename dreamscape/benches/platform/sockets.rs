//! Idle sockets: what ten thousand open WebSockets cost the core pod while a ping goes round.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};
use tokio_util::task::TaskTracker;

use super::{
    platform::{Platform, Service},
    report::Report,
    scenario,
};

const SOCKETS: usize = 10_000;
/// They share the sockets evenly; the limit per account is raised for it.
const ACCOUNTS: usize = 50;
/// At once while they are opened.
const ABREAST: usize = 64;
/// One ping of every socket falls into it.
const IDLE: Duration = Duration::from_secs(27);
/// What all of them together, and the pod, may take.
const MOST_MB: f64 = 300.0;

/// Opens the sockets, lets them idle, and notes what the core pod holds. Clients answer pings and nothing else.
pub async fn idle(platform: &Platform, report: &mut Report) -> anyhow::Result<()> {
    let http = reqwest::Client::new();
    let mut tokens = Vec::new();
    for _ in 0..ACCOUNTS {
        tokens.push(scenario::register(&http, platform, "listener").await?);
    }
    let before = platform.resident_mb("core-pod")?;
    let address = platform.base(Service::User).replace("http://", "");
    let started = Instant::now();
    let opening = (0..SOCKETS).map(|turn| open(&address, &tokens[turn % ACCOUNTS]));
    let mut opened = stream::iter(opening).buffer_unordered(ABREAST);
    let (clients, end) = (TaskTracker::new(), tokio_util::sync::CancellationToken::new());
    while let Some(socket) = opened.next().await {
        let socket = socket.context("a socket could not be opened; `ulimit -n` must allow 20,000 files")?;
        let end = end.clone();
        clients.spawn(async move { end.run_until_cancelled(answer_pings(socket)).await });
    }
    let rate = SOCKETS as f64 / started.elapsed().as_secs_f64();
    tokio::time::sleep(IDLE).await;
    ensure!(
        clients.len() == SOCKETS,
        "only {} of {SOCKETS} sockets stayed open",
        clients.len()
    );
    let with = platform.resident_mb("core-pod")?;
    report.fact("sockets opened", rate, "/s", None);
    report.fact("core-pod resident, 10,000 idle sockets", with, "MB", Some(MOST_MB));
    report.fact(
        "one idle socket",
        (with - before) * 1_024.0 / SOCKETS as f64,
        "KB",
        None,
    );
    end.cancel();
    clients.close();
    clients.wait().await;
    Ok(())
}

async fn open(address: &str, token: &str) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let request = format!("ws://{address}/socket.io/?EIO=4&transport=websocket").into_client_request()?;
    // ten thousand clients live in this process
    let small = WebSocketConfig::default().read_buffer_size(512).write_buffer_size(0);
    let (mut socket, _) = client_async_with_config(request, stream, Some(small)).await?;
    expect(&mut socket, "0{").await?;
    socket
        .send(Message::text(format!(r#"40{{"token":"{token}"}}"#)))
        .await?;
    expect(&mut socket, "40{").await?;
    Ok(socket)
}

/// Waits for a packet that starts so; a ping may come first, as for any client.
async fn expect(socket: &mut WebSocketStream<TcpStream>, start: &str) -> anyhow::Result<()> {
    loop {
        let heard = socket.next().await.context("closed")??;
        match heard.to_text()? {
            "2" => socket.send(Message::text("3")).await?,
            text if text.starts_with(start) => return Ok(()),
            text => anyhow::bail!("heard {text}"),
        }
    }
}

/// Ends when the connection does.
async fn answer_pings(mut socket: WebSocketStream<TcpStream>) {
    while let Some(Ok(message)) = socket.next().await {
        match message.to_text() {
            Ok("2") if socket.send(Message::text("3")).await.is_err() => return,
            Ok(text) if text.starts_with("41") => return,
            _ => {}
        }
    }
}
