//! Failures on purpose: what a network and a busy Stripe do to a caller.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::Method;

/// One way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The work is done, the answer never comes.
    TimeoutAfterCommit,
    /// Nothing is done and no answer comes.
    Timeout,
    /// 500 before any work. A repeat under the same key may succeed.
    ServerError,
    /// The work is done and answered with 500, which a repeat under the same key gets again.
    ServerErrorAfterCommit,
    /// 429 before any work.
    RateLimited,
    /// The connection breaks before any work.
    ConnectionReset,
    /// The work is done, then the connection breaks.
    ConnectionResetAfterCommit,
    /// The work begins only after this time; meanwhile its idempotency key is in use.
    Slow(Duration),
}

impl Fault {
    /// Whether it strikes before the work.
    pub(super) fn is_before(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::ServerError | Self::RateLimited | Self::ConnectionReset
        )
    }
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    method: Option<Method>,
    path: String,
    left: u32,
}

/// The failures that are still to come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Mutex<Vec<Rule>>,
}

impl Faults {
    /// Lets the next `times` calls fail whose method and start of path fit.
    pub(super) fn add(&self, fault: Fault, method: Option<Method>, path: &str, times: u32) {
        let rule = Rule {
            fault,
            method,
            path: path.to_owned(),
            left: times,
        };
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// No more failures.
    pub(super) fn clear(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The failure this call shall have.
    pub(super) fn take(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let fits =
            |rule: &Rule| rule.method.as_ref().is_none_or(|wanted| wanted == method) && path.starts_with(&rule.path);
        let rule = rules.iter_mut().find(|rule| fits(rule))?;
        rule.left -= 1;
        let fault = rule.fault;
        rules.retain(|rule| rule.left > 0);
        Some(fault)
    }
}
