//! The kinds of connections, and how each is made.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::auth::{BasicAuth, StreamingCredentialsProvider};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisFuture,
    RedisResult, Value,
};

use super::RedisOptions;
use super::sentinel::MasterConnection;
use super::url::{Sentinels, Topology};

/// The bound on making a connection in the background, TLS and login included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How many steps may wait to be written to the socket. With the client library's default of 50,
/// bursts would wait for each other.
const PIPELINE_BUFFER: usize = 1024;

const GET: &str = "GET";

/// A connection that reconnects by itself: to a server, to a cluster, or to the master that sentinels
/// name.
#[derive(Clone)]
pub(super) enum Connection {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
    Master(MasterConnection),
}

impl Connection {
    /// `GET`, the only command of a hit. It does what [`Cmd::query_async`] does, but the commonest kind
    /// of connection does not box the future.
    pub(super) async fn get(mut self, key: &str) -> RedisResult<Option<Vec<u8>>> {
        let mut command = Cmd::with_capacity(2, GET.len() + key.len());
        command.arg(GET).arg(key);
        let reply = match &mut self {
            Connection::Server(connection) => connection.send_packed_command(&command).await,
            Connection::Cluster(_) | Connection::Master(_) => {
                self.req_packed_command(&command).await
            }
        };
        Ok(FromRedisValue::from_redis_value(reply?.extract_error()?)?)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::Server(connection) => connection.req_packed_command(cmd),
            Connection::Cluster(connection) => connection.req_packed_command(cmd),
            Connection::Master(connection) => connection.req_packed_command(cmd),
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
            Connection::Master(it) => it.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::Server(connection) => connection.get_db(),
            Connection::Cluster(connection) => connection.get_db(),
            Connection::Master(connection) => connection.get_db(),
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
pub(super) enum Connector {
    Server(Box<Client>, ConnectionManagerConfig),
    Cluster(Box<ClusterClient>, ClusterConfig),
    Master(Box<Sentinels>, AsyncConnectionConfig),
}

impl Connector {
    pub(super) fn new(options: &RedisOptions) -> RedisResult<Self> {
        let credentials = options.credentials.clone().map(SharedProvider);
        match options.url.topology() {
            Topology::Server(server) => {
                let mut config = ConnectionManagerConfig::new()
                    .set_number_of_retries(0) // the next step, or the renewal, tries again
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(None) // `Link` bounds each step: one timer is enough
                    .set_pipeline_buffer_size(PIPELINE_BUFFER);
                if let Some(credentials) = credentials {
                    config = config.set_credentials_provider(credentials);
                }
                Ok(Self::Server(Box::new(Client::open(server.clone())?), config))
            }
            Topology::Cluster(seeds) => {
                // No retries: a lease that is sent again with the same token could be filled after
                // a write.
                let mut client = ClusterClient::builder(seeds.clone()).retries(0);
                if let Some(credentials) = credentials {
                    client = client.set_credentials_provider(credentials);
                }
                let client = client.build()?;
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECT_TIMEOUT)
                    .set_response_timeout(options.timeout);
                Ok(Self::Cluster(Box::new(client), config))
            }
            Topology::Sentinels(sentinels) => {
                // The client library confirms the master's role without them.
                if credentials.is_some() {
                    let message = "with sentinels, only a password in the URL can be used";
                    return Err((ErrorKind::InvalidClientConfig, message).into());
                }
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(options.timeout))
                    .set_pipeline_buffer_size(PIPELINE_BUFFER);
                Ok(Self::Master(Box::new(sentinels.clone()), config))
            }
        }
    }

    pub(super) fn connection(&self) -> RedisResult<Connection> {
        match self {
            Self::Server(client, config) => {
                ConnectionManager::new_lazy_with_config((**client).clone(), config.clone())
                    .map(Connection::Server)
            }
            Self::Cluster(client, config) => Ok(Connection::Cluster(
                client.get_pending_async_connection_with_config(config.clone()),
            )),
            Self::Master(sentinels, config) => {
                MasterConnection::new(sentinels, config.clone()).map(Connection::Master)
            }
        }
    }
}
