//! Password hashing: Argon2id on a bounded pool, so that sign-ins can neither starve the process nor fill its memory.
//! Hashes of the original (bcrypt) are verified too, and are reported as outdated so that the sign-in replaces them.
//!
//! contract: core §2.2, §14 (parameters in the PHC string, 503 on overload). Each hash takes about 19 MiB and 20 ms; as many
//! run at once as there are cores, a bounded number wait, the rest are refused at once.

mod pool;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, PasswordHash, Salt},
};
use secrecy::{ExposeSecret as _, SecretString};
use shared::{ApiError, config::Reader, sources::Sources};
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;

use self::pool::{Memory, Pool};

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

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another password, or no hash to check against.
    Wrong,
    /// The password.
    Right,
    /// The password, but its hash is bcrypt's or was made with less work than is asked for today.
    RightButOutdated,
}

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    params: Params,
    pool: Pool,
    /// A hash that no password has, made with our parameters: verifying against it takes as long as any other.
    dummy: String,
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
        let dummy = unmatched(&params, sources)?;
        let pool = Pool::start(config.workers, config.queue)?;
        Ok(Self(Arc::new(Inner { params, pool, dummy })))
    }

    /// The PHC string of a new password.
    pub async fn hash(&self, password: &str, sources: &Sources) -> Result<String, ApiError> {
        let salt = salt(sources);
        let password = SecretString::from(password);
        let hasher = Arc::clone(&self.0);
        let done = self.run("hash", move |memory| {
            hasher.hash(memory, password.expose_secret().as_bytes(), &salt)
        });
        done.await?.map_err(ApiError::internal)
    }

    /// Whether the password is the one of this stored hash. Without one (no such account) the answer is no, after the
    /// same work.
    pub async fn verify(&self, password: &str, stored: Option<String>) -> Result<Verdict, ApiError> {
        let password = SecretString::from(password);
        let hasher = Arc::clone(&self.0);
        let verified = self.run("verify", move |memory| {
            hasher.verify(memory, &password, stored.as_deref())
        });
        verified.await?.map_err(ApiError::internal)
    }

    /// How many are waiting for a worker.
    pub fn waiting(&self) -> usize {
        self.0.pool.waiting()
    }

    /// Does `work` on a thread of the pool. Of a caller who has hung up meanwhile nothing is done.
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let arrived = Instant::now();
        let (sender, receiver) = oneshot::channel();
        let submitted = self.0.pool.submit(move |memory| {
            if sender.is_closed() {
                return;
            }
            let started = Instant::now();
            metrics::histogram!("password_hash_wait_seconds").record((started - arrived).as_secs_f64());
            let result = work(memory);
            metrics::histogram!("password_hash_duration_seconds", "operation" => operation)
                .record(started.elapsed().as_secs_f64());
            // the caller may have hung up
            sender.send(result).ok();
        });
        if let Err(overloaded) = submitted {
            metrics::counter!("password_hash_refused_total").increment(1);
            return Err(ApiError::unavailable(overloaded).with_retry_after(Duration::from_secs(2)));
        }
        self.note_queue();
        let result = receiver.await;
        self.note_queue();
        result.map_err(ApiError::internal)
    }

    fn note_queue(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge; the queue is short")]
        metrics::gauge!("password_hash_queue").set(self.waiting() as f64);
    }
}

impl Inner {
    fn hash(&self, memory: &mut Memory, password: &[u8], salt: &[u8]) -> anyhow::Result<String> {
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone());
        derive(&argon2, memory, password, salt, &mut output)?;
        phc(&self.params, salt, &output)
    }

    fn verify(&self, memory: &mut Memory, password: &SecretString, stored: Option<&str>) -> anyhow::Result<Verdict> {
        let password = password.expose_secret().as_bytes();
        if let Some(legacy) = stored.filter(|stored| is_bcrypt(stored)) {
            // of the bytes after the 72nd bcrypt knows nothing, as the original's did not
            let matches = bcrypt::verify(password, legacy)?;
            return Ok(if matches {
                Verdict::RightButOutdated
            } else {
                Verdict::Wrong
            });
        }
        let hash = PasswordHash::new(stored.unwrap_or(&self.dummy))?;
        let made_with = Params::try_from(&hash).map_err(|error| anyhow::anyhow!("unknown parameters: {error}"))?;
        let expected = hash.hash.context("a stored hash has no output")?;
        let salt = hash.salt.context("a stored hash has no salt")?;
        let current = made_with.m_cost() >= self.params.m_cost() && made_with.t_cost() >= self.params.t_cost();
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|error| anyhow::anyhow!("{error}"))?;
        let version = hash.version.unwrap_or(Version::V0x13.into());
        let version = Version::try_from(version).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut output = vec![0; expected.as_bytes().len()];
        let argon2 = Argon2::new(algorithm, version, made_with);
        derive(&argon2, memory, password, &salt, &mut output)?;
        let matches = bool::from(output.ct_eq(expected.as_bytes()));
        Ok(match (matches && stored.is_some(), current) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Right,
            (true, false) => Verdict::RightButOutdated,
        })
    }
}

