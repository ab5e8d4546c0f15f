//! Named points at which a test can stop the process dead, to prove that a restart finishes what was begun.
//!
//! Only builds with the feature `embedded` contain the hook, and only `FAULT_POINT` arms it: the process aborts at the
//! point of that name, without unwinding, without flushing, as if it had been killed. In a production build the calls
//! compile to nothing.

#[cfg(feature = "embedded")]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Chooses the point at which this process dies. Called once, at start.
#[cfg(feature = "embedded")]
pub fn arm(name: String) {
    // a second call keeps the first choice
    let _ = ARMED.set(name);
}

/// Dies here if this is the chosen point.
#[cfg(feature = "embedded")]
pub fn point(name: &str) {
    if ARMED.get().is_some_and(|armed| armed == name) {
        std::process::abort();
    }
}

/// Nothing, in a production build.
#[cfg(not(feature = "embedded"))]
#[inline]
pub fn point(_name: &str) {}
