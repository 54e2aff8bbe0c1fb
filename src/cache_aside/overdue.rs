//! Releases that have not reached the cache.
//!
//! Until they do, an entry from before the write may stand there. Other processes cannot know, and
//! may answer it for as long as the guarantees say; this one knows, and reads past the cache.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ports::{Cache, Key};
use super::slot::Token;

/// The pauses between attempts: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The releases that this process still owes.
#[derive(Clone, Default)]
pub struct Overdue(Arc<Owed>);

#[derive(Default)]
struct Owed {
    // So that a read, which is nearly always a hit with nothing owed, takes no lock.
    releases: AtomicUsize,
    by_key: Mutex<HashMap<Key, usize>>,
}

impl Overdue {
    /// Whether a release of this key is owed.
    pub fn contains(&self, key: Key) -> bool {
        self.0.releases.load(Ordering::SeqCst) > 0 && self.0.by_key().contains_key(&key)
    }

    /// Tries the release again in the background until it succeeds, or until `give_up_after`: by then
    /// no entry from before the write can be left, nor be filled in by a lease. Only ever a release;
    /// a fence that came late would outlive its write.
    pub fn settle<V: 'static>(
        &self,
        cache: Arc<dyn Cache<V>>,
        key: Key,
        token: Token,
        give_up_after: Duration,
    ) {
        let owed = Arc::clone(&self.0);
        owed.add(key);
        let give_up = Instant::now() + give_up_after;
        tokio::spawn(async move {
            let (mut pause, longest) = PAUSES;
            while Instant::now() < give_up {
                tokio::time::sleep(pause).await;
                if cache.release(key, token).await.is_ok() {
                    break;
                }
                pause = (pause * 2).min(longest);
            }
            owed.remove(key);
        });
    }
}

impl Owed {
    fn by_key(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        // Nothing panics while it is held, and a map is whole after each of our operations.
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: Key) {
        *self.by_key().entry(key).or_default() += 1;
        self.releases.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self, key: Key) {
        let mut by_key = self.by_key();
        if let Some(owed) = by_key.get_mut(&key) {
            *owed -= 1;
            if *owed == 0 {
                by_key.remove(&key);
            }
            self.releases.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
