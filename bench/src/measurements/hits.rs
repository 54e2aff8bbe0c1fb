//! Hits, beside a constant answer of the same server and Redis itself.

use test_servers::Redis;

use crate::effort::Effort;
use crate::load::{Load, Speed, redis_benchmark};
use crate::program::{LONG, Program, Server, With};
use crate::report::{Figure, Limit, Report, rounds};
use crate::table::Table;

pub(crate) const NAME: &str = "hits";

/// How many connections the limits are for.
const LIMITED: usize = 64;

const QUIET: (&str, &str) = ("RUST_LOG", "error");
/// The handler logs each request.
const LOGGING: (&str, &str) = ("RUST_LOG", "info");
const LOCAL: (&str, &str) = ("CACHE_LOCAL_TTL", "1s");

/// Where hits come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Constant,
    Redis,
    InProcess,
    LocalCopy,
}

/// What is measured.
struct Subject {
    what: What,
    source: Source,
    /// By connections, one for each round.
    speeds: Vec<Vec<Speed>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Handler { from: From, logging: bool },
    RedisItself,
}

enum Source {
    Http { server: u16, path: String },
    Redis { port: u16, key: String },
}

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let connections: &[usize] = if effort == Effort::Full { &[1, LIMITED, 256] } else { &[LIMITED] };
    let (number, seconds) = (effort.of(5, 3), effort.of(2, 1));
    let (table, redis) = (Table::start().await, Redis::start());
    let servers = Servers::start(&table, &redis, effort).await;
    let mut subjects = servers.subjects(&redis).await;
    for subject in &mut subjects {
        subject.speed(LIMITED, 1); // to warm up
        subject.speeds = vec![Vec::new(); connections.len()];
    }
    for _ in rounds(NAME, number) {
        for (nth, connections) in connections.iter().enumerate() {
            for subject in &mut subjects {
                let speed = subject.speed(*connections, seconds);
                subject.speeds[nth].push(speed);
            }
        }
    }
    let title = format!(
        "reads of one user who is cached; medians of {number} rounds of {seconds} s in turn (least and most)"
    );
    let mut figures = Vec::new();
    for (nth, connections) in connections.iter().enumerate() {
        figures.extend(figures_with(&subjects, nth, *connections));
    }
    report.add(NAME, &title, figures);
}

/// The handlers: one for each cache, with and without the line for each request.
struct Servers {
    quiet: [Server; 3],
    /// Not measured if it must be quick.
    logging: Option<[Server; 3]>,
}

impl Servers {
    async fn start(table: &Table, redis: &Redis, effort: Effort) -> Self {
        let quiet = Self::with(table, redis, QUIET).await;
        let logging = match effort {
            Effort::Full => Some(Self::with(table, redis, LOGGING).await),
            Effort::Quick => None,
        };
        Self { quiet, logging }
    }

    /// On Redis, in process, and on Redis with local copies.
    async fn with(table: &Table, redis: &Redis, log: (&str, &str)) -> [Server; 3] {
        let on_redis = With { ttl: LONG, ..With::servers(table, redis) };
        [
            Program::Handler.start(With { settings: &[log], ..on_redis }).await,
            Program::Handler.start(With { settings: &[log], redis: None, ..on_redis }).await,
            Program::Handler.start(With { settings: &[log, LOCAL], ..on_redis }).await,
        ]
    }

    async fn subjects(&self, redis: &Redis) -> Vec<Subject> {
        let mut subjects = of(&self.quiet, false).await;
        if let Some(logging) = &self.logging {
            subjects.extend(of(logging, true).await);
        }
        let key = subjects.iter().find_map(|subject| match &subject.source {
            Source::Http { path, .. } => path.strip_prefix("/api/users/"),
            Source::Redis { .. } => None,
        });
        let keys: Vec<String> = redis.command(&["KEYS", &format!("*{}", key.unwrap())]).await;
        let source = Source::Redis { port: redis.port, key: keys[0].clone() };
        subjects.push(Subject::new(What::RedisItself, source));
        subjects
    }
}

