//! Hits, beside a constant answer of the same server and Redis itself.

use test_servers::Redis;

use crate::effort::Effort;
use crate::load::{Load, Requests, Speed, in_turn, rates, values};
use crate::report::{Figure, Limit, Report};
use test_programs::program::{LONG, Program, Server, With};
use test_programs::table::Table;

pub(crate) const NAME: &str = "hits";

/// How many connections the limits are for.
const LIMITED: usize = 64;

const LOCAL: (&str, &str) = ("CACHE_LOCAL_TTL", "1s");

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Handler(Answers, Log),
    RedisItself,
}

/// Where the handler's answers come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Constant,
    Redis,
    InProcess,
    LocalCopy,
}

/// What the handler logs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Errors,
    /// A line for each request, as by default.
    Requests,
}

/// The handlers: on Redis, in process, and on Redis with local copies.
type Servers = [Server; 3];

/// The speeds of a subject with a number of connections.
struct Row {
    subject: Subject,
    connections: usize,
    speeds: Vec<Speed>,
}

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let (connections, logs) = match effort {
        Effort::Full => (&[1, LIMITED, 256][..], &[Log::Errors, Log::Requests][..]),
        Effort::Quick => (&[LIMITED][..], &[Log::Errors][..]),
    };
    let (number, seconds) = (effort.of(5, 3), effort.of(2, 1));
    let (table, redis) = (Table::start().await, Redis::start());
    let (mut running, mut subjects) = (Vec::new(), Vec::new());
    for log in logs {
        let servers = start(&table, &redis, *log).await;
        subjects.extend(of_handlers(&servers, *log).await);
        running.push(servers);
    }
    subjects.push(of_redis(&redis, &subjects).await);
    let (mut rows, mut loads) = (Vec::new(), Vec::new());
    for &connections in connections {
        for (subject, requests) in &subjects {
            rows.push(Row { subject: *subject, connections, speeds: Vec::new() });
            loads.push(Load { requests: requests.clone(), connections, seconds });
        }
    }
    for (row, speeds) in rows.iter_mut().zip(in_turn(NAME, number, &loads).await) {
        row.speeds = speeds;
    }
    let title = format!(
        "reads of one user who is cached, and GETs of the same entry by redis-benchmark; medians of {number} rounds of {seconds} s in turn (least and most)"
    );
    let tables = rows.chunk_by(|a, b| a.connections == b.connections);
    report.add(NAME, &title, tables.flat_map(figures).collect());
}

async fn start(table: &Table, redis: &Redis, log: Log) -> Servers {
    let level = match log {
        Log::Errors => ("RUST_LOG", "error"),
        Log::Requests => ("RUST_LOG", "info"),
    };
    let settings = [level, LOCAL];
    let on_redis = With { ttl: LONG, settings: &settings[..1], ..With::servers(table, redis) };
    [
        Program::Handler.start(on_redis).await,
        Program::Handler.start(With { redis: None, ..on_redis }).await,
        Program::Handler.start(With { settings: &settings, ..on_redis }).await,
    ]
}

/// A constant answer, and the hits of each handler.
async fn of_handlers(servers: &Servers, log: Log) -> Vec<(Subject, Requests)> {
    let live = Requests::Path { port: servers[0].port, path: "/api/live".to_owned() };
    let mut subjects = vec![(Subject::Handler(Answers::Constant, log), live)];
    let hits = [Answers::Redis, Answers::InProcess, Answers::LocalCopy];
    for (server, answers) in servers.iter().zip(hits) {
        let (path, hit) = server.cached_user().await;
        let is_local = hit.cache_status.ends_with("; detail=local");
        let source = if answers == Answers::Redis { "redis" } else { "memory" };
        let expected = (source, answers == Answers::LocalCopy);
        assert_eq!((hit.source(), is_local), expected, "{}: {}", answers.name(), hit.body);
        let requests = Requests::Path { port: server.port, path };
        subjects.push((Subject::Handler(answers, log), requests));
    }
    subjects
}

