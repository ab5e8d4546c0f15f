//! A TCP proxy before any server, for tests of outages: it can be cut, stalled, slowed and pointed elsewhere.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How the proxy treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Cut,
    Stall,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<String>,
    mode: watch::Sender<Mode>,
    /// Cancelled at each cut; replaced by a fresh one.
    lines: Mutex<CancellationToken>,
    delay: AtomicU64,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

/// A running proxy. Dropping it closes it and its connections.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _on_drop: DropGuard,
}

impl TcpProxy {
    /// Listens on a free port of loopback and passes everything on to `target` (`host:port`).
    pub async fn start(target: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("failed to bind the proxy")?;
        let address = listener
            .local_addr()
            .context("failed to read the address of the proxy")?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            mode: watch::Sender::new(Mode::Pass),
            lines: Mutex::new(stop.child_token()),
            delay: AtomicU64::new(0),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared.clone())));
        Ok(Self {
            address,
            shared,
            _on_drop: stop.drop_guard(),
        })
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port the proxy listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks every connection and every new one at once, as if the server were gone.
    pub fn cut(&self) {
        self.shared.mode.send_replace(Mode::Cut);
        self.break_connections();
    }

    /// Breaks the connections of this moment; new ones work.
    pub fn break_connections(&self) {
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.cancel();
        *lines = CancellationToken::new();
    }

    /// Lets nothing through any more and keeps the connections open, as a dead network does.
    pub fn stall(&self) {
        self.shared.mode.send_replace(Mode::Stall);
    }

    /// Passes everything on again.
    pub fn restore(&self) {
        self.shared.mode.send_replace(Mode::Pass);
    }

    /// Holds back every piece of data for this long, in both directions.
    pub fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay.store(millis, Ordering::SeqCst);
    }

    /// New connections go to another server.
    pub fn retarget(&self, target: &str) {
        target.clone_into(&mut self.shared.target.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.break_connections();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if *shared.mode.borrow() == Mode::Cut {
            let _ = client.set_zero_linger();
            continue;
        }
        let line = shared.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            connect(client, line, &shared).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn connect(client: TcpStream, line: CancellationToken, shared: &Shared) {
    let target = shared.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let server = line.run_until_cancelled(TcpStream::connect(target)).await;
    let Some(Ok(server)) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let both = async {
        tokio::join!(
            pump(client_read, server_write, shared),
            pump(server_read, client_write, shared)
        )
    };
    // Cut: both halves are dropped with the future, and the peers see the end of the stream at once.
    let _ = line.run_until_cancelled(both).await;
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut mode = shared.mode.subscribe();
    let mut buffer = vec![0_u8; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let delay = shared.delay.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let _ = mode.wait_for(|mode| *mode != Mode::Stall).await;
        let Some(data) = buffer.get(..count) else { break };
        if to.write_all(data).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
