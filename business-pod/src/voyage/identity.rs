//! Whose cart a request is about, and the cookie of anonymous carts.
//!
//! contract: voyage §2.1, experience D6, D7. The `userId` of a request is only a claim: `guest` means this browser's
//! anonymous cart, whoever is signed in beside it; the caller's own id means nothing new; any other is refused.

use std::fmt;

use axum::extract::{FromRef, FromRequestParts};
use http::{HeaderMap, HeaderValue, header, request::Parts};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use shared::{
    ApiError, Sources,
    auth::{AuthUser, Authenticator},
    id::UserId,
};

use super::cart::model::Owner;

const COOKIE: &str = "ds_guest";
/// The name that means "my anonymous cart".
pub const GUEST: &str = "guest";
/// A cart lives for hours at most; its cookie need not live longer than a day.
const COOKIE_LIFE_SECONDS: u32 = 86_400;

/// The secret in an anonymous browser's cookie: 128 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestSecret(String);

impl fmt::Debug for GuestSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestSecret(***)")
    }
}

impl GuestSecret {
    /// A new one.
    pub fn new(sources: &Sources) -> Self {
        let mut random = [0_u8; 16];
        sources.entropy.fill(&mut random);
        Self(hex::encode(random))
    }

    /// The one in the request's cookies, if it can be one of ours.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let pairs = cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.into_iter().find(|(name, _)| *name == COOKIE)?;
        let plausible = value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        plausible.then(|| Self(value.to_owned()))
    }

    /// What is stored in its place.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The header that gives it to the browser.
    pub fn cookie(&self, secure: bool) -> Option<HeaderValue> {
        cookie(&self.0, COOKIE_LIFE_SECONDS, secure)
    }
}

/// The header that takes the cookie away again.
pub fn forget_guest(secure: bool) -> Option<HeaderValue> {
    cookie("", 0, secure)
}

fn cookie(value: &str, life: u32, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Max-Age={life}; Path=/; HttpOnly; SameSite=Lax{secure}");
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Who calls a cart route. The credentials are checked at once, but an error counts only if the request turns out to be
/// about an account: an outdated session beside `userId=guest` must not lock a browser out of its anonymous cart.
#[derive(Debug)]
pub struct CartCaller {
    signed_in: Result<Option<AuthUser>, ApiError>,
    guest: Option<GuestSecret>,
}

impl<S> FromRequestParts<S> for CartCaller
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let signed_in = Authenticator::from_ref(state)
            .0
            .user(&parts.method, &parts.headers)
            .await;
        Ok(Self {
            signed_in,
            guest: GuestSecret::from_headers(&parts.headers),
        })
    }
}

/// Whose cart a request is about.
#[derive(Debug)]
pub struct Identity {
    /// The signed-in traveller whose cart it is; `None`: the anonymous one.
    pub user: Option<AuthUser>,
    /// The browser's secret, if it has one. Beside a user: a cart that is to be merged.
    pub guest: Option<GuestSecret>,
}

impl CartCaller {
    /// Settles the claims of the request: the first that is given counts. 401, 403 as voyage §2.1 says.
    pub fn identify(self, claims: &[Option<&str>]) -> Result<Identity, ApiError> {
        let claim = claims.iter().copied().flatten().find(|claim| !claim.is_empty());
        if claim == Some(GUEST) {
            return Ok(Identity {
                user: None,
                guest: self.guest,
            });
        }
        let Some(caller) = self.signed_in? else {
            return match (claim, self.guest) {
                (None, Some(guest)) => Ok(Identity {
                    user: None,
                    guest: Some(guest),
                }),
                _ => Err(no_identity()),
            };
        };
        check_claim(caller.user, claim)?;
        Ok(Identity {
            user: Some(caller),
            guest: self.guest,
        })
    }

    /// For the alias routes: the caller, if the path names them; otherwise 404 (voyage §4.7).
    pub fn named_in_path(self, path: &str) -> Result<Identity, ApiError> {
        let missing = || ApiError::not_found("Cart not found");
        let caller = self.signed_in.ok().flatten().ok_or_else(missing)?;
        if caller.user.to_string() != path {
            return Err(missing());
        }
        Ok(Identity {
            user: Some(caller),
            guest: self.guest,
        })
    }
}

