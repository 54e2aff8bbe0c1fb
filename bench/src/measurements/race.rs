//! Reads of a user who is being changed: how many are stale, and how many go backwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use test_servers::Redis;
use tokio::time::sleep;

use crate::effort::Effort;
use crate::report::{Figure, Limit, Report, rounds};
use test_programs::client::Client;
use test_programs::program::{Program, Server, With};
use test_programs::table::{Table, path, user_id};

pub(crate) const NAME: &str = "race";

const READERS: usize = 16;
/// The ids of the users are those of this series.
const SERIES: char = 'R';
/// The table may apply a write whose outcome is unknown until this time has passed. A write that came
/// before that could be undone by it.
const LATE: Duration = Duration::from_secs(5);

/// A program, what the report calls it, and its settings.
type Subject = (Program, &'static str, &'static [(&'static str, &'static str)]);

const SUBJECTS: [Subject; 5] = [
    (Program::Handler, "handler", &[]),
    (Program::Handler, "handler, local copies", &[("CACHE_LOCAL_TTL", "100ms")]),
    (Program::Axum, "axum", &[]),
    (Program::Node, "Node.js", &[]),
    (Program::Python, "Python", &[]),
];

/// An operation that succeeded, and the number that it wrote or read.
#[derive(Clone, Copy)]
struct Operation {
    begun: Instant,
    ended: Instant,
    number: u64,
}

/// What happened in a race.
#[derive(Default)]
struct History {
    writes: Vec<Operation>,
    reads: Vec<Operation>,
    /// Reads and writes without an answer or with another one than 200.
    failed: usize,
}

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let seconds = effort.of(30, 3);
    let table = Table::start().await;
    let mut figures = Vec::new();
    for nth in rounds(NAME, SUBJECTS.len()) {
        let (program, name, settings) = SUBJECTS[nth];
        let id = user_id(SERIES, nth);
        table.insert(std::slice::from_ref(&id)).await;
        let redis = Redis::start();
        let with = With { settings, ..With::servers(&table, &redis) };
        let servers = [program.start(with).await, program.start(with).await];
        let history = race(&servers, &path(&id), Duration::from_secs(seconds as u64)).await;
        figures.push(history.figures(program, name));
    }
    let title = format!(
        "one writer and {READERS} readers of one user for {seconds} s, over 2 processes on one Redis"
    );
    // One table for each quantity.
    let quantities = figures[0].len();
    let by_quantity =
        (0..quantities).flat_map(|nth| figures.iter().map(move |all| all[nth].clone()));
    report.add(NAME, &title, by_quantity.collect());
}

/// Reads and writes for this time.
async fn race(servers: &[Server; 2], path: &str, time: Duration) -> History {
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    let ports = [servers[0].port, servers[1].port];
    tasks.spawn(write(ports, path.to_owned(), Arc::clone(&ends)));
    for port in ports.into_iter().cycle().take(READERS) {
        tasks.spawn(read(port, path.to_owned(), Arc::clone(&ends)));
    }
    sleep(time).await;
    ends.store(true, Ordering::Relaxed);
    let mut all = History::default();
    for History { writes, reads, failed } in tasks.join_all().await {
        all.writes.extend(writes);
        all.reads.extend(reads);
        all.failed += failed;
    }
    all
}

/// Writes 1, 2, 3 and so on, each as soon as the one before is answered, through both servers in turn.
async fn write(ports: [u16; 2], path: String, ends: Arc<AtomicBool>) -> History {
    let mut clients = [None, None];
    let mut history = History::default();
    for number in 1.. {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let turn = number as usize % 2;
        let client = connected(&mut clients[turn], ports[turn]).await;
        let begun = Instant::now();
        match client.rename(&path, &number.to_string()).await {
            Ok(answer) if answer.status == 200 => {
                history.writes.push(Operation { begun, ended: Instant::now(), number });
            }
            failure => {
                // It may have been applied, so nothing follows from it.
                history.failed += 1;
                if failure.is_err() {
                    clients[turn] = None;
                }
                sleep(LATE).await;
            }
        }
    }
    history
}

