//! A TCP proxy that can be cut and restored, to play a server that goes away.

use std::sync::Arc;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};

/// Forwards connections to one server.
pub struct Proxy {
    port: u16,
    target: (String, u16),
    serving: Arc<Mutex<JoinSet<()>>>,
}

impl Proxy {
    /// A proxy that works.
    pub async fn to(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            target: (host.to_owned(), port),
            serving: Arc::default(),
        };
        proxy.serve(listener).await;
        proxy
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Drops all connections and refuses new ones.
    pub async fn cut(&self) {
        self.serving.lock().await.shutdown().await;
    }

    /// Works again, at the same place.
    pub async fn restore(&self) {
        self.serve(TcpListener::bind(("127.0.0.1", self.port)).await.unwrap())
            .await;
    }

    async fn serve(&self, listener: TcpListener) {
        let target = self.target.clone();
        self.serving.lock().await.spawn(async move {
            // connections live in this task, so that they end with it
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    let Ok(mut server) = TcpStream::connect((target.0.as_str(), target.1)).await else {
                        return;
                    };
                    copy_bidirectional(&mut client, &mut server).await.ok();
                });
            }
        });
    }
}
