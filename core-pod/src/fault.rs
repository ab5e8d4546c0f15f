//! Named points at which a test can stop a piece of work dead, to prove that whoever comes next finishes it.
//!
//! Work that reaches the chosen point stands still there for ever; the test then drops it, as a killed process drops
//! everything it holds: connections close, open transactions are rolled back. Only builds with the feature `embedded`
//! contain the hook, and only work inside [`stopping_at`] feels it. In a production build the calls compile to nothing.

#[cfg(feature = "embedded")]
tokio::task_local! {
    static CHOSEN: (String, std::sync::Arc<tokio::sync::Notify>);
}

/// Runs `work` until it reaches the point of this name and drops it there. True: it got there; false: it ended before.
#[cfg(feature = "embedded")]
pub async fn stopping_at(name: &str, work: impl Future) -> bool {
    let reached = std::sync::Arc::new(tokio::sync::Notify::new());
    let chosen = (name.to_owned(), reached.clone());
    tokio::select! {
        _ = CHOSEN.scope(chosen, work) => false,
        () = reached.notified() => true,
    }
}

/// Stands still here if this is the chosen point.
#[cfg(feature = "embedded")]
pub async fn point(name: &str) {
    let chosen = CHOSEN.try_with(|(chosen, reached)| (chosen == name).then(|| reached.clone()));
    if let Ok(Some(reached)) = chosen {
        reached.notify_one();
        std::future::pending::<()>().await;
    }
}

/// Nothing, in a production build.
#[cfg(not(feature = "embedded"))]
#[inline]
pub async fn point(_name: &str) {}
