//! What a write costs, beside a bare update of the table.

use std::time::{Duration, Instant};

use test_servers::Redis;

use crate::effort::Effort;
use crate::report::{Figure, Report, milliseconds, rounds};
use test_programs::client::Client;
use test_programs::program::{Program, With};
use test_programs::table::{Table, path, user_id};

pub(crate) const NAME: &str = "writes";

/// How many writes of those that do not wait are in a round.
const WRITES: usize = 20;
/// The ids of the users are those of this series.
const SERIES: char = 'W';

/// How long other handlers may use local copies, and as a setting. A write waits that long.
const LOCAL_TTLS: [(&str, Duration, &str); 3] = [
    ("handler", Duration::ZERO, "0s"),
    ("handler, local copies of 100 ms", Duration::from_millis(100), "100ms"),
    ("handler, local copies of 1 s", Duration::from_secs(1), "1s"),
];

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let number = effort.of(15, 2);
    let (table, redis) = (Table::start().await, Redis::start());
    let id = user_id(SERIES, 0);
    table.insert(std::slice::from_ref(&id)).await;
    let (mut handlers, mut clients) = (Vec::new(), Vec::new());
    for (_, _, setting) in LOCAL_TTLS {
        // They must agree on how long copies are used, so each has keys of its own.
        let prefix = format!("{setting}:");
        let settings = [("CACHE_LOCAL_TTL", setting), ("CACHE_KEY_PREFIX", &prefix)];
        let with = With { settings: &settings, ..With::servers(&table, &redis) };
        let handler = Program::Handler.start(with).await;
        clients.push(handler.client().await);
        handlers.push(handler);
    }
    let (mut bare, mut times) = (Vec::new(), vec![Vec::new(); clients.len()]);
    for round in rounds(NAME, number) {
        for _ in 0..WRITES {
            let begun = Instant::now();
            table.rename(&id, &round.to_string()).await;
            bare.push(milliseconds(begun.elapsed()));
        }
        for ((client, times), (_, local_ttl, _)) in
            clients.iter_mut().zip(&mut times).zip(LOCAL_TTLS)
        {
            let writes = if local_ttl.is_zero() { WRITES } else { 1 };
            for _ in 0..writes {
                times.push(timed_write(client, &id, round).await);
            }
        }
    }
    let title = format!(
        "changes of one user, one after the other; medians of {number} rounds in turn (least and most), of {WRITES} writes each where they do not wait for local copies"
    );
    report.add(NAME, &title, figures(&bare, &times));
}

/// In milliseconds.
async fn timed_write(client: &mut Client, id: &str, name: usize) -> f64 {
    let begun = Instant::now();
    let answer = client.rename(&path(id), &name.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "PATCH: {}", answer.body);
    milliseconds(begun.elapsed())
}

fn figures(bare: &[f64], times: &[Vec<f64>]) -> Vec<Figure> {
    let bare = |quantity| Figure::new(quantity, "ms", "bare update of the table", bare);
    let (whole, without_wait) = ("time of a write", "time of a write, without its wait");
    let mut figures = vec![bare(whole)];
    for ((name, ..), times) in LOCAL_TTLS.iter().zip(times) {
        figures.push(Figure::new(whole, "ms", *name, times).beside(&bare(whole)));
    }
    figures.push(bare(without_wait));
    for ((name, wait, _), times) in LOCAL_TTLS.iter().zip(times) {
        let rest: Vec<f64> = times.iter().map(|time| time - milliseconds(*wait)).collect();
        figures.push(Figure::new(without_wait, "ms", *name, &rest).beside(&bare(without_wait)));
    }
    figures
}
