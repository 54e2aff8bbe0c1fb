//! Thousands of clients at the same time: the handler's memory, and what they are answered.

use std::collections::BTreeMap;
use std::time::Duration;

use test_servers::Redis;
use tokio::time::sleep;

use crate::crowd::{Crowd, Timed};
use crate::effort::Effort;
use crate::report::{Figure, Limit, Report};
use test_programs::program::{Program, Server, With};
use test_programs::table::{Table, user_ids};

pub(crate) const NAME: &str = "overload";

/// The ids of the users are those of this series.
const SERIES: char = 'V';
/// What the memory of a handler is measured with.
const MISSES: usize = 4000;
const HITS: usize = 8000;
const UNFINISHED: usize = 5000;

/// A handler, and what became of it.
struct Overloaded {
    handler: Server,
    name: String,
    limit: Option<Limit>,
    /// In megabytes.
    at_start: f64,
    at_most: f64,
    note: String,
}

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let wait = effort.of(60, 1);
    let (table, redis) = (Table::start().await, Redis::start());
    let users = user_ids(SERIES, MISSES);
    table.insert(&users).await;
    let start = || Program::Handler.start(With::servers(&table, &redis));
    eprintln!("{NAME}: {MISSES} reads of users who are not cached");
    let what = "read a user each who is not cached";
    let paths: Vec<_> = users.iter().map(|id| test_programs::table::path(id)).collect();
    let misses = read(start().await, MISSES, &paths, what, Limit::AtMost(100.0)).await;
    eprintln!("{NAME}: {HITS} reads of a user who is cached");
    let handler = start().await;
    let cached = [handler.user_in_redis().await];
    let what = "read one user who is cached";
    let hits = read(handler, HITS, &cached, what, Limit::AtMost(150.0)).await;
    eprintln!("{NAME}: {UNFINISHED} requests that are never finished");
    let unfinished = never_finish(start().await).await;
    eprintln!("{NAME}: what remains {wait} s later");
    sleep(Duration::from_secs(wait as u64)).await;
    let title = "memory of the handler with thousands of clients at the same time";
    report.add(NAME, title, figures(&[misses, hits, unfinished], wait));
}

/// All clients send a request at the same moment.
async fn read(
    handler: Server,
    clients: usize,
    paths: &[String],
    what: &str,
    limit: Limit,
) -> Overloaded {
    let at_start = handler.memory();
    let mut crowd = Crowd::connect(&[handler.port], clients).await;
    let answers = crowd.get(paths).await;
    let (at_most, sockets) = (handler.peak_memory(), handler.sockets());
    let name = format!("{clients} clients {what}");
    let note = format!("{sockets} sockets; {}", statuses(&answers));
    Overloaded { handler, name, limit: Some(limit), at_start, at_most, note }
}

/// How often each status was answered, and after how long the last one.
fn statuses(answers: &[Timed]) -> String {
    let mut statuses = BTreeMap::<u16, usize>::new();
    for timed in answers {
        *statuses.entry(timed.answer.status).or_default() += 1;
    }
    let statuses: Vec<_> =
        statuses.iter().map(|(status, number)| format!("{number} times {status}")).collect();
    let longest = answers.iter().map(|timed| timed.elapsed).max().unwrap_or_default();
    format!("{}, the last after {:.2} s", statuses.join(", "), longest.as_secs_f64())
}

/// All clients send half a head, and wait until the handler closes the connection.
async fn never_finish(handler: Server) -> Overloaded {
    let at_start = handler.memory();
    let longest = Crowd::connect(&[handler.port], UNFINISHED).await.never_finish().await;
    let name = format!("{UNFINISHED} clients never finish a head");
    let at_most = handler.peak_memory();
    let note = format!("all disconnected after at most {:.1} s", longest.as_secs_f64());
    Overloaded { handler, name, limit: None, at_start, at_most, note }
}

fn figures(all: &[Overloaded], wait: usize) -> Vec<Figure> {
    let memory = |it: &Overloaded, value: f64| Figure::new("memory", "MB", &*it.name, &[value]);
    let mut figures = Vec::new();
    figures.extend(all.iter().map(|it| memory(it, it.at_start).under("at the start")));
    figures.extend(all.iter().map(|it| {
        let figure = memory(it, it.at_most).under("at the highest").note(&*it.note);
        figure.limit_if_any(it.limit)
    }));
    let later = format!("{wait} s after they left");
    figures.extend(all.iter().map(|it| memory(it, it.handler.memory()).under(&*later)));
    figures
}
