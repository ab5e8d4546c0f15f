//! Making tokens and the mails that carry them, in the transaction of whatever is the occasion.
//!
//! contract: core §4.1 (sign-up), §4.4 (change of address), §14

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    config::EmailChange,
    model::{About, Purpose},
    store::{self, NewToken},
};
use crate::{
    auth::{
        AuthState,
        client::AccountError,
        model::{Account, AccountDetails, Email},
        sessions::fingerprint,
        store::Digest,
    },
    mail::{Letter, NewMail, Token, masked},
};

/// A token that has just been made: kept as a digest, on its way in a mail.
pub struct Issued {
    /// Its id, from which the mail's idempotency key derives.
    pub id: Uuid,
    /// The secret.
    pub token: Token,
    /// What is stored of it.
    pub hash: Digest,
    /// Until when it works.
    pub until: DateTime<Utc>,
}

impl Issued {
    /// The key of the mail that carries it.
    pub fn mail_key(&self) -> String {
        format!("auth.token:{}", self.id)
    }
}

/// Makes a token and keeps its digest.
pub async fn token(
    tx: &mut PgConnection,
    state: &AuthState,
    user: UserId,
    purpose: Purpose,
    about: &About,
) -> sqlx::Result<Issued> {
    let AuthState { sources, .. } = state;
    let (id, secret, now) = (sources.uuid_v7(), sources.secret(), sources.now());
    let (hash, until) = (fingerprint(&secret), now + purpose.life());
    let new = NewToken {
        id,
        user,
        purpose,
        hash,
        about,
        created_at: now,
        expires_at: until,
    };
    store::insert_token(tx, &new).await?;
    Ok(Issued {
        id,
        token: Token::new(secret),
        hash,
        until,
    })
}

/// Asks the owner of a new account to confirm the address, given as typed.
pub async fn ask_to_verify(
    tx: &mut PgConnection,
    state: &AuthState,
    account: &Account,
    email: &str,
) -> sqlx::Result<()> {
    verify(tx, state, account.id, account.first_name.as_deref(), email).await
}

/// The same for any account.
pub async fn verify(
    tx: &mut PgConnection,
    state: &AuthState,
    user: UserId,
    first_name: Option<&str>,
    email: &str,
) -> sqlx::Result<()> {
    let issued = token(tx, state, user, Purpose::VerifyEmail, &About::address(email)).await?;
    let key = issued.mail_key();
    let letter = Letter::VerifyEmail { token: issued.token };
    let mail = NewMail::new(key, email, letter).for_user(user).greeting(first_name);
    state.mailer.enqueue(tx, &mail).await.map(drop)
}

/// Asks the new mailbox of an account to confirm an address that is not in use yet; an earlier question is void.
pub async fn ask_to_confirm(
    tx: &mut PgConnection,
    state: &AuthState,
    account: &AccountDetails,
    email: &Email,
) -> Result<(), AccountError> {
    let now = state.sources.now();
    if store::is_taken(tx, email.as_str()).await? {
        return Err(AccountError::EmailTaken);
    }
    store::retire_tokens(tx, account.id, &[Purpose::ChangeEmail], None, now).await?;
    let about = About::address(email.as_typed());
    let issued = token(tx, state, account.id, Purpose::ChangeEmail, &about).await?;
    let key = issued.mail_key();
    let letter = Letter::ConfirmNewEmail {
        token: issued.token,
        in_use: false,
    };
    let mail = NewMail::new(key, email.as_typed(), letter)
        .for_user(account.id)
        .greeting(account.first_name.as_deref());
    state.mailer.enqueue(tx, &mail).await?;
    Ok(())
}

/// An account has a new address: the old mailbox learns of it and can take it back for three days; the new one is asked to
/// confirm, unless it has. Links that were sent to the old mailbox for other purposes are void, links that bring an older
/// address back are not.
pub async fn address_changed(
    tx: &mut PgConnection,
    state: &AuthState,
    before: &AccountDetails,
    after: &AccountDetails,
) -> sqlx::Result<()> {
    let user = after.id;
    let mailed = [Purpose::VerifyEmail, Purpose::ChangeEmail, Purpose::ResetPassword];
    store::retire_tokens(tx, user, &mailed, None, state.sources.now()).await?;
    if !after.is_verified {
        let about = About::address(&after.email_display);
        let issued = token(tx, state, user, Purpose::VerifyEmail, &about).await?;
        let key = issued.mail_key();
        let letter = Letter::ConfirmNewEmail {
            token: issued.token,
            in_use: true,
        };
        let mail = NewMail::new(key, after.email_display.as_str(), letter)
            .for_user(user)
            .greeting(after.first_name.as_deref());
        state.mailer.enqueue(tx, &mail).await?;
    }
    let about = About {
        email: Some(before.email_display.clone()),
        verified: before.is_verified,
        session: None,
    };
    let issued = token(tx, state, user, Purpose::RevertEmail, &about).await?;
    let key = issued.mail_key();
    let letter = Letter::EmailChanged {
        new_address: masked(&after.email_display),
        token: issued.token,
        until: issued.until,
    };
    let mail = NewMail::new(key, before.email_display.as_str(), letter)
        .for_user(user)
        .greeting(before.first_name.as_deref());
    state.mailer.enqueue(tx, &mail).await.map(drop)
}

/// Sends a link for a new password.
pub async fn reset(
    tx: &mut PgConnection,
    state: &AuthState,
    user: UserId,
    first_name: Option<&str>,
    email: &str,
) -> sqlx::Result<(Digest, DateTime<Utc>)> {
    let issued = token(tx, state, user, Purpose::ResetPassword, &About::address(email)).await?;
    let key = issued.mail_key();
    let letter = Letter::ResetPassword {
        token: issued.token,
        until: issued.until,
    };
    let mail = NewMail::new(key, email, letter).for_user(user).greeting(first_name);
    state.mailer.enqueue(tx, &mail).await?;
    Ok((issued.hash, issued.until))
}

/// Writes to the owner of an account, if there is one.
pub async fn tell_owner(tx: &mut PgConnection, state: &AuthState, user: UserId, letter: Letter) -> sqlx::Result<()> {
    let Some(recipient) = store::find_recipient(tx, user).await? else {
        return Ok(());
    };
    let key = format!("auth.{}:{}", letter.template(), state.sources.uuid_v7());
    let mail = NewMail::new(key, recipient.email_display, letter)
        .for_user(user)
        .greeting(recipient.first_name.as_deref());
    state.mailer.enqueue(tx, &mail).await.map(drop)
}

impl EmailChange {
    /// Whether a new address waits for its confirmation.
    pub fn waits(self) -> bool {
        self == Self::Confirmed
    }
}
