//! A small SMTP server for tests: it speaks the protocol over a socket, with STARTTLS or TLS from the first byte, and AUTH,
//! and keeps what it is told.
//!
//! The certificate under `data/smtp` is of a throw-away authority that exists for these tests only.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// The authority to trust.
pub const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/smtp/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("data/smtp/server.pem");
const KEY: &[u8] = include_bytes!("data/smtp/server.key");

/// One mail, as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub from: String,
    pub to: String,
    /// Headers and body.
    pub data: String,
    pub encrypted: bool,
    /// `user:password`, if the client proved itself.
    pub credentials: Option<String>,
}

impl Received {
    /// The first header of this name, with folded lines joined.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.data.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        let start = format!("{name}: ");
        head.lines()
            .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    commands: Vec<String>,
    connections: usize,
    /// Answers to the next recipients; afterwards everybody is welcome.
    answers: VecDeque<&'static str>,
}

/// When the server encrypts.
#[derive(Clone, Copy, PartialEq)]
enum Encrypts {
    Never,
    OnRequest,
    AtOnce,
}

/// The server.
#[derive(Clone)]
pub struct SmtpPeer {
    pub port: u16,
    state: Arc<Mutex<State>>,
    encrypts: Encrypts,
    acceptor: TlsAcceptor,
}

impl SmtpPeer {
    /// A server on a free port that offers STARTTLS.
    pub async fn start() -> Self {
        Self::with(Encrypts::OnRequest).await
    }

    /// A server that cannot encrypt.
    pub async fn without_tls() -> Self {
        Self::with(Encrypts::Never).await
    }

    /// A server that understands nothing but TLS from the first byte.
    pub async fn over_tls() -> Self {
        Self::with(Encrypts::AtOnce).await
    }

    async fn with(encrypts: Encrypts) -> Self {
        let chain = CertificateDer::pem_slice_iter(CERTIFICATE)
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
            encrypts,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        };
        let serving = peer.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.greet(socket).await });
            }
        });
        peer
    }

    /// The next recipients are answered like this.
    pub fn answer(&self, answers: &[&'static str]) {
        self.state.lock().unwrap().answers.extend(answers);
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// The first words of everything that was said to the server.
    pub fn commands(&self) -> Vec<String> {
        self.state.lock().unwrap().commands.clone()
    }

    /// Connections that came, whatever became of them.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    async fn greet(&self, socket: TcpStream) {
        self.state.lock().unwrap().connections += 1;
        if self.encrypts == Encrypts::AtOnce {
            if let Ok(socket) = self.acceptor.accept(socket).await {
                let mut encrypted = BufStream::new(socket);
                say(&mut encrypted, "220 peer.example ready").await;
                self.converse(&mut encrypted, true).await;
            }
            return;
        }
        let mut plain = BufStream::new(socket);
        say(&mut plain, "220 peer.example ready").await;
        if self.converse(&mut plain, false).await == Some(Next::Encrypt) {
            let socket = self.acceptor.accept(plain.into_inner()).await;
            if let Ok(socket) = socket {
                self.converse(&mut BufStream::new(socket), true).await;
            }
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufStream<S>,
        encrypted: bool,
    ) -> Option<Next> {
        let (mut from, mut to, mut credentials) = (String::new(), String::new(), None);
        loop {
            let line = hear(stream).await?;
            let verb = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            self.state.lock().unwrap().commands.push(verb.clone());
            let answer = match verb.as_str() {
                "EHLO" => {
                    let tls = if self.encrypts == Encrypts::OnRequest && !encrypted {
                        "250-STARTTLS\r\n"
                    } else {
                        ""
                    };
                    format!("250-peer.example\r\n{tls}250-AUTH PLAIN\r\n250 8BITMIME")
                }
                "STARTTLS" => {
                    say(stream, "220 go ahead").await;
                    return Some(Next::Encrypt);
                }
                "AUTH" => {
                    let proof = line.rsplit(' ').next().unwrap_or_default();
                    let proof = String::from_utf8(STANDARD.decode(proof).unwrap_or_default()).unwrap_or_default();
                    credentials = Some(proof.trim_matches('\0').replace('\0', ":"));
                    "235 welcome".to_owned()
                }
                "MAIL" => {
                    from = inside_brackets(&line);
                    "250 ok".to_owned()
                }
                "RCPT" => {
                    to = inside_brackets(&line);
                    let answer = self.state.lock().unwrap().answers.pop_front();
                    answer.unwrap_or("250 ok").to_owned()
                }
                "DATA" => {
                    say(stream, "354 speak").await;
                    let data = hear_data(stream).await?;
                    self.state.lock().unwrap().received.push(Received {
                        from: from.clone(),
                        to: to.clone(),
                        data,
                        encrypted,
                        credentials: credentials.clone(),
                    });
                    "250 taken".to_owned()
                }
                "QUIT" => {
                    say(stream, "221 bye").await;
                    return None;
                }
                "NOOP" | "RSET" => "250 ok".to_owned(),
                _ => "502 what".to_owned(),
            };
            say(stream, &answer).await;
        }
    }
}

#[derive(PartialEq)]
enum Next {
    Encrypt,
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>, line: &str) {
    let _ = stream.write_all(format!("{line}\r\n").as_bytes()).await;
    let _ = stream.flush().await;
}

async fn hear<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn hear_data<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>) -> Option<String> {
    let mut data = String::new();
    loop {
        let line = hear(stream).await?;
        if line == "." {
            return Some(data);
        }
        // RFC 5321 §4.5.2
        data.push_str(line.strip_prefix('.').unwrap_or(&line));
        data.push_str("\r\n");
    }
}

fn inside_brackets(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(inside, _)| inside.to_owned()).unwrap_or_default()
}