async fn read(port: u16, path: String, ends: Arc<AtomicBool>) -> History {
    let mut client = None;
    let mut history = History::default();
    while !ends.load(Ordering::Relaxed) {
        let reader = connected(&mut client, port).await;
        let begun = Instant::now();
        match reader.get(&path).await {
            Ok(answer) if answer.status == 200 => {
                // Before the first write the name is not a number.
                let (ended, number) = (Instant::now(), answer.name().parse().unwrap_or(0));
                history.reads.push(Operation { begun, ended, number });
            }
            failure => {
                history.failed += 1;
                if failure.is_err() {
                    client = None;
                }
            }
        }
    }
    history
}

async fn connected(client: &mut Option<Client>, port: u16) -> &mut Client {
    if client.is_none() {
        *client = Some(Client::connect(port).await.expect("a connection"));
    }
    client.as_mut().expect("it was connected")
}

impl History {
    /// The reads that returned less than a write that had been answered before they began.
    fn stale(&self) -> usize {
        behind(&self.reads, &self.writes)
    }

    /// The reads that returned less than a read that had ended before they began.
    fn backwards(&self) -> usize {
        behind(&self.reads, &self.reads)
    }

    fn figures(&self, program: Program, name: &str) -> Vec<Figure> {
        let figure = |quantity, number: usize| Figure::new(quantity, "", name, &[number as f64]);
        let reads = figure("reads", self.reads.len());
        assert!(reads.median > 0.0 && !self.writes.is_empty(), "{name}: no reads or no writes");
        let none = |quantity, number: usize| {
            let limit = (program == Program::Handler).then_some(Limit::AtMost(0.0));
            figure(quantity, number).beside_value("all reads", reads.median).limit_if_any(limit)
        };
        vec![
            none("stale reads", self.stale()),
            none("reads that go backwards", self.backwards()),
            reads,
            figure("writes", self.writes.len()),
            figure("failed reads and writes", self.failed),
        ]
    }
}

/// How many of the operations have a lesser number than one of the others that had ended before they
/// began.
fn behind(operations: &[Operation], others: &[Operation]) -> usize {
    let mut others: Vec<_> = others.iter().map(|other| (other.ended, other.number)).collect();
    others.sort();
    // From now on, each has the greatest number of those that had ended by then.
    let mut greatest = 0;
    for (_, number) in &mut others {
        greatest = greatest.max(*number);
        *number = greatest;
    }
    let is_behind = |operation: &&Operation| {
        let earlier = others.partition_point(|(ended, _)| *ended < operation.begun);
        earlier > 0 && operation.number < others[earlier - 1].1
    };
    operations.iter().filter(is_behind).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations as (begin, end, number).
    fn operations(all: &[(u64, u64, u64)]) -> Vec<Operation> {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        all.iter()
            .map(|&(begun, ended, number)| Operation { begun: at(begun), ended: at(ended), number })
            .collect()
    }

    fn behind(operations_: &[(u64, u64, u64)], others: &[(u64, u64, u64)]) -> usize {
        let all: Vec<_> = operations_.iter().chain(others).copied().collect();
        let all = operations(&all); // with the same start
        let (operations, others) = all.split_at(operations_.len());
        super::behind(operations, others)
    }

    #[test]
    fn a_read_is_stale_only_if_the_write_was_answered_before_it_began() {
        let writes = [(0, 10, 1), (20, 30, 2)];
        assert_eq!(behind(&[(11, 12, 0)], &writes), 1);
        assert_eq!(behind(&[(31, 32, 1), (31, 40, 2)], &writes), 1);
        // They overlap with the write, or see it early.
        assert_eq!(behind(&[(9, 35, 0), (29, 35, 1), (21, 22, 2)], &writes), 0);
    }

    #[test]
    fn a_read_goes_backwards_only_after_one_that_had_ended() {
        let reads = [(0, 10, 5), (5, 6, 4), (11, 12, 4), (13, 14, 5)];
        assert_eq!(behind(&reads, &reads), 1);
    }

    #[test]
    fn the_greatest_earlier_number_counts_whatever_came_after() {
        // A read that is itself backwards does not lower the bar.
        let reads = [(0, 1, 7), (2, 3, 3), (4, 5, 6)];
        assert_eq!(behind(&reads, &reads), 2);
    }
}
