//! Many reads at the same moment of one user who is not cached: how often the table is read.

use test_servers::Redis;

use crate::counter::Counter;
use crate::crowd::Crowd;
use crate::effort::Effort;
use crate::report::{Figure, Limit, Report, milliseconds, rounds};
use test_programs::program::{Program, Server, With};
use test_programs::table::{Table, path, user_ids};

pub(crate) const NAME: &str = "stampede";

const READERS: usize = 1000;
const PROCESSES: usize = 3;
/// The ids of the users are those of this series.
const SERIES: char = 'S';

/// Processes of one program, on one Redis and behind a proxy of their own.
struct Subject {
    program: Program,
    servers: Vec<Server>,
    counter: Counter,
    _redis: Redis,
    table_reads: Vec<f64>,
    /// How long the last reader waited, in milliseconds.
    longest: Vec<f64>,
}

pub(crate) async fn measure(effort: Effort, report: &mut Report) {
    let number = effort.of(7, 3);
    let table = Table::start().await;
    let users = user_ids(SERIES, Program::ALL.len() * (number + 1));
    table.insert(&users).await;
    let mut users = users.iter();
    let mut subjects = Vec::new();
    for program in Program::ALL {
        let mut subject = Subject::start(program, &table).await;
        subject.is_counted(users.next().unwrap()).await;
        subjects.push(subject);
    }
    for _ in rounds(NAME, number) {
        for subject in &mut subjects {
            subject.stampede(users.next().unwrap()).await;
        }
    }
    let title = format!(
        "{READERS} reads at the same moment of one user who is not cached, over {PROCESSES} processes on one Redis; medians of {number} rounds in turn (least and most)"
    );
    report.add(NAME, &title, figures(&subjects));
}

impl Subject {
    async fn start(program: Program, table: &Table) -> Self {
        let (redis, counter) = (Redis::start(), Counter::in_front_of(table.port()).await);
        let mut servers = Vec::new();
        for _ in 0..PROCESSES {
            let with = With { table: Some(counter.port), ..With::servers(table, &redis) };
            servers.push(program.start(with).await);
        }
        let (table_reads, longest) = (Vec::new(), Vec::new());
        Self { program, servers, counter, _redis: redis, table_reads, longest }
    }

    /// Checks that one read is counted as one.
    async fn is_counted(&mut self, user: &str) {
        self.counter.take();
        let read = self.servers[0].client().await.get(&path(user)).await.unwrap();
        assert_eq!((read.status, read.source()), (200, "table"), "{:?}", self.program);
        assert_eq!(self.counter.take(), 1, "{:?}", self.program);
    }

    async fn stampede(&mut self, user: &str) {
        let ports: Vec<u16> = self.servers.iter().map(|server| server.port).collect();
        let mut readers = Crowd::connect(&ports, READERS).await;
        self.counter.take();
        let answers = readers.get(&[path(user)]).await;
        self.table_reads.push(self.counter.take() as f64);
        for timed in &answers {
            assert_eq!(timed.answer.status, 200, "{:?}: {}", self.program, timed.answer.body);
        }
        let longest = answers.iter().map(|timed| timed.elapsed).max().unwrap_or_default();
        self.longest.push(milliseconds(longest));
    }
}

fn figures(subjects: &[Subject]) -> Vec<Figure> {
    let figure = |subject: &Subject| {
        let name = subject.program.name();
        let figure = Figure::new("reads of the table", "", name, &subject.table_reads);
        let is_ours = subject.program == Program::Handler;
        figure.limit_if_any(is_ours.then_some(Limit::AtMost(1.0)))
    };
    let ours = figure(&subjects[0]);
    let mut figures = vec![ours.clone()];
    figures.extend(subjects[1..].iter().map(|subject| figure(subject).beside(&ours)));
    figures.extend(subjects.iter().map(|subject| {
        Figure::new(
            "time until the last is answered",
            "ms",
            subject.program.name(),
            &subject.longest,
        )
    }));
    figures
}
