//! Two processes, `a` and `b`, with one cache and one store.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::policy::PolicyBuilder;
use crate::{
    Audit, Because, Cache, CacheAside, CacheError, Entry, Event, Fill, Load, LoadError,
    MemoryCache, Observer, Outcome, Policy, Read, Release, Slot, Source, Token, WriteError,
};

pub(super) const KEY: u64 = 1;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A policy with long times: nothing expires unless a test waits for it.
pub(super) fn long_policy() -> PolicyBuilder {
    Policy::builder()
        .ttl(60 * SECOND)
        .negative_ttl(60 * SECOND)
        .lease_ttl(30 * SECOND)
        .fence_ttl(40 * SECOND)
        .stale_grace(60 * SECOND)
        .cache_timeout(SECOND)
        .load_timeout(30 * SECOND)
        .write_timeout(30 * SECOND)
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum StoreError {
    Unreachable,
    Unreadable,
    Refused,
    TimedOut,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl LoadError for StoreError {
    fn is_outage(&self) -> bool {
        *self == StoreError::Unreachable
    }
}

impl WriteError for StoreError {
    fn outcome(&self) -> Outcome {
        match self {
            StoreError::Refused => Outcome::NotApplied,
            StoreError::Unreachable | StoreError::Unreadable | StoreError::TimedOut => {
                Outcome::Unknown
            }
        }
    }
}

pub(super) struct World {
    pub(super) a: Arc<Process>,
    pub(super) b: Arc<Process>,
    cache: Arc<MemoryCache<u64, String>>,
    pub(super) store: Arc<Store>,
}

/// A simulated process.
pub(super) struct Process {
    pattern: CacheAside<u64, String, StoreError, Arc<Connection>>,
    pub(super) cache: Arc<Connection>,
    /// What its observer has been told.
    pub(super) seen: Arc<Seen>,
    store: Arc<Store>,
}

impl World {
    /// The store has the value "old", and nothing is cached.
    pub(super) fn new(policy: PolicyBuilder) -> Self {
        let policy = policy.build().unwrap();
        let cache = Arc::new(MemoryCache::default());
        let store = Arc::new(Store::default());
        *store.value.lock().unwrap() = Some("old".to_owned());
        let process = || {
            let connection = Arc::new(Connection::new(&cache));
            let seen = Arc::new(Seen::default());
            let pattern = CacheAside::new(Arc::clone(&connection), policy.clone());
            Arc::new(Process {
                pattern: pattern.observed_by(Arc::clone(&seen) as Arc<dyn Observer>),
                cache: connection,
                seen,
                store: Arc::clone(&store),
            })
        };
        Self { a: process(), b: process(), cache, store }
    }

    pub(super) async fn slot(&self) -> Slot<String> {
        self.cache.get(&KEY).await.unwrap()
    }

    pub(super) async fn is_fenced(&self) -> bool {
        matches!(self.slot().await, Slot::Fence(_))
    }

    /// Takes the lease for a reader that then crashes.
    pub(super) async fn crashed_reader(&self) {
        self.cache.lease(&KEY, Token::new(), 30 * SECOND).await.unwrap();
    }

    /// A fence of a writer in a third process.
    pub(super) async fn other_writer(&self) -> Token {
        let token = Token::new();
        self.cache.fence(&KEY, token, 30 * SECOND).await.unwrap();
        token
    }

    pub(super) async fn release(&self, token: Token) {
        self.cache.release(&KEY, token).await.unwrap();
    }

    /// Puts back what a slot that is empty now has held.
    pub(super) async fn restore(&self, slot: Slot<String>) {
        let (Slot::Entry(entry), token) = (slot, Token::new()) else { panic!("no entry") };
        self.cache.lease(&KEY, token, 30 * SECOND).await.unwrap();
        self.cache.fill(&KEY, token, &entry, 60 * SECOND).await.unwrap();
    }

    /// A writer of this process crashes while its write is on the way to the store.
    pub(super) async fn crashed_writer(&self, process: &Arc<Process>) {
        let _never = self.store.writing.hold_next();
        let writer = process.start_update("new");
        until("the write reaches the store", || self.store.writing.is_reached()).await;
        writer.abort();
    }

    /// The cache loses the key.
    pub(super) async fn lose_key(&self) {
        // A release of each writer leaves nothing.
        while let Slot::Fence(fence) = self.slot().await {
            for (writer, _) in fence.writers() {
                self.release(writer).await;
            }
        }
        self.release(Token::new()).await;
    }

    /// Starts a read, and waits until its load has reached the store.
    pub(super) async fn loading(&self, process: &Arc<Process>) -> JoinHandle<Read<String>> {
        let before = self.store.loads();
        let read = process.start_read();
        until("the load reaches the store", || self.store.loads() > before).await;
        read
    }
}

impl Process {
    pub(super) async fn get(&self) -> Result<Read<String>, StoreError> {
        self.get_key(KEY).await
    }

    pub(super) async fn get_key(&self, key: u64) -> Result<Read<String>, StoreError> {
        self.pattern.get(&key, || self.store.load()).await
    }

    /// Reads, and returns the value and where it came from.
    pub(super) async fn read(&self) -> (String, Source) {
        let read = self.get().await.unwrap();
        (read.value.unwrap(), read.source)
    }

    pub(super) async fn value(&self) -> String {
        self.read().await.0
    }

    pub(super) async fn update(&self, value: &str) -> Result<(), StoreError> {
        self.pattern.write(&KEY, || self.store.set(Some(value))).await.map(|_| ())
    }

    pub(super) async fn remove(&self) -> Result<(), StoreError> {
        self.pattern.write(&KEY, || self.store.set(None)).await.map(|_| ())
    }

    pub(super) async fn audit(&self) -> Result<Audit, StoreError> {
        self.pattern.audit(&KEY, || self.store.load()).await
    }

    pub(super) fn start_audit(self: &Arc<Self>) -> JoinHandle<Result<Audit, StoreError>> {
        let process = Arc::clone(self);
        tokio::spawn(async move { process.audit().await })
    }

    pub(super) fn start_read(self: &Arc<Self>) -> JoinHandle<Read<String>> {
        let process = Arc::clone(self);
        tokio::spawn(async move { process.get().await.unwrap() })
    }

    pub(super) fn start_update(
        self: &Arc<Self>,
        value: &'static str,
    ) -> JoinHandle<Result<(), StoreError>> {
        let process = Arc::clone(self);
        tokio::spawn(async move { process.update(value).await })
    }

    /// Waits until a read that is the first one of this process waits for the lease of another.
    pub(super) async fn waits_for_lease(&self) {
        until("it looks again", || self.cache.gets.load(Ordering::SeqCst) > 1).await;
    }

    /// Starts a read, and waits until it has joined the load that is in progress in this process.
    pub(super) async fn joining(self: &Arc<Self>) -> JoinHandle<Read<String>> {
        let before = self.joiners();
        let read = self.start_read();
        until("the reader joins", || self.joiners() > before).await;
        read
    }

    pub(super) fn joiners(&self) -> usize {
        self.pattern.loads.joiners(&KEY)
    }
}

/// Waits for a condition, for at most ten minutes of paused time.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..600_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not happen within ten minutes: {what}");
}

/// The result of a task, which must end within ten minutes of paused time.
pub(super) async fn done<T>(task: JoinHandle<T>) -> T {
    timeout(600 * SECOND, task).await.expect("the task ends").unwrap()
}

pub(super) const fn loaded(because: Because, load: Load) -> Source {
    Source::Store { because, load }
}

pub(super) fn is_local(source: Source) -> bool {
    matches!(source, Source::LocalCopy { .. })
}

pub(super) fn is_hit(source: Source) -> bool {
    matches!(source, Source::Cache { .. })
}

/// An observer that notes in a few words what it is told.
#[derive(Default)]
pub(super) struct Seen(Mutex<Vec<String>>);

impl Seen {
    /// What it has been told since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Seen {
    fn observe(&self, event: Event<'_>) {
        let words = match event {
            Event::Step { step, error: None, .. } => step.name().to_owned(),
            Event::Step { step, .. } => format!("{} failed", step.name()),
            Event::Read { source: None, .. } => "read failed".to_owned(),
            Event::Read { source: Some(source), is_found, .. } => {
                let found = if is_found { "found" } else { "missing" };
                format!("read {} {found}", in_words(source))
            }
            Event::Fill(Some(Fill::Accepted)) => "fill accepted".to_owned(),
            Event::Fill(Some(Fill::Refused)) => "fill refused".to_owned(),
            Event::Fill(None) => "fill unknown".to_owned(),
            Event::LeaseWait { waited } => format!("waited {} ms", waited.as_millis()),
            Event::Audit(Some(audit)) => format!("audit {audit:?}"),
            Event::Audit(None) => "audit failed".to_owned(),
            Event::Fence(end) => format!("fence {end:?}"),
            Event::ReleaseOverdue => "overdue".to_owned(),
            Event::OverdueReleaseEnded => "no longer overdue".to_owned(),
            Event::Circuit { is_open } => format!("circuit {is_open}"),
        };
        self.0.lock().unwrap().push(words);
    }
}

fn in_words(source: Source) -> String {
    let Source::Store { because, load } = source else {
        let words = match source {
            Source::Cache { .. } => "hit",
            Source::LocalCopy { .. } => "local",
            _ => "stale",
        };
        return words.to_owned();
    };
    let because = match because {
        Because::NotCached => "miss".to_owned(),
        other => format!("{other:?}"),
    };
    let load = match load {
        Load::Stored => "stored",
        Load::NotStored => "not stored",
        Load::Shared => "shared",
    };
    format!("{because}/{load}")
}

/// Holds back the next request that passes.
#[derive(Default)]
pub(super) struct Gate(Mutex<Option<Arc<Semaphore>>>);

/// Lets a request continue that a [`Gate`] holds back.
pub(super) struct Held(Arc<Semaphore>);

impl Gate {
    pub(super) fn hold_next(&self) -> Held {
        let semaphore = Arc::new(Semaphore::new(0));
        *self.0.lock().unwrap() = Some(Arc::clone(&semaphore));
        Held(semaphore)
    }

    async fn pass(&self) {
        let held = self.0.lock().unwrap().take();
        if let Some(semaphore) = held {
            semaphore.acquire().await.unwrap().forget();
        }
    }

    /// Whether the request that was to be held back has arrived.
    pub(super) fn is_reached(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

impl Held {
    pub(super) fn let_go(&self) {
        self.0.add_permits(1);
    }
}

/// A store with one value, whose requests can be held back and made to fail.
#[derive(Default)]
pub(super) struct Store {
    value: Mutex<Option<String>>,
    loads: AtomicUsize,
    /// Holds a load back after it has read the value.
    pub(super) loading: Gate,
    /// Holds a write back before it is applied.
    pub(super) writing: Gate,
    pub(super) is_unreachable: AtomicBool,
    /// What is stored is not a value.
    pub(super) is_unreadable: AtomicBool,
    /// Loads and writes take up to this many milliseconds before they execute, and as many afterwards.
    pub(super) longest_pause: AtomicU64,
    /// The next write is refused.
    pub(super) refuses: AtomicBool,
    /// The next write is applied, and its answer is lost.
    pub(super) loses_answer: AtomicBool,
}

impl Store {
    /// Another program changes the value.
    pub(super) fn change_behind_our_back(&self, value: &str) {
        *self.value.lock().unwrap() = Some(value.to_owned());
    }

    async fn pause(&self) {
        pause_up_to(&self.longest_pause).await;
    }

    /// How many loads have reached the store.
    pub(super) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    async fn load(&self) -> Result<Option<String>, StoreError> {
        if self.is_unreachable.load(Ordering::SeqCst) {
            return Err(StoreError::Unreachable);
        }
        if self.is_unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Unreadable);
        }
        self.pause().await;
        let value = self.value.lock().unwrap().clone();
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.loading.pass().await;
        self.pause().await;
        Ok(value)
    }

    async fn set(&self, value: Option<&str>) -> Result<(), StoreError> {
        self.writing.pass().await;
        self.pause().await;
        if self.refuses.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Refused);
        }
        *self.value.lock().unwrap() = value.map(str::to_owned);
        self.pause().await;
        match self.loses_answer.swap(false, Ordering::SeqCst) {
            true => Err(StoreError::TimedOut),
            false => Ok(()),
        }
    }
}

