//! The demonstration page in a browser.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::support::browser::Browser;
use crate::support::{Azurite, Redis, eventually, fresh_table, settings, start};

const PATIENCE: Duration = Duration::from_secs(20);

/// The page of a handler on real servers.
struct Demo {
    browser: Browser,
    redis: Redis,
    azurite: Arc<Azurite>,
}

impl Demo {
    async fn open() -> Self {
        let (redis, azurite) = (Redis::start(), Arc::new(Azurite::start()));
        let client = start(&settings(&[
            ("REDIS_URL", redis.url()),
            ("USERS_TABLE_CONNECTION", azurite.connection_string()),
            ("USERS_TABLE_NAME", fresh_table()),
            ("REDIS_TIMEOUT", "100ms".into()),
        ]))
        .await;
        let browser = Browser::start().await;
        browser.open(&format!("{}/api/demo", client.base)).await;
        Self { browser, redis, azurite }
    }
}

#[tokio::test]
async fn try_it() {
    let demo = Demo::open().await;
    let b = &demo.browser;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for sel in ["#create button", "#read button", "#read button"] {
        b.click(sel).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        eprintln!("{}", b.text("#said").await);
    }
    b.click("#burst button").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    b.click("#stampede button").await;
    b.enter("#race-seconds", "3").await;
    b.click("#race button").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    eprintln!("{} {}", b.text("#race-said").await, b.text("#stampede-said").await);
    for (name, scheme, w, h) in [("light", "light", 1280, 2000), ("dark", "dark", 1280, 2000), ("narrow", "light", 360, 4200)] {
        b.prefer(scheme).await;
        b.resize(w, h).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        use base64::Engine;
        let png = base64::engine::general_purpose::STANDARD.decode(b.screenshot().await).unwrap();
        std::fs::write(format!("/tmp/demo-{name}.png"), png).unwrap();
    }
    eprintln!("{:#?}", b.log().await);
}
