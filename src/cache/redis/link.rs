//! The way to Redis: each step bounded, failures noticed, a fresh connection once they pile up.
//!
//! A cache that is slower than the store is no cache. So after a few failures in a row readers leave
//! Redis alone, and a task of its own tries fresh connections until one works: no request pays for
//! finding out. A fresh one, since an old socket may be half dead, or lead to a server that has been
//! demoted. Writers still try each time: skipping a fence while other processes reach Redis would let
//! an old entry live on there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{
    Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Script,
    ScriptInvocation, Value,
};
use tokio::time::timeout;

use crate::cache_aside::CacheError;

use super::RedisAccess;
use super::identity::IdentityCredentials;

/// So many failures in a row, and readers leave Redis alone.
const FAILURES_IN_A_ROW: u32 = 5;

/// How long a connection may take to be made, in the background, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The pauses between attempts to reach Redis again: doubled from the first to the last.
const RENEW_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Steps waiting to be written to the socket; the client library's default of 50 makes bursts wait.
const PIPELINE_BUFFER: usize = 1024;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("left alone after failures in a row")]
    Skipped,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Redis(#[from] RedisError),
}

impl From<Failure> for CacheError {
    fn from(failure: Failure) -> Self {
        CacheError(failure.to_string())
    }
}

/// Whether an error says that Redis, or the way to it, is failing, rather than this one step.
enum Verdict {
    Alive,
    Failing,
    /// No need to wait for more of the same.
    Down,
}

fn verdict(error: &RedisError) -> Verdict {
    match (error.kind(), error.code()) {
        _ if error.is_connection_refusal() => Verdict::Down,
        // Starting, demoted, cut off from its primary, or another node's business by now.
        (_, Some("LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK")) => {
            Verdict::Down
        }
        // A full Redis still serves what it has; a foreign key says nothing about the rest.
        (ErrorKind::Server(_), Some("OOM" | "WRONGTYPE" | "NOSCRIPT")) => Verdict::Alive,
        _ => Verdict::Failing,
    }
}

/// A connection that reconnects by itself, on a server or on a cluster.
#[derive(Clone)]
pub enum Connection {
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

/// Makes connections that connect when they are first used.
enum Dial {
    Server(Box<Client>, ConnectionManagerConfig),
    Cluster(Box<ClusterClient>, ClusterConfig),
}

impl Dial {
    fn new(access: &RedisAccess, bound: Duration) -> RedisResult<Self> {
        let identity = access.identity.clone().map(IdentityCredentials);
        match access.url.seeds() {
            [server] => {
                let mut config = ConnectionManagerConfig::new()
                    .set_number_of_retries(0) // the next step, or the renewal, tries again
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(bound))
                    .set_pipeline_buffer_size(PIPELINE_BUFFER);
                if let Some(identity) = identity {
                    config = config.set_credentials_provider(identity);
                }
                Ok(Dial::Server(Box::new(Client::open(server.clone())?), config))
            }
            seeds => {
                // No retries: a lease that is sent again with its token could be filled after a write.
                let mut client = ClusterClient::builder(seeds.to_vec()).retries(0);
                if let Some(identity) = identity {
                    client = client.set_credentials_provider(identity);
                }
                let client = client.build()?;
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECT_TIMEOUT)
                    .set_response_timeout(bound);
                Ok(Dial::Cluster(Box::new(client), config))
            }
        }
    }

    fn connection(&self) -> RedisResult<Connection> {
        match self {
            Dial::Server(client, config) => {
                ConnectionManager::new_lazy_with_config((**client).clone(), config.clone())
                    .map(Connection::Server)
            }
            Dial::Cluster(client, config) => Ok(Connection::Cluster(
                client.get_pending_async_connection_with_config(config.clone()),
            )),
        }
    }
}

/// The way to Redis.
pub struct Link {
    state: Arc<State>,
    bound: Duration,
}

struct State {
    dial: Dial,
    probe_key: String,
    release: Script,
    connection: RwLock<Connection>,
    failures: AtomicU32,
    /// Readers leave Redis alone; a renewal is under way.
    down: AtomicBool,
}