/// Pauses for a random time, up to this many milliseconds.
async fn pause_up_to(longest: &AtomicU64) {
    let longest = longest.load(Ordering::SeqCst);
    if longest > 0 {
        sleep(Duration::from_millis(rand::random_range(0..=longest))).await;
    }
}

/// A process's connection to the cache, which can be cut and slowed down.
pub(super) struct Connection {
    cache: Arc<MemoryCache<u64, String>>,
    /// Steps take up to this many milliseconds before they execute.
    pub(super) longest_pause: AtomicU64,
    /// One of so many steps fails; 0: none.
    pub(super) one_fails_in: AtomicU64,
    pub(super) is_cut: AtomicBool,
    pub(super) loses_fences: AtomicBool,
    pub(super) loses_releases: AtomicBool,
    pub(super) loses_replies_to_fences: AtomicBool,
    pub(super) loses_replies_to_releases: AtomicBool,
    /// The slot holds something of another program, until it is released.
    pub(super) is_foreign: AtomicBool,
    pub(super) next_fence_takes: Mutex<Option<Duration>>,
    pub(super) gets: AtomicUsize,
    pub(super) fences: AtomicUsize,
    /// The tokens of all lease requests.
    pub(super) leases: Mutex<Vec<Token>>,
    /// The TTLs of all fills.
    pub(super) fills: Mutex<Vec<Duration>>,
    /// Holds back the reply to a get.
    pub(super) got: Gate,
    /// Holds a lease request back before it reaches the cache.
    pub(super) leasing: Gate,
    /// Holds back the reply to a lease request.
    pub(super) leased: Gate,
    /// Holds back the reply to a fill.
    pub(super) filled: Gate,
}