/// `$2a$`, `$2b$` or `$2y$`: what the original stored.
fn is_bcrypt(stored: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| stored.starts_with(prefix))
}

/// Argon2 itself, in memory that is used again and again.
fn derive(
    argon2: &Argon2<'_>,
    memory: &mut Memory,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
) -> anyhow::Result<()> {
    // a hash made with other parameters needs more or less
    memory.resize(argon2.params().block_count(), Block::new());
    argon2
        .hash_password_into_with_memory(password, salt, output, memory)
        .map_err(|error| anyhow::anyhow!("a password could not be hashed: {error}"))
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
    phc(params, &salt(sources), &output)
}

fn phc(params: &Params, salt: &[u8], output: &[u8]) -> anyhow::Result<String> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: params.try_into().map_err(|error| anyhow::anyhow!("{error}"))?,
        salt: Some(Salt::new(salt).map_err(|error| anyhow::anyhow!("{error}"))?),
        hash: Some(Output::new(output).map_err(|error| anyhow::anyhow!("{error}"))?),
    };
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher as _;

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
        assert_eq!(
            hasher.verify("Passw0rd!", Some(phc.clone())).await.unwrap(),
            Verdict::Right
        );
        assert_eq!(hasher.verify("passw0rd!", Some(phc)).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn an_unknown_account_costs_a_hash_of_the_same_parameters() {
        let hasher = hasher(1, 1);
        assert!(
            hasher.0.dummy.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            hasher.0.dummy
        );
        assert_eq!(hasher.verify("Passw0rd!", None).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn hashes_of_the_original_are_verified_and_outdated() {
        let hasher = hasher(1, 8);
        let long = "x".repeat(80);
        // made by libxcrypt
        for (password, stored) in [
            (
                "Passw0rd!",
                "$2b$04$abcdefghijklmnopqrstuuchGdllX0O2ZthG6oyaPSbmBrCIbnHlu",
            ),
            (&long, "$2a$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i"),
            (
                "Pässw0rd!",
                "$2b$04$abcdefghijklmnopqrstuu.5JjNkqvKuUnk8ISjHf9O.8bPUwquTG",
            ),
        ] {
            let check = async |password: &str| hasher.verify(password, Some(stored.to_owned())).await.unwrap();
            assert_eq!(check(password).await, Verdict::RightButOutdated);
            assert_eq!(check("passw0rd!").await, Verdict::Wrong);
        }
        let truncated = "$2a$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i";
        let check = async |count: usize| {
            hasher
                .verify(&"x".repeat(count), Some(truncated.to_owned()))
                .await
                .unwrap()
        };
        assert_eq!(
            check(72).await,
            Verdict::RightButOutdated,
            "bytes after the 72nd do not count"
        );
        assert_eq!(check(71).await, Verdict::Wrong);
        assert!(hasher.verify("x", Some("$2b$10$broken".to_owned())).await.is_err());
    }

    #[tokio::test]
    async fn a_hash_made_with_less_work_is_outdated() {
        let weak = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(8_192, 1, 1, None).unwrap(),
        );
        let stored = weak
            .hash_password_with_salt(b"Passw0rd!", &[7; 16])
            .unwrap()
            .to_string();
        let hasher = hasher(1, 1);
        let check = async |password: &str| hasher.verify(password, Some(stored.clone())).await.unwrap();
        assert_eq!(check("Passw0rd!").await, Verdict::RightButOutdated);
        assert_eq!(check("passw0rd!").await, Verdict::Wrong);
    }

    /// Keeps the only thread of a hasher busy until dropped.
    fn busy(hasher: &Hasher) -> std::sync::mpsc::Sender<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        hasher
            .0
            .pool
            .submit(move |_| {
                receiver.recv().ok();
            })
            .unwrap();
        sender
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let hasher = hasher(1, 0);
        let held = busy(&hasher);
        let refused = hasher.verify("Passw0rd!", None).await.unwrap_err();
        assert_eq!(refused.status(), 503);
        assert_eq!(hasher.waiting(), 0);
        drop(held);
        let deadline = Instant::now() + Duration::from_secs(10);
        while hasher.verify("Passw0rd!", None).await.is_err() {
            assert!(Instant::now() < deadline, "there is room again");
        }
    }

    #[tokio::test]
    async fn nothing_is_done_for_a_caller_who_hung_up() {
        let hasher = hasher(1, 8);
        let held = busy(&hasher);
        let (sender, worked) = std::sync::mpsc::channel();
        let mut abandoned = Box::pin(hasher.run("hash", move |_| sender.send(())));
        assert!(futures_util::poll!(abandoned.as_mut()).is_pending());
        assert_eq!(hasher.waiting(), 1);
        drop((abandoned, held));
        assert_eq!(hasher.verify("Passw0rd!", None).await.unwrap(), Verdict::Wrong);
        assert!(worked.recv().is_err());
    }
}
