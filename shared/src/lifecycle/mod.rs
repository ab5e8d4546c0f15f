//! Starting, draining and stopping: the two-stage shutdown, and the register of every task of the process.
//!
//! contract: operations §6.5, core §12. The first signal drains: readiness turns false, workers finish what they hold,
//! requests in flight are answered. The second signal, or the deadline of the drain, halts: whatever is left is dropped.
//! Nothing in the workspace spawns long-lived work except through [`Tasks`].

use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::{config::Reader, error::ApiError, http::in_request_scope};

/// How long the process takes to say goodbye.
#[derive(Debug, Clone, Copy)]
pub struct DrainConfig {
    /// From the first signal to the halt.
    pub deadline: Duration,
    /// How long new connections are still accepted, so that load balancers notice the failing readiness first.
    pub linger: Duration,
}

impl DrainConfig {
    /// Reads the settings; lingering is for load balancers, so development does without.
    pub fn read(reader: &mut Reader) -> Self {
        let linger = if reader.production() { 16 } else { 0 };
        let deadline = reader.or(
            "SHUTDOWN_DRAIN_SECONDS",
            25_u64,
            "seconds from the first signal until work that is not finished is dropped",
        );
        let linger = reader.or(
            "SHUTDOWN_LINGER_SECONDS",
            linger,
            "seconds after the first signal during which connections are still accepted while readiness fails; part of the drain",
        );
        if linger > deadline {
            reader.problem("SHUTDOWN_LINGER_SECONDS is longer than SHUTDOWN_DRAIN_SECONDS, of which it is a part");
        }
        Self {
            deadline: Duration::from_secs(deadline),
            linger: Duration::from_secs(linger),
        }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(25),
            linger: Duration::ZERO,
        }
    }
}

/// The two stages of the end, to be waited for and to be set off. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    served: CancellationToken,
    halt: CancellationToken,
}

impl Shutdown {
    /// A process that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the first stage.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until the listeners have answered their last request. A worker that carries out what requests leave behind
    /// (the outbox relay) stops here rather than at [`Shutdown::draining`].
    pub async fn served(&self) {
        self.served.cancelled().await;
    }

    /// Waits for the second stage: stop now.
    pub async fn halting(&self) {
        self.halt.cancelled().await;
    }

    /// Whether the first stage has begun.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Whether everything must stop now.
    pub fn is_halting(&self) -> bool {
        self.halt.is_cancelled()
    }

    /// Begins the first stage.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Tells that the listeners are done. Set by whoever runs them.
    pub fn set_served(&self) {
        self.served.cancel();
    }

    /// Begins the second stage, and with it the ones before.
    pub fn halt(&self) {
        self.drain.cancel();
        self.served.cancel();
        self.halt.cancel();
    }

    /// A shutdown that follows this one but may also go alone: one of several pods in a process.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            drain: self.drain.child_token(),
            served: self.halt.child_token(),
            halt: self.halt.child_token(),
        }
    }

    /// A token that is cancelled by the halt, for connections and other things that outlive their task.
    pub fn halt_token(&self) -> CancellationToken {
        self.halt.child_token()
    }

    /// Drains at the first SIGTERM or SIGINT and halts at the second. The handlers are installed when this returns.
    /// Needs a running runtime.
    pub fn listen_for_signals(&self) {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("signal handlers could not be installed");
            return;
        };
        let shutdown = self.clone();
        tokio::spawn(async move {
            let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
            next().await;
            tracing::info!("shutdown requested, draining");
            shutdown.drain();
            next().await;
            tracing::warn!("shutdown requested again, stopping now");
            shutdown.halt();
        });
    }

    /// Halts when the drain has lasted as long as it may. Needs a running runtime.
    pub fn halt_after_drain(&self, deadline: Duration) {
        let shutdown = self.clone();
        tokio::spawn(async move {
            shutdown.draining().await;
            tokio::select! {
                () = shutdown.halting() => {}
                () = tokio::time::sleep(deadline) => {
                    tracing::warn!(seconds = deadline.as_secs(), "the drain took too long, stopping now");
                    shutdown.halt();
                }
            }
        });
    }
}

/// The register of all tasks. Clones share it.
#[derive(Debug, Clone)]
pub struct Tasks {
    shutdown: Shutdown,
    tracker: TaskTracker,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Mutex<BTreeMap<&'static str, usize>>,
    gave_up: CancellationToken,
}

/// Failures in a row after which a supervised task fails the liveness of the pod.
const FAILURES_TO_GIVE_UP: u32 = 3;
/// A run this long is a success, whatever ends it.
const GOOD_RUN: Duration = Duration::from_mins(1);
/// The longest pause before the next run, when the failure is ours.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause when something we need is away: it should be noticed soon that it is back.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(2);

