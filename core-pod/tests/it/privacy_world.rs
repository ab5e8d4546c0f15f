//! A pod with object storage and the views of the Business Pod, and a traveller of whom everything is known.

use axum::body::Bytes;
use core_pod::user::gdpr::erasure::ErasureId;
use devkit::s3::S3Server;
use http::Method;
use serde_json::{Value, json};
use shared::db::{
    Service,
    migrate::{self, Migrations, Roles},
};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::support::{Reply, TestApp, Traveller};

pub const GDPR: &str = "/api/v1/users/gdpr";
const POLICY: &str = "01938a2c-0000-7000-8000-000000000001";

enum Voyage {}

impl Service for Voyage {
    const NAME: &'static str = "voyage-service";
    const SCHEMA: &'static str = "voyage";
}

enum Payment {}

impl Service for Payment {
    const NAME: &'static str = "payment-service";
    const SCHEMA: &'static str = "payment";
}

/// The pod beside an S3 server over a folder.
pub struct World {
    pub app: TestApp,
    pub folder: TempDir,
    _server: S3Server,
}

impl World {
    /// Without the Business Pod.
    pub async fn alone(pool: PgPool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = S3Server::start(folder.path(), "access", "secret").await.unwrap();
        server.create_bucket("dreamscape").unwrap();
        let settings = [
            ("RATE_LIMIT_MULTIPLIER", "1000"),
            ("S3_ENDPOINT", &server.endpoint()),
            ("S3_ACCESS_KEY", "access"),
            ("S3_SECRET_KEY", "secret"),
        ];
        let app = TestApp::with(pool, &settings).await;
        Self {
            app,
            folder,
            _server: server,
        }
    }

    /// With the Business Pod's tables and views in the same database.
    pub async fn start(pool: PgPool) -> Self {
        let world = Self::alone(pool).await;
        world.business_comes().await;
        world
    }

    /// The Business Pod's migrations run.
    pub async fn business_comes(&self) {
        let business = [
            Migrations::new::<Voyage>(sqlx::migrate!("../migrations/voyage")),
            Migrations::new::<Payment>(sqlx::migrate!("../migrations/payment")),
        ];
        let mut conn = self.app.pool.acquire().await.unwrap();
        migrate::run_on(&mut conn, &business, Roles::Ignore).await.unwrap();
    }

    /// Signs a traveller up who then leaves a trace in every table.
    pub async fn traveller(&self, email: &str) -> Traveller {
        let app = &self.app;
        let who = app.register(email).await;
        for (method, path, body) in [
            (Method::PUT, "/consent", json!({ "analytics": true })),
            (Method::POST, "/privacy-policy/accept", json!({ "policyId": POLICY })),
        ] {
            let reply = self.gdpr(&who, method, path, Some(body)).await;
            assert_eq!(reply.status, 200, "{}", reply.body);
        }
        app.services.flush_audit().await.unwrap();
        let statements = [
            "insert into users.settings (user_id, language, created_at, updated_at)
             values ($1, 'English', now(), now()) on conflict (user_id) do update set language = 'English'",
            "insert into users.profiles (user_id, avatar, first_name, last_name, created_at, updated_at)
             values ($1, '/uploads/avatars/avatar-1-' || $1 || '.png', 'Ada', 'Lovelace', now(), now())
             on conflict (user_id) do update set avatar = excluded.avatar",
            "insert into users.notifications (id, user_id, type, title, message, created_at, updated_at)
             values (gen_random_uuid(), $1, 'SYSTEM', 'Hello', 'Ada', now(), now())",
            "insert into users.favorites (id, user_id, entity_type, entity_id, entity_data, created_at, updated_at)
             values (gen_random_uuid(), $1, 'HOTEL', 'h-1', '{\"snake_key\": 1}', now(), now())",
            "insert into users.history (id, user_id, action_type, entity_type, entity_id, created_at)
             values (gen_random_uuid(), $1, 'VIEWED', 'hotel', 'h-1', now())",
            "insert into users.onboarding_profiles (user_id, id, health_considerations, created_at, updated_at)
             values ($1, gen_random_uuid(), '{asthma}', now(), now())",
            "insert into users.analytics (id, service, event, user_id, occurred_at)
             values (gen_random_uuid(), 'user-service', 'history_entry_created', $1, now())",
            "insert into users.data_access_logs
                 (id, user_id, accessor_id, accessor_type, action, resource, resource_id, ip_address, endpoint, accessed_at)
             values (gen_random_uuid(), $1, '11111111-1111-7111-8111-111111111111', 'admin', 'READ', 'User', $1::text,
                     '198.51.100.1', '/api/v1/admin/users/' || $1, now())",
        ];
        let user: uuid::Uuid = who.id.parse().unwrap();
        for sql in statements {
            sqlx::query(sql).bind(user).execute(&app.pool).await.unwrap();
        }
        self.store(&format!("avatars/avatar-1-{}.png", who.id), b"picture");
        who
    }

    /// A search, a booking and a payment of a traveller.
    pub async fn buys(&self, who: &Traveller) {
        let user: uuid::Uuid = who.id.parse().unwrap();
        for sql in [
            "insert into voyage.search_history
                 (id, user_id, search_type, query, origin, destination, departure_date, adults, children, infants,
                  cabin_class, results_count, searched_at)
             values (gen_random_uuid(), $1, 'flight', 'q', 'CDG', 'JFK', '2027-03-01', 1, 0, 0, 'ECONOMY', 3, now())",
            "insert into voyage.bookings
                 (id, reference, user_id, kind, status, total_minor, currency, items, expires_at, created_at, updated_at)
             values (gen_random_uuid(), 'BOOK-20270115-ABCDE', $1, 'FLIGHT', 'CONFIRMED', 29950, 'EUR', '[]', now(), now(),
                     now())",
        ] {
            sqlx::query(sql).bind(user).execute(&self.app.pool).await.unwrap();
        }
    }

    pub async fn gdpr(&self, who: &Traveller, method: Method, path: &str, body: Option<Value>) -> Reply {
        let call = self.app.call(method, &format!("{GDPR}{path}")).bearer(&who.token);
        match body {
            Some(body) => call.json(&body).send().await,
            None => call.send().await,
        }
    }

    /// Puts an object into the bucket.
    fn store(&self, key: &str, bytes: &[u8]) {
        let path = self.folder.path().join("dreamscape").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The objects of the bucket whose keys hold this text, with their bytes.
    pub fn objects(&self, part: &str) -> Vec<(String, Bytes)> {
        let root = self.folder.path().join("dreamscape");
        let mut folders = vec![root.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let key = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                // the server keeps what it knows of an object beside it
                if key.contains(part) && !key.rsplit('/').next().unwrap().starts_with('.') {
                    found.push((key, std::fs::read(&path).unwrap().into()));
                }
            }
        }
        found
    }

    /// The erasure of a traveller, while it is under way.
    pub async fn erasure_of(&self, who: &Traveller) -> Option<ErasureId> {
        let user: uuid::Uuid = who.id.parse().unwrap();
        sqlx::query_scalar("select id from users.erasures where user_id = $1")
            .bind(user)
            .fetch_optional(&self.app.pool)
            .await
            .unwrap()
    }

    /// The mails of this kind that wait or were sent.
    pub async fn mails(&self, template: &str) -> i64 {
        sqlx::query_scalar("select count(*) from mail.messages where template = $1")
            .bind(template)
            .fetch_one(&self.app.pool)
            .await
            .unwrap()
    }
}
