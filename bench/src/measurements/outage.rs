//! What a read costs while Redis is out of reach, beside the table's own time.

use std::time::{Duration, Instant};

use test_servers::{Azurite, Redis};

use crate::client::Client;
use crate::handler::{Handler, With};
use crate::report::{against, median, milliseconds};

const USERS: usize = 2000;
/// The highest acceptable ratio to a read without Redis.
const LIMIT: f64 = 1.05;

/// Reads each user once from each handler, in turn, so that every read goes to the table.
pub(crate) async fn measure() {
    println!("A read of a user who is not cached, {USERS} reads of each kind in turn; medians");
    let azurite = Azurite::start();
    let with = |redis| With { azurite: Some(&azurite), redis, ..With::default() };
    let (mut gone, hung) = (Redis::start(), Redis::start());
    let handlers = [
        ("in-process cache", Handler::start(with(None)).await),
        ("Redis gone", Handler::start(with(Some(&gone))).await),
        ("Redis hung", Handler::start(with(Some(&hung))).await),
    ];
    gone.stop();
    hung.signal("STOP");
    let mut clients = Vec::new();
    for (_, handler) in &handlers {
        let mut client = handler.client().await;
        // The first reads find out that Redis does not answer.
        for path in client.create_users(10).await {
            client.send("GET", &path).await.unwrap();
        }
        clients.push(client);
    }
    let users = clients[0].create_users(USERS).await;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for (round, user) in users.iter().enumerate() {
        for turn in 0..clients.len() {
            // None of them is always the first to read a user.
            let which = (round + turn) % clients.len();
            times[which].push(timed_read(&mut clients[which], user).await);
        }
    }
    hung.signal("CONT");
    let base = median(&times[0]).as_secs_f64();
    for ((name, _), times) in handlers.iter().zip(&times) {
        let median = median(times);
        let ratio = median.as_secs_f64() / base;
        let ratio = if *name == handlers[0].0 { "1".to_owned() } else { against(ratio, LIMIT) };
        println!("{name:<20} {:8.3} ms  {ratio}", milliseconds(median));
    }
    println!();
}

async fn timed_read(client: &mut Client, path: &str) -> Duration {
    let begun = Instant::now();
    let answer = client.send("GET", path).await.unwrap();
    assert_eq!(answer.status, 200, "GET {path}");
    begun.elapsed()
}
