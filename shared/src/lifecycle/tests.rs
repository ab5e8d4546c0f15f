//! Draining, halting, supervision.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

async fn soon(condition: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_mins(2), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the condition did not come true");
}

#[tokio::test]
async fn the_halt_includes_the_drain() {
    let shutdown = Shutdown::new();
    assert!(!shutdown.is_draining());
    shutdown.drain();
    assert!(shutdown.is_draining() && !shutdown.is_halting());
    shutdown.halt();
    shutdown.served().await;
    shutdown.halting().await;
}

#[tokio::test]
async fn one_of_several_pods_may_end_alone_and_ends_with_the_process() {
    let process = Shutdown::new();
    let (alone, together) = (process.child(), process.child());
    alone.drain();
    alone.set_served();
    assert!(!process.is_draining() && !together.is_draining());
    process.drain();
    together.draining().await;
    process.halt();
    together.served().await;
    together.halting().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_lasts_too_long_becomes_a_halt() {
    let shutdown = Shutdown::new();
    shutdown.halt_after_drain(Duration::from_secs(25));
    let tasks = Tasks::new(shutdown.clone());
    tasks.spawn("stuck", std::future::pending());
    shutdown.drain();
    let begun = Instant::now();
    tasks.finished().await;
    assert_eq!(begun.elapsed().as_secs(), 25);
    assert!(tasks.running().is_empty());
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_halts() {
    let shutdown = Shutdown::new();
    shutdown.listen_for_signals();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    shutdown.draining().await;
    assert!(!shutdown.is_halting());
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).unwrap();
    shutdown.halting().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervised_task_starts_again_and_three_failures_of_ours_end_liveness() {
    let tasks = Tasks::new(Shutdown::new());
    let runs = Arc::new(AtomicU32::new(0));
    let seen = runs.clone();
    tasks.supervise("broken", move |_| {
        let run = seen.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(run != 0, "the first run panics");
            Err(anyhow::anyhow!("a bug"))
        }
    });
    soon(|| runs.load(Ordering::SeqCst) == 2).await;
    assert!(tasks.is_alive());
    soon(|| !tasks.is_alive()).await;
    tasks.shutdown().drain();
    tasks.finished().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_never_ends_liveness() {
    let tasks = Tasks::new(Shutdown::new());
    let runs = Arc::new(AtomicU32::new(0));
    let seen = runs.clone();
    tasks.supervise("waiting", move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { Err(anyhow::Error::from(sqlx::Error::PoolTimedOut).context("failed to poll")) }
    });
    soon(|| runs.load(Ordering::SeqCst) == 20).await;
    assert!(tasks.is_alive());
}

#[tokio::test]
async fn detached_work_goes_on_when_its_caller_is_dropped() {
    let tasks = Tasks::new(Shutdown::new());
    let done = Arc::new(AtomicBool::new(false));
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let flag = done.clone();
    let caller = tokio::time::timeout(
        Duration::from_millis(1),
        tasks.detached(async move {
            released.await.ok();
            flag.store(true, Ordering::SeqCst);
        }),
    );
    assert!(caller.await.is_err());
    release.send(()).unwrap();
    tasks.finished().await;
    assert!(done.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_panic_in_detached_work_is_an_internal_error() {
    let tasks = Tasks::new(Shutdown::new());
    let result: Result<(), ApiError> = tasks.detached(async { panic!("a bug") }).await;
    assert_eq!(result.unwrap_err().status(), 500);
}

#[test]
fn pauses_grow_and_are_capped() {
    let mut failures = Failures::default();
    let pauses: Vec<_> = (0..12)
        .map(|_| failures.count(Duration::ZERO, false).as_millis())
        .collect();
    assert_eq!(pauses[..3], [250, 500, 1000]);
    assert_eq!(pauses[11], 30_000);
    assert_eq!(failures.count(GOOD_RUN, false).as_millis(), 250);
}
