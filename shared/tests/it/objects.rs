//! The object store against an S3 server in this process.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use shared::objects::{Kind, ObjectConfig, ObjectError, ObjectStore};
use tempfile::TempDir;
use tokio::net::TcpListener;

const MIB: usize = 1024 * 1024;

struct World {
    store: ObjectStore,
    folder: TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = serve(&folder).await;
        let store = ObjectStore::new(&config(address));
        store.ensure_bucket().await.unwrap();
        Self { store, folder }
    }

    /// Files below the server's folder that belong to unfinished uploads.
    fn leftovers(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("upload"))
            .count()
    }
}

fn config(address: SocketAddr) -> ObjectConfig {
    ObjectConfig {
        endpoint: Some(format!("http://{address}")),
        public_endpoint: None,
        bucket: "test".to_owned(),
        region: "us-east-1".to_owned(),
        access_key: "access".to_owned().into(),
        secret_key: "secret".to_owned().into(),
        timeout: Duration::from_secs(20),
    }
}

async fn serve(folder: &TempDir) -> SocketAddr {
    let files = s3s_fs::FileSystem::new(folder.path()).unwrap();
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single("access", "secret"));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    address
}

fn chunks(count: usize, size: usize) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    stream::iter((0..count).map(move |number| Ok(Bytes::from(vec![u8::try_from(number % 251).unwrap(); size]))))
}

#[tokio::test]
async fn an_object_is_stored_read_listed_and_removed() {
    let World { store, folder: _folder } = World::start().await;
    store.ensure_bucket().await.unwrap();
    assert!(store.get("a/one").await.unwrap().is_none());
    for key in ["a/one", "a/two", "b/three"] {
        store
            .put(
                key,
                &Kind::of("text/plain").cached("max-age=60"),
                key.as_bytes().to_vec(),
            )
            .await
            .unwrap();
    }
    let object = store.get("a/one").await.unwrap().unwrap();
    assert_eq!(
        (object.facts.content_type.as_deref(), object.facts.length),
        (Some("text/plain"), 5)
    );
    assert_eq!(object.bytes(10).await.unwrap(), "a/one");
    let too_large = store.get("a/one").await.unwrap().unwrap().bytes(4).await;
    assert!(matches!(too_large, Err(ObjectError::TooLarge)));

    let first = store.list("a/", None, 1).await.unwrap();
    assert_eq!(first.keys, [("a/one".to_owned(), 5)]);
    let rest = store.list("a/", first.next.as_deref(), 10).await.unwrap();
    assert_eq!(rest.keys, [("a/two".to_owned(), 5)]);
    assert_eq!(rest.next, None);

    store.delete("a/one").await.unwrap();
    store.delete("a/one").await.unwrap();
    assert!(store.head("a/one").await.unwrap().is_none());
    assert!(matches!(store.get("../secret").await, Err(ObjectError::Key)));
}

#[tokio::test]
async fn signed_urls_work_for_a_stranger_and_only_as_signed() {
    let World { store, folder: _folder } = World::start().await;
    let stranger = reqwest::Client::new();
    let put = store
        .presign_put("in", "text/plain", Duration::from_secs(60))
        .await
        .unwrap();
    let stored = stranger
        .put(&put)
        .header("content-type", "text/plain")
        .body("hello")
        .send()
        .await
        .unwrap();
    assert!(stored.status().is_success(), "{}", stored.status());
    let get = store.presign_get("in", Duration::from_secs(60)).await.unwrap();
    assert_eq!(stranger.get(&get).send().await.unwrap().text().await.unwrap(), "hello");
    let forged = get.replace("/in?", "/other?");
    assert_eq!(stranger.get(&forged).send().await.unwrap().status(), 403);
    assert!(
        store
            .presign_get("in", Duration::from_secs(30 * 24 * 3600))
            .await
            .is_err(),
        "longer than S3 knows"
    );
}

#[tokio::test]
async fn an_upload_of_unknown_length_arrives_whole() {
    let World { store, folder: _folder } = World::start().await;
    let small = store
        .upload("small", &Kind::of("text/plain"), chunks(3, 10))
        .await
        .unwrap();
    assert_eq!(small, 30);
    let large = store
        .upload("large", &Kind::of("application/octet-stream"), chunks(20, MIB))
        .await
        .unwrap();
    assert_eq!(large, 20 * MIB as u64);
    let read = store
        .get("large")
        .await
        .unwrap()
        .unwrap()
        .bytes(20 * MIB)
        .await
        .unwrap();
    assert!((0..20).all(|number| read[number * MIB] == u8::try_from(number).unwrap()));
    let exact = store
        .upload("exact", &Kind::of("application/octet-stream"), chunks(8, MIB))
        .await
        .unwrap();
    assert_eq!(exact, 8 * MIB as u64);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::start().await;
    let broken = chunks(10, MIB).chain(stream::once(async { Err(io::Error::other("hung up")) }));
    let outcome = world.store.upload("broken", &Kind::of("text/plain"), broken).await;
    assert!(matches!(outcome, Err(ObjectError::Source(_))));
    assert!(world.store.head("broken").await.unwrap().is_none());
    assert_eq!(world.leftovers(), 0);

    let never_ending = chunks(10, MIB).chain(stream::pending());
    let kind = Kind::of("text/plain");
    let hung_up = world.store.upload("dropped", &kind, never_ending);
    assert!(tokio::time::timeout(Duration::from_secs(2), hung_up).await.is_err());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while world.leftovers() > 0 {
        assert!(std::time::Instant::now() < deadline, "parts are still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let store = ObjectStore::new(&config(address));
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, ObjectError::Unavailable { .. }), "{error}");
    assert_eq!(shared::ApiError::from(error).status(), 503);
}
