//! What the programs need: time to start, memory, and disk.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use test_servers::Redis;
use tokio::time::{sleep, timeout};

use crate::crowd::Crowd;
use crate::effort::Effort;
use crate::load::{Load, Requests};
use crate::report::{Figure, Limit, Report, milliseconds, rounds};
use test_programs::client::Client;
use test_programs::program::{LONG, Program, Server, With};
use test_programs::table::Table;

pub(crate) const NAME: &str = "footprint";

const IDLE_CLIENTS: usize = 4000;
/// The highest acceptable ratio to the start of Python.
const START_LIMIT: Limit = Limit::RatioAtMost(1.0 / 20.0);
/// The highest acceptable ratio to the memory of the leanest peer that has a garbage collector.
const MEMORY_LIMIT: Limit = Limit::RatioAtMost(1.0 / 3.0);

/// What was measured of a program.
struct Footprint {
    program: Program,
    /// From the start of the program to its first answer, in milliseconds.
    starts: Vec<f64>,
    /// Half a second after that, in megabytes.
    at_rest: Vec<f64>,
    after_load: f64,
    /// How many requests that load was.
    requests: f64,
    with_clients: f64,
    /// How many sockets it then had; fewer than clients if it has disconnected some.
    sockets: usize,
}

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let number = effort.of(9, 2);
    let (table, redis) = (Table::start().await, Redis::start());
    let with = With { ttl: LONG, ..With::servers(&table, &redis) };
    let mut footprints = Program::ALL.map(Footprint::of);
    for _ in rounds(NAME, number) {
        for footprint in &mut footprints {
            let (server, start) = first_answer(footprint.program, with).await;
            footprint.starts.push(milliseconds(start));
            sleep(Duration::from_millis(500)).await;
            footprint.at_rest.push(server.memory());
        }
    }
    for footprint in &mut footprints {
        eprintln!("{NAME}: load on {}", footprint.program.name());
        // The peers have the same keys: each must find its own entries only.
        redis.command::<()>(&["FLUSHALL"]).await;
        footprint.measure_after_load(with, effort).await;
        footprint.measure_with_clients(with).await;
    }
    let title = format!(
        "one process of each program; start and memory at rest are medians of {number} rounds in turn (least and most)"
    );
    report.add(NAME, &title, figures(&footprints));
}

/// Starts a program. Returns how long it took until it answered `GET /api/live`.
async fn first_answer(program: Program, with: With<'_>) -> (Server, Duration) {
    let begun = Instant::now();
    let server = program.spawn(with);
    let answered = async {
        loop {
            let Ok(mut client) = Client::connect(server.port).await else {
                sleep(Duration::from_millis(1)).await;
                continue;
            };
            if client.get("/api/live").await.is_ok_and(|answer| answer.status == 200) {
                return begun.elapsed();
            }
        }
    };
    let elapsed = timeout(Duration::from_secs(30), answered).await;
    let elapsed = elapsed.unwrap_or_else(|_| panic!("{} does not answer", program.name()));
    (server, elapsed)
}

impl Footprint {
    fn of(program: Program) -> Self {
        Self {
            program,
            starts: Vec::new(),
            at_rest: Vec::new(),
            after_load: 0.0,
            requests: 0.0,
            with_clients: 0.0,
            sockets: 0,
        }
    }

    /// After a million hits, or as many as there are in a bounded time.
    async fn measure_after_load(&mut self, with: With<'_>, effort: Effort) {
        let server = self.program.start(with).await;
        let (port, path) = (server.port, server.user_in_redis().await);
        let load = Load { requests: Requests::Path { port, path }, connections: 64, seconds: 5 };
        for _ in 0..effort.of(10, 1) {
            self.requests += load.run().await.requests;
            if self.requests >= 1e6 {
                break;
            }
        }
        self.after_load = server.memory();
    }

    /// While thousands of clients are connected, each of which has read a user who is cached.
    async fn measure_with_clients(&mut self, with: With<'_>) {
        let server = self.program.start(with).await;
        let path = server.user_in_redis().await;
        let mut clients = Crowd::connect(&[server.port], IDLE_CLIENTS).await;
        for timed in clients.get(&[path]).await {
            assert_eq!(timed.answer.status, 200, "{:?}: {}", self.program, timed.answer.body);
        }
        sleep(Duration::from_secs(1)).await;
        self.with_clients = server.memory();
        self.sockets = server.sockets();
    }

    /// The memory in each state, with its note.
    fn memory(&self) -> [(&'static str, Vec<f64>, String); 3] {
        let requests = format!("after {:.0} requests", self.requests);
        let sockets = format!("{} sockets", self.sockets);
        [
            ("at rest", self.at_rest.clone(), String::new()),
            ("after a million hits", vec![self.after_load], requests),
            ("4000 idle clients", vec![self.with_clients], sockets),
        ]
    }
}

fn figures(footprints: &[Footprint; 4]) -> Vec<Figure> {
    let start =
        |it: &Footprint| Figure::new("start to first answer", "ms", it.program.name(), &it.starts);
    let [handler, .., python] = footprints;
    let mut figures = vec![start(handler).beside(&start(python)).limit(START_LIMIT)];
    figures.extend(footprints[1..].iter().map(start));
    for state in 0..3 {
        figures.extend(memory_figures(footprints, state));
    }
    figures.extend(footprints.iter().map(|it| {
        let megabytes = size(&it.program.installed()) as f64 / 1024.0 / 1024.0;
        let figure = Figure::new("size on disk", "MB", it.program.name(), &[megabytes]);
        match it.program {
            Program::Handler | Program::Axum => figure.note("the program"),
            Program::Node | Program::Python => figure.note("its packages, without the runtime"),
        }
    }));
    figures
}

fn memory_figures(footprints: &[Footprint], state: usize) -> Vec<Figure> {
    let figure = |it: &Footprint| {
        let (condition, values, note) = it.memory()[state].clone();
        let figure = Figure::new("memory", "MB", it.program.name(), &values).under(condition);
        if note.is_empty() { figure } else { figure.note(note) }
    };
    let has_collector = |it: &&Footprint| matches!(it.program, Program::Node | Program::Python);
    let collected = footprints.iter().filter(has_collector).map(figure);
    let leanest = collected.min_by(|a, b| a.median.total_cmp(&b.median)).expect("two of them");
    let ours = figure(&footprints[0]).beside(&leanest).limit(MEMORY_LIMIT);
    [ours].into_iter().chain(footprints[1..].iter().map(figure)).collect()
}

/// The bytes of a file, or of all files in a folder.
fn size(path: &Path) -> u64 {
    let metadata = fs::metadata(path);
    let metadata = metadata.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs::read_dir(path).expect("a folder that can be read").flatten();
    // What a link leads to is somewhere else, or is counted there.
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    entries.map(|entry| size(&entry.path())).sum()
}
