//! Misses, beside reads of the table with a bare client.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use test_servers::Redis;

use crate::effort::Effort;
use crate::report::{Figure, Limit, Report, rounds};
use test_programs::client::Client;
use test_programs::program::{Program, Server, With};
use test_programs::table::{Table, path, user_ids};

pub(crate) const NAME: &str = "misses";

/// How many users are read at the same time.
const CONCURRENCY: usize = 16;
/// The ids of the users are those of this series.
const SERIES: char = 'M';
/// The lowest acceptable ratio to a bare client.
const LIMIT: Limit = Limit::RatioAtLeast(0.90);

/// Reads users who are not cached.
enum Subject {
    BareClient,
    Program { program: Program, server: Server, _redis: Redis },
}

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let (number, users) = (effort.of(15, 3), 400);
    let table = Table::start().await;
    let ids = user_ids(SERIES, (number + 1) * users);
    let mut subjects = vec![Subject::BareClient];
    for program in Program::ALL {
        let redis = Redis::start();
        let server = program.start(With::servers(&table, &redis)).await;
        subjects.push(Subject::Program { program, server, _redis: redis });
    }
    let (warm_up, ids) = ids.split_at(users);
    table.insert(warm_up).await;
    for subject in &subjects {
        subject.misses_per_second(&table, warm_up).await;
    }
    table.delete(warm_up).await;
    let mut rates = vec![Vec::new(); subjects.len()];
    for (round, ids) in rounds(NAME, number).zip(ids.chunks(users)) {
        // Azurite searches all rows for one: with those of all rounds, its own time would hide ours.
        table.insert(ids).await;
        for turn in 0..subjects.len() {
            // None of them is always the first to read a user.
            let which = (round + turn) % subjects.len();
            rates[which].push(subjects[which].misses_per_second(&table, ids).await);
        }
        table.delete(ids).await;
    }
    let title = format!(
        "{users} users, each read once with {CONCURRENCY} connections; medians of {number} rounds in turn (least and most)"
    );
    report.add(NAME, &title, figures(&subjects, &rates));
}

impl Subject {
    fn name(&self) -> &'static str {
        match self {
            Self::BareClient => "bare client of the table",
            Self::Program { program, .. } => program.name(),
        }
    }

    async fn misses_per_second(&self, table: &Table, ids: &[String]) -> f64 {
        match self {
            Self::BareClient => {
                let begun = Instant::now();
                let read = async |id: &String| assert!(table.read(id).await.is_some());
                stream::iter(ids).for_each_concurrent(CONCURRENCY, read).await;
                ids.len() as f64 / begun.elapsed().as_secs_f64()
            }
            Self::Program { server, .. } => misses_per_second(server, ids).await,
        }
    }
}

async fn misses_per_second(server: &Server, ids: &[String]) -> f64 {
    let mut clients = Vec::new();
    for _ in 0..CONCURRENCY {
        clients.push(server.client().await);
    }
    let begun = Instant::now();
    let next = &std::sync::Mutex::new(ids.iter());
    let read = async |mut client: Client| {
        let next_id = || next.lock().unwrap().next();
        while let Some(id) = next_id() {
            let answer = client.get(&path(id)).await.unwrap();
            assert_eq!((answer.status, answer.source()), (200, "table"), "{}", answer.body);
        }
    };
    stream::iter(clients).for_each_concurrent(None, read).await;
    ids.len() as f64 / begun.elapsed().as_secs_f64()
}

fn figures(subjects: &[Subject], rates: &[Vec<f64>]) -> Vec<Figure> {
    let figures = subjects.iter().zip(rates);
    let mut figures =
        figures.map(|(subject, rates)| Figure::new("misses", "/s", subject.name(), rates));
    let bare = figures.next().expect("the bare client is first");
    let ours = figures.next().expect("the handler is second").beside(&bare).limit(LIMIT);
    let peers = figures.map(|figure| figure.beside(&bare));
    [bare.clone(), ours].into_iter().chain(peers.collect::<Vec<_>>()).collect()
}
