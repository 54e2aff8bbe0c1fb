//! Redis as people have it: a cluster and sentinels whose master is killed under traffic, the
//! connection string that Azure shows, and a server that is only compatible with Redis.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use redis::{Parser, Value};

use crate::outages::{Reads, Traffic};
use crate::support::handler::Handler;
use crate::support::identity::Certificate;
use crate::support::{
    Azurite, Client, Redis, RedisCluster, RedisSentinels, eventually, fresh_table,
};

const LONG: Duration = Duration::from_secs(60);

/// After this time without an answer a master is replaced.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// A handler on this Redis and on Azurite. Its keys begin with `t:`.
async fn handler(redis_url: String) -> (Handler, Arc<Azurite>) {
    let azurite = Azurite::shared();
    let handler = Handler::start(&[
        ("REDIS_URL", redis_url),
        ("REDIS_TIMEOUT", "1s".to_owned()),
        ("CACHE_KEY_PREFIX", "t:".to_owned()),
        ("USERS_TABLE_CONNECTION", azurite.connection_string()),
        ("USERS_TABLE_NAME", fresh_table()),
    ])
    .await;
    (handler, azurite)
}

/// Waits until this user is served from Redis.
async fn is_a_hit(client: &Client, path: &str) {
    eventually(LONG, "the entry is served from Redis", || async {
        client.get(path).await.source() == "redis"
    })
    .await;
}

/// A user whose key belonged to this master at the start.
async fn user_on(cluster: &RedisCluster, master: usize, client: &Client) -> String {
    loop {
        let path = client.create("Ann").await;
        let id = path.rsplit('/').next().unwrap();
        if cluster.first_master_of(&format!("t:user:{id}")).await == master {
            return path;
        }
    }
}

#[tokio::test]
async fn a_master_of_a_cluster_is_killed_under_traffic() {
    let mut cluster = RedisCluster::start(DOWN_AFTER).await;
    let (handler, _azurite) = handler(cluster.url()).await;
    let client = &handler.client;
    for killed in 0..2 {
        let user = user_on(&cluster, killed, client).await;
        is_a_hit(client, &user).await;
        let traffic = Traffic::with(Reads::Written, client).await;
        cluster.nodes[killed].stop();
        traffic.goes_on().await;
        cluster.is_promoted(3 + killed).await;
        is_a_hit(client, &user).await;

        // It comes back as a replica, without its slots.
        cluster.nodes[killed].restart();
        traffic.goes_on().await;
        is_a_hit(client, &user).await;
        traffic.end().await;
    }
    // It is reported, but not each time that another node's keys work.
    handler.line_with("works again").await;
    let reported = handler.count_of("works again");
    assert!((1..=2).contains(&reported), "{reported} times in two failovers");
    // The client library warns of every attempt, thousands of times in a failover.
    let warnings = handler.count_of("WARN ");
    assert!((2..=30).contains(&warnings), "{warnings} lines of warnings");
}

#[tokio::test]
async fn a_master_that_sentinels_watch_is_killed_under_traffic() {
    let (server, sentinel) = (("ann", "of@the,servers"), ("eve", "of+the/sentinels"));
    let mut redis = RedisSentinels::start(DOWN_AFTER, server, sentinel).await;
    let url = |server: &str, sentinel: &str| {
        format!(
            "redis-sentinel://ann:{server}@{}/{}?sentinel_username=eve&sentinel_password={sentinel}",
            redis.addresses(),
            RedisSentinels::NAME
        )
    };
    let right = ("of%40the%2Cservers", "of%2Bthe%2Fsentinels");
    let (handler, _azurite) = handler(url(right.0, right.1)).await;
    let client = &handler.client;
    let user = client.create("Ann").await;
    is_a_hit(client, &user).await;

    // A lost connection is made again at once.
    redis.master.command::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    is_a_hit(client, &user).await;
    assert!(!handler.logged("is failing"));

    // The other sentinels are enough, although this one is asked first.
    redis.hang_a_sentinel();
    let traffic = Traffic::with(Reads::Written, client).await;
    redis.master.stop();
    traffic.goes_on().await;
    redis.replica_is_promoted().await;
    is_a_hit(client, &user).await;
    // It comes back, and becomes a replica of the server that took its place.
    redis.master.restart();
    traffic.goes_on().await;
    is_a_hit(client, &user).await;
    traffic.end().await;
}

