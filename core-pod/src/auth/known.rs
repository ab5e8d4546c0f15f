//! What a session check learned by the way, so that `verify-token` need not ask again.
//!
//! contract: core §4.7 (must stay cheap). Nothing here decides whether a session lives: that is asked every time.

use std::{fmt, time::Duration};

use moka::sync::Cache;
use shared::{auth::session::SessionState, id::UserId};

use super::store::Digest;

/// Addresses change seldom; one that was changed in another replica is shown this long at most.
const EMAILS: Duration = Duration::from_mins(1);
/// For the two questions of one request: by token, then by cookie.
const COOKIES: Duration = Duration::from_millis(200);
const ENTRIES: u64 = 50_000;

/// Addresses and cookies. Cheap to clone.
#[derive(Clone)]
pub struct Known {
    emails: Cache<UserId, String>,
    cookies: Cache<Digest, SessionState>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

impl Default for Known {
    fn default() -> Self {
        Self {
            emails: Cache::builder().max_capacity(ENTRIES).time_to_live(EMAILS).build(),
            cookies: Cache::builder().max_capacity(ENTRIES).time_to_live(COOKIES).build(),
        }
    }
}

impl Known {
    /// Notes the address of an account.
    pub fn note_email(&self, user: UserId, email: String) {
        self.emails.insert(user, email);
    }

    /// Notes the cookies of a session in this state.
    pub fn note_cookies(&self, digests: Vec<Vec<u8>>, state: SessionState) {
        for digest in digests {
            if let Ok(digest) = Digest::try_from(digest) {
                self.cookies.insert(digest, state);
            }
        }
    }

    /// The address of an account, if it was looked up lately.
    pub fn email(&self, user: UserId) -> Option<String> {
        self.emails.get(&user)
    }

    /// What was found of the session of this cookie a moment ago.
    pub fn cookie(&self, digest: &Digest) -> Option<SessionState> {
        self.cookies.get(digest)
    }

    /// The address has changed.
    pub fn forget_email(&self, user: UserId) {
        self.emails.invalidate(&user);
    }

    /// These cookies are dead.
    pub fn forget_cookies(&self, digests: &[Vec<u8>]) {
        for digest in digests {
            if let Ok(digest) = Digest::try_from(digest.as_slice()) {
                self.cookies.invalidate(&digest);
            }
        }
    }
}
