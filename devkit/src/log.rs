//! Subscribers of the log that hold for one test.

use std::sync::LazyLock;

use tracing::{
    Dispatch, Subscriber,
    subscriber::{DefaultGuard, NoSubscriber},
};

/// Wants nothing and stays for good; see [`scoped`].
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

/// Lets `subscriber` have what this thread logs until the guard is dropped.
///
/// `tracing` remembers of a call site whether anybody wants what it says. With one subscriber in the process it asks
/// only the thread that comes by first: of the tests that run side by side that may be one without a subscriber, and
/// nobody hears of the call site again. With a second subscriber, which this function adds, it asks all of them.
#[must_use = "the subscriber goes with the guard"]
pub fn scoped(subscriber: impl Subscriber + Send + Sync) -> DefaultGuard {
    LazyLock::force(&SECOND);
    // what was remembered so far is asked anew when a subscriber comes
    tracing::subscriber::set_default(subscriber)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_another_thread_says_first_is_still_heard() {
        fn speaks() {
            tracing::info!("what both threads say");
        }
        let heard = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&heard);
        let _guard = scoped(
            tracing_subscriber::fmt()
                .with_writer(move || Ears(Arc::clone(&writer)))
                .finish(),
        );
        std::thread::spawn(speaks).join().unwrap();
        assert_eq!(heard.lock().unwrap().as_slice(), b"");
        speaks();
        assert!(String::from_utf8_lossy(&heard.lock().unwrap()).contains("what both threads say"));
    }

    struct Ears(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Ears {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
