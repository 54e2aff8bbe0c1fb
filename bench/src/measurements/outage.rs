//! What a read costs while Redis is out of reach, beside the table's own time.

use std::time::Instant;

use test_servers::Redis;

use crate::effort::Effort;
use crate::report::{Figure, Limit, Report, milliseconds};
use test_programs::client::Client;
use test_programs::program::{Program, With};
use test_programs::table::{Table, path, user_ids};

pub(crate) const NAME: &str = "outage";

/// The highest acceptable ratio to a read without Redis.
const LIMIT: Limit = Limit::RatioAtMost(1.05);
/// The ids of the users are those of this series.
const SERIES: char = 'Z';
/// The first reads find out that Redis does not answer.
const WARM_UP: usize = 10;

/// Reads each user once from each handler, in turn, so that every read goes to the table.
pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let number = effort.of(2000, 200);
    let table = Table::start().await;
    let (mut gone, hung) = (Redis::start(), Redis::start());
    let on = |redis| With::servers(&table, redis);
    let handlers = [
        ("in-process cache", Program::Handler.start(With { redis: None, ..on(&gone) }).await),
        ("Redis gone", Program::Handler.start(on(&gone)).await),
        ("Redis hung", Program::Handler.start(on(&hung)).await),
    ];
    gone.stop();
    hung.signal("STOP");
    let users = user_ids(SERIES, WARM_UP + number);
    table.insert(&users).await;
    let (warm_up, users) = users.split_at(WARM_UP);
    let mut clients = Vec::new();
    for (_, handler) in &handlers {
        let mut client = handler.client().await;
        for user in warm_up {
            timed_read(&mut client, user).await;
        }
        clients.push(client);
    }
    let mut times = vec![Vec::new(); clients.len()];
    eprintln!("{NAME}: {number} reads of each kind in turn");
    for (round, user) in users.iter().enumerate() {
        for turn in 0..clients.len() {
            // None of them is always the first to read a user.
            let which = (round + turn) % clients.len();
            times[which].push(timed_read(&mut clients[which], user).await);
        }
    }
    hung.signal("CONT");
    let figures = handlers.iter().zip(&times);
    let figures =
        figures.map(|((name, _), times)| Figure::new("time of a read", "ms", *name, times));
    let figures: Vec<_> = figures.collect();
    let title = format!(
        "reads of users who are not cached, one after the other; medians of {number} reads of each kind in turn (least and most)"
    );
    let compared =
        figures[1..].iter().map(|figure| figure.clone().beside(&figures[0]).limit(LIMIT));
    report.add(NAME, &title, figures[..1].iter().cloned().chain(compared).collect());
}

/// In milliseconds.
async fn timed_read(client: &mut Client, user: &str) -> f64 {
    let begun = Instant::now();
    let answer = client.get(&path(user)).await.unwrap();
    assert_eq!((answer.status, answer.source()), (200, "table"), "{user}: {}", answer.body);
    milliseconds(begun.elapsed())
}
