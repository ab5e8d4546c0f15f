//! Signing keys that change while the pods run: those of the configuration, and those of the database once there are any.
//!
//! contract: core §14 (JWKS, rotation with overlap, emergency), §11 (`signing_keys`)
//!
//! A rotation publishes the next key some time before it signs, so that every cache of the key set knows it first, and
//! keeps the old ones for as long as a token that they signed can live. An emergency does neither: what the old keys signed
//! is worth nothing at once. What the database says of a key's name wins over the configuration, so a key that was retired
//! stays retired in a pod whose environment still has it. Keys of the database are rotated when they have signed for so long
//! as is configured.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    ApiError,
    auth::{
        keys::{Jwk, KeyEntry, KeyRing, KeySet, KeySetError},
        tokens::SERVICE_TOKEN_TTL,
    },
    crypto::Cipher,
    db::Db,
    lifecycle::Shutdown,
    sources::Sources,
};
use tokio::sync::OnceCell;

use super::{
    Auth,
    store::{self, KeyRow},
};

/// Between two looks at the database: a new key is known to a running pod within this time.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// From the publication of a key to its first signature: longer than any pod keeps the key set.
const PUBLISHED_BEFORE: TimeDelta = TimeDelta::seconds(90);
/// Clocks of pods may differ by this much.
const LEEWAY: TimeDelta = TimeDelta::seconds(10);

/// What a key does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    /// Published, does not sign yet.
    Pending,
    /// Signs.
    Signing,
    /// Does not sign any more; what it signed is good until it retires.
    Verifying,
    /// Worth nothing.
    Retired,
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Signing => "signing",
            Self::Verifying => "verifying",
            Self::Retired => "retired",
        })
    }
}

/// A key as operators see it.
#[derive(Debug, Clone)]
pub struct KeyReport {
    /// Its name.
    pub kid: String,
    /// What it does now.
    pub status: KeyStatus,
    /// When it begins or began to sign; `None` for keys of the configuration.
    pub activates_at: Option<DateTime<Utc>>,
    /// When it is worth nothing any more.
    pub retires_at: Option<DateTime<Utc>>,
}

/// Why keys were not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The next key does not sign yet: a second rotation now would throw it away unused.
    #[error("a rotation is under way: `{0}` will sign from {1}; use --emergency to cut it short")]
    UnderWay(String, DateTime<Utc>),
    /// There is no such key, or it is retired.
    #[error("there is no key `{0}` that still lives")]
    Unknown(String),
    /// Nothing would be left to sign with.
    #[error("`{0}` signs now: rotate first, or `rotate --emergency`")]
    Signs(String),
    /// The keys themselves are not usable.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// A private key could not be sealed or opened.
    #[error("private keys of the database cannot be used: {0}")]
    Crypto(#[from] shared::crypto::CryptoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The keys of the pod. Cheap to clone.
#[derive(Clone)]
pub struct SigningKeys(Arc<Inner>);

struct Inner {
    db: Db<Auth>,
    cipher: Cipher,
    sources: Sources,
    configured: Vec<KeyEntry>,
    /// Keys that were made for this process alone are nobody else's business.
    record_configured: bool,
    token_life: TimeDelta,
    rotate_after: Option<TimeDelta>,
    ring: KeyRing,
    loaded: OnceCell<()>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("ring", &self.0.ring)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The key of the configuration that signs while the database has none.
    fn configured_signer(&self) -> Option<&str> {
        self.configured.iter().find(|entry| entry.signs()).map(KeyEntry::kid)
    }
}

/// The keys of the configuration.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The keys.
    pub entries: Vec<KeyEntry>,
    /// Whether they die with this process (development without a key set).
    pub ephemeral: bool,
}

