//! What becomes of somebody a provider vouches for: a sign-in, a new account, a link, or a question.
//!
//! contract: core §14 (link only on verified e-mail with confirmation), docs/decisions/0047

use serde::{Deserialize, Serialize};
use shared::{
    ApiError, auth::Role, db::violated_constraint, events::outbox, http::client_address::ClientAddress, id::UserId,
};
use sqlx::PgConnection;

use super::{
    id_token::Claims,
    store::{self, NewIdentity},
};
use crate::auth::{
    Auth, AuthState, events,
    handlers::require_verified,
    mfa::{
        self, Challenge, Change, Proof,
        ceremony::{self, Kind, bound_to},
        store::{Locked, lock_account, note_sign_in},
    },
    model::{Account, Email, PersonName},
    sessions::{self, Occasion, Opened, Origin},
    store::{NewAccount, find_account, find_password, insert_account},
};
use crate::mail::Protection;

/// Somebody at a provider, as far as it matters to us.
#[derive(Serialize, Deserialize)]
pub struct Visitor {
    /// The provider's id.
    pub provider: String,
    /// Who there.
    pub subject: String,
    /// The address, if the provider verified it.
    pub email: Option<String>,
    given_name: Option<String>,
    family_name: Option<String>,
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl Visitor {
    /// Out of what the provider said. An address that it did not verify is as good as none.
    pub fn new(provider: &str, claims: Claims) -> Self {
        let verified = claims.email_verified == Some(true);
        Self {
            provider: provider.to_owned(),
            subject: claims.sub,
            email: claims.email.filter(|_| verified),
            given_name: claims.given_name,
            family_name: claims.family_name,
        }
    }
}

/// What a visit comes to.
pub enum Arrival {
    /// A session.
    SignedIn(Box<Opened>),
    /// The account wants its second factor.
    Challenged(Challenge),
    /// The address belongs to an account: whoever knows its password may link it.
    LinkOffered(String),
    /// Refused, with a code for the client.
    Refused(&'static str),
}

/// Signs in, makes an account, or offers a link.
pub async fn arrive(
    state: &AuthState,
    visitor: &Visitor,
    address: ClientAddress,
    origin: &Origin<'_>,
) -> Result<Arrival, ApiError> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let known = store::use_identity(
        &mut *tx,
        &visitor.provider,
        &visitor.subject,
        visitor.email.as_deref(),
        now,
    );
    if let Some(user) = known.await? {
        return sign_in(state, tx, user, address, origin).await;
    }
    let Some(email) = visitor.email.as_deref().and_then(Email::parse) else {
        return Ok(Arrival::Refused("OIDC_EMAIL_UNVERIFIED"));
    };
    if let Some((user, _)) = find_password(&mut *tx, email.as_str()).await? {
        let (kind, binding) = (Kind::Link, Some(bound_to(address)));
        let handle = ceremony::begin(&mut *tx, state, kind, Some(user), binding, visitor).await?;
        tx.commit().await?;
        return Ok(Arrival::LinkOffered(handle));
    }
    match sign_up(state, &mut tx, visitor, &email, origin).await {
        Ok(opened) => {
            tx.commit().await?;
            metrics::counter!("auth_registrations_total").increment(1);
            Ok(Arrival::SignedIn(Box::new(opened)))
        }
        // the same visitor, or somebody with this address, was faster by a moment
        Err(SignUpError::Taken) => Ok(Arrival::Refused("OIDC_TRY_AGAIN")),
        Err(SignUpError::Other(error)) => Err(error),
    }
}

async fn sign_in(
    state: &AuthState,
    mut tx: sqlx::Transaction<'static, sqlx::Postgres>,
    user: UserId,
    address: ClientAddress,
    origin: &Origin<'_>,
) -> Result<Arrival, ApiError> {
    let Some(Locked {
        account, password_hash, ..
    }) = lock_account(&mut tx, user).await?
    else {
        return Ok(Arrival::Refused("OIDC_ACCOUNT_GONE"));
    };
    if account.is_suspended() {
        return Ok(Arrival::Refused("ACCOUNT_SUSPENDED"));
    }
    if require_verified(state, &account).is_err() {
        return Ok(Arrival::Refused("EMAIL_NOT_VERIFIED"));
    }
    if mfa::is_on(&mut tx, user).await? {
        tx.commit().await?;
        let challenge = mfa::challenge(state, user, Proof::Provider, &password_hash, false, address);
        return challenge.await.map(Arrival::Challenged);
    }
    let opened = open(&mut tx, state, &account, Proof::Provider, false, origin).await?;
    tx.commit().await?;
    state.sessions.announce_revoked(&opened.evicted).await;
    Ok(Arrival::SignedIn(Box::new(opened)))
}

/// A session with what belongs to a sign-in.
pub async fn open(
    tx: &mut PgConnection,
    state: &AuthState,
    account: &Account,
    proof: Proof,
    remember_me: bool,
    origin: &Origin<'_>,
) -> Result<Opened, ApiError> {
    note_sign_in(&mut *tx, account.id, state.sources.now()).await?;
    let occasion = Occasion::SignIn { remember_me, proof };
    sessions::open(tx, state, account, occasion, origin).await
}

enum SignUpError {
    Taken,
    Other(ApiError),
}

impl<E: Into<ApiError>> From<E> for SignUpError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

async fn sign_up(
    state: &AuthState,
    tx: &mut PgConnection,
    visitor: &Visitor,
    email: &Email,
    origin: &Origin<'_>,
) -> Result<Opened, SignUpError> {
    let now = state.sources.now();
    // nobody knows this password; its hash takes the work of any other, so that an account without one shows nowhere
    let password_hash = state.hasher.hash(&state.sources.secret(), &state.sources).await?;
    let name = |text: &Option<String>| text.as_deref().and_then(|text| PersonName::parse(text).ok());
    let (first_name, last_name) = (name(&visitor.given_name), name(&visitor.family_name));
    let user: UserId = state.sources.id();
    let new = NewAccount {
        id: user,
        email: email.as_str(),
        email_display: email.as_typed(),
        username: None,
        password_hash: &password_hash,
        first_name: first_name.as_ref().map(PersonName::as_str),
        last_name: last_name.as_ref().map(PersonName::as_str),
        role: Role::User,
        now,
    };
    insert_account(&mut *tx, &new).await.map_err(taken)?;
    store::mark_as_foreign(&mut *tx, user).await?;
    link(tx, state, user, visitor).await.map_err(taken)?;
    let account = find_account(&mut *tx, user).await?;
    let account = account.ok_or_else(|| ApiError::internal(anyhow::anyhow!("a new account is not there")))?;
    outbox::append::<Auth>(&mut *tx, &[events::user_created(&state.sources, &account)]).await?;
    Ok(open(tx, state, &account, Proof::Provider, false, origin).await?)
}

fn taken(error: sqlx::Error) -> SignUpError {
    match violated_constraint(&error) {
        Some("users_email_key" | "external_identities_subject_key") => SignUpError::Taken,
        _ => SignUpError::Other(error.into()),
    }
}

/// Links a visitor to an account.
pub async fn link(tx: &mut PgConnection, state: &AuthState, user: UserId, visitor: &Visitor) -> sqlx::Result<()> {
    let new = NewIdentity {
        id: state.sources.uuid_v7(),
        user,
        provider: &visitor.provider,
        subject: &visitor.subject,
        email: visitor.email.as_deref(),
        now: state.sources.now(),
    };
    store::insert_identity(tx, &new).await
}

/// Links and tells the owner's log. The code of the refusal if one of the two is linked already.
pub async fn link_noted(
    tx: &mut PgConnection,
    state: &AuthState,
    user: UserId,
    visitor: &Visitor,
    origin: &Origin<'_>,
) -> Result<Result<(), &'static str>, ApiError> {
    match link(&mut *tx, state, user, visitor).await {
        Ok(()) => {}
        Err(error) => match violated_constraint(&error) {
            Some("external_identities_subject_key") => return Ok(Err("OIDC_LINKED_ELSEWHERE")),
            Some("external_identities_user_key") => return Ok(Err("OIDC_PROVIDER_LINKED")),
            _ => return Err(error.into()),
        },
    }
    let change = Change {
        user,
        session: None,
        origin: Some(origin),
        protection: Protection::AccountLinked,
        data: serde_json::json!({ "provider": visitor.provider }),
    };
    mfa::tell(tx, state, change).await?;
    Ok(Ok(()))
}
