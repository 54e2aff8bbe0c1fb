//! Redis and the table fail in every possible way under traffic, and recover.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::connection_string;
use crate::support::handler::Handler;
use crate::support::{
    Answer, Azurite, Client, Redis, eventually, fresh_table, on_servers, settings, start,
};
use test_programs::table_proxy::{Call, Fate, Proxy};
use test_programs::tcp_proxy::{Route, TcpProxy};
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(20);

/// A handler whose connection to Redis can be broken.
struct Setup {
    client: Client,
    redis: Redis,
    line: TcpProxy,
    _azurite: Arc<Azurite>,
}

impl Setup {
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
        let setup = Self { client, redis, line, _azurite: azurite };
        setup.hits_again().await;
        setup
    }

    /// Waits until entries are served from Redis.
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
pub struct Traffic {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

/// What a writer must read after it has renamed its user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reads {
    /// The new name.
    Newest,
    /// Any name that it has written: a failover to a replica that was behind rolls Redis back.
    Written,
}

impl Traffic {
    async fn start(client: &Client) -> Self {
        Self::with(Reads::Newest, client).await
    }

    pub async fn with(reads: Reads, client: &Client) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for writer in 0..4 {
            let (client, stop, rounds) = (client.clone(), stop.clone(), rounds.clone());
            let path = client.create("0").await;
            tasks.spawn(async move {
                let (mut round, own) = (0, format!("{writer}-"));
                while !stop.load(Ordering::SeqCst) {
                    round += 1;
                    let name = format!("{own}{round}");
                    let renamed = client.patch(&path, format!(r#"{{"name":"{name}"}}"#)).await;
                    assert_eq!(renamed.status, 200, "{renamed:?}");
                    for _ in 0..2 {
                        let read = client.get(&path).await;
                        assert_eq!(read.status, 200, "{read:?}");
                        let old = read.name() == "0" || read.name().starts_with(&own);
                        let is_allowed = read.name() == name || reads == Reads::Written && old;
                        assert!(is_allowed, "{read:?} after {name}");
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

    /// Waits until there has been so much traffic that all writers have had their turn.
    pub async fn goes_on(&self) {
        let before = self.rounds.load(Ordering::SeqCst);
        eventually(LONG, "the traffic goes on", || async {
            self.rounds.load(Ordering::SeqCst) > before + 40
        })
        .await;
    }

    /// Ends it. A request that failed or returned old data fails the test here.
    pub async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no failed request, right data");
        }
    }
}

#[tokio::test]
async fn redis_stops_and_starts_again() {
    let mut setup = Setup::start().await;
    let traffic = Traffic::start(&setup.client).await;
    setup.redis.stop();
    setup.line.set(Route::Cut);
    traffic.goes_on().await;
    let health = setup.client.get("/api/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["status"], "degraded");
    assert_eq!(health.json()["cache"]["status"], "unreachable");
    let path = setup.client.create("Ann").await;
    let read = setup.client.get(&path).await;
    assert_eq!(read.header("cache-status"), "cache-aside; fwd=bypass; detail=cache-unavailable");

    setup.redis.restart();
    setup.line.set(Route::Open);
    setup.hits_again().await;
    traffic.goes_on().await;
    traffic.end().await;
    eventually(LONG, "the health report is good", || async {
        setup.client.get("/api/health").await.json()["status"] == "healthy"
    })
    .await;
}

#[tokio::test]
async fn redis_hangs_and_recovers() {
    let setup = Setup::start().await;
    let traffic = Traffic::start(&setup.client).await;
    setup.redis.signal("STOP");
    traffic.goes_on().await;
    setup.redis.signal("CONT");
    setup.hits_again().await;
    traffic.goes_on().await;
    traffic.end().await;
}

/// What was cached before is still in Redis when the connection works again. An entry that a write has
/// not been able to remove must not be returned.
#[tokio::test]
async fn the_connection_to_redis_is_cut_and_recovers() {
    let setup = Setup::start().await;
    let traffic = Traffic::start(&setup.client).await;
    for line in [Route::Cut, Route::Hung] {
        setup.line.set(line);
        traffic.goes_on().await;
        setup.line.set(Route::Open);
        setup.hits_again().await;
        traffic.goes_on().await;
    }
    traffic.end().await;
}

#[tokio::test]
async fn redis_is_full() {
    let setup = Setup::start().await;
    let traffic = Traffic::start(&setup.client).await;
    let limit = |bytes: &'static str| {
        let redis = &setup.redis;
        async move { redis.command::<()>(&["CONFIG", "SET", "maxmemory", bytes]).await }
    };
    limit("1").await;
    traffic.goes_on().await;
    limit("0").await;
    setup.hits_again().await;
    traffic.end().await;
}

#[tokio::test]
async fn redis_is_demoted_to_a_read_only_replica() {
    let setup = Setup::start().await;
    let traffic = Traffic::start(&setup.client).await;
    setup.redis.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    traffic.goes_on().await;
    setup.redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    setup.hits_again().await;
    traffic.goes_on().await;
    traffic.end().await;
}

#[tokio::test]
async fn redis_answers_loading_and_nonsense() {
    let setup = Setup::start().await;
    let traffic = Traffic::start(&setup.client).await;
    for answer in [
        &b"-LOADING Redis is loading the dataset in memory\r\n"[..],
        b"-READONLY You can't write against a read only replica.\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":7\r\n",
        b"$5\r\nhello\r\n",
        b"\x00\xff\xfe",
    ] {
        setup.line.set(Route::Answers(answer));
        traffic.goes_on().await;
        setup.line.set(Route::Open);
        setup.hits_again().await;
    }
    traffic.goes_on().await;
    traffic.end().await;
}

/// A handler with a table that can be broken, a user who is cached in Redis and one who is not.
struct TableSetup {
    client: Client,
    cached: String,
    uncached: String,
    _redis: Redis,
}

const TABLE_TIMEOUT: Duration = Duration::from_millis(600);

impl TableSetup {
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

    /// Checks that entries are served, and that everything else gets a 503, while the table does not
    /// work.
    async fn serves_only_entries(&self) {
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
            let body = answer.json();
            assert_eq!(body["status"], "Service unavailable");
            for internal in ["127.0.0.1", "devstoreaccount1", "azure"] {
                assert!(!answer.text.contains(internal), "{answer:?}");
            }
        }
        // Three calls, each within its time; as much again for a slow machine.
        assert!(begun.elapsed() < TABLE_TIMEOUT * 6, "{:?}", begun.elapsed());
        // An earlier report is reused for a second.
        eventually(LONG, "the health report says so", || async {
            let health = self.client.get("/api/health").await;
            health.status == 503
                && health.json()["status"] == "unhealthy"
                && health.json()["store"]["status"] == "unreachable"
        })
        .await;
        assert_eq!(self.client.get("/api/live").await.status, 200);
    }

    async fn works_again(&self) {
        eventually(LONG, "the table is used again", || async {
            self.client.get(&self.uncached).await.status == 200
        })
        .await;
        assert_eq!(self.client.patch(&self.uncached, r#"{"name":"Ann"}"#).await.status, 200);
        assert_eq!(self.client.get(&self.uncached).await.name(), "Ann");
        self.client.create("Bea").await;
        eventually(LONG, "the health report is good", || async {
            self.client.get("/api/health").await.json()["status"] == "healthy"
        })
        .await;
    }
}

#[tokio::test]
async fn the_table_stops_and_starts_again() {
    let azurite = Azurite::start();
    let setup = TableSetup::start(azurite.port).await;
    azurite.stop();
    setup.serves_only_entries().await;
    azurite.restart();
    setup.works_again().await;
}

#[tokio::test]
async fn the_table_hangs_and_recovers() {
    let azurite = Azurite::start();
    let setup = TableSetup::start(azurite.port).await;
    azurite.signal("STOP");
    setup.serves_only_entries().await;
    azurite.signal("CONT");
    setup.works_again().await;
}

#[tokio::test]
async fn the_table_answers_errors_and_nonsense() {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let setup = TableSetup::start(proxy.port).await;
    for (status, body) in [(500, ""), (503, "busy"), (200, "nonsense"), (302, ""), (404, "<html>")]
    {
        proxy.decide(move |_| Fate::Answer(status, body));
        if status == 200 {
            // A row that cannot be read is not an outage.
            assert_eq!(setup.client.get(&setup.uncached).await.status, 500);
            assert_eq!(setup.client.get(&setup.cached).await.status, 200);
            assert_eq!(setup.client.post("/api/users", "").await.status, 503);
        } else {
            setup.serves_only_entries().await;
        }
        proxy.decide(|_| Fate::Pass);
        eventually(LONG, "the table is used again", || async {
            setup.client.get("/api/health").await.json()["status"] == "healthy"
        })
        .await;
    }
    // The fence of a write with an unknown outcome lasts for 10 s; reads go past it.
    assert_eq!(setup.client.get(&setup.uncached).await.status, 200);
}

/// While the table cannot be reached, an expired entry is returned and marked as stale.
#[tokio::test]
async fn an_expired_entry_is_returned_while_the_table_cannot_be_reached() {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let client = start(&settings(&[
        ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
        ("USERS_TABLE_NAME", fresh_table()),
        ("CACHE_TTL", "300ms".to_owned()),
        ("CACHE_NEGATIVE_TTL", "0s".to_owned()),
    ]))
    .await;
    let path = client.create("Ann").await;
    client.get(&path).await;
    proxy.decide(|_| Fate::Answer(503, ""));
    eventually(LONG, "the entry expires", || async {
        client.get(&path).await.header("cache-status").contains("ttl=-")
    })
    .await;
    let stale = client.get(&path).await;
    assert_eq!((stale.status, &*stale.name(), &*stale.source()), (200, "Ann", "memory"));
    let marked = stale.header("cache-status");
    assert!(marked.starts_with("cache-aside; hit; ttl=-"), "{marked}");
    assert!(marked.ends_with("; detail=table-unavailable"), "{marked}");
}

/// 200 readers of a user who is not cached, in 3 processes, cause one load. (Two are possible if the
/// load takes longer than the second that other processes wait for it.)
#[tokio::test]
async fn a_burst_in_three_processes_causes_one_read_of_the_table() {
    let (redis, azurite) = (Redis::start(), Azurite::shared());
    let proxy = Proxy::in_front_of(azurite.port).await;
    let shared = on_servers(redis.port, proxy.port);
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

/// Without Redis nothing can be cached, and each process loads for itself. Readers that could not share
/// a load start again together.
#[tokio::test]
async fn a_burst_in_three_processes_without_redis_causes_few_reads_of_the_table() {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let shared = [
        ("REDIS_URL", "redis://127.0.0.1:1".to_owned()),
        ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
        ("USERS_TABLE_NAME", fresh_table()),
    ];
    let mut handlers = Vec::new();
    for _ in 0..3 {
        let handler = Handler::start(&shared).await;
        handler.line_with("is failing").await;
        handlers.push(handler);
    }
    let path = handlers[0].client.create("Cold").await;
    proxy.forget();
    let mut readers = JoinSet::new();
    for reader in 0..300 {
        let (client, path) = (handlers[reader % 3].client.clone(), path.clone());
        readers.spawn(async move { client.get(&path).await });
    }
    while let Some(read) = readers.join_next().await {
        let read = read.unwrap();
        assert_eq!((read.status, &*read.name()), (200, "Cold"));
    }
    let loads = proxy.count(Call::is_read);
    assert!(loads <= 15, "{loads} reads of the table");
}
