//! Password hashing: Argon2id on a bounded pool, so that sign-ins can neither starve the process nor fill its memory.
//!
//! contract: core §2.2, §14 (parameters in the PHC string, 503 on overload). Each hash takes about 19 MiB and 20 ms; as many
//! run at once as there are cores, a bounded number wait, the rest are refused at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::{Output, PasswordHash, Salt},
};
use secrecy::{ExposeSecret as _, SecretString};
use shared::{ApiError, config::Reader, sources::Sources};
use tokio::sync::Semaphore;

/// How much work hashing is and how much of it may be going on.
#[derive(Debug, Clone, Copy)]
pub struct HashingConfig {
    /// Memory of one hash, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Hashes at once.
    pub workers: usize,
    /// Hashes waiting.
    pub queue: usize,
}

impl Default for HashingConfig {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            memory_kib: 19_456,
            passes: 2,
            workers,
            queue: workers * 64,
        }
    }
}

impl HashingConfig {
    /// Reads `PASSWORD_HASH_*`.
    pub fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        let config = Self {
            memory_kib: reader.or(
                "PASSWORD_HASH_MEMORY_KIB",
                default.memory_kib,
                "memory of one Argon2id hash, KiB",
            ),
            passes: reader.or("PASSWORD_HASH_PASSES", default.passes, "passes of one Argon2id hash"),
            workers: reader
                .or(
                    "PASSWORD_HASH_WORKERS",
                    default.workers,
                    "hashes at once; default: the cores",
                )
                .max(1),
            queue: reader.or(
                "PASSWORD_HASH_QUEUE",
                default.queue,
                "hashes that may wait; more are answered 503",
            ),
        };
        if config.memory_kib < 19_456 || config.passes < 2 {
            reader.problem("PASSWORD_HASH_MEMORY_KIB and PASSWORD_HASH_PASSES: at least 19456 KiB and 2 passes");
        }
        config
    }
}

/// The queue is full.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too many passwords are waiting to be hashed")]
struct Overloaded;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    argon2: Argon2<'static>,
    /// A hash that no password has, made with our parameters: verifying against it takes as long as any other.
    dummy: String,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    /// A pool of this size.
    pub fn new(config: HashingConfig, sources: &Sources) -> anyhow::Result<Self> {
        let params = Params::new(config.memory_kib, config.passes, 1, Some(Params::DEFAULT_OUTPUT_LEN))
            .map_err(|error| anyhow::anyhow!("the parameters of Argon2id are not usable: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let dummy = unmatched(&params, sources)?;
        let running = Arc::new(Semaphore::new(config.workers));
        Ok(Self(Arc::new(Inner {
            argon2,
            dummy,
            running,
            waiting: AtomicUsize::new(0),
            queue: config.queue,
        })))
    }

    /// The PHC string of a new password.
    pub async fn hash(&self, password: &str, sources: &Sources) -> Result<String, ApiError> {
        let salt = salt(sources);
        let password = SecretString::from(password);
        let hasher = Arc::clone(&self.0);
        let done = self.run("hash", move || {
            let hash = hasher
                .argon2
                .hash_password_with_salt(password.expose_secret().as_bytes(), &salt);
            hash.map(|hash| hash.to_string())
        });
        done.await?
            .map_err(|error| ApiError::internal(anyhow::anyhow!("a password could not be hashed: {error}")))
    }

    /// Whether the password is the one of this PHC string. Without a string (no such account) the answer is no, after
    /// the same work.
    pub async fn verify(&self, password: &str, stored: Option<String>) -> Result<bool, ApiError> {
        let password = SecretString::from(password);
        let hasher = Arc::clone(&self.0);
        let verified = self.run("verify", move || {
            let phc = stored.as_deref().unwrap_or(&hasher.dummy);
            let matches = PasswordHash::new(phc).map_err(anyhow::Error::from).map(|hash| {
                hasher
                    .argon2
                    .verify_password(password.expose_secret().as_bytes(), &hash)
                    .is_ok()
            });
            matches.map(|matches| matches && stored.is_some())
        });
        verified.await?.map_err(ApiError::internal)
    }

    /// How many are waiting for a worker.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let arrived = Instant::now();
        let permit = if let Ok(permit) = Arc::clone(&self.0.running).try_acquire_owned() {
            permit
        } else {
            let waiting = Waiting::enter(&self.0)?;
            let permit = Arc::clone(&self.0.running)
                .acquire_owned()
                .await
                .map_err(ApiError::internal)?;
            drop(waiting);
            permit
        };
        metrics::histogram!("password_hash_wait_seconds").record(arrived.elapsed().as_secs_f64());
        let started = Instant::now();
        // the permit moves along: a caller who hangs up does not make room before the work is done
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        let result = done.await.map_err(ApiError::internal)?;
        metrics::histogram!("password_hash_duration_seconds", "operation" => operation)
            .record(started.elapsed().as_secs_f64());
        Ok(result)
    }
}

/// A place in the queue, given back when dropped.
struct Waiting<'h>(&'h Inner);

impl<'h> Waiting<'h> {
    fn enter(inner: &'h Inner) -> Result<Self, ApiError> {
        let before = inner.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(inner);
        #[expect(clippy::cast_precision_loss, reason = "a gauge; the queue is short")]
        metrics::gauge!("password_hash_queue").set((before + 1) as f64);
        if before < inner.queue {
            return Ok(place);
        }
        metrics::counter!("password_hash_refused_total").increment(1);
        Err(ApiError::unavailable(Overloaded).with_retry_after(Duration::from_secs(2)))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let before = self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a gauge; the queue is short")]
        metrics::gauge!("password_hash_queue").set(before.saturating_sub(1) as f64);
    }
}

fn salt(sources: &Sources) -> [u8; 16] {
    let mut salt = [0; 16];
    sources.entropy.fill(&mut salt);
    salt
}

/// A well-formed hash with a random output: no work to make, the usual work to verify, and no password fits.
fn unmatched(params: &Params, sources: &Sources) -> anyhow::Result<String> {
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    sources.entropy.fill(&mut output);
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: params.try_into().map_err(|error| anyhow::anyhow!("{error}"))?,
        salt: Some(Salt::new(&salt(sources)).map_err(|error| anyhow::anyhow!("{error}"))?),
        hash: Some(Output::new(&output).map_err(|error| anyhow::anyhow!("{error}"))?),
    };
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(workers: usize, queue: usize) -> Hasher {
        Hasher::new(
            HashingConfig {
                workers,
                queue,
                ..HashingConfig::default()
            },
            &Sources::system(),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let (hasher, sources) = (hasher(2, 8), Sources::system());
        let phc = hasher.hash("Passw0rd!", &sources).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(hasher.verify("Passw0rd!", Some(phc.clone())).await.unwrap());
        assert!(!hasher.verify("passw0rd!", Some(phc)).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_account_costs_a_hash_of_the_same_parameters() {
        let hasher = hasher(1, 1);
        assert!(
            hasher.0.dummy.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            hasher.0.dummy
        );
        assert!(!hasher.verify("Passw0rd!", None).await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let hasher = hasher(1, 0);
        let held = Arc::clone(&hasher.0.running).acquire_owned().await.unwrap();
        let refused = hasher.verify("Passw0rd!", None).await.unwrap_err();
        assert_eq!(refused.status(), 503);
        assert_eq!(hasher.waiting(), 0);
        drop(held);
        assert!(!hasher.verify("Passw0rd!", None).await.unwrap());
    }
}
