//! No request takes longer than the README says, whatever Redis and the table do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::{
    Azurite, Client, Redis, connection_string, eventually, fresh_table, settings, start,
};
use test_programs::tcp_proxy::{Route, TcpProxy};

const REDIS_TIMEOUT: Duration = Duration::from_millis(50);
const TABLE_TIMEOUT: Duration = Duration::from_millis(600);
const LOCAL_TTL: Duration = Duration::from_millis(200);

/// The bounds in the README, and what a busy machine adds to them.
fn read_bound() -> Duration {
    2 * TABLE_TIMEOUT + 8 * REDIS_TIMEOUT + Duration::from_secs(3) + BUSY
}

fn write_bound() -> Duration {
    TABLE_TIMEOUT + 3 * REDIS_TIMEOUT + 2 * LOCAL_TTL + BUSY
}

const BUSY: Duration = Duration::from_secs(1);

/// A handler whose connections to Redis and to the table can be broken.
struct Setup {
    client: Client,
    redis: TcpProxy,
    table: TcpProxy,
    _servers: (Redis, Arc<Azurite>),
}

impl Setup {
    async fn start() -> Self {
        let servers = (Redis::start(), Azurite::shared());
        let redis = TcpProxy::in_front_of(servers.0.port).await;
        let table = TcpProxy::in_front_of(servers.1.port).await;
        let in_millis = |time: Duration| format!("{}ms", time.as_millis());
        let client = start(&settings(&[
            ("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port)),
            ("REDIS_TIMEOUT", in_millis(REDIS_TIMEOUT)),
            ("USERS_TABLE_CONNECTION", connection_string(table.port)),
            ("USERS_TABLE_NAME", fresh_table()),
            ("TABLE_TIMEOUT", in_millis(TABLE_TIMEOUT)),
            ("CACHE_LOCAL_TTL", in_millis(LOCAL_TTL)),
        ]))
        .await;
        let path = client.create("Ann").await;
        eventually(Duration::from_secs(20), "entries are served from Redis", || async {
            client.get(&path).await.source() == "redis"
        })
        .await;
        Self { client, redis, table, _servers: servers }
    }

    /// Sends requests of each kind at the same time, twice: reads of one user, reads of others, and writes.
    async fn all_requests_keep_their_bounds(&self, what: &str) {
        for _ in 0..2 {
            let id = |nth: usize| format!("/api/users/01KB584F3Y9AF31621Q7N62Q{nth:02}");
            let name = r#"{"name":"Bob"}"#;
            let mut calls = JoinSet::new();
            for nth in 10..30 {
                let client = self.client.clone();
                let user = id(if nth % 2 == 0 { 10 } else { nth });
                calls.spawn(async move {
                    let begun = Instant::now();
                    let (kind, answer) = match nth % 5 {
                        1 => ("PATCH", client.patch(&user, name).await),
                        2 => ("PUT", client.put(&user, name).await),
                        3 => ("DELETE", client.delete(&user).await),
                        4 => ("POST", client.post("/api/users", name).await),
                        _ => ("GET", client.get(&user).await),
                    };
                    (kind, answer, begun.elapsed())
                });
                let (client, user) = (self.client.clone(), id(10));
                calls.spawn(async move {
                    let begun = Instant::now();
                    ("GET", client.get(&user).await, begun.elapsed())
                });
            }
            for (kind, answer, took) in calls.join_all().await {
                let bound = if kind == "GET" { read_bound() } else { write_bound() };
                assert!(took <= bound, "{what}: {kind} took {took:?} of {bound:?}: {answer:?}");
                let is_one_of_the_api = [200, 201, 204, 404, 503].contains(&answer.status);
                assert!(is_one_of_the_api, "{what}: {kind}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn requests_end_in_time_whatever_redis_and_the_table_do() {
    let setup = Setup::start().await;
    setup.all_requests_keep_their_bounds("both work").await;
    let nonsense = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n";
    let routes = [Route::Cut, Route::Hung, Route::Answers(nonsense)];
    for route in routes.clone() {
        setup.redis.set(route.clone());
        setup.all_requests_keep_their_bounds(&format!("Redis: {route:?}")).await;
        setup.table.set(route.clone());
        setup.all_requests_keep_their_bounds(&format!("both: {route:?}")).await;
        setup.redis.set(Route::Open);
        setup.all_requests_keep_their_bounds(&format!("the table: {route:?}")).await;
        setup.table.set(Route::Open);
    }
}
