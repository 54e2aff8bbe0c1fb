//! Thousands of clients at the same time: the handler's memory, and what they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use test_servers::{Azurite, Redis};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::handler::{Handler, With};
use crate::report::against;

/// How many clients connect at the same time: more would overflow the queue of the listener.
const CONNECTING: usize = 200;

pub(crate) async fn measure() {
    println!("Memory of the handler with thousands of clients, in MB");
    let (azurite, redis) = (Azurite::start(), Redis::start());
    let with = || With { azurite: Some(&azurite), redis: Some(&redis), ..With::default() };
    let mut later = Vec::new();

    let clients = 4000;
    let handler = Handler::start(with()).await;
    let users = handler.client().await.create_users(clients).await;
    later.push(reads(handler, clients, users, "read a user each who is not cached", 100.0).await);

    let clients = 8000;
    let handler = Handler::start(with()).await;
    let users = handler.client().await.create_users(1).await;
    handler.client().await.send("GET", &users[0]).await.unwrap();
    later.push(reads(handler, clients, users, "read one user who is cached", 150.0).await);

    later.push(unfinished(Handler::start(with()).await, 5000).await);

    tokio::time::sleep(Duration::from_secs(60)).await;
    for Finished { handler, name, at_start } in &later {
        let now = handler.memory("VmRSS");
        println!("{name}: {at_start:.0} at the start, {now:.0} a minute later");
    }
    println!();
}

/// A handler whose clients have gone.
struct Finished {
    handler: Handler,
    name: String,
    at_start: f64,
}

/// All clients send a request at the same moment.
async fn reads(
    handler: Handler,
    clients: usize,
    users: Vec<String>,
    what: &str,
    limit: f64,
) -> Finished {
    let at_start = handler.memory("VmRSS");
    let (connecting, ready) =
        (Arc::new(Semaphore::new(CONNECTING)), Arc::new(Barrier::new(clients)));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (connecting, ready) = (Arc::clone(&connecting), Arc::clone(&ready));
        let (port, path) = (handler.port, users[client % users.len()].clone());
        tasks.spawn(async move {
            let permit = connecting.acquire_owned().await.unwrap();
            let mut client = Client::connect(port).await.unwrap();
            drop(permit);
            ready.wait().await;
            let begun = Instant::now();
            let answer = client.send("GET", &path).await.unwrap();
            let elapsed = begun.elapsed();
            ready.wait().await; // all connections stay open until the last answer
            (answer.status, elapsed)
        });
    }
    let (mut statuses, mut worst) = (BTreeMap::<u16, usize>::new(), Duration::ZERO);
    let mut sockets = 0;
    while !tasks.is_empty() {
        tokio::select! {
            Some(done) = tasks.join_next() => {
                let (status, elapsed) = done.unwrap();
                *statuses.entry(status).or_default() += 1;
                worst = worst.max(elapsed);
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                sockets = sockets.max(handler.sockets());
            }
        }
    }
    let name = format!("{clients} clients {what}");
    let peak = against(handler.memory("VmHWM"), limit);
    let statuses: Vec<_> =
        statuses.iter().map(|(status, number)| format!("{number} times {status}")).collect();
    println!(
        "{name}: {peak} at the highest, {} sockets; {}, the slowest after {:.2} s",
        sockets,
        statuses.join(", "),
        worst.as_secs_f64()
    );
    Finished { handler, name, at_start }
}

/// All clients send half a head, and wait until the handler closes the connection.
async fn unfinished(handler: Handler, clients: usize) -> Finished {
    let at_start = handler.memory("VmRSS");
    let connecting = Arc::new(Semaphore::new(CONNECTING));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (connecting, port) = (Arc::clone(&connecting), handler.port);
        tasks.spawn(async move {
            let permit = connecting.acquire_owned().await.unwrap();
            let mut client = Client::connect(port).await.unwrap();
            client.begin().await.unwrap();
            drop(permit);
            let begun = Instant::now();
            client.closed().await;
            begun.elapsed()
        });
    }
    let longest = tasks.join_all().await.into_iter().max().unwrap();
    let name = format!("{clients} clients never finish a head");
    println!(
        "{name}: {:.0} at the highest, all closed after at most {:.1} s",
        handler.memory("VmHWM"),
        longest.as_secs_f64()
    );
    Finished { handler, name, at_start }
}
