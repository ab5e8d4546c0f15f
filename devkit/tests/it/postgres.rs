//! PostgreSQL over the machine's binaries: start, crash, restart, stale pid files, a taken port, no binaries.

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use devkit::postgres::{NotInstalled, Options, PostgresServer, Search};
use sqlx::{Connection as _, PgConnection};

/// A folder that the account of the server can reach.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

async fn start(folder: &Path) -> PostgresServer {
    PostgresServer::start(Options::new(folder).throwaway()).await.unwrap()
}

async fn count(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select count(*) from notes")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn note(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query("create table if not exists notes (id bigint generated always as identity)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("insert into notes default values")
        .execute(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn data_and_port_outlive_a_stop_a_crash_and_a_stale_pid_file() {
    let folder = folder();
    let mut server = start(folder.path()).await;
    let (url, port) = (server.url(), server.port());
    note(&url).await;
    server.stop().await.unwrap();
    assert!(!server.is_running());

    // Stopped in good order.
    let mut server = start(folder.path()).await;
    assert_eq!((server.port(), count(&url).await), (port, 1));

    // Killed: its pid file stays behind.
    note(&url).await;
    server.kill().await.unwrap();
    assert!(folder.path().join("data/postmaster.pid").exists());
    assert!(server.ensure_running().await.unwrap());
    assert!(!server.ensure_running().await.unwrap());
    assert_eq!(count(&url).await, 2);

    // Killed, and its number now belongs to another program: ours.
    server.kill().await.unwrap();
    let file = folder.path().join("data/postmaster.pid");
    let text = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();
    let server = start(folder.path()).await;
    assert_eq!(count(&server.url()).await, 2);
}

#[tokio::test]
async fn a_running_server_is_adopted_and_a_taken_port_is_changed() {
    let folder = folder();
    let first = start(folder.path()).await;
    note(&first.url()).await;
    let mut second = start(folder.path()).await;
    assert_eq!((second.pid(), second.port()), (first.pid(), first.port()));
    second.stop().await.unwrap();
    drop(first);

    let _occupied = std::net::TcpListener::bind(("127.0.0.1", second.port())).unwrap();
    let third = start(folder.path()).await;
    assert_ne!(third.port(), second.port());
    assert_eq!(count(&third.url()).await, 1);
}

#[tokio::test]
async fn each_service_has_a_role_and_passwords_are_asked_for() {
    let folder = folder();
    let server = start(folder.path()).await;
    let url = server.role_url("payment_service").unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (role, database): (String, String) = sqlx::query_as("select current_user::text, current_database()::text")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!((role.as_str(), database.as_str()), ("payment_service", "dreamscape"));
    let wrong = url.replace("payment_service:", "payment_service:x");
    assert!(PgConnection::connect(&wrong).await.is_err());
    let lower: String = sqlx::query_scalar("select lower('É')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(lower, "é");
    let mode = |name: &str| {
        std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("data"), mode("server.json")), (0o700, 0o600));
}

#[tokio::test]
async fn a_folder_that_the_account_cannot_reach_gets_its_data_elsewhere() {
    // Only root runs the server as somebody else.
    let folder = folder();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut server = start(folder.path()).await;
    note(&server.url()).await;
    let data = folder.path().join("data").canonicalize().unwrap();
    server.stop().await.unwrap();
    let server = start(folder.path()).await;
    assert_eq!(count(&server.url()).await, 1);
    drop(server);
    if !data.starts_with(folder.path().canonicalize().unwrap()) {
        std::fs::remove_dir_all(data.parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn without_binaries_there_is_one_clear_error() {
    let folder = folder();
    let search = Search::only(vec!["/nonexistent".into()]);
    let started = PostgresServer::start(Options {
        search,
        ..Options::new(folder.path())
    });
    let error = tokio::time::timeout(Duration::from_secs(5), started)
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is::<NotInstalled>());
    assert!(error.to_string().contains("apt-get install postgresql"), "{error}");
    assert!(error.to_string().contains("DATABASE_URL"), "{error}");
}
