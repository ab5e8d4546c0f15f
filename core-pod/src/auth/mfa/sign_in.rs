//! A sign-in in two requests: the first factor gets a ticket, the second gets the session.
//!
//! contract: core §4.2 (200 with `data.mfaRequired`, never for accounts without), §14 (ticket of five minutes)
//!
//! The ticket is good for five tries, for one success, for one network, and for the password it was given for: changing
//! the password ends it. Wrong factors also count per account, whatever the ticket, and towards the lockout.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::{ApiError, http::client_address::ClientAddress, id::UserId, sources::iso};
use sqlx::PgConnection;
use utoipa::ToSchema;
use webauthn_rs::prelude::PasskeyAuthentication;

use super::{
    ceremony::{self, Kind, bound_to},
    model::{Proof, Second},
    notice,
    second_factor::{self, Offer, Outcome},
    store,
};
use crate::auth::{
    AuthState, credentials,
    handlers::suspended,
    model::Account,
    sessions::{self, Occasion, Opened, Origin},
    store::clear_failures,
};

/// What a sign-in answers that wants a second factor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// Always true.
    mfa_required: bool,
    /// To be shown with the second factor, once.
    ticket: String,
    /// Until when.
    #[serde(with = "iso")]
    ticket_expires_at: DateTime<Utc>,
    /// What may be shown: `totp`, `recoveryCode`, `passkey`.
    methods: Vec<&'static str>,
}

impl Challenge {
    /// The ticket, for answers that are not JSON.
    pub fn ticket(&self) -> &str {
        &self.ticket
    }

    /// What may be shown.
    pub fn methods(&self) -> &[&'static str] {
        &self.methods
    }
}

#[derive(Serialize, Deserialize)]
struct Ticket {
    /// Whether another provider vouched for the account, and not the password.
    by_provider: bool,
    remember_me: bool,
    /// A digest of the stored hash: another password, another digest.
    password: [u8; 32],
    challenge: Option<PasskeyAuthentication>,
}

impl Ticket {
    fn proof(&self) -> Proof {
        if self.by_provider {
            Proof::Provider
        } else {
            Proof::Password
        }
    }
}

/// Whether the first factor is not enough for this account.
pub async fn is_on(tx: &mut PgConnection, user: UserId) -> Result<bool, ApiError> {
    Ok(store::has_second_factor(tx, user).await?)
}

/// A ticket for an account whose first factor was good and whose stored password is this one.
pub async fn challenge(
    state: &AuthState,
    user: UserId,
    first: Proof,
    password_hash: &str,
    remember_me: bool,
    address: ClientAddress,
) -> Result<Challenge, ApiError> {
    let status = store::find_status(state.db.pool(), user).await?;
    let offered = status.map_or([None; 3], |status| {
        [
            Some("totp"),
            (status.recovery_codes > 0).then_some("recoveryCode"),
            (status.passkeys > 0).then_some("passkey"),
        ]
    });
    let ticket = Ticket {
        by_provider: matches!(first, Proof::Provider),
        remember_me,
        password: Sha256::digest(password_hash.as_bytes()).into(),
        challenge: None,
    };
    let (kind, binding) = (Kind::SecondFactor, Some(bound_to(address)));
    let handle = ceremony::begin(state.db.pool(), state, kind, Some(user), binding, &ticket).await?;
    Ok(Challenge {
        mfa_required: true,
        ticket: handle,
        ticket_expires_at: state.sources.now() + kind.life(),
        methods: offered.into_iter().flatten().collect(),
    })
}

/// A challenge to the passkeys of the account that a ticket is for. A new one takes the place of the last.
pub async fn challenge_passkeys(
    state: &AuthState,
    handle: &str,
    address: ClientAddress,
) -> Result<serde_json::Value, ApiError> {
    let kind = Kind::SecondFactor;
    let found = ceremony::peek::<Ticket>(state, kind, handle, bound_to(address)).await?;
    let Some((Some(user), ticket)) = found else {
        return Err(ticket_invalid());
    };
    let passkeys = super::passkey::parse(store::passkeys_of(state.db.pool(), user).await?)?;
    if passkeys.is_empty() {
        return Err(ApiError::not_found("This account has no passkey").with_code("NO_PASSKEY"));
    }
    let (options, asked) = state.passkeys.begin_authentication(&passkeys)?;
    let challenge = Some(asked);
    ceremony::update(state, kind, handle, &Ticket { challenge, ..ticket }).await?;
    Ok(options)
}

