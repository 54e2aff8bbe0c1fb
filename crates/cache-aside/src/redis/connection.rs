//! The connection to Redis: each step has a bound, failures are counted, and after several in a row
//! a new connection is made.
//!
//! A cache that is slower than the store is useless. So after several failures in a row readers
//! stop using Redis, and a background task tries new connections until one works: no request waits
//! for a broken one. (The old connection may hang, or lead to a demoted server.) Writers try Redis
//! every time: skipping a fence while other processes reach Redis would leave an old entry there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ScriptInvocation, Value};
use tokio::time::timeout;

use crate::cache::{CacheError, CacheErrorKind};
use crate::observer::{Event, Observer};

use super::connector::{CONNECT_TIMEOUT, Connection, Connector};
use super::server::garnet_version;
use super::{RELEASE, RedisOptions};

/// After this many failures in a row readers stop using Redis, unless one error proves that it is down.
const FAILURES_IN_A_ROW: u32 = 5;

/// The pauses between attempts to reach Redis again: 50 ms, doubled up to 1 s, for as long as it
/// takes.
const RENEWAL_PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(1))
    .without_max_times();

/// How long Redis must work until the log says that it works again, so that a Redis that fails every
/// other moment is not reported each time.
const RECOVERY: Duration = Duration::from_secs(5);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("skipped, because Redis is failing")]
    Skipped,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Redis(#[from] RedisError),
}

impl From<Failure> for CacheError {
    fn from(failure: Failure) -> Self {
        let kind = match failure {
            Failure::Skipped => CacheErrorKind::Skipped,
            Failure::Timeout(_) => CacheErrorKind::Timeout,
            Failure::Redis(_) => CacheErrorKind::Other,
        };
        CacheError::new(failure.to_string()).with_kind(kind)
    }
}

/// What an error says about Redis and the connection, rather than about the one step.
enum Verdict {
    /// Redis works.
    Working,
    /// Redis may be failing: several such errors in a row are needed to be sure.
    Failing,
    /// Redis is certainly failing.
    Down,
}

fn verdict(error: &RedisError) -> Verdict {
    match (error.kind(), error.code()) {
        _ if error.is_connection_refusal() => Verdict::Down,
        // Starting, demoted, cut off from its primary, or no longer responsible for the key.
        (_, Some("LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK")) => {
            Verdict::Down
        }
        // A full Redis still serves what it has; a key of another type says nothing about others.
        (ErrorKind::Server(_), Some("OOM" | "WRONGTYPE" | "NOSCRIPT")) => Verdict::Working,
        _ => Verdict::Failing,
    }
}

/// The connection that all steps share, and its state.
pub(super) struct Link {
    state: Arc<State>,
    timeout: Duration,
}

struct State {
    /// Without credentials, for messages.
    address: String,
    connector: Connector,
    probe_key: String,
    release: Script,
    connection: RwLock<Connection>,
    failures: AtomicU32,
    /// Set while a renewal is in progress: readers do not use Redis.
    is_failing: AtomicBool,
    /// How many renewals have begun.
    renewals: AtomicU32,
    /// What the log was told last: whether Redis is failing.
    is_reported: AtomicBool,
    /// The key of the step that proved that Redis is failing. In a cluster, another node may have it
    /// than has the probe's key.
    failed_key: Mutex<String>,
    /// Set once the server has been asked what it is.
    is_known: AtomicBool,
    observer: Option<Arc<dyn Observer>>,
}

impl Link {
    /// Connects in the background.
    pub(super) fn new(options: &RedisOptions) -> RedisResult<Self> {
        let connector = Connector::new(options)?;
        let connection = connector.connection()?;
        let probe_key = format!("{}probe", options.key_prefix);
        let state = Arc::new(State {
            address: options.url.to_string(),
            connector,
            failed_key: Mutex::new(probe_key.clone()),
            probe_key,
            release: Script::new(RELEASE),
            connection: RwLock::new(connection.clone()),
            failures: AtomicU32::new(0),
            is_failing: AtomicBool::new(false),
            renewals: AtomicU32::new(0),
            is_reported: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
            observer: options.observer.clone(),
        });
        let link = Self { state: Arc::clone(&state), timeout: options.timeout };
        // The first connection may take longer than a step, so a task waits for it.
        tokio::spawn(async move {
            match state.check(connection.clone()).await {
                Ok(()) => {
                    log::info!("connected to Redis at {}", state.address);
                    state.identify_server(connection).await;
                }
                Err(failure) => state.start_renewal(&failure, &state.probe_key),
            }
        });
        Ok(link)
    }

    /// Executes a step on this key unless Redis is known to be failing.
    pub(super) async fn unless_failing<T, F>(
        &self,
        key: &str,
        step: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.state.is_failing.load(Ordering::Relaxed) {
            return Err(Failure::Skipped);
        }
        self.always(key, step).await
    }

