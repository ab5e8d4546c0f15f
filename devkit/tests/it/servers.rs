//! The mock Kafka cluster, the S3 server and the TCP proxy.

use std::time::Duration;

use aws_sdk_s3 as s3;
use devkit::{kafka::MockCluster, proxy::TcpProxy, s3::S3Server};
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{Consumer as _, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn the_mock_cluster_keeps_records_and_can_go_away_and_come_back() {
    let cluster = MockCluster::start().unwrap();
    assert_eq!(cluster.bootstrap_servers().split(',').count(), 3);
    cluster.create_topic("t", 3).unwrap();
    cluster.create_topic("t", 3).unwrap();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("reconnect.backoff.max.ms", "200");
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "20000");
    let producer: FutureProducer = config.create().unwrap();
    let send = async |text: &str| {
        let record = FutureRecord::to("t").key("k").payload(text);
        producer
            .send(record, Duration::from_secs(10))
            .await
            .map_err(|(error, _)| error)
    };
    send("one").await.unwrap();
    cluster.all_down().unwrap();
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.all_up().unwrap();
    };
    let (second, ()) = tokio::join!(send("two"), late);
    second.unwrap();

    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "g")
        .set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = config.create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    for expected in ["one", "two"] {
        let received = tokio::time::timeout(Duration::from_secs(20), consumer.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(received.payload(), Some(expected.as_bytes()));
    }
    let metadata = consumer.fetch_metadata(Some("t"), Duration::from_secs(5)).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
}

#[tokio::test]
async fn the_s3_server_answers_only_to_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start(&folder.path().join("s3"), "key", "secret")
        .await
        .unwrap();
    server.create_bucket("dreamscape").unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let anonymous = http
        .get(format!("{}/dreamscape/x", server.endpoint()))
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), 403);
    let again = S3Server::start_on(server.port(), folder.path(), "key", "secret")
        .await
        .unwrap();
    assert_ne!(again.port(), server.port(), "a taken port is not fought for");
}

#[tokio::test]
async fn objects_are_stored_with_the_client_of_production() {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start(folder.path(), "key", "secret").await.unwrap();
    server.create_bucket("dreamscape").unwrap();
    let client = |secret: &str| {
        let config = s3::Config::builder()
            .behavior_version(s3::config::BehaviorVersion::latest())
            .region(s3::config::Region::new("us-east-1"))
            .credentials_provider(s3::config::Credentials::new("key", secret, None, None, "test"))
            .force_path_style(true)
            .endpoint_url(server.endpoint());
        s3::Client::from_conf(config.build())
    };
    let ours = client("secret");
    let body = vec![7_u8; 3_000_000];
    let put = ours
        .put_object()
        .bucket("dreamscape")
        .key("a/b.bin")
        .body(body.clone().into());
    put.send().await.unwrap();
    let got = ours
        .get_object()
        .bucket("dreamscape")
        .key("a/b.bin")
        .send()
        .await
        .unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), body);
    let listed = ours
        .list_objects_v2()
        .bucket("dreamscape")
        .prefix("a/")
        .send()
        .await
        .unwrap();
    assert_eq!(listed.contents()[0].key(), Some("a/b.bin"));

    let link_for_minutes = s3::presigning::PresigningConfig::expires_in(Duration::from_mins(5)).unwrap();
    let link = ours
        .get_object()
        .bucket("dreamscape")
        .key("a/b.bin")
        .presigned(link_for_minutes)
        .await
        .unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(
        http.get(link.uri()).send().await.unwrap().bytes().await.unwrap().len(),
        body.len()
    );
    let forged = client("other")
        .get_object()
        .bucket("dreamscape")
        .key("a/b.bin")
        .send()
        .await;
    assert!(forged.is_err());
}

async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

async fn say(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut buffer = [0_u8; 5];
    stream.read_exact(&mut buffer).await.map(drop)
}

#[tokio::test]
async fn the_proxy_passes_cuts_stalls_and_delays() {
    let proxy = TcpProxy::start(&echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream).await.unwrap();
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));

    proxy.cut();
    assert!(say(&mut stream).await.is_err());
    if let Ok(mut refused) = TcpStream::connect(proxy.address()).await {
        assert!(say(&mut refused).await.is_err());
    }
    proxy.restore();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream).await.unwrap();

    proxy.stall();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), say(&mut stream))
            .await
            .is_err()
    );
    proxy.restore();
    stream.read_exact(&mut [0_u8; 5]).await.unwrap();

    proxy.set_delay(Duration::from_millis(50));
    let begin = std::time::Instant::now();
    say(&mut stream).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(100));
}
