//! Redis and the table going away in mid-traffic, in every way they can, and coming back.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::handler::Handler;
use support::proxy::{Call, Fate, Proxy};
use support::servers::connection_string;
use support::tcp::{Line, TcpProxy};
use support::{Answer, Azurite, Client, Redis, eventually, fresh_table, settings, start};
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(20);

/// A handler with a line to Redis that can be broken.
struct Stand {
    client: Client,
    redis: Redis,
    line: TcpProxy,
    _azurite: Arc<Azurite>,
}

impl Stand {
    async fn start() -> Self {
        let (redis, azurite) = (Redis::start(), Azurite::shared());
        let line = TcpProxy::in_front_of(redis.port).await;
        let client = start(&settings(&[
            ("REDIS_URL", format!("redis://127.0.0.1:{}", line.port)),
            ("REDIS_TIMEOUT", "100ms".to_owned()),
            ("USERS_TABLE_CONNECTION", azurite.connection_string()),
            ("USERS_TABLE_NAME", fresh_table()),
        ]))
        .await;
        let stand = Self { client, redis, line, _azurite: azurite };
        stand.hits_again().await;
        stand
    }

    /// Entries are served from Redis.
    async fn hits_again(&self) {
        let path = self.client.create("Hit").await;
        eventually(LONG, "entries are served from Redis", || async {
            self.client.get(&path).await.source() == "redis"
        })
        .await;
    }
}