impl Connection {
    fn new(cache: &Arc<MemoryCache<u64, String>>) -> Self {
        Self {
            cache: Arc::clone(cache),
            longest_pause: AtomicU64::default(),
            one_fails_in: AtomicU64::default(),
            is_cut: AtomicBool::default(),
            loses_fences: AtomicBool::default(),
            loses_releases: AtomicBool::default(),
            loses_replies_to_fences: AtomicBool::default(),
            loses_replies_to_releases: AtomicBool::default(),
            is_foreign: AtomicBool::default(),
            next_fence_takes: Mutex::default(),
            gets: AtomicUsize::default(),
            fences: AtomicUsize::default(),
            leases: Mutex::default(),
            fills: Mutex::default(),
            got: Gate::default(),
            leasing: Gate::default(),
            leased: Gate::default(),
            filled: Gate::default(),
        }
    }

    pub(super) fn fences(&self) -> usize {
        self.fences.load(Ordering::SeqCst)
    }

    fn fail_if(&self, condition: &AtomicBool) -> Result<(), CacheError> {
        match self.is_cut.load(Ordering::SeqCst) || condition.load(Ordering::SeqCst) {
            true => Err(CacheError::new("the connection is cut")),
            false => Ok(()),
        }
    }

    /// A step is on its way, and may not arrive.
    async fn arrives(&self) -> Result<(), CacheError> {
        pause_up_to(&self.longest_pause).await;
        let one_in = self.one_fails_in.load(Ordering::SeqCst);
        let fails = one_in > 0 && rand::random_range(0..one_in) == 0;
        self.fail_if(&AtomicBool::new(fails))
    }
}

