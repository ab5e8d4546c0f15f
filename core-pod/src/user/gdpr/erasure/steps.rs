//! The steps of an erasure. Each may run any number of times, to its end or not.
//!
//! contract: core §14 (delete or pseudonymise each data class, object storage included)

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use shared::{events::outbox, id::UserId};
use uuid::Uuid;

use super::{Contact, Step, contact_context};
use crate::{
    fault,
    mail::{Letter, Locale, NewMail},
    user::{
        User, UserState,
        gdpr::{
            data::{self, Erase, TABLES},
            events, export,
            store::erasures::{self as store, Claimed},
        },
    },
};

/// Rows of the log of accesses that are changed at once.
const BATCH: i64 = 1_000;
/// Objects that are listed at once.
const LISTED: u16 = 500;
/// What outlives the account, and why; part of the certificate.
const KEPT: [(&str, &str); 3] = [
    ("payments", "commercial and tax law, 10 years"),
    ("bookings", "claims, 3 years, under a random pseudonym"),
    (
        "accessLogs",
        "accountability of those who had access, 3 years, under the pseudonym of this certificate",
    ),
];

/// Carries out one step and notes it.
pub async fn perform(state: &UserState, job: &Claimed, step: Step) -> anyhow::Result<()> {
    match step {
        Step::Account => {
            let existed = state.accounts.erase(job.user).await?;
            note(state, job, step, json!({ "existed": existed })).await
        }
        Step::Objects => {
            let removed = remove_objects(state, job.user).await?;
            note(state, job, step, json!({ "removed": removed })).await
        }
        Step::Data => {
            let counts = erase_tables(state, job.user).await?;
            note(state, job, step, Value::Object(counts)).await
        }
        Step::Announce => announce(state, job).await,
        Step::Certificate => certify(state, job).await,
    }
    .with_context(|| format!("step {}", step.as_str()))
}

/// Notes a step whose effects are elsewhere, or too many for one transaction.
async fn note(state: &UserState, job: &Claimed, step: Step, summary: Value) -> anyhow::Result<()> {
    let name = step.as_str();
    fault::point(&format!("erasure.{name}.done")).await;
    let mut tx = state.db.begin().await?;
    store::note_step(&mut tx, job.id, name, &summary, state.sources.now()).await?;
    tx.commit().await?;
    fault::point(&format!("erasure.{name}.noted")).await;
    Ok(())
}

/// Removes the picture and all exports. Gives their number.
async fn remove_objects(state: &UserState, user: UserId) -> anyhow::Result<usize> {
    let mut removed = 0;
    let avatar = store::find_avatar(state.db.pool(), user).await?;
    let own = avatar.as_deref().and_then(|address| address.strip_prefix("/uploads/"));
    if let Some(key) = own.filter(|key| key.starts_with("avatars/")) {
        state.objects.delete(key).await?;
        removed += 1;
    }
    let prefix = export::object_prefix(user);
    loop {
        let page = state.objects.list(&prefix, None, LISTED).await?;
        for (key, _) in &page.keys {
            state.objects.delete(key).await?;
        }
        removed += page.keys.len();
        if page.next.is_none() {
            return Ok(removed);
        }
    }
}

/// Deletes the traveller from every table, batch by batch. Gives the number of rows by table.
async fn erase_tables(state: &UserState, user: UserId) -> anyhow::Result<Map<String, Value>> {
    let mut counts = Map::new();
    let mut conn = state.db.acquire().await?;
    for table in TABLES.iter().filter(|table| table.erase == Erase::Delete) {
        let mut deleted = 0;
        loop {
            let batch = data::delete(&mut conn, table, user).await?;
            deleted += batch;
            if batch == 0 {
                break;
            }
        }
        counts.insert(table.name.to_owned(), json!(deleted));
    }
    let pseudonym = pseudonym(user);
    let (mut own, mut others) = (0, 0);
    loop {
        let deleted = store::delete_own_accesses(&mut conn, user, BATCH).await?;
        let changed = store::pseudonymise_accesses(&mut conn, user, pseudonym, BATCH).await?;
        own += deleted;
        others += changed;
        if deleted + changed == 0 {
            break;
        }
    }
    counts.insert("own_accesses".to_owned(), json!(own));
    counts.insert("pseudonymised_accesses".to_owned(), json!(others));
    Ok(counts)
}

/// Tells the other services and the traveller; both leave with the note, so each is told once.
async fn announce(state: &UserState, job: &Claimed) -> anyhow::Result<()> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    if !store::note_step(&mut tx, job.id, Step::Announce.as_str(), &json!({}), now).await? {
        return Ok(());
    }
    let reason = if job.origin == "admin" {
        "admin_action"
    } else {
        "user_request"
    };
    outbox::append::<User>(&mut tx, &[events::user_deleted(&state.sources, job.user, reason)]).await?;
    if let Some(sealed) = &job.contact {
        let plain = state.cipher.open(&contact_context(job.user), sealed)?;
        let contact: Contact = serde_json::from_slice(&plain).context("the address cannot be read")?;
        let mail = NewMail::new(format!("gdpr.erasure:{}", job.id), contact.email, Letter::DeletionDone)
            .greeting(contact.first_name.as_deref())
            .in_language(Locale::of(contact.language.as_deref()));
        state.mailer.enqueue(&mut tx, &mail).await?;
    }
    fault::point("erasure.announce.done").await;
    tx.commit().await?;
    fault::point("erasure.announce.noted").await;
    Ok(())
}

/// Sweeps once more, for what was on its way while the account went, and writes the certificate.
async fn certify(state: &UserState, job: &Claimed) -> anyhow::Result<()> {
    remove_objects(state, job.user).await?;
    erase_tables(state, job.user).await?;
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let summary = json!({
        "origin": job.origin,
        "pseudonym": pseudonym(job.user),
        "steps": store::summaries(&mut tx, job.id).await?,
        "kept": KEPT.iter().map(|(class, reason)| json!({ "data": class, "reason": reason })).collect::<Value>(),
    });
    store::certify(&mut tx, job, &user_id_hash(job.user), &summary, now).await?;
    fault::point("erasure.certificate.done").await;
    tx.commit().await?;
    fault::point("erasure.certificate.noted").await;
    Ok(())
}

/// How the certificate names a traveller: who has the id can find it, nobody can find the id.
pub fn user_id_hash(user: UserId) -> String {
    hex::encode(fingerprint(user))
}

/// Stands for a traveller in what is kept. Derived, so that every attempt uses the same.
fn pseudonym(user: UserId) -> UserId {
    let mut bytes = [0; 16];
    for (byte, source) in bytes.iter_mut().zip(fingerprint(user)) {
        *byte = source;
    }
    UserId(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

fn fingerprint(user: UserId) -> [u8; 32] {
    let id: Uuid = user.0;
    Sha256::new()
        .chain_update(b"dreamscape.erasure:")
        .chain_update(id.as_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_always_the_same_and_is_not_the_id() {
        let (ada, eve) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        assert_eq!(pseudonym(ada), pseudonym(ada));
        assert_ne!(pseudonym(ada), ada);
        assert_ne!(pseudonym(ada), pseudonym(eve));
        assert_eq!(user_id_hash(ada).len(), 64);
    }
}