/// Writers, each of which renames a user of its own and reads it back, and readers of one user that
/// nobody changes.
struct Traffic {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Traffic {
    async fn start(client: &Client) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for writer in 0..4 {
            let (client, stop, rounds) = (client.clone(), stop.clone(), rounds.clone());
            let path = client.create("0").await;
            tasks.spawn(async move {
                let mut round = 0;
                while !stop.load(Ordering::SeqCst) {
                    round += 1;
                    let name = format!("{writer}-{round}");
                    let renamed = client.patch(&path, format!(r#"{{"name":"{name}"}}"#)).await;
                    assert_eq!(renamed.status, 200, "{renamed:?}");
                    for _ in 0..2 {
                        let read = client.get(&path).await;
                        assert_eq!((read.status, read.name()), (200, name.clone()), "{read:?}");
                    }
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let shared = client.create("Shared").await;
        for _ in 0..4 {
            let (client, stop, shared) = (client.clone(), stop.clone(), shared.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let read = client.get(&shared).await;
                    assert_eq!((read.status, &*read.name()), (200, "Shared"), "{read:?}");
                }
            });
        }
        let traffic = Self { stop, rounds, tasks };
        traffic.goes_on().await;
        traffic
    }

    /// Waits until so much traffic has gone through that all writers have had their turn.
    async fn goes_on(&self) {
        let before = self.rounds.load(Ordering::SeqCst);
        eventually(LONG, "the traffic goes on", || async {
            self.rounds.load(Ordering::SeqCst) > before + 40
        })
        .await;
    }

    /// Ends it; a request that failed, or was answered with old data, fails the test here.
    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no failed request, right data");
        }
    }
}

#[tokio::test]
async fn redis_stops_and_comes_back() {
    let mut stand = Stand::start().await;
    let traffic = Traffic::start(&stand.client).await;
    stand.redis.stop();
    stand.line.set(Line::Cut);
    traffic.goes_on().await;
    let health = stand.client.get("/api/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["status"], "degraded");
    assert_eq!(health.json()["cache"]["status"], "unreachable");
    let path = stand.client.create("Ann").await;
    let read = stand.client.get(&path).await;
    assert_eq!(read.header("cache-status"), "cache-aside; fwd=bypass; detail=cache-unavailable");

    stand.redis.restart();
    stand.line.set(Line::Open);
    stand.hits_again().await;
    traffic.goes_on().await;
    traffic.end().await;
    eventually(LONG, "health is well", || async {
        stand.client.get("/api/health").await.json()["status"] == "healthy"
    })
    .await;
}

#[tokio::test]
async fn redis_hangs_and_comes_back() {
    let stand = Stand::start().await;
    let traffic = Traffic::start(&stand.client).await;
    stand.redis.signal("STOP");
    traffic.goes_on().await;
    stand.redis.signal("CONT");
    stand.hits_again().await;
    traffic.goes_on().await;
    traffic.end().await;
}

/// What was cached before is still in Redis when the line is back: none of it may be answered where
/// a write has not been able to remove it.
#[tokio::test]
async fn the_line_to_redis_is_cut_and_comes_back() {
    let stand = Stand::start().await;
    let traffic = Traffic::start(&stand.client).await;
    for line in [Line::Cut, Line::Hung] {
        stand.line.set(line);
        traffic.goes_on().await;
        stand.line.set(Line::Open);
        stand.hits_again().await;
        traffic.goes_on().await;
    }
    traffic.end().await;
}

#[tokio::test]
async fn redis_is_full() {
    let stand = Stand::start().await;
    let traffic = Traffic::start(&stand.client).await;
    let limit = |bytes: &'static str| {
        let redis = &stand.redis;
        async move { redis.command::<()>(&["CONFIG", "SET", "maxmemory", bytes]).await }
    };
    limit("1").await;
    traffic.goes_on().await;
    limit("0").await;
    stand.hits_again().await;
    traffic.end().await;
}

#[tokio::test]
async fn redis_is_demoted_to_a_read_only_replica() {
    let stand = Stand::start().await;
    let traffic = Traffic::start(&stand.client).await;
    stand.redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    traffic.goes_on().await;
    stand.redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    stand.hits_again().await;
    traffic.goes_on().await;
    traffic.end().await;
}

#[tokio::test]
async fn redis_answers_loading_and_nonsense() {
    let stand = Stand::start().await;
    let traffic = Traffic::start(&stand.client).await;
    for answer in [
        &b"-LOADING Redis is loading the dataset in memory\r\n"[..],
        b"-READONLY You can't write against a read only replica.\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":7\r\n",
        b"$5\r\nhello\r\n",
        b"\x00\xff\xfe",
    ] {
        stand.line.set(Line::Answers(answer));
        traffic.goes_on().await;
        stand.line.set(Line::Open);
        stand.hits_again().await;
    }
    traffic.goes_on().await;
    traffic.end().await;
}

/// A handler in front of a table that can be broken, with a user in Redis and one that is not.
struct TableStand {
    client: Client,
    cached: String,
    uncached: String,
    _redis: Redis,
}

const TABLE_TIMEOUT: Duration = Duration::from_millis(600);

impl TableStand {
    async fn start(table_port: u16) -> Self {
        let redis = Redis::start();
        let client = start(&settings(&[
            ("REDIS_URL", redis.url()),
            ("USERS_TABLE_CONNECTION", connection_string(table_port)),
            ("USERS_TABLE_NAME", fresh_table()),
            ("TABLE_TIMEOUT", "600ms".to_owned()),
            ("CACHE_TTL", "60s".to_owned()),
        ]))
        .await;
        let (cached, uncached) = (client.create("Cached").await, client.create("Uncached").await);
        client.get(&cached).await;
        Self { client, cached, uncached, _redis: redis }
    }

    /// The table cannot be used: entries are served, the rest is told to come back.
    async fn is_down(&self) {
        for _ in 0..3 {
            let read = self.client.get(&self.cached).await;
            assert_eq!((read.status, &*read.source()), (200, "redis"));
        }
        let begun = Instant::now();
        let name = r#"{"name":"New"}"#;
        let answers: [Answer; 3] = [
            self.client.get(&self.uncached).await,
            self.client.post("/api/users", name).await,
            self.client.patch(&self.uncached, name).await,
        ];
        for answer in &answers {
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.header("retry-after"), "1");
            let told = answer.json();
            assert_eq!(told["status"], "Service unavailable");
            for internal in ["127.0.0.1", "devstoreaccount1", "azure"] {
                assert!(!answer.text.contains(internal), "{answer:?}");
            }
        }
        // Three calls, each within its bound; as much again for a slow machine.
        assert!(begun.elapsed() < TABLE_TIMEOUT * 6, "{:?}", begun.elapsed());
        // An answer from before is told again for a second.
        eventually(LONG, "health tells", || async {
            let health = self.client.get("/api/health").await;
            health.status == 503
                && health.json()["status"] == "unhealthy"
                && health.json()["store"]["status"] == "unreachable"
        })
        .await;
        assert_eq!(self.client.get("/api/live").await.status, 200);
    }

