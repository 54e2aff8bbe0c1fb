//! Hits with more and more users in Redis.

use std::time::Duration;

use test_servers::Redis;

use crate::effort::Effort;
use crate::load::{Load, Requests, in_turn, rates};
use crate::report::{Figure, Limit, Report};
use test_programs::program::{LONG, Program, Server, With};
use test_programs::table::{Table, path, user_id};

pub(crate) const NAME: &str = "growth";

const CONNECTIONS: usize = 64;
/// The ids of the users are those of this series, which `spread.lua` reads.
const SERIES: char = 'G';
/// The lowest acceptable ratio of the most users to one.
const LIMIT: Limit = Limit::RatioAtLeast(0.80);
/// How many keys are set in one go.
const BATCH: usize = 10_000;

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let sizes = [1, 1000, effort.of(1_000_000, 100_000)];
    let (number, seconds) = (effort.of(5, 2), effort.of(3, 1));
    let table = Table::start().await;
    let (mut running, mut loads) = (Vec::new(), Vec::new());
    for users in sizes {
        eprintln!("{NAME}: {users} users into Redis");
        let redis = Redis::start();
        let with = With { ttl: LONG, ..With::servers(&table, &redis) };
        let server = Program::Handler.start(with).await;
        fill(&redis, &server, users).await;
        let requests = Requests::Spread { port: server.port, users };
        loads.push(Load { requests, connections: CONNECTIONS, seconds });
        running.push((server, redis));
    }
    // The table has none of these users, so that a miss would be answered with 404, and wrk would fail.
    let speeds = in_turn(NAME, number, &loads).await;
    let rate = |users: usize, speeds| Figure::new("hits", "/s", name(users), &rates(speeds));
    let one = rate(sizes[0], &speeds[0]);
    let mut figures = vec![one.clone()];
    for (users, speeds) in sizes.iter().zip(&speeds).skip(1) {
        let limit = (*users == sizes[2]).then_some(LIMIT);
        figures.push(rate(*users, speeds).beside(&one).limit_if_any(limit));
    }
    let title = format!(
        "hits in Redis of users at random, {CONNECTIONS} connections; medians of {number} rounds of {seconds} s in turn (least and most)"
    );
    report.add(NAME, &title, figures);
}

fn name(users: usize) -> String {
    match users {
        1 => "1 user".to_owned(),
        number => format!("{number} users"),
    }
}

/// Puts users into Redis: copies of what the handler itself has cached, with other ids.
async fn fill(redis: &Redis, server: &Server, users: usize) {
    let of_handler = server.user_in_redis().await.replace("/api/users/", "");
    let keys: Vec<String> = redis.command(&["KEYS", &format!("*{of_handler}")]).await;
    let entry: String = redis.command(&["GET", &keys[0]]).await;
    assert!(entry.contains(&of_handler), "{entry}");
    let milliseconds: i64 = redis.command(&["PTTL", &keys[0]]).await;
    assert!(milliseconds > Duration::from_secs(60 * 60).as_millis() as i64, "{milliseconds}");
    let mut connection = redis.connection().await;
    for batch in (0..users).collect::<Vec<_>>().chunks(BATCH) {
        let mut pipeline = redis::pipe();
        for n in batch {
            let id = user_id(SERIES, *n);
            let (key, entry) = (keys[0].replace(&of_handler, &id), entry.replace(&of_handler, &id));
            let set = pipeline.cmd("SET").arg(key).arg(entry);
            set.arg("PX").arg(milliseconds).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await.expect("Redis");
    }
    let last = path(&user_id(SERIES, users - 1));
    let hit = server.client().await.get(&last).await.unwrap();
    assert_eq!((hit.status, hit.source()), (200, "redis"), "GET {last}: {}", hit.body);
}
