//! The connection to the server that sentinels name as the master.

use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, Pipeline, RedisFuture, RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::url::Sentinels;

/// A connection to the master, which is made on first use, and again after it was lost. Each time, the
/// sentinels are asked for the master, which must confirm that it is one.
#[derive(Clone)]
pub(super) struct MasterConnection {
    /// Locked while a connection is made, so that all wait for the same one.
    master: Arc<Mutex<Master>>,
    database: i64,
}

struct Master {
    sentinels: SentinelClient,
    config: AsyncConnectionConfig,
    current: Option<MultiplexedConnection>,
    /// How many connections have been lost, which tells the current one from earlier ones.
    lost: u64,
}

impl MasterConnection {
    pub(super) fn new(sentinels: &Sentinels, config: AsyncConnectionConfig) -> RedisResult<Self> {
        let mut servers = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(sentinels.login.clone());
        let is_tls = |addr: &ConnectionAddr| matches!(addr, ConnectionAddr::TcpTls { .. });
        if sentinels.addresses.iter().any(|sentinel| is_tls(sentinel.addr())) {
            servers = servers.set_tls_mode(TlsMode::Secure);
        }
        let sentinel_client = SentinelClient::build(
            sentinels.addresses.clone(),
            &sentinels.master,
            Some(servers),
            SentinelServerType::Master,
        )?;
        let master = Master { sentinels: sentinel_client, config, current: None, lost: 0 };
        Ok(Self { master: Arc::new(Mutex::new(master)), database: sentinels.login.db() })
    }

    /// The current connection, and how many were lost before it.
    async fn current(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        let mut master = self.master.lock().await;
        let Master { sentinels, config, current, lost } = &mut *master;
        let connection = match current {
            Some(connection) => connection,
            None => current.insert(sentinels.get_async_connection_with_config(config).await?),
        };
        Ok((connection.clone(), *lost))
    }

    /// Drops this connection if a reply shows that it is lost.
    async fn drop_if_lost<T>(&self, lost: u64, reply: &RedisResult<T>) {
        if reply.as_ref().is_err_and(|error| error.is_unrecoverable_error()) {
            let mut master = self.master.lock().await;
            if master.lost == lost {
                master.current = None;
                master.lost += 1;
            }
        }
    }
}

impl ConnectionLike for MasterConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (mut connection, lost) = self.current().await?;
            let reply = connection.req_packed_command(cmd).await;
            self.drop_if_lost(lost, &reply).await;
            reply
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (mut connection, lost) = self.current().await?;
            let replies = connection.req_packed_commands(pipeline, offset, count).await;
            self.drop_if_lost(lost, &replies).await;
            replies
        })
    }

    fn get_db(&self) -> i64 {
        self.database
    }
}
