//! Each trouble that `docs/operate.md` tells apart is made to happen, and is recognized by the metrics alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::handler::Handler;
use crate::support::receiver::Receiver;
use crate::support::{Azurite, Client, Redis, eventually};
use crate::telemetry::{connected, settings};
use test_programs::table_proxy::{Call, Fate, Proxy};

const LONG: Duration = Duration::from_secs(30);
/// How long the table takes in all of these tests, so that several readers find the same load in progress.
const LOAD: Duration = Duration::from_millis(30);

/// What is wrong, by the columns of the guide's table.
#[derive(Debug, PartialEq)]
enum Trouble {
    Redis,
    Table,
    HotKey,
    Overload,
}

/// The metrics that the guide looks at, since the handler's start.
#[derive(Clone, Copy, Debug)]
struct Metrics {
    circuit_open: i64,
    bypasses: i64,
    misses: i64,
    collapsed: i64,
    table_calls: i64,
    table_failures: i64,
    refused: i64,
}

impl Metrics {
    fn of(receiver: &Receiver) -> Self {
        let sum = |name, attributes: &[(&str, &str)]| receiver.sum(name, attributes).unwrap_or(0);
        let reads = |outcome| sum("cache_aside.reads", &[("cache_aside.outcome", outcome)]);
        let calls = |attributes: &[(&str, &str)]| {
            receiver.count("http.client.request.duration", attributes) as i64
        };
        Self {
            circuit_open: sum("cache_aside.redis.circuit.open", &[]),
            bypasses: reads("bypass"),
            misses: reads("miss"),
            collapsed: reads("collapsed"),
            table_calls: calls(&[]),
            table_failures: calls(&[("error.type", "timeout")])
                + calls(&[("error.type", "connection")]),
            refused: sum("cache_aside.table.calls.refused", &[]),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            circuit_open: self.circuit_open,
            bypasses: self.bypasses - before.bypasses,
            misses: self.misses - before.misses,
            collapsed: self.collapsed - before.collapsed,
            table_calls: self.table_calls - before.table_calls,
            table_failures: self.table_failures - before.table_failures,
            refused: self.refused - before.refused,
        }
    }

    /// The trouble whose column of the guide's table has these values.
    fn trouble(self) -> Option<Trouble> {
        if self.circuit_open > 0 && self.bypasses > 0 {
            Some(Trouble::Redis)
        } else if 2 * self.table_failures > self.table_calls {
            Some(Trouble::Table)
        } else if self.refused > 0 {
            Some(Trouble::Overload)
        } else if self.collapsed > self.misses {
            Some(Trouble::HotKey)
        } else {
            None
        }
    }
}

/// A handler, and what it exports.
struct Setup {
    handler: Handler,
    redis: Redis,
    proxy: Proxy,
    receiver: Receiver,
    /// The paths of users.
    users: Vec<String>,
    _azurite: Arc<Azurite>,
}

impl Setup {
    async fn start() -> Self {
        let (redis, azurite, receiver) =
            (Redis::start(), Azurite::shared(), Receiver::start().await);
        let proxy = Proxy::in_front_of(azurite.port).await;
        let mut settings = settings(&receiver, redis.port, proxy.port);
        settings.retain(|(name, _)| !name.ends_with("_TTL"));
        settings.extend([
            ("CACHE_TTL", "300ms".to_owned()),
            ("CACHE_NEGATIVE_TTL", "0s".to_owned()),
            ("TABLE_TIMEOUT", "900ms".to_owned()),
            ("TABLE_CALLS", "2".to_owned()),
            ("TABLE_QUEUE", "8".to_owned()),
        ]);
        let handler = connected(&settings).await;
        let mut users = Vec::new();
        for _ in 0..40 {
            users.push(handler.client.create("Ann").await);
        }
        proxy.decide(|_| Fate::Delay(LOAD));
        Self { handler, redis, proxy, receiver, users, _azurite: azurite }
    }

    /// As many readers, each of one user after the other of these, and a writer. Ends when it is dropped.
    fn traffic(&self, readers: usize, users: usize) -> JoinSet<()> {
        let mut traffic = JoinSet::new();
        for reader in 0..readers {
            let (client, users) = (self.handler.client.clone(), self.users[..users].to_vec());
            traffic.spawn(read(client, users, reader));
        }
        let (client, user) = (self.handler.client.clone(), self.users[0].clone());
        traffic.spawn(async move {
            loop {
                client.patch(&user, r#"{"name":"Bob"}"#).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        traffic
    }

    /// Waits until the metrics have told for a while, and always, what is wrong.
    async fn shows(&self, expected: Option<Trouble>) {
        let before = Metrics::of(&self.receiver);
        let now = || Metrics::of(&self.receiver).since(before);
        eventually(LONG, &format!("the metrics show {expected:?}"), async || {
            now().table_calls > 10 && now().trouble() == expected
        })
        .await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(now().trouble(), expected, "{:?}", now());
        }
    }
}

async fn read(client: Client, users: Vec<String>, first: usize) {
    for user in users.iter().cycle().skip(first) {
        client.get(user).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn redis_and_the_table_are_told_apart_and_from_ordinary_traffic() {
    let mut setup = Setup::start().await;
    let _traffic = setup.traffic(2, 5);
    setup.shows(None).await;
    setup.redis.stop();
    setup.shows(Some(Trouble::Redis)).await;
    setup.redis.restart();
    eventually(LONG, "Redis is used again", async || {
        Metrics::of(&setup.receiver).circuit_open == 0
    })
    .await;
    setup.shows(None).await;
    setup.proxy.decide(|call: &Call| if call.is_read() { Fate::Swallow } else { Fate::Pass });
    setup.shows(Some(Trouble::Table)).await;
}

#[tokio::test]
async fn a_hot_key_and_overload_are_told_apart() {
    let setup = Setup::start().await;
    let hot_key = setup.traffic(30, 1);
    setup.shows(Some(Trouble::HotKey)).await;
    drop(hot_key);
    let _more_than_the_table_takes = setup.traffic(30, 40);
    setup.shows(Some(Trouble::Overload)).await;
}