    /// Executes a step on this key, regardless of earlier failures.
    pub(super) async fn always<T, F>(
        &self,
        key: &str,
        step: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let failure = match timeout(self.timeout, step(self.state.connection())).await {
            Ok(Ok(reply)) => {
                self.state.failures.store(0, Ordering::Relaxed);
                return Ok(reply);
            }
            Ok(Err(error)) => Failure::Redis(error),
            Err(_) => Failure::Timeout(self.timeout),
        };
        self.state.count(&failure, key);
        Err(failure)
    }

    /// Releases a key that nobody uses.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let probe = self.state.probe();
        let step = |mut connection| async move { probe.invoke_async(&mut connection).await };
        self.always(&self.state.probe_key, step).await
    }
}

impl State {
    fn connection(&self) -> Connection {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, event: Event<'_>) {
        if let Some(observer) = &self.observer {
            observer.observe(event);
        }
    }

    /// Counts a failure, and starts a renewal after enough of them.
    fn count(self: &Arc<Self>, failure: &Failure, key: &str) {
        let enough = match failure {
            Failure::Skipped => return,
            Failure::Timeout(_) => FAILURES_IN_A_ROW,
            Failure::Redis(error) => match verdict(error) {
                Verdict::Working => {
                    self.failures.store(0, Ordering::Relaxed);
                    return;
                }
                Verdict::Failing => FAILURES_IN_A_ROW,
                Verdict::Down => 1,
            },
        };
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= enough {
            self.start_renewal(failure, key);
        }
    }

    /// Keeps readers away from Redis until a new connection works.
    fn start_renewal(self: &Arc<Self>, failure: &Failure, key: &str) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            key.clone_into(&mut self.failed_key.lock().unwrap_or_else(PoisonError::into_inner));
            self.renewals.fetch_add(1, Ordering::Relaxed);
            self.tell(Event::Circuit { is_open: true });
            if !self.is_reported.swap(true, Ordering::Relaxed) {
                log::warn!(
                    "Redis at {} is failing ({failure}); reads use the store until it recovers",
                    self.address
                );
            }
            tokio::spawn(Self::renew(Arc::downgrade(self)));
        }
    }

    /// Tries new connections until one works, and hands that one to all callers.
    async fn renew(state: Weak<Self>) {
        let attempt = || async {
            let Some(state) = state.upgrade() else {
                return Ok(()); // the cache has been dropped
            };
            let connection = state.connector.connection()?;
            state.check(connection.clone()).await?;
            *state.connection.write().unwrap_or_else(PoisonError::into_inner) = connection.clone();
            state.failures.store(0, Ordering::Relaxed);
            // Told first: it may fail again as soon as it is used.
            state.tell(Event::Circuit { is_open: false });
            state.is_failing.store(false, Ordering::Relaxed);
            state.identify_server(connection).await;
            Ok::<_, Failure>(())
        };
        // Without this pause, a server that fails everything but the probe would cause a busy loop.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = attempt.retry(RENEWAL_PAUSES).await; // it retries without limit, so it does not fail
        Self::report_recovery(state).await;
    }

    /// Reports that Redis works again, unless it fails again soon.
    async fn report_recovery(state: Weak<Self>) {
        let renewals = |state: &Self| state.renewals.load(Ordering::Relaxed);
        let Some(before) = state.upgrade().map(|state| renewals(&state)) else { return };
        tokio::time::sleep(RECOVERY).await;
        let Some(state) = state.upgrade() else { return };
        if renewals(&state) == before && state.is_reported.swap(false, Ordering::Relaxed) {
            log::info!("Redis at {} works again", state.address);
        }
    }

    fn probe(&self) -> ScriptInvocation<'_> {
        self.release.key(&self.probe_key)
    }

    /// Checks that Redis executes scripts and accepts writes, and has the key that failed.
    async fn check(&self, mut connection: Connection) -> Result<(), Failure> {
        let failed_key = self.failed_key.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let steps = async {
            self.probe().invoke_async::<()>(&mut connection).await?;
            Cmd::get(failed_key).query_async::<Value>(&mut connection).await
        };
        match timeout(CONNECT_TIMEOUT, steps).await {
            Ok(Err(error)) if !matches!(verdict(&error), Verdict::Working) => {
                Err(Failure::Redis(error))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Timeout(CONNECT_TIMEOUT)),
        }
    }

    /// Warns, once, if the server is one whose scripts may not be atomic.
    async fn identify_server(&self, mut connection: Connection) {
        if self.is_known.load(Ordering::Relaxed) {
            return;
        }
        let Ok(Ok(garnet)) = timeout(CONNECT_TIMEOUT, garnet_version(&mut connection)).await else {
            return; // asked again on the next new connection
        };
        self.is_known.store(true, Ordering::Relaxed);
        if let Some(version) = garnet {
            log::warn!(
                "Redis at {} is Garnet {version}, which must have been started with --lua and \
                 --lua-transaction-mode: without the second, scripts are not atomic, and an old \
                 entry may outlive a write",
                self.address
            );
        }
    }
}