/// A sign-in that is complete.
pub struct Verified {
    /// Whose.
    pub account: Account,
    /// The session.
    pub opened: Opened,
    /// The second factor.
    pub second: Second,
}

/// Opens the session that a ticket waits for.
pub async fn verify(
    state: &AuthState,
    handle: &str,
    offer: Offer,
    address: ClientAddress,
    origin: &Origin<'_>,
) -> Result<Verified, ApiError> {
    let (kind, binding) = (Kind::SecondFactor, bound_to(address));
    let Some((Some(user), ticket)) = ceremony::attempt::<Ticket>(state, kind, handle, binding).await? else {
        return Err(ticket_invalid());
    };
    let subject = format!("user:{user}");
    let guesses = state.config.second_factor.guesses;
    state.limiter.check(&guesses, &subject).await.into_result()?;
    let verified = complete(state, user, handle, &ticket, offer, address, origin).await;
    match &verified {
        Err(error) if error.code() == "INVALID_SECOND_FACTOR" => {
            credentials::count_failure(state, Some(user), origin).await?;
        }
        _ => drop(state.limiter.refund(&guesses, &subject).await),
    }
    verified
}

async fn complete(
    state: &AuthState,
    user: UserId,
    handle: &str,
    ticket: &Ticket,
    offer: Offer,
    address: ClientAddress,
    origin: &Origin<'_>,
) -> Result<Verified, ApiError> {
    let mut tx = state.db.begin().await?;
    let account = lock(&mut tx, state, user, ticket).await?;
    let second = match second_factor::check(&mut tx, state, user, offer, ticket.challenge.clone()).await? {
        Outcome::Proven(second) => second,
        Outcome::Refused => return Err(wrong()),
        Outcome::Cloned => {
            drop(tx);
            second_factor::note_clone(state, user, origin).await?;
            return Err(wrong());
        }
    };
    // whoever takes the ticket opens the session; a second factor that was right at the same time does not count
    let taken = ceremony::take::<Ticket>(&mut *tx, state, Kind::SecondFactor, handle, Some(bound_to(address))).await?;
    taken.ok_or_else(ticket_invalid)?;
    store::note_sign_in(&mut tx, user, state.sources.now()).await?;
    // not before: the right password alone forgives nothing
    clear_failures(&mut tx, user).await?;
    let occasion = Occasion::SignIn {
        remember_me: ticket.remember_me,
        proof: ticket.proof().and(second),
    };
    let opened = sessions::open(&mut tx, state, &account, occasion, origin).await?;
    if second == Second::RecoveryCode {
        notice::tell_recovery_code(&mut tx, state, user, opened.session, origin).await?;
    }
    tx.commit().await?;
    state.sessions.announce_revoked(&opened.evicted).await;
    Ok(Verified {
        account,
        opened,
        second,
    })
}

/// The account, if it may still sign in with what the ticket was given for.
async fn lock(tx: &mut PgConnection, state: &AuthState, user: UserId, ticket: &Ticket) -> Result<Account, ApiError> {
    let locked = store::lock_account(tx, user).await?.ok_or_else(ticket_invalid)?;
    let digest: [u8; 32] = Sha256::digest(locked.password_hash.as_bytes()).into();
    if digest != ticket.password {
        return Err(ticket_invalid());
    }
    if locked.account.is_suspended() {
        return Err(suspended());
    }
    if locked.is_locked_out(state.sources.now()) {
        return Err(wrong());
    }
    Ok(locked.account)
}

fn ticket_invalid() -> ApiError {
    ApiError::unauthenticated("MFA_TICKET_INVALID", "Please sign in again")
}

fn wrong() -> ApiError {
    ApiError::unauthenticated("INVALID_SECOND_FACTOR", "The second factor is not right")
}
