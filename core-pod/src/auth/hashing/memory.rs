//! The memory that Argon2id works in, kept between hashes: having nineteen fresh megabytes from the kernel for each costs a
//! tenth of the hash. What is kept is given back when nobody has signed in for a while.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use argon2::Block;

/// After so much time without a hash the memory goes back.
const KEPT: Duration = Duration::from_secs(2);

/// The blocks that nobody is hashing in at the moment.
pub struct Memory {
    kept: Duration,
    free: Mutex<Vec<Vec<Block>>>,
    used: AtomicBool,
    watched: AtomicBool,
}

impl Default for Memory {
    fn default() -> Self {
        Self::kept_for(KEPT)
    }
}

impl Memory {
    fn kept_for(kept: Duration) -> Self {
        Self {
            kept,
            free: Mutex::default(),
            used: AtomicBool::new(false),
            watched: AtomicBool::new(false),
        }
    }

    /// Does `work` in `blocks` blocks. At most as many buffers exist as hashes run at once.
    pub fn lend<T>(self: &Arc<Self>, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        // a hash made with other parameters needs more or less
        buffer.resize(blocks, Block::new());
        let result = work(&mut buffer);
        self.used.store(true, Ordering::Relaxed);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        self.watch();
        result
    }

    /// Sees to it that the memory goes back once it is no longer used. One watcher at a time, and it holds nothing.
    fn watch(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.watched.swap(true, Ordering::Relaxed) {
            return;
        }
        runtime.spawn(give_back(Arc::downgrade(self), self.kept));
    }
}

async fn give_back(memory: Weak<Memory>, kept: Duration) {
    loop {
        tokio::time::sleep(kept).await;
        let Some(memory) = memory.upgrade() else { return };
        if memory.used.swap(false, Ordering::Relaxed) {
            continue;
        }
        memory.watched.store(false, Ordering::Relaxed);
        memory.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(memory: &Memory) -> usize {
        memory.free.lock().unwrap().len()
    }

    async fn goes_back(memory: &Memory) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while kept(memory) > 0 {
            assert!(std::time::Instant::now() < deadline, "the memory does not go back");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn memory_is_used_again_and_goes_back_when_idle() {
        let memory = Arc::new(Memory::kept_for(Duration::from_millis(50)));
        memory.lend(8, |blocks| assert_eq!(blocks.len(), 8));
        memory.lend(16, |blocks| assert_eq!(blocks.len(), 16));
        assert_eq!(kept(&memory), 1);
        goes_back(&memory).await;
        memory.lend(8, |_| ());
        assert_eq!(kept(&memory), 1);
        goes_back(&memory).await;
    }
}
