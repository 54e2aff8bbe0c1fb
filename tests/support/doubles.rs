//! A store and a cache that do what a test tells them, around real ones.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_aside::cache_aside::{
    Cache, CacheError, Condition, ETag, Entry, Key, LoadError, Slot, Store, Stored, Token,
    WriteError,
};
use cache_aside::store::MemoryStore;
use tokio::sync::Semaphore;

/// A store whose loads and updates can be held up after they have reached it, and made to fail.
#[derive(Default)]
pub struct StagedStore {
    pub inner: MemoryStore<String>,
    loads: AtomicUsize,
    load_gate: Mutex<Option<Arc<Semaphore>>>,
    write_gate: Mutex<Option<Arc<Semaphore>>>,
    pub unreachable: AtomicBool,
    /// The next update is applied, and its caller is told that nobody knows.
    pub next_update_unknown: AtomicBool,
}

impl StagedStore {
    /// How many loads have reached it.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Holds up the next load after it has read, until the semaphore gives a permit.
    pub fn hold_next_load(&self) -> Arc<Semaphore> {
        hold(&self.load_gate)
    }

    /// Holds up the next update before it is applied.
    pub fn hold_next_update(&self) -> Arc<Semaphore> {
        hold(&self.write_gate)
    }
}

fn hold(gate: &Mutex<Option<Arc<Semaphore>>>) -> Arc<Semaphore> {
    let semaphore = Arc::new(Semaphore::new(0));
    *gate.lock().unwrap() = Some(Arc::clone(&semaphore));
    semaphore
}

async fn pass(gate: &Mutex<Option<Arc<Semaphore>>>) {
    let semaphore = gate.lock().unwrap().take();
    if let Some(semaphore) = semaphore {
        semaphore.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl Store<String> for StagedStore {
    fn kind(&self) -> &'static str {
        "staged"
    }

    async fn load(&self, key: Key) -> Result<Option<Stored<String>>, LoadError> {
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(LoadError::Unavailable("told to be".to_owned()));
        }
        let loaded = self.inner.load(key).await;
        self.loads.fetch_add(1, Ordering::SeqCst);
        pass(&self.load_gate).await;
        loaded
    }

    async fn insert(&self, key: Key, value: &String) -> Result<ETag, WriteError> {
        self.inner.insert(key, value).await
    }

    async fn update(
        &self,
        key: Key,
        value: &String,
        condition: &Condition,
    ) -> Result<ETag, WriteError> {
        pass(&self.write_gate).await;
        let updated = self.inner.update(key, value, condition).await;
        if self.next_update_unknown.swap(false, Ordering::SeqCst) {
            return Err(WriteError::Unknown("told to be".to_owned()));
        }
        updated
    }

    async fn delete(&self, key: Key, condition: &Condition) -> Result<(), WriteError> {
        self.inner.delete(key, condition).await
    }

    async fn probe(&self) -> Result<(), LoadError> {
        Ok(())
    }

    fn probe_name(&self) -> &'static str {
        "none"
    }
}

/// A way to a cache that can be cut, and that can dawdle.
pub struct CutCache {
    pub inner: Arc<dyn Cache<String>>,
    pub cut: AtomicBool,
    pub cut_fences: AtomicBool,
    pub cut_releases: AtomicBool,
    pub next_fence_takes: Mutex<Option<Duration>>,
    pub fences: AtomicUsize,
    /// The tokens of all leases asked for.
    pub leases: Mutex<Vec<Token>>,
    fill_gate: Mutex<Option<Arc<Semaphore>>>,
}

impl CutCache {
    pub fn new(inner: Arc<dyn Cache<String>>) -> Self {
        Self {
            inner,
            cut: AtomicBool::new(false),
            cut_fences: AtomicBool::new(false),
            cut_releases: AtomicBool::new(false),
            next_fence_takes: Mutex::new(None),
            fences: AtomicUsize::new(0),
            leases: Mutex::default(),
            fill_gate: Mutex::default(),
        }
    }

    /// Holds up the answer of the next fill, after it was done.
    pub fn hold_next_fill(&self) -> Arc<Semaphore> {
        hold(&self.fill_gate)
    }

    fn way(&self) -> Result<&Arc<dyn Cache<String>>, CacheError> {
        match self.cut.load(Ordering::SeqCst) {
            true => Err(CacheError("cut".to_owned())),
            false => Ok(&self.inner),
        }
    }
}

#[async_trait]
impl Cache<String> for CutCache {
    fn kind(&self) -> &'static str {
        "cut"
    }

    async fn get(&self, key: Key) -> Result<Slot<String>, CacheError> {
        self.way()?.get(key).await
    }

    async fn lease(
        &self,
        key: Key,
        token: Token,
        ttl: Duration,
    ) -> Result<Slot<String>, CacheError> {
        self.leases.lock().unwrap().push(token);
        self.way()?.lease(key, token, ttl).await
    }

    async fn fill(
        &self,
        key: Key,
        token: Token,
        entry: &Entry<String>,
        ttl: Duration,
    ) -> Result<bool, CacheError> {
        let filled = self.way()?.fill(key, token, entry, ttl).await;
        pass(&self.fill_gate).await;
        filled
    }

    async fn forfeit(&self, key: Key, token: Token) -> Result<(), CacheError> {
        self.way()?.forfeit(key, token).await
    }

    async fn fence(&self, key: Key, token: Token, ttl: Duration) -> Result<(), CacheError> {
        self.fences.fetch_add(1, Ordering::SeqCst);
        let pause = self.next_fence_takes.lock().unwrap().take();
        tokio::time::sleep(pause.unwrap_or_default()).await;
        if self.cut_fences.load(Ordering::SeqCst) {
            return Err(CacheError("cut".to_owned()));
        }
        self.way()?.fence(key, token, ttl).await
    }

    async fn release(&self, key: Key, token: Token) -> Result<(), CacheError> {
        if self.cut_releases.load(Ordering::SeqCst) {
            return Err(CacheError("cut".to_owned()));
        }
        self.way()?.release(key, token).await
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.way()?.probe().await
    }

    fn probe_name(&self) -> &'static str {
        "none"
    }
}
