//! What the tests are built on: the application in this process or as one of its own, and a client
//! that reads whole responses. `test-programs` has proxies that break connections.

pub mod browser;
pub mod client;
pub mod handler;
pub mod host;
pub mod identity;
pub mod receiver;

use std::collections::HashMap;

use cache_aside_handler::app::App;
use cache_aside_handler::settings::Settings;
use ulid::Ulid;

pub use client::{Answer, Client};
pub use custom_handler::testing::{eventually, free_port};
pub use test_servers::{Azurite, Redis, RedisCluster, RedisSentinels, connection_string};

/// Settings by name, over defaults for a slow machine: a cache step that takes a moment too long
/// must not turn a hit into a miss.
pub fn settings(given: &[(&str, String)]) -> Settings {
    let mut values: HashMap<&str, String> = HashMap::from([
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "0".to_owned()),
        ("REDIS_TIMEOUT", "1s".to_owned()),
    ]);
    values.extend(given.iter().map(|(name, value)| (*name, value.clone())));
    Settings::read(&|name| values.get(name).cloned(), []).expect("the test's settings")
}

/// Settings for a handler on the servers, or proxies, at these ports, with a table of its own.
pub fn on_servers(redis: u16, table: u16) -> Vec<(&'static str, String)> {
    vec![
        ("REDIS_URL", format!("redis://127.0.0.1:{redis}")),
        ("REDIS_TIMEOUT", "1s".to_owned()),
        ("USERS_TABLE_CONNECTION", connection_string(table)),
        ("USERS_TABLE_NAME", fresh_table()),
    ]
}

/// Starts an application in this process, and returns a client for it. It ends with the test.
pub async fn start(settings: &Settings) -> Client {
    let app = App::build(settings).await.expect("the application");
    let address = app.address().expect("its address");
    tokio::spawn(app.run_until(std::future::pending::<()>()));
    Client::new(format!("http://{address}"))
}

/// The name of a table that no other test uses.
pub fn fresh_table() -> String {
    format!("t{}", Ulid::generate())
}
