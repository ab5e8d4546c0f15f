//! Whose socket it is: the token that the handshake offers, else the `ds_session` cookie.
//!
//! contract: core §2.3 (the full check), §2.4 (cookie, expired bearers), §5.10 (texts of refusals)

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::Value;
use shared::{
    ApiError,
    auth::{AuthUser, Authenticator},
    id::{SessionId, UserId},
};

/// The `auth` of a handshake.
#[derive(Deserialize, Default)]
pub struct Offered {
    #[serde(default)]
    token: Option<Value>,
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offered(***)")
    }
}

impl Offered {
    /// The token; `None` where a header would count as absent too (core §2.3).
    fn token(&self) -> Result<Option<&str>, Refusal> {
        match &self.token {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(token)) => {
                let token = token.trim();
                Ok((!matches!(token, "" | "null" | "undefined")).then_some(token))
            }
            Some(_) => Err(Refusal::InvalidToken),
        }
    }
}

/// Why a handshake is refused, in the words of `connect_error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither a token nor a live cookie.
    #[error("Authentication required")]
    AuthenticationRequired,
    /// We cannot tell whether the caller may come in.
    #[error("Server misconfiguration")]
    ServerMisconfiguration,
    /// A good token of another type.
    #[error("Invalid token type")]
    InvalidTokenType,
    /// Not valid, expired, revoked, or of an account that may not sign in.
    #[error("Invalid token")]
    InvalidToken,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        if error.status().is_server_error() {
            return Self::ServerMisconfiguration;
        }
        match error.code() {
            "TOKEN_MISSING" => Self::AuthenticationRequired,
            "INVALID_TOKEN_TYPE" => Self::InvalidTokenType,
            _ => Self::InvalidToken,
        }
    }
}

/// Who opened a socket, and how long that holds without being proven again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub user: UserId,
    /// The session that opened it. When it ends the socket is closed, whatever else came along.
    pub session: SessionId,
    /// The end of the token; `None` for identity by cookie.
    pub expires_at: Option<DateTime<Utc>>,
    /// The session of the `ds_session` cookie of the same account that came with the token: while it lives the socket
    /// outlives the token.
    pub cookie: Option<SessionId>,
}

impl Identity {
    /// Reads the identity of a handshake; `headers` are those of the request that opened the connection.
    pub async fn of(authenticator: &Authenticator, headers: &HeaderMap, offered: &Offered) -> Result<Self, Refusal> {
        let mut proof = HeaderMap::new();
        for line in headers.get_all(header::COOKIE) {
            proof.append(header::COOKIE, line.clone());
        }
        let token = offered.token()?;
        // an unreadable cookie next to a good token is no reason to refuse the token
        let by_cookie = authenticator.0.user(&Method::GET, &proof).await;
        let Some(token) = token else {
            let caller = by_cookie?.ok_or(Refusal::AuthenticationRequired)?;
            return Ok(Self::by_cookie(&caller));
        };
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Refusal::InvalidToken)?;
        bearer.set_sensitive(true);
        proof.insert(header::AUTHORIZATION, bearer);
        let caller = authenticator.0.user(&Method::GET, &proof).await?;
        let caller = caller.ok_or(Refusal::AuthenticationRequired)?;
        let cookie = by_cookie.ok().flatten().filter(|cookie| cookie.user == caller.user);
        Ok(Self {
            user: caller.user,
            session: caller.session,
            expires_at: Some(end_of(token).ok_or(Refusal::InvalidToken)?),
            cookie: cookie.map(|cookie| cookie.session),
        })
    }

    fn by_cookie(caller: &AuthUser) -> Self {
        Self {
            user: caller.user,
            session: caller.session,
            expires_at: None,
            cookie: None,
        }
    }
}

/// When a token ends. It has been verified: this only reads what the verification has already trusted.
fn end_of(token: &str) -> Option<DateTime<Utc>> {
    #[derive(Deserialize)]
    struct End {
        exp: i64,
    }
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let End { exp } = serde_json::from_slice(&claims).ok()?;
    DateTime::from_timestamp(exp, 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::auth::testing::Issuer;

    use super::*;

    fn offered(token: &Value) -> Offered {
        serde_json::from_value(json!({ "token": token, "other": [1] })).unwrap()
    }

    #[test]
    fn what_a_header_would_count_as_absent_is_absent() {
        for absent in [json!(null), json!(""), json!("  "), json!("null"), json!("undefined")] {
            assert_eq!(offered(&absent).token(), Ok(None));
        }
        assert_eq!(offered(&json!(" a.b.c ")).token(), Ok(Some("a.b.c")));
        for odd in [json!(7), json!({}), json!(["a"]), json!(true)] {
            assert_eq!(offered(&odd).token(), Err(Refusal::InvalidToken));
        }
        assert!(!format!("{:?}", offered(&json!("secret"))).contains("secret"));
    }

    #[test]
    fn refusals_have_the_texts_of_the_contract() {
        for (error, text) in [
            (
                ApiError::unauthenticated("TOKEN_MISSING", ""),
                "Authentication required",
            ),
            (
                ApiError::unauthenticated("INVALID_TOKEN_TYPE", ""),
                "Invalid token type",
            ),
            (ApiError::unauthenticated("TOKEN_EXPIRED", ""), "Invalid token"),
            (ApiError::unauthenticated("TOKEN_REVOKED", ""), "Invalid token"),
            (ApiError::unauthenticated("ACCOUNT_SUSPENDED", ""), "Invalid token"),
            (
                ApiError::unavailable(anyhow::anyhow!("redis://secret")),
                "Server misconfiguration",
            ),
        ] {
            assert_eq!(Refusal::from(error).to_string(), text);
        }
    }

    #[test]
    fn the_end_of_a_token_is_read_from_its_claims() {
        let issuer = Issuer::new();
        let token = issuer.service("business-pod");
        assert!(end_of(&token).is_some());
        for odd in ["", "a", "a.b.c", "a.e30.c"] {
            assert_eq!(end_of(odd), None, "{odd}");
        }
    }
}