/// A constant answer, and the hits of each handler.
async fn of(servers: &[Server; 3], logging: bool) -> Vec<Subject> {
    let what = |from| What::Handler { from, logging };
    let live = Source::Http { server: servers[0].port, path: "/api/live".to_owned() };
    let mut subjects = vec![Subject::new(what(From::Constant), live)];
    for (server, from) in servers.iter().zip([From::Redis, From::InProcess, From::LocalCopy]) {
        let (path, hit) = server.cached_user().await;
        let is_local = hit.cache_status.ends_with("; detail=local");
        let (source, local) = match from {
            From::Redis | From::Constant => ("redis", false),
            From::InProcess => ("memory", false),
            From::LocalCopy => ("memory", true),
        };
        assert_eq!((hit.source(), is_local), (source, local), "{}: {}", from.name(), hit.body);
        let source = Source::Http { server: server.port, path };
        subjects.push(Subject::new(what(from), source));
    }
    subjects
}

impl From {
    fn name(self) -> &'static str {
        match self {
            From::Constant => "constant answer",
            From::Redis => "Redis",
            From::InProcess => "in process",
            From::LocalCopy => "local copy",
        }
    }

    /// The lowest acceptable ratio to a constant answer.
    fn least(self) -> Option<f64> {
        match self {
            From::Constant | From::InProcess => None,
            From::Redis => Some(0.70),
            From::LocalCopy => Some(0.90),
        }
    }
}

impl What {
    fn name(self) -> String {
        match self {
            What::Handler { from, logging: false } => from.name().to_owned(),
            What::Handler { from, logging: true } => format!("{}, with its log line", from.name()),
            What::RedisItself => "Redis itself (redis-benchmark, GET)".to_owned(),
        }
    }
}

impl Subject {
    fn new(what: What, source: Source) -> Self {
        Self { what, source, speeds: Vec::new() }
    }

    fn speed(&self, connections: usize, seconds: usize) -> Speed {
        match &self.source {
            Source::Http { server, path } => {
                Load { port: *server, path: path.clone(), connections, seconds }.run()
            }
            Source::Redis { port, key } => redis_benchmark(*port, key, connections, seconds),
        }
    }

    fn values(&self, nth: usize, value: impl Fn(&Speed) -> f64) -> Vec<f64> {
        self.speeds[nth].iter().map(value).collect()
    }
}

/// The figures with one number of connections, which is the nth.
fn figures_with(subjects: &[Subject], nth: usize, connections: usize) -> Vec<Figure> {
    let condition = match connections {
        1 => "1 connection".to_owned(),
        number => format!("{number} connections"),
    };
    let rate = |subject: &Subject| {
        let rates = subject.values(nth, |speed| speed.per_second);
        Figure::new("requests", "/s", subject.what.name(), &rates)
    };
    let constant = rate(&subjects[0]);
    let mut figures = Vec::new();
    for subject in subjects {
        figures.push(match subject.what {
            What::Handler { from: From::Constant, logging: false } => rate(subject),
            What::Handler { from, logging: true } => {
                rate(subject).beside(&rate(without_line(subjects, from)))
            }
            What::Handler { from, logging: false } => {
                let figure = rate(subject).beside(&constant);
                match from.least() {
                    Some(least) => {
                        figure.limit_if(connections == LIMITED, Limit::RatioAtLeast(least))
                    }
                    None => figure,
                }
            }
            What::RedisItself => rate(subject).beside(&constant),
        });
    }
    for (quantity, value) in [
        ("time within which half are answered", (|speed| speed.p50) as fn(&Speed) -> f64),
        ("time within which 99 of 100 are answered", |speed| speed.p99),
    ] {
        figures.extend(subjects.iter().map(|subject| {
            Figure::new(quantity, "ms", subject.what.name(), &subject.values(nth, value))
        }));
    }
    figures.extend(prices(subjects, nth));
    figures.into_iter().map(|figure| figure.under(condition.clone())).collect()
}

fn without_line(subjects: &[Subject], from: From) -> &Subject {
    let what = What::Handler { from, logging: false };
    subjects.iter().find(|subject| subject.what == what).expect("a subject without the line")
}

/// What the line for each request costs: the time between two answers with it, minus that without.
fn prices(subjects: &[Subject], nth: usize) -> Vec<Figure> {
    let mut figures = Vec::new();
    for with_line in subjects {
        let What::Handler { from, logging: true } = with_line.what else { continue };
        let without = without_line(subjects, from);
        let pairs = with_line.speeds[nth].iter().zip(&without.speeds[nth]);
        let prices: Vec<f64> =
            pairs.map(|(with, without)| 1e6 / with.per_second - 1e6 / without.per_second).collect();
        figures.push(Figure::new("price of the log line", "µs", from.name(), &prices));
    }
    figures
}
