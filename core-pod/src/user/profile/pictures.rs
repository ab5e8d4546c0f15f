//! Pictures in object storage: put there, served, and removed when nothing refers to them.
//!
//! contract: core §5.2. An object is on the list `users.doomed_objects` before it is stored and comes off it in the
//! transaction that refers to it; a picture that is replaced goes on the list in the transaction that replaces it. So a
//! crash at any point loses neither the present picture nor the trace of one to remove: the sweeper finishes later.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use shared::{
    ApiError,
    db::Db,
    health::{Check, Kind as CheckKind},
    id::UserId,
    lifecycle::Shutdown,
    objects::{Facts, Kind, Object, ObjectError, ObjectStore},
    sources::Sources,
};
use sqlx::PgConnection;

use super::{
    image::{Format, Picture},
    model::PICTURES,
    store,
};
use crate::user::User;

/// Where pictures are in the bucket.
const FOLDER: &str = "avatars/";
/// Digits at the end of a name: nobody finds a picture by trying.
const DIGITS: usize = 18;
/// How long an upload may take until the transaction that refers to it.
const ADOPTED_WITHIN: TimeDelta = TimeDelta::hours(1);
/// How long a sweeper keeps objects to itself.
const LEASE: TimeDelta = TimeDelta::minutes(5);
const LEASED_AT_ONCE: i64 = 50;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long an answer waits for the removal of the old picture, which the sweeper would do as well.
const REMOVED_WITHIN: Duration = Duration::from_secs(2);
/// Browsers keep a picture for a day; a name never gets other contents.
const CACHED: &str = "public, max-age=86400, immutable";

/// The pictures of travellers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pictures(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: ObjectStore,
    db: Db<User>,
    sources: Sources,
}

/// A picture that is stored and that nothing refers to yet.
#[derive(Debug)]
pub struct Uploaded {
    /// The name of its file.
    pub name: String,
}

impl Uploaded {
    /// Where it is found.
    pub fn url(&self) -> String {
        format!("{PICTURES}{}", self.name)
    }
}

impl Pictures {
    /// Pictures in this bucket.
    pub fn new(objects: ObjectStore, db: Db<User>, sources: Sources) -> Self {
        Self(Arc::new(Inner { objects, db, sources }))
    }

    /// Stores a picture under a new name.
    pub async fn upload(&self, picture: Picture) -> Result<Uploaded, ApiError> {
        let Inner { objects, db, sources } = &*self.0;
        let now = sources.now();
        let digits = sources.code(b"0123456789", DIGITS);
        let name = format!(
            "avatar-{}-{digits}.{}",
            now.timestamp_millis(),
            picture.format.extension()
        );
        let key = key_of(&name);
        store::doom_object(db.pool(), &key, now + ADOPTED_WITHIN).await?;
        let kind = Kind::of(picture.format.media_type()).cached(CACHED);
        objects.put(&key, &kind, picture.bytes).await.map_err(away)?;
        Ok(Uploaded { name })
    }

    /// Refers to an uploaded picture, or to one elsewhere, or to none, in place of the present one, which it gives.
    pub async fn put_in_place(
        &self,
        tx: &mut PgConnection,
        user: UserId,
        avatar: Option<&str>,
    ) -> Result<Option<Replaced>, ApiError> {
        let now = self.0.sources.now();
        store::ensure_row(tx, user, self.0.sources.id(), now).await?;
        if let Some(key) = avatar.and_then(own_key)
            && !store::spare_object(&mut *tx, &key).await?
        {
            return Err(ApiError::unavailable(anyhow::anyhow!(
                "the upload took longer than an hour"
            )));
        }
        let before = store::replace_picture(tx, user, avatar, now).await?;
        self.give_up(tx, before.as_deref()).await
    }

    /// Has the object of a picture removed once the transaction commits; pictures elsewhere are none of ours.
    pub async fn give_up(&self, tx: &mut PgConnection, avatar: Option<&str>) -> Result<Option<Replaced>, ApiError> {
        let Some(key) = avatar.and_then(own_key) else {
            return Ok(None);
        };
        store::doom_object(tx, &key, self.0.sources.now()).await?;
        Ok(Some(Replaced { key }))
    }

