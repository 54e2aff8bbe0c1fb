//! The application: from settings to a server.

use std::net::SocketAddr;
use std::sync::Arc;

use cache_aside::CacheError;
use tokio::net::TcpListener;

use crate::api::Api;
use crate::cache::UserCache;
use crate::repository::Repository;
use crate::settings::Settings;
use crate::store::{MemoryStore, Store, TableStore};

/// An application that listens but does not serve yet.
pub struct App {
    listener: TcpListener,
    api: Api,
}

/// Why the application does not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address cannot be bound, for example because the port is in use.
    #[error(
        "cannot listen on {0}: {1}; choose another FUNCTIONS_CUSTOMHANDLER_PORT or HANDLER_ADDRESS"
    )]
    Listen(SocketAddr, std::io::Error),
    /// The client library does not accept the address.
    #[error("REDIS_URL: {0}")]
    Redis(CacheError),
}

impl App {
    /// Binds the listener. Redis and the table are connected in the background.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn build(settings: &Settings) -> Result<Self, BuildError> {
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|error| BuildError::Listen(settings.listen, error))?;
        let users = Repository::new(cache(settings)?, store(settings), settings.policy.clone());
        Ok(Self { listener, api: Api::new(users) })
    }

    /// The address it listens on, with the actual port if the setting was 0.
    ///
    /// # Errors
    /// The operating system cannot report the address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` completes, then finishes the requests in progress.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send + 'static) {
        custom_handler::serve(self.listener, self.api, stop).await;
    }
}

fn cache(settings: &Settings) -> Result<UserCache, BuildError> {
    let Some(access) = &settings.redis else {
        log::info!("REDIS_URL is not set: users are cached in this process");
        return Ok(UserCache::in_process());
    };
    UserCache::on_redis(access, &settings.key_prefix, settings.policy.cache_timeout())
        .map_err(BuildError::Redis)
}

fn store(settings: &Settings) -> Arc<dyn Store> {
    let Some(access) = settings.table.clone() else {
        log::info!(
            "USERS_TABLE_CONNECTION is not set: users are stored in this process and lost when it ends"
        );
        return Arc::new(MemoryStore::default());
    };
    let store = TableStore::new(access, &settings.table_name, settings.policy.write_timeout());
    let store: Arc<dyn Store> = Arc::new(store);
    // The first request should find the table and a connection to it.
    let first = Arc::clone(&store);
    tokio::spawn(async move {
        match first.probe().await {
            Ok(()) => log::info!("connected to the table"),
            Err(error) => log::warn!("cannot reach the table yet: {error}"),
        }
    });
    store
}
