//! Local copies (`CACHE_LOCAL_TTL`): two handlers on one Redis and one table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::handler::Handler;
use crate::support::{Azurite, Redis, on_servers};

const LOCAL_TTL: Duration = Duration::from_millis(300);

/// Two handlers, and what they share.
struct Setup {
    a: Handler,
    b: Handler,
    redis: Redis,
    _azurite: Arc<Azurite>,
}

impl Setup {
    async fn start() -> Self {
        let (redis, azurite) = (Redis::start(), Azurite::shared());
        let mut settings = on_servers(redis.port, azurite.port);
        settings.push(("CACHE_LOCAL_TTL", format!("{}ms", LOCAL_TTL.as_millis())));
        let (a, b) = tokio::join!(Handler::start(&settings), Handler::start(&settings));
        Self { a, b, redis, _azurite: azurite }
    }

    /// A user of whom both handlers have had a copy.
    async fn copied_user(&self) -> String {
        let path = self.a.client.create("old").await;
        for handler in [&self.a, &self.b] {
            handler.client.get(&path).await;
            handler.client.get(&path).await;
        }
        path
    }
}

fn rename(name: &str) -> String {
    serde_json::json!({ "name": name }).to_string()
}

#[tokio::test]
async fn a_copy_is_a_hit_in_memory_that_the_headers_and_the_log_tell_apart() {
    let setup = Setup::start().await;
    let path = setup.a.client.create("Ann").await;
    assert_eq!(setup.a.client.get(&path).await.source(), "table");
    let read = setup.a.client.get(&path).await;
    assert_eq!((read.source().as_str(), read.name().as_str()), ("memory", "Ann"));
    let status = read.header("cache-status");
    assert!(status.starts_with("cache-aside; hit; ttl="), "{status}");
    assert!(status.ends_with("; detail=local"), "{status}");
    assert!(!read.headers.contains_key("server-timing"), "neither Redis nor the table was asked");
    setup.a.line_with("GET /api/users/{id} 200 source=memory cache=hit,local ms=").await;

    assert_eq!(setup.b.client.get(&path).await.source(), "redis");
    assert_eq!(setup.b.client.get(&path).await.source(), "memory");
    tokio::time::sleep(LOCAL_TTL).await;
    assert_eq!(setup.b.client.get(&path).await.source(), "redis");
}

#[tokio::test]
async fn no_handler_returns_what_a_write_has_changed() {
    let setup = Setup::start().await;
    let path = setup.copied_user().await;
    for round in 0..5 {
        let name = format!("name {round}");
        let (writer, reader) =
            if round % 2 == 0 { (&setup.a, &setup.b) } else { (&setup.b, &setup.a) };
        let begun = Instant::now();
        assert_eq!(writer.client.patch(&path, rename(&name)).await.status, 200);
        assert!(begun.elapsed() >= LOCAL_TTL, "it waits for the copies to end");
        for handler in [reader, writer] {
            assert_eq!(handler.client.get(&path).await.name(), name);
        }
    }
    assert_eq!(setup.a.client.delete(&path).await.status, 204);
    assert_eq!(setup.b.client.get(&path).await.status, 404);
}

/// A handler is stopped after it has sent its get to Redis, and goes on when the reply is old.
#[tokio::test]
async fn a_handler_that_was_paused_does_not_use_a_reply_from_before_a_write() {
    let setup = Setup::start().await;
    let path = setup.copied_user().await;
    tokio::time::sleep(LOCAL_TTL).await; // the copies have ended: the next read asks Redis
    for round in 0..3 {
        let name = format!("name {round}");
        setup.redis.command::<()>(&["CLIENT", "PAUSE", "200", "ALL"]).await;
        let read = tokio::spawn({
            let (client, path) = (setup.b.client.clone(), path.clone());
            async move { client.get(&path).await }
        });
        // Redis, which is paused, cannot say that the get has arrived.
        tokio::time::sleep(Duration::from_millis(50)).await;
        setup.b.signal("STOP");
        let renamed = setup.a.client.patch(&path, rename(&name)).await;
        setup.b.signal("CONT");
        assert_eq!(renamed.status, 200, "{renamed:?}");
        assert_eq!(read.await.unwrap().status, 200);
        assert_eq!(setup.b.client.get(&path).await.name(), name);
    }
}
