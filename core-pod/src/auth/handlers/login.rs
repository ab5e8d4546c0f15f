//! `POST /api/v1/auth/login`: a session for the right password (core §4.2).
//!
//! An unknown address, a wrong password and a locked account give the same answer after the same work. Only failures count towards the
//! limits: a place is taken before the password is checked, so that many tries at once do not slip through, and given
//! back when the try was not a failure.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::HeaderMap;
use serde::Deserialize;
use shared::{ApiError, http::client_address::ClientAddress};
use sqlx::{Postgres, Transaction};
use utoipa::ToSchema;

use super::{Answer, SignedIn, logged_in, origin_of};
use crate::auth::{
    AuthState,
    credentials::{self, Proven},
    fields::{Fields, Flag, Problems, Text},
    mfa::{self, Proof},
    model::{Account, Email},
    sessions::{self, Occasion, Opened, Origin},
    store,
};

/// What a sign-in sends.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginBody {
    #[serde(default)]
    #[schema(value_type = String, format = Email)]
    email: Text,
    #[serde(default)]
    #[schema(value_type = String, format = Password)]
    password: Text,
    /// Thirty days instead of seven.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    remember_me: Flag,
}

struct SignIn<'b> {
    email: Email,
    password: &'b str,
    remember_me: bool,
}

impl LoginBody {
    fn parse(&self) -> Result<SignIn<'_>, ApiError> {
        let mut problems = Problems::default();
        let email = problems.take(self.email.required("email", "Email is required"));
        let email = email.and_then(|raw| {
            let email = Email::parse(raw);
            if email.is_none() {
                problems.add("email", "Please provide a valid email address");
            }
            email
        });
        let password = problems.take(self.password.required("password", "Password is required"));
        let remember_me = problems.take(self.remember_me.or_no("rememberMe"));
        match (email, password, remember_me) {
            (Some(email), Some(password), Some(remember_me)) => Ok(SignIn {
                email,
                password,
                remember_me,
            }),
            _ => Err(problems.into_error()),
        }
    }
}

/// Signs in with address and password.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginBody,
    responses(
        (status = 200, description = "Signed in; sets the cookies refreshToken and ds_session. An account with a second factor gets `mfaRequired`, a ticket and no cookies instead", body = Answer<SignedIn>),
        (status = 400, description = "Validation failed"),
        (status = 401, description = "INVALID_CREDENTIALS or ACCOUNT_SUSPENDED"),
        (status = 403, description = "EMAIL_NOT_VERIFIED, where REQUIRE_EMAIL_VERIFICATION is set"),
        (status = 429, description = "Too many failures"),
        (status = 503, description = "Too many passwords are waiting to be checked"),
    ),
)]
pub async fn login(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<LoginBody>,
) -> Result<Response, ApiError> {
    let sign_in = body.parse()?;
    let limits = state.config.limits;
    let by_address = format!("ip:{}", address.limit_subject());
    let by_account = format!("{by_address} {}", sign_in.email.as_str());
    state
        .limiter
        .check(&limits.login_address, &by_address)
        .await
        .into_result()?;
    let decision = state.limiter.check(&limits.login, &by_account).await.into_result()?;

    let outcome = attempt(&state, &sign_in, address, &headers).await;
    let failed = matches!(&outcome, Err(error) if error.code() == "INVALID_CREDENTIALS");
    let decision = if failed {
        decision
    } else {
        let (_, decision) = tokio::join!(
            state.limiter.refund(&limits.login_address, &by_address),
            state.limiter.refund(&limits.login, &by_account),
        );
        decision
    };
    metrics::counter!("dreamscape_logins_total", "outcome" => outcome_label(&outcome)).increment(1);
    let mut response = match outcome {
        Ok(Outcome::SignedIn(account, opened)) => logged_in(&state, *account, *opened),
        Ok(Outcome::Challenged(challenge)) => {
            Json(Answer::new("A second factor is required", challenge)).into_response()
        }
        Err(error) => error.into_response(),
    };
    decision.apply(response.headers_mut());
    Ok(response)
}