#[tokio::test]
async fn wrong_passwords_of_servers_and_of_sentinels_are_reported_and_not_shown() {
    let redis = RedisSentinels::start(DOWN_AFTER, ("ann", "secret"), ("eve", "secret")).await;
    for (server, sentinel) in [("hunter2", "secret"), ("secret", "hunter2")] {
        let (handler, _azurite) = handler(format!(
            "redis-sentinel://ann:{server}@{}/{}?sentinel_username=eve&sentinel_password={sentinel}",
            redis.addresses(),
            RedisSentinels::NAME
        ))
        .await;
        let line = handler.line_with("is failing").await;
        assert!(line.contains("uthentication"), "{line}");
        let path = handler.client.create("Ann").await;
        let read = handler.client.get(&path).await;
        assert_eq!((read.status, &*read.source()), (200, "table"));
        assert!(!handler.logged("hunter2"));
    }
}

/// Sentinels and the server are reached over TLS. The certificate has names, so the sentinel must
/// announce the server's name.
#[tokio::test]
async fn sentinels_and_the_server_are_reached_over_tls() {
    let certificate = Certificate::new();
    let (redis, server_port) = certificate.redis_with_tls();
    let (sentinel_port, tls) = certificate.tls_port();
    let name = RedisSentinels::NAME;
    let mut configuration = format!(
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n\
         sentinel monitor {name} localhost {server_port} 1\ntls-replication yes\n"
    );
    configuration.extend(tls.iter().map(|(option, value)| format!("{option} {value}\n")));
    let _sentinel = Redis::sentinel(&configuration);
    let handler = Handler::start(&[
        certificate.trust(),
        ("REDIS_URL", format!("rediss-sentinel://localhost:{sentinel_port}/{name}/3")),
    ])
    .await;
    let path = handler.client.create("Ann").await;
    is_a_hit(&handler.client, &path).await;
    let keyspace: String = redis.command(&["INFO", "keyspace"]).await;
    assert!(keyspace.contains("db3:"), "{keyspace}");
}

/// What the Azure portal shows, for a Redis with TLS and a password.
#[tokio::test]
async fn the_connection_string_of_the_azure_portal_is_accepted() {
    let certificate = Certificate::new();
    let (redis, port) = certificate.redis_with_tls();
    redis.command::<()>(&["CONFIG", "SET", "requirepass", "a/b+c="]).await;
    let settings = |password: &str| {
        [
            certificate.trust(),
            (
                "REDIS_URL",
                format!("localhost:{port},password={password},ssl=True,abortConnect=False"),
            ),
            ("REDIS_TIMEOUT", "1s".to_owned()),
        ]
    };
    let handler = Handler::start(&settings("a/b+c=")).await;
    let path = handler.client.create("Ann").await;
    is_a_hit(&handler.client, &path).await;

    let handler = Handler::start(&settings("hunter2")).await;
    handler.line_with("is failing").await;
    assert!(!handler.logged("hunter2"));
}

/// A stand-in that answers as Garnet does: it holds nothing, and says what it is.
struct Garnet {
    port: u16,
    is_loading: Arc<AtomicBool>,
}

impl Garnet {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_loading = Arc::<AtomicBool>::default();
        let state = is_loading.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let state = state.clone();
                thread::spawn(move || Self::answer(client.unwrap(), &state));
            }
        });
        Self { port, is_loading }
    }

    fn answer(mut client: TcpStream, is_loading: &AtomicBool) {
        let mut commands = BufReader::new(client.try_clone().unwrap());
        let mut parser = Parser::new();
        while let Ok(Value::Array(words)) = parser.parse_value(&mut commands) {
            let answer: &[u8] = match &words[0] {
                _ if is_loading.load(Ordering::SeqCst) => b"-LOADING in progress\r\n",
                Value::BulkString(name) if name == b"HELLO" => {
                    b"*8\r\n$6\r\nserver\r\n$5\r\nredis\r\n$14\r\ngarnet_version\r\n$5\r\n2.2.0\r\n\
                      $5\r\nproto\r\n:2\r\n$7\r\nmodules\r\n*0\r\n"
                }
                _ => b"$-1\r\n",
            };
            if client.write_all(answer).is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn garnet_causes_one_warning_about_the_flags_that_it_needs() {
    let garnet = Garnet::start();
    let url = format!("redis://127.0.0.1:{}", garnet.port);
    let handler = Handler::start(&[("REDIS_URL", url)]).await;
    let line = handler.line_with("Garnet 2.2.0").await;
    for expected in ["WARN", "--lua ", "--lua-transaction-mode"] {
        assert!(line.contains(expected), "{line}");
    }

    // A new connection does not repeat it.
    let path = handler.client.create("Ann").await;
    garnet.is_loading.store(true, Ordering::SeqCst);
    handler.client.get(&path).await;
    handler.line_with("is failing").await;
    garnet.is_loading.store(false, Ordering::SeqCst);
    handler.line_with("works again").await;
    let health = handler.client.get("/api/health").await;
    assert_eq!(health.json()["cache"]["status"], "ok", "{health:?}");
    assert_eq!(handler.count_of("Garnet"), 1);
}
