//! What is made once per checkout and kept: keys, secrets, and the ports that pods may have remembered.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::{chance, server::write_private};

/// Every setting that can come out of a start.
pub(super) const NAMES: [&str; 21] = [
    "DATABASE_URL",
    "AUTH_DATABASE_URL",
    "USER_DATABASE_URL",
    "MAIL_DATABASE_URL",
    "VOYAGE_DATABASE_URL",
    "PAYMENT_DATABASE_URL",
    "AI_DATABASE_URL",
    "KAFKA_BROKERS",
    "KAFKA_AUTO_OFFSET_RESET",
    "S3_ENDPOINT",
    "S3_BUCKET",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "STRIPE_API_BASE",
    "STRIPE_SECRET_KEY",
    "STRIPE_PUBLISHABLE_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "JWT_KEYSET",
    "SERVICE_CLIENTS",
    "SERVICE_CLIENT_SECRET",
    "DATA_ENCRYPTION_KEY",
];

/// The bucket of the platform.
pub(super) const BUCKET: &str = "dreamscape";

/// The pods that ask the auth service for tokens.
const CLIENTS: [&str; 2] = ["business-pod", "experience-pod"];

/// The file `checkout.json`, readable by its owner alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Checkout {
    pub(super) s3: S3,
    pub(super) stripe: Stripe,
    signing_key: SigningKey,
    service_clients: BTreeMap<String, String>,
    /// Absent in folders of older releases: `open` makes one then.
    #[serde(default)]
    data_encryption_key: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct S3 {
    pub(super) port: u16,
    pub(super) access_key: String,
    pub(super) secret_key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stripe {
    pub(super) port: u16,
    pub(super) secret_key: String,
    pub(super) publishable_key: String,
    pub(super) webhook_secret: String,
}

/// The Ed25519 key that access tokens are signed with.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SigningKey {
    kid: String,
    seed: String,
}

impl Checkout {
    /// The settings of the folder, or fresh random ones.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("checkout.json");
        if let Ok(text) = std::fs::read(&file) {
            let mut known: Self =
                serde_json::from_slice(&text).with_context(|| format!("failed to read {}", file.display()))?;
            if known.data_encryption_key.is_none() {
                known.data_encryption_key = Some(encryption_key());
                known.save(folder)?;
            }
            return Ok(known);
        }
        let fresh = Self::fresh();
        fresh.save(folder)?;
        Ok(fresh)
    }

    fn fresh() -> Self {
        let seed = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(chance::bytes::<32>());
        let s3 = S3 {
            port: 0,
            access_key: chance::alphanumeric(20),
            secret_key: chance::alphanumeric(40),
        };
        let stripe = Stripe {
            port: 0,
            secret_key: format!("sk_test_{}", chance::alphanumeric(24)),
            publishable_key: format!("pk_test_{}", chance::alphanumeric(24)),
            webhook_secret: format!("whsec_{}", chance::alphanumeric(32)),
        };
        let signing_key = SigningKey {
            kid: format!("dev-{}", chance::alphanumeric(8)),
            seed,
        };
        let service_clients = CLIENTS.map(|id| (id.to_owned(), chance::secret())).into();
        Self {
            s3,
            stripe,
            signing_key,
            service_clients,
            data_encryption_key: Some(encryption_key()),
        }
    }

    /// Writes the file.
    pub(super) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self).context("failed to write the settings of the checkout")?;
        write_private(&folder.join("checkout.json"), &text).context("failed to write the settings of the checkout")
    }

    /// What every pod gets, whatever it needs.
    pub(super) fn common(&self, pod: &str) -> Vec<(&'static str, String)> {
        let key = &self.signing_key;
        let keys = serde_json::json!([{"kid": key.kid, "seed": key.seed, "use": "sign"}]);
        let clients: Vec<String> = self
            .service_clients
            .iter()
            .map(|(id, secret)| format!("{id}={secret}"))
            .collect();
        let mut settings = vec![("JWT_KEYSET", keys.to_string()), ("SERVICE_CLIENTS", clients.join(","))];
        if let Some(key) = &self.data_encryption_key {
            settings.push(("DATA_ENCRYPTION_KEY", key.clone()));
        }
        if let Some(secret) = self.service_clients.get(pod) {
            settings.push(("SERVICE_CLIENT_SECRET", secret.clone()));
        }
        settings
    }
}

/// A key of encrypted fields, 32 bytes in base64.
fn encryption_key() -> String {
    base64::engine::general_purpose::STANDARD.encode(chance::bytes::<32>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_made_once_and_kept_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Checkout::open(folder.path()).unwrap();
        let second = Checkout::open(folder.path()).unwrap();
        assert_eq!(first.common("business-pod"), second.common("business-pod"));
        let mode = std::fs::metadata(folder.path().join("checkout.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Checkout::open(other.path()).unwrap().common("x"), first.common("x"));
    }

    #[test]
    fn only_a_pod_that_calls_others_gets_a_client_secret() {
        let checkout = Checkout::fresh();
        let has_secret = |pod| {
            checkout
                .common(pod)
                .iter()
                .any(|(name, _)| *name == "SERVICE_CLIENT_SECRET")
        };
        assert!(has_secret("experience-pod") && !has_secret("core-pod"));
    }
}
