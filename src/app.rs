//! The application: settings in, a bound listener, requests served until it is stopped.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::cache::{MemoryCache, RedisCache};
use crate::cache_aside::{Cache, CacheAside, CacheError, Store};
use crate::settings::Settings;
use crate::store::{MemoryStore, TableStore};
use crate::users::{Api, User, routes};

/// An application that listens, and does not serve yet.
pub struct App {
    listener: TcpListener,
    api: Arc<Api>,
}

/// Why an application cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is taken, say.
    #[error(
        "cannot listen on {0}: {1}; choose another FUNCTIONS_CUSTOMHANDLER_PORT or HANDLER_ADDRESS"
    )]
    Listen(SocketAddr, std::io::Error),
    /// The client library does not take the address.
    #[error("REDIS_URL: {0}")]
    Redis(CacheError),
}

impl App {
    /// Listens first, and connects later: nothing here waits for Redis or for the table.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn build(settings: &Settings) -> Result<Self, BuildError> {
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|error| BuildError::Listen(settings.listen, error))?;
        let users = CacheAside::new(cache(settings)?, store(settings), settings.times.clone());
        Ok(Self { listener, api: Arc::new(Api::new(users)) })
    }

    /// Where it listens; the port is a real one even if the setting was 0.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is over, then finishes the requests in hand.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send + 'static) {
        warp::serve(routes(self.api)).incoming(self.listener).graceful(stop).run().await;
    }
}

fn cache(settings: &Settings) -> Result<Arc<dyn Cache<User>>, BuildError> {
    let Some(access) = &settings.redis else {
        log::info!("REDIS_URL is not set: caching in this process");
        return Ok(Arc::new(MemoryCache::default()));
    };
    RedisCache::new(access, &settings.key_prefix, settings.times.cache_timeout)
        .map(|cache| Arc::new(cache) as _)
        .map_err(BuildError::Redis)
}

fn store(settings: &Settings) -> Arc<dyn Store<User>> {
    let Some(access) = settings.table.clone() else {
        log::info!(
            "USERS_TABLE_CONNECTION is not set: users are kept in this process and end with it"
        );
        return Arc::new(MemoryStore::default());
    };
    let store = TableStore::new(access, &settings.table_name, settings.times.store_timeout);
    let store: Arc<dyn Store<User>> = Arc::new(store);
    // The first request should find a table, and a connection to it.
    let first = Arc::clone(&store);
    tokio::spawn(async move {
        match first.probe().await {
            Ok(()) => log::info!("the table answers"),
            Err(error) => log::warn!("the table does not answer yet: {error}"),
        }
    });
    store
}