impl SigningKeys {
    /// The keys of the configuration until the database is asked. Those of the database sign for `rotate_after`.
    pub fn new(
        configured: Configured,
        access_ttl: Duration,
        rotate_after: Option<TimeDelta>,
        db: Db<Auth>,
        cipher: Cipher,
        sources: Sources,
    ) -> Result<Self, KeySetError> {
        let ring = KeyRing::from(KeySet::of(&configured.entries)?);
        let longest = access_ttl.max(SERVICE_TOKEN_TTL);
        Ok(Self(Arc::new(Inner {
            db,
            cipher,
            sources,
            configured: configured.entries,
            record_configured: !configured.ephemeral,
            token_life: TimeDelta::from_std(longest).unwrap_or(TimeDelta::hours(1)) + LEEWAY,
            rotate_after,
            ring,
            loaded: OnceCell::new(),
        })))
    }

    /// What signs and verifies, whatever keys there will be.
    pub fn ring(&self) -> KeyRing {
        self.0.ring.clone()
    }

    /// Waits for the first look at the database, so that no pod signs with a key that was retired before it started.
    pub async fn ready(&self) -> Result<(), ApiError> {
        let first = self.0.loaded.get_or_try_init(|| async { self.load().await.map(drop) });
        first.await.map(drop).map_err(|error| match error {
            KeyError::Database(error) => error.into(),
            other => ApiError::internal(other),
        })
    }

    /// Looks at the database. Says whether a rotation is due.
    pub async fn refresh(&self) -> Result<bool, KeyError> {
        let due = self.load().await?;
        let _ = self.0.loaded.set(());
        Ok(due)
    }

    async fn load(&self) -> Result<bool, KeyError> {
        let (rows, now) = (store::list_keys(self.0.db.pool()).await?, self.0.sources.now());
        let next = KeySet::of(&self.entries(&rows, now)?)?;
        let kid = next.kid().to_owned();
        if self.0.ring.replace(next) {
            tracing::info!(signing = kid, "the signing keys changed");
        }
        Ok(self.is_due(&rows, now))
    }

    /// Whether the key that signs is one of the database, has done so for as long as it may, and has no successor yet.
    fn is_due(&self, rows: &[KeyRow], now: DateTime<Utc>) -> bool {
        let Some(after) = self.0.rotate_after else { return false };
        signing_row(rows, now).is_some_and(|row| row.activates_at + after <= now)
            && rows.iter().all(|row| row.activates_at <= now)
    }

    /// The keys that are worth something at `now`; one of them signs.
    fn entries(&self, rows: &[KeyRow], now: DateTime<Utc>) -> Result<Vec<KeyEntry>, KeyError> {
        let signing = signing_row(rows, now).map(|row| row.kid.as_str());
        let mut entries = Vec::new();
        for row in rows
            .iter()
            .filter(|row| status(row, signing, now) != KeyStatus::Retired)
        {
            let Some(sealed) = &row.private_key_enc else { continue };
            let seed = self.0.cipher.open(&context(&row.kid), sealed)?;
            entries.push(KeyEntry::new(
                row.kid.clone(),
                &seed,
                signing == Some(row.kid.as_str()),
            )?);
        }
        let others = self
            .0
            .configured
            .iter()
            .filter(|entry| rows.iter().all(|row| row.kid != entry.kid()));
        entries.extend(others.map(|entry| entry.clone().signing(entry.signs() && signing.is_none())));
        Ok(entries)
    }