impl Link {
    /// Connects in the background; `bound` is for each step, reconnecting included. `probe_key` is a
    /// key that nobody uses.
    pub fn new(access: &RedisAccess, probe_key: String, bound: Duration) -> RedisResult<Self> {
        let dial = Dial::new(access, bound)?;
        let connection = dial.connection()?;
        let state = Arc::new(State {
            dial,
            probe_key,
            release: Script::new(super::RELEASE),
            connection: RwLock::new(connection.clone()),
            failures: AtomicU32::new(0),
            down: AtomicBool::new(false),
        });
        let link = Self { state: Arc::clone(&state), bound };
        // Someone must wait for the first connection longer than a step may.
        tokio::spawn(async move {
            match state.check(connection).await {
                Ok(()) => log::info!("connected to Redis"),
                Err(error) => state.give_way(&error),
            }
        });
        Ok(link)
    }

    /// Does a step unless Redis is known to be failing.
    pub async fn when_up<T, F>(&self, step: impl FnOnce(Connection) -> F) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.state.down.load(Ordering::Relaxed) {
            return Err(Failure::Skipped);
        }
        self.always(step).await
    }

    /// Does a step, whatever happened before.
    pub async fn always<T, F>(&self, step: impl FnOnce(Connection) -> F) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let failure = match timeout(self.bound, step(self.state.connection())).await {
            Ok(Ok(answer)) => {
                self.state.failures.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => Failure::Redis(error),
            Err(_) => Failure::Timeout(self.bound),
        };
        self.state.failed(&failure);
        Err(failure)
    }

    /// Whether Redis answers, runs scripts and takes writes: releases a key that nobody uses.
    pub async fn probe(&self) -> Result<(), Failure> {
        let probe = self.state.probe();
        self.always(|mut connection| async move { probe.invoke_async(&mut connection).await }).await
    }
}

impl State {
    fn connection(&self) -> Connection {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a failure; enough of them, and readers leave Redis alone.
    fn failed(self: &Arc<Self>, failure: &Failure) {
        let enough = match failure {
            Failure::Skipped => return,
            Failure::Timeout(_) => FAILURES_IN_A_ROW,
            Failure::Redis(error) => match verdict(error) {
                Verdict::Alive => {
                    self.failures.store(0, Ordering::Relaxed);
                    return;
                }
                Verdict::Failing => FAILURES_IN_A_ROW,
                Verdict::Down => 1,
            },
        };
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= enough {
            self.give_way(failure);
        }
    }

    /// Readers leave Redis alone from now on, until the renewal has found it well.
    fn give_way(self: &Arc<Self>, failure: &Failure) {
        if !self.down.swap(true, Ordering::Relaxed) {
            log::warn!("Redis is failing, reads go to the store until it is back: {failure}");
            tokio::spawn(Self::renew(Arc::downgrade(self)));
        }
    }

    /// Tries fresh connections until one works, then hands it to everyone.
    async fn renew(state: Weak<Self>) {
        let (mut pause, longest) = RENEW_PAUSES;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
            let Some(state) = state.upgrade() else {
                return; // nobody needs it any more
            };
            let Ok(fresh) = state.dial.connection() else {
                continue;
            };
            if state.check(fresh.clone()).await.is_ok() {
                *state.connection.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                state.failures.store(0, Ordering::Relaxed);
                state.down.store(false, Ordering::Relaxed);
                log::info!("Redis is back");
                return;
            }
        }
    }

    fn probe(&self) -> ScriptInvocation<'_> {
        self.release.key(&self.probe_key)
    }

    async fn check(&self, mut connection: Connection) -> Result<(), Failure> {
        match timeout(CONNECT_TIMEOUT, self.probe().invoke_async(&mut connection)).await {
            Ok(answer) => answer.map_err(Failure::Redis),
            Err(_) => Err(Failure::Timeout(CONNECT_TIMEOUT)),
        }
    }
}
