//! Avatars: uploads over HTTP into a real S3 server, and the files as browsers get them (core §5.2).

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use devkit::s3::S3Server;
use http::Method;
use serde_json::{Value, json};
use shared::{
    http::server::{self, ServerConfig},
    lifecycle::Shutdown,
};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::support::{Call, Reply, TestApp, Traveller};

const OWN: &str = "/api/v1/users/profile/avatar";
const BOUNDARY: &str = "----boundary";

/// The pod beside an S3 server over a folder.
struct World {
    app: TestApp,
    folder: TempDir,
    _server: S3Server,
}

impl World {
    async fn start(pool: PgPool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = S3Server::start(folder.path(), "access", "secret").await.unwrap();
        server.create_bucket("dreamscape").unwrap();
        let settings = [("RATE_LIMIT_MULTIPLIER", "1000"), ("S3_ENDPOINT", &server.endpoint())];
        let app = TestApp::with(pool, &settings).await;
        Self {
            app,
            folder,
            _server: server,
        }
    }

    /// Pictures in the bucket.
    fn stored(&self) -> Vec<String> {
        let folder = self.folder.path().join("dreamscape/avatars");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("avatar-")).collect();
        names.sort();
        names
    }

    async fn upload(&self, who: &Traveller, path: &str, picture: &[u8]) -> Reply {
        let form = part("avatar", Some("me.png"), picture);
        self.post(path, form).bearer(&who.token).send().await
    }

    fn post(&self, path: &str, form: Vec<u8>) -> Call {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.app.post(path).raw(&kind, form)
    }

    async fn photo(&self, who: &Traveller) -> Value {
        let reply = self.app.get("/api/v1/users/profile").bearer(&who.token).send().await;
        reply.body["profile"]["photo"].clone()
    }
}

fn parts(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, file, contents) in parts {
        let file = file
            .map(|file| format!("; filename=\"{file}\"\r\nContent-Type: image/png"))
            .unwrap_or_default();
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(contents);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    form
}

fn part(name: &str, file: Option<&str>, contents: &[u8]) -> Vec<u8> {
    parts(&[(name, file, contents)])
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length[..], kind, data, &[9, 9, 9, 9]].concat()
}

/// A PNG of this size with a note in it. Its checksums are wrong.
fn png(width: u32, height: u32, note: &str) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"tEXt", note.as_bytes()),
        chunk(b"IDAT", b"not really pixels"),
        chunk(b"IEND", b""),
    ]
    .concat()
}