/// Redis itself, asked for what the handler asks for.
async fn of_redis(redis: &Redis, handlers: &[(Subject, Requests)]) -> (Subject, Requests) {
    let Requests::Path { path, .. } = &handlers[1].1 else { panic!("hits in Redis are second") };
    let pattern = path.replace("/api/users/", "*");
    let keys: Vec<String> = redis.command(&["KEYS", &pattern]).await;
    let requests = Requests::Redis { port: redis.port, key: keys[0].clone() };
    (Subject::RedisItself, requests)
}

impl Answers {
    fn name(self) -> &'static str {
        match self {
            Answers::Constant => "constant answer",
            Answers::Redis => "Redis",
            Answers::InProcess => "in process",
            Answers::LocalCopy => "local copy",
        }
    }

    /// The lowest acceptable ratio to a constant answer.
    fn limit(self) -> Option<Limit> {
        match self {
            Answers::Constant | Answers::InProcess => None,
            Answers::Redis => Some(Limit::RatioAtLeast(0.70)),
            Answers::LocalCopy => Some(Limit::RatioAtLeast(0.90)),
        }
    }
}

impl Subject {
    fn name(self) -> String {
        match self {
            Subject::Handler(answers, Log::Errors) => answers.name().to_owned(),
            Subject::Handler(answers, Log::Requests) => format!("{}, logged", answers.name()),
            Subject::RedisItself => "Redis itself".to_owned(),
        }
    }
}

impl Row {
    fn figure(&self, quantity: &'static str, unit: &'static str, values: &[f64]) -> Figure {
        let condition = match self.connections {
            1 => "1 connection".to_owned(),
            number => format!("{number} connections"),
        };
        Figure::new(quantity, unit, self.subject.name(), values).under(condition)
    }

    fn rate(&self) -> Figure {
        self.figure("requests", "/s", &rates(&self.speeds))
    }

    /// The rate beside what it is compared with: without the log line, or a constant answer.
    fn compared(&self, rows: &[Row]) -> Figure {
        let other = |answers| find(rows, Subject::Handler(answers, Log::Errors)).rate();
        match self.subject {
            Subject::Handler(Answers::Constant, Log::Errors) => self.rate(),
            Subject::Handler(answers, Log::Requests) => self.rate().beside(&other(answers)),
            Subject::RedisItself => self.rate().beside(&other(Answers::Constant)),
            Subject::Handler(answers, Log::Errors) => {
                let limit = answers.limit().filter(|_| self.connections == LIMITED);
                self.rate().beside(&other(Answers::Constant)).limit_if_any(limit)
            }
        }
    }

    /// What the line for each request costs: the time between two answers with it, minus that without.
    fn price_of_the_line(&self, rows: &[Row]) -> Option<Figure> {
        let Subject::Handler(answers, Log::Requests) = self.subject else { return None };
        let without = &find(rows, Subject::Handler(answers, Log::Errors)).speeds;
        let microseconds = |speed: &Speed| 1e6 / speed.per_second;
        let pairs = self.speeds.iter().zip(without);
        let prices: Vec<f64> =
            pairs.map(|(with, without)| microseconds(with) - microseconds(without)).collect();
        Some(self.figure("price of the log line of a request", "µs", &prices))
    }
}

fn find(rows: &[Row], subject: Subject) -> &Row {
    rows.iter().find(|row| row.subject == subject).expect("a subject that is measured")
}

/// The figures with one number of connections.
fn figures(rows: &[Row]) -> Vec<Figure> {
    let p50 = |row: &Row| row.figure("p50", "ms", &values(&row.speeds, |speed| speed.p50));
    let p99 = |row: &Row| row.figure("p99", "ms", &values(&row.speeds, |speed| speed.p99));
    let mut figures: Vec<_> = rows.iter().map(|row| row.compared(rows)).collect();
    figures.extend(rows.iter().map(p50));
    figures.extend(rows.iter().map(p99));
    figures.extend(rows.iter().filter_map(|row| row.price_of_the_line(rows)));
    figures
}
