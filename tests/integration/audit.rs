//! Audits (`CACHE_AUDIT`): each kind of entry that should not be there is found, and ordinary traffic
//! causes no finding.

use std::sync::Arc;
use std::time::Duration;

use crate::outages::{Reads, Traffic};
use crate::support::handler::Handler;
use crate::support::{Azurite, Client, Redis, eventually, fresh_table, settings, start};

const FINDING: &str = "audit: a cached user was not the one in the table";
const LONG: Duration = Duration::from_secs(20);

/// A handler that audits every hit, and another program that uses the same table.
struct Setup {
    handler: Handler,
    redis: Redis,
    other: Client,
    _azurite: Arc<Azurite>,
}

impl Setup {
    async fn start() -> Self {
        let (redis, azurite) = (Redis::start(), Azurite::shared());
        let table = [
            ("USERS_TABLE_CONNECTION", azurite.connection_string()),
            ("USERS_TABLE_NAME", fresh_table()),
        ];
        let mut given = table.to_vec();
        given.extend([
            ("REDIS_URL", redis.url()),
            ("REDIS_TIMEOUT", "1s".to_owned()),
            ("CACHE_KEY_PREFIX", "test:".to_owned()),
            ("CACHE_TTL", "1m".to_owned()),
            ("CACHE_AUDIT", "100%".to_owned()),
            ("RUST_LOG", "info,cache_aside_handler::audit=debug".to_owned()),
        ]);
        let handler = Handler::start(&given).await;
        // It does not use that Redis: what it writes is not fenced there.
        let other = start(&settings(&table)).await;
        Self { handler, redis, other, _azurite: azurite }
    }

    /// A user who is cached.
    async fn cached_user(&self, name: &str) -> String {
        let path = self.handler.client.create(name).await;
        assert_eq!(self.handler.client.get(&path).await.source(), "table");
        path
    }

    /// Waits until the wrong entry has been removed, and the user has this name.
    async fn is_found(&self, path: &str, name: &str) {
        self.handler.line_with(FINDING).await;
        eventually(LONG, "the entry is removed", || async {
            self.handler.client.get(path).await.name() == name
        })
        .await;
    }
}

fn rename(name: &str) -> String {
    serde_json::json!({ "name": name }).to_string()
}

#[tokio::test]
async fn a_row_that_another_program_has_changed_is_found() {
    let setup = Setup::start().await;
    let path = setup.cached_user("old").await;
    assert_eq!(setup.other.patch(&path, rename("new")).await.status, 200);
    assert_eq!(setup.handler.client.get(&path).await.name(), "old");
    setup.is_found(&path, "new").await;
}

#[tokio::test]
async fn a_redis_that_was_rolled_back_is_found() {
    let setup = Setup::start().await;
    let path = setup.cached_user("old").await;
    let key = path.replace("/api/users/", "test:user:");
    let before: String = setup.redis.command(&["GET", &key]).await;
    assert_eq!(setup.handler.client.patch(&path, rename("new")).await.status, 200);
    setup.redis.command::<()>(&["SET", &key, &before, "PX", "60000"]).await;
    assert_eq!(setup.handler.client.get(&path).await.name(), "old");
    setup.is_found(&path, "new").await;
}

#[tokio::test]
async fn a_finding_says_what_may_have_happened_and_not_whose_entry_it_was() {
    let setup = Setup::start().await;
    let path = setup.cached_user("old").await;
    setup.other.patch(&path, rename("new")).await;
    setup.handler.client.get(&path).await;
    let line = setup.handler.line_with(FINDING).await;
    assert!(
        line.contains("WARN") && line.contains("another program has changed the row"),
        "{line}"
    );
    assert!(!line.contains(path.rsplit('/').next().unwrap()), "{line}");
}

#[tokio::test]
async fn ordinary_traffic_causes_no_finding() {
    let setup = Setup::start().await;
    let traffic = Traffic::with(Reads::Newest, &setup.handler.client).await;
    for _ in 0..10 {
        traffic.goes_on().await;
    }
    traffic.end().await;
    let agreed = setup.handler.count_of("audit: Agrees");
    assert!(agreed > 100, "{agreed} audits found the table's user");
    assert!(!setup.handler.logged(FINDING));
}