    async fn is_well(&self) {
        eventually(LONG, "the table is used again", || async {
            self.client.get(&self.uncached).await.status == 200
        })
        .await;
        assert_eq!(self.client.patch(&self.uncached, r#"{"name":"Ann"}"#).await.status, 200);
        assert_eq!(self.client.get(&self.uncached).await.name(), "Ann");
        self.client.create("Bea").await;
        eventually(LONG, "health is well", || async {
            self.client.get("/api/health").await.json()["status"] == "healthy"
        })
        .await;
    }
}

#[tokio::test]
async fn the_table_stops_and_comes_back() {
    let azurite = Azurite::start();
    let stand = TableStand::start(azurite.port).await;
    azurite.stop();
    stand.is_down().await;
    azurite.restart();
    stand.is_well().await;
}

#[tokio::test]
async fn the_table_hangs_and_comes_back() {
    let azurite = Azurite::start();
    let stand = TableStand::start(azurite.port).await;
    azurite.signal("STOP");
    stand.is_down().await;
    azurite.signal("CONT");
    stand.is_well().await;
}

#[tokio::test]
async fn the_table_answers_errors_and_nonsense() {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let stand = TableStand::start(proxy.port).await;
    for (status, body) in [(500, ""), (503, "busy"), (200, "nonsense"), (302, ""), (404, "<html>")]
    {
        proxy.decide(move |_| Fate::Answer(status, body));
        if status == 200 {
            // A row that cannot be read is no user, and no outage.
            assert_eq!(stand.client.get(&stand.uncached).await.status, 500);
            assert_eq!(stand.client.get(&stand.cached).await.status, 200);
            assert_eq!(stand.client.post("/api/users", "").await.status, 503);
        } else {
            stand.is_down().await;
        }
        proxy.decide(|_| Fate::Pass);
        eventually(LONG, "the table is used again", || async {
            stand.client.get("/api/health").await.json()["status"] == "healthy"
        })
        .await;
    }
    // A fence stands for its 10s where a write's outcome was unknown; reads go past it.
    assert_eq!(stand.client.get(&stand.uncached).await.status, 200);
}

/// While the table is out of reach, what was read and has expired is answered, and marked.
#[tokio::test]
async fn an_expired_entry_is_answered_while_the_table_is_out_of_reach() {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let client = start(&settings(&[
        ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
        ("USERS_TABLE_NAME", fresh_table()),
        ("TABLE_TIMEOUT", "300ms".to_owned()),
        ("CACHE_TTL", "300ms".to_owned()),
        ("CACHE_NEGATIVE_TTL", "0s".to_owned()),
    ]))
    .await;
    let path = client.create("Ann").await;
    client.get(&path).await;
    proxy.decide(|_| Fate::Answer(503, ""));
    tokio::time::sleep(Duration::from_millis(1400)).await;
    let stale = client.get(&path).await;
    assert_eq!((stale.status, &*stale.name(), &*stale.source()), (200, "Ann", "memory"));
    let marked = stale.header("cache-status");
    assert!(marked.starts_with("cache-aside; hit; ttl=-"), "{marked}");
    assert!(marked.ends_with("; detail=table-unavailable"), "{marked}");
}

/// 200 readers of one cold user through 3 processes: one load. (Two can happen: where a load takes
/// longer than the second that other processes wait for it, or where its process dies.)
#[tokio::test]
async fn a_burst_through_three_processes_costs_the_table_one_read() {
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let proxy = Proxy::in_front_of(azurite.port).await;
    let shared = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "1s".to_owned()),
        ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
        ("USERS_TABLE_NAME", fresh_table()),
    ];
    let mut handlers = Vec::new();
    for _ in 0..3 {
        handlers.push(Handler::start(&shared).await);
    }
    let path = handlers[0].client.create("Cold").await;
    proxy.forget();
    let mut readers = JoinSet::new();
    for reader in 0..200 {
        let (client, path) = (handlers[reader % 3].client.clone(), path.clone());
        readers.spawn(async move { client.get(&path).await });
    }
    while let Some(read) = readers.join_next().await {
        let read = read.unwrap();
        assert_eq!((read.status, &*read.name()), (200, "Cold"));
    }
    assert_eq!(proxy.count(Call::is_read), 1);
}