    /// Makes a new key. It is published at once and signs after a while, or at once in an emergency; then the old ones
    /// are worth nothing at once as well.
    pub async fn rotate(&self, emergency: bool) -> Result<KeyReport, KeyError> {
        let Inner {
            db, cipher, sources, ..
        } = &*self.0;
        let now = sources.now();
        let mut tx = db.begin().await?;
        store::lock_rotation(&mut tx).await?;
        let rows = store::list_keys(&mut *tx).await?;
        let signing = signing_row(&rows, now).map(|row| row.kid.as_str());
        let pending = rows.iter().find(|row| status(row, signing, now) == KeyStatus::Pending);
        if let Some(pending) = pending.filter(|_| !emergency) {
            return Err(KeyError::UnderWay(pending.kid.clone(), pending.activates_at));
        }
        if self.0.record_configured {
            for entry in &self.0.configured {
                // the one that signs now goes on until the new key may; the others only verify
                let signs = signing.is_none() && self.0.configured_signer() == Some(entry.kid());
                let since = if signs { now } else { DateTime::UNIX_EPOCH };
                store::insert_key(&mut tx, &self.row(entry, now, since, None)?).await?;
            }
        }
        let activates_at = if emergency { now } else { now + PUBLISHED_BEFORE };
        let retires_at = if emergency {
            now
        } else {
            activates_at + self.0.token_life
        };
        let entry = KeyEntry::generate(sources)?;
        let row = self.row(&entry, now, activates_at, None)?;
        // sealed with the key of this process: what the pods cannot open must not be stored
        cipher.open(&context(&row.kid), row.private_key_enc.as_deref().unwrap_or_default())?;
        store::insert_key(&mut tx, &row).await?;
        store::retire_others(&mut tx, &row.kid, retires_at, now).await?;
        tx.commit().await?;
        tracing::warn!(kid = %row.kid, %activates_at, %retires_at, emergency, "signing keys rotated");
        let status = if emergency {
            KeyStatus::Signing
        } else {
            KeyStatus::Pending
        };
        Ok(KeyReport {
            kid: row.kid,
            status,
            activates_at: Some(activates_at),
            retires_at: None,
        })
    }

