//! Counts what the pod asks PostgreSQL: a relay on the wire between the two.
//!
//! `let wire = Wire::before(&pool).await; let app = TestApp::again(wire.pool(), …); wire.statements(async || …).await`

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgPoolOptions, PgSslMode},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A relay before the database of a test.
pub struct Wire {
    pool: PgPool,
    statements: Arc<AtomicUsize>,
}

impl Wire {
    pub async fn before(pool: &PgPool) -> Self {
        let server = pool.connect_options();
        let url = server.to_url_lossy();
        let target = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let statements = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&statements);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target.clone()).await.unwrap();
                tokio::spawn(relay(client, server, Arc::clone(&counted)));
            }
        });
        let options = (*server)
            .clone()
            .host("127.0.0.1")
            .port(port)
            .ssl_mode(PgSslMode::Disable);
        // one connection: a statement is prepared once and counted the same ever after
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .unwrap();
        Self { pool, statements }
    }

    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// How many statements the work made, each of them one round trip.
    pub async fn statements(&self, work: impl AsyncFnOnce()) -> usize {
        let before = self.statements.load(Ordering::SeqCst);
        work().await;
        self.statements.load(Ordering::SeqCst) - before
    }
}

async fn relay(client: TcpStream, server: TcpStream, counted: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    // the first message has no type
    let mut typed = false;
    loop {
        let mut kind = [0];
        if typed && from_client.read_exact(&mut kind).await.is_err() {
            return;
        }
        let Ok(length) = from_client.read_u32().await else {
            return;
        };
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        if from_client.read_exact(&mut body).await.is_err() {
            return;
        }
        // a simple query or the execution of a prepared one; the pool's pings are neither
        if matches!(kind[0], b'Q' | b'E') && typed {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        let mut message = Vec::with_capacity(body.len() + 5);
        if typed {
            message.push(kind[0]);
        }
        message.extend(length.to_be_bytes());
        message.extend(body);
        if to_server.write_all(&message).await.is_err() {
            return;
        }
        typed = true;
    }
}