/// What the right password leads to.
enum Outcome {
    SignedIn(Box<Account>, Box<Opened>),
    /// The account has a second factor.
    Challenged(mfa::Challenge),
}

async fn attempt(
    state: &AuthState,
    sign_in: &SignIn<'_>,
    address: ClientAddress,
    headers: &HeaderMap,
) -> Result<Outcome, ApiError> {
    let (ip_address, user_agent) = origin_of(address, headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    let (mut tx, entered, stored) = prove(state, sign_in, &origin).await?;
    let store::Entered { account, second_factor } = entered;
    if account.is_suspended() {
        return Err(suspended());
    }
    require_verified(state, &account)?;
    if second_factor {
        // not a sign-in yet: what was noted of one goes with the transaction
        drop(tx);
        let Proven {
            user,
            mut hash,
            upgraded,
        } = stored;
        if let Some(upgraded) = upgraded
            && store::replace_hash(state.db.pool(), user, &hash, &upgraded).await?
        {
            hash = upgraded;
        }
        let challenge = mfa::challenge(state, user, Proof::Password, &hash, sign_in.remember_me, address);
        return challenge.await.map(Outcome::Challenged);
    }
    let occasion = Occasion::SignIn {
        remember_me: sign_in.remember_me,
        proof: Proof::Password,
    };
    let opened = sessions::open(&mut tx, state, &account, occasion, &origin).await?;
    tx.commit().await?;
    state.sessions.announce_revoked(&opened.evicted).await;
    Ok(Outcome::SignedIn(Box::new(account), Box::new(opened)))
}

/// Checks the password and opens the transaction that accepts it; gives what was checked as well. A sign-in at the same
/// time may have replaced an outdated hash in between; then the new one is checked.
async fn prove(
    state: &AuthState,
    sign_in: &SignIn<'_>,
    origin: &Origin<'_>,
) -> Result<(Transaction<'static, Postgres>, store::Entered, Proven), ApiError> {
    loop {
        let proven = credentials::check(state, &sign_in.email, sign_in.password, origin).await?;
        let proven = proven.ok_or_else(invalid_credentials)?;
        let upgraded = proven.upgraded.as_deref();
        let mut tx = state.db.begin().await?;
        match store::note_login(&mut tx, proven.user, &proven.hash, upgraded, state.sources.now()).await? {
            Some(entered) => return Ok((tx, entered, proven)),
            None if upgraded.is_some() => {}
            None => return Err(invalid_credentials()),
        }
    }
}

fn outcome_label(outcome: &Result<Outcome, ApiError>) -> &'static str {
    match outcome {
        Ok(Outcome::SignedIn(..)) => "success",
        Ok(Outcome::Challenged(_)) => "second_factor",
        Err(error) if error.status().is_server_error() => "error",
        Err(error) if error.code() == "ACCOUNT_SUSPENDED" => "suspended",
        Err(_) => "invalid_credentials",
    }
}

fn invalid_credentials() -> ApiError {
    ApiError::unauthenticated("INVALID_CREDENTIALS", "Invalid email or password")
}

/// 403 after a right proof, where `REQUIRE_EMAIL_VERIFICATION` is set. Not a 401: the credentials are right.
pub fn require_verified(state: &AuthState, account: &Account) -> Result<(), ApiError> {
    if account.is_verified || !state.config.recovery.require_verification {
        return Ok(());
    }
    Err(ApiError::forbidden("Please confirm your email address first").with_code("EMAIL_NOT_VERIFIED"))
}

/// 401 after a right password or refresh token.
pub fn suspended() -> ApiError {
    let text = "Your account has been suspended. Please contact support.";
    ApiError::unauthenticated("ACCOUNT_SUSPENDED", text)
}
