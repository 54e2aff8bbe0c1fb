//! What the tests stand on: real servers on free ports, the application on one of them, a client
//! that reads its answers.

#![allow(dead_code, unused_imports)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on fails

pub mod client;
pub mod doubles;
pub mod handler;
pub mod host;
pub mod identity;
pub mod proxy;
pub mod servers;
pub mod tcp;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cache_aside::app::App;
use cache_aside::settings::Settings;
use ulid::Ulid;

pub use client::{Answer, Client};
pub use servers::{Azurite, Redis};

/// Settings by name, over defaults that suit a slow machine: a cache step that takes a moment too
/// long must not turn a hit into a miss.
pub fn settings(given: &[(&str, String)]) -> Settings {
    let mut values: HashMap<&str, String> = HashMap::from([
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "0".to_owned()),
        ("REDIS_TIMEOUT", "1s".to_owned()),
    ]);
    values.extend(given.iter().map(|(name, value)| (*name, value.clone())));
    Settings::read(&|name| values.get(name).cloned(), []).expect("the test's settings")
}

/// Starts an application in this process and answers a client for it. It ends with the test.
pub async fn start(settings: &Settings) -> Client {
    let app = App::build(settings).await.expect("the application");
    let address = app.address().expect("its address");
    tokio::spawn(app.run_until(std::future::pending()));
    Client::new(format!("http://{address}"))
}

/// A name for a table that no other test uses.
pub fn fresh_table() -> String {
    format!("t{}", Ulid::generate())
}

/// Waits until something holds; fails the test if it does not within `bound`.
pub async fn eventually<F>(bound: Duration, what: &str, mut holds: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