    /// Rotates where [`refresh`](Self::refresh) said that it is due. Of several pods that find out at once one makes the new
    /// key. What the configuration names has no age and is left to operators.
    pub async fn rotate_when_due(&self) -> Result<Option<KeyReport>, KeyError> {
        match self.rotate(false).await {
            Ok(report) => Ok(Some(report)),
            Err(KeyError::UnderWay(..)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a key worth nothing at once. Refuses the one that signs.
    pub async fn retire(&self, kid: &str) -> Result<(), KeyError> {
        let now = self.0.sources.now();
        let mut tx = self.0.db.begin().await?;
        store::lock_rotation(&mut tx).await?;
        let rows = store::list_keys(&mut *tx).await?;
        let reports = self.reports(&rows, now);
        let known = reports.into_iter().find(|report| report.kid == kid);
        match known.map(|report| report.status) {
            Some(KeyStatus::Signing) => return Err(KeyError::Signs(kid.to_owned())),
            None | Some(KeyStatus::Retired) => return Err(KeyError::Unknown(kid.to_owned())),
            Some(KeyStatus::Pending | KeyStatus::Verifying) => {}
        }
        if let Some(entry) = self.0.configured.iter().find(|entry| entry.kid() == kid) {
            // a tombstone, for the environment still names it
            store::insert_key(&mut tx, &self.row(entry, now, now, None)?).await?;
        }
        if !store::retire_key(&mut tx, kid, now).await? {
            return Err(KeyError::Unknown(kid.to_owned()));
        }
        tx.commit().await?;
        tracing::warn!(kid, "a signing key was retired");
        Ok(())
    }

    /// All keys with what they do now, those of the configuration included.
    pub async fn list(&self) -> Result<Vec<KeyReport>, KeyError> {
        let rows = store::list_keys(self.0.db.pool()).await?;
        Ok(self.reports(&rows, self.0.sources.now()))
    }

    fn reports(&self, rows: &[KeyRow], now: DateTime<Utc>) -> Vec<KeyReport> {
        let signing = signing_row(rows, now).map(|row| row.kid.as_str());
        let stored = rows.iter().map(|row| KeyReport {
            kid: row.kid.clone(),
            status: status(row, signing, now),
            activates_at: Some(row.activates_at),
            retires_at: row.retires_at,
        });
        let others = self
            .0
            .configured
            .iter()
            .filter(|entry| rows.iter().all(|row| row.kid != entry.kid()));
        let configured_signing = self.0.configured_signer();
        let others = others.map(|entry| KeyReport {
            kid: entry.kid().to_owned(),
            status: if signing.is_none() && configured_signing == Some(entry.kid()) {
                KeyStatus::Signing
            } else {
                KeyStatus::Verifying
            },
            activates_at: None,
            retires_at: None,
        });
        stored.chain(others).collect()
    }

    fn row(
        &self,
        entry: &KeyEntry,
        now: DateTime<Utc>,
        activates_at: DateTime<Utc>,
        retires_at: Option<DateTime<Utc>>,
    ) -> Result<KeyRow, KeyError> {
        let Jwk { kid, x, .. } = entry.public()?;
        let sealed = self.0.cipher.seal(&context(&kid), entry.seed())?;
        Ok(KeyRow {
            kid,
            public_key: x,
            private_key_enc: Some(sealed),
            created_at: now,
            activates_at,
            retires_at,
        })
    }

    /// The job around [`refresh`](Self::refresh), until the process drains. While the database is away the keys stay.
    pub async fn keep_fresh(&self, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            match self.refresh().await {
                Ok(due) => {
                    if due && let Err(error) = self.rotate_when_due().await {
                        tracing::warn!(%error, "the signing keys are to be rotated and were not");
                    }
                    if let Err(error) = store::wipe_retired(self.0.db.pool(), self.0.sources.now()).await {
                        tracing::debug!(%error, "retired keys not wiped yet");
                    }
                }
                Err(KeyError::Database(error)) => tracing::debug!(%error, "the signing keys could not be looked up"),
                Err(error) => return Err(error).context("the signing keys of the database cannot be used"),
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// The newest key whose time has come.
fn signing_row(rows: &[KeyRow], now: DateTime<Utc>) -> Option<&KeyRow> {
    let usable = rows.iter().filter(|row| {
        row.activates_at <= now && row.retires_at.is_none_or(|at| now < at) && row.private_key_enc.is_some()
    });
    usable.max_by_key(|row| (row.retires_at.is_none(), row.activates_at))
}

fn status(row: &KeyRow, signing: Option<&str>, now: DateTime<Utc>) -> KeyStatus {
    if row.retires_at.is_some_and(|at| at <= now) {
        KeyStatus::Retired
    } else if signing == Some(row.kid.as_str()) {
        KeyStatus::Signing
    } else if now < row.activates_at {
        KeyStatus::Pending
    } else {
        KeyStatus::Verifying
    }
}

fn context(kid: &str) -> String {
    format!("auth.signing_keys:{kid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kid: &str, activates: i64, retires: Option<i64>) -> KeyRow {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        KeyRow {
            kid: kid.into(),
            public_key: String::new(),
            private_key_enc: Some(Vec::new()),
            created_at: at(0),
            activates_at: at(activates),
            retires_at: retires.map(at),
        }
    }

    #[test]
    fn the_old_key_signs_until_the_new_one_may_and_verifies_until_it_retires() {
        let rows = [row("old", -1_000, Some(1_000)), row("new", 90, None)];
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        for (seconds, old, new) in [
            (0, KeyStatus::Signing, KeyStatus::Pending),
            (89, KeyStatus::Signing, KeyStatus::Pending),
            (90, KeyStatus::Verifying, KeyStatus::Signing),
            (999, KeyStatus::Verifying, KeyStatus::Signing),
            (1_000, KeyStatus::Retired, KeyStatus::Signing),
        ] {
            let now = at(seconds);
            let signing = signing_row(&rows, now).map(|row| row.kid.as_str());
            assert_eq!(
                (status(&rows[0], signing, now), status(&rows[1], signing, now)),
                (old, new),
                "{seconds}"
            );
        }
    }
}
