//! The threads that hash: each takes the next job as soon as it is done with one, so that between two hashes nobody has to be
//! woken, and keeps its memory from job to job, since nineteen fresh megabytes from the kernel cost a tenth of a hash. The memory
//! goes back when nobody has signed in for a while.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use argon2::Block;

/// After so much time without a job a thread gives its memory back.
const KEPT: Duration = Duration::from_secs(2);

/// What a job works in: as many blocks as the last job has left.
pub type Memory = Vec<Block>;

type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// Nobody is free, and as many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are waiting to be hashed")]
pub struct Overloaded;

/// A bounded number of threads and a bounded queue. The threads end when it is dropped.
pub struct Pool {
    queue: Arc<Queue>,
    workers: usize,
    most: usize,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Jobs that are waiting or being worked on.
    inside: AtomicUsize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Pool {
    /// So many threads, and so many jobs that may wait for them.
    pub fn start(workers: usize, waiting: usize) -> std::io::Result<Self> {
        Self::keeping(workers, waiting, KEPT)
    }

    fn keeping(workers: usize, waiting: usize, kept: Duration) -> std::io::Result<Self> {
        let pool = Self {
            queue: Arc::default(),
            workers,
            most: workers.saturating_add(waiting),
        };
        for _ in 0..workers {
            let queue = Arc::clone(&pool.queue);
            thread::Builder::new()
                .name("hashing".to_owned())
                .spawn(move || queue.work(kept))?;
        }
        Ok(pool)
    }

    /// Puts a job in the queue, or refuses it at once.
    pub fn submit(&self, job: impl FnOnce(&mut Memory) + Send + 'static) -> Result<(), Overloaded> {
        let inside = &self.queue.inside;
        if inside.fetch_add(1, Ordering::Relaxed) >= self.most {
            inside.fetch_sub(1, Ordering::Relaxed);
            return Err(Overloaded);
        }
        self.queue.lock().jobs.push_back(Box::new(job));
        self.queue.changed.notify_one();
        Ok(())
    }

    /// How many jobs wait for a thread.
    pub fn waiting(&self) -> usize {
        self.queue.inside.load(Ordering::Relaxed).saturating_sub(self.workers)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self, kept: Duration) {
        let mut memory = Memory::new();
        while let Some(job) = self.next(kept, &mut memory) {
            // whoever waits for the answer is told by its sender being dropped
            drop(catch_unwind(AssertUnwindSafe(|| job(&mut memory))));
            self.inside.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The next job; `None` when there will be none any more. Gives the memory back after waiting for so long.
    fn next(&self, kept: Duration, memory: &mut Memory) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            if memory.capacity() == 0 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (woken, waited) = self
                .changed
                .wait_timeout(state, kept)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if waited.timed_out() && state.jobs.is_empty() {
                *memory = Memory::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// What `look` sees in the memory of the next job.
    fn seen<T: Send + 'static>(pool: &Pool, look: impl FnOnce(&mut Memory) -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        pool.submit(move |memory| sender.send(look(memory)).unwrap()).unwrap();
        receiver.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn memory_is_used_again() {
        let pool = Pool::keeping(1, 8, Duration::from_secs(3600)).unwrap();
        seen(&pool, |memory| memory.resize(16, Block::new()));
        assert_eq!(seen(&pool, |memory| memory.len()), 16);
    }

    #[test]
    fn memory_goes_back_when_idle() {
        let pool = Pool::keeping(1, 8, Duration::from_millis(50)).unwrap();
        seen(&pool, |memory| memory.resize(16, Block::new()));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while seen(&pool, |memory| memory.capacity()) > 0 {
            assert!(std::time::Instant::now() < deadline, "the memory does not go back");
            thread::sleep(Duration::from_millis(200));
        }
    }

    #[test]
    fn a_job_that_panics_takes_nobody_with_it() {
        let pool = Pool::start(1, 8).unwrap();
        pool.submit(|_| panic!("of this job")).unwrap();
        assert_eq!(seen(&pool, |_| 7), 7);
        assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn what_is_queued_is_done_also_when_the_pool_is_dropped() {
        let pool = Pool::start(1, 8).unwrap();
        let (sender, receiver) = mpsc::channel();
        for turn in 0..4 {
            let sender = sender.clone();
            pool.submit(move |_| sender.send(turn).unwrap()).unwrap();
        }
        drop((pool, sender));
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
