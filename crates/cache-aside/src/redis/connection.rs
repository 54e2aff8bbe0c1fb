//! The connection to Redis: each step has a bound, failures are counted, and after several in a row
//! a new connection is made.
//!
//! A cache that is slower than the store is useless. So after several failures in a row readers
//! stop using Redis, and a background task tries new connections until one works: no request waits
//! for a broken one. (The old connection may hang, or lead to a demoted server.) Writers try Redis
//! every time: skipping a fence while other processes reach Redis would leave an old entry there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::auth::{BasicAuth, StreamingCredentialsProvider};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{
    Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Script,
    ScriptInvocation, Value,
};
use tokio::time::timeout;

use crate::cache::CacheError;

use super::{RELEASE, RedisOptions};

/// After this many failures in a row readers stop using Redis, unless one error proves that it is down.
const FAILURES_IN_A_ROW: u32 = 5;

/// The bound on making a connection in the background, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The pauses between attempts to reach Redis again: 50 ms, doubled up to 1 s, for as long as it
/// takes.
const RENEWAL_PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(1))
    .without_max_times();

/// How many steps may wait to be written to the socket. With the client library's default of 50,
/// bursts would wait for each other.
const PIPELINE_BUFFER: usize = 1024;

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
        CacheError::new(failure.to_string())
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

/// A connection to a server or to a cluster, which reconnects by itself.
#[derive(Clone)]
pub(super) enum Connection {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::Server(connection) => connection.req_packed_command(cmd),
            Connection::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::Server(it) => it.req_packed_commands(pipeline, offset, count),
            Connection::Cluster(it) => it.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::Server(connection) => connection.get_db(),
            Connection::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Wraps the shared provider in a type that the client library can own.
struct SharedProvider(Arc<dyn StreamingCredentialsProvider>);

impl StreamingCredentialsProvider for SharedProvider {
    fn subscribe(&self) -> CredentialsStream {
        self.0.subscribe()
    }
}

type CredentialsStream =
    std::pin::Pin<Box<dyn futures_core::Stream<Item = RedisResult<BasicAuth>> + Send + 'static>>;

/// Creates connections that connect on first use.
enum Connector {
    Server(Box<Client>, ConnectionManagerConfig),
    Cluster(Box<ClusterClient>, ClusterConfig),
}

impl Connector {
    fn new(options: &RedisOptions) -> RedisResult<Self> {
        let credentials = options.credentials.clone().map(SharedProvider);
        match options.url.seeds() {
            [server] => {
                let mut config = ConnectionManagerConfig::new()
                    .set_number_of_retries(0) // the next step, or the renewal, tries again
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(options.timeout))
                    .set_pipeline_buffer_size(PIPELINE_BUFFER);
                if let Some(credentials) = credentials {
                    config = config.set_credentials_provider(credentials);
                }
                Ok(Connector::Server(Box::new(Client::open(server.clone())?), config))
            }
            seeds => {
                // No retries: a lease that is sent again with the same token could be filled after
                // a write.
                let mut client = ClusterClient::builder(seeds.to_vec()).retries(0);
                if let Some(credentials) = credentials {
                    client = client.set_credentials_provider(credentials);
                }
                let client = client.build()?;
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECT_TIMEOUT)
                    .set_response_timeout(options.timeout);
                Ok(Connector::Cluster(Box::new(client), config))
            }
        }
    }

    fn connection(&self) -> RedisResult<Connection> {
        match self {
            Connector::Server(client, config) => {
                ConnectionManager::new_lazy_with_config((**client).clone(), config.clone())
                    .map(Connection::Server)
            }
            Connector::Cluster(client, config) => Ok(Connection::Cluster(
                client.get_pending_async_connection_with_config(config.clone()),
            )),
        }
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
}

impl Link {
    /// Connects in the background.
    pub(super) fn new(options: &RedisOptions) -> RedisResult<Self> {
        let connector = Connector::new(options)?;
        let connection = connector.connection()?;
        let state = Arc::new(State {
            address: options.url.to_string(),
            connector,
            probe_key: format!("{}probe", options.key_prefix),
            release: Script::new(RELEASE),
            connection: RwLock::new(connection.clone()),
            failures: AtomicU32::new(0),
            is_failing: AtomicBool::new(false),
        });
        let link = Self { state: Arc::clone(&state), timeout: options.timeout };
        // The first connection may take longer than a step, so a task waits for it.
        tokio::spawn(async move {
            match state.check(connection).await {
                Ok(()) => log::info!("connected to Redis at {}", state.address),
                Err(failure) => state.start_renewal(&failure),
            }
        });
        Ok(link)
    }

    /// Executes a step unless Redis is known to be failing.
    pub(super) async fn unless_failing<T, F>(
        &self,
        step: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.state.is_failing.load(Ordering::Relaxed) {
            return Err(Failure::Skipped);
        }
        self.always(step).await
    }

    /// Executes a step, regardless of earlier failures.
    pub(super) async fn always<T, F>(
        &self,
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
        self.state.count(&failure);
        Err(failure)
    }

    /// Releases a key that nobody uses.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let probe = self.state.probe();
        self.always(|mut connection| async move { probe.invoke_async(&mut connection).await }).await
    }
}

impl State {
    fn connection(&self) -> Connection {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a failure, and starts a renewal after enough of them.
    fn count(self: &Arc<Self>, failure: &Failure) {
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
            self.start_renewal(failure);
        }
    }

    /// Keeps readers away from Redis until a new connection works.
    fn start_renewal(self: &Arc<Self>, failure: &Failure) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            let address = &self.address;
            log::warn!(
                "Redis at {address} is failing ({failure}); reads use the store until it recovers"
            );
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
            *state.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
            state.failures.store(0, Ordering::Relaxed);
            state.is_failing.store(false, Ordering::Relaxed);
            log::info!("Redis at {} works again", state.address);
            Ok::<_, Failure>(())
        };
        // Without this pause, a server that fails everything but the probe would cause a busy loop.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = attempt.retry(RENEWAL_PAUSES).await; // it retries without limit, so it does not fail
    }

    fn probe(&self) -> ScriptInvocation<'_> {
        self.release.key(&self.probe_key)
    }

    async fn check(&self, mut connection: Connection) -> Result<(), Failure> {
        match timeout(CONNECT_TIMEOUT, self.probe().invoke_async(&mut connection)).await {
            Ok(reply) => reply.map_err(Failure::Redis),
            Err(_) => Err(Failure::Timeout(CONNECT_TIMEOUT)),
        }
    }
}