fn gif() -> Vec<u8> {
    b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;".to_vec()
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[sqlx::test(migrations = false)]
async fn the_clients_path_answers_with_a_bare_string_and_the_picture_is_there(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let reply = world.upload(&ada, OWN, &png(2, 2, "Author Ada, GPS 48.85 2.35")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let url = reply.body.as_str().unwrap();
    let digits = url
        .strip_prefix("/uploads/avatars/avatar-1800000000000-")
        .unwrap()
        .strip_suffix(".png")
        .unwrap();
    assert!(
        digits.len() == 18 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        "{url}"
    );
    assert_eq!(world.photo(&ada).await, url);

    let picture = world.app.get(url).send().await;
    assert_eq!(picture.status, 200);
    for (name, value) in [
        ("content-type", "image/png"),
        ("cache-control", "public, max-age=86400, immutable"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("content-security-policy", "sandbox; default-src 'none'"),
    ] {
        assert_eq!(picture.headers[name], value);
    }
    assert_eq!(
        picture.headers["content-length"],
        picture.bytes.len().to_string().as_str()
    );
    assert!(contains(&picture.bytes, b"not really pixels") && !contains(&picture.bytes, b"Ada"));
    let etag = picture.headers["etag"].to_str().unwrap();
    let again = world.app.get(url).header("if-none-match", etag).send().await;
    assert_eq!((again.status.as_u16(), again.bytes.len()), (304, 0));
    let head = world.app.call(Method::HEAD, url).send().await;
    assert_eq!(
        (head.status.as_u16(), &head.headers["content-length"]),
        (200, &picture.headers["content-length"])
    );
    assert!(head.bytes.is_empty());

    let events = world.app.events("users").await;
    let (kind, event) = events.last().unwrap();
    assert_eq!(
        (kind.as_str(), &event["source"]),
        ("user.profile.updated", &json!("user-service"))
    );
    assert_eq!(
        event["payload"],
        json!({ "userId": ada.id, "profile": { "avatar": url }, "updatedAt": "2027-01-15T08:00:00.000Z" })
    );
}

#[sqlx::test(migrations = false)]
async fn the_other_paths_answer_with_everything(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    for path in [
        format!("/api/v1/users/profile/{}/avatar", ada.id),
        format!("/api/v1/users/avatar/{}/avatar", ada.id),
    ] {
        let reply = world.upload(&ada, &path, &gif()).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let body = &reply.body;
        let url = body["avatar"].as_str().unwrap();
        assert!(
            url.ends_with(".gif"),
            "the type is what the bytes say, not what the name says: {url}"
        );
        let file = &body["data"]["avatar"];
        assert_eq!(
            (&body["success"], &body["message"]),
            (&json!(true), &json!("Avatar uploaded successfully"))
        );
        assert_eq!(
            (&file["url"], &file["uploadedAt"]),
            (&json!(url), &json!("2027-01-15T08:00:00.000Z"))
        );
        assert_eq!(format!("/uploads/avatars/{}", file["filename"].as_str().unwrap()), url);
        let profile = &body["profile"];
        assert_eq!(
            (&profile["avatar"], &profile["userId"], &profile["firstName"]),
            (&json!(url), &json!(ada.id), &json!("Ada"))
        );
        let owner = json!({ "email": "ada@example.com", "firstName": "Ada", "lastName": "Lovelace" });
        assert_eq!(profile["user"], owner);
    }
    assert_eq!(world.stored().len(), 1, "the first picture is gone");
}

#[sqlx::test(migrations = false)]
async fn a_text_part_with_a_data_url_is_a_picture(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let url = format!("data:image/jpeg;base64,{}", STANDARD.encode(png(1, 1, "")));
    let form = parts(&[("other", None, b"x"), ("avatar", None, url.as_bytes())]);
    let reply = world.post(OWN, form).bearer(&ada.token).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let url = reply.body.as_str().unwrap();
    assert!(url.ends_with(".png"));
    assert_eq!(world.app.get(url).send().await.headers["content-type"], "image/png");
}

#[sqlx::test(migrations = false)]
async fn a_profile_may_carry_its_picture_and_send_it_back_afterwards(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let eve = world.app.register("eve@example.com").await;
    let put = |photo: Value, name: &str| {
        let body = json!({ "profile": { "photo": photo, "name": name } });
        world
            .app
            .put("/api/v1/users/profile")
            .bearer(&ada.token)
            .json(&body)
            .send()
    };
    let enclosed = format!("data:image/gif;base64,{}", STANDARD.encode(gif()));
    let reply = put(json!(enclosed), "ada").await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let url = reply.body["profile"]["photo"].as_str().unwrap().to_owned();
    assert!(url.starts_with("/uploads/avatars/avatar-") && url.ends_with(".gif"));
    assert_eq!(world.app.get(&url).send().await.bytes, gif());
    // whatever way a client says that it has this picture, it stays
    for same in [
        json!(url),
        json!({ "avatar": url }),
        json!(format!("https://dreamscape.example{url}")),
        json!({}),
        json!(""),
    ] {
        assert_eq!(put(same, "ada").await.body["profile"]["photo"], url);
    }
    assert_eq!(world.app.get(&url).send().await.status, 200);

    // nobody takes the picture of somebody else, which a later upload would then remove
    let theirs = json!({ "profile": { "photo": url } });
    let stolen = world
        .app
        .put("/api/v1/users/profile")
        .bearer(&eve.token)
        .json(&theirs)
        .send()
        .await;
    stolen.refused(400, "VALIDATION");
    // a change that is refused leaves no picture behind
    world
        .app
        .put("/api/v1/users/profile")
        .bearer(&eve.token)
        .json(&json!({ "profile": { "name": "eve" } }))
        .send()
        .await;
    put(json!(enclosed), "eve").await.refused(409, "USERNAME_TAKEN");
    assert_eq!(world.stored().len(), 1);
    assert_eq!(world.app.count("select count(*) from users.doomed_objects").await, 0);
    // a picture elsewhere takes the place of the one here
    assert_eq!(put(json!("https://cdn.example/a.png"), "ada").await.status, 200);
    world.app.get(&url).send().await.refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn image_data_of_a_wrong_length_is_accepted(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let mut picture = png(1, 1, "");
    let at = picture.windows(4).position(|window| window == b"IDAT").unwrap();
    picture[at - 1] += 3;
    let reply = world.upload(&ada, OWN, &picture).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[sqlx::test(migrations = false)]
async fn the_picture_before_is_removed_and_only_that(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let eve = world.app.register("eve@example.com").await;
    world.upload(&eve, OWN, &gif()).await;
    let first = world.upload(&ada, OWN, &gif()).await.body.as_str().unwrap().to_owned();
    let second = world.upload(&ada, OWN, &gif()).await.body.as_str().unwrap().to_owned();
    assert_ne!(first, second);
    world.app.get(&first).send().await.refused(404, "NOT_FOUND");
    assert_eq!(world.app.get(&second).send().await.status, 200);
    assert_eq!(world.stored().len(), 2);

    for _ in 0..2 {
        let removed = world.app.delete(OWN).bearer(&ada.token).send().await;
        assert_eq!(
            removed.body,
            json!({ "success": true, "message": "Avatar removed successfully" })
        );
    }
    assert_eq!(world.photo(&ada).await, Value::Null);
    world.app.get(&second).send().await.refused(404, "NOT_FOUND");
    assert_eq!(world.stored().len(), 1);
    assert!(world.photo(&eve).await.is_string());
    assert_eq!(world.app.count("select count(*) from users.doomed_objects").await, 0);
    let events = world.app.events("users").await;
    let told: Vec<_> = events
        .iter()
        .map(|(_, event)| &event["payload"]["profile"]["avatar"])
        .collect();
    assert_eq!((told.len(), told[3]), (4, &Value::Null));
}

#[sqlx::test(migrations = false)]
async fn many_uploads_at_once_leave_one_picture(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(
                world
                    .post(OWN, part("avatar", Some("a.gif"), &gif()))
                    .bearer(&ada.token)
                    .send(),
            )
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    let photo = world.photo(&ada).await;
    assert_eq!(world.stored(), [photo.as_str().unwrap().rsplit('/').next().unwrap()]);
}

#[sqlx::test(migrations = false)]
async fn what_a_crash_left_behind_is_swept_and_the_present_picture_is_not(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let url = world.upload(&ada, OWN, &gif()).await.body.as_str().unwrap().to_owned();
    // an upload that nothing came to refer to, and a picture that was replaced but not removed
    for name in ["avatar-1-1.gif", "avatar-2-2.gif"] {
        std::fs::write(world.folder.path().join("dreamscape/avatars").join(name), gif()).unwrap();
    }
    world
        .app
        .execute(
            "insert into users.doomed_objects
             values ('avatars/avatar-1-1.gif', to_timestamp(1800003600)), ('avatars/avatar-2-2.gif', to_timestamp(1800000000))",
        )
        .await;
    assert_eq!(world.app.services.sweep_objects().await.unwrap(), 1);
    assert_eq!(world.stored().len(), 2);
    world.app.advance(3_601);
    assert_eq!(world.app.services.sweep_objects().await.unwrap(), 1);
    assert_eq!(world.stored(), [url.rsplit('/').next().unwrap()]);
    assert_eq!(world.app.count("select count(*) from users.doomed_objects").await, 0);
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_03_nobody_uploads_for_somebody_else(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let eve = world.app.register("eve@example.com").await;
    for path in [
        format!("/api/v1/users/profile/{}/avatar", ada.id),
        format!("/api/v1/users/avatar/{}/avatar", ada.id),
    ] {
        let anonymous = world.post(&path, part("avatar", Some("a.gif"), &gif())).send().await;
        anonymous.refused(401, "TOKEN_MISSING");
        world.upload(&eve, &path, &gif()).await.refused(403, "FORBIDDEN");
        // whose it is comes before what it is
        world
            .post(&path, b"garbage".to_vec())
            .bearer(&eve.token)
            .send()
            .await
            .refused(403, "FORBIDDEN");
    }
    world
        .upload(&eve, "/api/v1/users/avatar/nobody/avatar", &gif())
        .await
        .refused(403, "FORBIDDEN");
    world
        .post(OWN, part("avatar", None, b"x"))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    world.app.delete(OWN).send().await.refused(401, "TOKEN_MISSING");
    assert!(world.stored().is_empty());
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_14_what_is_no_picture_is_refused_whatever_it_calls_itself(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let many_texts = chunk(b"tEXt", b"x").repeat(2_000);
    let mut thousand = png(1, 1, "");
    thousand.splice(33..33, many_texts);
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("svg", svg.to_vec()),
        ("html", b"<!doctype html><script>alert(1)</script>".to_vec()),
        (
            "a script that begins like a gif",
            b"GIF89a/*\0\0\0\0\0*/=1;alert(1)//".to_vec(),
        ),
        (
            "a script that begins like a jpeg",
            b"\xFF\xD8\xFF\xE0<script>alert(1)</script>".to_vec(),
        ),
        ("zeros", vec![0; 1024]),
        ("cut off", png(1, 1, "")[..40].to_vec()),
        ("wide", png(4097, 1, "")),
        ("huge", png(u32::MAX, u32::MAX, "")),
        ("without size", png(0, 0, "")),
        ("a thousand pieces", thousand),
        ("2 MB and a byte", vec![0xFF; 2 * 1024 * 1024 + 1]),
        ("6 MB", [png(1, 1, ""), vec![0; 6 * 1024 * 1024]].concat()),
        ("11 MB", vec![0x89; 11 * 1024 * 1024]),
        (
            "svg in a data url",
            format!("data:image/svg+xml;base64,{}", STANDARD.encode(svg)).into_bytes(),
        ),
        (
            "html in a data url",
            format!("data:image/png;base64,{}", STANDARD.encode(b"<html>")).into_bytes(),
        ),
        ("no base64", b"data:image/png;base64,####".to_vec()),
        (
            "a large data url",
            format!("data:image/png;base64,{}", "A".repeat(6 * 1024 * 1024)).into_bytes(),
        ),
    ];
    for (what, bomb) in bombs {
        let started = Instant::now();
        let reply = world.upload(&ada, OWN, &bomb).await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.body);
        assert_eq!(
            (&reply.body["success"], reply.body["message"].is_string()),
            (&json!(false), true),
            "{what}"
        );
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{what} took {:?}",
            started.elapsed()
        );
    }
    assert!(world.stored().is_empty());
    assert_eq!(
        world
            .app
            .count("select count(*) from users.profiles where avatar is not null")
            .await,
        0
    );

    // what rides behind a picture does not come along
    let polyglot = [png(1, 1, ""), b"PK\x03\x04<script>alert(1)</script>".to_vec()].concat();
    let url = world
        .upload(&ada, OWN, &polyglot)
        .await
        .body
        .as_str()
        .unwrap()
        .to_owned();
    let picture = world.app.get(&url).send().await;
    assert!(!contains(&picture.bytes, b"script") && picture.headers["content-type"] == "image/png");
}

#[sqlx::test(migrations = false)]
async fn forms_without_a_picture_are_400(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let multipart = format!("multipart/form-data; boundary={BOUNDARY}");
    for (kind, body) in [
        (multipart.as_str(), part("photo", Some("a.gif"), &gif())),
        (&multipart, vec![]),
        (&multipart, b"--------boundary\r\ngarbage".to_vec()),
        (
            &multipart,
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"avatar\"\r\n\r\nGIF").into_bytes(),
        ),
        ("multipart/form-data", gif()),
        ("application/json", b"{}".to_vec()),
        ("image/gif", gif()),
    ] {
        let reply = world.app.post(OWN).raw(kind, body).bearer(&ada.token).send().await;
        assert_eq!(reply.status, 400, "{kind}: {}", reply.body);
        assert_eq!(reply.body["success"], false);
    }
    world
        .app
        .post(OWN)
        .bearer(&ada.token)
        .send()
        .await
        .refused(400, "VALIDATION");
    let reply = world
        .post(OWN, part("other", None, &vec![b'x'; 13 * 1024 * 1024]))
        .bearer(&ada.token)
        .send()
        .await;
    reply.refused(413, "PAYLOAD_TOO_LARGE");
}

#[sqlx::test(migrations = false)]
async fn only_pictures_are_served_and_no_path_leads_out(pool: PgPool) {
    let world = World::start(pool).await;
    std::fs::create_dir_all(world.folder.path().join("dreamscape/exports")).unwrap();
    std::fs::write(world.folder.path().join("dreamscape/exports/secret.json"), b"{}").unwrap();
    for path in [
        "/uploads/avatars/avatar-1-2.png",
        "/uploads/avatars/",
        "/uploads/avatars",
        "/uploads/",
        "/uploads/avatars/../exports/secret.json",
        "/uploads/avatars/..%2Fexports%2Fsecret.json",
        "/uploads/avatars/%2e%2e%2fexports%2fsecret.json",
        "/uploads/avatars/..%5C..%5Csecret",
        "/uploads/avatars/avatar-1-2.png%00.html",
        "/uploads/avatars/avatar-1-2.svg",
        "/uploads/avatars//etc/passwd",
        "/uploads/exports/secret.json",
        "/uploads/avatars/avatar-1-2.png/x",
        "/uploads/avatars/%FF",
    ] {
        let reply = world.app.get(path).send().await;
        reply.refused(404, "NOT_FOUND");
        assert_eq!(reply.headers["cache-control"], "no-store", "{path}");
    }
    world
        .app
        .post("/uploads/avatars/avatar-1-2.png")
        .send()
        .await
        .refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn without_object_storage_only_pictures_are_missing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let upload = app
        .post(OWN)
        .raw(&kind, part("avatar", Some("a.gif"), &gif()))
        .bearer(&ada.token)
        .send()
        .await;
    upload.refused(503, "SERVICE_UNAVAILABLE");
    assert!(upload.headers.contains_key("retry-after"));
    app.get("/uploads/avatars/avatar-1-2.png")
        .send()
        .await
        .refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(
        app.get("/api/v1/users/profile").bearer(&ada.token).send().await.status,
        200
    );
    assert_eq!(app.delete(OWN).bearer(&ada.token).send().await.status, 200);
    assert_eq!(
        app.count("select count(*) from users.doomed_objects").await,
        1,
        "the sweeper knows of the upload"
    );
}

/// The pod on a socket: a refusal before the body is read must reach a client that is still sending.
#[sqlx::test(migrations = false)]
async fn a_refusal_is_seen_while_a_large_body_is_still_being_sent(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.app.register("ada@example.com").await;
    let eve = world.app.register("eve@example.com").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    tokio::spawn(server::serve(
        listener,
        world.app.router.clone(),
        ServerConfig::default(),
        shutdown.clone(),
    ));
    let client = reqwest::Client::new();
    let large = part("avatar", Some("a.png"), &vec![0x89; 6 * 1024 * 1024]);
    for (path, token, expected) in [
        (format!("/api/v1/users/avatar/{}/avatar", ada.id), Some(&eve.token), 403),
        (format!("/api/v1/users/avatar/{}/avatar", ada.id), Some(&ada.token), 400),
        (OWN.to_owned(), None, 401),
    ] {
        let mut request = client
            .post(format!("{base}{path}"))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(large.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        assert_eq!(request.send().await.unwrap().status(), expected, "{path}");
    }
    shutdown.halt();
}

#[sqlx::test(migrations = false)]
async fn health_tells_of_object_storage_under_its_old_name(pool: PgPool) {
    let world = World::start(pool.clone()).await;
    let check = |report: &Reply| {
        let checks = report.body["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|check| check["name"] == "Uploads Directory")
            .cloned()
            .unwrap()
    };
    let well = world.app.at_the_edge().get("/api/v1/users/health").send().await;
    assert_eq!(
        (well.status.as_u16(), &check(&well)["status"], &check(&well)["type"]),
        (200, &json!("healthy"), &json!("filesystem"))
    );
    let away = TestApp::again(pool, &[])
        .at_the_edge()
        .get("/api/v1/users/health")
        .send()
        .await;
    assert_eq!((away.status.as_u16(), &away.body["status"]), (206, &json!("degraded")));
    assert!(
        !away.body.to_string().contains("127.0.0.1"),
        "nothing of the address leaves the pod"
    );
}
