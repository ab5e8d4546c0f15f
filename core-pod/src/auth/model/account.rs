//! Accounts and families of refresh tokens, as the rules see them.

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    auth::Role,
    id::{SessionId, UserId},
};

/// Within this time after a rotation a second use of the old token is a race of one browser's tabs, not a theft.
const RACE_WINDOW: TimeDelta = TimeDelta::seconds(10);

/// An account as its owner sees it.
#[derive(Clone)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// The normalised address.
    pub email: String,
    /// The user name, if one was chosen.
    pub username: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whether the address is confirmed.
    pub is_verified: bool,
    /// When the questions for new travellers were answered.
    pub onboarding_completed_at: Option<DateTime<Utc>>,
    /// When it was suspended, if it is.
    pub suspended_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

impl Account {
    /// Whether it may not sign in.
    pub fn is_suspended(&self) -> bool {
        self.suspended_at.is_some()
    }
}

/// The state of a presented refresh token and of the session it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The session.
    pub session: SessionId,
    /// The account.
    pub user: UserId,
    /// When this token was rotated out, if it was.
    pub used_at: Option<DateTime<Utc>>,
    /// When this token runs out.
    pub expires_at: DateTime<Utc>,
    /// When the session was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Whether the account is suspended.
    pub suspended: bool,
}

/// Why a refresh token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Never issued, or its session is over.
    Unknown,
    /// It ran out.
    Expired,
    /// Used a moment ago: refused, but the family lives.
    JustUsed,
    /// Used long ago: somebody has a copy, the whole family must die.
    Replayed,
    /// The account is suspended.
    Suspended,
}

impl Family {
    /// Why the token could not be claimed at `now`.
    pub fn refusal(&self, now: DateTime<Utc>) -> Refusal {
        if self.revoked_at.is_some() {
            return Refusal::Unknown;
        }
        match self.used_at {
            Some(used_at) if now < used_at + RACE_WINDOW => Refusal::JustUsed,
            Some(_) => Refusal::Replayed,
            None if self.suspended => Refusal::Suspended,
            None if now >= self.expires_at => Refusal::Expired,
            None => Refusal::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(used_seconds_ago: Option<i64>) -> (Family, DateTime<Utc>) {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let family = Family {
            session: SessionId(uuid::Uuid::from_u128(1)),
            user: UserId(uuid::Uuid::from_u128(2)),
            used_at: used_seconds_ago.map(|ago| now - TimeDelta::seconds(ago)),
            expires_at: now + TimeDelta::days(7),
            revoked_at: None,
            suspended: false,
        };
        (family, now)
    }

    #[test]
    fn a_second_use_within_ten_seconds_is_a_race_and_later_a_theft() {
        let (early, now) = family(Some(9));
        assert_eq!(early.refusal(now), Refusal::JustUsed);
        let (late, now) = family(Some(10));
        assert_eq!(late.refusal(now), Refusal::Replayed);
    }

    #[test]
    fn a_dead_family_is_not_killed_again() {
        let (mut family, now) = family(Some(60));
        family.revoked_at = Some(now);
        assert_eq!(family.refusal(now), Refusal::Unknown);
    }
}
