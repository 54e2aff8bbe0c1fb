//! More calls than the table can answer, and what the log says of an outage.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::handler::Handler;
use crate::support::{Answer, Azurite, Client, connection_string, eventually, fresh_table};
use crate::support::{settings, start};
use test_programs::table_proxy::{Call, Fate, Proxy};

const LONG: Duration = Duration::from_secs(20);

async fn behind_proxy(given: &[(&str, &str)]) -> (Client, Proxy, Arc<Azurite>) {
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let mut all = vec![
        ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
        ("USERS_TABLE_NAME", fresh_table()),
    ];
    all.extend(given.iter().map(|(name, value)| (*name, (*value).to_owned())));
    (start(&settings(&all)).await, proxy, azurite)
}

fn is_rename(call: &Call) -> bool {
    call.method.as_str() == "MERGE"
}

/// Two calls are in progress, two wait, and all others are answered at once: with a copy if there is
/// one, and else with 503. Nothing is sent for them.
#[tokio::test]
async fn calls_above_the_limits_are_answered_at_once() {
    let (client, proxy, _azurite) = behind_proxy(&[
        ("TABLE_CALLS", "2"),
        ("TABLE_QUEUE", "2"),
        ("TABLE_TIMEOUT", "10s"),
        ("CACHE_LEASE_TTL", "20s"),
        ("CACHE_FENCE_TTL", "30s"),
        ("CACHE_TTL", "100ms"),
        ("CACHE_NEGATIVE_TTL", "0s"),
    ])
    .await;
    let mut users = Vec::new();
    for _ in 0..10 {
        users.push(client.create("Ann").await);
    }
    let copied = client.create("Bea").await;
    assert_eq!(client.get(&copied).await.status, 200);
    let ttl = tokio::time::sleep(Duration::from_millis(110));

    proxy.forget();
    let (open, gate) = watch::channel(false);
    proxy.decide(move |_| Fate::Hold(gate.clone()));
    let mut reads = JoinSet::new();
    for user in users.clone() {
        let client = client.clone();
        reads.spawn(async move { client.get(&user).await });
    }
    let busy = |answer: Answer| {
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
        assert!(answer.text.contains("nothing was changed"), "{answer:?}");
    };
    for _ in 0..6 {
        busy(reads.join_next().await.unwrap().unwrap());
    }
    ttl.await;
    let stale = client.get(&copied).await;
    assert_eq!((stale.status, &*stale.name()), (200, "Bea"));
    assert!(stale.header("cache-status").contains("detail=table-unavailable"), "{stale:?}");
    busy(client.patch(&users[0], r#"{"name":"Cleo"}"#).await);
    busy(client.post("/api/users", "").await);
    eventually(LONG, "two calls are in progress", async || proxy.count(|_| true) == 2).await;
    assert_eq!(reads.len(), 4);

    open.send(true).unwrap();
    while let Some(read) = reads.join_next().await {
        assert_eq!(read.unwrap().status, 200);
    }
    assert_eq!(proxy.count(Call::is_read), 4);
    assert_eq!(client.patch(&users[0], r#"{"name":"Cleo"}"#).await.status, 200);
}

/// The setting arrives at the server; what the server does with it is tested in `custom-handler`.
#[tokio::test]
async fn the_number_of_connections_is_bounded() {
    let handler = Handler::start(&[("HANDLER_CONNECTIONS", "1".to_owned())]).await;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut byte = [0];
    let mut first = TcpStream::connect(("127.0.0.1", handler.port)).await.unwrap();
    first.write_all(request).await.unwrap();
    first.read_exact(&mut byte).await.unwrap();
    handler.line_with("the limit of 1 open connections is reached").await;
    let mut second = TcpStream::connect(("127.0.0.1", handler.port)).await.unwrap();
    second.write_all(request).await.unwrap();
    drop(first);
    tokio::time::timeout(LONG, second.read_exact(&mut byte)).await.expect("it is served").unwrap();
}

/// Attempts that take longer than a third of the time are repeated, but not while they do so one after
/// the other: a slow table would be asked three times as often. The one attempt then has all the time.
#[tokio::test]
async fn a_slow_table_is_asked_once_for_each_call() {
    let (client, proxy, _azurite) = behind_proxy(&[("TABLE_TIMEOUT", "1500ms")]).await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(client.create("Ann").await);
    }
    let asked = async |user: &str| {
        proxy.forget();
        (client.get(user).await.status, proxy.count(Call::is_read))
    };
    proxy.decide(|_| Fate::Delay(Duration::from_millis(800)));
    assert_eq!(asked(&users[0]).await, (503, 3), "nothing is known yet");
    assert_eq!(asked(&users[1]).await, (503, 2), "five attempts have been slow");
    assert_eq!(asked(&users[2]).await, (200, 1), "it is slow, but it answers");
    proxy.decide(|_| Fate::Swallow);
    assert_eq!(asked(&users[3]).await, (503, 1));
    // A write is never repeated, and has its whole time in any case.
    proxy.decide(|_| Fate::Delay(Duration::from_millis(800)));
    assert_eq!(client.patch(&users[3], r#"{"name":"Bea"}"#).await.status, 200);
    assert_eq!(proxy.count(is_rename), 1);

    proxy.decide(|_| Fate::Pass);
    assert_eq!(asked(&users[4]).await, (200, 1));
    proxy.decide_once(Call::is_read, Fate::Swallow);
    assert_eq!(asked(&users[0]).await, (200, 2), "it is not slow any more");
}

#[tokio::test]
async fn an_outage_of_the_table_is_a_few_lines_in_the_log() {
    const READS: usize = 150;
    let azurite = Azurite::shared();
    let proxy = Proxy::in_front_of(azurite.port).await;
    let mut handler = Handler::start(&[
        ("USERS_TABLE_CONNECTION", connection_string(proxy.port)),
        ("USERS_TABLE_NAME", fresh_table()),
        ("TABLE_TIMEOUT", "300ms".to_owned()),
    ])
    .await;
    handler.line_with("connected to the table").await;
    let lines = Arc::clone(&handler.lines);
    let errors = |text: &str| -> Vec<String> {
        let lines = lines.lock().unwrap();
        let lines = lines.iter().map(|(_, line)| line.clone());
        lines.filter(|line| line.contains("ERROR") && line.contains(text)).collect()
    };
    proxy.decide(|_| Fate::Answer(503, "busy"));
    let mut reads = JoinSet::new();
    for _ in 0..READS {
        let client = handler.client.clone();
        reads.spawn(async move {
            let id = ulid::Ulid::generate();
            client.get(&format!("/api/users/{id}")).await.status
        });
    }
    while let Some(status) = reads.join_next().await {
        assert_eq!(status.unwrap(), 503);
    }
    assert_eq!(errors("is failing: 503").len(), 1);
    proxy.decide(|_| Fate::Pass);
    eventually(LONG, "it works again", async || {
        handler.client.post("/api/users", "").await;
        handler.logged("works again, after")
    })
    .await;
    // What has been folded is written at the latest when the handler ends.
    handler.signal("TERM");
    assert!(handler.ended().await.success());
    let of_reads = errors("the store is unavailable");
    let folded = of_reads.iter().filter_map(|line| {
        let (_, count) = line.split_once("(the last of ")?;
        count.split(' ').next()?.parse::<usize>().ok()
    });
    assert_eq!(1 + folded.sum::<usize>(), READS, "none is lost: {of_reads:#?}");
    let all = errors("");
    assert!(all.len() <= 6, "{all:#?}");
}