impl Tasks {
    /// An empty register of a process with this shutdown.
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            tracker: TaskTracker::new(),
            state: Arc::default(),
        }
    }

    /// The shutdown all tasks obey.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs `work` as a tracked task: the drain waits for it, the halt drops it.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let halting = self.shutdown.halt.clone();
        let running = Running::enter(self.state.clone(), name);
        self.tracker.spawn(async move {
            let _running = running;
            let work = AssertUnwindSafe(work).catch_unwind();
            if let Some(Err(_)) = halting.run_until_cancelled(work).await {
                tracing::error!(task = name, "task panicked");
            }
        });
    }

    /// Runs a loop that must not end: when it fails it is started again with back-off. Failures that are ours count; three
    /// in a row make [`Tasks::is_alive`] false. Failures because something is away do not count, however many.
    /// Returning `Ok` ends the supervision.
    pub fn supervise<F, Fut>(&self, name: &'static str, start: F)
    where
        F: Fn(Shutdown) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (shutdown, state) = (self.shutdown.clone(), self.state.clone());
        self.spawn(name, async move {
            let mut failures = Failures::default();
            loop {
                let begun = Instant::now();
                let Err(error) = run_once(start(shutdown.clone())).await else {
                    return;
                };
                if shutdown.is_draining() {
                    tracing::warn!(task = name, error = format!("{error:#}"), "task failed while draining");
                    return;
                }
                let pause = failures.count(begun.elapsed(), is_outage(&error));
                metrics::counter!("dreamscape_task_restarts_total", "task" => name).increment(1);
                tracing::error!(
                    task = name,
                    error = format!("{error:#}"),
                    failures = failures.in_a_row,
                    pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    "task failed, starting it again"
                );
                if failures.in_a_row >= FAILURES_TO_GIVE_UP {
                    state.gave_up.cancel();
                }
                tokio::select! {
                    () = shutdown.draining() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Runs `work` to its end even when the caller is dropped, as happens when a client hangs up or a time-out fires;
    /// for work that must not be left half-way. Keeps the request's id and span.
    pub async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let halting = self.shutdown.halt.clone();
        let work = in_request_scope(work).in_current_span();
        let task = self
            .tracker
            .spawn(async move { halting.run_until_cancelled(work).await });
        match task.await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(ApiError::unavailable(anyhow::anyhow!("the process is stopping"))),
            Err(failure) => Err(ApiError::internal(failure)),
        }
    }

    /// Keeps the register busy until the token is dropped, for things that are not tasks: an open connection.
    pub fn token(&self) -> tokio_util::task::task_tracker::TaskTrackerToken {
        self.tracker.token()
    }

    /// False once a supervised task failed three times in a row: the process should be replaced.
    pub fn is_alive(&self) -> bool {
        !self.state.gave_up.is_cancelled()
    }

    /// Waits until [`Tasks::is_alive`] is false.
    pub async fn gave_up(&self) {
        self.state.gave_up.cancelled().await;
    }

    /// The names of the tasks that run, with their number.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        self.state
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until no task is left. Returns at once after the halt has dropped them all.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The failures of one supervised task.
#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    pauses: u32,
}

impl Failures {
    /// Counts one more and says how long to wait.
    fn count(&mut self, lasted: Duration, outage: bool) -> Duration {
        if lasted >= GOOD_RUN {
            *self = Self::default();
        }
        let pause = Duration::from_millis(250) * 2_u32.saturating_pow(self.pauses.min(10));
        self.pauses += 1;
        if outage {
            return pause.min(LONGEST_OUTAGE_PAUSE);
        }
        self.in_a_row += 1;
        pause.min(LONGEST_PAUSE)
    }
}

/// One run; a panic is an error like others.
async fn run_once(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the task panicked")))
}

/// Whether something outside is away, as opposed to us being wrong.
fn is_outage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<sqlx::Error>()
            .is_some_and(|error| crate::db::is_transient(error) || crate::db::is_behind_the_code(error))
            || cause.is::<std::io::Error>()
            || cause.is::<::redis::RedisError>()
            || cause.is::<rdkafka::error::KafkaError>()
            || cause.is::<reqwest::Error>()
    })
}

/// An entry in the register, gone when dropped.
struct Running {
    state: Arc<State>,
    name: &'static str,
}

impl Running {
    fn enter(state: Arc<State>, name: &'static str) -> Self {
        *state
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default() += 1;
        Self { state, name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.state.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