impl Cache<u64, String> for Connection {
    async fn get(&self, key: &u64) -> Result<Slot<String>, CacheError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.arrives().await?;
        if self.is_foreign.load(Ordering::SeqCst) {
            return Ok(Slot::Foreign);
        }
        let slot = self.cache.get(key).await;
        self.got.pass().await;
        slot
    }

    async fn lease(
        &self,
        key: &u64,
        token: Token,
        ttl: Duration,
    ) -> Result<Slot<String>, CacheError> {
        self.leases.lock().unwrap().push(token);
        self.arrives().await?;
        self.leasing.pass().await;
        if self.is_foreign.load(Ordering::SeqCst) {
            return Ok(Slot::Foreign);
        }
        let slot = self.cache.lease(key, token, ttl).await;
        self.leased.pass().await;
        slot
    }

    async fn fill(
        &self,
        key: &u64,
        token: Token,
        entry: &Entry<String>,
        ttl: Duration,
    ) -> Result<Fill, CacheError> {
        self.arrives().await?;
        self.fills.lock().unwrap().push(ttl);
        let fill = self.cache.fill(key, token, entry, ttl).await;
        self.filled.pass().await;
        fill
    }

    async fn forfeit(&self, key: &u64, token: Token) -> Result<(), CacheError> {
        self.arrives().await?;
        self.cache.forfeit(key, token).await
    }

    async fn fence(&self, key: &u64, token: Token, ttl: Duration) -> Result<(), CacheError> {
        self.fences.fetch_add(1, Ordering::SeqCst);
        self.arrives().await?;
        self.fail_if(&self.loses_fences)?;
        let fence = self.cache.fence(key, token, ttl).await;
        let pause = self.next_fence_takes.lock().unwrap().take();
        sleep(pause.unwrap_or_default()).await;
        self.fail_if(&self.loses_replies_to_fences)?;
        fence
    }

    async fn release(&self, key: &u64, token: Token) -> Result<Release, CacheError> {
        self.arrives().await?;
        self.fail_if(&self.loses_releases)?;
        self.is_foreign.store(false, Ordering::SeqCst);
        let release = self.cache.release(key, token).await;
        self.fail_if(&self.loses_replies_to_releases)?;
        release
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.arrives().await
    }
}
