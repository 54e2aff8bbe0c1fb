//! The application: from settings to a server.

use std::net::SocketAddr;
use std::sync::Arc;

use cache_aside::CacheError;
use custom_handler::Limits;
use tokio::net::TcpListener;

use crate::api::Api;
use crate::audit::Auditor;
use crate::cache::UserCache;
use crate::repository::Repository;
use crate::settings::Settings;
use crate::store::{MemoryStore, Store, TableStore};

/// An application that listens but does not serve yet.
pub struct App {
    listener: TcpListener,
    limits: Limits,
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
        let auditor = Auditor::new(settings.audit);
        let users =
            Repository::new(cache(settings)?, store(settings), settings.policy.clone(), auditor);
        let api = Api::new(users);
        connect(settings, &api);
        let mut limits = Limits::default();
        limits.connections = settings.connections;
        Ok(Self { listener, limits, api })
    }

    /// The address it listens on, with the actual port if the setting was 0.
    ///
    /// # Errors
    /// The operating system cannot report the address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` completes, then finishes the requests in progress, and returns what `stop`
    /// returned.
    pub async fn run_until<T: Send + 'static>(
        self,
        stop: impl Future<Output = T> + Send + 'static,
    ) -> T {
        custom_handler::serve(self.listener, self.api, self.limits, stop).await
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
    let (name, timeout) = (&settings.table_name, settings.policy.write_timeout());
    Arc::new(TableStore::new(access, name, timeout, settings.table_concurrency))
}

/// What to do if a server on this machine does not answer.
const START_SERVERS: &str = "`make up` starts Redis and Azurite";

/// Connects in the background, so that the first request finds the table and a connection to it, and
/// reports what does not answer.
fn connect(settings: &Settings, api: &Api) {
    if let Some(access) = settings.table.clone() {
        let api = api.clone();
        tokio::spawn(async move {
            let endpoint = access.endpoint();
            match api.users().probe_store().await {
                Ok(()) => log::info!("connected to the table at {endpoint}"),
                Err(error) if access.is_loopback() => {
                    log::warn!(
                        "cannot reach the table at {endpoint} yet: {error}; {START_SERVERS}"
                    );
                }
                Err(error) => log::warn!("cannot reach the table at {endpoint} yet: {error}"),
            }
        });
    }
    // The cache reports by itself that it cannot be reached, but does not know of `make up`.
    if let Some(access) = settings.redis.clone().filter(|access| access.url.is_loopback()) {
        let api = api.clone();
        tokio::spawn(async move {
            if api.users().probe_cache().await.is_err() {
                log::warn!("Redis at {} does not answer yet; {START_SERVERS}", access.url);
            }
        });
    }
}