impl Identity {
    /// The owner, if there can be a cart at all: a browser without a cookie has none.
    pub fn owner(&self) -> Option<Owner> {
        match (&self.user, &self.guest) {
            (Some(caller), _) => Some(Owner::User(caller.user)),
            (None, Some(guest)) => Some(Owner::Guest(guest.digest())),
            (None, None) => None,
        }
    }

    /// The traveller, for what anonymous carts cannot do.
    pub fn require_user(self) -> Result<AuthUser, ApiError> {
        self.user.ok_or_else(no_identity)
    }

    /// The key under which idempotency keys of this caller are kept. None for a browser that has no secret yet.
    pub fn scope(&self) -> Option<String> {
        match self.owner()? {
            Owner::User(user) => Some(format!("user:{user}")),
            Owner::Guest(digest) => Some(format!("guest:{}", hex::encode(digest))),
        }
    }
}

/// 401 for a route that needs somebody.
pub fn no_identity() -> ApiError {
    ApiError::unauthenticated("TOKEN_MISSING", "Unauthorized").with_detail("Access token required")
}

/// A claimed id must be the caller's own, or nobody's (voyage §2.1).
pub fn check_claim(caller: UserId, claim: Option<&str>) -> Result<(), ApiError> {
    match claim {
        None | Some("") => Ok(()),
        Some(GUEST) => Err(no_identity()),
        Some(id) if id.parse() == Ok(caller) => Ok(()),
        Some(_) => Err(ApiError::forbidden("Access denied")),
    }
}

/// A `userId` from a body: whatever it is, as text to be compared. Null and absence are no claim.
pub fn claim_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        auth::{Role, Via},
        id::SessionId,
    };

    use super::*;

    fn ada() -> AuthUser {
        let id = uuid::Uuid::from_u128(7);
        AuthUser {
            user: UserId(id),
            session: SessionId(id),
            role: Role::User,
            email: None,
            via: Via::Bearer,
        }
    }

    fn caller(signed_in: Option<AuthUser>, guest: bool) -> CartCaller {
        CartCaller {
            signed_in: Ok(signed_in),
            guest: guest.then(|| GuestSecret::new(&Sources::system())),
        }
    }

    #[test]
    fn guest_is_the_anonymous_cart_whoever_is_signed_in() {
        let identity = caller(Some(ada()), true).identify(&[Some("guest")]).unwrap();
        assert!(matches!(identity.owner(), Some(Owner::Guest(_))));
    }

    #[test]
    fn another_users_id_is_refused_and_ones_own_is_not() {
        let id = ada().user.to_string();
        assert!(caller(Some(ada()), false).identify(&[Some(&id)]).is_ok());
        assert!(caller(Some(ada()), false).identify(&[None, Some("")]).is_ok());
        let foreign = uuid::Uuid::from_u128(8).to_string();
        assert_eq!(
            caller(Some(ada()), false)
                .identify(&[Some(&foreign)])
                .unwrap_err()
                .status(),
            403
        );
    }

    #[test]
    fn nobody_is_asked_to_sign_in() {
        assert_eq!(
            caller(None, false).identify(&[None]).unwrap_err().code(),
            "TOKEN_MISSING"
        );
        assert_eq!(caller(None, true).identify(&[Some("0b5c")]).unwrap_err().status(), 401);
        assert!(caller(None, true).identify(&[None]).is_ok());
    }

    #[test]
    fn a_stale_session_counts_only_for_an_account() {
        let stale = || CartCaller {
            signed_in: Err(ApiError::unauthenticated("TOKEN_EXPIRED", "Token expired")),
            guest: None,
        };
        assert!(stale().identify(&[Some("guest")]).is_ok());
        assert_eq!(stale().identify(&[None]).unwrap_err().code(), "TOKEN_EXPIRED");
    }

    #[test]
    fn the_cookie_is_closed_to_scripts_and_other_sites() {
        let secret = GuestSecret::new(&Sources::system());
        let header = secret.cookie(true).unwrap();
        let text = header.to_str().unwrap();
        for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Secure"] {
            assert!(text.contains(part), "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            header::COOKIE,
            HeaderValue::try_from(format!("a=b; {COOKIE}={}", secret.0)).unwrap(),
        );
        assert_eq!(GuestSecret::from_headers(&headers), Some(secret));
    }
}