    /// Removes what was replaced, after the commit. What does not succeed now is left to the sweeper.
    pub async fn remove(&self, replaced: Option<Replaced>) {
        let Some(Replaced { key }) = replaced else { return };
        match tokio::time::timeout(REMOVED_WITHIN, self.remove_object(&key)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "an old picture is removed later"),
            Err(_elapsed) => tracing::warn!("an old picture is removed later: storage is slow"),
        }
    }

    /// Takes back an upload that nothing will refer to.
    pub async fn discard(&self, uploaded: Uploaded) {
        let key = key_of(&uploaded.name);
        self.remove(Some(Replaced { key })).await;
    }

    async fn remove_object(&self, key: &str) -> anyhow::Result<()> {
        self.0.objects.delete(key).await?;
        store::spare_object(self.0.db.pool(), key).await?;
        Ok(())
    }

    /// Opens the picture of this name.
    pub async fn open(&self, name: &PictureName) -> Result<Option<Object>, ApiError> {
        self.0.objects.get(&key_of(&name.name)).await.map_err(away)
    }

    /// What is known of the picture of this name.
    pub async fn look(&self, name: &PictureName) -> Result<Option<Facts>, ApiError> {
        self.0.objects.head(&key_of(&name.name)).await.map_err(away)
    }

    /// Whether object storage can be reached (core §6.1).
    pub fn check(&self) -> Check {
        let objects = self.0.objects.clone();
        Check::new("Uploads Directory", CheckKind::Filesystem, false, move || {
            let objects = objects.clone();
            async move { Ok::<_, anyhow::Error>(objects.ping().await?) }
        })
    }

    /// Removes objects that are due; says how many.
    pub async fn sweep(&self) -> anyhow::Result<u64> {
        let Inner { db, sources, .. } = &*self.0;
        let mut removed = 0;
        loop {
            let now = sources.now();
            let due = store::lease_doomed(db.pool(), now, now + LEASE, LEASED_AT_ONCE).await?;
            if due.is_empty() {
                return Ok(removed);
            }
            for key in due {
                self.remove_object(&key).await?;
                removed += 1;
            }
        }
    }

    /// The job around [`Self::sweep`]: every minute until the process drains.
    pub async fn keep_sweeping(self, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            match self.sweep().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "objects without a reference removed"),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "objects could not be removed"),
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }
}

/// A picture that nothing refers to any more once the transaction has committed.
#[derive(Debug)]
pub struct Replaced {
    key: String,
}

/// The name of a picture of ours: `avatar-<milliseconds>-<digits>.<type>`. Nothing else reaches the object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureName {
    name: String,
    /// The type it was found to be when it was stored.
    pub format: Format,
}

impl PictureName {
    /// The name, if it is one.
    pub fn parse(raw: &str) -> Option<Self> {
        let (stem, extension) = raw.strip_prefix("avatar-")?.split_once('.')?;
        let format = Format::with_extension(extension)?;
        let (millis, digits) = stem.split_once('-')?;
        let is_number = |text: &str| (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_number(millis) && is_number(digits)).then(|| Self {
            name: raw.to_owned(),
            format,
        })
    }
}

fn key_of(name: &str) -> String {
    format!("{FOLDER}{name}")
}

/// The object behind a picture's URL, if it is one of ours.
fn own_key(avatar: &str) -> Option<String> {
    let name = PictureName::parse(avatar.strip_prefix(PICTURES)?)?;
    Some(key_of(&name.name))
}

/// A store that is away, or that is not set up as it should be: these routes cannot work, others do.
fn away(error: ObjectError) -> ApiError {
    match error {
        ObjectError::Unavailable { .. } | ObjectError::Refused { .. } => ApiError::unavailable(error),
        other => other.into(),
    }
}

/// How long browsers keep a picture.
pub const fn cache_control() -> &'static str {
    CACHED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_names() {
        let name = PictureName::parse("avatar-1732550400000-123456789012345678.png").unwrap();
        assert_eq!(name.format, Format::Png);
        for other in [
            "",
            "avatar",
            "avatar-1-2",
            "avatar-1-2.svg",
            "avatar-1-2.PNG",
            "avatar--2.png",
            "avatar-1-.png",
            "avatar-1-2.png.html",
            "../avatar-1-2.png",
            "avatar-1-2/..png",
            "avatar-1-2.png/",
            "avatar-1-2.png\0",
            "avatar-1-2-3.png",
            "avatar-a-b.png",
            "AVATAR-1-2.png",
            " avatar-1-2.png",
            "avatar-+1-2.png",
            "avatar-1-2\\.png",
            "avatar-١-٢.png",
        ] {
            assert_eq!(PictureName::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn only_pictures_of_ours_have_an_object() {
        assert_eq!(
            own_key("/uploads/avatars/avatar-1-2.gif").as_deref(),
            Some("avatars/avatar-1-2.gif")
        );
        for other in [
            "https://x.example/uploads/avatars/avatar-1-2.gif",
            "/uploads/avatars/../avatar-1-2.gif",
            "avatar-1-2.gif",
        ] {
            assert_eq!(own_key(other), None);
        }
    }
}
